//! The type rule of every primitive: the types of results from those of operands.

use anychip_tensor::{DType, Dim};

use crate::known::slice_bounds;
use crate::{Graph, IrError, Prim, ReduceKind, TensorType, Unary, Window};

/// What a type rule may look at.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub(crate) ty: &'a TensorType,
    pub(crate) known: Option<&'a [Dim]>,
}

/// The most elements a value may have: beyond this no host holds it, and arithmetic on sizes stays exact.
const MOST_ELEMENTS: usize = 1 << 48;

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
                (a, _) => a.clone(),
            };
        }
    }
    Ok(result)
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
    let types = rule.apply(prim, regions)?;
    for ty in &types {
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

    fn apply(&mut self, prim: &Prim, regions: &[Graph]) -> Result<Vec<TensorType>, IrError> {
        let one = |dtype: DType, shape: Vec<Dim>| Ok(vec![TensorType { dtype, shape }]);
        match prim {
            Prim::Constant(tensor) => {
                self.count(0)?;
                Ok(vec![TensorType::of(tensor)])
            }
            Prim::Iota => {
                self.count(1)?;
                self.expect(0, self.ty(0).dtype == DType::I64, "i64")?;
                if self.ty(0).rank() != 0 {
                    return Err(self.shapes("the length must be a scalar"));
                }
                let length = match self.operands[0].known {
                    Some([dim]) => match dim.constant() {
                        Some(n) => Dim::Fixed(usize::try_from(n).unwrap_or(0)),
                        None => dim.clone(),
                    },
                    _ => (self.fresh)(),
                };
                one(DType::I64, vec![length])
            }
            Prim::Random { dtype, .. } => {
                self.count(1)?;
                if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
                    return Err(self.setting("random numbers are floats", dtype));
                }
                let shape = self.sizes(0)?;
                one(*dtype, shape)
            }
            Prim::Unary(unary) => {
                self.count(1)?;
                let ty = self.ty(0).clone();
                let dtype = self.unary(*unary, ty.dtype)?;
                one(dtype, ty.shape)
            }
            Prim::Binary(binary) => {
                self.count(2)?;
                use crate::Binary as B;
                let dtype = self.ty(0).dtype;
                match binary {
                    B::Pow => {
                        self.expect(0, computable(dtype), "a number")?;
                        self.expect(1, computable(self.ty(1).dtype), "a number")?;
                    }
                    B::And | B::Or | B::Xor => {
                        self.expect(
                            0,
                            dtype == DType::Bool || dtype.is_integer(),
                            "bool or an integer",
                        )?;
                        self.same_dtype(0, 1)?;
                    }
                    B::ShiftLeft | B::ShiftRight => {
                        self.expect(0, dtype.is_integer(), "an integer")?;
                        self.same_dtype(0, 1)?;
                    }
                    B::Add | B::Sub | B::Mul | B::Div | B::Rem => {
                        self.expect(0, computable(dtype), "a number")?;
                        self.same_dtype(0, 1)?;
                    }
                    B::Max | B::Min => {
                        self.expect(0, computable(dtype) || dtype == DType::Bool, "a number")?;
                        self.same_dtype(0, 1)?;
                    }
                }
                one(dtype, self.broadcast(0..2)?)
            }
            Prim::Compare(_) => {
                self.count(2)?;
                self.same_dtype(0, 1)?;
                one(DType::Bool, self.broadcast(0..2)?)
            }
            Prim::Select => {
                self.count(3)?;
                self.expect(0, self.ty(0).dtype == DType::Bool, "bool")?;
                self.same_dtype(1, 2)?;
                one(self.ty(1).dtype, self.broadcast(0..3)?)
            }
            Prim::Cast { to, .. } => {
                self.count(1)?;
                one(*to, self.ty(0).shape.clone())
            }
            Prim::BitCast { to } => {
                self.count(1)?;
                let same = self.ty(0).dtype.storage_bits() == to.storage_bits();
                self.expect(0, same, "a type of the same width")?;
                one(*to, self.ty(0).shape.clone())
            }
            Prim::DotGeneral(dims, output) => {
                self.count(2)?;
                let (lhs, rhs) = (self.ty(0), self.ty(1));
                let in_range =
                    dims.lhs_batch.iter().chain(&dims.lhs_contract).all(|&d| d < lhs.rank())
                        && dims.rhs_batch.iter().chain(&dims.rhs_contract).all(|&d| d < rhs.rank());
                if !in_range
                    || dims.lhs_batch.len() != dims.rhs_batch.len()
                    || dims.lhs_contract.len() != dims.rhs_contract.len()
                {
                    return Err(self.setting("dims must exist and match in number", dims));
                }
                self.expect(0, computable(lhs.dtype), "a number")?;
                self.expect(1, computable(rhs.dtype), "a number")?;
                let pairs = dims
                    .lhs_batch
                    .iter()
                    .zip(&dims.rhs_batch)
                    .chain(dims.lhs_contract.iter().zip(&dims.rhs_contract));
                for (&l, &r) in pairs {
                    self.equal_dims(
                        &lhs.shape[l],
                        &rhs.shape[r],
                        "contracted and batch dims must be equal",
                    )?;
                }
                let free = |ty: &TensorType, batch: &[usize], contract: &[usize]| -> Vec<Dim> {
                    (0..ty.rank())
                        .filter(|d| !batch.contains(d) && !contract.contains(d))
                        .map(|d| ty.shape[d].clone())
                        .collect()
                };
                let mut shape: Vec<Dim> =
                    dims.lhs_batch.iter().map(|&d| lhs.shape[d].clone()).collect();
                shape.extend(free(lhs, &dims.lhs_batch, &dims.lhs_contract));
                shape.extend(free(rhs, &dims.rhs_batch, &dims.rhs_contract));
                one(*output, shape)
            }
            Prim::Convolution(dims, output) => {
                self.count(2)?;
                let (x, w) = (self.ty(0).clone(), self.ty(1).clone());
                self.expect(0, computable(x.dtype), "a number")?;
                self.expect(1, computable(w.dtype), "a number")?;
                let spatial = dims.strides.len();
                if x.rank() != spatial + 2 || w.rank() != spatial + 2 {
                    return Err(self.shapes("operands need batch, channel and each spatial dim"));
                }
                if [dims.padding.len(), dims.dilation.len(), dims.input_dilation.len()]
                    != [spatial; 3]
                    || dims.groups == 0
                    || dims.input_dilation.contains(&0)
                {
                    return Err(self.setting("one entry a spatial dim, none of them 0", dims));
                }
                self.equal_dims(
                    &x.shape[1],
                    &(w.shape[1].clone() * Dim::Fixed(dims.groups)),
                    "input channels must be the kernel's times the groups",
                )?;
                if w.shape[0].fixed().is_some_and(|m| m % dims.groups != 0) {
                    return Err(self.setting("groups must divide the output channels", dims.groups));
                }
                let mut shape = vec![x.shape[0].clone(), w.shape[0].clone()];
                for i in 0..spatial {
                    let dilation = dims.input_dilation[i];
                    let size = if dilation == 1 {
                        x.shape[2 + i].clone()
                    } else {
                        (x.shape[2 + i].clone() - Dim::Fixed(1)) * Dim::Fixed(dilation)
                            + Dim::Fixed(1)
                    };
                    let out = self.windows(
                        &size,
                        &w.shape[2 + i],
                        dims.strides[i],
                        dims.dilation[i],
                        dims.padding[i],
                    )?;
                    shape.push(out);
                }
                one(*output, shape)
            }
            Prim::Reduce { kind, axes } => {
                self.count(1)?;
                let x = self.ty(0).clone();
                let bools =
                    matches!(kind, ReduceKind::Max | ReduceKind::Min) && x.dtype == DType::Bool;
                self.expect(0, computable(x.dtype) || bools, "a number")?;
                if axes.iter().any(|&a| a >= x.rank()) || !axes.is_sorted_by(|a, b| a < b) {
                    return Err(self.setting("axes must exist and ascend", axes));
                }
                one(x.dtype, without(&x.shape, axes))
            }
            Prim::ArgReduce { kind, axis, .. } => {
                self.count(1)?;
                self.axis(*axis, self.ty(0).rank())?;
                if !matches!(kind, ReduceKind::Max | ReduceKind::Min) {
                    return Err(self.setting("only a maximum or a minimum has a place", kind));
                }
                one(DType::I64, without(&self.ty(0).shape, &[*axis]))
            }
            Prim::ReduceWindow { window, .. } => {
                self.count(1)?;
                let x = self.ty(0).clone();
                self.expect(0, computable(x.dtype), "a number")?;
                let shape = self.window(&x, window)?;
                one(x.dtype, shape)
            }
            Prim::Cumulative { axis, .. } => {
                self.count(1)?;
                self.expect(0, computable(self.ty(0).dtype), "a number")?;
                self.axis(*axis, self.ty(0).rank())?;
                Ok(vec![self.ty(0).clone()])
            }
            Prim::TopK { axis, .. } => {
                self.count(2)?;
                let x = self.ty(0).clone();
                self.axis(*axis, x.rank())?;
                self.expect(
                    1,
                    self.ty(1).dtype == DType::I64 && self.ty(1).rank() == 0,
                    "an i64 scalar",
                )?;
                let k = match self.operands[1].known {
                    Some([dim]) => dim.clone(),
                    _ => (self.fresh)(),
                };
                if let (Some(k), Some(n)) = (k.constant(), x.shape[*axis].fixed())
                    && (k < 0 || k as usize > n)
                {
                    return Err(self.setting("k must lie between 0 and the dim", k));
                }
                let mut shape = x.shape;
                shape[*axis] = k;
                Ok(vec![
                    TensorType { dtype: x.dtype, shape: shape.clone() },
                    TensorType { dtype: DType::I64, shape },
                ])
            }
            Prim::ShapeOf => {
                self.count(1)?;
                one(DType::I64, vec![Dim::Fixed(self.ty(0).rank())])
            }
            Prim::Reshape => {
                self.count(2)?;
                let shape = self.sizes(1)?;
                let result = TensorType { dtype: self.ty(0).dtype, shape };
                if let (Some(a), Some(b)) =
                    (self.ty(0).elements().constant(), result.elements().constant())
                    && a != b
                {
                    return Err(IrError::Shapes {
                        op: self.op,
                        reason: "the number of elements must stay",
                        types: vec![self.ty(0).clone(), result],
                    });
                }
                Ok(vec![result])
            }
            Prim::Broadcast => {
                self.count(2)?;
                let shape = self.sizes(1)?;
                let x = self.ty(0);
                if x.rank() > shape.len() {
                    return Err(self.shapes("broadcasting cannot remove dims"));
                }
                for (from, to) in x.shape.iter().rev().zip(shape.iter().rev()) {
                    if from != &Dim::Fixed(1) {
                        self.equal_dims(from, to, "dims must be 1 or stay to broadcast")?;
                    }
                }
                one(x.dtype, shape)
            }
            Prim::Transpose { permutation } => {
                self.count(1)?;
                let x = self.ty(0);
                let mut sorted = permutation.clone();
                sorted.sort_unstable();
                if !sorted.iter().copied().eq(0..x.rank()) {
                    return Err(self.setting("must be a permutation of the dims", permutation));
                }
                one(x.dtype, permutation.iter().map(|&p| x.shape[p].clone()).collect())
            }
            Prim::Slice { axes } => self.slice(axes),
            Prim::Pad => {
                self.count(4)?;
                self.same_dtype(0, 3)?;
                if self.ty(3).rank() != 0 {
                    return Err(self.shapes("the padding value must be a scalar"));
                }
                let x = self.ty(0).clone();
                if self.vector(1)? != x.rank() || self.vector(2)? != x.rank() {
                    return Err(self.shapes("amounts must have an entry a dim"));
                }
                let amount =
                    |i: usize, j: usize| self.operands[i].known.and_then(|k| k.get(j)).cloned();
                let amounts: Vec<_> =
                    (0..x.rank()).map(|j| amount(1, j).zip(amount(2, j))).collect();
                let shape = x
                    .shape
                    .iter()
                    .zip(amounts)
                    .map(|(dim, amounts)| match amounts {
                        Some((low, high)) => {
                            let dim = dim.clone() + low + high;
                            if dim.constant().is_some_and(|n| n < 0) { Dim::Fixed(0) } else { dim }
                        }
                        None => (self.fresh)(),
                    })
                    .collect();
                one(x.dtype, shape)
            }
            Prim::Concat { axis } => {
                let Some(first) = self.operands.first() else {
                    return Err(IrError::OperandCount { op: self.op, expected: 1, found: 0 });
                };
                let mut shape = first.ty.shape.clone();
                self.axis(*axis, shape.len())?;
                for (i, operand) in self.operands.iter().enumerate().skip(1) {
                    self.same_dtype(0, i)?;
                    if operand.ty.rank() != shape.len() {
                        return Err(self.shapes("operands must have the same rank"));
                    }
                    for (d, dim) in operand.ty.shape.iter().enumerate() {
                        if d == *axis {
                            shape[d] = shape[d].clone() + dim.clone();
                        } else {
                            self.equal_dims(&shape[d], dim, "dims off the axis must be equal")?;
                            if dim.fixed().is_some() {
                                shape[d] = dim.clone();
                            }
                        }
                    }
                }
                one(self.ty(0).dtype, shape)
            }
            Prim::Take { axis } => {
                self.count(2)?;
                self.integer(1)?;
                let (x, indices) = (self.ty(0), self.ty(1));
                self.axis(*axis, x.rank())?;
                let mut shape = x.shape[..*axis].to_vec();
                shape.extend_from_slice(&indices.shape);
                shape.extend_from_slice(&x.shape[axis + 1..]);
                one(x.dtype, shape)
            }
            Prim::TakeAlong { axis } => {
                self.count(2)?;
                self.integer(1)?;
                self.axis(*axis, self.ty(0).rank())?;
                if self.ty(1).rank() != self.ty(0).rank() {
                    return Err(self.shapes("indices must have the rank of the data"));
                }
                one(self.ty(0).dtype, self.ty(1).shape.clone())
            }
            Prim::GatherNd { batch } => {
                self.count(2)?;
                self.integer(1)?;
                let (x, indices) = (self.ty(0), self.ty(1));
                let depth = self.index_depth(1)?;
                if *batch >= indices.rank() || batch + depth > x.rank() {
                    return Err(self.shapes("indices address more dims than there are"));
                }
                for (a, b) in x.shape.iter().zip(&indices.shape).take(*batch) {
                    self.equal_dims(a, b, "batch dims must be equal")?;
                }
                let mut shape = indices.shape[..indices.rank() - 1].to_vec();
                shape.extend_from_slice(&x.shape[batch + depth..]);
                one(x.dtype, shape)
            }
            Prim::ScatterAlong { axis, .. } => {
                self.count(3)?;
                self.integer(1)?;
                self.same_dtype(0, 2)?;
                self.axis(*axis, self.ty(0).rank())?;
                if self.ty(1).rank() != self.ty(0).rank() || self.ty(2).rank() != self.ty(0).rank()
                {
                    return Err(self.shapes("indices and updates must have the rank of the data"));
                }
                Ok(vec![self.ty(0).clone()])
            }
            Prim::ScatterNd { .. } => {
                self.count(3)?;
                self.integer(1)?;
                self.same_dtype(0, 2)?;
                let depth = self.index_depth(1)?;
                let (x, indices, updates) = (self.ty(0), self.ty(1), self.ty(2));
                if depth > x.rank() || updates.rank() != indices.rank() - 1 + x.rank() - depth {
                    return Err(
                        self.shapes("updates must be the indices' rows by the dims not addressed")
                    );
                }
                Ok(vec![x.clone()])
            }
            Prim::NonZero => {
                self.count(1)?;
                let count = (self.fresh)();
                one(DType::I64, vec![Dim::Fixed(self.ty(0).rank()), count])
            }
            Prim::Quantize { to, .. } => {
                self.count(3)?;
                self.expect(
                    0,
                    self.ty(0).dtype.is_float() || self.ty(0).dtype == DType::I32,
                    "a float or i32",
                )?;
                self.expect(
                    1,
                    self.ty(1).dtype.is_float() || self.ty(1).dtype == DType::I32,
                    "a float or i32",
                )?;
                self.expect(2, self.ty(2).dtype == *to, "the type of the result")?;
                one(*to, self.broadcast(0..3)?)
            }
            Prim::Dequantize { to } => {
                self.count(3)?;
                self.expect(1, self.ty(1).dtype.is_float(), "a float")?;
                self.same_dtype(0, 2)?;
                one(*to, self.broadcast(0..3)?)
            }
            Prim::Requantize { to } => {
                self.count(4)?;
                for i in 0..4 {
                    self.expect(i, self.ty(i).dtype == DType::I32, "i32")?;
                }
                if !matches!(to, DType::I8 | DType::U8) {
                    return Err(self.setting("the result is i8 or u8", to));
                }
                one(*to, self.broadcast(0..4)?)
            }
            Prim::If => self.conditional(regions),
            Prim::Loop { carried } => self.repeat(*carried, regions),
        }
    }

    fn unary(&self, unary: Unary, dtype: DType) -> Result<DType, IrError> {
        match unary {
            Unary::Neg | Unary::Abs | Unary::Sign => {
                self.expect(0, computable(dtype), "a number")?;
                Ok(dtype)
            }
            Unary::Not => {
                self.expect(0, dtype == DType::Bool || dtype.is_integer(), "bool or an integer")?;
                Ok(dtype)
            }
            Unary::IsNan | Unary::IsInf => {
                self.expect(0, dtype.is_float(), "a float")?;
                Ok(DType::Bool)
            }
            Unary::Floor
            | Unary::Ceil
            | Unary::Round
            | Unary::Sqrt
            | Unary::Exp
            | Unary::Log
            | Unary::Sin
            | Unary::Cos
            | Unary::Tan
            | Unary::Asin
            | Unary::Acos
            | Unary::Atan
            | Unary::Sinh
            | Unary::Cosh
            | Unary::Asinh
            | Unary::Acosh
            | Unary::Atanh
            | Unary::Tanh
            | Unary::Erf
            | Unary::Sigmoid => {
                self.expect(
                    0,
                    dtype.is_float() && !dtype.is_small_float(),
                    "a float of 16 bits or more",
                )?;
                Ok(dtype)
            }
        }
    }

    /// How many windows fit.
    fn windows(
        &mut self,
        size: &Dim,
        window: &Dim,
        stride: usize,
        dilation: usize,
        (low, high): (i64, i64),
    ) -> Result<Dim, IrError> {
        if stride == 0 || dilation == 0 {
            return Err(self.setting("strides and dilations must not be 0", (stride, dilation)));
        }
        let span = (window.clone() - Dim::Fixed(1)) * Dim::Fixed(dilation) + Dim::Fixed(1);
        let room = size.clone() + Dim::from_i64(low) + Dim::from_i64(high) - span;
        Ok(match room.constant() {
            Some(room) if room < 0 => Dim::Fixed(0),
            Some(room) => Dim::Fixed(room as usize / stride + 1),
            None if stride == 1 => room + Dim::Fixed(1),
            None => room.floor_div(&Dim::Fixed(stride)) + Dim::Fixed(1),
        })
    }

    fn window(&mut self, x: &TensorType, window: &Window) -> Result<Vec<Dim>, IrError> {
        let n = window.size.len();
        if n > x.rank()
            || [window.strides.len(), window.dilation.len(), window.padding.len()] != [n; 3]
        {
            return Err(self.setting("one entry a windowed dim", window));
        }
        let mut shape = x.shape.clone();
        let start = x.rank() - n;
        for i in 0..n {
            let size = Dim::Fixed(window.size[i]);
            shape[start + i] = self.windows(
                &x.shape[start + i],
                &size,
                window.strides[i],
                window.dilation[i],
                window.padding[i],
            )?;
        }
        Ok(shape)
    }

    fn slice(&mut self, axes: &[usize]) -> Result<Vec<TensorType>, IrError> {
        self.count(4)?;
        let x = self.ty(0).clone();
        for i in 1..4 {
            if self.vector(i)? != axes.len() {
                return Err(self.shapes("bounds and steps must have an entry an axis"));
            }
        }
        let mut shape = x.shape.clone();
        for (j, &axis) in axes.iter().enumerate() {
            self.axis(axis, x.rank())?;
            let bound = |i: usize| self.operands[i].known.and_then(|k| k.get(j)).cloned();
            let (start, end, step) = (bound(1), bound(2), bound(3).and_then(|d| d.constant()));
            if step == Some(0) {
                return Err(self.setting("a step must not be 0", 0));
            }
            let dim = &x.shape[axis];
            let constants = || {
                Some((dim.fixed()?, start.as_ref()?.constant()?, end.as_ref()?.constant()?, step?))
            };
            let sliced = constants()
                .and_then(|(n, s, e, step)| slice_bounds(n, s, e, step))
                .map(|(_, n)| Dim::Fixed(n));
            shape[axis] = match sliced {
                Some(n) => n,
                None => symbolic_slice(dim, start.as_ref(), end.as_ref(), step)
                    .unwrap_or_else(|| (self.fresh)()),
            };
        }
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }

    fn index_depth(&self, i: usize) -> Result<usize, IrError> {
        match self.ty(i).shape.last() {
            Some(Dim::Fixed(n)) => Ok(*n),
            Some(_) => Err(IrError::NeedsValue {
                op: self.op,
                operand: i,
                what: "how many dims are addressed",
            }),
            None => Err(self.shapes("indices need a dim")),
        }
    }

    fn conditional(&mut self, regions: &[Graph]) -> Result<Vec<TensorType>, IrError> {
        let [then, otherwise] = regions else {
            return Err(self.setting("needs two regions", regions.len()));
        };
        if self.operands.is_empty() {
            return Err(IrError::OperandCount { op: self.op, expected: 1, found: 0 });
        }
        self.expect(0, self.ty(0).dtype == DType::Bool && self.ty(0).rank() == 0, "a bool scalar")?;
        self.region_inputs(then, 1)?;
        self.region_inputs(otherwise, 1)?;
        if then.outputs().len() != otherwise.outputs().len() {
            return Err(
                self.setting("both regions must have the same outputs", otherwise.outputs().len())
            );
        }
        then.outputs()
            .iter()
            .zip(otherwise.outputs())
            .map(|(&a, &b)| self.join(then.ty(a), otherwise.ty(b)))
            .collect()
    }

    /// The type of a value that comes from either of two places.
    fn join(&mut self, a: &TensorType, b: &TensorType) -> Result<TensorType, IrError> {
        if a.dtype != b.dtype || a.rank() != b.rank() {
            return Err(IrError::Shapes {
                op: self.op,
                reason: "both ways must give the same element type and rank",
                types: vec![a.clone(), b.clone()],
            });
        }
        let shape = a
            .shape
            .iter()
            .zip(&b.shape)
            .map(|(x, y)| {
                // A name invented inside a region means nothing outside it.
                let local = x.symbols().iter().any(|s| s.starts_with('?'));
                if x == y && !local { x.clone() } else { (self.fresh)() }
            })
            .collect();
        Ok(TensorType { dtype: a.dtype, shape })
    }

    fn region_inputs(&self, region: &Graph, first: usize) -> Result<(), IrError> {
        let operands = &self.operands[first..];
        if region.inputs().len() != operands.len() {
            return Err(IrError::OperandCount {
                op: self.op,
                expected: region.inputs().len() + first,
                found: self.operands.len(),
            });
        }
        for (i, (&input, operand)) in region.inputs().iter().zip(operands).enumerate() {
            let ty = region.ty(input);
            let fits = ty.dtype == operand.ty.dtype
                && ty.rank() == operand.ty.rank()
                && ty.shape.iter().zip(&operand.ty.shape).all(|(a, b)| {
                    match (a.fixed(), b.fixed()) {
                        (Some(a), Some(b)) => a == b,
                        _ => true,
                    }
                });
            if !fits {
                return Err(IrError::Input {
                    name: format!("operand {}", i + first),
                    found: operand.ty.to_string(),
                    expected: ty.to_string(),
                });
            }
        }
        Ok(())
    }

    fn repeat(&mut self, carried: usize, regions: &[Graph]) -> Result<Vec<TensorType>, IrError> {
        let [body] = regions else {
            return Err(self.setting("needs one region", regions.len()));
        };
        if self.operands.len() < 2 + carried || body.outputs().len() < 1 + carried {
            return Err(IrError::OperandCount {
                op: self.op,
                expected: 2 + carried,
                found: self.operands.len().min(body.outputs().len() + 1),
            });
        }
        self.expect(0, self.ty(0).dtype == DType::I64 && self.ty(0).rank() == 0, "an i64 scalar")?;
        self.expect(1, self.ty(1).dtype == DType::Bool && self.ty(1).rank() == 0, "a bool scalar")?;
        let iteration = TensorType::scalar(DType::I64);
        let mut operands = vec![Operand { ty: &iteration, known: None }];
        operands.extend_from_slice(&self.operands[2..]);
        Rule { op: self.op, operands: &operands, fresh: &mut *self.fresh }
            .region_inputs(body, 0)?;
        let mut types = Vec::new();
        for i in 0..carried {
            let (before, after) = (body.ty(body.inputs()[1 + i]), body.ty(body.outputs()[1 + i]));
            types.push(self.join(before, after)?);
        }
        // Every iteration may run or not, so how many rows are stacked is only known when the loop is
        // counted and never stops early; a constant true condition out of the body says so.
        let always = body.constant_integers(body.outputs()[0]).is_some_and(|c| c == [1]);
        let starts =
            self.operands[1].known.and_then(|k| k.first()).and_then(Dim::constant) == Some(1);
        let trips = self.operands[0].known.and_then(|k| k.first()).cloned();
        let rows = match trips {
            Some(trips) if always && starts => match trips.constant() {
                Some(n) => Dim::Fixed(usize::try_from(n).unwrap_or(0)),
                None => trips,
            },
            _ => (self.fresh)(),
        };
        for &output in &body.outputs()[1 + carried..] {
            let ty = body.ty(output);
            let mut shape = vec![rows.clone()];
            for dim in &ty.shape {
                let local = dim.symbols().iter().any(|s| s.starts_with('?'));
                shape.push(if local { (self.fresh)() } else { dim.clone() });
            }
            types.push(TensorType { dtype: ty.dtype, shape });
        }
        Ok(types)
    }
}

/// The length of a slice with step 1 of a named dim, where the bounds lie within it for certain.
fn symbolic_slice(
    dim: &Dim,
    start: Option<&Dim>,
    end: Option<&Dim>,
    step: Option<i64>,
) -> Option<Dim> {
    let (start, end) = (start?, end?);
    if step? == -1 && start.constant()? == -1 && end.constant()? <= -i64::from(i32::MAX) {
        return Some(dim.clone());
    }
    if step? != 1 {
        return None;
    }
    // Far beyond any size means "to the end", as exporters write it.
    let unbounded = end.constant().is_some_and(|e| e >= i64::from(i32::MAX));
    let end = if unbounded {
        dim.clone()
    } else if end.constant().is_some_and(|e| e < 0) {
        dim.clone() + end.clone()
    } else if end == dim {
        end.clone()
    } else {
        return (start.constant() == Some(0)).then(|| dim.minimum(end));
    };
    match start.constant() {
        Some(s) if s >= 0 => {
            let length = end - start.clone();
            // A named dim smaller than the start would leave nothing; that is checked when it runs.
            Some(if s == 0 { length } else { length.maximum(&Dim::Fixed(0)) })
        }
        Some(_) => {
            Some(end - dim.clone() - start.clone()).filter(|_| unbounded).map(|n| dim.minimum(&n))
        }
        None => None,
    }
}

/// A type that arithmetic is defined on.
fn computable(dtype: DType) -> bool {
    dtype != DType::Bool && !dtype.is_small_float() && dtype.storage_bits() >= 8
}

fn without(shape: &[Dim], axes: &[usize]) -> Vec<Dim> {
    shape
        .iter()
        .enumerate()
        .filter(|(i, _)| !axes.contains(i))
        .map(|(_, dim)| dim.clone())
        .collect()
}
