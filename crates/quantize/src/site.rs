//! The layers that run on integers: convolutions and products with constant weights.

use std::collections::BTreeMap;

use anychip_ir::{Binary, Graph, Node, NodeId, Op, Prim, ValueId};
use anychip_tensor::DType;

/// Which kind of layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `[n, c, …] * [m, c/groups, …]`
    Convolution,
    /// Rows by a matrix, which is `[k, n]` unless `transposed`, then `[n, k]`.
    Dot {
        /// The contracted dim of the weights is their last.
        transposed: bool,
    },
}

/// What is added to a layer's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bias {
    /// The addition.
    pub node: NodeId,
    /// The constant.
    pub value: ValueId,
}

/// A layer with constant weights.
#[derive(Debug, Clone)]
pub struct Site {
    /// The convolution or product.
    pub node: NodeId,
    /// What a person calls it; no two sites of a graph are called the same.
    pub name: String,
    /// Which kind of layer.
    pub kind: Kind,
    /// What it multiplies.
    pub input: ValueId,
    /// The constant it multiplies by.
    pub weight: ValueId,
    /// What alone is done with its result, where that is adding a number to each channel.
    pub bias: Option<Bias>,
    /// Its result, bias included.
    pub result: ValueId,
}

/// The layers of a graph with constant `f32` weights, in order; not those in the bodies of loops and branches.
pub fn sites(graph: &Graph) -> Vec<Site> {
    let users = graph.users();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (id, node) in graph.iter() {
        let Some(kind) = kind(graph, node) else { continue };
        let bias = bias(graph, &users, node, kind);
        let label = match node.label() {
            label if label == node.op.name() => {
                // Nodes of exporters that drop names: the weight has one more often.
                graph.value_name(node.inputs[1]).unwrap_or(label)
            }
            label => label,
        };
        let count = names.entry(label.to_string()).or_default();
        *count += 1;
        let name = if *count == 1 { label.to_string() } else { format!("{label}#{count}") };
        let result = bias.map_or(node.outputs[0], |b| graph.node(b.node).outputs[0]);
        let (input, weight) = (node.inputs[0], node.inputs[1]);
        found.push(Site { node: id, name, kind, input, weight, bias, result });
    }
    found
}

fn kind(graph: &Graph, node: &Node) -> Option<Kind> {
    let Op::Prim(prim) = &node.op else { return None };
    let floats = |node: &Node| node.inputs.iter().all(|&v| graph.ty(v).dtype == DType::F32);
    if let Prim::Convolution(dims, DType::F32) = prim {
        let weight = graph.constant(node.inputs[1])?;
        let plain = dims.input_dilation.iter().all(|&d| d == 1);
        return (floats(node) && plain && !weight.is_empty()).then_some(Kind::Convolution);
    }
    let Prim::DotGeneral(dims, DType::F32) = prim else { return None };
    let weight = graph.constant(node.inputs[1])?;
    let last = graph.ty(node.inputs[0]).rank().checked_sub(1)?;
    let rows = dims.lhs_batch.is_empty() && dims.lhs_contract == [last];
    let matrix = weight.rank() == 2 && dims.rhs_contract.len() == 1;
    (floats(node) && rows && matrix && !weight.is_empty())
        .then(|| Kind::Dot { transposed: dims.rhs_contract == [1] })
}

/// Where a layer's channels lie on its result.
pub(crate) fn channel_dim(graph: &Graph, node: &Node, kind: Kind) -> usize {
    match kind {
        Kind::Convolution => 1,
        Kind::Dot { .. } => graph.ty(node.outputs[0]).rank() - 1,
    }
}

fn bias(graph: &Graph, users: &[Vec<NodeId>], node: &Node, kind: Kind) -> Option<Bias> {
    let result = node.outputs[0];
    let [user] = users[result.index()][..] else { return None };
    if graph.outputs().contains(&result) {
        return None;
    }
    let add = graph.node(user);
    if !matches!(add.op, Op::Prim(Prim::Binary(Binary::Add))) {
        return None;
    }
    let value = if add.inputs[0] == result { add.inputs[1] } else { add.inputs[0] };
    let constant = graph.constant(value)?;
    let same = graph.ty(add.outputs[0]) == graph.ty(result);
    let rank = graph.ty(result).rank();
    let from_end = rank - channel_dim(graph, node, kind);
    let channels = graph.ty(result).shape[rank - from_end].fixed()?;
    let place = constant.rank().checked_sub(from_end);
    let only = constant.shape().iter().enumerate().all(|(i, &n)| Some(i) == place || n == 1);
    (same && only && constant.len() == channels).then_some(Bias { node: user, value })
}
