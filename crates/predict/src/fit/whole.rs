//! Fits [`Whole`]: the formula, trees on what it leaves over, and intervals from families left out.

use crate::features::{FEATURES, features};
use crate::fit::least_squares::{Sample, fit_operators};
use crate::fit::splits::folds;
use crate::operators::Operators;
use crate::trees::{Growth, Trees};
use crate::whole::Whole;

/// Trees of the residual, small on purpose: a family not seen is not helped by what only holds inside families. Chosen with
/// families left out of four stacks (RTX 4090 eager and compiled with torch 2.4, RTX 3090 eager with 2.1 in NHWC, i9-10940X compiled
/// with 2.4), whose validation is a little flattered by that.
const RESIDUAL: Growth =
    Growth { trees: 120, leaves: 8, least_rows: 10.0, rate: 0.05, shrink: 5.0, clip: 0.3 };

/// Trees of the difficulty: a few coarse groups.
const DIFFICULTY: Growth =
    Growth { trees: 30, leaves: 4, least_rows: 40.0, rate: 0.1, shrink: 20.0, clip: 2.0 };

/// Errors below this are noise of the measurement, not ease of the model.
const NOISE: f64 = 0.01;

/// Folds of families from which intervals are taken.
const FOLDS: usize = 5;

/// Fits everything on `samples`; `families[i]` is what sample `i` must not be predicted from when errors are taken.
pub fn fit_whole(samples: &[Sample<'_>], families: &[&str]) -> Whole {
    let fold = folds(families, FOLDS);
    let mut errors = vec![0.0; samples.len()];
    for f in 0..FOLDS {
        let inside: Vec<usize> = (0..samples.len()).filter(|&i| fold[i] != f).collect();
        if inside.is_empty() || inside.len() == samples.len() {
            continue;
        }
        let (operators, residual) = fit_center(samples, families, &inside);
        for i in (0..samples.len()).filter(|&i| fold[i] == f) {
            let (formula, row) = features(&operators, samples[i].kernels, &samples[i].rates);
            errors[i] = samples[i].log_seconds - formula - residual.predict(&row);
        }
    }
    let all: Vec<usize> = (0..samples.len()).collect();
    let (operators, residual) = fit_center(samples, families, &all);
    let rows: Vec<Vec<f64>> =
        samples.iter().map(|s| features(&operators, s.kernels, &s.rates).1).collect();
    let widths: Vec<f64> = errors.iter().map(|e| (e.abs() + NOISE).ln()).collect();
    let typical = widths.iter().sum::<f64>() / widths.len().max(1) as f64;
    let off: Vec<f64> = widths.iter().map(|w| w - typical).collect();
    let difficulty = Trees::fit(&rows, &off, &vec![1.0; off.len()], &DIFFICULTY);
    let ranges = (0..FEATURES)
        .map(|f| {
            let values = rows.iter().map(|row| row[f]);
            [values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max)]
        })
        .collect();
    let quantiles = [0.0; 2];
    let mut whole = Whole { operators, residual, difficulty, typical, quantiles, ranges };
    let mut scaled: Vec<f64> =
        rows.iter().zip(&errors).map(|(row, e)| e / whole.width(row)).collect();
    whole.quantiles = [quantile(&mut scaled, 0.1), quantile(&mut scaled, 0.9)];
    whole
}

/// Formula and residual, fitted on the samples at `inside`.
fn fit_center(samples: &[Sample<'_>], families: &[&str], inside: &[usize]) -> (Operators, Trees) {
    let chosen: Vec<Sample<'_>> = inside.iter().map(|&i| samples[i]).collect();
    let operators = fit_operators(&chosen, &Operators::prior());
    let mut rows = Vec::with_capacity(chosen.len());
    let mut left = Vec::with_capacity(chosen.len());
    let mut weights = Vec::with_capacity(chosen.len());
    for (sample, &i) in chosen.iter().zip(inside) {
        let (formula, row) = features(&operators, sample.kernels, &sample.rates);
        rows.push(row);
        left.push(sample.log_seconds - formula);
        // A family of many members says little more than one of few.
        let members = inside.iter().filter(|&&j| families[j] == families[i]).count();
        weights.push(sample.weight / (members as f64).sqrt());
    }
    let residual = Trees::fit(&rows, &left, &weights, &RESIDUAL);
    (operators, residual)
}

/// The value that a share of `values` lies below; 0 where there are none.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    if values.is_empty() {
        return 0.0;
    }
    let at = share * (values.len() - 1) as f64;
    let low = at.floor() as usize;
    let next = (low + 1).min(values.len() - 1);
    values[low] + (at - low as f64) * (values[next] - values[low])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Class, Kernel};
    use crate::operators::Rates;

    #[test]
    fn quantiles_lie_between_neighbors() {
        let mut values = [4.0, 1.0, 3.0, 2.0, 5.0];
        assert_eq!(quantile(&mut values, 0.5), 3.0);
        assert!((quantile(&mut values, 0.1) - 1.4).abs() < 1e-12);
        assert_eq!(quantile(&mut [], 0.5), 0.0);
    }

    #[test]
    fn intervals_hold_four_of_five_and_survive_a_file() {
        let rates = Rates { peak: 1e14, bandwidth: 1e12 };
        let truth = Operators::prior();
        let mut state = 3u64;
        let mut unit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let models: Vec<(Vec<Kernel>, f64)> = (0..400)
            .map(|_| {
                let kernels = vec![
                    Kernel::moving(Class::Norm, 1e6 * (9.0 * unit()).exp()),
                    Kernel::moving(Class::Copy, 1e6 * (9.0 * unit()).exp()),
                ];
                let noise = 0.2 * (unit() + unit() + unit() - 1.5);
                let log_seconds = truth.total(&kernels, &rates).ln() + noise;
                (kernels, log_seconds)
            })
            .collect();
        let names: Vec<String> = (0..400).map(|i| format!("f{}", i % 40)).collect();
        let families: Vec<&str> = names.iter().map(String::as_str).collect();
        let samples: Vec<Sample<'_>> = models
            .iter()
            .map(|(kernels, log_seconds)| Sample {
                kernels,
                rates,
                log_seconds: *log_seconds,
                weight: 1.0,
            })
            .collect();
        let whole = fit_whole(&samples[..300], &families[..300]);
        let text = serde_json::to_string(&whole).expect("serializes");
        let whole: crate::whole::Whole = serde_json::from_str(&text).expect("as written");
        let held = samples[300..]
            .iter()
            .filter(|s| {
                let span = whole.predict(s.kernels, &s.rates);
                let truth = s.log_seconds.exp();
                span.low <= truth && truth <= span.high
            })
            .count();
        assert!((68..=92).contains(&held), "{held} of 100 in intervals of 80 %");
    }
}
