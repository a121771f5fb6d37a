//! One model on many chips: measured where the chip is here, simulated where a target can, estimated elsewhere.

use anychip_chips::{Catalog, Chip, Precision};
use anychip_ir::Graph;
use anychip_predict::{Anchor, Counted, Request, add_layers, predict, roof};
use anychip_record::{Field, Record};

use crate::describe::describe;
use crate::inputs::made_up;
use crate::machine::{THIS_CPU, check_memory, this_cpu, with_peaks};
use anychip_target::CompileOptions;

use crate::measure::{MeasureOptions, Subject, add_chip_facts, measure};
use crate::simulate::{Legal, is_refusal, simulate_legal};
use crate::targets::device_rows;
use crate::{Error, Model};

/// How to compare.
#[derive(Debug, Clone, Default)]
pub struct CompareOptions {
    /// Number format to estimate in; the model's own when absent.
    pub precision: Option<Precision>,
    /// Number format that estimates keep the weights of linear layers in, where another than that of arithmetic.
    pub weights: Option<Precision>,
    /// Chips of a kind that estimates split the model over; as many as it needs when absent.
    pub devices: Option<u32>,
    /// Software to estimate with; each chip's usual when absent.
    pub stack: Option<String>,
    /// Run nothing.
    pub estimate_only: bool,
    /// Threads for what is measured.
    pub threads: Option<usize>,
    /// Inferences in one run.
    pub batch: u64,
    /// Also say where the time goes, layer by layer.
    pub layers: bool,
}

/// The chips of the given names (all of the catalogue, and this machine's CPU, when there are none), as rows.
pub fn select_chips(catalog: &Catalog, names: &[String]) -> Result<Vec<Chip>, Error> {
    if names.is_empty() {
        return Ok(std::iter::once(this_cpu(false, None))
            .chain(device_rows(catalog))
            .chain(catalog.chips().cloned())
            .collect());
    }
    let known = |name: &String| name == THIS_CPU || catalog.get(name).is_some();
    // Looking for devices takes time, so it is done only for a name that is nothing else.
    let rows = if names.iter().all(known) { Vec::new() } else { device_rows(catalog) };
    names
        .iter()
        .map(|name| {
            if name == THIS_CPU {
                Ok(this_cpu(false, None))
            } else if let Some(row) = rows.iter().find(|row| row.id == *name) {
                Ok(row.clone())
            } else {
                Ok(catalog.find(name).cloned()?)
            }
        })
        .collect()
}

/// Compares an optimized graph, whose sizes are numbers, on the chips; `progress` hears each one's name before it.
/// A chip that cannot run the model gets a Record that says why.
pub fn compare(
    model: &Model,
    graph: &Graph,
    chips: &[Chip],
    options: &CompareOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Record>, Error> {
    let sha256 = model.sha256()?;
    let subject =
        Subject { model: model.name(), model_sha256: &sha256, graph, batch: options.batch };
    let counted = Counted::new(graph)?;
    let own_format = options.precision.is_none_or(|p| p == counted.precision());
    // What does not fit here can still be estimated.
    let fits = check_memory(graph).is_ok();
    let mut records: Vec<Option<Record>> = vec![None; chips.len()];
    let mut failures: Vec<(String, String)> = Vec::new();
    // What is measured comes first, so that estimates can start from it.
    for (chip, record) in chips.iter().zip(&mut records) {
        let here = crate::targets::is_attached(chip);
        // A run is in the model's own format by anychip's own stack; anything else asked for is an estimate.
        let asked_for_this = own_format
            && options.weights.is_none()
            && options.devices.is_none_or(|n| n == 1)
            && options.stack.as_ref().is_none_or(|s| s == "anychip");
        if here && fits && !options.estimate_only && asked_for_this {
            progress(&chip.id);
            let inputs = made_up(graph)?;
            let measuring = MeasureOptions {
                compile: CompileOptions {
                    threads: options.threads,
                    layers: options.layers,
                    ..CompileOptions::default()
                },
                duration: std::time::Duration::from_millis(800),
                ..MeasureOptions::default()
            };
            match measure(&subject, chip, &inputs, &measuring, &mut |_| {}) {
                Ok(measured) => *record = Some(measured),
                // This machine's own processor runs every model; a device of others' software may refuse one or fail, and
                // then it is estimated like a chip that is not here.
                Err(error) if chip.id == THIS_CPU => return Err(error),
                Err(error) => failures.push((chip.id.clone(), error.to_string())),
            }
        }
    }
    if !options.estimate_only
        && options.weights.is_none()
        && options.devices.is_none_or(|n| n == 1)
        && options.stack.as_ref().is_none_or(|s| s == "anychip")
    {
        let compile = CompileOptions {
            layers: options.layers,
            precision: options.precision,
            ..CompileOptions::default()
        };
        let mut legal = Legal::default();
        for (chip, record) in chips.iter().zip(&mut records).filter(|(_, r)| r.is_none()) {
            match simulate_legal(&subject, chip, &compile, &mut legal) {
                Ok(Some(simulated)) => {
                    progress(&chip.id);
                    let estimated = estimate_from(&subject, &counted, chip, options, None)?;
                    let below = leaves_out_too_much(chip, &simulated, &estimated);
                    *record = Some(if below { estimated } else { simulated });
                }
                Ok(None) => {}
                Err(error) if is_refusal(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    let measured: Vec<(&Chip, String, f64)> = chips
        .iter()
        .zip(&records)
        .filter_map(|(chip, record)| {
            let record = record.as_ref().filter(|_| crate::targets::is_attached(chip))?;
            Some((chip, record.stack.clone(), record.latency_s.as_ref()?.value()))
        })
        .collect();
    for (chip, record) in chips.iter().zip(&mut records) {
        if record.is_none() {
            progress(&chip.id);
            let anchor = measured
                .iter()
                .find(|(here, _, _)| here.family == chip.family)
                .map(|(chip, stack, seconds)| Anchor { chip, stack, seconds: *seconds });
            let mut estimated = estimate_from(&subject, &counted, chip, options, anchor)?;
            if let Some((_, why)) = failures.iter().find(|(id, _)| *id == chip.id) {
                let why = format!("could not be measured here: {why}");
                match estimated.why_not.as_mut() {
                    Some(reason) => *reason = format!("{why}; {reason}"),
                    None => estimated.mark_absent([Field::PeakMemory, Field::Ips], why),
                }
            }
            *record = Some(estimated);
        }
    }
    let mut records: Vec<Record> = records.into_iter().flatten().collect();
    for (chip, record) in chips.iter().zip(&mut records) {
        describe(record, chip);
    }
    Ok(records)
}

/// Whether a simulated time lies below all that is estimated, on a chip of which nobody states what a launch costs: the simulator
/// counts none then, the estimate does, so launches decide.
fn leaves_out_too_much(chip: &Chip, simulated: &Record, estimated: &Record) -> bool {
    let launch = chip.systolic.as_ref().and_then(|systolic| systolic.launch_s.as_ref());
    match (&simulated.latency_s, &estimated.latency_s) {
        (Some(simulated), Some(estimated)) => {
            launch.is_none() && simulated.value() < estimated.low()
        }
        _ => false,
    }
}

/// Estimates the subject on a chip, with the catalogue's prices and sizes.
pub fn estimate(
    subject: &Subject<'_>,
    counted: &Counted<'_>,
    chip: &Chip,
    options: &CompareOptions,
) -> Result<Record, Error> {
    estimate_from(subject, counted, chip, options, None)
}

/// The same, starting from a measurement of the model on a chip of the family where there is one. Whether it is used is decided
/// by what validation found: see [`anychip_predict::Transfer::anchored`].
fn estimate_from(
    subject: &Subject<'_>,
    counted: &Counted<'_>,
    chip: &Chip,
    options: &CompareOptions,
    anchor: Option<Anchor<'_>>,
) -> Result<Record, Error> {
    let chip = &with_peaks(chip, options.threads);
    let request = Request {
        model: subject.model,
        model_sha256: subject.model_sha256,
        counted,
        batch: subject.batch,
        precision: options.precision,
        weights: options.weights,
        devices: options.devices,
        stack: options.stack.as_deref(),
        anchor,
    };
    let mut record = predict(&request, chip)?;
    if record.runs {
        add_chip_facts(&mut record, chip)?;
        let precision = options.precision.unwrap_or(counted.precision());
        record.roof = roof(chip, precision)?;
        if options.layers {
            add_layers(&mut record, &request, chip)?;
        }
    }
    Ok(record)
}
