//! Integers for the weights of every layer: scales, rounding by what goes in, biases that keep the mean.
//!
//! Layers are taken in runs, in the order of the model. For each run the model is run as far as those layers, and their inputs'
//! sums are all that is kept of it; so memory is bounded by [`super::room`] whatever the model and the data.

use anychip_ir::{Op, Prim, ValueId};
use anychip_quantize::{
    Gram, Grid, Kind, Layer, Matrix, Plan, Site, Wanted, bias_limit, codes_tensor, input_sums,
    local_errors, round_to_nearest, round_with_gram, row_scales,
};
use std::collections::BTreeMap;

use super::runs::{InputSums, decibels, sum_errors, sum_inputs};
use super::walk::{Walk, bytes};
use super::{COMPARED_ON, Calibrated, room, samples_in};
use crate::Error;

/// A layer's integers, and the signal to noise of its own output in dB.
#[derive(Debug, Clone)]
pub(super) struct Rounded {
    pub(super) layer: Layer,
    pub(super) signal_to_noise: f64,
}

/// The largest integer of a weight.
const MOST: i32 = 127;

/// Batches that sums are gathered from: rounding needs fewer samples than ranges do. At least so many, and more up to the
/// other number where a layer would see fewer than [`VECTORS`] vectors for each of its columns.
pub(super) const BATCHES: (usize, usize) = (4, 16);
const VECTORS: usize = 8;

/// Integers for all layers of a calibrated graph.
pub(super) fn round(calibrated: &Calibrated<'_>) -> Result<Vec<Rounded>, Error> {
    let sites: Vec<&Site> = calibrated.sites.iter().collect();
    let plan = Plan::new(calibrated.graph, &sites);
    let grids = calibrated.grids(&plan);
    let grid_of = |site: &Site| plan.group(site.input).and_then(|g| grids.get(&g)).copied();
    let mut layers: Vec<(&Site, Layer)> = Vec::new();
    let some = &calibrated.batches[..calibrated.batches.len().min(BATCHES.1)];
    let mut walk = Walk::new(calibrated.graph, some);
    for part in parts(calibrated, |site| Wants::of(calibrated, site).held()) {
        walk.advance(part[0].node)?;
        let sums = gathered(calibrated, &walk, part, &grid_of)?;
        let rounded =
            each_of(part, sums, &|site, sums| layer(calibrated, site, &sums, grid_of(site)));
        for (site, layer) in part.iter().zip(rounded) {
            layers.push((site, layer?));
        }
    }
    let mut rounded = Vec::new();
    let some = &calibrated.batches[..calibrated.batches.len().min(COMPARED_ON)];
    // Restored weights and what kernels make of them, and results with what is computed of them.
    let held = |site: &Site| {
        let samples = calibrated.batches.first().map_or(1, samples_in);
        8 * weights(calibrated, site.weight) + 2 * bytes(calibrated.graph, site.result, samples)
    };
    let mut walk = Walk::new(calibrated.graph, some);
    let mut from = 0;
    for part in parts(calibrated, held) {
        let own = &layers[from..from + part.len()];
        walk.advance(part[0].node)?;
        let probe = local_errors(calibrated.graph, walk.known(), &plan, &grids, own)?;
        let errors = sum_errors(&walk, &probe)?;
        rounded.extend(own.iter().zip(errors).map(|((_, layer), error)| Rounded {
            layer: layer.clone(),
            signal_to_noise: decibels(error.signal, error.noise),
        }));
        from += part.len();
    }
    Ok(rounded)
}

/// The layers in runs of which each takes no more room than there is, where it has more than one.
fn parts<'a>(calibrated: &Calibrated<'a>, bytes: impl Fn(&Site) -> usize) -> Vec<&'a [Site]> {
    let room = room(calibrated.graph);
    let mut parts = Vec::new();
    let (mut from, mut held) = (0, 0);
    for (i, site) in calibrated.sites.iter().enumerate() {
        let own = bytes(site);
        if i > from && held + own > room {
            parts.push(&calibrated.sites[from..i]);
            (from, held) = (i, 0);
        }
        held += own;
    }
    parts.push(&calibrated.sites[from..]);
    parts
}

fn weights(calibrated: &Calibrated<'_>, weight: ValueId) -> usize {
    calibrated.graph.constant(weight).map_or(0, anychip_tensor::Tensor::len)
}

/// How large what a layer wants to know of its inputs is.
pub(super) struct Wants {
    /// Groups of channels.
    pub(super) groups: usize,
    /// Columns of its weights: products that are summed for one output.
    columns: usize,
    /// In how many runs the columns are cut; 0 where no products of inputs are wanted.
    pub(super) runs: usize,
}

impl Wants {
    fn of(calibrated: &Calibrated<'_>, site: &Site) -> Wants {
        let mut wants = Wants::all_of(calibrated.graph, site);
        if !calibrated.options.adaptive_rounding {
            wants.runs = 0;
        }
        wants
    }

    /// As much as fits into half the room.
    pub(super) fn all_of(graph: &anychip_ir::Graph, site: &Site) -> Wants {
        let groups = match &graph.node(site.node).op {
            Op::Prim(Prim::Convolution(dims, _)) => dims.groups,
            _ => 1,
        };
        let shape = graph.constant(site.weight).map(|t| t.shape().to_vec()).unwrap_or_default();
        let columns = match site.kind {
            Kind::Convolution => shape[1..].iter().product(),
            Kind::Dot { transposed } => shape[usize::from(transposed)],
        };
        let fits = |runs: usize| {
            let wants = Wants { groups, columns, runs };
            columns.is_multiple_of(runs) && wants.held() <= room(graph) / 2
        };
        // One column a run says nothing of what goes together.
        let runs = (1..columns.max(2)).find(|&runs| fits(runs)).unwrap_or(0);
        Wants { groups, columns, runs }
    }

    /// Bytes of the sums of products, in what runs give and in what adds them up.
    pub(super) fn held(&self) -> usize {
        let of_runs = self.columns.checked_div(self.runs).unwrap_or(0) * self.columns;
        8 * self.groups * of_runs
    }
}

/// What each layer of a part wants to know of its inputs.
fn gathered(
    calibrated: &Calibrated<'_>,
    walk: &Walk<'_>,
    part: &[Site],
    grid_of: &dyn Fn(&Site) -> Option<Grid>,
) -> Result<Vec<InputSums>, Error> {
    let mut wanted = Vec::new();
    let mut batches = 0;
    for site in part {
        let wants = Wants::of(calibrated, site);
        let grid = grid_of(site).filter(|_| calibrated.options.bias_correction);
        wanted.push(Wanted { site, runs: wants.runs, grid });
        let enough = (VECTORS * wants.columns).div_ceil(vectors(calibrated, site).max(1));
        batches = batches.max(enough.clamp(BATCHES.0, BATCHES.1));
    }
    if wanted.iter().all(|w| w.runs == 0 && w.grid.is_none()) {
        return Ok(vec![InputSums::default(); part.len()]);
    }
    let probe = input_sums(calibrated.graph, walk.known(), &wanted)?;
    sum_inputs(walk, &probe, &wanted, batches)
}

/// How many vectors of its columns a layer multiplies in one batch, as far as sizes are known.
fn vectors(calibrated: &Calibrated<'_>, site: &Site) -> usize {
    let of_batch = calibrated.batches.first().map_or(1, samples_in);
    let graph = calibrated.graph;
    let sizes = graph.ty(graph.node(site.node).outputs[0]).shape.iter();
    let all: usize = sizes.map(|d| d.fixed().unwrap_or(of_batch)).product();
    let shape = graph.constant(site.weight).map(|t| t.shape().to_vec()).unwrap_or_default();
    let channels = match site.kind {
        Kind::Convolution | Kind::Dot { transposed: true } => shape[0],
        Kind::Dot { transposed: false } => shape[1],
    };
    all / channels.max(1)
}

/// `make` of each layer with what was seen of it, on as many threads as there are processors.
pub(super) fn each_of<T: Send, R: Send>(
    part: &[Site],
    seen: Vec<T>,
    make: &(dyn Fn(&Site, T) -> R + Sync),
) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tasks = std::sync::Mutex::new(part.iter().zip(seen).enumerate());
    let take = || tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    let work = || {
        let mut done = Vec::new();
        while let Some((i, (site, seen))) = take() {
            done.push((i, make(site, seen)));
        }
        done
    };
    let mut all: BTreeMap<usize, R> = BTreeMap::new();
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(part.len())).map(|_| scope.spawn(work)).collect();
        all.extend(work());
        for other in others {
            match other.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    all.into_values().collect()
}

fn layer(
    calibrated: &Calibrated<'_>,
    site: &Site,
    seen: &InputSums,
    grid: Option<Grid>,
) -> Result<Layer, Error> {
    let graph = calibrated.graph;
    let matrix = Matrix::of(graph, site)?;
    let input_scale = grid.map_or(1.0, |g| g.scale);
    let bias: Option<Vec<f32>> = site
        .bias
        .and_then(|b| graph.constant(b.value))
        .map(|t| t.to_f64().into_iter().map(|v| v as f32).collect());
    if bias.iter().flatten().any(|v| !v.is_finite()) {
        let what = "a bias that is NaN or infinite";
        return Err(
            anychip_quantize::QuantizeError::NotFinite { tensor: site.name.clone(), what }.into()
        );
    }
    let power_of_two = calibrated.options.power_of_two;
    let importance = seen.gram.as_ref().map(Gram::diagonal);
    let mut scales = row_scales(&matrix, MOST, true, importance.as_deref(), power_of_two);
    for (row, scale) in scales.iter_mut().enumerate() {
        let limit = bias.as_ref().map_or(0.0, |b| bias_limit(b[row], input_scale));
        if f64::from(*scale) < limit {
            let step = if power_of_two { limit.log2().ceil().exp2() } else { limit };
            *scale = step as f32;
        }
    }
    let codes = match &seen.gram {
        Some(gram) => round_with_gram(&matrix, gram, &|row, _| scales[row], (-MOST, MOST)),
        None => round_to_nearest(&matrix, &scales, MOST),
    };
    let bias = corrected(&matrix, &codes, &scales, seen, input_scale, bias);
    let codes = codes_tensor(graph, site, &matrix, &codes).map_err(anychip_ir::IrError::from)?;
    Ok(Layer { codes, scales, bias })
}

/// The bias with what rounding moves the mean of each channel by: of `w·x − q·x̂ = (w − q)·x + q·(x − x̂)`.
fn corrected(
    matrix: &Matrix,
    codes: &[i8],
    scales: &[f32],
    seen: &InputSums,
    input_scale: f32,
    bias: Option<Vec<f32>>,
) -> Option<Vec<f32>> {
    if seen.count == 0.0 {
        return bias;
    }
    let columns = matrix.columns;
    let groups = (seen.sum.len() / columns.max(1)).max(1);
    let rows = (matrix.rows / groups).max(1);
    let mut own = bias.clone().unwrap_or_else(|| vec![0.0; matrix.rows]);
    for (r, value) in own.iter_mut().enumerate() {
        let of_group = r / rows * columns..(r / rows + 1) * columns;
        let inputs = seen.sum[of_group.clone()].iter().zip(&seen.moved[of_group]);
        let codes = &codes[r * columns..(r + 1) * columns];
        let off: f64 = matrix
            .row(r)
            .iter()
            .zip(codes)
            .zip(inputs)
            .map(|((&w, &q), (x, moved))| {
                let q = f64::from(q) * f64::from(scales[r]);
                (f64::from(w) - q) * x + q * moved
            })
            .sum();
        *value += (off / seen.count) as f32;
    }
    // A bias that no longer fits would need other scales: leave it as it was.
    let fits = own.iter().zip(scales).all(|(&b, &s)| bias_limit(b, input_scale) <= f64::from(s));
    if fits { Some(own) } else { bias }
}
