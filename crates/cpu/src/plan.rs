//! A plan: one graph at one set of input shapes, as steps over planned memory.
//!
//! Making one: the graph is specialized to the shapes and folded; each live node becomes a view of a value that
//! is already there, a kernel prepared for its shapes, or a barrier (a step whose results only a run can size).
//! What depends on sizes that a barrier will tell is kept as a graph of its own, the *rest*, which is
//! planned in the same way when those sizes are there. Then lifetimes are known, and one arena holds all temporaries.

mod layout;
mod planner;
mod waves;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anychip_ir::{Graph, IrError};
use anychip_passes::specialize::Binding;
use anychip_record::Layer;
use anychip_target::RunError;
use anychip_tensor::{DType, Tensor, TensorError, TensorView};
use bytes::Bytes;

use crate::buffer::{ALIGNMENT, Buffer, Raw};
use crate::executable::{Executable, Memories, Shared};
use crate::step::{Barrier, Io, Kernel, Location};
use planner::Planner;

/// A graph ready to run at one set of shapes.
pub(crate) struct Plan {
    steps: Vec<Step>,
    /// Steps that run together: one, or several short ones.
    waves: Vec<Range<usize>>,
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
    /// What runs and what it costs, for [`Layer`]s.
    cost: Cost,
    action: Action,
    operands: Vec<Location>,
    results: Vec<Location>,
    scratch: Location,
}

/// What a step runs and what that costs.
#[derive(Default)]
struct Cost {
    kernel: String,
    operations: f64,
    bytes: f64,
}

impl Step {
    /// What its kernel sees in this run.
    fn io<'a>(&'a self, memories: &'a Memories, shared: &'a Shared) -> Io<'a> {
        Io {
            operands: &self.operands,
            results: &self.results,
            scratch: self.scratch,
            memories: &memories.table,
            pool: &shared.pool,
            simd: shared.simd,
        }
    }

    fn layer(&self, seconds: f64) -> Layer {
        Layer {
            name: self.name.to_string(),
            kernel: self.cost.kernel.clone(),
            seconds,
            operations: self.cost.operations,
            bytes: self.cost.bytes,
        }
    }
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

impl Plan {
    /// Plans `graph` for inputs of these shapes.
    pub(crate) fn new(
        graph: &Graph,
        bindings: &[Binding],
        shared: &Arc<Shared>,
    ) -> Result<Plan, RunError> {
        Planner::plan(graph, bindings, shared)
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

        memories.layers.clear();
        for wave in &self.waves {
            // Times of single steps are asked for, so each runs by itself.
            if let ([_, _, ..], false) = (&self.steps[wave.clone()], shared.layers) {
                self.run_together(wave.clone(), memories, shared)?;
                continue;
            }
            for step in &self.steps[wave.clone()] {
                let start = shared.layers.then(Instant::now);
                match &step.action {
                    Action::Kernel(kernel) => {
                        kernel
                            .run(&step.io(memories, shared))
                            .map_err(|error| error.at(&step.name))?;
                    }
                    Action::Barrier { barrier, operands, results } => {
                        let tensors = {
                            let views: Vec<TensorView<'_>> =
                                operands.iter().map(|o| o.view(memories)).collect();
                            barrier.run(&views).map_err(|error| match error {
                                RunError::Graph(error) => RunError::Graph(error.at(&step.name)),
                                other => other,
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
                if let Some(start) = start {
                    memories.layers.push(step.layer(start.elapsed().as_secs_f64()));
                }
            }
        }
        let rest = match &self.rest {
            Some(rest) => {
                let views: Vec<TensorView<'_>> =
                    rest.inputs.iter().map(|i| i.view(memories)).collect();
                let done = rest.executable.run(&views)?;
                memories.layers.extend(done.layers);
                done.outputs
            }
            None => Vec::new(),
        };
        self.collect(memories, &rest)
    }

    /// Runs the kernels of a wave at the same time, each whole on one thread; the error is that of the first that fails.
    fn run_together(
        &self,
        wave: Range<usize>,
        memories: &Memories,
        shared: &Shared,
    ) -> Result<(), RunError> {
        let steps = &self.steps[wave];
        let failed: Mutex<Option<(usize, IrError)>> = Mutex::new(None);
        shared.pool.parallel_for(steps.len(), |i, _| {
            let step = &steps[i];
            let Action::Kernel(kernel) = &step.action else {
                unreachable!("a barrier has a wave of its own")
            };
            // The pool is busy, so the kernel's own loops run on this thread.
            if let Err(error) = kernel.run(&step.io(memories, shared)) {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.as_ref().is_none_or(|(first, _)| i < *first) {
                    *failed = Some((i, error.at(&step.name)));
                }
            }
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), |(_, error)| Err(RunError::Graph(error)))
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

const _: () = assert!(ALIGNMENT.is_multiple_of(8), "every element type is aligned in a buffer");
