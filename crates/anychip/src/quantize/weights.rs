//! Weights alone in fewer bits, and models in 16-bit floats.

use anychip_ir::Graph;
use anychip_quantize::{
    BlockFormat, Blocks, Gram, Kind, Matrix, Site, Wanted, in_blocks, in_scaled_blocks, input_sums,
    rewrite_blocks, rows_of, to_half,
};
use anychip_tensor::DType;

use super::layers::{Wants, each_of};
use super::runs::{self, decibels, sum_inputs};
use super::walk::Walk;
use super::{Batch, LayerReport, QuantizeReport, Samples, quantizable, room, samples_in};
use crate::Error;

/// What weights are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightFormat {
    /// 4 or 8 bits.
    pub bits: u32,
    /// Weights that share a scale.
    pub group: usize,
}

/// How weights are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightRounding {
    /// Each to the nearest; needs no data.
    Nearest,
    /// Errors are made up for by the weights after (GPTQ).
    Gptq,
    /// Weights of large inputs are scaled up before (AWQ).
    Awq,
}

/// Batches that matrices of sums are gathered from.
const GRAM_BATCHES: usize = 64;

/// The graph with the weights of its products as integers; what it cost is known where there are samples.
pub fn quantize_weights(
    graph: &Graph,
    format: WeightFormat,
    rounding: WeightRounding,
    samples: Option<&Samples>,
) -> Result<(Graph, QuantizeReport), Error> {
    let sites: Vec<Site> =
        quantizable(graph)?.into_iter().filter(|s| matches!(s.kind, Kind::Dot { .. })).collect();
    if sites.is_empty() {
        let reason = "the model has no product with constant f32 weights, only convolutions\n  help: --quantize int8 takes those";
        return Err(Error::NothingToQuantize(reason.into()));
    }
    let dtype = if format.bits == 4 { DType::I4 } else { DType::I8 };
    let blocks = BlockFormat { dtype, block: format.group };
    let batches = samples.map(|s| s.batches(graph)).transpose()?.unwrap_or_default();
    let mut layers = Vec::new();
    let mut report = QuantizeReport::default();
    let looks = !batches.is_empty();
    let mut walk = Walk::new(graph, &batches[..batches.len().min(GRAM_BATCHES)]);
    let mut from = 0;
    while from < sites.len() {
        let (mut to, mut held) = (from, 0);
        while to < sites.len() && (to == from || held <= room(graph)) {
            held += if looks { Wants::all_of(graph, &sites[to]).held() } else { 0 };
            to += 1;
        }
        let part = &sites[from..to];
        let sums = if looks {
            walk.advance(part[0].node)?;
            gathered(graph, &walk, part)?
        } else {
            vec![None; part.len()]
        };
        let made =
            each_of(part, sums, &|site, gram| layer(graph, site, blocks, rounding, gram.as_ref()));
        for (site, made) in part.iter().zip(made) {
            let (own, signal_to_noise) = made?;
            report.layers.push(LayerReport {
                name: site.name.clone(),
                op: graph.node(site.node).op.name(),
                signal_to_noise,
                effect: None,
                quantized: true,
            });
            layers.push((site, own));
        }
        from = to;
    }
    let result = rewrite_blocks(graph, &layers)?;
    drop(layers);
    measure(graph, &result, &batches, &mut report)?;
    Ok((result, report))
}

/// A layer's weights in blocks, and the signal to noise of its output in dB where its inputs are known.
fn layer(
    graph: &Graph,
    site: &Site,
    format: BlockFormat,
    rounding: WeightRounding,
    gram: Option<&Gram>,
) -> Result<(Blocks, Option<f64>), Error> {
    let matrix = Matrix::of(graph, site)?;
    let own = match (rounding, gram) {
        (WeightRounding::Gptq, Some(_)) => in_blocks(&matrix, format, gram)?,
        (WeightRounding::Awq, Some(gram)) => in_scaled_blocks(&matrix, format, gram)?,
        _ => in_blocks(&matrix, format, None)?,
    };
    let Some(gram) = gram else { return Ok((own, None)) };
    let mut restored = rows_of(&own);
    if let Some(inputs) = &own.inputs {
        for (i, w) in restored.iter_mut().enumerate() {
            *w *= inputs[i % matrix.columns];
        }
    }
    let noise = gram.error(&matrix, &restored);
    restored.fill(0.0);
    Ok((own, Some(decibels(gram.error(&matrix, &restored), noise))))
}

fn gathered(graph: &Graph, walk: &Walk<'_>, part: &[Site]) -> Result<Vec<Option<Gram>>, Error> {
    let wanted: Vec<Wanted<'_>> = part
        .iter()
        .map(|site| Wanted { site, runs: Wants::all_of(graph, site).runs, grid: None })
        .collect();
    let probe = input_sums(graph, walk.known(), &wanted)?;
    let sums = sum_inputs(walk, &probe, &wanted, usize::MAX)?;
    Ok(sums.into_iter().map(|s| s.gram).collect())
}

/// The graph in 16-bit floats where they hold what is computed, with 32 bits elsewhere.
pub fn halve(
    graph: &Graph,
    to_bf16: bool,
    samples: Option<&Samples>,
) -> Result<(Graph, QuantizeReport), Error> {
    let to = if to_bf16 { DType::BF16 } else { DType::F16 };
    for value in graph.values() {
        let Some(tensor) = graph.constant(value).filter(|t| t.dtype() == DType::F32) else {
            continue;
        };
        if tensor.to_f64().iter().any(|v| v.is_nan()) {
            let (tensor, what) = (runs::called(graph, value), "NaN in a weight");
            return Err(anychip_quantize::QuantizeError::NotFinite { tensor, what }.into());
        }
    }
    let (result, [changed, _]) = to_half(graph, to)?;
    if changed == 0 {
        let reason = "the model has no operator in f32 that 16 bits would do for";
        return Err(Error::NothingToQuantize(reason.into()));
    }
    let batches = samples.map(|s| s.batches(graph)).transpose()?.unwrap_or_default();
    let mut report = QuantizeReport::default();
    measure(graph, &result, &batches, &mut report)?;
    Ok((result, report))
}

/// Notes in a report how far two graphs are apart.
pub(super) fn measure(
    graph: &Graph,
    other: &Graph,
    batches: &[Batch],
    report: &mut QuantizeReport,
) -> Result<(), Error> {
    if batches.is_empty() {
        return Ok(());
    }
    let exact = runs::outputs(graph, batches)?;
    let found = runs::compare(other, batches, &exact)?;
    report.samples = batches.iter().map(samples_in).sum();
    report.signal_to_noise = Some(found.signal_to_noise);
    report.accuracy = exact.accuracy.zip(found.accuracy).map(|(a, b)| [a, b]);
    Ok(())
}
