//! Timing a model on a chip that is here: the only place where a figure becomes *measured*.

use std::time::{Duration, Instant};

use anychip_chips::Chip;
use anychip_ir::{Graph, graph_work};
use anychip_record::{Field, Key, Layer, Ownership, Record};
use anychip_target::{CompileOptions, Counters, Place};
use anychip_tensor::Tensor;
use anychip_units::Figure;

use crate::machine::with_peaks;
use crate::meter::{Instructions, Meter, PackageEnergy, largest_resident};
use crate::scenario::{self, Length, STREAMS, Scenario, System};
use crate::{Engine, Error};

/// How long and how to measure.
#[derive(Debug, Clone)]
pub struct MeasureOptions {
    /// How the model is compiled; with layers, each is timed too, in runs of their own.
    pub compile: CompileOptions,
    /// Least time to spend on timed runs.
    pub duration: Duration,
    /// Least number of timed runs; of queries, where a scenario is named.
    pub runs: usize,
    /// How queries arrive; one run after another, without a scenario's name in the Record, when absent.
    pub scenario: Option<Scenario>,
    /// Runs that are not counted, first.
    pub warmup: usize,
}

impl Default for MeasureOptions {
    fn default() -> MeasureOptions {
        MeasureOptions {
            compile: CompileOptions::default(),
            duration: Duration::from_secs(2),
            runs: 10,
            scenario: None,
            warmup: 2,
        }
    }
}

/// The most times that layers are timed.
const MOST_RUNS: usize = 1_000_000;

/// What is measured and what it is called in the Record.
pub struct Subject<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The hash of its file.
    pub model_sha256: &'a str,
    /// The optimized graph with a number for every size of its inputs.
    pub graph: &'a Graph,
    /// Inferences in one run.
    pub batch: u64,
}

/// The key of a Record of this subject on a chip.
pub(crate) fn key(subject: &Subject<'_>, chip: &Chip, stack: &str, target: Option<&str>) -> Key {
    Key {
        model: subject.model.to_string(),
        model_sha256: subject.model_sha256.to_string(),
        chip: chip.id.clone(),
        stack: stack.to_string(),
        target: target.map(str::to_string),
        batch: subject.batch,
        dtype: anychip_predict::model_precision(subject.graph).word().to_string(),
    }
}

/// Runs the subject on a chip of this machine and times it. `progress` hears of each run with the share of
/// the time gone. Peaks of this machine's CPU that `chip` lacks are measured after the model.
pub fn measure(
    subject: &Subject<'_>,
    chip: &Chip,
    inputs: &[Tensor],
    options: &MeasureOptions,
    progress: &mut dyn FnMut(f64),
) -> Result<Record, Error> {
    // The counter must exist before the session's threads do, or it does not see them.
    let mut instructions = Instructions::find();
    let mut energy = PackageEnergy::find();
    let compile = CompileOptions { layers: false, ..options.compile.clone() };
    let mut engine = Engine::new(subject.graph, chip, &compile)?;
    if matches!(engine.place(), Place::Simulator { .. }) {
        return Err(Error::NotHere { chip: chip.id.clone() });
    }
    let mut counters = Counters::default();
    for _ in 0..options.warmup.max(1) {
        counters = engine.run(inputs)?.1;
    }
    energy.start();
    instructions.start();
    let mut timed = Timed {
        engine: &mut engine,
        inputs,
        start: Instant::now(),
        runs: 0,
        duration: options.duration,
        progress,
    };
    let length = Length {
        seconds: options.duration.as_secs_f64(),
        queries: options.runs,
        batch: subject.batch.max(1),
    };
    let scenario = options.scenario.as_ref();
    let outcome =
        scenario::drive(scenario.unwrap_or(&Scenario::SingleStream), &mut timed, &length)?;
    let (seconds, runs) = (timed.now(), timed.runs);
    let instructions = instructions.stop();
    let joules = energy.stop();

    let mut record = Record::new(key(subject, chip, "anychip", Some(engine.target())));
    if scenario == Some(&Scenario::MultiStream) {
        record.batch = STREAMS.max(record.batch);
    }
    record.threads = options.compile.threads.and_then(|n| u32::try_from(n).ok());
    scenario::set(&mut record, scenario, &outcome)?;
    record.peak_memory_bytes = match (largest_resident(), counters.peak_bytes) {
        (Some(bytes), _) => Some(Figure::measured(bytes, "largest resident set of the process")?),
        (None, Some(bytes)) => Some(Figure::measured(
            bytes as f64,
            "activations at the peak, as allocated, weights excluded",
        )?),
        (None, None) => None,
    };
    drop(engine);
    if options.compile.layers {
        record.layers = layers(subject, chip, inputs, options)?;
        record.layers_source =
            Some("clock, each layer's median over runs of their own".to_string());
    }
    // The machine's peaks come last: nothing waits for them, and their buffers are no memory of the model's.
    let chip = with_peaks(chip, options.compile.threads);
    let total = graph_work(subject.graph)?;
    let per_inference = total.all_operations() / subject.batch.max(1) as f64;
    let precision = anychip_predict::model_precision(subject.graph);
    if precision.is_integer() {
        record.set_work(0.0, per_inference)?;
    } else {
        record.set_work(per_inference, 0.0)?;
    }
    record.roof = anychip_predict::roof(&chip, precision)?;
    match chip.compute().and_then(|c| c.peak(precision)) {
        Some(peak) => record.set_utilization(&peak.figure()?)?,
        None => {
            record.mark_absent([Field::Utilization], format!("no {precision} peak of {}", chip.id));
        }
    }
    match instructions {
        Ok(count) => {
            record.ips = Some(Figure::measured(count / seconds, "instructions retired / clock")?);
        }
        Err(reason) => record.mark_absent([Field::Ips], reason),
    }
    match joules {
        Ok(joules) if joules > 0.0 => {
            record
                .set_power(Figure::measured(joules / seconds, "package energy counter / clock")?)?;
            // The counter knows what the inferences took, slow runs included; power × median time does not. A server waits
            // too and its runs are not always full, so there it is power over throughput.
            if !matches!(scenario, Some(Scenario::Server { .. })) {
                let inferences = runs as f64 * subject.batch.max(1) as f64;
                let source = "package energy counter / inferences";
                record.energy_j = Some(Figure::measured(joules / inferences, source)?);
            }
        }
        Ok(_) => {
            record.mark_absent([Field::Power, Field::Energy], "the energy counter did not move");
        }
        Err(reason) => record.mark_absent([Field::Power, Field::Energy], reason),
    }
    add_chip_facts(&mut record, &chip)?;
    record.mark_absent([Field::PeakMemory], "the target does not count it");
    record.mark_absent([Field::Accuracy], "no labeled data was given");
    record.settle();
    Ok(record)
}

/// An engine on the machine's clock.
struct Timed<'a> {
    engine: &'a mut Engine,
    inputs: &'a [Tensor],
    start: Instant,
    runs: usize,
    duration: Duration,
    progress: &'a mut dyn FnMut(f64),
}

/// A sleep may last this much longer than asked; the rest of a wait is spent looking at the clock.
const SLEEP_SLACK: Duration = Duration::from_millis(1);

impl System for Timed<'_> {
    type Error = Error;

    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn wait_until(&mut self, moment: f64) {
        let left = Duration::try_from_secs_f64(moment - self.now()).unwrap_or(Duration::ZERO);
        if let Some(sleep) = left.checked_sub(SLEEP_SLACK) {
            std::thread::sleep(sleep);
        }
        while self.now() < moment {
            std::hint::spin_loop();
        }
    }

    fn run(&mut self) -> Result<(), Error> {
        self.engine.run(self.inputs)?;
        self.runs += 1;
        let share = self.now() / self.duration.as_secs_f64().max(f64::MIN_POSITIVE);
        (self.progress)(share.min(1.0));
        Ok(())
    }
}

/// The median time of each layer over runs that take a third of the time of the others.
fn layers(
    subject: &Subject<'_>,
    chip: &Chip,
    inputs: &[Tensor],
    options: &MeasureOptions,
) -> Result<Vec<Layer>, Error> {
    let mut engine = Engine::new(subject.graph, chip, &options.compile)?;
    engine.run(inputs)?;
    let mut layers = engine.run_with_layers(inputs)?.layers;
    let mut times: Vec<Vec<f64>> = layers.iter().map(|layer| vec![layer.seconds]).collect();
    let start = Instant::now();
    let mut runs = 1;
    while (runs < options.runs || start.elapsed() < options.duration / 3) && runs < MOST_RUNS {
        // What only a run can size may differ in steps; such a run says nothing of single layers.
        let found = engine.run_with_layers(inputs)?.layers;
        if found.len() == times.len() {
            times.iter_mut().zip(found).for_each(|(times, layer)| times.push(layer.seconds));
        }
        runs += 1;
    }
    layers.iter_mut().zip(&mut times).for_each(|(layer, times)| layer.seconds = median(times));
    Ok(layers)
}

/// Prices and sizes from the catalogue.
pub(crate) fn add_chip_facts(record: &mut Record, chip: &Chip) -> Result<(), Error> {
    let all = f64::from(record.devices.unwrap_or(1));
    record.set_cost(
        chip.purchase_price().transpose()?.map(|price| price.convert(all)).transpose()?,
        chip.rental_price().transpose()?.map(|rent| rent.convert(all)).transpose()?,
        &Ownership::default(),
    )?;
    let area = |spec: &Option<_>| {
        let stated = spec.as_ref().map(anychip_chips::Spec::figure).transpose()?;
        stated.map(|area| area.convert(all)).transpose()
    };
    record.die_mm2 = area(&chip.die_mm2)?;
    record.board_mm2 = area(&chip.board_mm2)?;
    record.settle();
    record.mark_absent([Field::Die, Field::Board], "not in the catalog");
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
