//! From an operator at known shapes to a prepared kernel: one file a kernel, one row an operator.

use std::borrow::Cow;
use std::ops::Range;

use anychip_ir::{Graph, Node, Op, Prim, ValueId};
use anychip_tensor::{DType, Tensor};

use crate::detect::Simd;
use crate::executable::Shared;
use crate::fusion::Group;
use crate::step::{Barrier, Kernel};

mod attention;
mod block_weights;
pub(crate) mod blocked;
mod convolution;
mod dot_general;
pub(crate) mod elementwise;
mod index;
mod movement;
mod non_max_suppression;
mod normalize;
mod quantized;
mod recurrent;
mod reduce;
mod resize;
mod tail;
mod typed;
mod view;
mod window;

pub(crate) use view::view;

/// What a lowering may look at: the graph at its shapes, and what the program shares.
#[derive(Clone, Copy)]
pub(crate) struct Cx<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) shared: &'a Shared,
    pub(crate) shapes: &'a [Option<Vec<usize>>],
}

impl<'a> Cx<'a> {
    /// The shape of a value that a step reads or writes: always known there.
    pub(crate) fn shape(&self, v: ValueId) -> &'a [usize] {
        self.shapes[v.index()].as_deref().expect("values of a step have known shapes")
    }

    /// Whether all shapes around a node are known.
    pub(crate) fn is_sized(&self, node: &Node) -> bool {
        node.inputs.iter().chain(&node.outputs).all(|v| self.shapes[v.index()].is_some())
    }

    pub(crate) fn len(&self, v: ValueId) -> usize {
        self.shape(v).iter().product()
    }

    pub(crate) fn dtype(&self, v: ValueId) -> DType {
        self.graph.ty(v).dtype
    }

    pub(crate) fn constant(&self, v: ValueId) -> Option<&'a Tensor> {
        self.graph.constant(v)
    }

    pub(crate) fn integers(&self, v: ValueId) -> Option<Vec<i64>> {
        self.graph.constant_integers(v)
    }

    pub(crate) fn threads(&self) -> usize {
        self.shared.pool.threads()
    }
}

/// A kernel prepared for one node.
pub(crate) struct Lowered {
    /// Its name, for `explain`.
    pub(crate) name: &'static str,
    /// What was chosen, for `explain`; may be empty.
    pub(crate) detail: String,
    pub(crate) kernel: Box<dyn Kernel>,
    /// The values it reads, in the order in which it counts them.
    pub(crate) operands: Vec<ValueId>,
    /// Bytes of scratch memory.
    pub(crate) scratch: usize,
    /// Operands (by position) whose memory its first result may take over.
    pub(crate) in_place: Vec<usize>,
}

impl Lowered {
    pub(crate) fn new(
        name: &'static str,
        kernel: impl Kernel + 'static,
        operands: &[ValueId],
    ) -> Lowered {
        Lowered {
            name,
            detail: String::new(),
            kernel: Box::new(kernel),
            operands: operands.to_vec(),
            scratch: 0,
            in_place: Vec::new(),
        }
    }
}

/// Prepares a kernel, or says that it has none for these types and shapes.
type Factory = fn(&Cx<'_>, &Node) -> Option<Lowered>;

/// The kernel for a node; `None` leaves it to the reference evaluator.
pub(crate) fn lower(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    match &node.op {
        Op::Prim(prim) => primitive(prim)?(cx, node),
        Op::Composite(_) => match row(node)?.make {
            Make::Kernel(factory) => factory(cx, node),
            Make::Barrier(_) => None,
        },
    }
}

/// The step of a composite whose results only a run can size; `None` for every other node.
pub(crate) fn barrier(node: &Node, simd: Simd) -> Option<Box<dyn Barrier>> {
    match row(node)?.make {
        Make::Kernel(_) => None,
        Make::Barrier(make) => make(node, simd),
    }
}

/// The kernel for a group; `None` when its operators must run one by one.
pub(crate) fn lower_group(cx: &Cx<'_>, group: &Group<'_>) -> Option<Lowered> {
    match group {
        Group::Chain(nodes) => elementwise::lower_chain(cx, nodes),
        Group::Heads(heads) => attention::lower_heads(cx, heads),
        Group::Expanded(first, second) => blocked::lower_expanded(cx, first, second),
        Group::Tail(tail) => match tail.anchor.op.prim() {
            None => blocked::lower_tail(cx, tail),
            Some(Prim::Convolution(..)) => convolution::lower_tail(cx, tail),
            Some(_) => dot_general::lower_tail(cx, tail),
        },
    }
}

/// A composite with a kernel of its own.
struct Row {
    name: &'static str,
    /// Whether the kernel does these element types and settings.
    claims: fn(&Node, &Graph) -> bool,
    make: Make,
}

#[derive(Clone, Copy)]
enum Make {
    /// Results have the shapes that the operands' shapes tell.
    Kernel(Factory),
    /// Only a run can size the results.
    Barrier(fn(&Node, Simd) -> Option<Box<dyn Barrier>>),
}

const fn kernel(name: &'static str, claims: fn(&Node, &Graph) -> bool, factory: Factory) -> Row {
    Row { name, claims, make: Make::Kernel(factory) }
}

const COMPOSITES: &[Row] = &[
    kernel("attention", attention::claims, attention::lower),
    kernel("block-weights-dot", block_weights::claims, block_weights::lower),
    kernel("blocked-convolution", floats, blocked::lower),
    kernel("blocked-pool", quantized::claims_pool, blocked::lower_pool),
    kernel("blocked-quantized-convolution", quantized::claims_weighted, quantized::lower_blocked),
    kernel("from-blocked", floats_or_codes, blocked::lower_from),
    kernel("to-blocked", floats_or_codes, blocked::lower_to),
    kernel("average-pool", floats, window::lower_average),
    kernel("gelu", floats, elementwise::lower),
    kernel("group-norm", floats, normalize::lower_group_norm),
    kernel("gru", recurrent::claims, recurrent::lower),
    kernel("layer-norm", floats, normalize::lower_layer_norm),
    kernel("log-softmax", floats, normalize::lower_softmax),
    kernel("lstm", recurrent::claims, recurrent::lower),
    Row {
        name: "non-max-suppression",
        claims: non_max_suppression::claims,
        make: Make::Barrier(non_max_suppression::lower),
    },
    kernel("quantized-add", quantized::claims_codes, quantized::lower_add),
    kernel("quantized-convolution", quantized::claims_weighted, quantized::lower_convolution),
    kernel("quantized-dot", quantized::claims_weighted, quantized::lower_dot),
    kernel("quantized-mean", quantized::claims_codes, quantized::lower_mean),
    kernel("resize", resize::claims, resize::lower),
    kernel("rms-norm", floats, normalize::lower_layer_norm),
    kernel("rnn", recurrent::claims, recurrent::lower),
    kernel("silu", floats, elementwise::lower),
    kernel("softmax", floats, normalize::lower_softmax),
];

fn row(node: &Node) -> Option<&'static Row> {
    COMPOSITES.iter().find(|row| row.name == node.op.name())
}

/// Whether all operands are `f32`.
fn floats(node: &Node, graph: &Graph) -> bool {
    node.inputs.iter().all(|&v| graph.ty(v).dtype == DType::F32)
}

/// Whether all operands are `f32`, or all 8-bit codes.
fn floats_or_codes(node: &Node, graph: &Graph) -> bool {
    floats(node, graph) || quantized::claims_codes(node, graph)
}

/// Whether a composite has a kernel for these element types and settings, so that it need not be expanded.
pub(crate) fn claims(node: &Node, graph: &Graph) -> bool {
    row(node).is_some_and(|row| (row.claims)(node, graph))
}

/// The kernel of each primitive.
fn primitive(prim: &Prim) -> Option<Factory> {
    Some(match prim {
        Prim::DotGeneral(..) => dot_general::lower,
        Prim::Convolution(..) => convolution::lower,
        Prim::Unary(_) | Prim::Binary(_) => {
            |cx, node| elementwise::lower(cx, node).or_else(|| typed::lower(cx, node))
        }
        Prim::Compare(_) | Prim::Select | Prim::Cast { .. } => typed::lower,
        Prim::Transpose { .. }
        | Prim::Broadcast
        | Prim::Slice { .. }
        | Prim::Concat { .. }
        | Prim::Pad => movement::lower,
        Prim::Reduce { .. } => reduce::lower,
        Prim::ArgReduce { .. } | Prim::Cumulative { .. } => reduce::lower_lines,
        Prim::ReduceWindow { .. } => window::lower_max,
        Prim::Take { .. }
        | Prim::TakeAlong { .. }
        | Prim::GatherNd { .. }
        | Prim::ScatterAlong { .. }
        | Prim::ScatterNd { .. } => index::lower,
        Prim::TopK { .. } => index::lower_top_k,
        Prim::Quantize { .. } | Prim::Dequantize { .. } => quantized::lower_affine,
        Prim::Iota => index::lower_iota,
        Prim::Constant(_)
        | Prim::Random { .. }
        | Prim::BitCast { .. }
        | Prim::ShapeOf
        | Prim::Reshape
        | Prim::NonZero
        | Prim::Requantize { .. }
        | Prim::If
        | Prim::Loop { .. } => return None,
    })
}

/// Bytes of a file's pages that packing may leave behind it.
const LEFT_BEHIND: usize = 4 << 20;

/// Reads runs of an `f32` constant: from where it lies if it is aligned there, else copied. The first run of each block gives
/// the pages of the file before it back, so that a large weight that is read in order, from one place or several, is never
/// there twice.
pub(crate) fn runs<'t>(tensor: &'t Tensor) -> impl Fn(Range<usize>) -> Cow<'t, [f32]> + Sync {
    move |run| {
        let (start, end) = (run.start * 4, run.end * 4);
        let before = start.saturating_sub(end - start);
        if start / LEFT_BEHIND != before / LEFT_BEHIND {
            // Pages that another thread still reads come back as it does.
            let first = start.saturating_sub(LEFT_BEHIND.max(end - start));
            anychip_tensor::release_mapped(&tensor.bytes()[first..start]);
        }
        let part = &tensor.bytes()[start..end];
        match bytemuck::try_cast_slice(part) {
            Ok(elements) => Cow::Borrowed(elements),
            Err(_) => Cow::Owned(bytemuck::allocation::pod_collect_to_vec(part)),
        }
    }
}
