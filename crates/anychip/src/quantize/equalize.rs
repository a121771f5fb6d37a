//! Which ranges of activations move into weights: those of which the noise is foretold to fall enough.

use anychip_ir::Graph;
use anychip_quantize::{
    ChannelRanges, Movable, channel_ranges, choose_factors, equalized, movable,
};

use super::layers::BATCHES;
use super::walk::Walk;
use super::{Calibrated, Equalize, runs};
use crate::Error;

/// A graph with ranges moved, and how many values they are of.
pub(super) struct Moved {
    pub(super) graph: Graph,
    pub(super) values: usize,
}

/// What may be left of the noise of a layer's output where constants take the division, and where it costs a multiplication at
/// each run.
const FOLDED: f64 = 0.95;
const MULTIPLIED: f64 = 0.5;

/// The graph with ranges moved where that is worth it; `None` where nowhere is.
pub(super) fn moved(calibrated: &Calibrated<'_>) -> Result<Option<Moved>, Error> {
    let Calibrated { graph, sites, options, .. } = *calibrated;
    if options.equalize == Equalize::Never {
        return Ok(None);
    }
    let candidates = movable(graph, sites);
    let seen = ranges(calibrated, &candidates)?;
    let mut values = Vec::new();
    for (candidate, seen) in candidates.iter().zip(seen) {
        let worth = match (options.equalize, candidate.folds) {
            (Equalize::Always, true) => 1.0,
            (Equalize::Always, false) | (_, true) => FOLDED,
            (_, false) => MULTIPLIED,
        };
        let chosen = choose_factors(graph, sites, candidate, &seen, options.symmetric)?;
        if let Some((factors, _)) = chosen.filter(|(_, left)| *left < worth) {
            values.push((candidate, factors));
        }
    }
    if values.is_empty() {
        return Ok(None);
    }
    Ok(Some(Moved { graph: equalized(graph, sites, &values)?, values: values.len() }))
}

/// What the first batches show of each value's channels.
fn ranges(
    calibrated: &Calibrated<'_>,
    candidates: &[Movable],
) -> Result<Vec<ChannelRanges>, Error> {
    let graph = calibrated.graph;
    let some = &calibrated.batches[..calibrated.batches.len().min(BATCHES.1)];
    let walk = Walk::new(graph, some);
    let all: Vec<&Movable> = candidates.iter().collect();
    let section = channel_ranges(graph, walk.known(), &all)?;
    let mut seen = vec![ChannelRanges::default(); candidates.len()];
    let mut counts = vec![0.0; candidates.len()];
    walk.run(&section, usize::MAX, |outputs| {
        for (i, own) in outputs.chunks(4).enumerate() {
            let [low, high, square, count] = [0, 1, 2, 3].map(|k| own[k].to_f64());
            if square.iter().any(|v| !v.is_finite()) {
                return Err(runs::not_finite(graph, candidates[i].value));
            }
            let ranges = &mut seen[i];
            ranges.low.resize(low.len(), 0.0);
            ranges.high.resize(low.len(), 0.0);
            ranges.square.resize(low.len(), 0.0);
            for (channel, square) in square.iter().enumerate() {
                ranges.low[channel] = ranges.low[channel].min(low[channel]);
                ranges.high[channel] = ranges.high[channel].max(high[channel]);
                ranges.square[channel] += square;
            }
            counts[i] += count.first().copied().unwrap_or_default();
        }
        Ok(())
    })?;
    for (ranges, count) in seen.iter_mut().zip(counts) {
        ranges.square.iter_mut().for_each(|square| *square /= f64::max(count, 1.0));
    }
    Ok(seen)
}
