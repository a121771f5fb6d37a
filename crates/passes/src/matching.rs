//! What rules ask of a graph: constants, producers, and patterns written as their maths.

mod pattern;

pub use pattern::{Bindings, Pattern, mean, reduction};

use anychip_ir::{Binary, Graph, Node, Op, Prim, Unary, ValueId};
use anychip_tensor::Tensor;

/// Constants with more elements than this are not searched for one repeated value.
const LONGEST_UNIFORM: usize = 4096;

/// The primitive that makes a value, with its node.
pub fn prim(graph: &Graph, value: ValueId) -> Option<(&Prim, &Node)> {
    let node = graph.producer(value)?;
    Some((node.op.prim()?, node))
}

/// The operand of the given elementwise function, when that makes the value.
pub fn unary(graph: &Graph, value: ValueId, unary: Unary) -> Option<ValueId> {
    match prim(graph, value)? {
        (Prim::Unary(found), node) if *found == unary => Some(node.inputs[0]),
        _ => None,
    }
}

/// The operands of the given elementwise function, when that makes the value.
pub fn binary(graph: &Graph, value: ValueId, binary: Binary) -> Option<(ValueId, ValueId)> {
    match prim(graph, value)? {
        (Prim::Binary(found), node) if *found == binary => Some((node.inputs[0], node.inputs[1])),
        _ => None,
    }
}

/// The operand and permutation of the transpose that makes a value.
pub fn transpose(graph: &Graph, value: ValueId) -> Option<(ValueId, &[usize])> {
    match prim(graph, value)? {
        (Prim::Transpose { permutation }, node) => Some((node.inputs[0], permutation)),
        _ => None,
    }
}

/// The operand of the reshape that makes a value.
pub fn reshape(graph: &Graph, value: ValueId) -> Option<ValueId> {
    match prim(graph, value)? {
        (Prim::Reshape, node) => Some(node.inputs[0]),
        _ => None,
    }
}

/// Whether a value is a constant.
pub fn is_constant(graph: &Graph, value: ValueId) -> bool {
    matches!(graph.producer(value).map(|n| &n.op), Some(Op::Prim(Prim::Constant(_))))
}

/// The one number that every element of a constant has, whatever its shape.
pub fn uniform(graph: &Graph, value: ValueId) -> Option<f64> {
    uniform_tensor(graph.constant(value)?)
}

/// The one number that every element of a tensor has.
pub fn uniform_tensor(tensor: &Tensor) -> Option<f64> {
    if tensor.is_empty() || tensor.len() > LONGEST_UNIFORM {
        return None;
    }
    let elements = tensor.to_f64();
    let first = elements[0];
    elements.iter().all(|&e| e == first || (e.is_nan() && first.is_nan())).then_some(first)
}

/// Whether two numbers are the same constant written with the digits of single precision or of half.
pub fn close(found: f64, expected: f64) -> bool {
    found == expected || (found - expected).abs() <= 1e-3 * expected.abs()
}

/// The permutation that undoes another.
pub fn inverse(permutation: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; permutation.len()];
    for (i, &p) in permutation.iter().enumerate() {
        inverse[p] = i;
    }
    inverse
}

/// Whether a permutation leaves every dim where it is.
pub fn is_identity(permutation: &[usize]) -> bool {
    permutation.iter().enumerate().all(|(i, &p)| i == p)
}
