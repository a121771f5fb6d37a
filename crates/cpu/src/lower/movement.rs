//! Data movement: transposes, broadcasts, slices, pads, concatenations, all as copies from one strided
//! place to another.

use anychip_ir::{IrError, Node, Prim, ValueId};
use anychip_tensor::DType;

use super::{Cx, Lowered};
use crate::kernel::broadcast::broadcast_strides;
use crate::kernel::copy::{StridedCopy, row_major};
use crate::step::{Io, Kernel};

/// Copies operands into parts of the result, which is first filled where no operand reaches.
struct Copies {
    width: usize,
    /// One for each operand in order.
    parts: Vec<StridedCopy>,
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
        for (i, copy) in self.parts.iter().enumerate() {
            run_copy(copy, self.width, io.bytes(i), result, io);
        }
        Ok(())
    }
}

/// A copy of elements of `width` bytes: 1, 2, 4 or 8.
fn run_copy(copy: &StridedCopy, width: usize, from: &[u8], to: &mut [u8], io: &Io<'_>) {
    match width {
        1 => copy.run(from, to, io.pool),
        2 => copy.run::<u16>(bytemuck::cast_slice(from), bytemuck::cast_slice_mut(to), io.pool),
        4 => copy.run::<u32>(bytemuck::cast_slice(from), bytemuck::cast_slice_mut(to), io.pool),
        _ => copy.run::<u64>(bytemuck::cast_slice(from), bytemuck::cast_slice_mut(to), io.pool),
    }
}

/// Bytes of an element that is whole bytes.
pub(super) fn width(dtype: DType) -> Option<usize> {
    let bits = dtype.storage_bits();
    (bits >= 8).then_some(bits / 8)
}

pub(crate) fn lower(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let prim = node.op.prim()?;
    let result = node.outputs[0];
    let width = width(cx.dtype(result))?;
    let (name, operands, copies, fill) = match prim {
        Prim::Transpose { permutation } => {
            let copy = StridedCopy::transpose(cx.shape(node.inputs[0]), permutation);
            ("transpose", vec![node.inputs[0]], vec![copy], None)
        }
        Prim::Broadcast => {
            let source = broadcast_strides(cx.shape(node.inputs[0]), cx.shape(result))?;
            ("broadcast", vec![node.inputs[0]], vec![whole(cx, result, 0, &signed(&source))], None)
        }
        Prim::Slice { axes } => {
            let (source, base) = slice(cx, node, axes)?;
            ("slice", vec![node.inputs[0]], vec![whole(cx, result, base, &source)], None)
        }
        Prim::Concat { axis } => {
            let to = row_major(cx.shape(result));
            let mut at = 0;
            let mut copies = Vec::new();
            for &v in &node.inputs {
                let shape = cx.shape(v);
                copies.push(StridedCopy::new(
                    shape,
                    (0, &signed(&row_major(shape))),
                    (at * to[*axis], &to),
                ));
                at += shape[*axis];
            }
            ("concatenate", node.inputs.clone(), copies, None)
        }
        Prim::Pad => {
            let (copy, covered) = pad(cx, node)?;
            ("pad", vec![node.inputs[0], node.inputs[3]], vec![copy], (!covered).then_some(1))
        }
        _ => return None,
    };
    Some(Lowered::new(name, Copies { width, parts: copies, fill }, &operands))
}

fn signed(strides: &[usize]) -> Vec<isize> {
    strides.iter().map(|&s| s as isize).collect()
}

/// A copy that writes the whole result in order.
fn whole(cx: &Cx<'_>, result: ValueId, base: usize, source: &[isize]) -> StridedCopy {
    let shape = cx.shape(result);
    StridedCopy::new(shape, (base, source), (0, &row_major(shape)))
}

fn slice(cx: &Cx<'_>, node: &Node, axes: &[usize]) -> Option<(Vec<isize>, usize)> {
    let from = cx.shape(node.inputs[0]);
    let (starts, steps) = (cx.integers(node.inputs[1])?, cx.integers(node.inputs[3])?);
    let own = row_major(from);
    let mut source = signed(&own);
    let mut base = 0;
    for (i, &axis) in axes.iter().enumerate() {
        if axes[..i].contains(&axis) {
            return None;
        }
        let n = from[axis] as i64;
        let start = if starts[i] < 0 { starts[i].saturating_add(n) } else { starts[i] };
        // Beyond the end of a dim no element is taken, so where an empty slice starts does not matter.
        base += start.clamp(0, (n - 1).max(0)) as usize * own[axis];
        source[axis] = source[axis].saturating_mul(steps[i] as isize);
    }
    Some((source, base))
}

/// The part of the operand that is kept, and whether it covers the whole result.
fn pad(cx: &Cx<'_>, node: &Node) -> Option<(StridedCopy, bool)> {
    let (from, to) = (cx.shape(node.inputs[0]), cx.shape(node.outputs[0]));
    let low = cx.integers(node.inputs[1])?;
    let (source, target) = (row_major(from), row_major(to));
    let mut kept = Vec::new();
    let (mut source_base, mut target_base) = (0, 0);
    for d in 0..from.len() {
        let first = low[d].max(0).min(to[d] as i64);
        let last = low[d].saturating_add(from[d] as i64).min(to[d] as i64);
        let n = (last - first).max(0) as usize;
        kept.push(n);
        if n > 0 {
            source_base += (first - low[d]) as usize * source[d];
            target_base += first as usize * target[d];
        }
    }
    let covered = kept == to;
    if kept.contains(&0) {
        (source_base, target_base) = (0, 0);
    }
    Some((
        StridedCopy::new(&kept, (source_base, &signed(&source)), (target_base, &target)),
        covered,
    ))
}
