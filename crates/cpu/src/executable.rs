//! A graph that can be run on inputs of any shapes it admits: plans are made per shape and kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anychip_ir::{Graph, IrError, TensorType};
use anychip_passes::specialize::{Binding, inputs_that_hold_sizes, size_operands};
use anychip_record::Layer;
use anychip_target::RunError;
use anychip_tensor::{Dim, Tensor, TensorView};

use crate::buffer::{Buffer, Raw};
use crate::detect::Simd;
use crate::kernel::split::Matrix;
use crate::plan::Plan;
use crate::pool::Pool;
use crate::tune::Tuning;
use crate::weights::Weights;

/// Plans kept for one graph; the least recently used goes first.
const PLANS_KEPT: usize = 8;

/// What all graphs of one program share.
pub(crate) struct Shared {
    pub(crate) simd: Simd,
    /// The matrix unit, if there is one to use.
    pub(crate) matrix: Option<Matrix>,
    pub(crate) pool: Pool,
    pub(crate) weights: Weights,
    /// What was found to be fastest here, where that is kept.
    pub(crate) tuning: Option<Tuning>,
    /// Bytes a run may hold; a plan that needs more is an error, not an abort.
    pub(crate) memory_limit: u64,
    /// Whether runs say how long each step took.
    pub(crate) layers: bool,
    /// `CompileOptions::relaxed`.
    pub(crate) relaxed: bool,
}

/// A graph with its plans.
pub(crate) struct Executable {
    graph: Graph,
    shared: Arc<Shared>,
    /// Whether it is part of another graph: then names of sizes were checked outside, and mean each
    /// iteration's own.
    is_nested: bool,
    /// Inputs whose contents decide sizes: part of the key of a plan.
    holds_sizes: Vec<bool>,
    plans: Mutex<Vec<(Key, Arc<Plan>)>>,
    /// Memories of runs that have ended, to be used again.
    idle: Mutex<Vec<Memories>>,
}

#[derive(PartialEq, Eq)]
struct Key {
    shapes: Vec<Vec<usize>>,
    values: Vec<Option<Vec<u8>>>,
}

impl Key {
    fn matches(&self, inputs: &[TensorView<'_>]) -> bool {
        self.shapes.iter().zip(inputs).all(|(shape, input)| shape == input.shape)
            && self
                .values
                .iter()
                .zip(inputs)
                .all(|(value, input)| value.as_ref().is_none_or(|v| v == input.data))
    }
}

/// The memories of one run.
#[derive(Default)]
pub(crate) struct Memories {
    pub(crate) arena: Option<Buffer>,
    pub(crate) table: Vec<Raw>,
    pub(crate) heap: Vec<Option<Tensor>>,
    pub(crate) outputs: Vec<Buffer>,
    /// Seconds of each step of this run, when that was asked for.
    pub(crate) layers: Vec<Layer>,
}

/// What a run gives.
pub(crate) struct Done {
    pub(crate) outputs: Vec<Tensor>,
    /// Bytes held beside weights.
    pub(crate) held: u64,
    /// Empty unless asked for.
    pub(crate) layers: Vec<Layer>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done in what these protect, so a panic elsewhere does not matter.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Executable {
    pub(crate) fn new(graph: Graph, shared: Arc<Shared>) -> Executable {
        let holds_sizes =
            inputs_that_hold_sizes(&graph, &|node| node.op.prim().map_or(&[], size_operands));
        Executable {
            graph,
            shared,
            is_nested: false,
            holds_sizes,
            plans: Mutex::default(),
            idle: Mutex::default(),
        }
    }

    /// A graph that a step of another runs.
    pub(crate) fn nested(graph: Graph, shared: Arc<Shared>) -> Executable {
        Executable { is_nested: true, ..Executable::new(graph, shared) }
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Runs on inputs in the graph's order.
    pub(crate) fn run(&self, inputs: &[TensorView<'_>]) -> Result<Done, RunError> {
        let plan = self.plan(inputs)?;
        let mut memories = lock(&self.idle).pop().unwrap_or_default();
        let outputs = plan.run(inputs, &mut memories, &self.shared);
        memories.heap.iter_mut().for_each(|slot| *slot = None);
        memories.outputs.clear();
        let layers = std::mem::take(&mut memories.layers);
        lock(&self.idle).push(memories);
        Ok(Done { outputs: outputs?, held: plan.peak_bytes(), layers })
    }

    /// The plan for these inputs, made now if there is none.
    pub(crate) fn plan(&self, inputs: &[TensorView<'_>]) -> Result<Arc<Plan>, RunError> {
        self.check_count(inputs.len())?;
        {
            let mut plans = lock(&self.plans);
            // A plan that fits was checked against the element types when it was made; they cannot differ by key.
            let same_types = self
                .graph
                .inputs()
                .iter()
                .zip(inputs)
                .all(|(&v, i)| self.graph.ty(v).dtype == i.dtype);
            if let Some(position) =
                plans.iter().position(|(key, _)| same_types && key.matches(inputs))
            {
                let last = plans.len() - 1;
                plans[position..=last].rotate_left(1);
                return Ok(Arc::clone(&plans[last].1));
            }
        }
        self.check(inputs)?;
        let values: Vec<Option<Tensor>> = inputs
            .iter()
            .zip(&self.holds_sizes)
            .map(|(input, &holds)| (holds && input.len() <= 128).then(|| input.to_tensor()))
            .collect();
        let bindings: Vec<Binding> = inputs
            .iter()
            .zip(&values)
            .map(|(input, value)| Binding { shape: input.shape.to_vec(), value: value.clone() })
            .collect();
        let plan = Arc::new(Plan::new(&self.graph, &bindings, &self.shared)?);
        self.shared.weights.keep()?;
        self.shared.tuning.as_ref().map_or(Ok(()), Tuning::keep)?;
        let key = Key {
            shapes: bindings.into_iter().map(|b| b.shape).collect(),
            values: values.into_iter().map(|v| v.map(|t| t.bytes().to_vec())).collect(),
        };
        let mut plans = lock(&self.plans);
        if plans.len() >= PLANS_KEPT {
            plans.remove(0);
        }
        plans.push((key, Arc::clone(&plan)));
        Ok(plan)
    }

    fn check_count(&self, found: usize) -> Result<(), IrError> {
        let expected = self.graph.inputs().len();
        if found == expected {
            Ok(())
        } else {
            Err(IrError::OperandCount { op: "graph", expected, found })
        }
    }

    /// Element types, ranks, fixed sizes, and that a name means one size throughout.
    fn check(&self, inputs: &[TensorView<'_>]) -> Result<(), IrError> {
        let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
        let wrong = |i: usize| {
            let v = self.graph.inputs()[i];
            let found = TensorType::new(inputs[i].dtype, inputs[i].shape.iter().copied());
            IrError::Input {
                name: self
                    .graph
                    .value_name(v)
                    .filter(|n| !n.is_empty())
                    .map_or(format!("#{i}"), str::to_string),
                found: found.to_string(),
                expected: self.graph.ty(v).to_string(),
            }
        };
        for (i, input) in inputs.iter().enumerate() {
            let ty = self.graph.ty(self.graph.inputs()[i]);
            if ty.dtype != input.dtype || ty.rank() != input.shape.len() {
                return Err(wrong(i));
            }
            for (dim, &size) in ty.shape.iter().zip(input.shape) {
                match dim {
                    Dim::Fixed(n) if *n != size => return Err(wrong(i)),
                    Dim::Sym(name)
                        if !self.is_nested && *sizes.entry(name).or_insert(size) != size =>
                    {
                        return Err(wrong(i));
                    }
                    Dim::Fixed(_) | Dim::Sym(_) | Dim::Expr(_) => {}
                }
            }
        }
        for (i, input) in inputs.iter().enumerate().filter(|_| !self.is_nested) {
            for (dim, &size) in self.graph.ty(self.graph.inputs()[i]).shape.iter().zip(input.shape)
            {
                if let Dim::Expr(_) = dim
                    && dim.evaluate(&|name| sizes.get(name).copied()).is_some_and(|n| n != size)
                {
                    return Err(wrong(i));
                }
            }
        }
        Ok(())
    }

    /// A line a node of the plan for the graph's own sizes, named ones taken as 1.
    pub(crate) fn explain(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut bindings = Vec::new();
        for &v in self.graph.inputs() {
            let ty = self.graph.ty(v);
            if let Some(dim) = ty.shape.iter().find(|d| d.fixed().is_none()) {
                lines.push(format!(
                    "{}: {dim} is taken as 1",
                    self.graph.value_name(v).unwrap_or("an input")
                ));
            }
            let shape = ty.shape.iter().map(|d| d.evaluate(&|_| Some(1)).unwrap_or(1)).collect();
            bindings.push(Binding { shape, value: None });
        }
        match Plan::new(&self.graph, &bindings, &self.shared) {
            Ok(plan) => {
                lines.extend(plan.lines.iter().cloned());
                lines.push(format!(
                    "arena: {} bytes, with results {} bytes",
                    plan.arena_bytes(),
                    plan.peak_bytes()
                ));
            }
            Err(error) => lines.push(format!("no plan for these sizes: {error}")),
        }
        lines
    }
}
