//! The flags of `anychip diff`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::optimize::parse_decibels;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  anychip diff model.onnx int8.onnx --input in.npz
  anychip diff a.onnx b.onnx --input in.npz --threshold 40dB --json
  anychip diff model.onnx --on cpu --against reference --input in.npz

Values are matched by name; those that only one model has are counted. The first whose ratio of signal to noise falls
below the threshold is where the models part.")]
pub(crate) struct Diff {
    /// The model that is taken to be right
    #[arg(value_name = "A.onnx", value_hint = ValueHint::FilePath)]
    pub(crate) first: PathBuf,
    /// The model that is compared with it; A itself on another chip when absent
    #[arg(value_name = "B.onnx", value_hint = ValueHint::FilePath, required_unless_present = "against")]
    pub(crate) second: Option<PathBuf>,
    /// The chip that runs A: one of this machine, or `reference`, which computes what operators are defined as
    #[arg(long, default_value = "cpu", value_name = "CHIP")]
    pub(crate) on: String,
    /// The chip that runs B; that of A when absent
    #[arg(long, value_name = "CHIP")]
    pub(crate) against: Option<String>,
    /// Inputs for both: a NumPy archive
    #[arg(long, short, value_name = "IN.npz", value_hint = ValueHint::FilePath)]
    pub(crate) input: PathBuf,
    /// A value below this ratio of signal to noise is said to diverge
    #[arg(long, default_value = "20dB", value_name = "RATIO", value_parser = parse_decibels)]
    pub(crate) threshold: f64,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
