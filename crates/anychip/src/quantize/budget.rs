//! Mixed precision: which layers stay in floats so that the model keeps to a budget.
//!
//! Each layer is put on integers alone and the model's outputs are compared; then as few of the costliest as it takes are
//! left in floats, found by halving.

use anychip_quantize::simulate;

use super::layers::Rounded;
use super::runs::{self, Outputs};
use super::{Budget, COMPARED_ON, Calibrated, QuantizeReport, Trial};
use crate::Error;

/// Puts layers back into floats until the budget is kept. Where even one layer on integers is too many, that one layer is
/// what comes back, and the report says so.
pub(super) fn keep(
    calibrated: &Calibrated<'_>,
    layers: &[Rounded],
    exact: &Outputs,
    budget: Budget,
    first: Trial,
    chosen: &mut [bool],
    report: &mut QuantizeReport,
) -> Result<Trial, Error> {
    let kept = |trial: &Trial| -> Result<bool, Error> {
        match budget {
            Budget::SignalToNoise(least) => Ok(trial.compared.signal_to_noise >= least),
            Budget::AccuracyLoss(most) => {
                let shares = exact.accuracy.zip(trial.compared.accuracy);
                let (before, after) = shares.ok_or_else(|| {
                Error::NothingToQuantize(
                    "an accuracy budget needs labels in the calibration data, one for each row of the first output\n  help: add an array `labels`, or give --min-snr instead"
                        .into(),
                )
            })?;
                Ok(runs::share(before) - runs::share(after) <= most + 1e-12)
            }
        }
    };
    let done = kept(&first)?;
    let order = by_effect(calibrated, layers, exact, report)?;
    if done {
        report.budget_kept = Some(true);
        return Ok(first);
    }
    // The fewest layers in floats, between `low` (too few) and `high` (enough, or all but one).
    let (mut low, mut high) = (0, order.len() - 1);
    let with_floats = |count: usize| {
        let mut chosen = vec![true; order.len()];
        for &layer in &order[..count] {
            chosen[layer] = false;
        }
        chosen
    };
    let mut best = calibrated.trial(layers, &with_floats(high), exact)?;
    let reachable = kept(&best)?;
    while reachable && low + 1 < high {
        let middle = usize::midpoint(low, high);
        let trial = calibrated.trial(layers, &with_floats(middle), exact)?;
        if kept(&trial)? {
            (high, best) = (middle, trial);
        } else {
            low = middle;
        }
    }
    report.budget_kept = Some(reachable);
    chosen.copy_from_slice(&with_floats(high));
    Ok(best)
}

/// The layers by what each alone does to the outputs, the worst first; noted in the report.
fn by_effect(
    calibrated: &Calibrated<'_>,
    layers: &[Rounded],
    exact: &Outputs,
    report: &mut QuantizeReport,
) -> Result<Vec<usize>, Error> {
    let some = &calibrated.batches[..calibrated.batches.len().min(COMPARED_ON)];
    for layer in 0..layers.len() {
        let mut alone = vec![false; layers.len()];
        alone[layer] = true;
        let graph = calibrated.rewritten(layers, &alone)?;
        let compared = runs::compare(&simulate(&graph)?, some, exact)?;
        report.layers[layer].effect = Some(compared.signal_to_noise);
    }
    let mut order: Vec<usize> = (0..layers.len()).collect();
    let effect = |i: usize| report.layers[i].effect.unwrap_or(f64::INFINITY);
    order.sort_by(|&a, &b| effect(a).total_cmp(&effect(b)).then(a.cmp(&b)));
    Ok(order)
}
