//! Runs of graphs over calibration data: what comes out, and how far two graphs are apart.

use anychip_ir::{Graph, ValueId};
use anychip_quantize::{Gram, Histogram, LocalError, QuantizeError, expose};
use anychip_target::CompileOptions;
use anychip_tensor::Tensor;

use super::samples::Batch;
use crate::accuracy::accuracy;
use crate::{Engine, Error, local_chip};

/// Runs a graph on every batch and shows each result.
pub(super) fn each(
    graph: &Graph,
    batches: &[Batch],
    mut show: impl FnMut(&Batch, &[Tensor]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut engine = Engine::new(graph, &local_chip("cpu")?, &CompileOptions::default())?;
    for batch in batches {
        let (outputs, _) = engine.run(&batch.inputs)?;
        show(batch, &outputs)?;
    }
    Ok(())
}

/// The numbers of a tensor.
pub(super) fn floats(tensor: &Tensor) -> Vec<f32> {
    match tensor.elements::<f32>() {
        Some(values) => values.into_owned(),
        None => tensor.to_f64().into_iter().map(|v| v as f32).collect(),
    }
}

/// A histogram of each value.
pub(super) fn observe(
    graph: &Graph,
    values: &[ValueId],
    batches: &[Batch],
) -> Result<Vec<Histogram>, Error> {
    let mut histograms = vec![Histogram::default(); values.len()];
    each(&expose(graph, values)?, batches, |_, outputs| {
        for ((histogram, output), &value) in histograms.iter_mut().zip(outputs).zip(values) {
            if !histogram.add(&floats(output)) {
                let tensor = called(graph, value);
                let what = "NaN or infinity when the model runs on the calibration data";
                return Err(QuantizeError::NotFinite { tensor, what }.into());
            }
        }
        Ok(())
    })?;
    Ok(histograms)
}

/// What to call a value: its name, or that of the node that makes it.
pub(super) fn called(graph: &Graph, value: ValueId) -> String {
    match (graph.value_name(value), graph.producer(value)) {
        (Some(name), _) if !name.is_empty() => name.to_string(),
        (_, Some(node)) => node.label().to_string(),
        _ => "a value without a name".into(),
    }
}

/// The sums of products of each output of a graph made by [`anychip_quantize::grams`].
pub(super) fn sum_grams(probe: &Graph, batches: &[Batch]) -> Result<Vec<Gram>, Error> {
    let mut sums = vec![Gram::default(); probe.outputs().len()];
    each(probe, batches, |_, outputs| {
        for (gram, output) in sums.iter_mut().zip(outputs) {
            gram.add(output.shape().last().copied().unwrap_or(1), &floats(output));
        }
        Ok(())
    })?;
    Ok(sums)
}

/// The sums over all batches of a graph made by [`anychip_quantize::local_errors`].
pub(super) fn sum_errors(probe: &Graph, batches: &[Batch]) -> Result<Vec<LocalError>, Error> {
    let mut sums = vec![LocalError::default(); probe.outputs().len() / 4];
    each(probe, batches, |_, outputs| {
        for (error, own) in sums.iter_mut().zip(outputs.chunks(4)) {
            let off = own[0].to_f64();
            error.off.resize(off.len(), 0.0);
            for (total, value) in error.off.iter_mut().zip(off) {
                *total += value;
            }
            let first = |t: &Tensor| t.to_f64().first().copied().unwrap_or_default();
            error.noise += first(&own[1]);
            error.signal += first(&own[2]);
            error.count += first(&own[3]);
        }
        Ok(())
    })?;
    Ok(sums)
}

/// The outputs of a graph on every batch, and how many of the labels are the largest of the first output.
#[derive(Debug, Clone, Default)]
pub(super) struct Outputs {
    batches: Vec<Vec<Tensor>>,
    /// Right ones and all; `None` without labels, or where the output has no score for each.
    pub(super) accuracy: Option<(usize, usize)>,
}

/// Runs a graph on every batch.
pub(super) fn outputs(graph: &Graph, batches: &[Batch]) -> Result<Outputs, Error> {
    let mut all = Outputs::default();
    each(graph, batches, |batch, outputs| {
        let scores = outputs.first().zip(batch.labels.as_ref());
        if let Some((right, of)) = scores.and_then(|(scores, labels)| accuracy(scores, labels)) {
            let (total, count) = all.accuracy.get_or_insert((0, 0));
            (*total, *count) = (*total + right, *count + of);
        }
        all.batches.push(outputs.to_vec());
        Ok(())
    })?;
    Ok(all)
}

impl Outputs {
    /// The ratio of signal to noise of another graph's outputs in dB, all float outputs together; infinite where they are equal.
    pub(super) fn signal_to_noise(&self, other: &Outputs) -> f64 {
        let (mut signal, mut noise) = (0.0, 0.0);
        for (exact, found) in self.batches.iter().flatten().zip(other.batches.iter().flatten()) {
            if exact.dtype().is_float() {
                for (a, b) in exact.to_f64().into_iter().zip(found.to_f64()) {
                    signal += a * a;
                    noise += (a - b) * (a - b);
                }
            }
        }
        decibels(signal, noise)
    }

    /// The share of right answers.
    pub(super) fn share(&self) -> Option<f64> {
        self.accuracy.map(|(right, of)| right as f64 / of.max(1) as f64)
    }
}

/// A ratio of powers in dB; infinite without noise.
pub(super) fn decibels(signal: f64, noise: f64) -> f64 {
    if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() }
}
