//! Pooling: the largest or the mean element of each window.

use anychip_ir::{IrError, Node, Prim, ReduceKind};
use anychip_ops::AveragePool;
use anychip_tensor::DType;

use super::{Cx, Lowered};
use crate::kernel::conv::ConvShape;
use crate::kernel::pooling::{Pooling, Window};
use crate::step::{Io, Kernel};

/// A maximum over windows of the last one to three dims.
pub(crate) fn lower_max(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let Some(Prim::ReduceWindow { kind: ReduceKind::Max, window }) = node.op.prim() else {
        return None;
    };
    lower(cx, node, &window.size, &window.strides, &window.dilation, &window.padding, Pooling::Max)
}

/// The mean over windows, where the kernel's way of counting is the composite's.
pub(crate) fn lower_average(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let pool = node.op.composite::<AveragePool>()?;
    let n = pool.size.len();
    let padding: Vec<(i64, i64)> =
        (0..n).map(|i| (pool.padding_low[i], pool.padding_high[i] + pool.overhang[i])).collect();
    let pooling = if pool.count_padding {
        let mut counted_end = [0; 3];
        for (i, &high) in pool.padding_high.iter().enumerate() {
            *counted_end.get_mut(3 - n.min(3) + i)? = usize::try_from(high).ok()?;
        }
        Pooling::AverageWithPadding { counted_end }
    } else {
        Pooling::Average
    };
    lower(cx, node, &pool.size, &pool.strides, &pool.dilation, &padding, pooling)
}

fn lower(
    cx: &Cx<'_>,
    node: &Node,
    size: &[usize],
    strides: &[usize],
    dilation: &[usize],
    padding: &[(i64, i64)],
    pooling: Pooling,
) -> Option<Lowered> {
    let x = node.inputs[0];
    if cx.dtype(x) != DType::F32 || !(1..=3).contains(&size.len()) || cx.len(x) == 0 {
        return None;
    }
    let shape = cx.shape(x);
    let (outer, spatial) = shape.split_at(shape.len().checked_sub(size.len())?);
    let low: Vec<isize> = padding.iter().map(|p| p.0 as isize).collect();
    let high: Vec<isize> = padding.iter().map(|p| p.1 as isize).collect();
    // Windows that cover no element have no mean, and cropping pads are not what the kernel counts.
    let reach: Vec<usize> = size.iter().zip(dilation).map(|(&n, &d)| (n.max(1) - 1) * d).collect();
    let empty =
        low.iter().chain(&high).zip(reach.iter().cycle()).any(|(&p, &r)| p < 0 || p > r as isize);
    if empty {
        return None;
    }
    let window = ConvShape::new((1, 1, 1, 1), spatial, size, strides, dilation, (&low, &high))?;
    let planes = outer.iter().product();
    let kernel = Window::new(cx.shared.simd, cx.threads(), planes, &window, pooling);
    let name = if pooling == Pooling::Max { "max-pool" } else { "average-pool" };
    Some(Lowered { scratch: kernel.scratch_len() * 4, ..Lowered::new(name, Pool(kernel), &[x]) })
}

struct Pool(Window);

impl Kernel for Pool {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        self.0.run(io.operand(0), io.result(0), io.scratch(), io.pool);
        Ok(())
    }
}
