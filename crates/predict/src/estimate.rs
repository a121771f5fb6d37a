//! The estimate itself.

use anychip_chips::{Chip, Compute, LinkEnd, Precision};
use anychip_ir::IrError;
use anychip_record::{Field, Key, Record};
use anychip_units::{Bytes, Figure, FigureError, Seconds, format::quantity};

use crate::cost::{GroupCost, ModelCost};
use crate::counted::Counted;
use crate::graph_kernels::Launching;
use crate::operators::Rates;
use crate::refusal::usable;
use crate::serving::{Numbers, ServingTables, serve};
use crate::single::{self, SingleTable};
use crate::split::{EXCHANGE_FACTOR, Split, boundary, link};
use crate::tables::{Choice, TableError, Tables};
use crate::whole::Span;

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
    /// The number format that the weights of linear layers are kept in, where another: `int8` or `int4`, with arithmetic
    /// as before.
    pub weights: Option<Precision>,
    /// How many chips share the model; where absent, as many as its memory needs if they have a link to each other.
    pub devices: Option<u32>,
    /// The software; where absent, the first of the chip's that has a fitted table, else the chip's usual.
    pub stack: Option<&'a str>,
    /// The same model measured on another chip: what is predicted is then the ratio of the two.
    pub anchor: Option<Anchor<'a>>,
}

/// A measurement of the model that is asked about, on a chip at hand with the same stack and format. It is used for chips of
/// the same family, where that made predictions of devices left out better ([`crate::Transfer::anchored`]).
#[derive(Debug, Clone, Copy)]
pub struct Anchor<'a> {
    /// The chip it was measured on.
    pub chip: &'a Chip,
    /// With which software.
    pub stack: &'a str,
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
    let calls = request.counted.calls()?;
    let stack = match request.stack {
        Some(stack) => stack.to_string(),
        None => usual_stack(chip, tables, precision, calls.is_some()),
    };
    let key = Key {
        model: request.model.to_string(),
        model_sha256: request.model_sha256.to_string(),
        chip: chip.id.clone(),
        stack,
        target: None,
        batch: request.batch,
        dtype: format_word(precision, request.weights),
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
    let sizes = Sizes::of(precision, own, request.weights);
    let needed = sizes.memory(work);
    let memory = compute.main_memory();
    let capacity = memory.and_then(|m| m.bytes.as_ref()).map(|bytes| bytes.value);
    let link = link(compute);
    let devices = match devices(request.devices, needed, capacity, compute, link.is_some()) {
        Ok(devices) => devices,
        Err(why_not) => return Ok(Record::refused(key, why_not)),
    };
    let split = Split::of(devices, calls);
    // Without it there is no telling how slow a model may be.
    let Some(bandwidth) = memory.and_then(|m| m.bytes_per_second.as_ref()).map(|b| b.value) else {
        return Ok(Record::refused(key, "the catalog has no bandwidth of its memory"));
    };
    let vector =
        compute.peaks.get(&usable.precision).and_then(|p| p.vector.as_ref()).map(|v| v.value);
    let rates = Rates { peak: peak.value(), bandwidth };
    let served = match calls {
        Some(calls) if key.stack == SERVING => {
            let numbers = Numbers { arithmetic: usable.precision, weights: request.weights };
            serve(ServingTables::builtin()?, &split.share(calls), chip, numbers).map(|s| {
                (Time { low: s.span.low, central: s.span.seconds, high: s.span.high }, s.source)
            })
        }
        _ => None,
    };
    let choice = tables.choose(chip, &key.stack, usable.precision);
    let singly = in_single_kernels(chip, &key.stack, usable.precision, choice.as_ref())
        && request.weights.is_none()
        && split.tensor == 1;
    let found = match served {
        None if singly => single_time(request, chip, sizes.activations)?,
        served => served,
    };
    let fitted = match (found, choice) {
        (Some(found), _) => Some(found),
        (None, Some(choice)) if request.weights.is_none() && split.tensor == 1 => {
            fitted_time(request, tables, &choice, &rates, sizes.activations, usable.precision)?
        }
        (None, _) => None,
    };
    let (mut time, mut source) = fitted.unwrap_or_else(|| {
        let unlike = if choice.is_some() { ", unlike the models measured" } else { "" };
        (
            roofline(work, &sizes, &rates, vector, split.tensor),
            format!("predict/roofline, unfitted and unvalidated{unlike}; {}", peak.source()),
        )
    });
    if let (false, Some((rate, name))) = (split.is_one(), link) {
        let between = calls.map_or(work.peak_activation_bytes * sizes.activations, |calls| {
            boundary(calls, f64::from(precision.bits()) / 8.0)
        });
        let exchange = split.exchange(calls, between, rate);
        time.low += exchange / EXCHANGE_FACTOR;
        time.central += exchange;
        time.high += exchange * EXCHANGE_FACTOR;
        source = format!(
            "{devices} chips, {} in each of {} stages, over {name}: unvalidated; {source}",
            split.tensor, split.stages
        );
    }
    if let Some(note) = usable.note {
        source = format!("{source}; {note}");
    }
    let latency: Figure<Seconds> = Figure::estimated(time.central, time.low, time.high, source)?;
    let mut record = Record::new(key);
    record.set_latency(latency)?;
    if devices > 1 {
        record.devices = Some(devices);
    }
    if split.stages > 1
        && let Some(one) = record.throughput_per_s.clone()
    {
        // A pipeline that is kept full has a run in each stage.
        record.set_throughput(one.convert(f64::from(split.stages))?);
    }
    let operations = work.operations() / request.batch.max(1) as f64;
    if precision.is_integer() {
        record.set_work(0.0, operations)?;
    } else {
        record.set_work(operations, 0.0)?;
    }
    record.set_utilization(&peak.convert(f64::from(devices))?)?;
    match &chip.power_w {
        Some(power) => {
            let [low, central, high] =
                POWER_SHARES.map(|share| share * power.value * f64::from(devices));
            let source = format!("0.3 to 1.0 of the design power; {}", power.source);
            record.set_power(Figure::estimated(central, low, high, source)?)?;
        }
        None => record.mark_absent([Field::Power, Field::Energy], "no design power in the catalog"),
    }
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

/// Whether the sum of kernels measured one at a time speaks for a chip, a stack and a format: no table of whole models is of
/// that format.
pub(crate) fn in_single_kernels(
    chip: &Chip,
    stack: &str,
    precision: Precision,
    choice: Option<&Choice<'_>>,
) -> bool {
    stack == EAGER
        && precision == Precision::F32
        && single::platform(chip).is_some()
        && choice.is_none_or(|choice| !choice.own_precision)
}

/// The time by kernels measured one at a time; none for a model with kernels that were not.
fn single_time(
    request: &Request<'_>,
    chip: &Chip,
    scale: f64,
) -> Result<Option<(Time, String)>, PredictError> {
    let kernels = request.counted.kernels(Launching::Eager, scale)?;
    let found = single::single(SingleTable::builtin()?, &kernels, chip);
    Ok(found.map(|single| {
        let Span { low, seconds, high } = single.span;
        (Time { low, central: seconds, high }, single.source)
    }))
}

/// The software that launches one kernel an operator.
const EAGER: &str = "pytorch-eager";

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
    let own = entry.whole.quantiles();
    let mut quantiles = own;
    let mut notes = String::new();
    if !choice.own_precision {
        notes += &format!("; fitted in {}, so {precision} is not validated", entry.precision);
    }
    let transfer = tables.transfer(entry.family);
    if !choice.own_chip || !choice.own_precision {
        // Where it was never tried, as far as it reached where it was worst.
        let worst = || tables.transfers.iter().map(|t| t.reach).fold(0.0, f64::max);
        let reach = transfer.map_or_else(worst, |transfer| transfer.reach);
        quantiles = [own[0].min(-reach), own[1].max(reach)];
        if !choice.own_chip {
            notes += "; not fitted on this chip: interval from devices left out";
        }
    }
    let span = entry.whole.predict_within(&kernels, rates, quantiles);
    let (mut low, mut high, mut central) = (span.low, span.high, span.seconds);
    let mut source = format!(
        "predict/tables v{}, {} on {}, {} models, intervals from model families left out",
        tables.version, entry.software, entry.chip, entry.models
    );
    if let Some(anchor) = &request.anchor
        && transfer.is_some_and(|transfer| transfer.anchored)
        && anchor.chip.family == entry.family
        && anchor.stack == entry.stack
        && let Some(other) = anchor_rates(anchor.chip, precision)
    {
        // What the formula gets wrong about the model it gets wrong on both chips.
        let ratio = central / entry.whole.predict(&kernels, &other).seconds;
        let moved = anchor.seconds * ratio / central;
        (low, central, high) = (low * moved, central * moved, high * moved);
        source = format!("measured on {} × predicted ratio; {source}", anchor.chip.id);
    }
    Ok(Some((Time { low, central, high }, source + &notes)))
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

/// The software that serves language models with the kernels that were measured.
const SERVING: &str = "vllm";

/// The software that is taken where none was asked for: what serves language models for one, then the first of the
/// chip's with a fitted table, of the same format before one of another, then the chip's usual.
fn usual_stack(chip: &Chip, tables: &Tables, precision: Precision, decoder: bool) -> String {
    let serving = chip.stacks.iter().find(|stack| decoder && *stack == SERVING);
    let choice = |stack: &str| tables.choose(chip, stack, precision);
    let same_format = |stack: &&String| {
        let choice = choice(stack);
        choice.is_some_and(|choice| choice.own_precision)
            || in_single_kernels(chip, stack, precision, choice.as_ref())
    };
    serving
        .or_else(|| chip.stacks.iter().find(same_format))
        .or_else(|| chip.stacks.iter().find(|stack| choice(stack).is_some()))
        .or(chip.stacks.first())
        .map_or_else(|| "unknown".to_string(), Clone::clone)
}

/// `f16`; `w4a16` where weights and activations differ, as the field writes it.
fn format_word(precision: Precision, weights: Option<Precision>) -> String {
    match weights {
        Some(weights) if weights != precision => {
            format!("w{}a{}", weights.bits(), precision.bits())
        }
        _ => precision.word().to_string(),
    }
}

/// What each byte of the graph counts as.
pub(crate) struct Sizes {
    /// Of floating-point values.
    pub(crate) activations: f64,
    /// Of weights of linear layers.
    pub(crate) weights: f64,
}

impl Sizes {
    pub(crate) fn of(precision: Precision, own: Precision, weights: Option<Precision>) -> Self {
        let own = f64::from(own.bits());
        let activations = f64::from(precision.bits()) / own;
        Self { activations, weights: weights.map_or(activations, |w| f64::from(w.bits()) / own) }
    }

    /// Bytes of weights and of the most activations at once.
    fn memory(&self, work: &ModelCost) -> f64 {
        let others = work.weight_bytes - work.quantizable_bytes + work.peak_activation_bytes;
        self.activations * others + self.weights * work.quantizable_bytes
    }
}

/// The most chips that are taken without being asked for.
const MOST_DEVICES: f64 = 64.0;

/// How many chips: those asked for, else as many as the memory needs. Or why there is no such number.
fn devices(
    asked: Option<u32>,
    needed: f64,
    capacity: Option<f64>,
    compute: &Compute,
    linked: bool,
) -> Result<u32, String> {
    let least = capacity.map_or(1.0, |capacity| (needed / capacity).ceil().max(1.0));
    let amount = |capacity: f64| {
        format!(
            "needs {} for weights and activations and has {}",
            quantity::<Bytes>(needed),
            quantity::<Bytes>(capacity)
        )
    };
    let short = capacity.map(amount).unwrap_or_default();
    if let Some(asked) = asked {
        let asked = asked.max(1);
        if f64::from(asked) < least {
            return Err(format!("{short}: at least {least} of them"));
        }
        if asked > 1 && !linked {
            return Err("the catalog has no link to split a model over".to_string());
        }
        return Ok(asked);
    }
    if least <= 1.0 {
        return Ok(1);
    }
    // Groups that share a layer are powers of two.
    let whole =
        (least as u32).checked_next_power_of_two().filter(|n| f64::from(*n) <= MOST_DEVICES);
    match whole {
        Some(whole)
            if compute
                .links
                .iter()
                .any(|l| l.to == LinkEnd::Chips && l.bytes_per_second.is_some()) =>
        {
            Ok(whole)
        }
        Some(whole) if linked => Err(format!(
            "{short}: at least {least} of them, which have no link of their own; `--devices {whole}` estimates \
             exchanges through the host"
        )),
        _ => Err(format!("{short}: at least {least} of them")),
    }
}

/// Sums the kernels: `low` at full peaks without launches, which no program beats; `central` at the usual
/// share with launches. Each of `tensor` chips does its share of the arithmetic and reads its share of the weights.
fn roofline(
    work: &ModelCost,
    sizes: &Sizes,
    rates: &Rates,
    vector: Option<f64>,
    tensor: u32,
) -> Time {
    let (mut arithmetic_only, mut central) = (0.0, 0.0);
    let tensor = f64::from(tensor);
    for group in &work.groups {
        let (arithmetic, seconds) = group_seconds(group, sizes, rates, vector, tensor);
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
    sizes: &Sizes,
    rates: &Rates,
    vector: Option<f64>,
    tensor: f64,
) -> (f64, f64) {
    let vector = vector.unwrap_or(rates.peak);
    let arithmetic = (2.0 * group.macs / rates.peak + group.operations / vector) / tensor;
    let traffic = group.bytes(sizes, tensor) / rates.bandwidth;
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
            quantizable_bytes: 0.0,
            other_bytes: 0.0,
        }
    }

    #[test]
    fn a_group_takes_the_longer_of_arithmetic_and_traffic() {
        let work =
            |macs, bytes| ModelCost { groups: vec![group(macs, bytes)], ..ModelCost::default() };
        let rates = Rates { peak: 1e12, bandwidth: 1e12 };
        let same = Sizes { activations: 1.0, weights: 1.0 };
        let compute = roofline(&work(1e9, 1.0), &same, &rates, None, 1);
        assert!((compute.central - 2e-3 / SHARE - LAUNCH_SECONDS).abs() < 1e-9);
        assert!((compute.low - 2e-3).abs() < 1e-9);
        let traffic = roofline(&work(1.0, 1e9), &same, &rates, None, 1);
        assert!((traffic.central - 1e-3 / SHARE - LAUNCH_SECONDS).abs() < 1e-9);
        let half = Sizes { activations: 0.5, weights: 0.5 };
        let halved = roofline(&work(1.0, 1e9), &half, &rates, None, 1);
        assert!((halved.central - 0.5e-3 / SHARE - LAUNCH_SECONDS).abs() < 1e-9);
        let small = roofline(&work(1.0, 1.0), &same, &rates, None, 1);
        assert!(small.central > LAUNCH_SECONDS);
        for time in [compute, traffic, halved, small] {
            assert!(time.low <= time.central && time.central <= time.high);
        }
    }
}
