//! The flags of `anychip optimize`.

use std::path::PathBuf;

use anychip::{Budget, Pruning};
use clap::{Args, ValueEnum, ValueHint};

use super::parse_dim;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  anychip optimize model.onnx -o faster.onnx
  anychip optimize model.onnx -o int8.onnx --quantize int8 --calibrate data.npz
  anychip optimize model.onnx -o int8.onnx --quantize int8 --calibrate data.npz --max-accuracy-loss 0.5%
  anychip optimize model.onnx -o int8.onnx --quantize int8 --calibrate folder/ --min-snr 30dB
  anychip optimize model.onnx -o int8.onnx --quantize int8 --dynamic
  anychip optimize zoo:gpt2 -o int4.onnx --quantize int4-weights --calibrate tokens.npz
  anychip optimize model.onnx -o half.onnx --quantize fp16
  anychip optimize model.onnx -o narrow.onnx --prune channels:25% --calibrate data.npz

Calibration data are arrays keyed by input name whose first axis is samples: a NumPy archive, a folder of archives, or
a folder of .npy files called as the inputs. An array `labels` gives the accuracy before and after.")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Optimize {
    /// An ONNX file; zoo:NAME, a built-in architecture with random weights (`anychip inspect zoo:` lists
    /// them); or a Hugging Face config.json. Settings may follow the last two, as in
    /// zoo:llama-2-7b,phase=decode,context=2048
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: PathBuf,
    /// The file to write
    #[arg(long, short, value_name = "OUT.onnx", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// Fix a named dim, as NAME=SIZE; may be repeated
    #[arg(long = "dim", value_name = "NAME=SIZE", value_parser = parse_dim)]
    pub(crate) dims: Vec<(String, usize)>,
    /// Fewer bits: what the model is turned into
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) quantize: Option<Precision>,
    /// Fewer weights: 2:4 makes two of four neighbors zero, magnitude:RATIO the smallest of each layer, channels:RATIO takes
    /// channels out of the graph
    #[arg(long, value_name = "WHAT", value_parser = parse_pruning, conflicts_with = "quantize")]
    pub(crate) prune: Option<Pruning>,
    /// Samples to calibrate on: an .npz archive, or a folder of .npz or .npy files
    #[arg(long, value_name = "DATA", value_hint = ValueHint::AnyPath)]
    pub(crate) calibrate: Option<PathBuf>,
    /// The key of the labels in the calibration data
    #[arg(long, default_value = "labels", value_name = "KEY")]
    pub(crate) labels: String,
    /// How ranges of activations are chosen
    #[arg(long, value_enum, default_value = "mse", value_name = "METHOD")]
    pub(crate) range: RangeMethod,
    /// With --range percentile: percent of the numbers that lie within each end
    #[arg(long, default_value_t = 99.99, value_name = "PERCENT", value_parser = parse_percentile)]
    pub(crate) percentile: f64,
    /// With int8: grids of inputs are found at each run instead of by calibration, for products alone; needs no data
    #[arg(long, requires = "quantize")]
    pub(crate) dynamic: bool,
    /// Zero points of activations are 0, as `TensorRT` needs it
    #[arg(long)]
    pub(crate) symmetric: bool,
    /// All scales are powers of two, for hardware that shifts
    #[arg(long)]
    pub(crate) power_of_two: bool,
    /// Round each weight to the nearest integer, whatever the layer's inputs are
    #[arg(long)]
    pub(crate) no_adaptive_rounding: bool,
    /// With int8: move differences in size between channels of activations into the weights that read them
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    pub(crate) equalize: Equalizing,
    /// Leave biases as they are
    #[arg(long)]
    pub(crate) no_bias_correction: bool,
    /// With int8-weights and int4-weights: how weights are rounded; gptq with --calibrate, else rtn, when absent
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) algorithm: Option<Algorithm>,
    /// With int8-weights and int4-weights: how many weights of a column share a scale
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(16..=4096))]
    pub(crate) group_size: u32,
    /// The most accuracy that may be lost, as 0.5%: layers that cost more stay in floats
    #[arg(long, value_name = "SHARE", value_parser = parse_loss, conflicts_with = "min_snr", requires = "calibrate")]
    pub(crate) max_accuracy_loss: Option<f64>,
    /// The least ratio of signal to noise of the outputs, as 30dB: layers that cost more stay in floats
    #[arg(long, value_name = "RATIO", value_parser = parse_decibels, requires = "calibrate")]
    pub(crate) min_snr: Option<f64>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a model is turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// 8-bit integers for weights and activations of layers, with ranges from --calibrate
    Int8,
    /// 8-bit integers for the weights of products alone
    Int8Weights,
    /// 4-bit integers for the weights of products alone
    Int4Weights,
    /// 16-bit floats where they hold what is computed
    Fp16,
    /// The 16-bit floats with the range of 32 bits, where their digits suffice
    Bf16,
}

/// How weights alone are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Algorithm {
    /// Each weight to the nearest
    Rtn,
    /// Errors are made up for by the weights after; needs --calibrate
    Gptq,
    /// Weights of large inputs are scaled up before; needs --calibrate
    Awq,
}

/// When ranges move into weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Equalizing {
    /// Where much is to be gained, and if the outputs then have less noise
    Auto,
    /// Wherever anything is to be gained
    Always,
    /// Nowhere
    Never,
}

/// How the ends of a range are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RangeMethod {
    /// The least and the largest number met
    MinMax,
    /// See --percentile
    Percentile,
    /// The least mean squared error
    Mse,
    /// The least divergence of the distributions
    Entropy,
}

impl Optimize {
    /// The limit on what quantization may cost.
    pub(crate) fn budget(&self) -> Option<Budget> {
        let loss = self.max_accuracy_loss.map(Budget::AccuracyLoss);
        loss.or_else(|| self.min_snr.map(Budget::SignalToNoise))
    }
}

/// `2:4`, `magnitude:0.5`, `channels:25%`.
fn parse_pruning(text: &str) -> Result<Pruning, String> {
    let kinds = "expected 2:4, magnitude:RATIO or channels:RATIO, as channels:25%";
    if text == "2:4" {
        return Ok(Pruning::TwoOfFour);
    }
    let (kind, ratio) = text.split_once(':').ok_or(kinds)?;
    let pruning = match kind {
        "magnitude" => Pruning::Magnitude,
        "channels" => Pruning::Channels,
        _ => return Err(kinds.into()),
    };
    let share = parse_loss(ratio).ok().filter(|share| *share > 0.0 && *share < 1.0);
    Ok(pruning(share.ok_or("expected a ratio above 0 and below 1, as 0.25 or 25%")?))
}

fn parse_percentile(text: &str) -> Result<f64, String> {
    let percent: f64 = text.trim_end_matches('%').parse().map_err(|_| "expected a number")?;
    if (50.0..=100.0).contains(&percent) {
        Ok(percent)
    } else {
        Err("expected a percentile between 50 and 100".into())
    }
}

/// `0.5%` or `0.005`.
fn parse_loss(text: &str) -> Result<f64, String> {
    let (digits, unit) = match text.strip_suffix('%') {
        Some(digits) => (digits.trim(), 0.01),
        None => (text, 1.0),
    };
    let share = digits.parse::<f64>().map_err(|_| "expected a share, as 0.5%")? * unit;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err("expected a share between 0% and 100%".into())
    }
}

/// `30dB` or `30`.
pub(super) fn parse_decibels(text: &str) -> Result<f64, String> {
    let digits = text.strip_suffix("dB").unwrap_or(text).trim();
    let ratio: f64 = digits.parse().map_err(|_| "expected a ratio, as 30dB")?;
    if ratio.is_finite() { Ok(ratio) } else { Err("expected a finite ratio, as 30dB".into()) }
}
