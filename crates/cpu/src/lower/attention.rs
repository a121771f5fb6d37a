//! Attention, reading queries, keys and values where they lie and writing the result where it is wanted: the
//! transposes that split and join heads cost nothing.

use anychip_ir::{Graph, IrError, Node, ValueId};
use anychip_ops::Attention;
use anychip_tensor::DType;

use super::{Cx, Lowered};
use crate::fusion::Heads;
use crate::kernel::attention::{self as kernel, AttentionShape};
use crate::kernel::broadcast::broadcast_strides;
use crate::kernel::copy::row_major;
use crate::step::{Io, Kernel};

/// Whether the kernel does these element types and settings.
pub(super) fn claims(node: &Node, graph: &Graph) -> bool {
    super::floats(node, graph)
        && node.op.composite::<Attention>().is_some_and(|settings| {
            settings.scores.is_none() && settings.softmax_type.is_none_or(|t| t == DType::F32)
        })
}

pub(crate) fn lower(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    lower_heads(cx, &Heads::alone(node))
}

/// An attention with the transposes around it.
pub(crate) fn lower_heads(cx: &Cx<'_>, heads: &Heads<'_>) -> Option<Lowered> {
    let node = heads.attention;
    let settings = node.op.composite::<Attention>().filter(|_| claims(node, cx.graph))?;
    let (q, k, v) = (cx.shape(node.inputs[0]), cx.shape(node.inputs[1]), cx.shape(node.inputs[2]));
    let shape = AttentionShape {
        batch: q[0],
        heads: q[1],
        key_heads: k[1],
        queries: q[2],
        keys: k[2],
        size: q[3],
        value_size: v[3],
        scale: settings.scale,
        causal_offset: settings.causal.then_some(0),
        soft_cap: (settings.softcap != 0.0).then_some(settings.softcap),
    };
    if shape.key_heads == 0
        || !shape.heads.is_multiple_of(shape.key_heads)
        || k[0] != q[0]
        || v[..3] != k[..3]
    {
        return None;
    }
    let mut operands: Vec<ValueId> = Vec::new();
    let mut strides = [[0; 3]; 3];
    for (i, own) in strides.iter_mut().enumerate() {
        operands.push(heads.sources[i].unwrap_or(node.inputs[i]));
        // The operand's dims are those of its source in the order batch, position, head.
        *own = if heads.sources[i].is_some() {
            let steps = row_major(cx.shape(operands[i]));
            [steps[0], steps[2], steps[1]]
        } else {
            let steps = row_major(cx.shape(operands[i]));
            [steps[0], steps[1], steps[2]]
        };
    }
    let mask = match node.inputs.get(3) {
        Some(&mask) => {
            let full = [q[0], q[1], q[2], k[2]];
            let steps = broadcast_strides(cx.shape(mask), &full)?;
            // The kernel reads a key's neighbors side by side.
            if steps[3] != 1 && k[2] != 1 {
                return None;
            }
            operands.push(mask);
            Some([steps[0], steps[1], steps[2]])
        }
        None => None,
    };
    let result = if heads.joined.is_some() {
        [
            shape.queries * shape.heads * shape.value_size,
            shape.value_size,
            shape.heads * shape.value_size,
        ]
    } else {
        [
            shape.heads * shape.queries * shape.value_size,
            shape.queries * shape.value_size,
            shape.value_size,
        ]
    };
    let prepared = kernel::Attention::new(cx.shared.simd, cx.threads(), shape);
    let detail = format!(
        "{}×{} heads, {}×{} scores{}",
        shape.batch,
        shape.heads,
        shape.queries,
        shape.keys,
        if heads.joined.is_some() || heads.sources.iter().any(Option::is_some) {
            ", transposes absorbed"
        } else {
            ""
        }
    );
    Some(Lowered {
        detail,
        scratch: prepared.scratch_len() * 4,
        ..Lowered::new("attention", AttentionKernel { prepared, strides, mask, result }, &operands)
    })
}

struct AttentionKernel {
    prepared: kernel::Attention,
    strides: [[usize; 3]; 3],
    mask: Option<[usize; 3]>,
    result: [usize; 3],
}

impl Kernel for AttentionKernel {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let heads = |i: usize| kernel::Heads { data: io.operand(i), strides: self.strides[i] };
        let mask = self.mask.map(|strides| kernel::Mask { data: io.operand(3), strides });
        self.prepared.run(
            (heads(0), heads(1), heads(2)),
            mask,
            (io.result(0), self.result),
            io.scratch(),
            io.pool,
        );
        Ok(())
    }
}
