//! What can go wrong between a file and a result, each with the way out.

use std::path::PathBuf;

use anychip_ir::IrError;
use anychip_onnx::Diagnostics;
use anychip_target::{CompileError, OpenError, Refusal, RunError};
use anychip_units::FigureError;
use anychip_zoo::{ConfigError, ZooError};

use crate::NpzError;

/// Why a model cannot be loaded, run or compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is no usable model; every problem of it.
    #[error("{path}: {} problem{} keep{} the model from being read\n{problems}",
        problems.iter().count(), plural(problems.iter().count()),
        if problems.iter().count() == 1 { "s" } else { "" })]
    Model {
        /// The file.
        path: PathBuf,
        /// The problems.
        problems: Diagnostics,
    },
    /// No built-in architecture is like this.
    #[error(transparent)]
    Zoo(#[from] ZooError),
    /// A configuration that no model can be built from.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// A pass or an analysis met a fault of the graph.
    #[error("{0}")]
    Graph(#[from] IrError),
    /// An archive of arrays cannot be read or written.
    #[error(transparent)]
    Npz(#[from] NpzError),
    /// Arrays that do not fit the model's inputs; every misfit.
    #[error("the arrays do not fit the model's inputs\n{}", lines(.0))]
    Inputs(Vec<String>),
    /// A chip that cannot run the model as it is.
    #[error("{} of the model's nodes cannot run on `{target}`\n{}", .refusals.len(), refusal_lines(.refusals))]
    Refused {
        /// The target.
        target: &'static str,
        /// Each node with the reason.
        refusals: Vec<Refusal>,
    },
    /// Weights that would have to be made and do not fit.
    #[error(
        "the weights take {:.1} GB here and the machine has {:.1} GB\n  help: `anychip compare MODEL --estimate` counts them without making them", .needed / 1e9, .memory / 1e9
    )]
    TooLarge {
        /// Bytes of the weights and of what kernels read.
        needed: f64,
        /// Bytes of memory.
        memory: f64,
    },
    /// The target cannot compile it.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The program cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The run failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A size that has a name and no number.
    #[error(
        "the size `{name}` of input `{input}` is not known\n  help: give it with --dim {name}=SIZE"
    )]
    UnknownDim {
        /// The name.
        name: String,
        /// An input that has it.
        input: String,
    },
    /// Batches asked for of a model that has one of its own.
    #[error(
        "the model's inputs leave no size open for a batch\n  help: leave --batch away, or export the model with a named first dim"
    )]
    FixedBatch,
    /// A chip without a target that runs here.
    #[error(
        "`{chip}` cannot run anything on this machine, only be estimated\n  help: `anychip compare MODEL --chips {chip}` estimates it; `anychip doctor` lists what runs here"
    )]
    NotHere {
        /// The chip.
        chip: String,
    },
    /// A chip that no target of this build writes a program for.
    #[error("nothing here writes a program for `{chip}`{}\n  help: `anychip chips` lists each chip's target; TPUs and GPUs go through `pjrt`",
        .target.as_ref().map(|t| format!(": its target is `{t}`")).unwrap_or_default())]
    NotBuilt {
        /// The chip.
        chip: String,
        /// The target that its row names.
        target: Option<String>,
    },
    /// A target whose programs are no files.
    #[error(
        "programs of the target `{target}` are made in memory and are no files\n  help: `anychip optimize MODEL -o OUT.onnx` writes the optimized model"
    )]
    NoFiles {
        /// The target.
        target: &'static str,
    },
    /// A plugin cannot do what it was asked for.
    #[cfg(feature = "pjrt")]
    #[error(transparent)]
    Plugin(#[from] anychip_pjrt::PjrtError),
    /// A name that is in no catalogue.
    #[error(transparent)]
    Chip(#[from] anychip_chips::ChipError),
    /// A figure that broke its own rules: a fault of ours or of a catalogue file.
    #[error("a figure could not be made: {0}")]
    Figure(#[from] FigureError),
    /// The predictor's fitted tables are damaged: a fault of the build.
    #[error(transparent)]
    Tables(#[from] anychip_predict::TableError),
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Calibration data that cannot be used.
    #[error("{path}: {problem}")]
    Calibration {
        /// The archive or folder.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A tensor that cannot be quantized.
    #[error(transparent)]
    Quantize(#[from] anychip_quantize::QuantizeError),
    /// A model or settings that leave nothing to quantize.
    #[error("nothing can be quantized: {0}")]
    NothingToQuantize(String),
    /// A model or settings that leave nothing to take away.
    #[error("nothing can be pruned: {0}")]
    NothingToPrune(String),
    /// The model cannot be written as ONNX.
    #[error(transparent)]
    Export(#[from] anychip_onnx::ExportError),
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

fn lines(problems: &[String]) -> String {
    problems.iter().map(|p| format!("  {p}")).collect::<Vec<_>>().join("\n")
}

fn refusal_lines(all: &[Refusal]) -> String {
    all.iter()
        .map(|r| {
            let help =
                r.refused.help.as_ref().map(|h| format!("\n    help: {h}")).unwrap_or_default();
            format!("  {} ({}): {}{help}", r.node, r.op, r.refused.reason)
        })
        .collect::<Vec<_>>()
        .join("\n")
}

impl From<anychip_predict::PredictError> for Error {
    fn from(error: anychip_predict::PredictError) -> Self {
        use anychip_predict::PredictError;
        match error {
            PredictError::Graph(error) => Self::Graph(error),
            PredictError::Figure(error) => Self::Figure(error),
            PredictError::Tables(error) => Self::Tables(error),
        }
    }
}
