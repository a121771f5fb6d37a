//! Which operators run as one kernel: a product or convolution with what follows it, and chains of elementwise
//! operators that need no result of theirs in memory.

use anychip_ir::{Binary, Compare, Graph, Node, NodeId, Prim, ValueId};
use anychip_tensor::DType;

use crate::blocked::BlockedConvolution;
use crate::kernel::activation::Activation;
use crate::kernel::broadcast::MAX_OPERANDS;
use crate::lower::Cx;
use crate::lower::blocked::expands;
use crate::lower::elementwise::{LONGEST_CHAIN, activation, is_step};

/// Operators that run as one kernel, at the place of the last of them.
pub(crate) enum Group<'a> {
    /// Elementwise operators in the order they run.
    Chain(Vec<&'a Node>),
    /// A product or convolution and what is done to each element as it is written.
    Tail(Tail<'a>),
    /// A convolution and the depthwise one that alone reads its result.
    Expanded(Tail<'a>, Tail<'a>),
    /// An attention with the transposes around it.
    Heads(Heads<'a>),
}

/// An attention and the transposes that its kernel reads and writes through.
pub(crate) struct Heads<'a> {
    pub(crate) attention: &'a Node,
    /// For queries, keys and values: what the absorbed transpose `[batch, position, head, element] →
    /// [batch, head, position, element]` reads.
    pub(crate) sources: [Option<ValueId>; 3],
    /// The absorbed transpose of the result, the same the other way.
    pub(crate) joined: Option<&'a Node>,
    /// The transposes absorbed from before.
    pub(crate) split: Vec<&'a Node>,
}

impl<'a> Heads<'a> {
    /// The attention alone.
    pub(crate) fn alone(attention: &'a Node) -> Heads<'a> {
        Heads { attention, sources: [None; 3], joined: None, split: Vec::new() }
    }
}

/// `activation(anchor + bias + residual)`
pub(crate) struct Tail<'a> {
    pub(crate) anchor: &'a Node,
    /// What follows the anchor, in the order it would run.
    pub(crate) absorbed: Vec<&'a Node>,
    /// One number a channel: the second dim of a convolution's result, the last of a product's.
    pub(crate) bias: Option<ValueId>,
    /// A value of the result's shape.
    pub(crate) residual: Option<ValueId>,
    pub(crate) activation: Activation,
}

impl<'a> Tail<'a> {
    /// The anchor alone.
    pub(crate) fn alone(anchor: &'a Node) -> Tail<'a> {
        Tail {
            anchor,
            absorbed: Vec::new(),
            bias: None,
            residual: None,
            activation: Activation::None,
        }
    }

    /// In the order they would run.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &'a Node> {
        std::iter::once(self.anchor).chain(self.absorbed.iter().copied())
    }

    /// What was absorbed, for `explain`.
    pub(crate) fn names(&self) -> String {
        let mut names = String::new();
        for node in &self.absorbed {
            names.push_str(" + ");
            names.push_str(node.op.name());
        }
        names
    }
}

/// What happens at a node.
pub(crate) enum Turn<'g, 'a> {
    /// It runs by itself.
    Alone,
    /// The group that it ends runs.
    Group(&'g Group<'a>),
    /// Nothing: a later node's group computes it.
    Absorbed,
}

/// The groups of a graph.
pub(crate) struct Groups<'a> {
    groups: Vec<(Group<'a>, NodeId)>,
    group_of: Vec<Option<usize>>,
}

impl<'a> Groups<'a> {
    pub(crate) fn turn(&self, id: NodeId) -> Turn<'_, 'a> {
        match self.group_of[id.index()].map(|g| &self.groups[g]) {
            None => Turn::Alone,
            Some((group, last)) if *last == id => Turn::Group(group),
            Some(_) => Turn::Absorbed,
        }
    }

    /// Forms the groups of the live nodes: tails first, then chains of what is left.
    pub(crate) fn form(cx: &Cx<'a>, live: &[bool]) -> Groups<'a> {
        let graph = cx.graph;
        let mut uses = Uses {
            graph,
            users: vec![Vec::new(); graph.value_count()],
            is_output: vec![false; graph.value_count()],
        };
        for (id, node) in graph.iter().filter(|(id, _)| live[id.index()]) {
            node.inputs.iter().for_each(|v| uses.users[v.index()].push(id));
        }
        graph.outputs().iter().for_each(|v| uses.is_output[v.index()] = true);
        let mut all = Groups { groups: Vec::new(), group_of: vec![None; graph.nodes().len()] };
        for (id, node) in graph.iter().filter(|(id, _)| live[id.index()]) {
            let is_anchor = matches!(
                node.op.prim(),
                Some(Prim::Convolution(_, DType::F32) | Prim::DotGeneral(_, DType::F32))
            ) || node.op.composite::<BlockedConvolution>().is_some();
            if is_anchor && cx.is_sized(node) && all.group_of[id.index()].is_none() {
                let (tail, ids) = follow(cx, &uses, &all, node);
                let result = tail.nodes().last().unwrap_or(node).outputs[0];
                if let Some((next_id, next)) = uses.only(result)
                    && next.inputs.first() == Some(&result)
                    && expands(cx, &tail, next)
                {
                    let (second, more) = follow(cx, &uses, &all, next);
                    let last = more.last().copied().unwrap_or(next_id);
                    let own = [id].into_iter().chain(ids).chain([next_id]).chain(more);
                    all.add(Group::Expanded(tail, second), own, last);
                } else if let Some(&last) = ids.last() {
                    all.add(
                        Group::Tail(tail),
                        std::iter::once(id).chain(ids.iter().copied()),
                        last,
                    );
                }
            }
        }
        for (id, node) in graph.iter().filter(|(id, _)| live[id.index()]) {
            if node.op.composite::<anychip_ops::Attention>().is_some() && cx.is_sized(node) {
                let (heads, ids) = surround(cx, &uses, id, node);
                if ids.len() > 1 {
                    let last = ids[ids.len() - 1];
                    all.add(Group::Heads(heads), ids.into_iter(), last);
                }
            }
        }
        let backwards: Vec<(NodeId, &Node)> =
            graph.iter().filter(|(id, _)| live[id.index()]).collect();
        for &(id, node) in backwards.iter().rev() {
            if all.group_of[id.index()].is_none() && cx.is_sized(node) && is_step(cx, node) {
                let ids = chain(cx, &uses, &all, id);
                if ids.len() > 1 {
                    let nodes = ids.iter().map(|&i| graph.node(i)).collect();
                    all.add(Group::Chain(nodes), ids.into_iter(), id);
                }
            }
        }
        all
    }

    fn add(&mut self, group: Group<'a>, ids: impl Iterator<Item = NodeId>, last: NodeId) {
        for id in ids {
            self.group_of[id.index()] = Some(self.groups.len());
        }
        self.groups.push((group, last));
    }
}

struct Uses<'a> {
    graph: &'a Graph,
    users: Vec<Vec<NodeId>>,
    is_output: Vec<bool>,
}

impl<'a> Uses<'a> {
    /// The users of a value that is no output.
    fn of(&self, v: ValueId) -> &[NodeId] {
        if self.is_output[v.index()] { &[] } else { &self.users[v.index()] }
    }

    /// The one node that uses a value, once.
    fn only(&self, v: ValueId) -> Option<(NodeId, &'a Node)> {
        match self.of(v) {
            &[id] => Some((id, self.graph.node(id))),
            _ => None,
        }
    }
}

/// Whether a node swaps the two middle ones of four dims.
fn swaps_heads(cx: &Cx<'_>, node: &Node) -> bool {
    cx.is_sized(node)
        && matches!(node.op.prim(), Some(Prim::Transpose { permutation }) if permutation == &[0, 2, 1, 3])
}

/// The transposes around an attention that nothing else uses.
fn surround<'a>(
    cx: &Cx<'a>,
    uses: &Uses<'a>,
    id: NodeId,
    node: &'a Node,
) -> (Heads<'a>, Vec<NodeId>) {
    let mut heads = Heads::alone(node);
    let mut ids = vec![id];
    for i in 0..3 {
        let v = node.inputs[i];
        if let anychip_ir::Definition::Output(producer, _) = uses.graph.definition(v)
            && let split = uses.graph.node(producer)
            && swaps_heads(cx, split)
            && !uses.of(v).is_empty()
            && uses.of(v).iter().all(|&user| user == id)
            && !node.inputs[3..].contains(&v)
        {
            heads.sources[i] = Some(split.inputs[0]);
            if !ids.contains(&producer) {
                ids.push(producer);
                heads.split.push(split);
            }
        }
    }
    if let Some((after, joined)) = uses.only(node.outputs[0])
        && swaps_heads(cx, joined)
    {
        heads.joined = Some(joined);
        ids.push(after);
    }
    ids.sort_unstable();
    (heads, ids)
}

/// What of the anchor's surroundings its kernel can do as it writes the result.
fn follow<'a>(
    cx: &Cx<'a>,
    uses: &Uses<'a>,
    taken: &Groups<'_>,
    anchor: &'a Node,
) -> (Tail<'a>, Vec<NodeId>) {
    let mut tail = Tail::alone(anchor);
    let mut ids = Vec::new();
    let mut v = anchor.outputs[0];
    let is_free = |id: NodeId| taken.group_of[id.index()].is_none();
    let shape = cx.shape(v);
    let channels: &[usize] = match anchor.op.prim() {
        None => &[1, 4],
        Some(Prim::Convolution(..)) => &[1],
        Some(_) => &[shape.len().saturating_sub(1)],
    };
    loop {
        if let Some((found, nodes, result)) = match_activation(cx, uses, v)
            && nodes.iter().all(|&id| is_free(id) && cx.is_sized(uses.graph.node(id)))
            && cx.shape(result) == shape
        {
            tail.activation = found;
            ids.extend(nodes);
            break;
        }
        let Some((id, node)) = uses.only(v) else { break };
        let (Some(Prim::Binary(Binary::Add)), &[a, b]) = (node.op.prim(), node.inputs.as_slice())
        else {
            break;
        };
        let other = if a == v { b } else { a };
        if other == v || !is_free(id) || !cx.is_sized(node) || cx.shape(node.outputs[0]) != shape {
            break;
        }
        if tail.bias.is_none()
            && tail.residual.is_none()
            && is_bias(cx.shape(other), shape, channels)
        {
            tail.bias = Some(other);
        } else if tail.residual.is_none() && cx.shape(other) == shape {
            tail.residual = Some(other);
        } else {
            break;
        }
        ids.push(id);
        v = node.outputs[0];
    }
    tail.absorbed = ids.iter().map(|&id| uses.graph.node(id)).collect();
    (tail, ids)
}

/// Whether a shape broadcasts to `shape` with one number a channel, channels being counted by the dims `channels`.
fn is_bias(own: &[usize], shape: &[usize], channels: &[usize]) -> bool {
    let skip = shape.len() - own.len();
    channels.iter().all(|&c| c >= skip && own.get(c - skip) == shape.get(c))
        && own.iter().enumerate().all(|(d, &n)| n == 1 || channels.contains(&(d + skip)))
}

/// The one number of a constant.
fn number(cx: &Cx<'_>, v: ValueId) -> Option<f32> {
    cx.constant(v).filter(|t| t.len() == 1)?.elements::<f32>().map(|e| e[0])
}

/// `node` as `op(v, number)`, in either order where `op` commutes.
fn with_number(cx: &Cx<'_>, node: &Node, op: Binary, v: ValueId) -> Option<f32> {
    let (Some(Prim::Binary(found)), &[a, b]) = (node.op.prim(), node.inputs.as_slice()) else {
        return None;
    };
    if *found != op {
        return None;
    }
    let commutes = matches!(op, Binary::Add | Binary::Mul | Binary::Max | Binary::Min);
    if a == v {
        number(cx, b)
    } else if b == v && commutes {
        number(cx, a)
    } else {
        None
    }
}

/// A found activation: what it is, its nodes in order, its result.
type Found = (Activation, Vec<NodeId>, ValueId);

/// An activation of `v` that is the only use of `v`.
fn match_activation(cx: &Cx<'_>, uses: &Uses<'_>, v: ValueId) -> Option<Found> {
    match *uses.of(v) {
        [id] => {
            let node = uses.graph.node(id);
            let result = node.outputs[0];
            if let Some(found) = activation(&node.op) {
                return Some((found, vec![id], result));
            }
            match_clamp(cx, uses, v, id).or_else(|| {
                let (alpha, beta, nodes, result) = match_gate(cx, uses, v, id)?;
                Some((Activation::HardSigmoid { alpha, beta }, nodes, result))
            })
        }
        [first, second] => {
            let (gate_first, last) = (uses.graph.node(first), uses.graph.node(second));
            // x · sigmoid(x)
            if activation(&gate_first.op) == Some(Activation::Sigmoid)
                && is_product(last, v, gate_first.outputs[0])
            {
                let only = uses.only(gate_first.outputs[0])?.0 == second;
                return only.then(|| (Activation::Silu, vec![first, second], last.outputs[0]));
            }
            // x · min(max(x/6 + ½, 0), 1)
            let (alpha, beta, mut nodes, gate) = match_gate(cx, uses, v, first)?;
            let is_swish = (alpha - 1.0 / 6.0).abs() < 1e-6 && (beta - 0.5).abs() < 1e-6;
            let product = uses.only(gate)?.0 == second && is_product(last, v, gate);
            nodes.push(second);
            (is_swish && product).then(|| (Activation::HardSwish, nodes, last.outputs[0]))
        }
        [first, second, third] => {
            // x < 0 ? slope·x : x
            let ids = [first, second, third];
            let find =
                |f: &dyn Fn(&Node) -> bool| ids.into_iter().find(|&id| f(uses.graph.node(id)));
            let below = find(&|n| {
                matches!(n.op.prim(), Some(Prim::Compare(Compare::Lt)))
                    && n.inputs[0] == v
                    && number(cx, n.inputs[1]) == Some(0.0)
            })?;
            let scaled = find(&|n| with_number(cx, n, Binary::Mul, v).is_some())?;
            let choice = find(&|n| {
                matches!(n.op.prim(), Some(Prim::Select))
                    && n.inputs
                        == [
                            uses.graph.node(below).outputs[0],
                            uses.graph.node(scaled).outputs[0],
                            v,
                        ]
            })?;
            let slope = with_number(cx, uses.graph.node(scaled), Binary::Mul, v)?;
            let alone = [below, scaled]
                .into_iter()
                .all(|id| uses.only(uses.graph.node(id).outputs[0]).is_some());
            let mut nodes = vec![below, scaled, choice];
            nodes.sort_unstable();
            alone.then(|| {
                (Activation::LeakyRelu { slope }, nodes, uses.graph.node(choice).outputs[0])
            })
        }
        _ => None,
    }
}

fn is_product(node: &Node, a: ValueId, b: ValueId) -> bool {
    matches!(node.op.prim(), Some(Prim::Binary(Binary::Mul)))
        && (node.inputs == [a, b] || node.inputs == [b, a])
}

/// A maximum with a number, a minimum with one, or both.
fn match_clamp(cx: &Cx<'_>, uses: &Uses<'_>, v: ValueId, id: NodeId) -> Option<Found> {
    let node = uses.graph.node(id);
    let result = node.outputs[0];
    let next = uses.only(result);
    if let Some(low) = with_number(cx, node, Binary::Max, v) {
        if let Some((next_id, next)) = next
            && let Some(high) = with_number(cx, next, Binary::Min, result)
            && low <= high
        {
            return Some((Activation::Clip { low, high }, vec![id, next_id], next.outputs[0]));
        }
        let found = if low == 0.0 {
            Activation::Relu
        } else {
            Activation::Clip { low, high: f32::INFINITY }
        };
        return Some((found, vec![id], result));
    }
    let high = with_number(cx, node, Binary::Min, v)?;
    if let Some((next_id, next)) = next
        && let Some(low) = with_number(cx, next, Binary::Max, result)
        && low <= high
    {
        return Some((Activation::Clip { low, high }, vec![id, next_id], next.outputs[0]));
    }
    Some((Activation::Clip { low: f32::NEG_INFINITY, high }, vec![id], result))
}

/// `min(max(alpha·v + beta, 0), 1)` from `id` on, the clamp in either order; or all of it times a number, which makes it so.
fn match_gate(
    cx: &Cx<'_>,
    uses: &Uses<'_>,
    v: ValueId,
    id: NodeId,
) -> Option<(f32, f32, Vec<NodeId>, ValueId)> {
    let first = uses.graph.node(id);
    let mut nodes = vec![id];
    let (alpha, moved) = match with_number(cx, first, Binary::Mul, v) {
        Some(alpha) => {
            let (moved_id, moved) = uses.only(first.outputs[0])?;
            nodes.push(moved_id);
            (alpha, moved)
        }
        None => (1.0, first),
    };
    let of = if nodes.len() == 1 { v } else { first.outputs[0] };
    let beta = with_number(cx, moved, Binary::Add, of)?;
    let (clamp_id, _) = uses.only(moved.outputs[0])?;
    let (found, clamp, result) = match_clamp(cx, uses, moved.outputs[0], clamp_id)?;
    nodes.extend(clamp);
    match found {
        Activation::Clip { low: 0.0, high: 1.0 } => Some((alpha, beta, nodes, result)),
        Activation::Clip { low: 0.0, high } => {
            let (factor_id, scaled) = uses.only(result)?;
            let factor = with_number(cx, scaled, Binary::Mul, result)?;
            nodes.push(factor_id);
            let is_one = (factor * high - 1.0).abs() < 1e-6;
            is_one.then(|| (factor * alpha, factor * beta, nodes, scaled.outputs[0]))
        }
        _ => None,
    }
}

/// The operators that can join the elementwise operator `last`: all that is between them is used by them alone.
fn chain(cx: &Cx<'_>, uses: &Uses<'_>, taken: &Groups<'_>, last: NodeId) -> Vec<NodeId> {
    let graph = uses.graph;
    let shape = cx.shape(graph.node(last).outputs[0]);
    let mut members = vec![last];
    let mut inputs = outside(cx, graph, &members);
    loop {
        let joining = inputs.iter().find_map(|&v| {
            let anychip_ir::Definition::Output(id, _) = graph.definition(v) else { return None };
            let node = graph.node(id);
            let fits = taken.group_of[id.index()].is_none()
                && cx.is_sized(node)
                && cx.shape(v) == shape
                && is_step(cx, node)
                && !uses.of(v).is_empty()
                && uses.of(v).iter().all(|user| members.contains(user));
            if !fits {
                return None;
            }
            let mut with = members.clone();
            with.push(id);
            (outside(cx, graph, &with).len() <= MAX_OPERANDS).then_some(with)
        });
        match joining {
            Some(with) if with.len() <= LONGEST_CHAIN => {
                members = with;
                inputs = outside(cx, graph, &members);
            }
            _ => break,
        }
    }
    members.sort_unstable();
    members
}

/// The values that nodes read and do not make, numbers aside.
fn outside(cx: &Cx<'_>, graph: &Graph, members: &[NodeId]) -> Vec<ValueId> {
    let mut values = Vec::new();
    for &id in members {
        for &v in &graph.node(id).inputs {
            let inside = members.iter().any(|&m| graph.node(m).outputs.contains(&v));
            if !inside && !values.contains(&v) && number(cx, v).is_none() {
                values.push(v);
            }
        }
    }
    values
}
