//! Convolutions of one to three spatial dims, plain, grouped, depthwise, dilated and transposed.

use anychip_ir::{ConvolutionDims, IrError, Node, Prim};
use anychip_tensor::DType;

use super::tail::Written;
use super::{Cx, Lowered};
use crate::fusion::Tail;
use crate::kernel::conv::{Conv, ConvShape, ConvWeights};
use crate::kernel::gemm::Epilogue;
use crate::step::{Io, Kernel};

pub(crate) fn lower(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    lower_tail(cx, &Tail::alone(node))
}

/// A convolution and what is done to its result as it is written.
pub(crate) fn lower_tail(cx: &Cx<'_>, tail: &Tail<'_>) -> Option<Lowered> {
    let node = tail.anchor;
    let Some(Prim::Convolution(dims, output)) = node.op.prim() else { return None };
    let &[x, w] = node.inputs.as_slice() else { return None };
    if *output != DType::F32 || cx.dtype(x) != DType::F32 || cx.dtype(w) != DType::F32 {
        return None;
    }
    let shape = shape(dims, cx.shape(x), cx.shape(w))?;
    let (simd, threads) = (cx.shared.simd, cx.threads());
    let weights = cx.constant(w)?;
    if weights.len() != shape.weights_len() {
        return None;
    }
    let settings = [shape.filters, shape.channels, shape.groups, shape.taps()];
    let packed = cx.shared.weights.packed(weights, "convolution", &settings, || {
        ConvWeights::from_runs(simd, &shape, &|run, out| {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(out);
            bytes.copy_from_slice(&weights.bytes()[run.start * 4..run.end * 4]);
        })
    });
    let conv = Conv::with_weights(simd, threads, &shape, packed);
    let scratch = conv.scratch_len() * 4;
    let mut operands = vec![x];
    let written = Written::new(tail, &mut operands);
    Some(Lowered {
        scratch,
        detail: format!("{}, weights packed{}", simd.name(), tail.names()),
        ..Lowered::new("convolution", Convolution { conv, written }, &operands)
    })
}

/// The kernel's form of the shape; `None` where there is no window or more than three spatial dims.
pub(super) fn shape(dims: &ConvolutionDims, x: &[usize], w: &[usize]) -> Option<ConvShape> {
    let spatial = x.len().checked_sub(2).filter(|n| (1..=3).contains(n))?;
    let stretched: Vec<usize> = x[2..]
        .iter()
        .zip(&dims.input_dilation)
        .map(|(&n, &d)| if n == 0 { 0 } else { (n - 1) * d + 1 })
        .collect();
    let low: Vec<isize> = dims.padding.iter().map(|p| p.0 as isize).collect();
    let high: Vec<isize> = dims.padding.iter().map(|p| p.1 as isize).collect();
    let sizes = (x[0], x[1], w[0], dims.groups);
    let mut shape =
        ConvShape::new(sizes, &stretched, &w[2..], &dims.strides, &dims.dilation, (&low, &high))?;
    for i in 0..spatial {
        shape.input[3 - spatial + i] = x[2 + i];
        shape.input_step[3 - spatial + i] = dims.input_dilation[i];
    }
    Some(shape)
}

struct Convolution {
    conv: Conv,
    written: Written,
}

impl Kernel for Convolution {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let epilogue = Epilogue { row_bias: self.written.bias(io), ..self.written.epilogue(io) };
        self.conv.run(io.operand(0), io.result(0), &epilogue, io.scratch(), io.pool);
        Ok(())
    }
}
