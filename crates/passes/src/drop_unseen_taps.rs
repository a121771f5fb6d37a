//! A convolution keeps only the kernel elements that some window sees within the input.

use anychip_ir::{Builder, ConvolutionDims, Graph, IrError, Op, Prim, ValueId};
use anychip_tensor::Dim;

use crate::rebuild::{contains, unchanged};
use crate::{Outcome, Site, replace};

pass! {
    /// `convolution(x, w) => convolution(x, slice(w))` without the outer rows and columns of the kernel that see nothing
    /// but padding: a dilation wider than the image leaves the middle of a kernel
    pub(crate) const DROP_UNSEEN_TAPS = "drop-unseen-taps", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    if !contains(graph, &|op| matches!(op, Op::Prim(Prim::Convolution(..)))) {
        return Ok(unchanged(graph));
    }
    replace(graph, &mut rule)
}

fn rule(b: &mut Builder, site: &Site<'_>) -> Result<Option<ValueId>, IrError> {
    let Some(Prim::Convolution(dims, output)) = site.node.op.prim() else { return Ok(None) };
    let &[x, mut w] = site.inputs else { return Ok(None) };
    let (input, kernel) = (b.dims(x), b.dims(w));
    let mut dims = dims.clone();
    let mut found = false;
    for axis in 0..dims.strides.len() {
        let (Some(size), Some(taps)) = (input[axis + 2].fixed(), kernel[axis + 2].fixed()) else {
            continue;
        };
        let (first, last) = unseen(&dims, axis, size as i64, taps as i64);
        if (first, last) == (0, 0) {
            continue;
        }
        found = true;
        let end = Dim::Fixed(taps - last as usize);
        w = b.slice(w, axis + 2, &Dim::Fixed(first as usize), &end)?;
        let dilation = dims.dilation[axis] as i64;
        let padding = &mut dims.padding[axis];
        *padding = (padding.0 - first * dilation, padding.1 - last * dilation);
    }
    if !found {
        return Ok(None);
    }
    b.prim(Prim::Convolution(dims, *output), &[x, w]).map(Some)
}

/// How many kernel elements at the start and at the end of an axis see only padding; as many as leave no padding below zero.
fn unseen(dims: &ConvolutionDims, axis: usize, size: i64, taps: i64) -> (i64, i64) {
    let none = (0, 0);
    let (low, high) = dims.padding[axis];
    let (stride, dilation) = (dims.strides[axis] as i64, dims.dilation[axis] as i64);
    if dims.input_dilation[axis] != 1 || low < 0 || high < 0 || taps < 2 {
        return none;
    }
    // Sizes beyond what fits are refused elsewhere.
    let window = (taps - 1).checked_mul(dilation).and_then(|w| w.checked_add(1));
    let padded = low.checked_add(high).and_then(|p| p.checked_add(size));
    let (Some(window), Some(padded)) = (window, padded) else { return none };
    if padded < window || size < 1 {
        return none;
    }
    let steps = (padded - window) / stride * stride;
    let first = (0..taps - 1)
        .take_while(|tap| (tap + 1) * dilation <= low && tap * dilation - low + steps < 0)
        .count() as i64;
    let last = (first + 1..taps)
        .rev()
        .take_while(|tap| (taps - tap) * dilation <= high && tap * dilation - low >= size)
        .count() as i64;
    (first, last)
}
