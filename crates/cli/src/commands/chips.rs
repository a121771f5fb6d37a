//! `anychip chips`: the catalogue, listed, one by one, and checked.

use std::path::PathBuf;

use anychip::{Catalog, Chip, ChipError, Filter, Verdict};
use anyhow::{Result, bail};

use crate::args::{ChipFilter, Chips};
use crate::commands::{note, print};
use crate::terminal::width;

pub(crate) fn execute(args: &Chips) -> Result<()> {
    let mut catalog = Catalog::builtin()?;
    if !args.check.is_empty() {
        return check(&args.check, catalog);
    }
    for file in &args.catalogs {
        catalog.load(file)?;
    }
    let here = anychip::this_cpu(args.chip.as_deref() == Some(anychip::THIS_CPU), None);
    if let Some(name) = &args.chip {
        let chip = if name == anychip::THIS_CPU { &here } else { catalog.find(name)? };
        if args.json {
            return print(&format!("{}\n", json(chip)));
        }
        return print(&anychip_report::chip_page(chip, width()));
    }
    list(args, &here, &catalog)
}

/// The filter that is asked for, of vendors that the catalogue knows.
pub(crate) fn filter(which: &ChipFilter, catalog: &Catalog) -> Result<Filter> {
    for wanted in &which.vendor {
        let lower = wanted.to_lowercase();
        if !catalog.chips().any(|chip| chip.vendor.to_lowercase().contains(&lower)) {
            let mut known: Vec<&str> = catalog.chips().map(|chip| chip.vendor.as_str()).collect();
            known.sort_unstable();
            known.dedup();
            bail!("no vendor is called `{wanted}`; known are {}", known.join(", "));
        }
    }
    Ok(Filter {
        families: which.family.clone(),
        vendors: which.vendor.clone(),
        min_memory: which.min_memory,
        years: which.year.clone(),
        ..Filter::default()
    })
}

fn list(args: &Chips, here: &Chip, catalog: &Catalog) -> Result<()> {
    let filter = Filter {
        max_power: args.max_power,
        precision: args.dtype,
        ..filter(&args.which, catalog)?
    };
    let mut chips = Vec::new();
    let mut unknown: Vec<(&str, usize)> = Vec::new();
    for chip in std::iter::once(here).chain(catalog.chips()) {
        match filter.verdict(chip) {
            Verdict::Fits => chips.push(chip),
            Verdict::Fails => {}
            Verdict::Unknown(figure) => match unknown.iter_mut().find(|(one, _)| *one == figure) {
                Some((_, count)) => *count += 1,
                None => unknown.push((figure, 1)),
            },
        }
    }
    for (figure, count) in unknown {
        let (are, their) = if count == 1 { ("chip is", "its") } else { ("chips are", "their") };
        note(&format!("{count} {are} left out because {their} {figure} is not known"));
    }
    if chips.is_empty() {
        bail!(
            "no chip of the {} known is all that; take a limit away",
            catalog.chips().count() + 1
        );
    }
    if let Some(order) = args.sort {
        order.sort(&mut chips, args.dtype, args.reverse);
    }
    if args.json {
        let lines: Vec<String> = chips.iter().map(|chip| format!("{}\n", json(chip))).collect();
        return print(&lines.concat());
    }
    print(&anychip_report::chips_table(chips, args.dtype, args.sort, width()))
}

/// Says what is wrong with each file; files may not take names of the catalogue or of each other.
fn check(files: &[PathBuf], mut catalog: Catalog) -> Result<()> {
    let mut faulty = 0;
    let mut sound = String::new();
    for file in files {
        match catalog.load(file) {
            Ok(chip) => {
                let (id, figures) = (&chip.id, chip.entries().len());
                sound +=
                    &format!("{}: `{id}`, {figures} figures, no fault found\n", file.display());
            }
            Err(error @ ChipError::Duplicate { .. }) => {
                faulty += 1;
                eprintln!("error: {}: {error}", file.display());
            }
            Err(error) => {
                faulty += 1;
                eprintln!("error: {error}");
            }
        }
    }
    print(&sound)?;
    if faulty > 0 {
        bail!("{faulty} of {} files cannot be used as they are", files.len());
    }
    Ok(())
}

fn json(chip: &Chip) -> serde_json::Value {
    let figures: Vec<serde_json::Value> = chip
        .entries()
        .into_iter()
        .map(|e| {
            serde_json::json!({
                "path": e.path, "text": e.text, "value": e.value, "basis": e.basis.word(),
                "source": e.source, "date": e.date, "note": e.note,
            })
        })
        .collect();
    serde_json::json!({
        "id": chip.id, "aliases": chip.aliases, "name": chip.name, "vendor": chip.vendor,
        "family": chip.family.word(), "architecture": chip.architecture, "target": chip.target,
        "stacks": chip.stacks, "figures": figures,
    })
}
