//! Fewer weights: what goes, and what that costs on real data.

use anychip_ir::Graph;
use anychip_quantize::{
    Kind, Matrix, Pattern, Removed, Site, Wanted, input_sums, pruned, remove_channels,
    rewrite_weights,
};

use super::layers::{Wants, each_of};
use super::runs::{self, sum_inputs};
use super::walk::Walk;
use super::{Samples, quantizable, repair, room};
use crate::Error;

/// What is taken from a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pruning {
    /// Two of each four neighboring weights become zeros.
    TwoOfFour,
    /// This share of the weights of each layer becomes zeros.
    Magnitude(f64),
    /// This share of the channels of layers leaves the graph.
    Channels(f64),
}

/// What pruning took, and what it cost.
#[derive(Debug, Clone, Default)]
pub struct PruneReport {
    /// Weights of layers that are not 0, before and after.
    pub weights: [usize; 2],
    /// Layers with more zeros than before, or fewer channels; and layers that pruning looked at.
    pub layers: [usize; 2],
    /// Channels that went.
    pub removed: Vec<Removed>,
    /// Layers whose weights were fitted again to make up for channels that went before them.
    pub refitted: usize,
    /// Signal to noise of the outputs against the model as it was, in dB; `None` without data.
    pub signal_to_noise: Option<f64>,
    /// Right answers and all, before and after, where there are labels.
    pub accuracy: Option<[(usize, usize); 2]>,
}

/// Batches that the inputs of layers are looked at on.
pub(super) const BATCHES: usize = 16;

/// The model's graph, optimized, with fewer weights. With samples zeros are chosen by the inputs of layers, and the weights that
/// stay make up for those that go; what it cost is measured on them.
pub fn prune(
    graph: &Graph,
    pruning: Pruning,
    samples: Option<&Samples>,
) -> Result<(Graph, PruneReport), Error> {
    let sites = quantizable(graph)?;
    let batches = samples.map(|s| s.batches(graph)).transpose()?.unwrap_or_default();
    let mut report = PruneReport { weights: [left(graph), 0], ..PruneReport::default() };
    let result = match pruning {
        Pruning::Channels(share) => {
            let narrowed = remove_channels(graph, &sites, share)?;
            if narrowed.removed.is_empty() {
                return Err(Error::NothingToPrune(
                    "no layer's channels can go: what reads them needs all of them, or there are too few\n  help: ask for a larger share, or for --prune 2:4 or magnitude:RATIO"
                        .into(),
                ));
            }
            let went = narrowed.removed.iter().map(|r| r.layers.len()).sum();
            report.layers = [went, sites.len()];
            let (smaller, refitted) = repair::repaired(graph, &sites, &narrowed, &batches)?;
            report.refitted = refitted;
            report.removed = narrowed.removed;
            smaller
        }
        Pruning::TwoOfFour => zeros(graph, &sites, Pattern::TwoOfFour, &batches, &mut report)?,
        Pruning::Magnitude(share) => {
            zeros(graph, &sites, Pattern::Smallest(share), &batches, &mut report)?
        }
    };
    report.weights[1] = left(&result);
    if !batches.is_empty() {
        let exact = runs::outputs(graph, &batches)?;
        let found = runs::compare(&result, &batches, &exact)?;
        report.signal_to_noise = Some(found.signal_to_noise);
        report.accuracy = exact.accuracy.zip(found.accuracy).map(|(a, b)| [a, b]);
    }
    Ok((result, report))
}

/// Weights of layers that are not 0.
fn left(graph: &Graph) -> usize {
    let of_layer = |site: &Site| {
        let weights = graph.constant(site.weight).and_then(|t| {
            let count = t.elements::<f32>().map(|w| w.iter().filter(|&&w| w != 0.0).count());
            anychip_tensor::release_mapped(t.bytes());
            count
        });
        weights.unwrap_or_default()
    };
    anychip_quantize::sites(graph).iter().map(of_layer).sum()
}

fn zeros(
    graph: &Graph,
    sites: &[Site],
    pattern: Pattern,
    batches: &[super::Batch],
    report: &mut PruneReport,
) -> Result<Graph, Error> {
    let mut walk = Walk::new(graph, &batches[..batches.len().min(BATCHES)]);
    let mut layers = Vec::new();
    let mut from = 0;
    while from < sites.len() {
        let (mut to, mut held) = (from, 0);
        while to < sites.len() && (to == from || held <= room(graph)) {
            held += Wants::all_of(graph, &sites[to]).held();
            to += 1;
        }
        let part = &sites[from..to];
        let mut grams = vec![None; part.len()];
        if !batches.is_empty() {
            walk.advance(part[0].node)?;
            let wanted: Vec<Wanted<'_>> = part
                .iter()
                .map(|site| Wanted { site, runs: Wants::all_of(graph, site).runs, grid: None })
                .collect();
            let probe = input_sums(graph, walk.known(), &wanted)?;
            let sums = sum_inputs(&walk, &probe, &wanted, usize::MAX)?;
            grams = sums.into_iter().map(|s| s.gram).collect();
        }
        let made = each_of(part, grams, &|site, gram| {
            let matrix = Matrix::of(graph, site)?;
            let shape = graph.constant(site.weight).map(|t| t.shape().to_vec()).unwrap_or_default();
            let taps = match site.kind {
                Kind::Convolution => shape[2..].iter().product(),
                Kind::Dot { .. } => 1,
            };
            Ok::<_, Error>(pruned(&matrix, pattern, taps, gram.as_ref()))
        });
        for (site, made) in part.iter().zip(made) {
            if let Some(rows) = made? {
                layers.push((site, rows));
            }
        }
        from = to;
    }
    if layers.is_empty() {
        return Err(Error::NothingToPrune(
            "no layer has inputs in fours\n  help: --prune magnitude:RATIO takes any layer".into(),
        ));
    }
    report.layers = [layers.len(), sites.len()];
    Ok(rewrite_weights(graph, &layers)?)
}

/// How much faster two models are on one chip.
#[derive(Debug, Clone)]
pub struct Gain {
    /// The chip.
    pub chip: String,
    /// Seconds an inference before and after.
    pub seconds: [f64; 2],
    /// Whether both were measured here; else estimated or simulated.
    pub measured: bool,
}

/// What each chip that can tell gains from another graph in place of a model's: measured on this machine's processor, predicted
/// from the catalog elsewhere.
pub fn gains(
    model: &crate::Model,
    graphs: [&Graph; 2],
    chips: &[anychip_chips::Chip],
) -> Result<Vec<Gain>, Error> {
    let options = crate::CompareOptions { batch: 1, ..crate::CompareOptions::default() };
    let [before, after] = graphs.map(|graph| {
        let sizes =
            crate::choose_sizes(graph, &std::collections::BTreeMap::new(), model.usual_sizes(), 1)?;
        let fixed = crate::with_sizes(graph, &sizes)?;
        crate::compare(model, &fixed, chips, &options, &mut |_| {})
    });
    let (before, after) = (before?, after?);
    Ok(chips
        .iter()
        .zip(before.iter().zip(&after))
        .filter_map(|(chip, (before, after))| {
            let (b, a) = (before.latency_s.as_ref()?, after.latency_s.as_ref()?);
            let measured = [b, a].iter().all(|f| f.basis() == anychip_units::Basis::Measured);
            Some(Gain { chip: chip.id.clone(), seconds: [b.value(), a.value()], measured })
        })
        .collect())
}
