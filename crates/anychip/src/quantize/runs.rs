//! Runs of graphs over calibration data: what comes out, and how far two graphs are apart.

use std::borrow::Cow;

use anychip_ir::{Definition, Graph, ValueId};
use anychip_quantize::{Gram, Histogram, LocalError, QuantizeError, Section, Wanted, expose};
use anychip_target::CompileOptions;
use anychip_tensor::{Tensor, release_mapped};

use super::room;
use super::samples::Batch;
use super::walk::{Walk, bytes};
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
        // Data that lie in a file are read again with the next run.
        for input in &batch.inputs {
            release_mapped(input.bytes());
        }
        show(batch, &outputs)?;
    }
    Ok(())
}

/// The numbers of a tensor.
fn floats(tensor: &Tensor) -> Cow<'_, [f32]> {
    tensor
        .elements::<f32>()
        .unwrap_or_else(|| tensor.to_f64().into_iter().map(|v| v as f32).collect())
}

/// A histogram of each value. Values are shown in runs that fit into [`room`], the model being run as far as each.
pub(super) fn observe(
    graph: &Graph,
    values: &[ValueId],
    batches: &[Batch],
) -> Result<Vec<Histogram>, Error> {
    let samples = batches.first().map_or(1, super::samples_in);
    let mut walk = Walk::new(graph, batches);
    let mut histograms = vec![Histogram::default(); values.len()];
    let mut from = 0;
    while from < values.len() {
        let (mut to, mut held) = (from, 0usize);
        while to < values.len() && (to == from || held < room(graph)) {
            held = held.saturating_add(bytes(graph, values[to], samples));
            to += 1;
        }
        let (part, own) = (&values[from..to], &mut histograms[from..to]);
        let section = expose(graph, walk.known(), part)?;
        walk.run(&section, usize::MAX, |outputs| {
            for ((histogram, output), &value) in own.iter_mut().zip(outputs).zip(part) {
                if !histogram.add(&floats(output)) {
                    return Err(not_finite(graph, value));
                }
            }
            Ok(())
        })?;
        drop(section);
        if let Some(Definition::Output(next, _)) = values.get(to).map(|&v| graph.definition(v)) {
            walk.advance(next)?;
        }
        from = to;
    }
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

/// What was seen of a layer's inputs.
#[derive(Debug, Clone, Default)]
pub(super) struct InputSums {
    /// Sums of products, where they were wanted.
    pub(super) gram: Option<Gram>,
    /// The sum of each input; nothing without a grid.
    pub(super) sum: Vec<f64>,
    /// The sum of what rounding moves each by.
    pub(super) moved: Vec<f64>,
    /// How many vectors were seen.
    pub(super) count: f64,
}

/// The sums over all batches of a graph made by [`anychip_quantize::input_sums`].
pub(super) fn sum_inputs(
    walk: &Walk<'_>,
    probe: &Section,
    wanted: &[Wanted<'_>],
    batches: usize,
) -> Result<Vec<InputSums>, Error> {
    let mut sums = vec![InputSums::default(); wanted.len()];
    let add = |total: &mut Vec<f64>, tensor: &Tensor| {
        let more = tensor.to_f64();
        total.resize(more.len(), 0.0);
        for (total, value) in total.iter_mut().zip(more) {
            *total += value;
        }
    };
    walk.run(probe, batches, |outputs| {
        let mut outputs = outputs.iter();
        for (own, wanted) in sums.iter_mut().zip(wanted) {
            if wanted.runs > 0
                && let Some(sums) = outputs.next()
            {
                let size = sums.shape().last().copied().unwrap_or(1);
                own.gram.get_or_insert_default().add(size, &floats(sums));
            }
            if wanted.grid.is_some()
                && let (Some(sum), Some(moved), Some(count)) =
                    (outputs.next(), outputs.next(), outputs.next())
            {
                add(&mut own.sum, sum);
                add(&mut own.moved, moved);
                own.count += count.to_f64().first().copied().unwrap_or_default();
            }
        }
        Ok(())
    })?;
    for (own, wanted) in sums.iter().zip(wanted) {
        let sound = |gram: &Gram| gram.data.iter().all(|v| v.is_finite());
        if !own.gram.as_ref().is_none_or(sound) || own.sum.iter().any(|v| !v.is_finite()) {
            return Err(not_finite(walk.graph(), wanted.site.input));
        }
    }
    Ok(sums)
}

/// What is said of a value that is no number on the calibration data.
pub(super) fn not_finite(graph: &Graph, value: ValueId) -> Error {
    let tensor = called(graph, value);
    let what = "NaN or infinity, or numbers whose squares are infinite, when the model runs on the calibration data";
    QuantizeError::NotFinite { tensor, what }.into()
}

/// The sums over all batches of a graph made by [`anychip_quantize::local_errors`].
pub(super) fn sum_errors(walk: &Walk<'_>, probe: &Section) -> Result<Vec<LocalError>, Error> {
    let mut sums = vec![LocalError::default(); probe.graph.outputs().len() / 4];
    walk.run(probe, usize::MAX, |outputs| {
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

/// What a graph gives on the calibration data.
#[derive(Debug, Clone, Default)]
pub(super) struct Outputs {
    /// The outputs on the first batches: as many as fit into [`room`].
    batches: Vec<Vec<Tensor>>,
    /// Right answers and all; `None` without labels, or where the output has no score for each.
    pub(super) accuracy: Option<(usize, usize)>,
}

/// How a graph does beside the one whose [`Outputs`] are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compared {
    /// The ratio of signal to noise of its outputs in dB, all float outputs together; infinite where they are equal.
    pub(super) signal_to_noise: f64,
    /// As that of [`Outputs`].
    pub(super) accuracy: Option<(usize, usize)>,
}

/// Runs a graph on every batch.
pub(super) fn outputs(graph: &Graph, batches: &[Batch]) -> Result<Outputs, Error> {
    let mut all = Outputs::default();
    let mut held = 0;
    each(graph, batches, |batch, outputs| {
        count_right(&mut all.accuracy, batch, outputs);
        held += outputs.iter().map(Tensor::byte_len).sum::<usize>();
        if all.batches.is_empty() || held <= room(graph) {
            all.batches.push(outputs.to_vec());
        }
        Ok(())
    })?;
    Ok(all)
}

/// Runs a graph on every batch, beside what another gave on the same.
pub(super) fn compare(
    graph: &Graph,
    batches: &[Batch],
    exact: &Outputs,
) -> Result<Compared, Error> {
    let (mut signal, mut noise, mut accuracy) = (0.0, 0.0, None);
    let mut known = exact.batches.iter();
    each(graph, batches, |batch, outputs| {
        count_right(&mut accuracy, batch, outputs);
        for (exact, found) in known.next().into_iter().flatten().zip(outputs) {
            if exact.dtype().is_float() {
                for (&a, &b) in floats(exact).iter().zip(&*floats(found)) {
                    let (a, b) = (f64::from(a), f64::from(b));
                    if !a.is_finite() {
                        // What masks leave out: there is no ratio, only the same or not.
                        let same = a == b || (a.is_nan() && b.is_nan());
                        noise += if same { 0.0 } else { f64::INFINITY };
                        continue;
                    }
                    signal += a * a;
                    noise += (a - b) * (a - b);
                }
            }
        }
        Ok(())
    })?;
    Ok(Compared { signal_to_noise: decibels(signal, noise), accuracy })
}

fn count_right(total: &mut Option<(usize, usize)>, batch: &Batch, outputs: &[Tensor]) {
    let scores = outputs.first().zip(batch.labels.as_ref());
    if let Some((right, of)) = scores.and_then(|(scores, labels)| accuracy(scores, labels)) {
        let (all, count) = total.get_or_insert((0, 0));
        (*all, *count) = (*all + right, *count + of);
    }
}

/// The share of right answers.
pub(super) fn share((right, of): (usize, usize)) -> f64 {
    right as f64 / of.max(1) as f64
}

/// A ratio of powers in dB; infinite without noise.
pub(super) fn decibels(signal: f64, noise: f64) -> f64 {
    if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() }
}
