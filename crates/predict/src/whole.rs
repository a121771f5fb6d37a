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
}

/// As it stands in files.
#[derive(Serialize, Deserialize)]
struct Stored {
    operators: Vec<f64>,
    residual: Trees,
    difficulty: Trees,
    typical: f64,
    quantiles: [f64; 2],
}

impl From<Whole> for Stored {
    fn from(whole: Whole) -> Self {
        let Whole { operators, residual, difficulty, typical, quantiles } = whole;
        // Six digits are finer than any fit.
        let operators = operators.values().iter().map(|v| (v * 1e6).round() / 1e6).collect();
        Self { operators, residual, difficulty, typical, quantiles }
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
        let Stored { residual, difficulty, typical, quantiles, .. } = stored;
        Ok(Self { operators, residual, difficulty, typical, quantiles })
    }
}

impl Whole {
    /// The time of a run of `kernels`.
    pub fn predict(&self, kernels: &[Kernel], rates: &Rates) -> Span {
        let (formula, row) = features(&self.operators, kernels, rates);
        let center = formula + self.residual.predict(&row);
        let width = self.width(&row);
        let [low, high] = self.quantiles;
        Span {
            seconds: center.exp(),
            low: (center + (low * width).min(0.0)).exp(),
            high: (center + (high * width).max(0.0)).exp(),
        }
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
