//! Post-training quantization: calibration runs on this machine's CPU, the arithmetic is [`anychip_quantize`]'s.

mod budget;
mod dynamic;
mod equalize;
mod layers;
mod prune;
mod repair;
mod runs;
mod samples;
mod walk;
mod weights;

pub use anychip_quantize::Method;
pub use dynamic::quantize_dynamic;
pub use prune::{Gain, PruneReport, Pruning, gains, prune};
pub use samples::{Batch, Samples};
pub use weights::{WeightFormat, WeightRounding, halve, quantize_weights};

use std::collections::BTreeMap;

use anychip_ir::{Graph, Op, Prim, TensorType, ValueId};
use anychip_quantize::{Grid, GridOptions, Histogram, Plan, Site, choose_grid, rewrite};
use anychip_tensor::DType;

use crate::Error;
use layers::Rounded;
use runs::{Compared, Outputs};

/// How a model is quantized to 8-bit integers.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct QuantizeOptions {
    /// How the ranges of activations are chosen.
    pub method: Method,
    /// Zero points of activations are 0, as some accelerators need it.
    pub symmetric: bool,
    /// All scales are powers of two, for hardware that shifts.
    pub power_of_two: bool,
    /// Round weights by what the layer's inputs are, not each to the nearest.
    pub adaptive_rounding: bool,
    /// Make up for what rounding moves the mean of each channel by.
    pub bias_correction: bool,
    /// Whether ranges move from activations into weights.
    pub equalize: Equalize,
    /// What the result has to keep to, at the price of layers that stay in floats.
    pub budget: Option<Budget>,
}

impl Default for QuantizeOptions {
    fn default() -> QuantizeOptions {
        QuantizeOptions {
            method: Method::Mse,
            symmetric: false,
            power_of_two: false,
            adaptive_rounding: true,
            bias_correction: true,
            equalize: Equalize::Auto,
            budget: None,
        }
    }
}

/// When channels of activations are divided by their sizes and the weights that read them multiplied (`SmoothQuant`, cross-layer
/// equalization).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Equalize {
    /// Where much is to be gained, and if the model's outputs then have less noise.
    Auto,
    /// Wherever anything is to be gained.
    Always,
    /// Nowhere.
    Never,
}

/// A limit on what quantization may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// The least ratio of signal to noise of the outputs, in dB.
    SignalToNoise(f64),
    /// The most accuracy that may be lost, as a share of all answers.
    AccuracyLoss(f64),
}

/// What quantization cost and where.
#[derive(Debug, Clone, Default)]
pub struct QuantizeReport {
    /// Layers in the order of the model.
    pub layers: Vec<LayerReport>,
    /// Signal to noise of the outputs against the float model, in dB; infinite where nothing changed, `None` without data.
    pub signal_to_noise: Option<f64>,
    /// Right answers and all, of the float model and the result, where there are labels.
    pub accuracy: Option<[(usize, usize); 2]>,
    /// Samples of the calibration data that were run.
    pub samples: usize,
    /// How many values had ranges of channels moved into the weights of layers that read them.
    pub equalized: usize,
    /// Whether the budget is kept; `None` without one.
    pub budget_kept: Option<bool>,
}

/// One layer of a report.
#[derive(Debug, Clone)]
pub struct LayerReport {
    /// What the model calls it.
    pub name: String,
    /// Its operator.
    pub op: &'static str,
    /// Signal to noise of its own output when it alone is on integers, in dB; `None` where no data told.
    pub signal_to_noise: Option<f64>,
    /// Signal to noise of the model's outputs when it alone is on integers, in dB, where a budget asked for it.
    pub effect: Option<f64>,
    /// Whether it is on integers.
    pub quantized: bool,
}

/// Batches on which layers are compared with each other; whole models are compared on all.
const COMPARED_ON: usize = 4;

/// The model's graph, optimized, on 8-bit integers where that keeps to the options; and what it cost.
pub fn quantize(
    graph: &Graph,
    samples: &Samples,
    options: &QuantizeOptions,
) -> Result<(Graph, QuantizeReport), Error> {
    let sites = quantizable(graph)?;
    let batches = samples.batches(graph)?;
    let exact = runs::outputs(graph, &batches)?;
    let plain = Calibrated::of(graph, &sites, &batches, options)?;
    let moved = equalize::moved(&plain)?;
    let mut best = match (&moved, options.equalize) {
        (Some(_), Equalize::Always) => None,
        _ => Some(Attempt::of(plain, &exact)?),
    };
    let mut equalized = 0;
    let own_sites = moved.as_ref().map(|moved| quantizable(&moved.graph)).transpose()?;
    if let (Some(moved), Some(sites)) = (&moved, &own_sites) {
        let calibrated = Calibrated::of(&moved.graph, sites, &batches, options)?;
        let other = Attempt::of(calibrated, &exact)?;
        if best.as_ref().is_none_or(|best| other.is_better(best)) {
            (best, equalized) = (Some(other), moved.values);
        }
    }
    let Some(Attempt { calibrated, layers, mut trial }) = best else {
        unreachable!("one was made")
    };
    let mut report = QuantizeReport {
        samples: batches.iter().map(samples_in).sum(),
        equalized,
        layers: sites
            .iter()
            .zip(&layers)
            .map(|(site, rounded)| LayerReport {
                name: site.name.clone(),
                op: graph.node(site.node).op.name(),
                signal_to_noise: Some(rounded.signal_to_noise),
                effect: None,
                quantized: true,
            })
            .collect(),
        ..QuantizeReport::default()
    };
    let mut chosen = vec![true; sites.len()];
    if let Some(budget) = options.budget {
        trial =
            budget::keep(&calibrated, &layers, &exact, budget, trial, &mut chosen, &mut report)?;
    }
    for (layer, chosen) in report.layers.iter_mut().zip(&chosen) {
        layer.quantized = *chosen;
    }
    report.signal_to_noise = Some(trial.compared.signal_to_noise);
    report.accuracy = exact.accuracy.zip(trial.compared.accuracy).map(|(a, b)| [a, b]);
    Ok((trial.graph, report))
}

/// A graph with all its layers on integers, and how it did.
struct Attempt<'a> {
    calibrated: Calibrated<'a>,
    layers: Vec<Rounded>,
    trial: Trial,
}

impl<'a> Attempt<'a> {
    fn of(calibrated: Calibrated<'a>, exact: &Outputs) -> Result<Attempt<'a>, Error> {
        let layers = layers::round(&calibrated)?;
        let trial = calibrated.trial(&layers, &vec![true; layers.len()], exact)?;
        Ok(Attempt { calibrated, layers, trial })
    }

    fn is_better(&self, other: &Attempt<'_>) -> bool {
        self.trial.compared.signal_to_noise > other.trial.compared.signal_to_noise
    }
}

/// How many samples a batch holds.
fn samples_in(batch: &Batch) -> usize {
    batch.inputs.first().and_then(|t| t.shape().first()).copied().unwrap_or(1)
}

/// The layers that can go on integers, or why none can.
fn quantizable(graph: &Graph) -> Result<Vec<Site>, Error> {
    let already = graph.nodes().iter().find(|n| {
        matches!(
            n.op,
            Op::Prim(Prim::Quantize { .. } | Prim::Dequantize { .. } | Prim::Requantize { .. })
        )
    });
    if let Some(node) = already {
        return Err(Error::NothingToQuantize(format!(
            "the model is quantized already: `{}` is a {}\n  help: start from the float model it was made from",
            node.label(),
            node.op.name()
        )));
    }
    let sites = anychip_quantize::sites(graph);
    if sites.is_empty() {
        return Err(Error::NothingToQuantize(
            "the model has no convolution and no product with constant f32 weights".into(),
        ));
    }
    Ok(sites)
}

/// A graph with what was seen of its values.
pub(crate) struct Calibrated<'a> {
    graph: &'a Graph,
    sites: &'a [Site],
    batches: &'a [Batch],
    histograms: BTreeMap<ValueId, Histogram>,
    options: &'a QuantizeOptions,
}

/// A graph with some layers on integers, and how it did.
pub(crate) struct Trial {
    graph: Graph,
    compared: Compared,
}

impl<'a> Calibrated<'a> {
    /// Runs a graph on all batches to see which numbers its values take.
    fn of(
        graph: &'a Graph,
        sites: &'a [Site],
        batches: &'a [Batch],
        options: &'a QuantizeOptions,
    ) -> Result<Calibrated<'a>, Error> {
        let all: Vec<&Site> = sites.iter().collect();
        let values: Vec<ValueId> = Plan::new(graph, &all).values().collect();
        let histograms =
            values.iter().copied().zip(runs::observe(graph, &values, batches)?).collect();
        Ok(Calibrated { graph, sites, batches, histograms, options })
    }

    /// The grid of each group of a plan.
    fn grids(&self, plan: &Plan) -> BTreeMap<ValueId, Grid> {
        let mut groups: BTreeMap<ValueId, Histogram> = BTreeMap::new();
        for value in plan.values() {
            if let (Some(group), Some(seen)) = (plan.group(value), self.histograms.get(&value)) {
                groups.entry(group).or_default().merge(seen);
            }
        }
        let options = GridOptions {
            dtype: DType::I8,
            symmetric: self.options.symmetric,
            power_of_two: self.options.power_of_two,
        };
        groups
            .into_iter()
            .map(|(group, seen)| (group, choose_grid(&seen, self.options.method, options)))
            .collect()
    }

    /// The graph with the chosen layers on integers.
    fn rewritten(&self, layers: &[Rounded], chosen: &[bool]) -> Result<Graph, Error> {
        let some: Vec<&Site> =
            self.sites.iter().zip(chosen).filter(|(_, c)| **c).map(|(s, _)| s).collect();
        let plan = Plan::new(self.graph, &some);
        let grids = self.grids(&plan);
        let own: Vec<_> = self
            .sites
            .iter()
            .zip(layers)
            .zip(chosen)
            .filter(|(_, c)| **c)
            .map(|((site, rounded), _)| (site, rounded.layer.clone()))
            .collect();
        Ok(rewrite(self.graph, &plan, &grids, &own)?)
    }

    /// [`Calibrated::rewritten`], run on the calibration data.
    fn trial(&self, layers: &[Rounded], chosen: &[bool], exact: &Outputs) -> Result<Trial, Error> {
        let graph = self.rewritten(layers, chosen)?;
        let compared = runs::compare(&graph, self.batches, exact)?;
        Ok(Trial { graph, compared })
    }
}

/// Bytes that may be held beside the model at each step: a quarter of its weights, and of a small model what a run takes anyway.
fn room(graph: &Graph) -> usize {
    const LEAST: usize = 1 << 25;
    let weights = graph.values().filter_map(|v| graph.constant(v));
    (weights.map(anychip_tensor::Tensor::byte_len).sum::<usize>() / 4).max(LEAST)
}

/// How many samples may run at once so that all values of a graph together stay below 128 MiB.
pub(crate) fn samples_at_once(graph: &Graph) -> usize {
    const ELEMENTS: usize = 1 << 25;
    let size = |ty: &TensorType| -> usize {
        ty.shape.iter().map(|d| d.fixed().unwrap_or(1)).fold(1, usize::saturating_mul)
    };
    let all: usize = graph
        .nodes()
        .iter()
        .filter(|n| !matches!(n.op, Op::Prim(Prim::Constant(_))))
        .flat_map(|n| &n.outputs)
        .map(|&v| size(graph.ty(v)))
        .fold(0, usize::saturating_add);
    (ELEMENTS / all.max(1)).clamp(1, 64)
}
