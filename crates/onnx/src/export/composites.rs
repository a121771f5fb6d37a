//! Composites that the standard has an operator of equal meaning for.

use anychip_ir::{Graph, Node, TensorType};
use anychip_ops::{BatchNorm, Gelu, LayerNorm, LogSoftmax, RmsNorm, Silu, Softmax};
use anychip_tensor::DType;

use super::emit::{Emitter, Frame, Value};
use super::prims::{Emitted, Operands};

/// The operator that a composite is written as, with its attributes.
fn operator(
    node: &Node,
    types: &[TensorType],
    opset: i64,
) -> Option<(&'static str, Vec<(&'static str, Value)>)> {
    let wide = matches!(types.first()?.dtype, DType::F16 | DType::F32 | DType::F64);
    let same = types.iter().all(|ty| ty.dtype == types[0].dtype);
    if !wide || !same {
        return None;
    }
    let rank = types[0].rank();
    // Weights of normalizations lie on the last dims.
    let trailing =
        |i: usize, axis: usize| types.get(i).is_none_or(|ty| ty.shape == types[0].shape[axis..]);
    if let Some(Softmax { axis }) = node.op.composite() {
        return Some(("Softmax", vec![("axis", (*axis as i64).into())]));
    }
    if let Some(LogSoftmax { axis }) = node.op.composite() {
        return Some(("LogSoftmax", vec![("axis", (*axis as i64).into())]));
    }
    if let Some(Gelu { tanh }) = node.op.composite() {
        let form = if *tanh { "tanh" } else { "none" };
        return (opset >= 20).then(|| ("Gelu", vec![("approximate", form.into())]));
    }
    if let Some(Silu {}) = node.op.composite() {
        return (opset >= 24).then(|| ("Swish", vec![]));
    }
    if let Some(LayerNorm { axis, epsilon }) = node.op.composite() {
        let fits = opset >= 17 && *axis < rank && trailing(1, *axis) && trailing(2, *axis);
        return fits.then(|| {
            let attributes = vec![("axis", (*axis as i64).into()), ("epsilon", (*epsilon).into())];
            ("LayerNormalization", attributes)
        });
    }
    if let Some(RmsNorm { axis, epsilon }) = node.op.composite() {
        let fits = opset >= 23 && *axis < rank && trailing(1, *axis);
        return fits.then(|| {
            let attributes = vec![("axis", (*axis as i64).into()), ("epsilon", (*epsilon).into())];
            ("RMSNormalization", attributes)
        });
    }
    if let Some(BatchNorm { epsilon }) = node.op.composite() {
        return (rank >= 2).then(|| ("BatchNormalization", vec![("epsilon", (*epsilon).into())]));
    }
    None
}

/// Whether a node of a graph is written as one operator.
pub(super) fn native(graph: &Graph, node: &Node, opset: i64) -> bool {
    let types: Vec<TensorType> = node.inputs.iter().map(|&v| graph.ty(v).clone()).collect();
    native_on(node, &types, opset)
}

/// As [`native`], for operands of the given types.
pub(super) fn native_on(node: &Node, types: &[TensorType], opset: i64) -> bool {
    operator(node, types, opset).is_some()
}

/// Writes a composite.
pub(super) fn emit(e: &mut Emitter, frame: &mut Frame<'_>, node: &Node, x: &Operands) -> Emitted {
    let Some((op, attributes)) = operator(node, &x.types, e.opset) else {
        return Err("it should have been expanded".into());
    };
    Ok(e.results(frame, op, &x.names, attributes, node.outputs.len()))
}
