//! Integers for the weights of every layer: scales, rounding by what goes in, biases that keep the mean.

use anychip_quantize::{
    Gram, Layer, Matrix, Plan, Site, bias_limit, codes_tensor, grams, local_errors,
    round_to_nearest, round_with_gram, row_scales,
};

use super::runs::{decibels, sum_errors, sum_grams};
use super::{Batch, Calibrated};
use crate::Error;

/// A layer's integers, and the signal to noise of its own output in dB.
#[derive(Debug, Clone)]
pub(super) struct Rounded {
    pub(super) layer: Layer,
    pub(super) signal_to_noise: f64,
}

/// The largest integer of a weight.
const MOST: i32 = 127;

/// Layers that sum more products than this are rounded to the nearest: their matrix of sums would not fit.
const MOST_COLUMNS: usize = 4608;

/// Numbers of the matrices of sums that are gathered in one pass over the data.
const AT_ONCE: usize = 1 << 26;

/// Batches that matrices of sums are gathered from: rounding needs fewer samples than ranges do.
const GRAM_BATCHES: usize = 16;

/// Integers for all layers of a calibrated graph.
pub(super) fn round(calibrated: &Calibrated<'_>) -> Result<Vec<Rounded>, Error> {
    let sites: Vec<&Site> = calibrated.sites.iter().collect();
    let plan = Plan::new(calibrated.graph, &sites);
    let grids = calibrated.grids(&plan);
    let mut layers: Vec<(&Site, Layer)> = Vec::new();
    for part in parts(calibrated) {
        let inputs = sums(calibrated, part)?;
        for (site, gram) in part.iter().zip(inputs) {
            let input_scale =
                plan.group(site.input).and_then(|g| grids.get(&g)).map_or(1.0, |g| g.scale);
            layers.push((site, layer(calibrated, site, gram.as_ref(), input_scale)?));
        }
    }
    let mut errors =
        sum_errors(&local_errors(calibrated.graph, &plan, &grids, &layers)?, calibrated.batches)?;
    if calibrated.options.bias_correction {
        let before = layers.clone();
        for ((site, layer), error) in layers.iter_mut().zip(&errors) {
            let bias = layer.bias.get_or_insert_with(|| vec![0.0; layer.scales.len()]);
            for (value, off) in bias.iter_mut().zip(&error.off) {
                *value += (off / error.count.max(1.0)) as f32;
            }
            let input_scale =
                plan.group(site.input).and_then(|g| grids.get(&g)).map_or(1.0, |g| g.scale);
            // A bias that no longer fits would need other scales: leave it as it was.
            let fits = bias
                .iter()
                .zip(&layer.scales)
                .all(|(&b, &s)| bias_limit(b, input_scale) <= f64::from(s));
            if !fits {
                layer.bias = None;
            }
        }
        for ((_, layer), (_, old)) in layers.iter_mut().zip(before) {
            if layer.bias.is_none() {
                layer.bias = old.bias;
            }
        }
        errors = sum_errors(
            &local_errors(calibrated.graph, &plan, &grids, &layers)?,
            calibrated.batches,
        )?;
    }
    Ok(layers
        .into_iter()
        .zip(errors)
        .map(|((_, layer), error)| Rounded {
            layer,
            signal_to_noise: decibels(error.signal, error.noise),
        })
        .collect())
}

/// The layers in runs whose matrices of sums fit into memory together.
fn parts<'a>(calibrated: &Calibrated<'a>) -> Vec<&'a [Site]> {
    let mut parts = Vec::new();
    let (mut from, mut held) = (0, 0);
    for (i, site) in calibrated.sites.iter().enumerate() {
        let size = gram_size(calibrated, site);
        if i > from && held + size > AT_ONCE {
            parts.push(&calibrated.sites[from..i]);
            (from, held) = (i, 0);
        }
        held += size;
    }
    parts.push(&calibrated.sites[from..]);
    parts
}

/// How many numbers a layer's matrix of sums has; 0 where none is wanted.
fn gram_size(calibrated: &Calibrated<'_>, site: &Site) -> usize {
    let shape = calibrated.graph.constant(site.weight).map(|t| t.shape().to_vec());
    let shape = shape.unwrap_or_default();
    let groups = groups(calibrated, site);
    let columns = match site.kind {
        anychip_quantize::Kind::Convolution => shape[1..].iter().product(),
        anychip_quantize::Kind::Dot { transposed } => shape[usize::from(transposed)],
    };
    if columns > MOST_COLUMNS || !calibrated.options.adaptive_rounding {
        return 0;
    }
    groups * columns * columns
}

fn groups(calibrated: &Calibrated<'_>, site: &Site) -> usize {
    match &calibrated.graph.node(site.node).op {
        anychip_ir::Op::Prim(anychip_ir::Prim::Convolution(dims, _)) => dims.groups,
        _ => 1,
    }
}

/// The matrix of sums of each layer of a part that wants one.
fn sums(calibrated: &Calibrated<'_>, part: &[Site]) -> Result<Vec<Option<Gram>>, Error> {
    let wanted: Vec<&Site> = part.iter().filter(|s| gram_size(calibrated, s) > 0).collect();
    if wanted.is_empty() {
        return Ok(vec![None; part.len()]);
    }
    let probe = grams(calibrated.graph, &wanted)?;
    let some: &[Batch] = &calibrated.batches[..calibrated.batches.len().min(GRAM_BATCHES)];
    let mut found = sum_grams(&probe, some)?.into_iter();
    Ok(part
        .iter()
        .map(|site| if gram_size(calibrated, site) > 0 { found.next() } else { None })
        .collect())
}

fn layer(
    calibrated: &Calibrated<'_>,
    site: &Site,
    gram: Option<&Gram>,
    input_scale: f32,
) -> Result<Layer, Error> {
    let graph = calibrated.graph;
    let matrix = Matrix::of(graph, site)?;
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
    let mut scales = row_scales(&matrix, MOST, true, None, power_of_two);
    for (row, scale) in scales.iter_mut().enumerate() {
        let limit = bias.as_ref().map_or(0.0, |b| bias_limit(b[row], input_scale));
        if f64::from(*scale) < limit {
            let step = if power_of_two { limit.log2().ceil().exp2() } else { limit };
            *scale = step as f32;
        }
    }
    let codes = match gram {
        Some(gram) => round_with_gram(&matrix, gram, &|row, _| scales[row], (-MOST, MOST)),
        None => round_to_nearest(&matrix, &scales, MOST),
    };
    let codes = codes_tensor(graph, site, &matrix, &codes).map_err(anychip_ir::IrError::from)?;
    Ok(Layer { codes, scales, bias })
}
