//! The contract of a target: what it supports, how it compiles, where its programs run.
//!
//! Four stages, four types: `Graph` → [`LegalGraph`] (every node native on one target; only [`legalize`] makes
//! one) → [`Program`] → [`Session`]. So no target checks legality twice.

mod kept;
mod legalize;

use std::fmt;
use std::path::PathBuf;

use anychip_chips::{Chip, Precision};
use anychip_ir::{IrError, Node};
use anychip_record::Layer;
use anychip_tensor::{Tensor, TensorView};

pub use kept::replace_file;
pub use legalize::{LegalGraph, Refusal, legalize};

/// A way to make a graph execute.
pub trait Target: Send + Sync {
    /// `cpu`, `pjrt`, `systolic` …
    fn id(&self) -> &'static str;

    /// What the target makes of a node. Its operands are in `graph`; it has no outputs yet.
    fn support(&self, node: &Node, graph: &anychip_ir::Graph) -> Support;

    /// Compiles; deterministic: the same graph gives the same bytes.
    fn compile(
        &self,
        graph: &LegalGraph,
        chip: &Chip,
        options: &CompileOptions,
    ) -> Result<Box<dyn Program>, CompileError>;

    /// Whether quantized models are to reach it with their operators in integers, as `anychip_passes::INTEGER` forms them.
    fn integers(&self) -> bool {
        false
    }

    /// Where its programs can run on this machine now.
    fn places(&self) -> Vec<Place>;

    /// Where its programs for a chip run on this machine, if anywhere. A simulator of whatever a row describes answers for
    /// chips that it has not listed too. `NAME:1` is the second device of a kind, `NAME` and `NAME:0` the first.
    fn place(&self, chip: &Chip) -> Option<Place> {
        let (name, wanted) = split_ordinal(&chip.id);
        self.places().into_iter().find(|place| match place {
            Place::Device { chip, ordinal } => chip == name && *ordinal == wanted,
            Place::Simulator { chip } => chip == name,
        })
    }
}

/// A chip's name and which of its kind is meant: `NAME:1` is the second.
pub fn split_ordinal(chip: &str) -> (&str, usize) {
    let split = chip.rsplit_once(':').and_then(|(name, n)| Some((name, n.parse().ok()?)));
    split.unwrap_or((chip, 0))
}

/// A compiled graph.
pub trait Program: Send + Sync {
    /// The program as files, for a chip that is not here or whose own tools take it.
    fn files(&self) -> Vec<File> {
        Vec::new()
    }

    /// Constants that the files take as arguments, by the names that they have there: too large to stand in a text.
    fn weights(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// What was decided for each node, one line each, for `anychip explain`.
    fn explain(&self) -> Vec<String> {
        Vec::new()
    }

    /// What a run at a simulator counts, where that follows from sizes alone: no values are computed, there are no outputs.
    /// `None` where only a run can tell.
    fn counted(&self) -> Option<Run> {
        None
    }

    /// Makes it ready to run at a place.
    fn open(&self, place: &Place) -> Result<Box<dyn Session>, OpenError>;
}

/// A program ready to run.
pub trait Session: Send {
    /// Runs on inputs in the graph's order.
    fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<Run, RunError>;
}

/// What a target makes of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// It has its own code for it.
    Native,
    /// A composite it wants expanded. (Never said of a primitive.)
    Expand,
    /// It cannot, and why; with a way out where there is one.
    Refuse(Refused),
}

/// Why a node is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The reason.
    pub reason: String,
    /// What to try.
    pub help: Option<String>,
}

/// Settings of a compilation that do not change results beyond rounding.
#[derive(Debug, Clone, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "switches that have nothing to do with each other, each with its own place on the command line"
)]
pub struct CompileOptions {
    /// Threads that a session may use; all of the machine's when absent.
    pub threads: Option<usize>,
    /// Bind each of these threads but the caller's to a core of its own, where the system can: for machines without other load.
    pub pin: bool,
    /// Sessions say of each layer how long it took: [`Run::layers`].
    pub layers: bool,
    /// Each layer may round by up to 1e-5 of its largest result where that is faster; else about as much as plain sums do.
    pub relaxed: bool,
    /// The instruction set to use, by the target's name for it; the target's choice when absent.
    pub isa: Option<String>,
    /// A folder where a target may keep what it made of a model, such as packed weights, for the next start.
    pub cache: Option<PathBuf>,
    /// Where formulas choose between kernels, measure instead, and keep what was found in `cache`.
    pub tune: bool,
    /// The format that a simulator takes floats to be computed and kept in; the graph's own when absent. What it counts
    /// follows, its results do not.
    pub precision: Option<Precision>,
}

/// Where a program can run: it decides the basis of its figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An attached device: the harness times it, and its figures are measured.
    Device {
        /// Catalogue name of the chip.
        chip: String,
        /// Which of several.
        ordinal: usize,
    },
    /// A simulator of a chip: cycles and events are counted, and figures are simulated.
    Simulator {
        /// Catalogue name of the chip.
        chip: String,
    },
}

/// A file that a program consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Path below the output folder.
    pub path: String,
    /// Contents.
    pub bytes: Vec<u8>,
}

/// Outputs and counters of one run.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// In the graph's order.
    pub outputs: Vec<Tensor>,
    /// What the place counted.
    pub counters: Counters,
    /// What ran, in order, when [`CompileOptions::layers`] asks for it and the target can tell.
    pub layers: Vec<Layer>,
}

/// What a place counted during a run; what it cannot count is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    /// Simulated clock cycles.
    pub cycles: Option<u64>,
    /// Cycles a second of that clock.
    pub clock_hz: Option<f64>,
    /// Joules of what was counted; what else the chip draws is not in it.
    pub energy_j: Option<f64>,
    /// Cycles by what they went to, in the order of the place's choice.
    pub spent: Vec<(&'static str, u64)>,
    /// Bytes across each level of memory.
    pub traffic: Vec<(&'static str, f64)>,
    /// What the figures rest on beside the chip's row, for their source.
    pub basis: String,
    /// Bytes held at the peak, weights excluded.
    pub peak_bytes: Option<u64>,
}

/// Why a graph cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The graph itself is at fault.
    #[error(transparent)]
    Graph(#[from] IrError),
    /// The chip cannot hold it.
    #[error("{what} needs {needed} bytes and {chip} has {available}")]
    Capacity {
        /// What does not fit.
        what: &'static str,
        /// The chip.
        chip: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// The chip's row does not say enough to compile for it.
    #[error("{reason}")]
    Chip {
        /// What is missing, and the way out.
        reason: String,
    },
    /// The chip does not compute what the graph does.
    #[error("{reason}\n  help: {help}")]
    Format {
        /// The node and the format.
        reason: String,
        /// What to try.
        help: &'static str,
    },
    /// This machine lacks what the options ask for.
    #[error("no instruction set `{asked}` here; there are {}", .available.join(", "))]
    InstructionSet {
        /// What was asked for.
        asked: String,
        /// What there is.
        available: Vec<&'static str>,
    },
}

/// Why a program cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The device, or the software that drives it, cannot be used.
    #[error("{place}: {reason}")]
    Device {
        /// The place.
        place: String,
        /// What it said, and the way out where there is one.
        reason: String,
    },
    /// It does not run at this place.
    #[error("a program for {target} does not run on {place}")]
    WrongPlace {
        /// The target.
        target: &'static str,
        /// The place.
        place: String,
    },
    /// What is to be kept for the next start cannot be.
    #[error("{path} cannot be used to keep what is compiled: {source}", path = .path.display())]
    Cache {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Preparing it failed.
    #[error(transparent)]
    Graph(#[from] IrError),
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Inputs or the graph are at fault.
    #[error(transparent)]
    Graph(#[from] IrError),
    /// The device, or the software that drives it, failed.
    #[error("{place}: {reason}")]
    Device {
        /// The place.
        place: String,
        /// What it said.
        reason: String,
    },
    /// A node that turns out, at these shapes, to be beyond the target.
    #[error("{} ({}): {}{}", .0.node, .0.op, .0.refused.reason, help(.0))]
    Refused(Refusal),
    /// A result would need more memory than allowed.
    #[error("{node} needs {needed} bytes, more than the limit of {limit}")]
    Memory {
        /// The node.
        node: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// What is to be kept for the next start cannot be.
    #[error("{path} cannot be used to keep what is compiled: {source}", path = .path.display())]
    Cache {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn help(refusal: &Refusal) -> String {
    refusal.refused.help.as_ref().map(|help| format!("\n  help: {help}")).unwrap_or_default()
}

impl Place {
    /// The chip's name in the catalogue.
    pub fn chip(&self) -> &str {
        match self {
            Place::Device { chip, .. } | Place::Simulator { chip } => chip,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Device { chip, ordinal } => write!(f, "{chip}:{ordinal}"),
            Place::Simulator { chip } => write!(f, "{chip} (simulated)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_may_have_a_number() {
        assert_eq!(split_ordinal("cpu"), ("cpu", 0));
        assert_eq!(split_ordinal("nvidia-t4:3"), ("nvidia-t4", 3));
        assert_eq!(split_ordinal("odd:name"), ("odd:name", 0));
    }
}
