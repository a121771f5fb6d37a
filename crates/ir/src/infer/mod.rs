//! The type rule of every primitive: the types of results from those of operands.

mod contraction;
mod control;
mod elementwise;
mod index;
mod movement;

use anychip_tensor::{Atom, DType, Dim};

use crate::known::is_simple;
use crate::{Graph, IrError, Prim, TensorType};

/// What a rule gives: the types of the results.
type Types = Result<Vec<TensorType>, IrError>;

/// What a type rule may look at.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub(crate) ty: &'a TensorType,
    pub(crate) known: Option<&'a [Dim]>,
}

/// The most elements a value may have: beyond this no host holds it, and arithmetic on sizes stays exact.
const MOST_ELEMENTS: usize = 1 << 48;

/// The most dims that a size operand may give a result, as in NumPy.
const MOST_DIMS: usize = 64;

/// NumPy's broadcast of shapes. A named size meets 1 as itself; two different names, where either could be
/// 1 at run time, are taken to be equal and checked when the model runs.
pub fn broadcast_shapes(op: &'static str, shapes: &[&[Dim]]) -> Result<Vec<Dim>, IrError> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut result = vec![Dim::Fixed(1); rank];
    for shape in shapes {
        let start = rank - shape.len();
        for (own, dim) in result[start..].iter_mut().zip(shape.iter()) {
            *own = match (&*own, dim) {
                (a, Dim::Fixed(1)) => a.clone(),
                (Dim::Fixed(1), b) => b.clone(),
                (Dim::Fixed(a), Dim::Fixed(b)) if a != b => {
                    return Err(IrError::Shapes {
                        op,
                        reason: "dims must be equal or 1 to broadcast",
                        types: shapes
                            .iter()
                            .map(|s| TensorType { dtype: DType::F32, shape: s.to_vec() })
                            .collect(),
                    });
                }
                // A number tells more than a name.
                (Dim::Fixed(a), _) => Dim::Fixed(*a),
                (_, Dim::Fixed(b)) => Dim::Fixed(*b),
                (a, b) if at_most_one(a) => b.clone(),
                (a, _) => a.clone(),
            };
        }
    }
    Ok(result)
}

/// Whether a size is 0 or 1 for certain: what a slice from −1 on leaves of a named dim.
fn at_most_one(dim: &Dim) -> bool {
    let Dim::Expr(polynomial) = dim else { return false };
    let mut terms = polynomial.terms();
    match (terms.next(), terms.next()) {
        (Some((1, [Atom::Min(a, b)])), None) => {
            [a, b].into_iter().any(|d| d.constant().is_some_and(|n| n <= 1))
        }
        _ => false,
    }
}

struct Rule<'a, 'f> {
    op: &'static str,
    operands: &'a [Operand<'a>],
    fresh: &'f mut dyn FnMut() -> Dim,
}

/// The types of the results, or what is wrong with the operands.
pub(crate) fn infer(
    prim: &Prim,
    operands: &[Operand<'_>],
    regions: &[Graph],
    fresh: &mut dyn FnMut() -> Dim,
) -> Result<Vec<TensorType>, IrError> {
    let mut rule = Rule { op: prim.name(), operands, fresh };
    let mut types = rule.apply(prim, regions)?;
    for ty in &mut types {
        for dim in ty.shape.iter_mut().filter(|dim| !is_simple(dim)) {
            *dim = (rule.fresh)();
        }
        let known: usize = ty
            .shape
            .iter()
            .filter_map(Dim::fixed)
            .filter(|&n| n != 0)
            .fold(1, usize::saturating_mul);
        if known > MOST_ELEMENTS && !ty.shape.contains(&Dim::Fixed(0)) {
            return Err(rule.shapes("the result is too large for any memory"));
        }
    }
    Ok(types)
}

/// Whether the types of the results follow from the types of the operands alone, whatever is known of their elements.
pub(crate) fn follows_from_types(prim: &Prim) -> bool {
    match prim {
        Prim::Iota
        | Prim::Random { .. }
        | Prim::TopK { .. }
        | Prim::Reshape
        | Prim::Broadcast
        | Prim::Slice { .. }
        | Prim::Pad
        | Prim::If
        | Prim::Loop { .. } => false,
        Prim::Constant(_)
        | Prim::Unary(_)
        | Prim::Binary(_)
        | Prim::Compare(_)
        | Prim::Select
        | Prim::Cast { .. }
        | Prim::BitCast { .. }
        | Prim::DotGeneral(..)
        | Prim::Convolution(..)
        | Prim::Reduce { .. }
        | Prim::ArgReduce { .. }
        | Prim::ReduceWindow { .. }
        | Prim::Cumulative { .. }
        | Prim::ShapeOf
        | Prim::Transpose { .. }
        | Prim::Concat { .. }
        | Prim::Take { .. }
        | Prim::TakeAlong { .. }
        | Prim::GatherNd { .. }
        | Prim::ScatterAlong { .. }
        | Prim::ScatterNd { .. }
        | Prim::NonZero
        | Prim::Quantize { .. }
        | Prim::Dequantize { .. }
        | Prim::Requantize { .. } => true,
    }
}

impl Rule<'_, '_> {
    fn count(&self, expected: usize) -> Result<(), IrError> {
        if self.operands.len() == expected {
            Ok(())
        } else {
            Err(IrError::OperandCount { op: self.op, expected, found: self.operands.len() })
        }
    }

    fn shapes(&self, reason: &'static str) -> IrError {
        let types = self.operands.iter().map(|o| o.ty.clone()).collect();
        IrError::Shapes { op: self.op, reason, types }
    }

    fn setting(&self, reason: &'static str, found: impl std::fmt::Debug) -> IrError {
        IrError::Setting { op: self.op, reason, found: format!("{found:?}") }
    }

    fn ty(&self, i: usize) -> &TensorType {
        self.operands[i].ty
    }

    fn expect(&self, i: usize, holds: bool, expected: &'static str) -> Result<(), IrError> {
        if holds {
            Ok(())
        } else {
            Err(IrError::OperandDType {
                op: self.op,
                operand: i,
                found: self.ty(i).dtype,
                expected,
            })
        }
    }

    fn same_dtype(&self, a: usize, b: usize) -> Result<(), IrError> {
        self.expect(b, self.ty(a).dtype == self.ty(b).dtype, "the type of the operands before it")
    }

    fn integer(&self, i: usize) -> Result<(), IrError> {
        self.expect(i, self.ty(i).dtype.is_integer(), "an integer")
    }

    fn axis(&self, axis: usize, rank: usize) -> Result<(), IrError> {
        if axis < rank {
            Ok(())
        } else {
            Err(self.setting("the axis must be below the rank", axis))
        }
    }

    /// The length of a vector operand.
    fn vector(&self, i: usize) -> Result<usize, IrError> {
        self.expect(i, self.ty(i).dtype == DType::I64, "i64")?;
        match self.ty(i).shape[..] {
            [Dim::Fixed(n)] if n > MOST_DIMS => Err(self.shapes("a tensor has at most 64 dims")),
            [Dim::Fixed(n)] => Ok(n),
            [_] => {
                Err(IrError::NeedsValue { op: self.op, operand: i, what: "the rank of the result" })
            }
            _ => Err(self.shapes("a size operand must be a vector")),
        }
    }

    /// The dims that a vector operand holds, each fresh where it is not known.
    fn sizes(&mut self, i: usize) -> Result<Vec<Dim>, IrError> {
        let n = self.vector(i)?;
        let known = self.operands[i].known;
        (0..n)
            .map(|j| match known.and_then(|k| k.get(j)) {
                Some(dim) if dim.constant().is_some_and(|v| v < 0) => {
                    Err(self.setting("a size must not be negative", dim))
                }
                Some(dim) => Ok(dim.clone()),
                None => Ok((self.fresh)()),
            })
            .collect()
    }

    fn equal_dims(&self, a: &Dim, b: &Dim, reason: &'static str) -> Result<(), IrError> {
        match (a.fixed(), b.fixed()) {
            (Some(a), Some(b)) if a != b => Err(self.shapes(reason)),
            _ => Ok(()),
        }
    }

    fn broadcast(&self, range: std::ops::Range<usize>) -> Result<Vec<Dim>, IrError> {
        let shapes: Vec<&[Dim]> =
            self.operands[range].iter().map(|o| o.ty.shape.as_slice()).collect();
        broadcast_shapes(self.op, &shapes)
            .map_err(|_| self.shapes("dims must be equal or 1 to broadcast"))
    }

    fn apply(&mut self, prim: &Prim, regions: &[Graph]) -> Types {
        match prim {
            Prim::Constant(tensor) => {
                self.count(0)?;
                Ok(vec![TensorType::of(tensor)])
            }
            Prim::Iota => self.iota(),
            Prim::Random { dtype, .. } => self.random(*dtype),
            Prim::Unary(unary) => self.unary(*unary),
            Prim::Binary(binary) => self.binary(*binary),
            Prim::Compare(_) => self.compare(),
            Prim::Select => self.select(),
            Prim::Cast { to, .. } => self.cast(*to),
            Prim::BitCast { to } => self.bit_cast(*to),
            Prim::DotGeneral(dims, output) => self.dot(dims, *output),
            Prim::Convolution(dims, output) => self.convolution(dims, *output),
            Prim::Reduce { kind, axes } => self.reduce(*kind, axes),
            Prim::ArgReduce { kind, axis, .. } => self.arg_reduce(*kind, *axis),
            Prim::ReduceWindow { window, .. } => self.reduce_window(window),
            Prim::Cumulative { axis, .. } => self.cumulative(*axis),
            Prim::TopK { axis, .. } => self.top_k(*axis),
            Prim::ShapeOf => {
                self.count(1)?;
                one(DType::I64, vec![Dim::Fixed(self.ty(0).rank())])
            }
            Prim::Reshape => self.reshape(),
            Prim::Broadcast => self.broadcast_to(),
            Prim::Transpose { permutation } => self.transpose(permutation),
            Prim::Slice { axes } => self.slice(axes),
            Prim::Pad => self.pad(),
            Prim::Concat { axis } => self.concat(*axis),
            Prim::Take { axis } => self.take(*axis),
            Prim::TakeAlong { axis } => self.take_along(*axis),
            Prim::GatherNd { batch } => self.gather_nd(*batch),
            Prim::ScatterAlong { axis, .. } => self.scatter_along(*axis),
            Prim::ScatterNd { .. } => self.scatter_nd(),
            Prim::NonZero => self.non_zero(),
            Prim::Quantize { to, .. } => self.quantize(*to),
            Prim::Dequantize { to } => self.dequantize(*to),
            Prim::Requantize { to } => self.requantize(*to),
            Prim::If => self.conditional(regions),
            Prim::Loop { carried } => self.repeat(*carried, regions),
        }
    }
}

/// A rule of one result.
#[expect(clippy::unnecessary_wraps, reason = "rules end with it")]
fn one(dtype: DType, shape: Vec<Dim>) -> Types {
    Ok(vec![TensorType { dtype, shape }])
}

/// A type that arithmetic is defined on.
fn computable(dtype: DType) -> bool {
    dtype != DType::Bool && !dtype.is_small_float() && dtype.storage_bits() >= 8
}
