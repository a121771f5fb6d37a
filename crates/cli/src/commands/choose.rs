//! `anychip choose`: which chip, under which limits.

use anychip::{Catalog, Chip, Filter, Limit, Metric, SearchOptions, Verdict};
use anychip_report::ChoiceView;
use anyhow::{Result, bail};

use crate::args::Choose;
use crate::commands::{load, note, print};
use crate::terminal::{Progress, width};

pub(crate) fn execute(args: &Choose) -> Result<()> {
    let mut catalog = Catalog::builtin()?;
    for file in &args.catalogs {
        catalog.load(file)?;
    }
    let filter = super::chips::filter(&args.which, &catalog)?;
    let chips = admitted(&filter, anychip::select_chips(&catalog, &args.chips)?)?;
    let limits = limits(args);
    let (model, sizes) = load(&args.model, &args.dims)?;
    let options = SearchOptions {
        batches: args.batch.clone(),
        precisions: args.dtype.clone(),
        stack: args.stack.clone(),
        measure: args.measure,
        threads: args.threads.map(|n| n as usize),
        sizes,
    };
    let progress = Progress::start(11, "searching");
    let candidates = anychip::search(&model, &chips, &limits, &options, &mut |what| {
        progress.step(what);
    })?;
    drop(progress);
    let records = anychip::choose(&candidates, &limits, args.goal)?;
    let nothing_runs = records.iter().all(|record| !record.runs);
    if args.json {
        let mut lines = Vec::new();
        anychip_record::write_json_lines(&records, &mut lines)?;
        print(&String::from_utf8_lossy(&lines))?;
    } else {
        let width = width();
        let view = ChoiceView { goal: args.goal.map(Metric::word), all: args.all };
        let mut text = anychip_report::choice_table(&records, &view, width);
        if args.verbose {
            text += &anychip_report::sources(&records, width);
            text += &anychip_report::absences(&records, width);
        }
        print(&text)?;
    }
    if nothing_runs {
        bail!("none of the {} chips asked about can run the model", chips.len());
    }
    Ok(())
}

/// The limits that were given.
fn limits(args: &Choose) -> Vec<Limit> {
    [
        (Metric::Latency, args.max_latency),
        (Metric::Throughput, args.min_throughput),
        (Metric::ThroughputPerDollar, args.min_throughput_per_dollar),
        (Metric::Power, args.max_power),
        (Metric::Energy, args.max_energy),
        (Metric::Price, args.max_price),
        (Metric::PricePerHour, args.max_price_per_hour),
        (Metric::Size, args.max_area),
    ]
    .into_iter()
    .filter_map(|(metric, bound)| Some(Limit { metric, bound: bound? }))
    .collect()
}

/// The chips that the filters admit.
fn admitted(filter: &Filter, chips: Vec<Chip>) -> Result<Vec<Chip>> {
    let all = chips.len();
    let (mut admitted, mut unknown) = (Vec::new(), 0);
    for chip in chips {
        match filter.verdict(&chip) {
            Verdict::Fits => admitted.push(chip),
            Verdict::Fails => {}
            Verdict::Unknown(_) => unknown += 1,
        }
    }
    if unknown > 0 {
        let (are, their) = if unknown == 1 { ("chip is", "its") } else { ("chips are", "their") };
        note(&format!("{unknown} {are} left out because {their} memory or year is not known"));
    }
    if admitted.is_empty() {
        bail!("no chip of the {all} asked about is of that family, vendor, memory and year");
    }
    Ok(admitted)
}
