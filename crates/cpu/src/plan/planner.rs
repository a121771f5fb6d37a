//! Making a plan: what each node of a specialized graph becomes.

use std::sync::Arc;

use anychip_ir::{Definition, Graph, Node, Prim, ValueId, Work};
use anychip_passes::specialize::{Binding, size_operands, specialize};
use anychip_target::RunError;

use super::{Cost, Plan};
use crate::control;
use crate::executable::Shared;
use crate::fusion::{Group, Groups, Turn};
use crate::lower::{self, Cx, Lowered};
use crate::memory::Temporary;
use crate::step::{Barrier, Kernel};

/// A step of at most this many operations and bytes takes some ten microseconds on one thread: what handing it out to others
/// and waiting for them costs is no small part of that.
const SHORT_OPERATIONS: f64 = 5e5;
const SHORT_BYTES: f64 = 128e3;

/// Where a value is, while a plan is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Home {
    Nowhere,
    Constant,
    Input(usize),
    /// A temporary.
    Own(usize),
    /// A heap tensor.
    Heap(usize),
    /// The same bytes as part of another value that is no view itself.
    View(ValueId, usize),
    /// An output of the rest, or inside it.
    Rest,
}

/// A step while lifetimes are not known yet.
pub(super) struct Draft {
    pub(super) name: Arc<str>,
    pub(super) cost: Cost,
    /// Whether it is not worth splitting among threads.
    pub(super) short: bool,
    pub(super) kernel: Option<Box<dyn Kernel>>,
    pub(super) barrier: Option<Box<dyn Barrier>>,
    pub(super) operands: Vec<ValueId>,
    pub(super) results: Vec<ValueId>,
    pub(super) scratch: usize,
    pub(super) in_place: Vec<usize>,
}

pub(super) struct Planner<'a> {
    pub(super) cx: Cx<'a>,
    pub(super) homes: Vec<Home>,
    pub(super) drafts: Vec<Draft>,
    pub(super) temporaries: Vec<Temporary>,
    /// Which value each temporary was made for.
    pub(super) made_for: Vec<ValueId>,
    pub(super) heap: usize,
    pub(super) lines: Vec<String>,
    pub(super) rest: Vec<&'a Node>,
    /// What each node costs, where its sizes are known; empty where nobody asks.
    works: Vec<Option<Work>>,
}

impl Planner<'_> {
    /// Makes the plan of a graph at the given shapes.
    pub(super) fn plan(
        graph: &Graph,
        bindings: &[Binding],
        shared: &Arc<Shared>,
    ) -> Result<Plan, RunError> {
        let graph = specialize(graph, bindings)?;
        // Whoever looked at a constant so far has mapped the pages around it too.
        release_pages(&graph);
        let shapes: Vec<Option<Vec<usize>>> =
            graph.values().map(|v| graph.ty(v).fixed_shape()).collect();
        let cx = Cx { graph: &graph, shared, shapes: &shapes };
        let mut planner = Planner {
            homes: vec![Home::Nowhere; graph.value_count()],
            drafts: Vec::new(),
            temporaries: Vec::new(),
            made_for: Vec::new(),
            heap: 0,
            lines: Vec::new(),
            rest: Vec::new(),
            works: if shared.layers || cx.threads() > 1 {
                anychip_ir::each_node_work(&graph).map(Result::ok).collect()
            } else {
                Vec::new()
            },
            cx,
        };
        for (i, &v) in graph.inputs().iter().enumerate() {
            planner.homes[v.index()] = Home::Input(i);
        }
        let live = live_nodes(&graph);
        let groups = Groups::form(&cx, &live);
        for (id, node) in graph.iter().filter(|(id, _)| live[id.index()]) {
            let added = match groups.turn(id) {
                Turn::Alone => planner.add(node, shared),
                Turn::Group(group) => planner.add_group(group, shared),
                Turn::Absorbed => Ok(()),
            };
            added.map_err(|error| at(error, node))?;
        }
        let plan = planner.finish(shared);
        // Weights have been packed and small constants copied: what runs still read of the file comes back as they do.
        release_pages(&graph);
        plan
    }
}

/// Gives the pages of files that hold the graph's constants back to the system.
fn release_pages(graph: &Graph) {
    for node in graph.nodes() {
        if let Some(Prim::Constant(tensor)) = node.op.prim() {
            anychip_tensor::release_mapped(tensor.bytes());
        }
    }
}

/// `error` with the node's name, or its operator's where it has none.
fn at(error: RunError, node: &Node) -> RunError {
    match error {
        RunError::Graph(error) => RunError::Graph(error.at(node.label())),
        other => other,
    }
}

/// The nodes that outputs depend on.
fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.nodes().len()];
    let mut wanted = vec![false; graph.value_count()];
    graph.outputs().iter().for_each(|v| wanted[v.index()] = true);
    for (id, node) in graph.iter().collect::<Vec<_>>().into_iter().rev() {
        if node.outputs.iter().any(|v| wanted[v.index()]) {
            live[id.index()] = true;
            node.inputs.iter().for_each(|v| wanted[v.index()] = true);
        }
    }
    live
}

impl<'a> Planner<'a> {
    fn add(&mut self, node: &'a Node, shared: &Arc<Shared>) -> Result<(), RunError> {
        let in_rest = |v: &ValueId| {
            self.homes[v.index()] == Home::Rest || self.cx.shapes[v.index()].is_none()
        };
        let sized = node.outputs.iter().all(|v| self.cx.shapes[v.index()].is_some());
        let prim = node.op.prim();
        if matches!(prim, Some(Prim::Constant(_))) {
            self.homes[node.outputs[0].index()] = Home::Constant;
            return Ok(());
        }
        // Sizes that are still to be computed: what they size is planned when they are there.
        let waits = prim.is_some_and(|prim| {
            !sized
                && size_operands(prim)
                    .iter()
                    .any(|&i| self.cx.graph.constant(node.inputs[i]).is_none())
        });
        if waits || node.inputs.iter().any(in_rest) {
            node.outputs.iter().for_each(|v| self.homes[v.index()] = Home::Rest);
            self.rest.push(node);
            return Ok(());
        }
        if let Some(barrier) = control::lower(node, shared) {
            self.barrier(node, barrier, "nested plans");
            return Ok(());
        }
        if let Some(barrier) = lower::barrier(node, shared.simd) {
            self.barrier(node, barrier, node.op.name());
            return Ok(());
        }
        if sized {
            if let Some((source, offset)) = lower::view(&self.cx, node) {
                let (root, start) = match self.homes[source.index()] {
                    Home::View(root, start) => (root, start),
                    _ => (source, 0),
                };
                self.homes[node.outputs[0].index()] = Home::View(root, start + offset);
                self.line(node, "view", "");
                return Ok(());
            }
            if let Some(lowered) = lower::lower(&self.cx, node) {
                self.line(node, lowered.name, &lowered.detail);
                return self.step(&[node], node.name.clone(), lowered);
            }
        }
        match control::expanded(node, self.cx.graph, shared) {
            Some(barrier) => self.barrier(node, barrier, "expanded"),
            None => self.barrier(node, control::reference(node), "reference"),
        }
        Ok(())
    }

    /// A group as one step, or its operators one by one where no kernel does all of it.
    fn add_group(&mut self, group: &Group<'a>, shared: &Arc<Shared>) -> Result<(), RunError> {
        let nodes: Vec<&'a Node> = match group {
            Group::Chain(nodes) => nodes.clone(),
            Group::Tail(tail) => tail.nodes().collect(),
            Group::Expanded(first, second) => first.nodes().chain(second.nodes()).collect(),
            Group::Heads(heads) => {
                heads.split.iter().copied().chain([heads.attention]).chain(heads.joined).collect()
            }
        };
        let Some(lowered) = lower::lower_group(&self.cx, group) else {
            return nodes.into_iter().try_for_each(|node| self.add(node, shared));
        };
        let last = nodes[nodes.len() - 1];
        let named = match group {
            Group::Chain(_) => last,
            Group::Tail(tail) | Group::Expanded(tail, _) => tail.anchor,
            Group::Heads(heads) => heads.attention,
        };
        self.line(named, lowered.name, &lowered.detail);
        self.step(&nodes, named.name.clone(), lowered)
    }

    /// A kernel that makes the results of the last of `nodes`, which run as one.
    fn step(&mut self, nodes: &[&Node], name: Arc<str>, lowered: Lowered) -> Result<(), RunError> {
        let Some(node) = nodes.last() else { return Ok(()) };
        let cost = self.cost(nodes, lowered.name, &lowered.detail);
        let short = self.is_short(nodes);
        let step = self.drafts.len();
        for &v in &node.outputs {
            let bytes = self.bytes(v)?;
            self.homes[v.index()] = Home::Own(self.temporaries.len());
            self.temporaries.push(Temporary { bytes, first: step, last: step });
            self.made_for.push(v);
        }
        self.drafts.push(Draft {
            name,
            cost,
            short,
            kernel: Some(lowered.kernel),
            barrier: None,
            operands: lowered.operands,
            results: node.outputs.clone(),
            scratch: lowered.scratch,
            in_place: lowered.in_place,
        });
        Ok(())
    }

    fn barrier(&mut self, node: &Node, barrier: Box<dyn Barrier>, kernel: &str) {
        for &v in &node.outputs {
            self.homes[v.index()] = Home::Heap(self.heap);
            self.heap += 1;
        }
        self.line(node, kernel, "");
        let cost = self.cost(&[node], kernel, "");
        self.drafts.push(Draft {
            name: node.name.clone(),
            cost,
            short: false,
            kernel: None,
            barrier: Some(barrier),
            operands: node.inputs.clone(),
            results: node.outputs.clone(),
            scratch: 0,
            in_place: Vec::new(),
        });
    }

    /// Whether a step takes so little that it is not worth splitting, so that it may run beside others of its kind.
    fn is_short(&self, nodes: &[&Node]) -> bool {
        self.cx.threads() > 1
            && self.operations(nodes) <= SHORT_OPERATIONS
            && self.bytes_moved(nodes) <= SHORT_BYTES
    }

    fn operations(&self, nodes: &[&Node]) -> f64 {
        let work = |node: &&Node| match self.cx.graph.definition(*node.outputs.first()?) {
            Definition::Output(id, _) => {
                Some(self.works.get(id.index())?.as_ref()?.all_operations())
            }
            Definition::Input(_) => None,
        };
        nodes.iter().filter_map(work).sum()
    }

    /// Bytes that a step reads and writes, each value once, without those that never leave it.
    fn bytes_moved(&self, nodes: &[&Node]) -> f64 {
        let inside: Vec<ValueId> = nodes.iter().flat_map(|n| n.outputs.iter().copied()).collect();
        let mut outside: Vec<ValueId> = nodes
            .iter()
            .flat_map(|n| n.inputs.iter().copied())
            .filter(|v| !inside.contains(v))
            .chain(nodes.last().map(|n| n.outputs.clone()).unwrap_or_default())
            .collect();
        outside.sort_unstable();
        outside.dedup();
        outside.iter().map(|&v| self.bytes(v).unwrap_or(0) as f64).sum()
    }

    /// What a step costs; counted only when someone will ask.
    fn cost(&self, nodes: &[&Node], kernel: &str, detail: &str) -> Cost {
        if !self.cx.shared.layers {
            return Cost::default();
        }
        let (operations, bytes) = (self.operations(nodes), self.bytes_moved(nodes));
        let mut names: Vec<&str> = Vec::new();
        for node in nodes {
            if names.last() != Some(&node.op.name()) {
                names.push(node.op.name());
            }
        }
        let names = names.join("+");
        let mut text = if names == kernel { names } else { format!("{names}: {kernel}") };
        if !detail.is_empty() {
            text.push_str(&format!(" ({detail})"));
        }
        Cost { kernel: text, operations, bytes }
    }

    fn line(&mut self, node: &Node, kernel: &str, detail: &str) {
        let types: Vec<String> =
            node.outputs.iter().map(|&v| self.cx.graph.ty(v).to_string()).collect();
        let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
        self.lines.push(format!(
            "{}  {} -> {}: {kernel}{detail}",
            node.name,
            node.op.name(),
            types.join(", ")
        ));
    }

    /// Bytes of a value whose shape is known.
    pub(super) fn bytes(&self, v: ValueId) -> Result<usize, RunError> {
        let ty = self.cx.graph.ty(v);
        let shape = self.cx.shapes[v.index()].as_deref().unwrap_or_default();
        let elements = if shape.contains(&0) {
            Some(0)
        } else {
            shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
        };
        elements
            .and_then(|n| ty.dtype.bytes_for(n))
            .filter(|&n| n as u64 <= self.cx.shared.memory_limit)
            .ok_or_else(|| RunError::Memory {
                node: match self.cx.graph.producer(v) {
                    Some(node) => format!("{} ({ty})", node.label()),
                    None => ty.to_string(),
                },
                needed: elements.map_or(u64::MAX, |n| {
                    (n as u64).saturating_mul(ty.dtype.storage_bits() as u64) / 8
                }),
                limit: self.cx.shared.memory_limit,
            })
    }

    /// The value whose memory `v` lies in, and where in it.
    pub(super) fn root(&self, v: ValueId) -> (ValueId, usize) {
        match self.homes[v.index()] {
            Home::View(root, offset) => (root, offset),
            _ => (v, 0),
        }
    }

    pub(super) fn own(&self, v: ValueId) -> Option<usize> {
        match self.homes[self.root(v).0.index()] {
            Home::Own(temporary) => Some(temporary),
            _ => None,
        }
    }
}
