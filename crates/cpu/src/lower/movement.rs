//! Data movement: transposes, broadcasts, slices, pads, concatenations, all as copies from one strided
//! place to another.

use anychip_ir::{IrError, Node, Prim, ValueId};

use super::dot_general::strides;
use super::{Cx, Lowered};
use super::copy::StridedCopy;
use crate::step::{Io, Kernel};

/// Copies operands into parts of the result, which is first filled where no operand reaches.
struct Copies {
    width: usize,
    /// One for each operand in order.
    copies: Vec<StridedCopy>,
    /// Operand that holds the element the result is filled with first.
    fill: Option<usize>,
}

impl Kernel for Copies {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let result = io.result_bytes(0);
        if let Some(fill) = self.fill {
            let element = &io.bytes(fill)[..self.width];
            if element.iter().all(|&b| b == 0) {
                result.fill(0);
            } else {
                result.chunks_exact_mut(self.width).for_each(|e| e.copy_from_slice(element));
            }
        }
        for (i, copy) in self.copies.iter().enumerate() {
            copy.run(self.width, io.bytes(i), result, io.pool);
        }
        Ok(())
    }
}

pub(crate) fn lower(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let prim = node.op.prim()?;
    let result = node.outputs[0];
    let bits = cx.dtype(result).storage_bits();
    if bits < 8 {
        return None;
    }
    let width = bits / 8;
    let (name, operands, copies, fill) = match prim {
        Prim::Transpose { permutation } => {
            let from = signed(&strides(cx.shape(node.inputs[0])));
            let source: Vec<isize> = permutation.iter().map(|&p| from[p]).collect();
            ("transpose", vec![node.inputs[0]], vec![whole(cx, result, &source, 0)], None)
        }
        Prim::Broadcast => {
            let source = crate::kernel::broadcast::broadcast_strides(cx.shape(node.inputs[0]), cx.shape(result))?;
            ("broadcast", vec![node.inputs[0]], vec![whole(cx, result, &signed(&source), 0)], None)
        }
        Prim::Slice { axes } => {
            let (source, base) = slice(cx, node, axes)?;
            ("slice", vec![node.inputs[0]], vec![whole(cx, result, &source, base)], None)
        }
        Prim::Concat { axis } => {
            let to = signed(&strides(cx.shape(result)));
            let mut at = 0;
            let mut copies = Vec::new();
            for &v in &node.inputs {
                let shape = cx.shape(v);
                copies.push(StridedCopy::new(shape, &signed(&strides(shape)), &to, 0, at * to[*axis]));
                at += shape[*axis] as isize;
            }
            ("concatenate", node.inputs.clone(), copies, None)
        }
        Prim::Pad => {
            let (copy, covered) = pad(cx, node)?;
            let fill = (!covered).then_some(1);
            ("pad", vec![node.inputs[0], node.inputs[3]], vec![copy], fill)
        }
        _ => return None,
    };
    Some(Lowered::new(name, Copies { width, copies, fill }, &operands))
}

pub(crate) fn signed(strides: &[usize]) -> Vec<isize> {
    strides.iter().map(|&s| s as isize).collect()
}

/// A copy that writes the whole result in order.
fn whole(cx: &Cx<'_>, result: ValueId, source: &[isize], base: isize) -> StridedCopy {
    let shape = cx.shape(result);
    StridedCopy::new(shape, source, &signed(&strides(shape)), base, 0)
}

fn slice(cx: &Cx<'_>, node: &Node, axes: &[usize]) -> Option<(Vec<isize>, isize)> {
    let from = cx.shape(node.inputs[0]);
    let (starts, steps) = (cx.integers(node.inputs[1])?, cx.integers(node.inputs[3])?);
    let mut source = signed(&strides(from));
    let mut base = 0;
    for (i, &axis) in axes.iter().enumerate() {
        if axes[..i].contains(&axis) {
            return None;
        }
        let n = from[axis] as i64;
        let start = if starts[i] < 0 { starts[i].saturating_add(n) } else { starts[i] };
        // Beyond the end of a dim no element is taken, so where an empty slice starts does not matter.
        let start = start.clamp(0, (n - 1).max(0));
        base += start as isize * source[axis];
        source[axis] = source[axis].saturating_mul(steps[i] as isize);
    }
    Some((source, base))
}

/// The part of the operand that is kept, and whether it covers the whole result.
fn pad(cx: &Cx<'_>, node: &Node) -> Option<(StridedCopy, bool)> {
    let (from, to) = (cx.shape(node.inputs[0]), cx.shape(node.outputs[0]));
    let low = cx.integers(node.inputs[1])?;
    let (source, target) = (signed(&strides(from)), signed(&strides(to)));
    let mut kept = Vec::new();
    let (mut source_base, mut target_base) = (0, 0);
    for d in 0..from.len() {
        let first = low[d].max(0);
        let last = low[d].saturating_add(from[d] as i64).min(to[d] as i64);
        kept.push((last - first).max(0) as usize);
        source_base += (first - low[d]) as isize * source[d];
        target_base += first as isize * target[d];
    }
    let covered = kept == to;
    if kept.contains(&0) {
        (source_base, target_base) = (0, 0);
    }
    Some((StridedCopy::new(&kept, &source, &target, source_base, target_base), covered))
}
