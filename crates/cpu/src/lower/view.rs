//! Operators that only rename: the result is bytes of the operand as they lie, so no step runs.

use anychip_ir::{Node, Prim, ValueId};

use super::Cx;
use crate::blocked::FromBlocked;
use crate::kernel::blocked::BLOCK;

/// The operand that the node's one result is a part of, and the byte where it starts.
pub(crate) fn view(cx: &Cx<'_>, node: &Node) -> Option<(ValueId, usize)> {
    let &[result] = node.outputs.as_slice() else { return None };
    let &source = node.inputs.first()?;
    let (from, to) = (cx.shape(source), cx.shape(result));
    if let Some(FromBlocked { channels }) = node.op.composite() {
        // Single pixels: the channels lie as they do in rows.
        let one_after_another = from[0] == 1 || channels.is_multiple_of(BLOCK);
        return (to[2..] == [1, 1] && one_after_another).then_some((source, 0));
    }
    let prim = node.op.prim()?;
    match prim {
        Prim::Reshape | Prim::BitCast { .. } => Some((source, 0)),
        Prim::Cast { to, .. } => (*to == cx.dtype(source)).then_some((source, 0)),
        Prim::Broadcast | Prim::Pad | Prim::Concat { .. }
            if node.inputs.len() == 1 || cx.len(source) == cx.len(result) =>
        {
            // A pad that crops here and pads there may keep the number of elements.
            let only = matches!(prim, Prim::Broadcast)
                || (matches!(prim, Prim::Concat { .. }) && node.inputs.len() == 1);
            (only || is_zero_pad(cx, node))
                .then_some((source, 0))
                .filter(|_| cx.len(source) == cx.len(result))
        }
        Prim::Transpose { permutation } => {
            // The dims that are more than 1 long stay in order.
            let long: Vec<usize> = permutation.iter().copied().filter(|&p| from[p] != 1).collect();
            (long.is_sorted() || cx.len(source) == 0).then_some((source, 0))
        }
        Prim::Slice { axes } => {
            let bits = cx.dtype(source).storage_bits();
            if bits < 8 {
                return None;
            }
            let (starts, steps) = (cx.integers(node.inputs[1])?, cx.integers(node.inputs[3])?);
            // Contiguous: full dims after the first sliced one, single elements before it.
            let first = (0..to.len()).find(|&d| to[d] != from[d]).unwrap_or(0);
            let contiguous = to[..first.min(to.len())].iter().all(|&n| n == 1)
                && to.iter().zip(from).skip(first + 1).all(|(a, b)| a == b);
            if !contiguous && cx.len(result) > 0 {
                return None;
            }
            if cx.len(result) == 0 {
                return Some((source, 0));
            }
            let mut offset = 0;
            let mut stride = 1;
            for d in (0..from.len()).rev() {
                if let Some(i) = axes.iter().rposition(|&a| a == d) {
                    if axes.iter().filter(|&&a| a == d).count() > 1 || (steps[i] != 1 && to[d] != 1)
                    {
                        return None;
                    }
                    let n = from[d] as i64;
                    let start = if starts[i] < 0 { starts[i].saturating_add(n) } else { starts[i] };
                    let high = if steps[i] < 0 { n - 1 } else { n };
                    offset += start.clamp(0, high.max(0)) as usize * stride;
                }
                stride *= from[d];
            }
            Some((source, offset * bits / 8))
        }
        Prim::Constant(_)
        | Prim::Iota
        | Prim::Random { .. }
        | Prim::Unary(_)
        | Prim::Binary(_)
        | Prim::Compare(_)
        | Prim::Select
        | Prim::DotGeneral(..)
        | Prim::Convolution(..)
        | Prim::Reduce { .. }
        | Prim::ArgReduce { .. }
        | Prim::ReduceWindow { .. }
        | Prim::Cumulative { .. }
        | Prim::TopK { .. }
        | Prim::ShapeOf
        | Prim::Broadcast
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
        | Prim::Loop { .. } => None,
    }
}

fn is_zero_pad(cx: &Cx<'_>, node: &Node) -> bool {
    let zero = |i: usize| cx.integers(node.inputs[i]).is_some_and(|v| v.iter().all(|&n| n == 0));
    matches!(node.op.prim(), Some(Prim::Pad)) && zero(1) && zero(2)
}
