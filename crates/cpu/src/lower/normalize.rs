//! Softmax and the normalizations, claimed whole because each row is read while it is in the cache.

use anychip_ir::{IrError, Node};
use anychip_ops::{GroupNorm, LayerNorm, LogSoftmax, RmsNorm, Softmax};

use super::{Cx, Lowered};
use crate::kernel::{norm, softmax};
use crate::step::{Io, Kernel};

pub(crate) fn lower_softmax(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let (axis, log) = match (node.op.composite::<Softmax>(), node.op.composite::<LogSoftmax>()) {
        (Some(softmax), _) => (softmax.axis, false),
        (None, Some(softmax)) => (softmax.axis, true),
        (None, None) => return None,
    };
    let kernel =
        SoftmaxKernel(softmax::Softmax::new(cx.shared.simd, cx.shape(node.inputs[0]), axis, log));
    Some(Lowered { in_place: vec![0], ..Lowered::new("softmax", kernel, &node.inputs) })
}

struct SoftmaxKernel(softmax::Softmax);

impl Kernel for SoftmaxKernel {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        if io.operand_raw(0).start == io.result_raw(0).start {
            self.0.run_in_place(io.result(0), io.pool);
        } else {
            self.0.run(io.operand(0), io.result(0), io.pool);
        }
        Ok(())
    }
}

pub(crate) fn lower_layer_norm(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let (axis, epsilon, rms) =
        match (node.op.composite::<LayerNorm>(), node.op.composite::<RmsNorm>()) {
            (Some(norm), _) => (norm.axis, norm.epsilon, false),
            (None, Some(norm)) => (norm.axis, norm.epsilon, true),
            (None, None) => return None,
        };
    let shape = cx.shape(node.inputs[0]);
    let (rows, row) = shape.split_at(axis.min(shape.len()));
    // One factor an element of a row; those that broadcast otherwise are left to the expansion's steps.
    let whole = |i: usize| {
        node.inputs.get(i).is_none_or(|&v| {
            let own = cx.shape(v);
            let leading = own.len().saturating_sub(row.len());
            own[leading..] == *row && own[..leading].iter().all(|&n| n == 1)
        })
    };
    if !whole(1) || !whole(2) {
        return None;
    }
    let kernel = LayerNormKernel {
        norm: norm::LayerNorm {
            simd: cx.shared.simd,
            rows: rows.iter().product(),
            n: row.iter().product(),
            epsilon,
            rms,
        },
        has_bias: node.inputs.len() > 2,
    };
    Some(Lowered::new(if rms { "rms-norm" } else { "layer-norm" }, kernel, &node.inputs))
}

struct LayerNormKernel {
    norm: norm::LayerNorm,
    has_bias: bool,
}

impl Kernel for LayerNormKernel {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let operands = norm::LayerNormOperands {
            scale: Some(io.operand(1)),
            bias: self.has_bias.then(|| io.operand(2)),
            ..norm::LayerNormOperands::default()
        };
        self.norm.run(io.operand(0), io.result(0), operands, io.pool);
        Ok(())
    }
}

pub(crate) fn lower_group_norm(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let settings = node.op.composite::<GroupNorm>()?;
    let &[x, scale, bias] = node.inputs.as_slice() else { return None };
    let &[batch, channels, ref spatial @ ..] = cx.shape(x) else { return None };
    let groups = if settings.groups == 0 { channels } else { settings.groups };
    if groups == 0
        || channels % groups != 0
        || cx.len(scale) != channels
        || cx.len(bias) != channels
    {
        return None;
    }
    let kernel = GroupNormKernel(norm::GroupNorm {
        simd: cx.shared.simd,
        batch,
        channels,
        groups,
        pixels: spatial.iter().product(),
        epsilon: settings.epsilon,
    });
    Some(Lowered::new("group-norm", kernel, &node.inputs))
}

struct GroupNormKernel(norm::GroupNorm);

impl Kernel for GroupNormKernel {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        self.0.run(io.operand(0), io.result(0), io.operand(1), io.operand(2), io.pool);
        Ok(())
    }
}
