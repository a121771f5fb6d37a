//! A compiled graph, and its runs: what is counted, and the values.

use std::sync::Arc;

use anychip_ir::{Bindings, Graph, IrError, specialize};
use anychip_record::Layer as Timed;
use anychip_target::{Counters, File, OpenError, Place, Program, Run, RunError, Session};
use anychip_tensor::{Tensor, TensorView};

use crate::machine::Machine;
use crate::plan::{Plan, PlanError, PlanOptions, plan};
use crate::target::ID;
use crate::{explain, trace, values};

/// How a program is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Cycles by the closed form, values by the reference evaluator.
    ClosedForm,
    /// Products cycle by cycle, with the values that leave the arrays.
    Stepped,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 2] = [Mode::ClosedForm, Mode::Stepped];

    /// The word that options use.
    pub fn word(self) -> &'static str {
        match self {
            Mode::ClosedForm => "closed-form",
            Mode::Stepped => "stepped",
        }
    }

    /// From the word.
    pub fn from_word(word: &str) -> Option<Mode> {
        Mode::ALL.into_iter().find(|mode| mode.word() == word)
    }
}

/// What sessions share.
struct Compiled {
    graph: Graph,
    machine: Machine,
    mode: Mode,
    options: PlanOptions,
    /// The plan, where all sizes are numbers.
    plan: Option<Plan>,
}

/// A graph compiled for a machine.
pub(crate) struct SystolicProgram(Arc<Compiled>);

impl SystolicProgram {
    pub(crate) fn new(
        graph: &Graph,
        machine: Machine,
        mode: Mode,
        options: PlanOptions,
    ) -> Result<SystolicProgram, PlanError> {
        let sized = graph.inputs().iter().all(|&v| graph.ty(v).fixed_shape().is_some());
        let plan = match sized.then(|| plan(graph, &machine, options)) {
            Some(Ok(plan)) => Some(plan),
            // What cannot be counted is tried again, and told, when it runs.
            None | Some(Err(PlanError::Graph(_))) => None,
            Some(Err(error)) => return Err(error),
        };
        Ok(SystolicProgram(Arc::new(Compiled {
            graph: graph.clone(),
            machine,
            mode,
            options,
            plan,
        })))
    }
}

impl Program for SystolicProgram {
    fn files(&self) -> Vec<File> {
        let Compiled { machine, plan, .. } = &*self.0;
        plan.iter()
            .flat_map(|plan| {
                [
                    File {
                        path: "trace.json".to_owned(),
                        bytes: trace::chrome(plan, machine).into_bytes(),
                    },
                    File {
                        path: "layers.csv".to_owned(),
                        bytes: explain::csv(plan, machine).into_bytes(),
                    },
                ]
            })
            .collect()
    }

    fn explain(&self) -> Vec<String> {
        let Compiled { machine, plan, .. } = &*self.0;
        let mut lines = explain::machine(machine);
        match plan {
            Some(plan) => lines.extend(explain::layers(plan, machine)),
            None => {
                lines.push("sizes are named: each run is planned when they are known".to_owned());
            }
        }
        lines
    }

    fn counted(&self) -> Option<Run> {
        let plan = self.0.plan.as_ref()?;
        Some(run_of(plan, &self.0.machine, Mode::ClosedForm, Vec::new()))
    }

    fn open(&self, place: &Place) -> Result<Box<dyn Session>, OpenError> {
        match place {
            Place::Simulator { chip } if *chip == self.0.machine.name => {
                Ok(Box::new(SystolicSession(Arc::clone(&self.0))))
            }
            Place::Device { .. } | Place::Simulator { .. } => {
                Err(OpenError::WrongPlace { target: ID, place: place.to_string() })
            }
        }
    }
}

struct SystolicSession(Arc<Compiled>);

impl Session for SystolicSession {
    fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<Run, RunError> {
        let Compiled { graph, machine, mode, options, plan: planned } = &*self.0;
        let inputs: Vec<Tensor> = inputs.iter().map(TensorView::to_tensor).collect();
        let bindings = Bindings::of_inputs(graph, &inputs)?;
        let fresh;
        let (graph, mut plan) = if let Some(plan) = planned {
            (graph, plan.clone())
        } else {
            fresh = specialize(graph, &graph.bind_dims(&|name| bindings.get(name)))?;
            let plan = match plan(&fresh, machine, *options) {
                Ok(plan) => plan,
                // Bodies of loops with sizes that only their iterations know: values, and no counts.
                Err(PlanError::Graph(_)) => {
                    let outputs = anychip_ir::evaluate(&fresh, &inputs)?;
                    return Ok(Run { outputs, ..Run::default() });
                }
                Err(error) => return Err(run_error(error)),
            };
            (&fresh, plan)
        };
        let outputs = match mode {
            Mode::ClosedForm => anychip_ir::evaluate(graph, &inputs)?,
            Mode::Stepped => values::run(graph, &inputs, machine, &mut plan)?,
        };
        Ok(run_of(&plan, machine, *mode, outputs))
    }
}

fn run_error(error: PlanError) -> RunError {
    match error {
        PlanError::Graph(error) => RunError::Graph(error),
        PlanError::Format { .. } => RunError::Graph(IrError::Setting {
            op: "dot-general",
            reason: "the machine multiplies integers alone",
            found: error.to_string(),
        }),
    }
}

/// The counts of a plan with the outputs of its run.
fn run_of(plan: &Plan, machine: &Machine, mode: Mode, outputs: Vec<Tensor>) -> Run {
    let array = plan.array_cycles();
    let traffic = plan.traffic();
    let known = machine.launch_cycles + plan.between + array.cycles;
    let basis = match (plan.data_dependent, machine.assumptions.join("; ")) {
        (true, assumed) if assumed.is_empty() => "bounds where sizes depend on data".to_owned(),
        (true, assumed) => format!("bounds where sizes depend on data; {assumed}"),
        (false, assumed) => assumed,
    };
    let counters = Counters {
        cycles: Some(plan.cycles),
        clock_hz: Some(machine.clock_hz),
        energy_j: plan.joules(),
        spent: vec![
            ("launch", machine.launch_cycles),
            ("beginnings and ends of layers", plan.between),
            ("array: rows enter", array.streaming),
            ("array: waits for tiles from memory", array.fetch),
            ("array: waits for tiles to move in", array.load),
            ("array: waits for rows from memory", array.moving),
            ("array: waits for sums to leave", array.drain),
            ("array: last sums and writes", array.tail),
            ("vector unit and transfers beside", plan.cycles.saturating_sub(known)),
        ],
        traffic: vec![
            ("memory read", traffic.memory_read),
            ("memory written", traffic.memory_written),
            ("buffers read", traffic.buffer_read),
            ("buffers written", traffic.buffer_written),
            ("accumulators", traffic.accumulators),
        ],
        basis: if basis.is_empty() {
            mode.word().to_owned()
        } else {
            format!("{}; {basis}", mode.word())
        },
        peak_bytes: None,
    };
    let layers = plan
        .layers
        .iter()
        .map(|layer| Timed {
            name: layer.name.clone(),
            kernel: explain::kernel(layer),
            seconds: layer.cycles as f64 / machine.clock_hz,
            operations: 2.0 * layer.macs + layer.operations,
            bytes: layer.traffic.memory_read + layer.traffic.memory_written,
        })
        .collect();
    Run { outputs, counters, layers }
}
