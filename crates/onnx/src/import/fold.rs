//! The contents of values that do not depend on the graph's inputs: what attributes of newer versions
//! became operands for, and exporters compute with a few nodes.

use anychip_ir::{Builder, Definition, Limits, Op, Prim, ValueId, evaluate_node_within};
use anychip_tensor::Tensor;

/// Nodes that are followed at most.
const MOST_NODES: usize = 256;

/// Elements that a followed value may have.
const MOST_ELEMENTS: usize = 1 << 14;

/// What all of them together may cost.
const LIMITS: Limits = Limits { bytes: 1 << 22, iterations: 1 << 12, operations: 1 << 22 };

/// The contents of a value, when few nodes compute it from constants and sizes that are known.
pub(super) fn fold(b: &Builder, value: ValueId) -> Option<Tensor> {
    fold_within(b, value, &mut MOST_NODES.clone(), &mut LIMITS.clone())
}

fn fold_within(
    b: &Builder,
    value: ValueId,
    left: &mut usize,
    limits: &mut Limits,
) -> Option<Tensor> {
    let graph = b.graph();
    if let Some(tensor) = graph.constant(value) {
        return Some(tensor.clone());
    }
    *left = left.checked_sub(1)?;
    let ty = graph.ty(value);
    let shape = ty.fixed_shape()?;
    if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))? > MOST_ELEMENTS {
        return None;
    }
    if let Some(known) = b.known(value) {
        let numbers: Option<Vec<i128>> =
            known.iter().map(|dim| dim.constant().map(i128::from)).collect();
        if let Some(numbers) = numbers {
            return Tensor::from_integers(ty.dtype, shape, &numbers).ok();
        }
    }
    let Definition::Output(node, index) = graph.definition(value) else { return None };
    let node = graph.node(node);
    match &node.op {
        Op::Prim(Prim::ShapeOf) => {
            let sizes = graph.ty(node.inputs[0]).fixed_shape()?;
            let sizes: Vec<i64> = sizes.into_iter().map(|n| n as i64).collect();
            return Some(Tensor::from_i64s(&sizes));
        }
        Op::Prim(Prim::Random { .. } | Prim::If | Prim::Loop { .. }) => return None,
        Op::Prim(_) | Op::Composite(_) => {}
    }
    let operands: Vec<Tensor> = node
        .inputs
        .iter()
        .map(|&input| fold_within(b, input, left, limits))
        .collect::<Option<_>>()?;
    if operands.iter().any(|tensor| tensor.len() > MOST_ELEMENTS) {
        return None;
    }
    let results = evaluate_node_within(&node.op, &[], &operands, limits).ok()?;
    results.into_iter().nth(index)
}
