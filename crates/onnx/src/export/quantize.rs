//! Quantization: the standard's operators where scale and zero point have a form they take, arithmetic
//! otherwise.

use anychip_ir::Node;
use anychip_tensor::{DType, Dim};

use super::emit::{Emitter, Frame};
use super::prims::Operands;

/// How the scale and zero point lie on the operand.
enum Layout {
    Scalar,
    /// One a position along this dim; so many.
    Axis(usize, usize),
}

/// `None` where they lie in a way that the standard's operators do not take.
fn layout(x: &Operands) -> Option<Layout> {
    let rank = x.types[0].rank();
    let mut found = None;
    for i in 1..3 {
        let shape = &x.types[i].shape;
        let mut own = None;
        for (place, dim) in shape.iter().enumerate() {
            match dim {
                Dim::Fixed(1) => {}
                Dim::Fixed(n) if own.is_none() => {
                    own = Some(((place + rank).checked_sub(shape.len())?, *n));
                }
                _ => return None,
            }
        }
        if shape.len() > rank || (i == 2 && own != found) {
            return None;
        }
        found = own;
    }
    Some(match found {
        None => Layout::Scalar,
        Some((axis, n)) => Layout::Axis(axis, n),
    })
}

/// Whether the standard quantizes to or from this type.
fn taken(e: &Emitter, dtype: DType) -> bool {
    match dtype {
        DType::I8 | DType::U8 => true,
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => e.opset >= 19,
        DType::I16 | DType::U16 | DType::I4 | DType::U4 => e.opset >= 21,
        DType::F4E2M1 => e.opset >= 23,
        DType::I2 | DType::U2 => e.opset >= 25,
        _ => false,
    }
}

/// Scale and zero point as a scalar or vector, and the axis.
fn parameters(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    layout: &Layout,
) -> (String, String, Vec<(&'static str, super::emit::Value)>) {
    let (shape, attributes): (Vec<i64>, _) = match layout {
        Layout::Scalar => (vec![], vec![]),
        Layout::Axis(axis, n) => (vec![*n as i64], vec![("axis", (*axis as i64).into())]),
    };
    let mut flat = |i: usize| {
        if x.types[i].rank() == shape.len() {
            x.names[i].clone()
        } else {
            e.reshape(frame, x.name(i), &shape)
        }
    };
    (flat(1), flat(2), attributes)
}

pub(super) fn quantize(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    _: &Node,
    x: &Operands,
    to: DType,
    saturate: bool,
) -> Result<String, String> {
    let plain = x.dtype(0) == DType::F32 && x.dtype(1) == DType::F32;
    if plain
        && taken(e, to)
        && let Some(layout) = layout(x)
    {
        let (scale, zero, mut attributes) = parameters(e, frame, x, &layout);
        if !saturate && to.is_small_float() {
            attributes.push(("saturate", 0.into()));
        }
        return Ok(e.add(frame, "QuantizeLinear", &[x.name(0), &scale, &zero], attributes));
    }
    let Some((low, high)) = to.integer_range() else {
        return Err(format!("{} cannot be quantized to {to} at this opset", x.types[0]));
    };
    if to.storage_bits() > 32 {
        return Err(format!("nothing is quantized to {to}"));
    }
    // The division happens in the type of the scale, what follows is exact in f64.
    let scale_type = x.dtype(1);
    let value = e.cast(frame, x.name(0), x.dtype(0), scale_type);
    let ratio = e.add(frame, "Div", &[&value, x.name(1)], vec![]);
    let ratio = e.cast(frame, &ratio, scale_type, DType::F64);
    let rounded = e.add(frame, "Round", &[&ratio], vec![]);
    let zero = e.cast(frame, x.name(2), to, DType::F64);
    let moved = e.add(frame, "Add", &[&rounded, &zero], vec![]);
    let (low, high) = (e.scalar(DType::F64, low as f64), e.scalar(DType::F64, high as f64));
    let clipped = e.add(frame, "Clip", &[&moved, &low, &high], vec![]);
    Ok(e.cast(frame, &clipped, DType::F64, to))
}

pub(super) fn dequantize(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    _: &Node,
    x: &Operands,
    to: DType,
) -> String {
    let stored = x.dtype(0);
    if x.dtype(1) == DType::F32
        && to == DType::F32
        && (taken(e, stored) || stored == DType::I32)
        && let Some(layout) = layout(x)
    {
        let (scale, zero, attributes) = parameters(e, frame, x, &layout);
        return e.add(frame, "DequantizeLinear", &[x.name(0), &scale, &zero], attributes);
    }
    let (value, zero) = (
        e.cast(frame, x.name(0), stored, DType::F64),
        e.cast(frame, x.name(2), stored, DType::F64),
    );
    let scale = e.cast(frame, x.name(1), x.dtype(1), DType::F64);
    let moved = e.add(frame, "Sub", &[&value, &zero], vec![]);
    let scaled = e.add(frame, "Mul", &[&moved, &scale], vec![]);
    e.cast(frame, &scaled, DType::F64, to)
}

/// `saturate(⌊(accumulator · multiplier + 2^(shift−1)) ÷ 2^shift⌋ + zero_point)`, in `i64`.
pub(super) fn requantize(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    to: DType,
) -> String {
    let wide: Vec<String> =
        (0..4).map(|i| e.cast(frame, x.name(i), DType::I32, DType::I64)).collect();
    let (one, two, zero) =
        (e.scalar(DType::I64, 1.0), e.scalar(DType::I64, 2.0), e.scalar(DType::I64, 0.0));
    let product = e.add(frame, "Mul", &[&wide[0], &wide[1]], vec![]);
    let less = e.add(frame, "Sub", &[&wide[2], &one], vec![]);
    let half = e.add(frame, "Pow", &[&two, &less], vec![]);
    let power = e.add(frame, "Mul", &[&half, &two], vec![]);
    let sum = e.add(frame, "Add", &[&product, &half], vec![]);
    // The operator truncates; below zero that is one too many where there is a remainder.
    let quotient = e.add(frame, "Div", &[&sum, &power], vec![]);
    let back = e.add(frame, "Mul", &[&quotient, &power], vec![]);
    let remainder = e.add(frame, "Sub", &[&sum, &back], vec![]);
    let below = e.add(frame, "Less", &[&remainder, &zero], vec![]);
    let below = e.cast(frame, &below, DType::Bool, DType::I64);
    let shifted = e.add(frame, "Sub", &[&quotient, &below], vec![]);
    let moved = e.add(frame, "Add", &[&shifted, &wide[3]], vec![]);
    let (low, high) = to.integer_range().unwrap_or((i128::MIN, i128::MAX));
    let (low, high) = (e.scalar(DType::I64, low as f64), e.scalar(DType::I64, high as f64));
    let clipped = e.add(frame, "Clip", &[&moved, &low, &high], vec![]);
    e.cast(frame, &clipped, DType::I64, to)
}
