//! Resizing of images: what each element of the result is made of is read off the operator's own definition, one
//! axis at a time, so every way to map coordinates and to weigh neighbors is done by one kernel.

use std::sync::Arc;

use anychip_ir::{Graph, IrError, Node, Op, evaluate_node};
use anychip_ops::Resize;
use anychip_tensor::{DType, Tensor};

use super::{Cx, Lowered};
use crate::kernel::resize as kernel;
use crate::step::{Io, Kernel};

/// Largest `size before × size after` of an axis whose table is worth making.
const LARGEST_TABLE: usize = 1 << 22;

/// Every mode but those whose result is no weighted sum along each axis.
pub(super) fn claims(node: &Node, graph: &Graph) -> bool {
    node.op.composite::<Resize>().is_some_and(|resize| {
        resize.coordinates != "tf_crop_and_resize"
            && (resize.policy == "stretch" || !resize.scales.is_empty())
            && graph.ty(node.inputs[0]).dtype == DType::F32
            && last_two(resize, node, graph)
    })
}

/// Whether only the last two dims are resized: of others, the sizes asked for are those they have.
fn last_two(resize: &Resize, node: &Node, graph: &Graph) -> bool {
    let shape = &graph.ty(node.inputs[0]).shape;
    let sizes = node.inputs.get(1).and_then(|&v| graph.constant_integers(v));
    let stays = |i: usize, axis: usize| match (&sizes, resize.scales.get(i)) {
        (_, Some(&scale)) => scale == 1.0,
        (Some(sizes), None) => shape[axis].constant() == sizes.get(i).copied(),
        (None, None) => false,
    };
    shape.len() >= 2
        && resize
            .axes
            .iter()
            .enumerate()
            .all(|(i, &axis)| axis + 2 >= shape.len() || stays(i, axis))
}

pub(super) fn lower(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let resize = node.op.composite::<Resize>().filter(|_| claims(node, cx.graph))?;
    let (from, to) = (cx.shape(node.inputs[0]), cx.shape(node.outputs[0]));
    let rank = from.len();
    let taps = |axis: usize| match resize.axes.iter().position(|&a| a == axis) {
        Some(i) => along(resize, i, from[axis], to[axis]),
        None => Some(kernel::Taps::new((0..from[axis]).map(|x| vec![(x, 1.0)]))),
    };
    let (rows, columns) = (taps(rank - 2)?, taps(rank - 1)?);
    let planes = from[..rank - 2].iter().product();
    let plane = (from[rank - 2], from[rank - 1]);
    let prepared = kernel::Resize::new(cx.shared.simd, cx.threads(), plane, rows, columns);
    Some(Lowered {
        scratch: prepared.scratch_len() * 4,
        detail: resize.mode.clone(),
        ..Lowered::new("resize", ResizeKernel { prepared, planes }, &node.inputs[..1])
    })
}

/// The table of one axis: the operator's result for an identity matrix, whose columns are the weights. `None` where
/// that would be too large.
fn along(resize: &Resize, i: usize, from: usize, to: usize) -> Option<kernel::Taps> {
    if from.checked_mul(to.max(from))? > LARGEST_TABLE {
        return None;
    }
    let mut identity = vec![0.0f32; from * from];
    identity.iter_mut().step_by(from + 1).for_each(|x| *x = 1.0);
    let mut operands = vec![Tensor::from_vec(vec![from, from], identity).ok()?];
    if resize.scales.is_empty() {
        operands.push(Tensor::from_vec(vec![1], vec![to as i64]).ok()?);
    }
    let one = Resize {
        axes: vec![0],
        scales: resize.scales.get(i).copied().into_iter().collect(),
        region: Vec::new(),
        ..resize.clone()
    };
    let table = evaluate_node(&Op::Composite(Arc::new(one)), &[], &operands).ok()?;
    let weights = table[0].elements::<f32>()?;
    (table[0].shape() == [to, from]).then(|| {
        kernel::Taps::new(weights.chunks(from.max(1)).map(|row| {
            row.iter().copied().enumerate().filter(|&(_, weight)| weight != 0.0).collect()
        }))
    })
}

struct ResizeKernel {
    prepared: kernel::Resize,
    planes: usize,
}

impl Kernel for ResizeKernel {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        self.prepared.run(self.planes, io.operand(0), io.result(0), io.scratch(), io.pool);
        Ok(())
    }
}
