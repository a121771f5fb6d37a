//! `anychip compare`: the main job; and records of before, drawn again or compared with one another.

use std::io::Read;
use std::path::Path;

use anychip::{Catalog, CompareOptions, Precision, Record};
use anychip_report::Changes;
use anyhow::{Context, Result, bail};

use crate::args::{Compare, WeightFormat};
use crate::commands::{note, prepare, print};
use crate::terminal::{Progress, width};

pub(crate) fn execute(args: &Compare) -> Result<()> {
    if let Some(page) = &args.html {
        check_writable(page)?;
    }
    if let Some(new) = &args.new {
        let (old, new) = (read_records(&args.model.model)?, read_records(new)?);
        return changed(args, &old, &new);
    }
    let records = if holds_records(&args.model.model) {
        read_records(&args.model.model)?
    } else {
        compare(args)?
    };
    write_page(args, &records, None)?;
    if args.json {
        let mut lines = Vec::new();
        let mut records = records;
        if !args.layers {
            // The page has them; lines have them where they were asked for.
            for record in &mut records {
                record.layers.clear();
            }
        }
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

/// Runs and estimates a model.
fn compare(args: &Compare) -> Result<Vec<Record>> {
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
        layers: args.layers || args.html.is_some(),
    };
    let progress = Progress::start(chips.len() as u64, "comparing");
    Ok(anychip::compare(&prepared.model, &prepared.graph, &chips, &options, &mut |chip| {
        progress.step(chip);
    })?)
}

/// Says what changed between two runs.
fn changed(args: &Compare, old: &[Record], new: &[Record]) -> Result<()> {
    let changes = anychip_report::changes(old, new);
    write_page(args, new, Some(&changes))?;
    if args.json {
        let mut lines = String::new();
        for change in &changes.list {
            lines += &serde_json::to_string(change)?;
            lines += "\n";
        }
        return print(&lines);
    }
    print(&anychip_report::changes_table(&changes, width()))
}

/// A file that cannot be written is found out before minutes of measuring; nothing is left behind.
fn check_writable(page: &Path) -> Result<()> {
    let cannot = || format!("cannot write the report to {}", page.display());
    let existed = page.exists();
    std::fs::OpenOptions::new().append(true).create(true).open(page).with_context(cannot)?;
    if !existed {
        std::fs::remove_file(page).with_context(cannot)?;
    }
    Ok(())
}

fn write_page(args: &Compare, records: &[Record], changes: Option<&Changes>) -> Result<()> {
    let Some(path) = &args.html else { return Ok(()) };
    let page = anychip_report::html_page(records, changes)?;
    std::fs::write(path, page)
        .with_context(|| format!("cannot write the report to {}", path.display()))?;
    note(&format!("the report is in {}; open it in a browser", path.display()));
    Ok(())
}

/// Whether the file holds records rather than a model: its name says so, or it begins as a record does.
fn holds_records(path: &Path) -> bool {
    if path.extension().is_some_and(|e| e == "jsonl" || e == "ndjson") {
        return true;
    }
    // The schema is a record's first key. A model may be gigabytes, so no more of the file is read.
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
    let start: String = String::from_utf8_lossy(&start).split_whitespace().collect();
    read.is_ok() && start.starts_with("{\"schema\":")
}

/// The records of a file that `compare --json` wrote.
fn read_records(path: &Path) -> Result<Vec<Record>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let records = anychip_record::read_json_lines(&text).with_context(|| {
        format!("{shown} is no run of this version; `anychip compare MODEL --json` writes one")
    })?;
    if records.is_empty() {
        bail!("{shown} holds no records; `anychip compare MODEL --json > {shown}` fills it");
    }
    Ok(records)
}
