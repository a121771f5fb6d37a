//! What stands behind the numbers: the legend of bases, the reasons of blanks, the sources.

use std::collections::BTreeMap;

use anychip_record::{Field, Record, View};
use anychip_units::Basis;

use crate::grid::wrap;

/// A number and the mark of its basis; nothing where there is none.
pub(crate) fn marked(view: Option<View<'_>>) -> String {
    view.map_or_else(String::new, |view| format!("{} {}", view.text(), view.basis.mark()))
}

/// As [`marked`], with the interval.
pub(crate) fn marked_with_interval(view: Option<View<'_>>) -> String {
    view.map_or_else(String::new, |view| {
        format!("{} {}", view.text_with_interval(), view.basis.mark())
    })
}

/// One line that explains the marks used in `text`.
pub(crate) fn legend(text: &str) -> String {
    let used = Basis::ALL.iter().filter(|basis| text.contains(basis.mark()));
    let mut parts: Vec<String> = used.map(|basis| format!("{} {basis}", basis.mark())).collect();
    if text.contains('[') {
        parts.push("[low–high]".to_owned());
    }
    if parts.is_empty() {
        return String::new();
    }
    let mut legend = parts.join("   ") + "\n";
    if text.contains(Basis::Simulated.mark()) {
        legend += SIMULATED;
    }
    legend
}

/// What a simulated time leaves out; as narrow as the narrowest table.
const SIMULATED: &str = "Simulated is the chip alone: no host, no unstated launches.\n";

/// A reason why figures are absent, with the figures and the chips it is given for.
pub(crate) struct Absence<'a> {
    pub(crate) reason: &'a str,
    pub(crate) fields: Vec<&'a str>,
    pub(crate) chips: String,
}

/// The reasons of blanks, each once.
pub(crate) fn absences_by_reason(records: &[Record]) -> Vec<Absence<'_>> {
    let mut by_reason: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    for record in records {
        for (field, reason) in &record.absent {
            let (fields, chips) = by_reason.entry(reason).or_default();
            push_new(fields, field);
            push_new(chips, &record.chip);
        }
    }
    let running = records.iter().filter(|record| record.runs).count();
    let absences = by_reason.into_iter().map(|(reason, (fields, chips))| {
        let everywhere = running == chips.len() && chips.len() > 1;
        let chips = if everywhere { "all chips".to_owned() } else { few(&chips) };
        Absence { reason, fields, chips }
    });
    absences.collect()
}

/// The reasons why figures are absent, each once: what `--verbose` prints below a table.
pub fn absences(records: &[Record], width: usize) -> String {
    let by_reason = absences_by_reason(records);
    if by_reason.is_empty() {
        return String::new();
    }
    let mut out = "Blank because:\n".to_owned();
    for Absence { reason, fields, chips } in by_reason {
        out += &wrap("  ", &format!("{reason}: {} ({chips})", fields.join(", ")), width);
    }
    out
}

/// Each source once, with its basis and the figures that come from it.
pub(crate) fn fields_by_source(records: &[Record]) -> BTreeMap<(Basis, &str), Vec<&'static str>> {
    let mut by_source: BTreeMap<(Basis, &str), Vec<&str>> = BTreeMap::new();
    for record in records {
        for field in Field::ALL {
            if let Some(view) = record.view(*field) {
                for part in view.source.split("; ") {
                    push_new(by_source.entry((view.basis, part)).or_default(), field.name());
                }
            }
        }
    }
    by_source
}

/// Where the figures of the records come from, each source once with its basis.
pub fn sources(records: &[Record], width: usize) -> String {
    let by_source = fields_by_source(records);
    if by_source.is_empty() {
        return String::new();
    }
    let mut out = "Sources:\n".to_owned();
    for ((basis, source), fields) in by_source {
        let lead = format!("  {} ", basis.mark());
        out += &wrap(&lead, &format!("{source}: {}", fields.join(", ")), width);
    }
    out
}

fn push_new<'a>(list: &mut Vec<&'a str>, item: &'a str) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// The first few names and how many more.
pub(crate) fn few(names: &[&str]) -> String {
    const MOST: usize = 6;
    if names.len() <= MOST {
        return names.join(", ");
    }
    format!("{} and {} more", names[..MOST - 1].join(", "), names.len() - (MOST - 1))
}
