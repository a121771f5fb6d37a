//! Lifetimes and addresses: once every step is known, where each value lives, and what waits for sizes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anychip_ir::{Builder, Definition, Graph, Op, Prim, ValueId};
use anychip_target::RunError;
use anychip_tensor::Tensor;

use super::planner::{Home, Planner};
use super::waves::{self, Candidate};
use super::{Action, Dressed, HeapResult, Plan, Rest, Source, Step};
use crate::executable::{Executable, Shared};
use crate::memory::{self, Temporary};
use crate::step::Location;

/// The nodes that wait, the values they take, and those of their results that are results of the whole.
type Waiting = (Option<Graph>, Vec<ValueId>, Vec<ValueId>);

impl Planner<'_> {
    pub(super) fn finish(mut self, shared: &Arc<Shared>) -> Result<Plan, RunError> {
        let graph = self.cx.graph;
        let steps = self.drafts.len();
        let (rest_graph, rest_inputs, rest_outputs) = self.rest_graph()?;

        // Lifetimes, counted in waves.
        let waves = self.order();
        for (draft, wave) in self.drafts.iter().zip(of_steps(&waves)) {
            for &v in &draft.results {
                if let Some(t) = self.own(v) {
                    self.temporaries[t].first = wave;
                    self.temporaries[t].last = self.temporaries[t].last.max(wave);
                }
            }
            for &v in &draft.operands {
                if let Some(t) = self.own(v) {
                    self.temporaries[t].last = self.temporaries[t].last.max(wave);
                }
            }
        }
        for &v in &rest_inputs {
            if let Some(t) = self.own(v) {
                self.temporaries[t].last = waves.len();
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
        let shares = self.share(&buffer_of, &waves);

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
        for (draft, wave) in self.drafts.iter().zip(of_steps(&waves)) {
            in_arena.push(Temporary { bytes: draft.scratch, first: wave, last: wave });
        }
        let largest = (0..self.temporaries.len())
            .max_by_key(|&t| self.temporaries[t].bytes)
            .and_then(|t| graph.producer(self.made_for[t]))
            .map(|node| node.label().to_string())
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
            constant_of: BTreeMap::new(),
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
            finished.push(Step {
                name: draft.name,
                cost: draft.cost,
                action,
                operands,
                results,
                scratch,
            });
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
        let shared_waves: Vec<usize> = waves.iter().map(Range::len).filter(|&n| n > 1).collect();
        if !shared_waves.is_empty() {
            self.lines.push(format!(
                "{} short steps run at the same time as others, in {} groups",
                shared_waves.iter().sum::<usize>(),
                shared_waves.len()
            ));
        }
        Ok(Plan {
            steps: finished,
            waves,
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

    /// Puts the steps in the order in which they run, and gives the steps of each wave.
    fn order(&mut self) -> Vec<Range<usize>> {
        let mut maker: BTreeMap<ValueId, usize> = BTreeMap::new();
        for (i, draft) in self.drafts.iter().enumerate() {
            maker.extend(draft.results.iter().map(|&v| (v, i)));
        }
        let candidates: Vec<Candidate> = self
            .drafts
            .iter()
            .map(|draft| Candidate {
                after: draft
                    .operands
                    .iter()
                    .filter_map(|&v| maker.get(&self.root(v).0).copied())
                    .collect(),
                short: draft.short,
            })
            .collect();
        let wave_of = waves::waves(&candidates);
        let mut placed: Vec<_> = wave_of.into_iter().zip(self.drafts.drain(..)).collect();
        // Stable: within a wave, in the graph's order.
        placed.sort_by_key(|(wave, _)| *wave);
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (i, (wave, draft)) in placed.into_iter().enumerate() {
            match ranges.get_mut(wave) {
                Some(range) => range.end = i + 1,
                None => ranges.push(i..i + 1),
            }
            self.drafts.push(draft);
        }
        ranges
    }

    /// Lets results take over the memory of operands that end with their step; gives for each temporary the one
    /// whose memory it uses.
    fn share(&mut self, buffer_of: &[Option<usize>], waves: &[Range<usize>]) -> Vec<usize> {
        let mut shares: Vec<usize> = (0..self.temporaries.len()).collect();
        for (draft, wave) in self.drafts.iter().zip(of_steps(waves)) {
            let Some(result) = draft.results.first().and_then(|&v| self.own(v)) else { continue };
            if draft.barrier.is_some() || buffer_of[result].is_some() {
                continue;
            }
            for &candidate in &draft.in_place {
                let v = draft.operands[candidate];
                let Some(t) = self.own(v) else { continue };
                let owner = shares[t];
                // Whoever else reads it in this wave may do so later.
                let alone = self.drafts[waves[wave].clone()]
                    .iter()
                    .flat_map(|beside| &beside.operands)
                    .filter(|&&o| self.own(o).is_some_and(|o| shares[o] == owner))
                    .count()
                    == 1;
                let fits = self.root(v).1 == 0
                    && self.temporaries[t].bytes == self.temporaries[result].bytes
                    && self.temporaries[owner].bytes >= self.temporaries[result].bytes;
                if alone
                    && fits
                    && buffer_of[owner].is_none()
                    && self.temporaries[owner].last == wave
                {
                    self.temporaries[owner].last = self.temporaries[result].last.max(wave);
                    shares[result] = owner;
                    break;
                }
            }
        }
        shares
    }

    /// The nodes that wait as a graph of their own.
    fn rest_graph(&self) -> Result<Waiting, RunError> {
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
        let mut map: BTreeMap<ValueId, ValueId> = BTreeMap::new();
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
            b.set_scope(std::sync::Arc::clone(&node.name));
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

/// The wave of each step.
fn of_steps(waves: &[Range<usize>]) -> impl Iterator<Item = usize> {
    waves.iter().enumerate().flat_map(|(wave, steps)| steps.clone().map(move |_| wave))
}

/// Bytes of a constant that is copied out of its file.
const SMALL_CONSTANT: usize = 64 << 10;

/// The numbering of a run's memories: the arena, inputs, output buffers, heap tensors, constants.
struct Table {
    inputs: usize,
    outputs: usize,
    heap: usize,
    constants: Vec<Tensor>,
    constant_of: BTreeMap<ValueId, usize>,
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
                // Used where it is in the file when the file has it aligned. A small one is copied: reading it there
                // maps its page and the fifteen around it.
                let small = tensor.bytes().len() <= SMALL_CONSTANT;
                let aligned = tensor
                    .bytes()
                    .as_ptr()
                    .align_offset((tensor.dtype().storage_bits() / 8).max(1))
                    == 0;
                constants.push(if aligned && !small {
                    tensor.clone()
                } else {
                    tensor.view().to_tensor()
                });
                constants.len() - 1
            })
    }
}
