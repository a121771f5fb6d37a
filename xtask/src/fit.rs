//! `cargo xtask fit`: refits every table of the predictor from measured truth.

use crate::fit_truth::{TimmRun, timm, timm_chip};
use crate::validate_timm::{Transferred, both, by_stack, reach, sample, transfers};
use crate::{fit_kernels, fit_single, workspace};
use anychip_chips::{Catalog, Family, Precision};
use anychip_predict::fit::{Sample, fit_whole};
use anychip_predict::{Entry, Launching, Tables, Transfer};
use anyhow::Result;
use std::path::PathBuf;

/// What to read.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder of measured truth
    #[arg(long, default_value = "../shared/truth")]
    truth: PathBuf,
    /// Only one file of tables: `tables`, `serving` or `single`
    #[arg(long)]
    only: Option<String>,
}

/// Counts up when the form of the tables or the data behind them change.
const VERSION: u32 = 2;

/// The stacks that get a table: of each device and way to launch, the newest version in each layout it was measured in.
const STACKS: [(&str, &str); 7] = [
    ("rtx4090", "torch2.9.1-eager nchw"),
    ("rtx4090", "torch2.9.1-compile nchw"),
    ("rtx4090", "torch2.4.0-eager nhwc"),
    ("rtx3090", "torch2.4.0-eager nchw"),
    ("rtx3090", "torch2.4.0-eager nhwc"),
    ("i7_12700h", "torch2.4.0-compile nchw"),
    ("i9_10940x", "torch2.4.0-compile nchw"),
];

/// Refits and writes the tables in `crates/predict/data`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let catalog = Catalog::builtin()?;
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| only == name);
    if wanted("serving") {
        fit_kernels::write(&options.truth, &catalog)?;
    }
    if wanted("single") {
        fit_single::write(&options.truth, &catalog)?;
    }
    if wanted("tables") {
        models(options, &catalog)?;
    }
    Ok(())
}

/// Whole models.
fn models(options: &Options, catalog: &Catalog) -> Result<()> {
    let data = workspace::root().join("crates/predict/data");
    let (runs, lost) = timm(&options.truth, &data.join("timm_layers.csv.gz"), catalog)?;
    println!("timm_inference: {} rows fitted on; {lost} without operators left aside", runs.len());
    let runs: Vec<&TimmRun> = runs.iter().collect();
    let stacks = by_stack(&runs);
    let entries = both(&STACKS, |(device, software)| -> Result<Option<Entry>> {
        let Some(runs) = stacks.get(&((*device).to_string(), (*software).to_string())) else {
            return Ok(None);
        };
        let samples: Vec<Sample<'_>> = runs.iter().map(|r| sample(r)).collect();
        let families: Vec<&str> = runs.iter().map(|r| r.row.family.as_str()).collect();
        let chip = timm_chip(device)?;
        let eager = software.contains("eager");
        Ok(Some(Entry {
            chip: chip.to_string(),
            family: catalog.find(chip)?.family,
            stack: if eager { "pytorch-eager" } else { "pytorch-compile" }.to_string(),
            software: (*software).to_string(),
            launching: if eager { Launching::Eager } else { Launching::Compiled },
            precision: if device.starts_with("rtx") { Precision::F16 } else { Precision::F32 },
            models: runs.len(),
            whole: fit_whole(&samples, &families),
        }))
    });
    let mut found = Vec::new();
    for (entry, (device, software)) in entries.into_iter().zip(STACKS) {
        match entry? {
            Some(entry) => {
                println!("  {device} {software}: {} models", entry.models);
                found.push(entry);
            }
            None => println!("  {device} {software}: no rows, no table"),
        }
    }
    let pairs = transfers(&runs);
    let mut found_transfers = Vec::new();
    for family in [Family::Gpu, Family::Cpu] {
        let of_family: Vec<&Transferred> =
            pairs.iter().filter(|pair| pair.family == family).collect();
        if of_family.is_empty() {
            continue;
        }
        let transfer = Transfer {
            family,
            reach: reach(&of_family),
            anchored: of_family.iter().all(|pair| pair.anchor_helps()),
        };
        println!(
            "  {family} not fitted on: {:.1} times the difficulty; an anchor {}",
            transfer.reach,
            if transfer.anchored { "helps" } else { "does not help" }
        );
        found_transfers.push(transfer);
    }
    let tables = Tables {
        version: VERSION,
        provenance: "fitted by `cargo xtask fit` on pytorch-image-models results (Apache-2.0), operators of timm 1.0.31"
            .to_string(),
        entries: found,
        transfers: found_transfers,
    };
    let path = data.join("tables.json");
    let mut text = serde_json::to_string(&tables)?.replace("},{\"chip\"", "},\n{\"chip\"");
    text.push('\n');
    std::fs::write(&path, text)?;
    println!("wrote {}", workspace::relative(&path));
    Ok(())
}
