//! Which nodes one kernel can do together: a side table, the graph stays as it is.
//!
//! Every node but constants is in exactly one [`Group`]. The rules:
//!
//! - A **convolution or dot product** takes the elementwise nodes that follow it, for its write-back: as long as
//!   each result has the shape of the product, and each further operand is one number, a vector along the
//!   channels (dim 1 of a convolution, the last dim of a dot product), or of the full shape (a residual).
//! - **Elementwise** nodes of one shape that only feed each other join; operands may broadcast.
//! - All other nodes stand alone.
//! - Only the last value of a group leaves it, so a group runs where its last node stands: its operands
//!   are all there by then, and nobody asked for its result before.

use std::collections::{BTreeSet, BinaryHeap};

use anychip_ir::{Graph, Node, NodeId, Op, Prim, ValueId};
use anychip_tensor::Dim;

use crate::{Elementwise, Uses};

/// The most nodes of one group: what an interpreter of write-backs has registers for.
const LARGEST_GROUP: usize = 32;

/// How many nodes ahead a group looks for the one value in which its branches meet again.
const LONGEST_BRANCH: usize = 8;

/// What a group is led by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupKind {
    /// A convolution and its write-back.
    Convolution,
    /// A dot product and its write-back.
    Dot,
    /// Elementwise nodes alone.
    Elementwise,
    /// One node of any other kind.
    Single,
}

/// Nodes that one kernel does together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What leads it.
    pub kind: GroupKind,
    /// Its nodes in order; a convolution or dot product comes first.
    pub nodes: Vec<NodeId>,
    /// What it reads from outside, each value once, in the order of first use; constants included.
    pub inputs: Vec<ValueId>,
    /// What leaves it: the result of the last node, or all results of a single one.
    pub outputs: Vec<ValueId>,
}

/// How an operand varies over the elements of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// One number.
    Number,
    /// A vector along one dim of the result.
    Along(usize),
    /// An element for each element.
    Full,
    /// Any other broadcast.
    Broadcast,
}

/// The groups of one graph, in an order in which they can run.
#[derive(Debug, Clone)]
pub struct FusionGroups {
    groups: Vec<Group>,
    group_of: Vec<Option<usize>>,
}

impl FusionGroups {
    /// The groups in an order in which they can run.
    pub fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter()
    }

    /// The groups, in an order in which they can run.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The place in [`FusionGroups::groups`] of the group that a node is in; constants are in none.
    pub fn group_of(&self, node: NodeId) -> Option<usize> {
        self.group_of[node.index()]
    }
}

/// How `value` varies over the elements of a result of the given shape.
pub fn access(graph: &Graph, value: ValueId, shape: &[Dim]) -> Access {
    let own = &graph.ty(value).shape;
    if own == shape {
        // A shape of ones is read as a number only where the result is none.
        return Access::Full;
    }
    if own.len() > shape.len() {
        return Access::Broadcast;
    }
    let first = shape.len() - own.len();
    let mut varies =
        (0..own.len()).filter(|&i| own[i].fixed() != Some(1)).map(|i| (first + i, &own[i]));
    match (varies.next(), varies.next()) {
        (None, _) => Access::Number,
        (Some((dim, size)), None) if *size == shape[dim] => Access::Along(dim),
        _ => Access::Broadcast,
    }
}

/// Groups the nodes of a graph; regions are graphs of their own and have their own groups.
pub fn groups(graph: &Graph) -> FusionGroups {
    let uses = Uses::of(graph);
    let ids: Vec<NodeId> = graph.iter().map(|(id, _)| id).collect();
    let mut elementwise = Elementwise::default();
    let can_join: Vec<bool> = graph
        .nodes()
        .iter()
        .map(|n| n.outputs.len() == 1 && n.regions.is_empty() && elementwise.node(graph, n))
        .collect();
    let mut taken = vec![false; ids.len()];
    let mut groups = Vec::new();

    // The last products first: where two feed one sum, the later one takes it, as the other is there by then.
    for &id in ids.iter().rev() {
        let node = graph.node(id);
        let kind = match node.op.prim() {
            Some(Prim::Convolution(..)) => GroupKind::Convolution,
            Some(Prim::DotGeneral(..)) => GroupKind::Dot,
            _ => continue,
        };
        let nodes = write_back(graph, &uses, &can_join, &taken, id, kind);
        for member in &nodes {
            taken[member.index()] = true;
        }
        groups.push(group(graph, kind, nodes));
    }
    for &id in ids.iter().rev() {
        if taken[id.index()] || !can_join[id.index()] {
            continue;
        }
        let nodes = elementwise_group(graph, &uses, &can_join, &taken, &ids, id);
        for member in &nodes {
            taken[member.index()] = true;
        }
        groups.push(group(graph, GroupKind::Elementwise, nodes));
    }
    for &id in &ids {
        let constant = matches!(graph.node(id).op, Op::Prim(Prim::Constant(_)));
        if !taken[id.index()] && !constant {
            groups.push(group(graph, GroupKind::Single, vec![id]));
        }
    }

    groups.sort_by_key(|g| g.nodes.last().copied());
    let mut group_of = vec![None; ids.len()];
    for (i, group) in groups.iter().enumerate() {
        for member in &group.nodes {
            group_of[member.index()] = Some(i);
        }
    }
    FusionGroups { groups, group_of }
}

fn group(graph: &Graph, kind: GroupKind, nodes: Vec<NodeId>) -> Group {
    let own: BTreeSet<ValueId> =
        nodes.iter().flat_map(|&id| graph.node(id).outputs.iter().copied()).collect();
    let mut inputs = Vec::new();
    let mut seen = BTreeSet::new();
    for &id in &nodes {
        for &input in &graph.node(id).inputs {
            if !own.contains(&input) && seen.insert(input) {
                inputs.push(input);
            }
        }
    }
    let last = nodes.last().map(|&id| graph.node(id).outputs.clone());
    Group { kind, nodes, inputs, outputs: last.unwrap_or_default() }
}

/// A product and the elementwise nodes that its kernel does when it writes the result.
fn write_back(
    graph: &Graph,
    uses: &Uses,
    can_join: &[bool],
    taken: &[bool],
    root: NodeId,
    kind: GroupKind,
) -> Vec<NodeId> {
    let mut nodes = vec![root];
    let shape = &graph.ty(graph.node(root).outputs[0]).shape;
    let channel = match kind {
        GroupKind::Convolution => 1,
        GroupKind::Dot | GroupKind::Elementwise | GroupKind::Single => shape.len().max(1) - 1,
    };
    let joins = |id: NodeId, inside: &BTreeSet<ValueId>| {
        let node = graph.node(id);
        can_join[id.index()]
            && !taken[id.index()]
            && graph.ty(node.outputs[0]).shape == *shape
            && node.inputs.iter().all(|v| {
                inside.contains(v)
                    || match access(graph, *v, shape) {
                        Access::Number | Access::Full => true,
                        Access::Along(dim) => dim == channel,
                        Access::Broadcast => false,
                    }
            })
    };
    let mut inside: BTreeSet<ValueId> = BTreeSet::from([graph.node(root).outputs[0]]);
    while nodes.len() < LARGEST_GROUP {
        let last = graph.node(nodes[nodes.len() - 1]).outputs[0];
        let Some(more) = until_one_value(graph, uses, &inside, last, &joins) else { break };
        inside.extend(more.iter().map(|&id| graph.node(id).outputs[0]));
        nodes.extend(more);
    }
    nodes
}

/// The next nodes after `from`, up to where only the result of the last of them is used further on.
fn until_one_value(
    graph: &Graph,
    uses: &Uses,
    inside: &BTreeSet<ValueId>,
    from: ValueId,
    joins: &dyn Fn(NodeId, &BTreeSet<ValueId>) -> bool,
) -> Option<Vec<NodeId>> {
    let mut added: BTreeSet<NodeId> = BTreeSet::new();
    let mut inside = inside.clone();
    // Values of the group that something outside of it still reads.
    let mut open: BTreeSet<ValueId> = BTreeSet::from([from]);
    for _ in 0..LONGEST_BRANCH {
        if open.iter().any(|&v| uses.is_output(v)) {
            return None;
        }
        let next = open
            .iter()
            .flat_map(|&v| uses.users(v))
            .filter(|id| !added.contains(id))
            .min()
            .copied()?;
        if !joins(next, &inside) {
            return None;
        }
        added.insert(next);
        let result = graph.node(next).outputs[0];
        inside.insert(result);
        open.insert(result);
        open.retain(|&v| {
            uses.is_output(v) || uses.users(v).iter().any(|id| !added.contains(id)) || v == result
        });
        if open.len() == 1 && open.contains(&result) {
            return Some(added.into_iter().collect());
        }
    }
    None
}

/// The elementwise nodes that end in `last` and whose results nothing else reads.
fn elementwise_group(
    graph: &Graph,
    uses: &Uses,
    can_join: &[bool],
    taken: &[bool],
    ids: &[NodeId],
    last: NodeId,
) -> Vec<NodeId> {
    let shape = &graph.ty(graph.node(last).outputs[0]).shape;
    let mut members: BTreeSet<NodeId> = BTreeSet::from([last]);
    let mut candidates: BinaryHeap<usize> = BinaryHeap::new();
    let producers = |node: &Node, candidates: &mut BinaryHeap<usize>| {
        for &input in &node.inputs {
            if let anychip_ir::Definition::Output(id, _) = graph.definition(input) {
                candidates.push(id.index());
            }
        }
    };
    producers(graph.node(last), &mut candidates);
    // The latest first, so that all possible users of a value have been decided on before its producer.
    while let Some(index) = candidates.pop() {
        let id = ids[index];
        if members.len() >= LARGEST_GROUP {
            break;
        }
        if members.contains(&id) || taken[index] || !can_join[index] {
            continue;
        }
        let result = graph.node(id).outputs[0];
        let fits = graph.ty(result).shape == *shape
            && !uses.is_output(result)
            && uses.users(result).iter().all(|user| members.contains(user));
        if fits {
            members.insert(id);
            producers(graph.node(id), &mut candidates);
        }
    }
    members.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{Builder, ConvolutionDims, TensorType};
    use anychip_ops::Gelu;
    use anychip_tensor::{DType, Tensor};

    fn constant(b: &mut Builder, shape: &[usize]) -> ValueId {
        b.constant(Tensor::zeros(DType::F32, shape).unwrap())
    }

    fn convolution(b: &mut Builder, x: ValueId, channels: usize) -> ValueId {
        let w = constant(b, &[channels, channels, 1, 1]);
        let dims = ConvolutionDims {
            strides: vec![1, 1],
            padding: vec![(0, 0), (0, 0)],
            dilation: vec![1, 1],
            input_dilation: vec![1, 1],
            groups: 1,
        };
        b.prim(Prim::Convolution(dims, DType::F32), &[x, w]).unwrap()
    }

    fn names(graph: &Graph) -> Vec<(GroupKind, Vec<&'static str>)> {
        groups(graph)
            .iter()
            .map(|g| (g.kind, g.nodes.iter().map(|&id| graph.node(id).op.name()).collect()))
            .collect()
    }

    #[test]
    fn bias_hard_swish_and_residual_follow_a_convolution() {
        let mut b = Builder::new("g");
        let x = b
            .input("x", TensorType::new(DType::F32, [Dim::sym("n"), 8.into(), 4.into(), 4.into()]));
        let y = convolution(&mut b, x, 8);
        let bias = constant(&mut b, &[8, 1, 1]);
        let y = b.add(y, bias).unwrap();
        let shifted = b.offset(y, 3.0).unwrap();
        let (zero, six) = (b.scalar_like(x, 0.0).unwrap(), b.scalar_like(x, 6.0).unwrap());
        let low = b.max(shifted, zero).unwrap();
        let gate = b.min(low, six).unwrap();
        let y = b.mul(y, gate).unwrap();
        let y = b.add(y, x).unwrap();
        let y = convolution(&mut b, y, 8);
        let g = b.finish(&[y]);
        assert_eq!(
            names(&g),
            [
                (
                    GroupKind::Convolution,
                    vec!["convolution", "add", "add", "max", "min", "mul", "add"]
                ),
                (GroupKind::Convolution, vec!["convolution"]),
            ]
        );
    }

    #[test]
    fn the_later_of_two_products_takes_their_sum() {
        let mut b = Builder::new("g");
        let x = b.input("x", TensorType::new(DType::F32, [1usize, 8, 4, 4]));
        let left = convolution(&mut b, x, 8);
        let right = convolution(&mut b, x, 8);
        let sum = b.add(left, right).unwrap();
        let g = b.finish(&[sum]);
        assert_eq!(
            names(&g),
            [
                (GroupKind::Convolution, vec!["convolution"]),
                (GroupKind::Convolution, vec!["convolution", "add"]),
            ]
        );
    }

    #[test]
    fn a_value_that_is_returned_ends_its_group() {
        let mut b = Builder::new("g");
        let x = b.input("x", TensorType::new(DType::F32, [2usize, 8]));
        let w = constant(&mut b, &[8, 8]);
        let y = b.matmul(x, w, DType::F32).unwrap();
        let bias = constant(&mut b, &[8]);
        let y = b.add(y, bias).unwrap();
        let z = b.composite(Gelu { tanh: false }, &[y]).unwrap();
        let g = b.finish(&[y, z]);
        assert_eq!(
            names(&g),
            [(GroupKind::Dot, vec!["dot-general", "add"]), (GroupKind::Elementwise, vec!["gelu"]),]
        );
    }

    #[test]
    fn elementwise_trees_join() {
        let mut b = Builder::new("g");
        let x = b.input("x", TensorType::new(DType::F32, [2usize, 8]));
        let left = b.exp(x).unwrap();
        let right = b.tanh(x).unwrap();
        let row = constant(&mut b, &[8]);
        let right = b.mul(right, row).unwrap();
        let sum = b.add(left, right).unwrap();
        let total = b.reduce(anychip_ir::ReduceKind::Sum, sum, &[1], false).unwrap();
        let g = b.finish(&[total]);
        assert_eq!(
            names(&g),
            [
                (GroupKind::Elementwise, vec!["exp", "tanh", "mul", "add"]),
                (GroupKind::Single, vec!["reduce"]),
            ]
        );
        let groups = groups(&g);
        assert_eq!(groups.groups()[0].inputs, [x, row]);
        assert_eq!(groups.groups()[0].outputs, [sum]);
    }
}
