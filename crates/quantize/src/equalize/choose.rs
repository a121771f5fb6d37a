//! By how much a value's channels are divided: what rounding adds to the outputs of its readers is foretold, and the least wins.

use anychip_ir::Graph;

use super::{Movable, groups};
use crate::{Kind, Matrix, QuantizeError, Site};

/// What was seen of each channel of a value.
#[derive(Debug, Clone, Default)]
pub struct ChannelRanges {
    /// The least number, 0 at most.
    pub low: Vec<f64>,
    /// The largest, 0 at least.
    pub high: Vec<f64>,
    /// The mean square.
    pub square: Vec<f64>,
}

/// Shares of the difference in size between channels that go into the weights.
const SHARES: [f64; 4] = [0.5, 0.25, 0.75, 0.9];

/// The least part of the largest that a channel counts as, of activations and of weights.
const LEAST: f64 = 1e-4;

/// How far a number may be from the others.
const MOST: f64 = 1e4;

/// The numbers to divide a value's channels by of which the readers' outputs are foretold to err least, and what is left of that
/// error as a share of what it is now. `None` where nothing can be said: a value that is always 0.
pub fn choose_factors(
    graph: &Graph,
    sites: &[Site],
    movable: &Movable,
    seen: &ChannelRanges,
    symmetric: bool,
) -> Result<Option<(Vec<f32>, f64)>, QuantizeError> {
    let mut readers = Vec::new();
    for &reader in &movable.readers {
        readers.push(Reader::of(graph, &sites[reader], movable.channels)?);
    }
    let ranges: Vec<f64> = seen.low.iter().zip(&seen.high).map(|(l, h)| h.max(-l)).collect();
    let largest = ranges.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return Ok(None);
    }
    let noise = |factors: &[f32]| -> f64 {
        let end = |of: &[f64]| {
            let scaled = of.iter().zip(factors).map(|(v, f)| v.abs() / f64::from(*f));
            scaled.fold(0.0, f64::max)
        };
        let (low, high) = (end(&seen.low), end(&seen.high));
        let step = if symmetric { low.max(high) / 127.0 } else { (low + high) / 255.0 };
        readers.iter().map(|r| r.noise(factors, step, &seen.square)).sum()
    };
    let plain = noise(&vec![1.0; movable.channels]);
    let mut sizes = vec![0.0f64; movable.channels];
    for reader in &readers {
        reader.sizes(&mut sizes);
    }
    let heaviest = sizes.iter().copied().fold(0.0, f64::max);
    if plain <= 0.0 || heaviest == 0.0 {
        return Ok(None);
    }
    let mut best: Option<(f64, Vec<f32>)> = None;
    for share in SHARES {
        let factor = |c: usize| {
            let range = (ranges[c] / largest).max(LEAST);
            let size = (sizes[c] / heaviest).max(LEAST);
            range.powf(share) / size.powf(1.0 - share)
        };
        let mut factors: Vec<f64> = (0..movable.channels).map(factor).collect();
        let mean = factors.iter().map(|f| f.ln()).sum::<f64>() / factors.len() as f64;
        let mean = mean.exp();
        for factor in &mut factors {
            *factor = (*factor / mean).clamp(MOST.recip(), MOST);
        }
        let factors: Vec<f32> = factors.iter().map(|&f| f as f32).collect();
        let own = noise(&factors);
        if best.as_ref().is_none_or(|(least, _)| own < *least) {
            best = Some((own, factors));
        }
    }
    Ok(best.map(|(noise, factors)| (factors, noise / plain)))
}

/// The weights of a layer that reads a value.
struct Reader {
    matrix: Matrix,
    /// Elements of a row that read one channel.
    taps: usize,
    /// Rows that read the same channels, and how many channels those are.
    rows: usize,
    channels: usize,
}

impl Reader {
    fn of(graph: &Graph, site: &Site, channels: usize) -> Result<Reader, QuantizeError> {
        let matrix = Matrix::of(graph, site)?;
        let groups = groups(graph, site);
        let channels = channels / groups;
        let taps = match site.kind {
            Kind::Convolution => matrix.columns / channels.max(1),
            Kind::Dot { .. } => 1,
        };
        Ok(Reader { rows: (matrix.rows / groups).max(1), taps: taps.max(1), channels, matrix })
    }

    /// The first channel that a row reads.
    fn first(&self, row: usize) -> usize {
        row / self.rows * self.channels
    }

    /// The largest weight of each channel, as a part of the largest of its row.
    fn sizes(&self, sizes: &mut [f64]) {
        for row in 0..self.matrix.rows {
            let weights = self.matrix.row(row);
            let largest = weights.iter().fold(0f32, |m, v| m.max(v.abs()));
            if largest == 0.0 {
                continue;
            }
            let own = &mut sizes[self.first(row)..];
            for (size, taps) in own.iter_mut().zip(weights.chunks(self.taps)) {
                let most = taps.iter().fold(0f32, |m, v| m.max(v.abs()));
                *size = size.max(f64::from(most / largest));
            }
        }
    }

    /// The foretold mean square of what rounding adds to the outputs: a grid of `step` of what is read, and 8 bits of each row.
    fn noise(&self, factors: &[f32], step: f64, square: &[f64]) -> f64 {
        let mut total = 0.0;
        for row in 0..self.matrix.rows {
            let first = self.first(row);
            let of_inputs = factors[first..].iter().zip(&square[first..]);
            let (mut largest, mut squares, mut inputs) = (0f32, 0f64, 0f64);
            for (taps, (&factor, square)) in self.matrix.row(row).chunks(self.taps).zip(of_inputs) {
                for weight in taps {
                    let weight = weight * factor;
                    largest = largest.max(weight.abs());
                    squares += f64::from(weight * weight);
                }
                inputs += taps.len() as f64 * square / f64::from(factor * factor);
            }
            let of_weights = f64::from(largest) / 127.0;
            total += (step * step * squares + of_weights * of_weights * inputs) / 12.0;
        }
        total
    }
}
