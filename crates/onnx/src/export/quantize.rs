//! Quantization: the standard's operators where scale and zero point have a form they take, arithmetic
//! otherwise.

use anychip_ir::{Graph, Node, Op, Prim, TensorType, ValueId};
use anychip_tensor::{DType, Dim, Tensor};

use super::emit::{Emitter, Frame, Value};
use super::prims::Operands;

/// How the scale and zero point lie on the operand.
pub(super) enum Layout {
    Scalar,
    /// One a position along this dim; so many.
    Axis(usize, usize),
}

/// How scale and zero point of a node that the standard has an operator for lie on its operand; `None` for any other.
pub(super) fn layout(graph: &Graph, node: &Node, opset: i64) -> Option<Layout> {
    let types: Vec<&TensorType> = node.inputs.iter().map(|&v| graph.ty(v)).collect();
    let dtypes: Vec<DType> = types.iter().map(|ty| ty.dtype).collect();
    let plain = match (&node.op, &dtypes[..]) {
        (Op::Prim(Prim::Quantize { to, .. }), [DType::F32, DType::F32, _]) => taken(opset, *to),
        (Op::Prim(Prim::Dequantize { to: DType::F32 }), [stored, DType::F32, _]) => {
            taken(opset, *stored) || (*stored == DType::I32 && has_no_zero_point(graph, node))
        }
        _ => false,
    };
    if !plain {
        return None;
    }
    let rank = types[0].rank();
    let mut found = None;
    for (i, ty) in types.iter().enumerate().take(3).skip(1) {
        let shape = &ty.shape;
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
        // One constant zero point for all is as good as one for each.
        let repeated = own.is_none() && graph.constant(node.inputs[i]).is_some();
        if shape.len() > rank || (i == 2 && own != found && !repeated) {
            return None;
        }
        if i == 1 {
            found = own;
        }
    }
    Some(match found {
        None => Layout::Scalar,
        Some((axis, n)) => Layout::Axis(axis, n),
    })
}

/// The operands of a node that are written as they are: constants of scale and zero point are written in the
/// standard's shape instead.
pub(super) fn operands_read(graph: &Graph, node: &Node, opset: i64) -> Vec<ValueId> {
    let written = layout(graph, node, opset).is_some();
    let kept = |(i, v): (usize, &ValueId)| {
        (i == 0 || !written || graph.constant(*v).is_none()).then_some(*v)
    };
    node.inputs.iter().enumerate().filter_map(kept).collect()
}

fn has_no_zero_point(graph: &Graph, node: &Node) -> bool {
    graph.constant(node.inputs[2]).is_some_and(|t| t.to_i64().iter().all(|&z| z == 0))
}

/// Whether the standard quantizes to or from this type.
fn taken(opset: i64, dtype: DType) -> bool {
    match dtype {
        DType::I8 | DType::U8 => true,
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => opset >= 19,
        DType::I16 | DType::U16 | DType::I4 | DType::U4 => opset >= 21,
        DType::F4E2M1 => opset >= 23,
        DType::I2 | DType::U2 => opset >= 25,
        _ => false,
    }
}

/// A constant scale or zero point as a scalar, or as a vector with an entry a position.
pub(super) fn flattened(tensor: &Tensor, count: Option<usize>) -> Result<Tensor, String> {
    let Some(n) = count else { return tensor.reshaped([]).map_err(|e| e.to_string()) };
    if tensor.len() == n {
        return tensor.reshaped([n]).map_err(|e| e.to_string());
    }
    let value = tensor.to_f64().first().copied().unwrap_or_default();
    Tensor::from_f64(tensor.dtype(), [n], &vec![value; n]).map_err(|e| e.to_string())
}

/// The operator with scale and zero point as a scalar or vector, and the axis.
fn linear(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    node: &Node,
    x: &Operands,
    layout: &Layout,
    (op, mut attributes): (&str, Vec<(&'static str, Value)>),
) -> Result<String, String> {
    let count = match layout {
        Layout::Scalar => None,
        Layout::Axis(axis, n) => {
            attributes.push(("axis", (*axis as i64).into()));
            Some(*n)
        }
    };
    let shape: Vec<i64> = count.iter().map(|&n| n as i64).collect();
    let mut names = vec![x.names[0].clone()];
    for i in 1..3 {
        // 32-bit integers have no zero point.
        if i == 2 && x.dtype(0) == DType::I32 && op == "DequantizeLinear" {
            break;
        }
        names.push(match frame.graph.constant(node.inputs[i]) {
            Some(tensor) => e.constant(&flattened(tensor, count)?),
            None if x.types[i].rank() == shape.len() => x.names[i].clone(),
            None => e.reshape(frame, x.name(i), &shape),
        });
    }
    Ok(e.results(frame, op, &names, attributes, 1).swap_remove(0))
}

pub(super) fn quantize(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    node: &Node,
    x: &Operands,
    to: DType,
    saturate: bool,
) -> Result<String, String> {
    if let Some(layout) = layout(frame.graph, node, e.opset) {
        let mut attributes: Vec<(&'static str, Value)> = Vec::new();
        if !saturate && to.is_small_float() {
            attributes.push(("saturate", 0.into()));
        }
        return linear(e, frame, node, x, &layout, ("QuantizeLinear", attributes));
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
    node: &Node,
    x: &Operands,
    to: DType,
) -> Result<String, String> {
    let stored = x.dtype(0);
    if let Some(layout) = layout(frame.graph, node, e.opset) {
        return linear(e, frame, node, x, &layout, ("DequantizeLinear", Vec::new()));
    }
    let (value, zero) = (
        e.cast(frame, x.name(0), stored, DType::F64),
        e.cast(frame, x.name(2), stored, DType::F64),
    );
    let scale = e.cast(frame, x.name(1), x.dtype(1), DType::F64);
    let moved = e.add(frame, "Sub", &[&value, &zero], vec![]);
    let scaled = e.add(frame, "Mul", &[&moved, &scale], vec![]);
    Ok(e.cast(frame, &scaled, DType::F64, to))
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
