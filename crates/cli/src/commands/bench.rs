//! `anychip bench`: one chip that is here, timed.

use std::time::Duration;

use anychip::{CompileOptions, MLPERF_DURATION, MeasureOptions, STREAMS, Scenario, Subject};
use anyhow::{Result, bail};

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
