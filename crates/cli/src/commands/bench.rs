//! `anychip bench`: one chip that is here, timed.

use std::time::Duration;

use anychip::{CompileOptions, MeasureOptions, Subject};
use anychip_record::Field;
use anyhow::Result;

use crate::args::{Bench, Scenario};
use crate::commands::{prepare, print};
use crate::terminal::{Progress, width};

pub(crate) fn execute(args: &Bench) -> Result<()> {
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
    let options = MeasureOptions {
        compile: CompileOptions { layers: args.layers, ..args.execution.compile_options() },
        duration: Duration::from_secs_f64(args.seconds),
        ..MeasureOptions::default()
    };
    let progress = Progress::start(100, &format!("timing {}", prepared.model.name()));
    let mut record = anychip::measure(&subject, &chip, &inputs, &options, &mut |share| {
        progress.set((share * 100.0) as u64);
    })?;
    drop(progress);
    record.scenario = Some(args.scenario.name().to_string());
    if args.scenario == Scenario::Offline {
        // All queries are there at once: only the rate means anything.
        let reason = "offline: queries do not arrive one by one";
        (record.latency_p50_s, record.latency_p90_s, record.latency_p99_s) = (None, None, None);
        record.mark_absent([Field::LatencyP50, Field::LatencyP90, Field::LatencyP99], reason);
    }
    if args.json {
        return print(&format!("{}\n", record.to_json_line()?));
    }
    let records = [record];
    let width = width();
    print(
        &(anychip_report::bench_table(&records, width)
            + &anychip_report::layers_table(&records[0], width)
            + &anychip_report::absences(&records, width)),
    )
}
