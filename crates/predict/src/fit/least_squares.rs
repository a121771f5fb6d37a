//! Fits [`Operators`] to measured runs: Levenberg and Marquardt's method on logarithms of times.
//!
//! Residuals count as `√(s² + r²)`, so that a model the formula cannot describe pulls with the same force however
//! far off it is. Coefficients are held near their prior by one standard deviation each.

use crate::kernel::Kernel;
use crate::operators::{COEFFICIENTS, Operators, Rates};

/// One measured run.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// What ran.
    pub kernels: &'a [Kernel],
    /// Where.
    pub rates: Rates,
    /// The natural logarithm of the seconds it took.
    pub log_seconds: f64,
    /// How much it counts.
    pub weight: f64,
}

/// Residuals below this count by their square, beyond it by their size.
const SOFT: f64 = 0.05;
const ROUNDS: usize = 25;

/// The coefficients that describe `samples` best, from `start`.
pub fn fit_operators(samples: &[Sample<'_>], start: &Operators) -> Operators {
    let prior = Operators::prior();
    let spread = Operators::spread();
    let mut values = start.values().to_vec();
    let mut damping = 1.0;
    let mut loss = loss_of(samples, &values, &prior, &spread);
    for _ in 0..ROUNDS {
        let (normal, slope) = normal_equations(samples, &values, &prior, &spread);
        let before = loss;
        let improved = loop {
            let mut damped = normal.clone();
            for i in 0..COEFFICIENTS {
                damped[i * COEFFICIENTS + i] *= 1.0 + damping;
            }
            let tried = solve(damped, &slope).map(|step| {
                let next: Vec<f64> =
                    values.iter().zip(step).map(|(v, s)| v - s.clamp(-1.0, 1.0)).collect();
                let found = loss_of(samples, &next, &prior, &spread);
                (next, found)
            });
            match tried {
                Some((next, found)) if found < loss => {
                    (values, loss) = (next, found);
                    damping = (damping / 5.0).max(1e-4);
                    break true;
                }
                _ => damping *= 4.0,
            }
            if damping > 1e7 {
                break false;
            }
        };
        if !improved || before - loss < 1e-5 * before {
            break;
        }
    }
    Operators::from_values(values).expect("each step was kept only with a finite loss")
}

fn operators(values: &[f64]) -> Option<Operators> {
    Operators::from_values(values.to_vec())
}

fn loss_of(samples: &[Sample<'_>], values: &[f64], prior: &Operators, spread: &[f64]) -> f64 {
    let Some(now) = operators(values) else { return f64::INFINITY };
    let data: f64 = samples
        .iter()
        .map(|s| {
            let residual = now.total(s.kernels, &s.rates).ln() - s.log_seconds;
            s.weight * SOFT.hypot(residual) / SOFT
        })
        .sum();
    let belief: f64 = values
        .iter()
        .zip(prior.values())
        .zip(spread)
        .map(|((v, p), s)| 0.5 * ((v - p) / s).powi(2))
        .sum();
    let loss = data + belief;
    if loss.is_finite() { loss } else { f64::INFINITY }
}

/// Gauss and Newton's matrix, row by row, and the gradient of the loss.
fn normal_equations(
    samples: &[Sample<'_>],
    values: &[f64],
    prior: &Operators,
    spread: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let now = operators(values).expect("kept only when finite");
    let mut normal = vec![0.0; COEFFICIENTS * COEFFICIENTS];
    let mut slope = vec![0.0; COEFFICIENTS];
    let mut gradient = vec![0.0; COEFFICIENTS];
    for sample in samples {
        gradient.fill(0.0);
        let total = now.total_and_gradient(sample.kernels, &sample.rates, &mut gradient);
        let residual = total.ln() - sample.log_seconds;
        let weight = sample.weight / (SOFT * SOFT.hypot(residual));
        for g in &mut gradient {
            *g /= total;
        }
        for i in 0..COEFFICIENTS {
            let weighed = weight * gradient[i];
            slope[i] += weighed * residual;
            if weighed != 0.0 {
                for j in 0..=i {
                    normal[i * COEFFICIENTS + j] += weighed * gradient[j];
                }
            }
        }
    }
    for i in 0..COEFFICIENTS {
        normal[i * COEFFICIENTS + i] += spread[i].powi(-2);
        slope[i] += (values[i] - prior.values()[i]) * spread[i].powi(-2);
        for j in 0..i {
            normal[j * COEFFICIENTS + i] = normal[i * COEFFICIENTS + j];
        }
    }
    (normal, slope)
}

/// Solves a symmetric positive system by Cholesky's method; `None` where it is not positive.
pub(crate) fn solve(mut matrix: Vec<f64>, right: &[f64]) -> Option<Vec<f64>> {
    let n = right.len();
    for i in 0..n {
        for j in 0..=i {
            let mut sum = matrix[i * n + j];
            for k in 0..j {
                sum -= matrix[i * n + k] * matrix[j * n + k];
            }
            if i == j {
                if sum <= 0.0 || !sum.is_finite() {
                    return None;
                }
                matrix[i * n + i] = sum.sqrt();
            } else {
                matrix[i * n + j] = sum / matrix[j * n + j];
            }
        }
    }
    let mut x = right.to_vec();
    for i in 0..n {
        for k in 0..i {
            x[i] -= matrix[i * n + k] * x[k];
        }
        x[i] /= matrix[i * n + i];
    }
    for i in (0..n).rev() {
        for k in i + 1..n {
            x[i] -= matrix[k * n + i] * x[k];
        }
        x[i] /= matrix[i * n + i];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Class;

    /// Kernels whose times differ in every direction the coefficients can go.
    fn models() -> Vec<Vec<Kernel>> {
        let mut state = 7u64;
        let mut next = |low: f64, high: f64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let unit = (state >> 11) as f64 / (1u64 << 53) as f64;
            (low.ln() + unit * (high / low).ln()).exp()
        };
        (0..200)
            .map(|_| {
                let mut kernels = Vec::new();
                for class in [Class::Convolution, Class::Linear, Class::Norm, Class::Elementwise] {
                    let (rows, columns, depth) =
                        (next(100.0, 1e6), next(8.0, 2048.0).round(), next(8.0, 4096.0).round());
                    let mut kernel = Kernel::moving(class, next(1e5, 1e9));
                    if class.is_product() {
                        let macs = rows * columns * depth;
                        kernel = Kernel { macs, rows, columns, depth, groups: 1.0, ..kernel };
                    }
                    kernel.count = next(1.0, 20.0).round();
                    kernels.push(kernel);
                }
                kernels
            })
            .collect()
    }

    #[test]
    fn finds_the_coefficients_that_made_the_times() {
        let rates = Rates { peak: 1e14, bandwidth: 1e12 };
        let mut values = Operators::prior().values().to_vec();
        values[0] = 0.4f64.ln();
        values[1] += 1.0;
        for v in &mut values[49..] {
            *v -= 0.3;
        }
        let truth = Operators::from_values(values).expect("finite");
        let models = models();
        let samples: Vec<Sample<'_>> = models
            .iter()
            .map(|kernels| Sample {
                kernels,
                rates,
                log_seconds: truth.total(kernels, &rates).ln(),
                weight: 1.0,
            })
            .collect();
        let fitted = fit_operators(&samples, &Operators::prior());
        let worst = samples
            .iter()
            .map(|s| (fitted.total(s.kernels, &rates).ln() - s.log_seconds).abs())
            .fold(0.0, f64::max);
        assert!(worst < 0.05, "worst log error {worst}");
        assert!((fitted.values()[0] - truth.values()[0]).abs() < 0.2);
    }

    #[test]
    fn refuses_a_matrix_that_is_not_positive() {
        assert_eq!(solve(vec![1.0, 2.0, 2.0, 1.0], &[1.0, 1.0]), None);
        let x = solve(vec![4.0, 2.0, 2.0, 3.0], &[10.0, 8.0]).expect("positive");
        assert!((x[0] - 1.75).abs() < 1e-12 && (x[1] - 1.5).abs() < 1e-12);
    }
}
