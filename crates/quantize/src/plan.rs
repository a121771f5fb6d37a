//! Where integers go: which values get a grid, which of them share one, and which operands read them.
//!
//! Inputs of layers do. From there grids spread against the flow of data as far as integer kernels of other runtimes
//! reach: through what only moves or picks elements (which shares the grid, so that nothing is rounded twice), to both
//! operands of a sum of branches, to what an average is taken of. They stop where a layer would not be the source:
//! normalization, attention and activations other than clips stay in floats.

use std::collections::{BTreeMap, BTreeSet};

use anychip_ir::{Binary, Graph, Node, NodeId, Op, Prim, ReduceKind, ValueId};
use anychip_ops::AveragePool;
use anychip_tensor::DType;

use crate::Site;

/// Values with a grid and the operands that read them on it.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The group of each value with a grid; values of one group share it.
    groups: BTreeMap<ValueId, ValueId>,
    uses: BTreeSet<(NodeId, usize)>,
}

impl Plan {
    /// The plan for running `chosen` layers of a graph on integers.
    pub fn new(graph: &Graph, chosen: &[&Site]) -> Plan {
        let mut planner = Planner {
            graph,
            results: chosen.iter().map(|s| s.result).collect(),
            sources: BTreeMap::new(),
            plan: Plan::default(),
        };
        for site in chosen {
            planner.plan.uses.insert((site.node, 0));
            planner.quantize(site.input, None);
        }
        planner.plan
    }

    /// Values with a grid, ascending.
    pub fn values(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.groups.keys().copied()
    }

    /// The value whose grid a value has.
    pub fn group(&self, value: ValueId) -> Option<ValueId> {
        let mut at = *self.groups.get(&value)?;
        while self.groups[&at] != at {
            at = self.groups[&at];
        }
        Some(at)
    }

    /// Whether the node reads its operand on the grid.
    pub fn reads(&self, node: NodeId, operand: usize) -> bool {
        self.uses.contains(&(node, operand))
    }

    fn join(&mut self, a: ValueId, b: ValueId) {
        if let (Some(a), Some(b)) = (self.group(a), self.group(b)) {
            self.groups.insert(a.max(b), a.min(b));
        }
    }
}

struct Planner<'g> {
    graph: &'g Graph,
    results: BTreeSet<ValueId>,
    sources: BTreeMap<ValueId, bool>,
    plan: Plan,
}

impl<'g> Planner<'g> {
    /// Gives a value a grid, that of `like` where there is one, and spreads it.
    fn quantize(&mut self, value: ValueId, like: Option<ValueId>) {
        if self.graph.ty(value).dtype != DType::F32 || self.graph.constant(value).is_some() {
            return;
        }
        let known = self.plan.groups.contains_key(&value);
        self.plan.groups.entry(value).or_insert(value);
        if let Some(like) = like {
            self.plan.join(value, like);
        }
        if known {
            return;
        }
        self.spread(value);
    }

    fn spread(&mut self, value: ValueId) {
        let Some((id, node)) = self.producer(value) else { return };
        if let Some(inner) = moved(node) {
            if self.is_source(inner) {
                self.plan.uses.insert((id, 0));
                self.quantize(inner, Some(value));
            }
        } else if let Op::Prim(Prim::Concat { .. }) = node.op {
            if self.is_source(value) {
                for (i, &input) in node.inputs.iter().enumerate() {
                    self.plan.uses.insert((id, i));
                    self.quantize(input, Some(value));
                }
            }
        } else if let Some((reader, x)) = self.averaged(id, node) {
            if self.is_source(x) {
                self.plan.uses.insert((reader, 0));
                self.quantize(x, None);
            }
        } else if let Some((id, node)) = self.producer(self.before_clips(value))
            && self.is_sum_of_branches(node)
            && node.inputs.iter().any(|&v| self.is_source(v))
        {
            for (i, &input) in node.inputs.iter().enumerate() {
                self.plan.uses.insert((id, i));
                self.quantize(input, None);
            }
        }
    }

    /// The value before `max` and `min` with constants.
    fn before_clips(&self, value: ValueId) -> ValueId {
        let mut at = value;
        while let Some((_, node)) = self.producer(at)
            && let Some(inner) = self.clipped(node)
        {
            at = inner;
        }
        at
    }

    fn clipped(&self, node: &Node) -> Option<ValueId> {
        let Op::Prim(Prim::Binary(Binary::Max | Binary::Min)) = node.op else { return None };
        let constant = |v: ValueId| self.graph.constant(v).is_some();
        let (x, limit) = (node.inputs[0], node.inputs[1]);
        let x = if constant(limit) { x } else { constant(x).then_some(limit)? };
        (self.graph.ty(x) == self.graph.ty(node.outputs[0])).then_some(x)
    }

    fn is_sum_of_branches(&self, node: &Node) -> bool {
        matches!(node.op, Op::Prim(Prim::Binary(Binary::Add)))
            && node.inputs.iter().all(|&v| {
                self.graph.constant(v).is_none()
                    && self.graph.ty(v) == self.graph.ty(node.outputs[0])
            })
    }

    /// The node that reads what an average is taken of, and that value.
    fn averaged(&self, id: NodeId, node: &Node) -> Option<(NodeId, ValueId)> {
        if node.op.composite::<AveragePool>().is_some() {
            return Some((id, node.inputs[0]));
        }
        // sum(x) / count or sum(x) · 1/count, perhaps with a reshape between.
        let Op::Prim(Prim::Binary(Binary::Div | Binary::Mul)) = node.op else { return None };
        self.graph.constant(node.inputs[1]).filter(|t| t.len() == 1)?;
        let (mut id, mut node) = self.producer(node.inputs[0])?;
        if matches!(node.op, Op::Prim(Prim::Reshape)) {
            (id, node) = self.producer(node.inputs[0])?;
        }
        matches!(
            node.op,
            Op::Prim(
                Prim::Reduce { kind: ReduceKind::Sum, .. }
                    | Prim::ReduceWindow { kind: ReduceKind::Sum, .. }
            )
        )
        .then(|| (id, node.inputs[0]))
    }

    /// Whether a layer on integers makes the value, itself or before what its kernel can do to it on the way.
    fn is_source(&mut self, value: ValueId) -> bool {
        if let Some(&known) = self.sources.get(&value) {
            return known;
        }
        let answer = self.results.contains(&value) || self.passes_on(value);
        self.sources.insert(value, answer);
        answer
    }

    fn passes_on(&mut self, value: ValueId) -> bool {
        let Some((id, node)) = self.producer(value) else { return false };
        if let Some(inner) = moved(node).or_else(|| self.clipped(node)) {
            return self.is_source(inner);
        }
        if let Some((_, x)) = self.averaged(id, node) {
            return self.is_source(x);
        }
        let sum = self.is_sum_of_branches(node);
        (sum || matches!(node.op, Op::Prim(Prim::Concat { .. })))
            && node.inputs.iter().any(|&v| self.is_source(v))
    }

    fn producer(&self, value: ValueId) -> Option<(NodeId, &'g Node)> {
        let graph: &'g Graph = self.graph;
        match graph.definition(value) {
            anychip_ir::Definition::Input(_) => None,
            anychip_ir::Definition::Output(id, _) => Some((id, graph.node(id))),
        }
    }
}

/// The operand whose elements a node moves or picks without changing any.
fn moved(node: &Node) -> Option<ValueId> {
    match &node.op {
        Op::Prim(
            Prim::Reshape
            | Prim::Transpose { .. }
            | Prim::Slice { .. }
            | Prim::ReduceWindow { kind: ReduceKind::Max, .. },
        ) => node.inputs.first().copied(),
        _ => None,
    }
}
