//! The estimate itself.

use anychip_chips::{Chip, Precision};
use anychip_ir::IrError;
use anychip_record::{Field, Key, Record};
use anychip_units::{Figure, FigureError, Seconds};

use crate::cost::{GroupCost, ModelCost};
use crate::counted::Counted;
use crate::operators::Rates;
use crate::refusal::usable;
use crate::tables::{Choice, TableError, Tables};

/// What is to be estimated.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The hash of its file.
    pub model_sha256: &'a str,
    /// What it does.
    pub counted: &'a Counted<'a>,
    /// Inferences in one run.
    pub batch: u64,
    /// The number format to count in; the model's own when absent.
    pub precision: Option<Precision>,
    /// The software; where absent, the first of the chip's that has a fitted table, else the chip's usual.
    pub stack: Option<&'a str>,
    /// The same model measured on another chip: what is predicted is then the ratio of the two.
    pub anchor: Option<Anchor<'a>>,
}

/// A measurement of the model that is asked about, on a chip at hand with the same stack and format.
#[derive(Debug, Clone, Copy)]
pub struct Anchor<'a> {
    /// The chip it was measured on.
    pub chip: &'a Chip,
    /// The seconds one run took.
    pub seconds: f64,
}

/// Why no Record could be made: a fault of the graph, or of the catalogue.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// The graph cannot be counted.
    #[error(transparent)]
    Graph(#[from] IrError),
    /// A figure broke its own rules.
    #[error(transparent)]
    Figure(#[from] FigureError),
    /// The fitted tables are damaged.
    #[error(transparent)]
    Tables(#[from] TableError),
}

/// The share of peak arithmetic and of peak bandwidth that kernels reach, as the baseline in the calibration
/// data's notes has it.
const SHARE: f64 = 0.8;

/// The time to start one kernel, from the same baseline: on a device with a queue; on a processor its threads meet, which is
/// what small models spend their time on there.
const LAUNCH_SECONDS: f64 = 3e-6;

/// How much longer than the central estimate it may take, where nothing has been fitted.
const UPPER: f64 = 4.0;

/// How often the model's share of the design power is between these; no meter was read.
const POWER_SHARES: [f64; 3] = [0.3, 0.6, 1.0];

/// Estimates a model on a chip; a chip that cannot run it as it is gets a Record that says why.
pub fn predict(request: &Request<'_>, chip: &Chip) -> Result<Record, PredictError> {
    let own = request.counted.precision();
    let precision = request.precision.unwrap_or(own);
    let tables = Tables::builtin()?;
    let fitted = |stack: &&String| tables.choose(chip, stack, precision).is_some();
    let stack = request
        .stack
        .map(str::to_string)
        .or_else(|| chip.stacks.iter().find(fitted).or(chip.stacks.first()).cloned());
    let key = Key {
        model: request.model.to_string(),
        model_sha256: request.model_sha256.to_string(),
        chip: chip.id.clone(),
        stack: stack.unwrap_or_else(|| "unknown".to_string()),
        target: None,
        batch: request.batch,
        dtype: precision.word().to_string(),
    };
    let (compute, usable) = match usable(chip, precision) {
        Ok(found) => found,
        Err(why_not) => return Ok(Record::refused(key, why_not)),
    };
    let peak = compute.peak(usable.precision).map(anychip_chips::Spec::figure).transpose()?;
    let Some(peak) = peak else {
        return Ok(Record::refused(key, "the catalog has no peak of its arithmetic"));
    };
    let work = &request.counted.work;
    let scale = f64::from(precision.bits()) / f64::from(own.bits());
    let memory = compute.main_memory();
    if let Some(capacity) = memory.and_then(|m| m.bytes.as_ref()) {
        let needed = scale * (work.weight_bytes + work.peak_activation_bytes);
        if needed > capacity.value {
            return Ok(Record::refused(
                key,
                format!(
                    "needs {:.1} GB for weights and activations and has {:.1} GB",
                    needed / 1e9,
                    capacity.value / 1e9
                ),
            ));
        }
    }
    // Without it there is no telling how slow a model may be.
    let Some(bandwidth) = memory.and_then(|m| m.bytes_per_second.as_ref()).map(|b| b.value) else {
        return Ok(Record::refused(key, "the catalog has no bandwidth of its memory"));
    };
    let vector =
        compute.peaks.get(&usable.precision).and_then(|p| p.vector.as_ref()).map(|v| v.value);
    let choice = tables.choose(chip, &key.stack, usable.precision);
    let rates = Rates { peak: peak.value(), bandwidth };
    let fitted = match choice {
        Some(choice) => fitted_time(request, tables, &choice, &rates, scale, usable.precision)?,
        None => None,
    };
    let (time, mut source) = fitted.unwrap_or_else(|| {
        let unlike = if choice.is_some() { ", unlike the models measured" } else { "" };
        (
            roofline(work, scale, &rates, vector),
            format!("predict/roofline, unfitted and unvalidated{unlike}; {}", peak.source()),
        )
    });
    if let Some(note) = usable.note {
        source = format!("{source}; {note}");
    }
    let latency: Figure<Seconds> = Figure::estimated(time.central, time.low, time.high, source)?;
    let mut record = Record::new(key);
    record.set_latency(latency)?;
    let operations = work.operations() / request.batch.max(1) as f64;
    if precision.is_integer() {
        record.set_work(0.0, operations)?;
    } else {
        record.set_work(operations, 0.0)?;
    }
    record.set_utilization(&peak)?;
    match &chip.power_w {
        Some(power) => {
            let [low, central, high] = POWER_SHARES.map(|share| share * power.value);
            let source = format!("0.3 to 1.0 of the design power; {}", power.source);
            record.set_power(Figure::estimated(central, low, high, source)?)?;
        }
        None => record.mark_absent([Field::Power, Field::Energy], "no design power in the catalog"),
    }
    let needed = scale * (work.weight_bytes + work.peak_activation_bytes);
    record.peak_memory_bytes = Some(Figure::estimated(
        needed,
        needed,
        2.0 * needed,
        "weights and live activations of the graph",
    )?);
    record.mark_absent([Field::Ips], "instructions are not estimated");
    record.mark_absent(
        [Field::LatencyP50, Field::LatencyP90, Field::LatencyP99],
        "percentiles are only measured",
    );
    record.mark_absent([Field::Accuracy], "an estimate runs nothing");
    record.settle();
    Ok(record)
}

/// The time by a fitted table, and the source that says which, and what its error was taken on; none for a model that
/// is unlike those it was fitted on.
fn fitted_time(
    request: &Request<'_>,
    tables: &Tables,
    choice: &Choice<'_>,
    rates: &Rates,
    scale: f64,
    precision: Precision,
) -> Result<Option<(Time, String)>, PredictError> {
    let entry = choice.entry;
    let kernels = request.counted.kernels(entry.launching, scale)?;
    if !entry.whole.covers(&kernels, rates) {
        return Ok(None);
    }
    let span = entry.whole.predict(&kernels, rates);
    let (mut low, mut high, mut central) = (span.low, span.high, span.seconds);
    let mut source = format!(
        "predict/tables v{}, {} on {}, {} models, intervals from model families left out",
        tables.version, entry.software, entry.chip, entry.models
    );
    if let Some(anchor) = &request.anchor
        && let Some(other) = anchor_rates(anchor.chip, precision)
    {
        // What the formula gets wrong about the model it gets wrong on both chips.
        let ratio = central / entry.whole.predict(&kernels, &other).seconds;
        let moved = anchor.seconds * ratio / central;
        (low, central, high) = (low * moved, central * moved, high * moved);
        source = format!("measured on {} × predicted ratio; {source}", anchor.chip.id);
    }
    if !choice.own_precision {
        low *= tables.transfer[0].min(0.0).exp();
        high *= tables.transfer[1].max(0.0).exp();
        source =
            format!("{source}; fitted in {}, so {precision} is not validated", entry.precision);
    }
    if !choice.own_chip {
        low *= tables.transfer[0].min(0.0).exp();
        high *= tables.transfer[1].max(0.0).exp();
        source =
            format!("{source}; not fitted on this chip: widened by errors on devices left out");
    }
    Ok(Some((Time { low, central, high }, source)))
}

/// Peak and bandwidth of the chip that was measured on, where the catalog has both.
fn anchor_rates(chip: &Chip, precision: Precision) -> Option<Rates> {
    let (compute, usable) = usable(chip, precision).ok()?;
    let peak = compute.peak(usable.precision)?.value;
    let bandwidth = compute.main_memory()?.bytes_per_second.as_ref()?.value;
    Some(Rates { peak, bandwidth })
}

struct Time {
    low: f64,
    central: f64,
    high: f64,
}

/// Sums the kernels: `low` at full peaks without launches, which no program beats; `central` at the usual
/// share with launches.
fn roofline(work: &ModelCost, scale: f64, rates: &Rates, vector: Option<f64>) -> Time {
    let (mut arithmetic_only, mut central) = (0.0, 0.0);
    for group in &work.groups {
        let (arithmetic, seconds) = group_seconds(group, scale, rates, vector);
        arithmetic_only += arithmetic;
        central += seconds;
    }
    // Values that stay on the chip between kernels cost no traffic, so arithmetic alone bounds from below; a
    // model with next to none of it gets the same factor as above.
    let low = arithmetic_only.max(central / UPPER).min(central);
    Time { low, central, high: UPPER * central }
}

/// Seconds of a group's arithmetic at full peaks, and its central estimate with the launch.
pub(crate) fn group_seconds(
    group: &GroupCost,
    scale: f64,
    rates: &Rates,
    vector: Option<f64>,
) -> (f64, f64) {
    let vector = vector.unwrap_or(rates.peak);
    let arithmetic = 2.0 * group.macs / rates.peak + group.operations / vector;
    let traffic = group.bytes(scale) / rates.bandwidth;
    (arithmetic, arithmetic.max(traffic) / SHARE + LAUNCH_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::GroupCost;

    fn group(macs: f64, bytes: f64) -> GroupCost {
        GroupCost {
            name: "g".into(),
            op: "dot-general",
            macs,
            operations: 0.0,
            float_bytes: bytes,
            other_bytes: 0.0,
        }
    }

    #[test]
    fn a_group_takes_the_longer_of_arithmetic_and_traffic() {
        let work =
            |macs, bytes| ModelCost { groups: vec![group(macs, bytes)], ..ModelCost::default() };
        let rates = Rates { peak: 1e12, bandwidth: 1e12 };
        let compute = roofline(&work(1e9, 1.0), 1.0, &rates, None);
        assert!((compute.central - 2e-3 / SHARE - LAUNCH_SECONDS).abs() < 1e-9);
        assert!((compute.low - 2e-3).abs() < 1e-9);
        let traffic = roofline(&work(1.0, 1e9), 1.0, &rates, None);
        assert!((traffic.central - 1e-3 / SHARE - LAUNCH_SECONDS).abs() < 1e-9);
        let halved = roofline(&work(1.0, 1e9), 0.5, &rates, None);
        assert!((halved.central - 0.5e-3 / SHARE - LAUNCH_SECONDS).abs() < 1e-9);
        let small = roofline(&work(1.0, 1.0), 1.0, &rates, None);
        assert!(small.central > LAUNCH_SECONDS);
        for time in [compute, traffic, halved, small] {
            assert!(time.low <= time.central && time.central <= time.high);
        }
    }
}
