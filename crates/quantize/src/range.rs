//! Which part of a value's range a grid covers: clipping a few outliers leaves finer steps for the rest.

use crate::{Grid, GridOptions, Histogram};

/// How the ends of a grid are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// The least and the largest number met.
    MinMax,
    /// So that this share of the numbers (0.9999, say) lies below the upper end, and as many above the lower.
    Percentile(f64),
    /// The least mean squared error.
    Mse,
    /// The least divergence of the distributions before and after (`TensorRT`'s calibration, GTC 2017).
    Entropy,
}

/// Ends tried on each side.
const CANDIDATES: usize = 100;

/// Levels of one side of a grid, and bins that divergence is computed on.
const LEVELS: usize = 128;
const ENTROPY_BINS: usize = 2048;

/// The grid for a value.
pub fn choose_grid(histogram: &Histogram, method: Method, options: GridOptions) -> Grid {
    let (low, high) = bounds(histogram, method, options);
    let grid = Grid::reaching(low, high, options);
    if !options.power_of_two || method == Method::MinMax {
        return grid;
    }
    // The next power of two below clips more and rounds less.
    let finer = Grid::reaching(low / 2.0, high / 2.0, options);
    let sums = Sums::of(histogram);
    let error = |grid: &Grid| {
        let (low, high) = grid.ends(options.symmetric);
        sums.error(low, high, f64::from(grid.scale))
    };
    if error(&finer) < error(&grid) { finer } else { grid }
}

/// The lower and upper end by a method; 0 lies between.
pub fn bounds(histogram: &Histogram, method: Method, options: GridOptions) -> (f64, f64) {
    let (low, high) = histogram.limits();
    let (low, high) = (low.min(0.0), high.max(0.0));
    match method {
        Method::MinMax => (low, high),
        Method::Percentile(share) => percentile(histogram, share),
        Method::Mse => least_error(histogram, (low, high), options),
        Method::Entropy => {
            let most = least_divergence(histogram);
            (low.max(-most), high.min(most))
        }
    }
}

fn percentile(histogram: &Histogram, share: f64) -> (f64, f64) {
    let total = (histogram.count() + histogram.zeros()) as f64;
    let outside = (1.0 - share).max(0.0) * total;
    let end = |bins: &mut dyn Iterator<Item = (f64, u64)>| {
        let mut seen = 0.0;
        for (value, count) in bins {
            seen += count as f64;
            if seen > outside {
                return value;
            }
        }
        0.0
    };
    let (low, high) = (end(&mut histogram.bins()), end(&mut histogram.bins().rev()));
    (low.min(0.0), high.max(0.0))
}

/// Running sums over the bins, from which the error of any range follows at once.
struct Sums {
    values: Vec<f64>,
    /// Before each bin: how many, their sum, the sum of their squares.
    before: Vec<[f64; 3]>,
}

impl Sums {
    fn of(histogram: &Histogram) -> Sums {
        let mut sums = Sums { values: Vec::new(), before: vec![[0.0; 3]] };
        let mut running = [0.0; 3];
        for (value, count) in histogram.bins() {
            let count = count as f64;
            running[0] += count;
            running[1] += count * value;
            running[2] += count * value * value;
            sums.values.push(value);
            sums.before.push(running);
        }
        sums
    }

    /// The sum of squared errors: what lies outside is moved to the end, what lies inside is off by up to half a step.
    fn error(&self, low: f64, high: f64, step: f64) -> f64 {
        let first = self.values.partition_point(|&v| v < low);
        let last = self.values.partition_point(|&v| v <= high);
        let total = self.before[self.values.len()];
        let moved = |part: [f64; 3], to: f64| part[2] - 2.0 * to * part[1] + to * to * part[0];
        let below = self.before[first];
        let up_to = self.before[last];
        let above = [total[0] - up_to[0], total[1] - up_to[1], total[2] - up_to[2]];
        (up_to[0] - below[0]) * step * step / 12.0 + moved(below, low) + moved(above, high)
    }
}

fn least_error(histogram: &Histogram, (low, high): (f64, f64), options: GridOptions) -> (f64, f64) {
    let sums = Sums::of(histogram);
    let (least, most) = Grid::limits(options.dtype, options.symmetric);
    let part = |end: f64, i: usize| end * (1.0 - i as f64 / CANDIDATES as f64);
    let mut best = (f64::INFINITY, (low, high));
    let mut offer = |low: f64, high: f64, step: f64| {
        let error = sums.error(low, high, step);
        if error < best.0 {
            best = (error, (low, high));
        }
    };
    if options.symmetric {
        let end = high.max(-low);
        for i in 0..CANDIDATES {
            let end = part(end, i);
            let lower = if least == 0 { 0.0 } else { -end };
            offer(lower, end, end / f64::from(most));
        }
        return best.1;
    }
    let sides = |end: f64| if end == 0.0 { 1 } else { CANDIDATES };
    for i in 0..sides(low) {
        for j in 0..sides(high) {
            let (low, high) = (part(low, i), part(high, j));
            offer(low, high, (high - low) / f64::from(most - least));
        }
    }
    best.1
}

/// The magnitude at which clipping and rounding to [`LEVELS`] change the distribution least.
fn least_divergence(histogram: &Histogram) -> f64 {
    let (low, high) = histogram.limits();
    let most = high.max(-low);
    if most == 0.0 {
        return 0.0;
    }
    let mut counts = vec![0.0; ENTROPY_BINS];
    for (value, count) in histogram.bins() {
        let bin = (value.abs() / most * ENTROPY_BINS as f64) as usize;
        counts[bin.min(ENTROPY_BINS - 1)] += count as f64;
    }
    let mut best = (f64::INFINITY, most);
    for kept in (LEVELS..=ENTROPY_BINS).step_by(8) {
        let mut reference = counts[..kept].to_vec();
        reference[kept - 1] += counts[kept..].iter().sum::<f64>();
        let divergence = divergence(&reference, &counts[..kept]);
        if divergence < best.0 {
            best = (divergence, most * kept as f64 / ENTROPY_BINS as f64);
        }
    }
    best.1
}

/// Kullback and Leibler's divergence of `kept`, rounded to [`LEVELS`] levels, from `reference`.
fn divergence(reference: &[f64], kept: &[f64]) -> f64 {
    let bins = kept.len();
    let mut rounded = vec![0.0; bins];
    for level in 0..LEVELS {
        let (from, to) = (level * bins / LEVELS, (level + 1) * bins / LEVELS);
        let filled = kept[from..to].iter().filter(|c| **c > 0.0).count();
        let mean = kept[from..to].iter().sum::<f64>() / filled.max(1) as f64;
        for bin in from..to {
            if kept[bin] > 0.0 {
                rounded[bin] = mean;
            }
        }
    }
    let (all, of) = (reference.iter().sum::<f64>(), rounded.iter().sum::<f64>());
    if all == 0.0 || of == 0.0 {
        return f64::INFINITY;
    }
    // A level that lost everything counts as holding next to nothing.
    let floor = 1e-9;
    reference
        .iter()
        .zip(&rounded)
        .filter(|(p, _)| **p > 0.0)
        .map(|(p, q)| {
            let (p, q) = (p / all, (q / of).max(floor));
            p * (p / q).ln()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_tensor::DType;

    const I8: GridOptions = GridOptions { dtype: DType::I8, symmetric: false, power_of_two: false };

    /// Sums of uniform numbers between −2 and 2, and one outlier.
    fn bell() -> Histogram {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 24)
        };
        let mut values: Vec<f32> =
            (0..20_000).map(|_| ((0..4).map(|_| next()).sum::<f64>() - 2.0) as f32).collect();
        values.push(8.0);
        let mut histogram = Histogram::default();
        assert!(histogram.add(&values));
        histogram
    }

    #[test]
    fn an_outlier_is_clipped() {
        let bell = bell();
        assert_eq!(bounds(&bell, Method::MinMax, I8).1, 8.0);
        for method in [Method::Percentile(0.999), Method::Entropy] {
            let (low, high) = bounds(&bell, method, I8);
            assert!(low < -1.0 && (1.0..4.0).contains(&high), "{method:?} {low} {high}");
        }
    }

    #[test]
    fn the_least_error_clips_what_is_rare_enough() {
        // One in 20,000 costs more when it is clipped than finer steps save; one in two millions does not.
        let mut many = bell();
        assert!(bounds(&many, Method::Mse, I8).1 > 7.0);
        let mut ordinary = Histogram::default();
        let values: Vec<f32> = (0..2000).map(|i| (i - 1000) as f32 * 1e-3).collect();
        for _ in 0..1000 {
            assert!(ordinary.add(&values));
        }
        many.merge(&ordinary);
        let high = bounds(&many, Method::Mse, I8).1;
        assert!((1.0..4.0).contains(&high), "{high}");
    }

    #[test]
    fn the_least_error_is_no_larger_than_that_of_the_whole_range() {
        let bell = bell();
        let sums = Sums::of(&bell);
        let error = |method| {
            let (low, high) = bounds(&bell, method, I8);
            sums.error(low, high, (high - low) / 255.0)
        };
        assert!(error(Method::Mse) <= error(Method::MinMax));
        assert!(error(Method::Mse) <= error(Method::Entropy));
    }

    #[test]
    fn what_is_always_zero_has_a_grid() {
        let mut histogram = Histogram::default();
        assert!(histogram.add(&[0.0; 9]));
        for method in [Method::MinMax, Method::Percentile(0.9), Method::Mse, Method::Entropy] {
            let grid = choose_grid(&histogram, method, I8);
            assert!(grid.scale > 0.0, "{method:?}");
        }
    }
}
