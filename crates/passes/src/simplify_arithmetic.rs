//! Elementwise nodes that do nothing, or that a cheaper one does.

use anychip_ir::{Binary, Builder, Graph, IrError, Prim, TensorType, Unary, ValueId};
use anychip_tensor::DType;

use crate::matching::{self, uniform};
use crate::{Outcome, Site, replace};

pass! {
    /// - `x + 0 => x`, `x - 0 => x`, `x · 1 => x`, `x / 1 => x`, `x ^ 1 => x`
    /// - `x / c => x · (1/c)` where `c` is a power of two
    /// - `x ^ 2 => x · x`, `x ^ 3 => x · x · x`, `x ^ ½ => sqrt(x)`, `x ^ -½ => 1 / sqrt(x)`, `x ^ -1 => 1 / x`
    /// - `--x => x`, `a + -b => a - b`, `a - -b => a + b`, `not(not(x)) => x`, `abs(abs(x)) => abs(x)`
    /// - `max(x, -∞) => x`, `min(x, +∞) => x`, `max(x, x) => x`, `x and true => x`, `x or false => x`
    /// - `select(true, a, b) => a`, `select(false, a, b) => b`, `select(c, a, a) => a`
    /// - `cast(x, its own type) => x`, `cast(cast(x, wider), t) => cast(x, t)`
    /// - `reduce(x, no axes) => x`, `reduce(x, axes of size 1) => reshape(x)`
    pub(crate) const SIMPLIFY_ARITHMETIC = "simplify-arithmetic", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    replace(graph, &mut rule)
}

fn rule(b: &mut Builder, site: &Site<'_>) -> Result<Option<ValueId>, IrError> {
    let Some(prim) = site.node.op.prim() else { return Ok(None) };
    // The type the result has; a constant operand may have widened the other, which then cannot stand for it.
    let ty = site.graph.ty(site.node.outputs[0]);
    let x = |i: usize| site.inputs[i];
    match prim {
        Prim::Unary(unary) => Ok(simplify_unary(b, *unary, x(0))),
        Prim::Binary(binary) => simplify_binary(b, *binary, x(0), x(1), ty),
        Prim::Select => {
            let (condition, on_true, on_false) = (x(0), x(1), x(2));
            let pick = match uniform(b.graph(), condition) {
                Some(c) => Some(if c == 0.0 { on_false } else { on_true }),
                None => (on_true == on_false).then_some(on_true),
            };
            Ok(pick.filter(|&v| b.ty(v) == ty))
        }
        Prim::Cast { to, saturate, rounding } => {
            if b.dtype(x(0)) == *to {
                return Ok(Some(x(0)));
            }
            if let Some((Prim::Cast { to: middle, .. }, inner)) = matching::prim(b.graph(), x(0)) {
                let origin = inner.inputs[0];
                if widens(b.dtype(origin), *middle) {
                    if b.dtype(origin) == *to {
                        return Ok(Some(origin));
                    }
                    let cast = Prim::Cast { to: *to, saturate: *saturate, rounding: *rounding };
                    return b.prim(cast, &[origin]).map(Some);
                }
            }
            Ok(None)
        }
        Prim::Reduce { axes, .. } => {
            if axes.is_empty() {
                return Ok(Some(x(0)));
            }
            let dims = b.dims(x(0));
            if axes.iter().all(|&a| dims[a].fixed() == Some(1)) {
                return b.squeeze(x(0), axes).map(Some);
            }
            Ok(None)
        }
        Prim::Constant(_)
        | Prim::Iota
        | Prim::Random { .. }
        | Prim::Compare(_)
        | Prim::BitCast { .. }
        | Prim::DotGeneral(..)
        | Prim::Convolution(..)
        | Prim::ArgReduce { .. }
        | Prim::ReduceWindow { .. }
        | Prim::Cumulative { .. }
        | Prim::TopK { .. }
        | Prim::ShapeOf
        | Prim::Reshape
        | Prim::Broadcast
        | Prim::Transpose { .. }
        | Prim::Slice { .. }
        | Prim::Pad
        | Prim::Concat { .. }
        | Prim::Take { .. }
        | Prim::TakeAlong { .. }
        | Prim::GatherNd { .. }
        | Prim::ScatterAlong { .. }
        | Prim::ScatterNd { .. }
        | Prim::NonZero
        | Prim::Quantize { .. }
        | Prim::Dequantize { .. }
        | Prim::Requantize { .. }
        | Prim::If
        | Prim::Loop { .. } => Ok(None),
    }
}

fn simplify_unary(b: &Builder, unary: Unary, x: ValueId) -> Option<ValueId> {
    let inner = matching::unary(b.graph(), x, unary);
    match unary {
        Unary::Neg | Unary::Not => inner,
        Unary::Abs | Unary::Sign | Unary::Floor | Unary::Ceil | Unary::Round => inner.map(|_| x),
        Unary::Sqrt
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
        | Unary::Sigmoid
        | Unary::IsNan
        | Unary::IsInf => None,
    }
}

fn simplify_binary(
    b: &mut Builder,
    binary: Binary,
    x: ValueId,
    y: ValueId,
    ty: &TensorType,
) -> Result<Option<ValueId>, IrError> {
    let (left, right) = (uniform(b.graph(), x), uniform(b.graph(), y));
    let float = b.dtype(x).is_float();
    let either = |neutral: f64| {
        if right == Some(neutral) {
            Some(x)
        } else if left == Some(neutral) {
            Some(y)
        } else {
            None
        }
    };
    let kept = match binary {
        Binary::Mul => either(1.0),
        Binary::Div | Binary::Pow => (right == Some(1.0)).then_some(x),
        Binary::Max if float => either(f64::NEG_INFINITY).or((x == y).then_some(x)),
        Binary::Min if float => either(f64::INFINITY).or((x == y).then_some(x)),
        Binary::Max | Binary::Min => (x == y).then_some(x),
        Binary::And if ty.dtype == DType::Bool => either(1.0).or((x == y).then_some(x)),
        Binary::Or if ty.dtype == DType::Bool => either(0.0).or((x == y).then_some(x)),
        Binary::Add | Binary::Or | Binary::Xor => either(0.0),
        Binary::Sub | Binary::ShiftLeft | Binary::ShiftRight => (right == Some(0.0)).then_some(x),
        Binary::And | Binary::Rem => None,
    };
    if let Some(kept) = kept.filter(|&v| b.ty(v) == ty) {
        return Ok(Some(kept));
    }
    match binary {
        Binary::Add => {
            if let Some(negated) = matching::unary(b.graph(), y, Unary::Neg) {
                return b.sub(x, negated).map(Some);
            }
            if let Some(negated) = matching::unary(b.graph(), x, Unary::Neg) {
                return b.sub(y, negated).map(Some);
            }
            Ok(None)
        }
        Binary::Sub => match matching::unary(b.graph(), y, Unary::Neg) {
            Some(negated) => b.add(x, negated).map(Some),
            None => Ok(None),
        },
        Binary::Div if float => match right.filter(|&c| power_of_two(c)) {
            Some(c) if b.rank(y) == 0 => {
                let factor = b.scalar_like(x, 1.0 / c)?;
                b.mul(x, factor).map(Some)
            }
            _ => Ok(None),
        },
        Binary::Pow if float && (b.rank(y) == 0 || b.ty(x) == ty) => {
            let Some(exponent) = right else { return Ok(None) };
            let result = if exponent == 2.0 {
                b.mul(x, x)?
            } else if exponent == 3.0 {
                let square = b.mul(x, x)?;
                b.mul(square, x)?
            } else if exponent == 0.5 {
                b.sqrt(x)?
            } else if exponent == -0.5 {
                let root = b.sqrt(x)?;
                b.reciprocal(root)?
            } else if exponent == -1.0 {
                b.reciprocal(x)?
            } else {
                return Ok(None);
            };
            Ok(Some(result))
        }
        Binary::Div
        | Binary::Pow
        | Binary::Mul
        | Binary::Rem
        | Binary::Max
        | Binary::Min
        | Binary::And
        | Binary::Or
        | Binary::Xor
        | Binary::ShiftLeft
        | Binary::ShiftRight => Ok(None),
    }
}

/// Whether dividing by `c` and multiplying by its reciprocal give the same bits in every float type.
fn power_of_two(c: f64) -> bool {
    c.is_normal() && c.to_bits().trailing_zeros() >= 52 && (1.0 / 4096.0..=4096.0).contains(&c.abs())
}

/// Whether every value of one type is also one of the other.
fn widens(from: DType, to: DType) -> bool {
    if let (Some((low, high)), Some((least, most))) = (from.integer_range(), to.integer_range()) {
        return from != DType::Bool && to != DType::Bool && least <= low && high <= most;
    }
    matches!(
        (from, to),
        (
            DType::F16 | DType::BF16 | DType::I8 | DType::U8 | DType::I16 | DType::U16,
            DType::F32 | DType::F64
        ) | (DType::F32 | DType::I32 | DType::U32, DType::F64)
    )
}
