//! `anychip compare`: the main job.

use anychip::{Catalog, CompareOptions, Precision};
use anyhow::{Result, bail};

use crate::args::{Compare, WeightFormat};
use crate::commands::{prepare, print};
use crate::terminal::{Progress, width};

pub(crate) fn execute(args: &Compare) -> Result<()> {
    let precision = match &args.dtype {
        None => None,
        Some(word) => {
            if let Some(precision) = Precision::from_word(word) {
                Some(precision)
            } else {
                let known: Vec<&str> = Precision::ALL.into_iter().map(Precision::word).collect();
                bail!("`{word}` is no number format; known are {}", known.join(", "));
            }
        }
    };
    let mut catalog = Catalog::builtin()?;
    for file in &args.catalogs {
        catalog.load(file)?;
    }
    let chips = anychip::select_chips(&catalog, &args.chips)?;
    let prepared = prepare(&args.model)?;
    let options = CompareOptions {
        precision,
        weights: args.weights.map(|weights| match weights {
            WeightFormat::Int8 => Precision::Int8,
            WeightFormat::Int4 => Precision::Int4,
        }),
        devices: args.devices,
        stack: args.stack.clone(),
        estimate_only: args.estimate,
        threads: args.threads.map(|n| n as usize),
        batch: args.model.batch,
    };
    let progress = Progress::start(chips.len() as u64, "comparing");
    let records =
        anychip::compare(&prepared.model, &prepared.graph, &chips, &options, &mut |chip| {
            progress.step(chip);
        })?;
    drop(progress);
    if args.json {
        let mut lines = Vec::new();
        anychip_record::write_json_lines(&records, &mut lines)?;
        return print(&String::from_utf8_lossy(&lines));
    }
    let width = width();
    let mut text = anychip_report::compare_table(&records, width);
    if args.verbose {
        text += &anychip_report::sources(&records, width);
        text += &anychip_report::absences(&records, width);
    }
    print(&text)
}
