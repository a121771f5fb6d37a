//! What moves elements without computing.

use anychip_ir::Node;

use super::writer::{Value, array};
use super::{Cx, EmitError};

pub(super) fn transpose(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    permutation: &[usize],
) -> Result<Value, EmitError> {
    let x = cx.operand(node, 0)?;
    if permutation.is_sorted() {
        return Ok(x);
    }
    let shape: Vec<usize> = permutation.iter().map(|&p| x.shape[p]).collect();
    let attribute = format!("permutation = {}", array(permutation));
    Ok(cx.w.op("stablehlo.transpose", &[&x], &attribute, x.element, &shape))
}

/// Python's slice: a negative step reverses the dim first and then goes forwards.
pub(super) fn slice(cx: &mut Cx<'_, '_>, node: &Node, axes: &[usize]) -> Result<Value, EmitError> {
    let mut x = cx.operand(node, 0)?;
    let shape = cx.shape(node, 0)?;
    let (starts, steps) = (cx.integers(node, 1)?, cx.integers(node, 3)?);
    let mut from = vec![0usize; x.rank()];
    let mut limits = x.shape.clone();
    let mut strides = vec![1usize; x.rank()];
    let mut backwards = Vec::new();
    for ((&axis, &start), &step) in axes.iter().zip(&starts).zip(&steps) {
        let size = x.shape[axis] as i128;
        let count = shape[axis] as i128;
        if count == 0 {
            limits[axis] = 0;
            continue;
        }
        let start = i128::from(start) + if start < 0 { size } else { 0 };
        // A start beyond either end counts as that end; where elements are left, it is one of them.
        let start = start.clamp(0, size - 1);
        let stride = i128::from(step).abs();
        let start = if step < 0 {
            backwards.push(axis);
            size - 1 - start
        } else {
            start
        };
        from[axis] = start as usize;
        limits[axis] = (start + (count - 1) * stride + 1) as usize;
        // A stride beyond the dim takes one element, however long it is.
        strides[axis] = stride.min(size.max(1)) as usize;
    }
    if !backwards.is_empty() {
        let attribute = format!("dimensions = {}", array(&backwards));
        x = cx.w.op("stablehlo.reverse", &[&x], &attribute, x.element, &x.shape);
    }
    Ok(cx.w.slice(&x, &from, &limits, &strides))
}

pub(super) fn pad(cx: &mut Cx<'_, '_>, node: &Node) -> Result<Value, EmitError> {
    let (x, value) = (cx.operand(node, 0)?, cx.operand(node, 3)?);
    let (low, high) = (cx.integers(node, 1)?, cx.integers(node, 2)?);
    let shape = cx.shape(node, 0)?;
    // Cropping an end for more than there is leaves nothing of the operand, and devices do not agree what that means.
    let gone = (0..x.rank()).any(|d| {
        let size = x.shape[d] as i64;
        size + low[d].min(0) <= 0
            || size + high[d].min(0) <= 0
            || size + low[d].min(0) + high[d].min(0) <= 0
    });
    if gone && !x.shape.contains(&0) {
        return Ok(cx.w.broadcast(&value, &shape));
    }
    Ok(cx.w.pad(&x, &value, &low, &high, &shape))
}

pub(super) fn concat(cx: &mut Cx<'_, '_>, node: &Node, axis: usize) -> Result<Value, EmitError> {
    let parts: Vec<Value> =
        (0..node.inputs.len()).map(|i| cx.operand(node, i)).collect::<Result<_, _>>()?;
    Ok(cx.w.concatenate(&parts.iter().collect::<Vec<_>>(), axis))
}
