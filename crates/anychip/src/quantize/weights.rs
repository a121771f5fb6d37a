//! Weights alone in fewer bits, and models in 16-bit floats.

use anychip_ir::Graph;
use anychip_quantize::{
    BlockFormat, Gram, Kind, Matrix, Site, grams, in_blocks, in_scaled_blocks, rewrite_blocks,
    rows_of, simulate, to_half,
};
use anychip_tensor::DType;

use super::runs::{self, decibels, sum_grams};
use super::{Batch, LayerReport, QuantizeReport, Samples, quantizable, samples_in};
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

/// Layers whose matrices of sums are gathered in one pass over the data.
const LAYERS_AT_ONCE: usize = 8;

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
    for part in sites.chunks(LAYERS_AT_ONCE) {
        let sums = if batches.is_empty() { Vec::new() } else { gathered(graph, part, &batches)? };
        for (i, site) in part.iter().enumerate() {
            let matrix = Matrix::of(graph, site)?;
            let gram = sums.get(i);
            let own = match (rounding, gram) {
                (WeightRounding::Gptq, Some(_)) => in_blocks(&matrix, blocks, gram)?,
                (WeightRounding::Awq, Some(gram)) => in_scaled_blocks(&matrix, blocks, gram)?,
                _ => in_blocks(&matrix, blocks, None)?,
            };
            let mut restored = rows_of(&own)?;
            if let Some(inputs) = &own.inputs {
                for (i, w) in restored.iter_mut().enumerate() {
                    *w *= inputs[i % matrix.columns];
                }
            }
            report.layers.push(LayerReport {
                name: site.name.clone(),
                op: graph.node(site.node).op.name(),
                signal_to_noise: gram.map(|g| {
                    let nothing = vec![0.0; restored.len()];
                    decibels(g.error(&matrix, &nothing), g.error(&matrix, &restored))
                }),
                effect: None,
                quantized: true,
            });
            layers.push((site, own));
        }
    }
    let result = rewrite_blocks(graph, &layers)?;
    measure(graph, &simulate(&result)?, &batches, &mut report)?;
    Ok((result, report))
}

fn gathered(graph: &Graph, part: &[Site], batches: &[Batch]) -> Result<Vec<Gram>, Error> {
    let wanted: Vec<&Site> = part.iter().collect();
    sum_grams(&grams(graph, &wanted)?, batches)
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
fn measure(
    graph: &Graph,
    other: &Graph,
    batches: &[Batch],
    report: &mut QuantizeReport,
) -> Result<(), Error> {
    if batches.is_empty() {
        return Ok(());
    }
    let exact = runs::outputs(graph, batches)?;
    let found = runs::outputs(other, batches)?;
    report.samples = batches.iter().map(samples_in).sum();
    report.signal_to_noise = Some(exact.signal_to_noise(&found));
    report.accuracy = exact.accuracy.zip(found.accuracy).map(|(a, b)| [a, b]);
    Ok(())
}
