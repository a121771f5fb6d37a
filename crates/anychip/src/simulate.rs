//! Records of simulated chips: what the simulator of a target counts, without computing values.

use anychip_chips::{Chip, Precision};
use anychip_ir::{Graph, graph_work};
use anychip_record::{Field, Record};
use anychip_target::{
    CompileError, CompileOptions, Counters, File, LegalGraph, Place, Run, legalize,
};
use anychip_tensor::Tensor;
use anychip_units::{Basis, Figure, Joules, Seconds};

use crate::engine::as_wanted;
use crate::measure::{Subject, add_chip_facts, key};
use crate::targets::find_place;
use crate::{Engine, Error};

/// Graphs as targets take them, so that asking about many chips expands once.
#[derive(Default)]
pub(crate) struct Legal(Vec<(&'static str, LegalGraph)>);

impl Legal {
    fn of(
        &mut self,
        target: &dyn anychip_target::Target,
        graph: &Graph,
    ) -> Result<&LegalGraph, Error> {
        let id = target.id();
        if let Some(at) = self.0.iter().position(|(known, _)| *known == id) {
            return Ok(&self.0[at].1);
        }
        let legal = legalize(target, as_wanted(target, graph)?.as_ref())
            .map_err(|refusals| Error::Refused { target: id, refusals })?;
        self.0.push((id, legal));
        Ok(&self.0[self.0.len() - 1].1)
    }
}

/// What a simulator found.
#[derive(Debug, Clone)]
pub struct Simulated {
    /// The figures.
    pub record: Record,
    /// What was counted.
    pub counters: Counters,
    /// The program's files, a timeline among them where the target has one.
    pub files: Vec<File>,
}

/// The subject on a chip that a target simulates, floats in `options.precision`. With inputs it also runs on them, which
/// takes as long as the simulator takes to compute values.
pub fn simulate(
    subject: &Subject<'_>,
    chip: &Chip,
    options: &CompileOptions,
    inputs: Option<&[Tensor]>,
) -> Result<Simulated, Error> {
    let mut engine = Engine::new(subject.graph, chip, options)?;
    let run = match inputs {
        Some(inputs) => engine.run_with_layers(inputs)?,
        None => engine.counted().ok_or_else(|| Error::NotHere { chip: chip.id.clone() })?,
    };
    let (counters, files) = (run.counters.clone(), engine.files());
    let record = record(subject, chip, options, engine.target(), run)?;
    Ok(Simulated { record, counters, files })
}

/// The record alone, with what is legal known already. `None` where no target simulates the chip.
pub(crate) fn simulate_legal(
    subject: &Subject<'_>,
    chip: &Chip,
    options: &CompileOptions,
    legal: &mut Legal,
) -> Result<Option<Record>, Error> {
    let Some((target, Place::Simulator { .. })) = find_place(chip) else { return Ok(None) };
    let legal = legal.of(target.as_ref(), subject.graph)?;
    let program = target.compile(legal, chip, options)?;
    let Some(run) = program.counted() else { return Ok(None) };
    record(subject, chip, options, target.id(), run).map(Some)
}

/// Whether a chip's own limits are why it was not simulated: it can still be estimated.
pub(crate) fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::Compile(
            CompileError::Capacity { .. } | CompileError::Format { .. } | CompileError::Chip { .. }
        )
    )
}

fn record(
    subject: &Subject<'_>,
    chip: &Chip,
    options: &CompileOptions,
    target: &'static str,
    run: Run,
) -> Result<Record, Error> {
    let Counters { cycles, clock_hz, energy_j, basis, .. } = run.counters;
    let own = anychip_predict::model_precision(subject.graph);
    let precision = options.precision.unwrap_or(own);
    let mut key = key(subject, chip, "anychip", Some(target));
    precision.word().clone_into(&mut key.dtype);
    let mut record = Record::new(key);
    let (Some(cycles), Some(clock)) = (cycles, clock_hz) else {
        return Err(Error::NotHere { chip: chip.id.clone() });
    };
    let source = format!("{target}, {cycles} cycles at {:.3} GHz; {basis}", clock * 1e-9);
    record.set_latency(with_launch(cycles as f64 / clock, chip, source)?)?;
    let batch = subject.batch.max(1) as f64;
    let operations = graph_work(subject.graph)?.all_operations() / batch;
    let (float, integer) =
        if precision.is_integer() { (0.0, operations) } else { (operations, 0.0) };
    record.set_work(float, integer)?;
    utilization(&mut record, chip, precision)?;
    record.roof = anychip_predict::roof(chip, precision)?;
    match energy_j {
        Some(joules) if joules > 0.0 => {
            let source = format!(
                "{target}, energy of products, operations and memory accesses by a table of the process; leakage, clocks and \
                 the board are not in it"
            );
            record.energy_j = Some(Figure::<Joules>::simulated(joules / batch, source)?);
        }
        _ => record.mark_absent([Field::Energy], "the catalog has no process of the chip"),
    }
    if options.layers {
        record.layers = run.layers;
        record.layers_source = Some(format!("{target}, cycles of each layer"));
    }
    record
        .mark_absent([Field::Power], "the simulator counts events, not what the whole chip draws");
    record.mark_absent(
        [Field::LatencyP50, Field::LatencyP90, Field::LatencyP99],
        "each simulated run takes the same cycles",
    );
    record.mark_absent([Field::Ips], "the simulator counts no instructions");
    record.mark_absent([Field::PeakMemory], "the simulator does not count it");
    add_chip_facts(&mut record, chip)?;
    record.mark_absent([Field::Accuracy], "no values were computed");
    record.settle();
    Ok(record)
}

/// A simulated time, launch included, as wide as what is stated of the launch.
fn with_launch(seconds: f64, chip: &Chip, source: String) -> Result<Figure<Seconds>, Error> {
    let Some(launch) = chip.systolic.as_ref().and_then(|systolic| systolic.launch_s.as_ref())
    else {
        return Ok(Figure::simulated(seconds, source)?);
    };
    let (low, high) = (launch.low.unwrap_or(launch.value), launch.high.unwrap_or(launch.value));
    let work = (seconds - launch.value).max(0.0);
    let source = format!("{source}; of it {:.3} ms launch: {}", 1e3 * launch.value, launch.source);
    // No constructor of a simulated figure takes an interval; the basis only ever weakens, so this cannot be called measured.
    let figure = Figure::measured_between(
        seconds.max(work + low),
        work + low,
        (work + high).max(seconds),
        source,
    )?;
    Ok(figure.weakened_to(Basis::Simulated))
}

fn utilization(record: &mut Record, chip: &Chip, precision: Precision) -> Result<(), Error> {
    match chip.compute().and_then(|compute| compute.peak(precision)) {
        Some(peak) => record.set_utilization(&peak.figure()?)?,
        None => {
            record.mark_absent([Field::Utilization], format!("no {precision} peak of {}", chip.id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_chips::Catalog;

    /// A launch is in the time, as wide as it is stated; where nobody states one the time is the count alone.
    #[test]
    fn a_launch_widens_the_time() {
        let catalog = Catalog::builtin().unwrap();
        let of = |id: &str| with_launch(1e-3, catalog.find(id).unwrap(), "counted".into()).unwrap();
        let v6e = of("google-tpu-v6e");
        assert_eq!((v6e.value(), v6e.basis()), (1e-3, Basis::Simulated));
        assert!((v6e.low() - 0.992e-3).abs() < 1e-9 && (v6e.high() - 1.662e-3).abs() < 1e-9);
        assert!(v6e.source().contains("of it 0.138 ms launch"), "{}", v6e.source());
        let edge = of("google-edge-tpu");
        assert_eq!((edge.low(), edge.value(), edge.high()), (1e-3, 1e-3, 1e-3));
    }
}
