//! `anychip bench`: one chip that is here, timed; or one that is simulated, counted.

use std::time::Duration;

use anychip::{
    Chip, CompileOptions, MLPERF_DURATION, MeasureOptions, STREAMS, Scenario, Subject, Tensor,
};
use anyhow::{Context, Result, bail};

use crate::args::{Bench, ScenarioName};
use crate::commands::{note, prepare, print};
use crate::terminal::{Progress, width};

pub(crate) fn execute(args: &Bench) -> Result<()> {
    let scenario = scenario(args)?;
    let chip = anychip::local_chip(&args.on)?;
    let prepared = prepare(&args.model)?;
    let inputs = match &args.input {
        Some(path) => anychip::arrange(&prepared.graph, &anychip::read_npz(path)?)?,
        None => anychip::made_up(&prepared.graph)?,
    };
    let sha256 = prepared.model.sha256()?;
    let subject = Subject {
        model: prepared.model.name(),
        model_sha256: &sha256,
        graph: &prepared.graph,
        batch: args.model.batch,
    };
    if anychip::is_simulated(&chip) {
        return simulated(args, &chip, &subject, &inputs);
    }
    if args.trace.is_some() || args.dtype.is_some() {
        bail!("--trace and --dtype are of simulated chips; `{}` is measured as it is", args.on);
    }
    let fewest = scenario.as_ref().map_or(10, Scenario::fewest_queries);
    let options = MeasureOptions {
        compile: CompileOptions { layers: args.layers, ..args.execution.compile_options() },
        duration: Duration::from_secs_f64(args.min_duration),
        runs: args.min_queries.map_or(fewest, |n| n as usize),
        scenario,
        ..MeasureOptions::default()
    };
    let progress = Progress::start(100, &format!("timing {}", prepared.model.name()));
    let mut record = anychip::measure(&subject, &chip, &inputs, &options, &mut |share| {
        progress.set((share * 100.0) as u64);
    })?;
    drop(progress);
    if record.scenario.is_none() {
        record.scenario = Some(Scenario::SingleStream.word().to_string());
    }
    let least = MLPERF_DURATION.as_secs_f64();
    if args.scenario.is_some() && args.min_duration < least {
        note(&format!("not a valid MLPerf duration: {} s of {least} s", args.min_duration));
    }
    if args.json {
        return print(&format!("{}\n", record.to_json_line()?));
    }
    let records = [record];
    let width = width();
    let how = records[0].latency_s.as_ref().filter(|_| args.scenario.is_some());
    let how = how.map_or_else(String::new, |latency| format!("\n{}\n", latency.source()));
    print(
        &(anychip_report::bench_table(&records, width)
            + &how
            + &anychip_report::layers_table(&records[0], width)
            + &anychip_report::absences(&records, width)),
    )
}

/// What the chip's simulator counts: in closed form, or stepped with values where that is asked for.
fn simulated(args: &Bench, chip: &Chip, subject: &Subject<'_>, inputs: &[Tensor]) -> Result<()> {
    if args.scenario.is_some() {
        bail!(
            "`{}` is simulated: its runs all take the same cycles, so --scenario says nothing of it",
            args.on
        );
    }
    let options = CompileOptions {
        layers: args.layers,
        precision: args.dtype,
        ..args.execution.compile_options()
    };
    let values = args.execution.isa.is_some().then_some(inputs);
    let found = anychip::simulate(subject, chip, &options, values)?;
    if let Some(path) = &args.trace {
        let trace = found.files.iter().find(|file| file.path == "trace.json");
        let Some(trace) = trace else { bail!("the simulator of `{}` has no timeline", args.on) };
        std::fs::write(path, &trace.bytes)
            .with_context(|| format!("cannot write the timeline to {}", path.display()))?;
        note(&format!("the timeline is in {}; open it at ui.perfetto.dev", path.display()));
    }
    if args.json {
        return print(&format!("{}\n", found.record.to_json_line()?));
    }
    let records = [found.record];
    let width = width();
    let source = records[0].latency_s.as_ref().map_or("", |latency| latency.source());
    let mut text = anychip_report::bench_table(&records, width) + &format!("\n{source}\n\n");
    for (what, cycles) in found.counters.spent.iter().filter(|(_, cycles)| *cycles > 0) {
        text += &format!("{cycles:>14} cycles  {what}\n");
    }
    for (level, bytes) in found.counters.traffic.iter().filter(|(_, bytes)| *bytes > 0.0) {
        text += &format!("{bytes:>14.0} bytes   {level}\n");
    }
    print(
        &(text
            + &anychip_report::layers_table(&records[0], width)
            + &anychip_report::absences(&records, width)),
    )
}

/// The scenario asked for, with what belongs to it.
fn scenario(args: &Bench) -> Result<Option<Scenario>> {
    let Some(name) = args.scenario else { return Ok(None) };
    if args.latency_bound.is_some() && name != ScenarioName::Server {
        bail!("--latency-bound and --target-qps are of --scenario server");
    }
    Ok(Some(match name {
        ScenarioName::SingleStream => Scenario::SingleStream,
        ScenarioName::MultiStream if !STREAMS.is_multiple_of(args.model.batch) => bail!(
            "a query has {STREAMS} samples, which runs of {} do not make up; --batch 1, 2, 4 or {STREAMS}",
            args.model.batch
        ),
        ScenarioName::MultiStream => Scenario::MultiStream,
        ScenarioName::Server => match args.latency_bound {
            Some(bound) => Scenario::Server { target: args.target_qps, bound, seed: args.seed },
            None => bail!("--scenario server needs --latency-bound"),
        },
        ScenarioName::Offline => Scenario::Offline,
    }))
}
