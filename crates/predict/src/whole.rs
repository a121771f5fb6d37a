//! A fitted predictor of whole models on one stack of software: formula, learned residual, interval.

use serde::{Deserialize, Serialize};

use crate::features::{FEATURES, features};
use crate::kernel::Kernel;
use crate::operators::{Operators, Rates};
use crate::trees::Trees;

/// Seconds that a run takes, with the interval that holds four of five runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// The central estimate.
    pub seconds: f64,
    /// One run in ten is faster.
    pub low: f64,
    /// One run in ten is slower.
    pub high: f64,
}

/// Formula, residual and interval, as fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Whole {
    pub(crate) operators: Operators,
    pub(crate) residual: Trees,
    /// The logarithm of how far off predictions of such models are.
    pub(crate) difficulty: Trees,
    /// The center of the logarithms that `difficulty` corrects.
    pub(crate) typical: f64,
    /// The quantiles 0.1 and 0.9 of errors over difficulty, on model families left out.
    pub(crate) quantiles: [f64; 2],
    /// The least and the largest of each feature among the models fitted on.
    pub(crate) ranges: Vec<[f64; 2]>,
}

/// As it stands in files.
#[derive(Serialize, Deserialize)]
struct Stored {
    operators: Vec<f64>,
    residual: Trees,
    difficulty: Trees,
    typical: f64,
    quantiles: [f64; 2],
    ranges: Vec<[f64; 2]>,
}

impl From<Whole> for Stored {
    fn from(whole: Whole) -> Self {
        let Whole { operators, residual, difficulty, typical, quantiles, ranges } = whole;
        // Six digits are finer than any fit.
        let operators = operators.values().iter().map(|v| (v * 1e6).round() / 1e6).collect();
        let ranges = ranges.iter().map(|r| r.map(|v| (v * 1e6).round() / 1e6)).collect();
        Self { operators, residual, difficulty, typical, quantiles, ranges }
    }
}

impl TryFrom<Stored> for Whole {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let operators =
            Operators::from_values(stored.operators).ok_or("a wrong number of coefficients")?;
        if !stored.residual.is_sound(FEATURES) || !stored.difficulty.is_sound(FEATURES) {
            return Err("a tree that asks for a feature there is not, or leads nowhere");
        }
        if stored.ranges.len() != FEATURES {
            return Err("a wrong number of ranges");
        }
        let Stored { residual, difficulty, typical, quantiles, ranges, .. } = stored;
        Ok(Self { operators, residual, difficulty, typical, quantiles, ranges })
    }
}

/// How far beyond what was fitted on a model may lie, as a share of each feature's range.
const BEYOND: f64 = 0.05;

impl Whole {
    /// Whether a run of `kernels` is like those fitted on: each feature within their range. Elsewhere the formula may be
    /// wrong by any factor, and the interval says nothing.
    pub fn covers(&self, kernels: &[Kernel], rates: &Rates) -> bool {
        let (_, row) = features(&self.operators, kernels, rates);
        row.iter().zip(&self.ranges).all(|(value, [low, high])| {
            let slack = BEYOND * (high - low) + 1e-6;
            (low - slack..=high + slack).contains(value)
        })
    }

    /// The time of a run of `kernels`.
    pub fn predict(&self, kernels: &[Kernel], rates: &Rates) -> Span {
        self.predict_within(kernels, rates, self.quantiles)
    }

    /// The same, with an interval of other quantiles of errors over difficulty.
    pub fn predict_within(&self, kernels: &[Kernel], rates: &Rates, quantiles: [f64; 2]) -> Span {
        let (formula, row) = features(&self.operators, kernels, rates);
        let center = formula + self.residual.predict(&row);
        let width = self.width(&row);
        let [low, high] = quantiles;
        Span {
            seconds: center.exp(),
            low: (center + (low * width).min(0.0)).exp(),
            high: (center + (high * width).max(0.0)).exp(),
        }
    }

    /// How far off, in logarithms, predictions for such kernels are.
    pub fn difficulty(&self, kernels: &[Kernel], rates: &Rates) -> f64 {
        self.width(&features(&self.operators, kernels, rates).1)
    }

    /// The quantiles 0.1 and 0.9 of errors over difficulty, on model families left out.
    pub fn quantiles(&self) -> [f64; 2] {
        self.quantiles
    }

    /// How far off, in logarithms, predictions for such features are.
    pub(crate) fn width(&self, row: &[f64]) -> f64 {
        (self.typical + self.difficulty.predict(row)).exp()
    }

    /// The formula's coefficients.
    pub fn operators(&self) -> &Operators {
        &self.operators
    }
}
