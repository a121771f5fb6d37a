//! `anychip chips`: the catalogue.

use anychip::{Catalog, Chip};
use anyhow::Result;

use crate::args::Chips;
use crate::commands::print;
use crate::terminal::width;

pub(crate) fn execute(args: &Chips) -> Result<()> {
    let mut catalog = Catalog::builtin()?;
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
    let chips: Vec<&Chip> = std::iter::once(&here)
        .chain(catalog.chips())
        .filter(|chip| args.family.as_ref().is_none_or(|family| chip.family.word() == family))
        .collect();
    if let Some(family) = &args.family
        && chips.is_empty()
    {
        anyhow::bail!(
            "no chip of family `{family}`; known are cpu, gpu, tpu, asic, soc, wafer-scale, fpga, neuromorphic, quantum"
        );
    }
    if args.json {
        let lines: Vec<String> = chips.iter().map(|chip| format!("{}\n", json(chip))).collect();
        return print(&lines.concat());
    }
    print(&anychip_report::chips_table(chips, width()))
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
        "family": chip.family.word(), "target": chip.target, "stacks": chip.stacks, "figures": figures,
    })
}
