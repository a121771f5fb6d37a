//! Percentiles of measured latencies, with the interval that so many samples support.

use anychip_units::{Figure, FigureError, Seconds};

/// Median and tail of the latencies of many runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Percentiles {
    /// Half of the runs stay below.
    pub p50: Figure<Seconds>,
    /// Nine of ten runs stay below; none where the runs are too few to bound it.
    pub p90: Option<Figure<Seconds>>,
    /// 99 of 100 runs stay below; none where the runs are too few to bound it.
    pub p99: Option<Figure<Seconds>>,
    /// How many runs there were.
    pub runs: usize,
}

/// The fewest runs a median is taken from without its interval reaching past the samples at 95 %.
const FEWEST: usize = 6;

/// Median, p90 and p99 of latencies in seconds, by nearest rank, each with the distribution-free 95 % confidence
/// interval of its quantile: the order statistics whose ranks are quantiles of the binomial distribution (Conover,
/// *Practical Nonparametric Statistics*, section 3.2). A p90 takes 36 runs, a p99 368. `None` when there are fewer than
/// six samples, which do not bound even the median.
///
/// The samples were read off a clock while the device ran, so the figures are *measured*.
pub fn percentiles(latencies: &[f64], source: &str) -> Option<Result<Percentiles, FigureError>> {
    if latencies.len() < FEWEST {
        return None;
    }
    let mut sorted = latencies.to_vec();
    sorted.sort_by(f64::total_cmp);
    let source = format!("{source}, {} runs", sorted.len());
    Some((|| {
        let (p50, _) = quantile(&sorted, 0.50);
        let tail = |q| {
            let (ends, bounded) = quantile(&sorted, q);
            bounded.then(|| figure(ends, &source)).transpose()
        };
        Ok(Percentiles {
            p50: figure(p50, &source)?,
            p90: tail(0.90)?,
            p99: tail(0.99)?,
            runs: sorted.len(),
        })
    })())
}

fn figure([value, low, high]: [f64; 3], source: &str) -> Result<Figure<Seconds>, FigureError> {
    Figure::measured_between(value, low, high, source)
}

/// The sample at a quantile and the ends of its interval, and whether both ends are among the samples.
fn quantile(sorted: &[f64], q: f64) -> ([f64; 3], bool) {
    let n = sorted.len();
    let (low, high) = bounding_ranks(n, q);
    let at = |rank: usize| sorted[rank.clamp(1, n) - 1];
    ([at((n as f64 * q).ceil() as usize), at(low), at(high)], low >= 1 && high <= n)
}

/// The ranks, counted from 1, of the samples that enclose the quantile `q` of what `n` samples were drawn from, each
/// end missing with 2.5 % at most. A rank of 0 or `n + 1` says that no sample is far enough out.
fn bounding_ranks(n: usize, q: f64) -> (usize, usize) {
    const MISS: f64 = 0.025;
    // The number of samples below the quantile is binomial; its terms by their ratio, in logarithms.
    let odds = (q / (1.0 - q)).ln();
    let mut term = n as f64 * (1.0 - q).ln();
    let mut at_most = 0.0;
    let mut low = 0;
    for k in 0..=n {
        at_most += term.exp();
        if at_most <= MISS {
            low = k + 1;
        }
        if at_most >= 1.0 - MISS {
            return (low, k + 1);
        }
        term += odds + ((n - k) as f64 / (k + 1) as f64).ln();
    }
    (low, n + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_a_known_sample() {
        // 1000 runs of 1..=1000 ms, shuffled by a fixed stride.
        let latencies: Vec<f64> = (0..1000).map(|i| f64::from(i * 7 % 1000 + 1) * 1e-3).collect();
        let found = percentiles(&latencies, "clock").unwrap().unwrap();
        assert_eq!(found.p50.value(), 0.5);
        assert!(found.p50.low() > 0.46 && found.p50.high() < 0.54);
        let p90 = found.p90.unwrap();
        assert_eq!(p90.value(), 0.9);
        assert!(p90.low() > 0.87 && p90.high() < 0.93);
        assert_eq!(found.p99.unwrap().value(), 0.99);
        assert_eq!(p90.source(), "clock, 1000 runs");
    }

    #[test]
    fn a_tail_that_the_samples_do_not_bound_is_not_stated() {
        let latencies: Vec<f64> = (1..=368).map(f64::from).collect();
        let known = |runs: usize| {
            let found = percentiles(&latencies[..runs], "clock").unwrap().unwrap();
            (found.p90.is_some(), found.p99.is_some())
        };
        assert_eq!((known(35), known(36)), ((false, false), (true, false)));
        assert_eq!((known(367), known(368)), ((true, false), (true, true)));
        assert_eq!(percentiles(&latencies[..5], "clock"), None);
    }

    #[test]
    fn the_interval_covers_the_truth_as_often_as_it_says() {
        // A linear congruential generator (Knuth's MMIX constants), so the test is the same every time.
        let mut state: u64 = 20_261_122;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let covered = (0..400)
            .filter(|_| {
                let sample: Vec<f64> = (0..200).map(|_| 1.0 + uniform()).collect();
                let p90 = percentiles(&sample, "clock").unwrap().unwrap().p90.unwrap();
                p90.low() <= 1.9 && 1.9 <= p90.high()
            })
            .count();
        assert!((372..=398).contains(&covered), "{covered} of 400, seed 20261122");
    }

    #[test]
    fn bad_samples_are_an_error() {
        assert!(percentiles(&[f64::NAN; 10], "clock").unwrap().is_err());
        assert!(percentiles(&[0.0; 10], "clock").unwrap().is_err());
    }
}
