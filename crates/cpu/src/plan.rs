//! A plan: one graph at one set of input shapes, as steps over planned memory.
//!
//! Making one: the graph is specialized to the shapes and folded; each live node becomes a view of a value that
//! is already there, a kernel prepared for its shapes, or a barrier (a step whose results only a run can size).
//! What depends on sizes that a barrier will tell is kept as a graph of its own, the *rest*, which is
//! planned in the same way when those sizes are there. Then lifetimes are known, and one arena holds all temporaries.

use std::sync::Arc;

use anychip_ir::{Builder, Definition, Graph, IrError, Node, Op, Prim, ValueId};
use anychip_target::RunError;
use anychip_tensor::{DType, Tensor, TensorError, TensorView};
use bytes::Bytes;

use crate::buffer::{ALIGNMENT, Buffer, Raw};
use crate::control;
use crate::executable::{Executable, Memories, Shared};
use crate::fusion::{Group, Groups, Turn};
use crate::lower::{self, Cx, Lowered};
use crate::memory::{self, Temporary};
use crate::specialize::{Binding, fixed, size_operands, specialize};
use crate::step::{Barrier, Io, Kernel, Location};

/// A graph ready to run at one set of shapes.
pub(crate) struct Plan {
    steps: Vec<Step>,
    input_bytes: Vec<usize>,
    arena_bytes: usize,
    output_bytes: Vec<usize>,
    heap: usize,
    constants: Vec<Tensor>,
    results: Vec<Source>,
    rest: Option<Rest>,
    /// A line a node, for `Program::explain`.
    pub(crate) lines: Vec<String>,
    /// The node that makes the largest temporary, for the error when memory does not suffice.
    largest: String,
}

struct Step {
    name: Arc<str>,
    action: Action,
    operands: Vec<Location>,
    results: Vec<Location>,
    scratch: Location,
}

enum Action {
    Kernel(Box<dyn Kernel>),
    Barrier { barrier: Box<dyn Barrier>, operands: Vec<Dressed>, results: Vec<HeapResult> },
}

/// An operand as a tensor; without a shape it is a heap tensor that brings its own.
struct Dressed {
    location: Location,
    dtype: DType,
    shape: Option<Vec<usize>>,
    slot: Option<usize>,
}

struct HeapResult {
    slot: usize,
    dtype: DType,
    shape: Option<Vec<usize>>,
}

/// Where an output of the graph comes from.
enum Source {
    /// A part of an output buffer.
    Buffer {
        buffer: usize,
        offset: usize,
        len: usize,
        dtype: DType,
        shape: Vec<usize>,
    },
    Constant(Tensor),
    /// Copied from memory that is not the run's own.
    Copied(Dressed),
    /// The n-th output of the rest.
    Rest(usize),
}

/// What is planned once earlier steps have told its sizes.
struct Rest {
    executable: Executable,
    inputs: Vec<Dressed>,
}

/// Where a value is, while a plan is made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Home {
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
struct Draft {
    name: Arc<str>,
    kernel: Option<Box<dyn Kernel>>,
    barrier: Option<Box<dyn Barrier>>,
    operands: Vec<ValueId>,
    results: Vec<ValueId>,
    scratch: usize,
    in_place: Vec<usize>,
}

struct Planner<'a> {
    cx: Cx<'a>,
    homes: Vec<Home>,
    drafts: Vec<Draft>,
    temporaries: Vec<Temporary>,
    /// Which value each temporary was made for.
    made_for: Vec<ValueId>,
    heap: usize,
    lines: Vec<String>,
    rest: Vec<&'a Node>,
}

impl Plan {
    pub(crate) fn new(
        graph: &Graph,
        bindings: &[Binding],
        shared: &Arc<Shared>,
    ) -> Result<Plan, RunError> {
        let graph = specialize(graph, bindings)?;
        let shapes: Vec<Option<Vec<usize>>> = graph.values().map(|v| fixed(graph.ty(v))).collect();
        let cx = Cx { graph: &graph, shared, shapes: &shapes };
        let mut planner = Planner {
            homes: vec![Home::Nowhere; graph.value_count()],
            drafts: Vec::new(),
            temporaries: Vec::new(),
            made_for: Vec::new(),
            heap: 0,
            lines: Vec::new(),
            rest: Vec::new(),
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
        planner.finish(shared)
    }

    /// Bytes that a run holds beside weights, inputs and what barriers return.
    pub(crate) fn peak_bytes(&self) -> u64 {
        (self.arena_bytes + self.output_bytes.iter().sum::<usize>()) as u64
    }

    /// Bytes of the arena.
    pub(crate) fn arena_bytes(&self) -> usize {
        self.arena_bytes
    }

    pub(crate) fn run(
        &self,
        inputs: &[TensorView<'_>],
        memories: &mut Memories,
        shared: &Shared,
    ) -> Result<Vec<Tensor>, RunError> {
        // An input that is not aligned for its elements is copied to where it is.
        let misaligned = |input: &TensorView<'_>| {
            input.data.as_ptr().align_offset((input.dtype.storage_bits() / 8).max(1)) != 0
        };
        let copies: Vec<Tensor> = if inputs.iter().any(misaligned) {
            inputs.iter().filter(|i| misaligned(i)).map(TensorView::to_tensor).collect()
        } else {
            Vec::new()
        };
        let mut copies_left = copies.iter();

        let arena = match memories.arena.take() {
            Some(arena) if arena.len() >= self.arena_bytes => arena,
            smaller => {
                drop(smaller);
                Buffer::new(self.arena_bytes).ok_or_else(|| self.too_large(shared))?
            }
        };
        memories.table.clear();
        memories.table.push(arena.raw());
        memories.arena = Some(arena);
        for (input, &expected) in inputs.iter().zip(&self.input_bytes) {
            if input.data.len() != expected {
                return Err(RunError::Graph(IrError::Tensor(TensorError::Length {
                    dtype: input.dtype,
                    shape: input.shape.to_vec(),
                    expected,
                    found: input.data.len(),
                })));
            }
            let raw = match misaligned(input).then(|| copies_left.next()).flatten() {
                Some(copy) => Raw::of(copy.bytes()),
                None => Raw::of(input.data),
            };
            memories.table.push(raw);
        }
        memories.outputs.clear();
        for &bytes in &self.output_bytes {
            let buffer = Buffer::new(bytes).ok_or_else(|| self.too_large(shared))?;
            memories.table.push(buffer.raw());
            memories.outputs.push(buffer);
        }
        let first_heap = memories.table.len();
        memories.heap.clear();
        memories.heap.resize(self.heap, None);
        memories.table.resize(first_heap + self.heap, Raw::EMPTY);
        memories.table.extend(self.constants.iter().map(|t| Raw::of(t.bytes())));

        for step in &self.steps {
            match &step.action {
                Action::Kernel(kernel) => {
                    let io = Io {
                        operands: &step.operands,
                        results: &step.results,
                        scratch: step.scratch,
                        memories: &memories.table,
                        pool: &shared.pool,
                        simd: shared.simd,
                    };
                    kernel.run(&io).map_err(|error| error.at(&step.name))?;
                }
                Action::Barrier { barrier, operands, results } => {
                    let tensors = {
                        let views: Vec<TensorView<'_>> =
                            operands.iter().map(|o| o.view(memories)).collect();
                        barrier.run(&views).map_err(|error| match error {
                            RunError::Graph(error) => RunError::Graph(error.at(&step.name)),
                            memory @ RunError::Memory { .. } => memory,
                        })?
                    };
                    for (result, tensor) in results.iter().zip(tensors) {
                        result.check(&tensor).map_err(|error| error.at(&step.name))?;
                        let size = (tensor.dtype().storage_bits() / 8).max(1);
                        let tensor = if tensor.bytes().as_ptr().align_offset(size) == 0 {
                            tensor
                        } else {
                            tensor.view().to_tensor()
                        };
                        memories.table[first_heap + result.slot] = Raw::of(tensor.bytes());
                        memories.heap[result.slot] = Some(tensor);
                    }
                }
            }
        }
        let rest = match &self.rest {
            Some(rest) => {
                let views: Vec<TensorView<'_>> =
                    rest.inputs.iter().map(|i| i.view(memories)).collect();
                rest.executable.run(&views)?.0
            }
            None => Vec::new(),
        };
        self.collect(memories, &rest)
    }

    fn collect(&self, memories: &mut Memories, rest: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let copied: Vec<Option<Tensor>> = self
            .results
            .iter()
            .map(|source| match source {
                Source::Copied(dressed) => {
                    Some(match dressed.slot.and_then(|slot| memories.heap[slot].clone()) {
                        Some(tensor)
                            if dressed.shape.as_ref().is_none_or(|s| s == tensor.shape()) =>
                        {
                            tensor
                        }
                        _ => dressed.view(memories).to_tensor(),
                    })
                }
                Source::Buffer { .. } | Source::Constant(_) | Source::Rest(_) => None,
            })
            .collect();
        let buffers: Vec<Bytes> = memories.outputs.drain(..).map(Bytes::from_owner).collect();
        self.results
            .iter()
            .zip(copied)
            .map(|(source, copied)| {
                Ok(match source {
                    Source::Buffer { buffer, offset, len, dtype, shape } => {
                        let bytes = buffers[*buffer].slice(*offset..offset + len);
                        Tensor::from_bytes(*dtype, shape.clone(), bytes).map_err(IrError::from)?
                    }
                    Source::Constant(tensor) => tensor.clone(),
                    Source::Copied(_) => copied.expect("made above for every copied result"),
                    Source::Rest(i) => rest[*i].clone(),
                })
            })
            .collect()
    }

    fn too_large(&self, shared: &Shared) -> RunError {
        RunError::Memory {
            node: self.largest.clone(),
            needed: self.peak_bytes(),
            limit: shared.memory_limit,
        }
    }
}

/// A node as the user knows it: its name, or its operator where it has none.
fn label(node: &Node) -> String {
    if node.name.is_empty() { node.op.name().to_string() } else { node.name.to_string() }
}

impl Dressed {
    #[allow(unsafe_code, reason = "a view of planned memory")]
    fn view<'m>(&'m self, memories: &'m Memories) -> TensorView<'m> {
        let raw = memories.table[self.location.memory];
        let shape = match (&self.shape, self.slot) {
            (Some(shape), _) => shape.as_slice(),
            (None, Some(slot)) => memories.heap[slot].as_ref().map_or(&[][..], Tensor::shape),
            (None, None) => &[],
        };
        let len = if self.shape.is_some() { self.location.len } else { raw.len };
        assert!(self.location.offset + len <= raw.len, "a plan addresses what its memories hold");
        // SAFETY: within a live memory, written before and not written while the view is used: barriers and the
        // rest write only memory of their own.
        let data = unsafe { std::slice::from_raw_parts(raw.start.add(self.location.offset), len) };
        TensorView { dtype: self.dtype, shape, data }
    }
}

impl HeapResult {
    fn check(&self, tensor: &Tensor) -> Result<(), IrError> {
        if tensor.dtype() == self.dtype && self.shape.as_ref().is_none_or(|s| s == tensor.shape()) {
            return Ok(());
        }
        Err(IrError::Input {
            name: "result".to_string(),
            found: anychip_ir::TensorType::of(tensor).to_string(),
            expected: anychip_ir::TensorType::new(
                self.dtype,
                self.shape.clone().unwrap_or_default(),
            )
            .to_string(),
        })
    }
}

/// `error` with the node's name, or its operator's where it has none.
fn at(error: RunError, node: &Node) -> RunError {
    let name: &str = if node.name.is_empty() { node.op.name() } else { &node.name };
    match error {
        RunError::Graph(error) => RunError::Graph(error.at(name)),
        memory @ RunError::Memory { .. } => memory,
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
                return self.step(node, lowered);
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
            Group::Tail(tail) => {
                std::iter::once(tail.anchor).chain(tail.absorbed.iter().copied()).collect()
            }
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
            Group::Tail(tail) => tail.anchor,
            Group::Heads(heads) => heads.attention,
        };
        self.line(named, lowered.name, &lowered.detail);
        self.step(last, lowered)
    }

    /// A kernel that makes the results of `node`.
    fn step(&mut self, node: &Node, lowered: Lowered) -> Result<(), RunError> {
        let step = self.drafts.len();
        for &v in &node.outputs {
            let bytes = self.bytes(v)?;
            self.homes[v.index()] = Home::Own(self.temporaries.len());
            self.temporaries.push(Temporary { bytes, first: step, last: step });
            self.made_for.push(v);
        }
        self.drafts.push(Draft {
            name: node.name.clone(),
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
        self.drafts.push(Draft {
            name: node.name.clone(),
            kernel: None,
            barrier: Some(barrier),
            operands: node.inputs.clone(),
            results: node.outputs.clone(),
            scratch: 0,
            in_place: Vec::new(),
        });
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
    fn bytes(&self, v: ValueId) -> Result<usize, RunError> {
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
                    Some(node) => format!("{} ({ty})", label(node)),
                    None => ty.to_string(),
                },
                needed: elements.map_or(u64::MAX, |n| {
                    (n as u64).saturating_mul(ty.dtype.storage_bits() as u64) / 8
                }),
                limit: self.cx.shared.memory_limit,
            })
    }

    /// The value whose memory `v` lies in, and where in it.
    fn root(&self, v: ValueId) -> (ValueId, usize) {
        match self.homes[v.index()] {
            Home::View(root, offset) => (root, offset),
            _ => (v, 0),
        }
    }

    fn own(&self, v: ValueId) -> Option<usize> {
        match self.homes[self.root(v).0.index()] {
            Home::Own(temporary) => Some(temporary),
            _ => None,
        }
    }

    fn finish(mut self, shared: &Arc<Shared>) -> Result<Plan, RunError> {
        let graph = self.cx.graph;
        let steps = self.drafts.len();
        let (rest_graph, rest_inputs, rest_outputs) = self.rest_graph()?;

        // Lifetimes.
        for (i, draft) in self.drafts.iter().enumerate() {
            for &v in &draft.operands {
                if let Some(t) = self.own(v) {
                    self.temporaries[t].last = i;
                }
            }
        }
        for &v in &rest_inputs {
            if let Some(t) = self.own(v) {
                self.temporaries[t].last = steps;
            }
        }
        // Temporaries that outputs lie in get buffers of their own, which leave with the outputs.
        let mut buffer_of: Vec<Option<usize>> = vec![None; self.temporaries.len()];
        let mut output_bytes = Vec::new();
        for &v in graph.outputs() {
            if let Some(t) = self.own(v)
                && buffer_of[t].is_none()
            {
                buffer_of[t] = Some(output_bytes.len());
                output_bytes.push(self.temporaries[t].bytes);
            }
        }
        let shares = self.share(&buffer_of);

        // The arena: temporaries with memory of their own, then each step's scratch.
        let mut in_arena = Vec::new();
        let mut slots: Vec<Option<usize>> = vec![None; self.temporaries.len()];
        for t in 0..self.temporaries.len() {
            if shares[t] == t && buffer_of[t].is_none() {
                slots[t] = Some(in_arena.len());
                in_arena.push(self.temporaries[t]);
            }
        }
        let first_scratch = in_arena.len();
        for (i, draft) in self.drafts.iter().enumerate() {
            in_arena.push(Temporary { bytes: draft.scratch, first: i, last: i });
        }
        let largest = (0..self.temporaries.len())
            .max_by_key(|&t| self.temporaries[t].bytes)
            .and_then(|t| graph.producer(self.made_for[t]))
            .map(label)
            .unwrap_or_default();
        let outputs_total = output_bytes.iter().fold(0usize, |a, &b| a.saturating_add(b));
        let (offsets, arena_bytes) = memory::place(&in_arena).unwrap_or((Vec::new(), usize::MAX));
        let needed = (arena_bytes as u64).saturating_add(outputs_total as u64);
        if needed > shared.memory_limit {
            return Err(RunError::Memory { node: largest, needed, limit: shared.memory_limit });
        }

        // Addresses.
        let mut table = Table {
            inputs: graph.inputs().len(),
            outputs: output_bytes.len(),
            heap: self.heap,
            constants: Vec::new(),
            constant_of: std::collections::BTreeMap::new(),
        };
        let drafts = std::mem::take(&mut self.drafts);
        let locate = |v: ValueId, table: &mut Table| -> Result<Location, RunError> {
            let (root, offset) = self.root(v);
            let len = if self.cx.shapes[v.index()].is_some() { self.bytes(v)? } else { 0 };
            let (memory, base) = match self.homes[root.index()] {
                Home::Own(t) => {
                    let t = shares[t];
                    match (buffer_of[t], slots[t]) {
                        (Some(buffer), _) => (table.output(buffer), 0),
                        (None, Some(slot)) => (0, offsets[slot]),
                        (None, None) => unreachable!("a temporary is in a buffer or in the arena"),
                    }
                }
                Home::Input(i) => (table.input(i), 0),
                Home::Heap(slot) => (table.heap_slot(slot), 0),
                Home::Constant => (table.constant(graph, root), 0),
                Home::Nowhere | Home::View(..) | Home::Rest => {
                    unreachable!("a step's operand has a place")
                }
            };
            Ok(Location { memory, offset: base + offset, len })
        };
        let dress = |v: ValueId, location: Location| Dressed {
            location,
            dtype: graph.ty(v).dtype,
            shape: self.cx.shapes[v.index()].clone(),
            slot: match self.homes[self.root(v).0.index()] {
                Home::Heap(slot) => Some(slot),
                _ => None,
            },
        };
        let mut finished = Vec::with_capacity(steps);
        for (i, draft) in drafts.into_iter().enumerate() {
            let operands = draft
                .operands
                .iter()
                .map(|&v| locate(v, &mut table))
                .collect::<Result<Vec<_>, _>>()?;
            let scratch =
                Location { memory: 0, offset: offsets[first_scratch + i], len: draft.scratch };
            let (action, operands, results) = match (draft.kernel, draft.barrier) {
                (Some(kernel), _) => {
                    let results = draft
                        .results
                        .iter()
                        .map(|&v| locate(v, &mut table))
                        .collect::<Result<Vec<_>, _>>()?;
                    (Action::Kernel(kernel), operands, results)
                }
                (None, Some(barrier)) => {
                    let dressed =
                        draft.operands.iter().zip(operands).map(|(&v, l)| dress(v, l)).collect();
                    let results = draft
                        .results
                        .iter()
                        .map(|&v| HeapResult {
                            slot: match self.homes[v.index()] {
                                Home::Heap(slot) => slot,
                                _ => unreachable!("a barrier's results are on the heap"),
                            },
                            dtype: graph.ty(v).dtype,
                            shape: self.cx.shapes[v.index()].clone(),
                        })
                        .collect();
                    (
                        Action::Barrier { barrier, operands: dressed, results },
                        Vec::new(),
                        Vec::new(),
                    )
                }
                (None, None) => unreachable!("a step has a kernel or is a barrier"),
            };
            finished.push(Step { name: draft.name, action, operands, results, scratch });
        }
        let rest = match rest_graph {
            Some(rest) => {
                let mut inputs = Vec::new();
                for &v in &rest_inputs {
                    inputs.push(dress(v, locate(v, &mut table)?));
                }
                Some(Rest { executable: Executable::nested(rest, Arc::clone(shared)), inputs })
            }
            None => None,
        };
        let mut results = Vec::new();
        for &v in graph.outputs() {
            let (root, offset) = self.root(v);
            results.push(match self.homes[root.index()] {
                Home::Own(t) => Source::Buffer {
                    buffer: buffer_of[t].expect("outputs got buffers above"),
                    offset,
                    len: self.bytes(v)?,
                    dtype: graph.ty(v).dtype,
                    shape: self.cx.shapes[v.index()].clone().unwrap_or_default(),
                },
                Home::Constant if root == v => {
                    Source::Constant(graph.constant(v).cloned().expect("a constant"))
                }
                Home::Input(_) | Home::Heap(_) | Home::Constant => {
                    Source::Copied(dress(v, locate(v, &mut table)?))
                }
                Home::Rest => Source::Rest(
                    rest_outputs.iter().position(|&r| r == v).expect("the rest gives its outputs"),
                ),
                Home::Nowhere | Home::View(..) => unreachable!("an output has a place"),
            });
        }
        let input_bytes =
            graph.inputs().iter().map(|&v| self.bytes(v)).collect::<Result<Vec<_>, _>>()?;
        if let Some(rest) = &rest {
            self.lines.push(format!(
                "{} nodes wait for sizes that the steps above tell",
                rest.executable.graph().nodes().len()
            ));
        }
        Ok(Plan {
            steps: finished,
            input_bytes,
            arena_bytes,
            output_bytes,
            heap: self.heap,
            constants: table.constants,
            results,
            rest,
            lines: self.lines,
            largest,
        })
    }

    /// Lets results take over the memory of operands that end with their step; gives for each temporary the one
    /// whose memory it uses.
    fn share(&mut self, buffer_of: &[Option<usize>]) -> Vec<usize> {
        let mut shares: Vec<usize> = (0..self.temporaries.len()).collect();
        for (i, draft) in self.drafts.iter().enumerate() {
            let Some(result) = draft.results.first().and_then(|&v| self.own(v)) else { continue };
            if draft.barrier.is_some() || buffer_of[result].is_some() {
                continue;
            }
            for &candidate in &draft.in_place {
                let v = draft.operands[candidate];
                let Some(t) = self.own(v) else { continue };
                let owner = shares[t];
                let alone = draft
                    .operands
                    .iter()
                    .filter(|&&o| self.own(o).is_some_and(|o| shares[o] == owner))
                    .count()
                    == 1;
                let fits = self.root(v).1 == 0
                    && self.temporaries[t].bytes == self.temporaries[result].bytes
                    && self.temporaries[owner].bytes >= self.temporaries[result].bytes;
                if alone && fits && buffer_of[owner].is_none() && self.temporaries[owner].last == i
                {
                    self.temporaries[owner].last = self.temporaries[result].last.max(i);
                    shares[result] = owner;
                    break;
                }
            }
        }
        shares
    }

    /// The nodes that wait as a graph of their own, the values it takes, and those of its outputs that are
    /// outputs of the whole.
    fn rest_graph(&self) -> Result<RestGraph, RunError> {
        let graph = self.cx.graph;
        let outputs: Vec<ValueId> = {
            let mut seen = Vec::new();
            for &v in graph.outputs() {
                if self.homes[v.index()] == Home::Rest && !seen.contains(&v) {
                    seen.push(v);
                }
            }
            seen
        };
        if self.rest.is_empty() {
            return Ok((None, Vec::new(), Vec::new()));
        }
        let mut b = Builder::new(graph.name());
        b.reserve_symbols(1 << 33);
        let mut map: std::collections::BTreeMap<ValueId, ValueId> =
            std::collections::BTreeMap::new();
        let mut inputs = Vec::new();
        for node in &self.rest {
            for &v in &node.inputs {
                if !map.contains_key(&v) && self.homes[v.index()] != Home::Rest {
                    let inner = if let Some(constant) = graph.constant(v) {
                        b.constant(constant.clone())
                    } else {
                        inputs.push(v);
                        b.input(graph.value_name(v).unwrap_or_default(), graph.ty(v).clone())
                    };
                    map.insert(v, inner);
                }
            }
            let operands: Vec<ValueId> = node.inputs.iter().map(|v| map[v]).collect();
            b.set_scope(&node.name);
            let results = b
                .node(node.op.clone(), &operands, node.regions.clone())
                .map_err(|e| e.at(&node.name))?;
            for (&old, new) in node.outputs.iter().zip(results) {
                map.insert(old, new);
            }
        }
        let named: Vec<ValueId> = outputs.iter().map(|v| map[v]).collect();
        Ok((Some(b.finish(&named)), inputs, outputs))
    }
}

/// A graph of its own, the values it takes, and those it gives that are outputs of the whole.
type RestGraph = (Option<Graph>, Vec<ValueId>, Vec<ValueId>);

/// The numbering of a run's memories: the arena, inputs, output buffers, heap tensors, constants.
struct Table {
    inputs: usize,
    outputs: usize,
    heap: usize,
    constants: Vec<Tensor>,
    constant_of: std::collections::BTreeMap<ValueId, usize>,
}

impl Table {
    fn input(&self, i: usize) -> usize {
        debug_assert!(i < self.inputs);
        1 + i
    }
    fn output(&self, i: usize) -> usize {
        debug_assert!(i < self.outputs);
        1 + self.inputs + i
    }
    fn heap_slot(&self, i: usize) -> usize {
        debug_assert!(i < self.heap);
        1 + self.inputs + self.outputs + i
    }
    fn constant(&mut self, graph: &Graph, v: ValueId) -> usize {
        let first = 1 + self.inputs + self.outputs + self.heap;
        let constants = &mut self.constants;
        first
            + *self.constant_of.entry(v).or_insert_with(|| {
                let tensor = match graph.definition(v) {
                    Definition::Output(node, _) => match &graph.node(node).op {
                        Op::Prim(Prim::Constant(tensor)) => tensor,
                        op => unreachable!("{} is no constant", op.name()),
                    },
                    Definition::Input(_) => unreachable!("an input is no constant"),
                };
                // Used where it is in the file when the file has it aligned.
                let aligned = tensor
                    .bytes()
                    .as_ptr()
                    .align_offset((tensor.dtype().storage_bits() / 8).max(1))
                    == 0;
                constants.push(if aligned { tensor.clone() } else { tensor.view().to_tensor() });
                constants.len() - 1
            })
    }
}

const _: () = assert!(ALIGNMENT.is_multiple_of(8), "every element type is aligned in a buffer");
