//! The target: graphs compiled for a described machine, run by its simulator.

use std::sync::OnceLock;

use anychip_chips::{Catalog, Chip};
use anychip_ir::{Graph, Node, Op};
use anychip_target::{CompileError, CompileOptions, LegalGraph, Place, Program, Support, Target};

use crate::machine::Machine;
use crate::mapper::Objective;
use crate::plan::{PlanError, PlanOptions};
use crate::program::{Mode, SystolicProgram};

/// The name of the target.
pub const ID: &str = "systolic";

/// Simulates the systolic array of any chip whose row describes one, or of one machine.
#[derive(Debug, Clone, Default)]
pub struct SystolicTarget {
    machine: Option<Machine>,
    objective: Objective,
}

impl SystolicTarget {
    /// Each chip as its row describes it.
    pub fn new() -> SystolicTarget {
        SystolicTarget::default()
    }

    /// One machine, whatever the chip.
    pub fn with_machine(machine: Machine) -> SystolicTarget {
        SystolicTarget { machine: Some(machine), ..SystolicTarget::default() }
    }

    /// The same with mappings that look for something else.
    #[must_use]
    pub fn looking_for(self, objective: Objective) -> SystolicTarget {
        SystolicTarget { objective, ..self }
    }

    fn machine(&self, chip: &Chip) -> Result<Machine, CompileError> {
        match &self.machine {
            Some(machine) => Ok(machine.clone()),
            None => {
                Machine::of(chip).map_err(|error| CompileError::Chip { reason: error.to_string() })
            }
        }
    }
}

impl Target for SystolicTarget {
    fn id(&self) -> &'static str {
        ID
    }

    fn support(&self, node: &Node, _graph: &Graph) -> Support {
        match &node.op {
            Op::Prim(_) => Support::Native,
            Op::Composite(_) => Support::Expand,
        }
    }

    fn compile(
        &self,
        graph: &LegalGraph,
        chip: &Chip,
        options: &CompileOptions,
    ) -> Result<Box<dyn Program>, CompileError> {
        let machine = self.machine(chip)?;
        let mode = match options.isa.as_deref() {
            None => Mode::ClosedForm,
            Some(asked) => Mode::from_word(asked).ok_or_else(|| CompileError::InstructionSet {
                asked: asked.to_owned(),
                available: Mode::ALL.iter().map(|mode| mode.word()).collect(),
            })?,
        };
        let weights = crate::plan::weight_bytes(graph.graph(), options.precision);
        if let Some(available) = machine.memory_bytes.filter(|&bytes| weights > bytes) {
            let chip = machine.name.clone();
            return Err(CompileError::Capacity {
                what: "the model's weights",
                chip,
                needed: weights,
                available,
            });
        }
        let plan_options = PlanOptions { objective: self.objective, precision: options.precision };
        let program = SystolicProgram::new(graph.graph(), machine, mode, plan_options);
        Ok(Box::new(program.map_err(compile_error)?))
    }

    /// What arrays multiply of a quantized model are its 8-bit codes.
    fn integers(&self) -> bool {
        true
    }

    fn places(&self) -> Vec<Place> {
        // The catalogue that comes with anychip does not change while it runs.
        static LISTED: OnceLock<Vec<Place>> = OnceLock::new();
        if let Some(machine) = &self.machine {
            return vec![Place::Simulator { chip: machine.name.clone() }];
        }
        let list = || match Catalog::builtin() {
            Ok(catalog) => catalog.chips().filter_map(|chip| self.place(chip)).collect(),
            Err(_) => Vec::new(),
        };
        LISTED.get_or_init(list).clone()
    }

    fn place(&self, chip: &Chip) -> Option<Place> {
        let chip = match &self.machine {
            Some(machine) => machine.name.clone(),
            None => Machine::of(chip).ok()?.name,
        };
        Some(Place::Simulator { chip })
    }
}

fn compile_error(error: PlanError) -> CompileError {
    match error {
        PlanError::Graph(error) => CompileError::Graph(error),
        PlanError::Format { .. } => CompileError::Format {
            reason: error.to_string(),
            help: "`--dtype int8` simulates it as if it were quantized; quantize the model to run it so",
        },
    }
}
