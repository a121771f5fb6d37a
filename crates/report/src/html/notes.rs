//! What stands below the page's tables: reasons, sources, versions.

use anychip_record::Record;
use serde::Serialize;

use crate::compare::refusals as by_reason;
use crate::evidence::{absences_by_reason, few, fields_by_source};

/// A text with what it is said of.
#[derive(Serialize)]
pub(crate) struct Note {
    mark: String,
    text: String,
    of: String,
}

/// Why chips cannot run the model, each reason once.
pub(crate) fn refusals(refused: &[&Record]) -> Vec<Note> {
    let groups = by_reason(refused).into_iter();
    let note = |(chips, reason): (Vec<&str>, &str)| Note {
        mark: String::new(),
        text: reason.to_owned(),
        of: chips.join(", "),
    };
    groups.map(note).collect()
}

/// Where figures come from.
pub(crate) fn sources(records: &[Record]) -> Vec<Note> {
    let groups = fields_by_source(records).into_iter();
    let note = |((basis, source), fields): ((anychip_units::Basis, &str), Vec<&str>)| Note {
        mark: basis.mark().to_string(),
        text: source.to_owned(),
        of: fields.join(", "),
    };
    groups.map(note).collect()
}

/// Why figures are blank.
pub(crate) fn absences(records: &[Record]) -> Vec<Note> {
    let groups = absences_by_reason(records).into_iter();
    let note = |absence: crate::evidence::Absence<'_>| Note {
        mark: String::new(),
        text: absence.reason.to_owned(),
        of: format!("{} ({})", absence.fields.join(", "), absence.chips),
    };
    groups.map(note).collect()
}

/// What made the records: each program and machine once, with the chips.
pub(crate) fn origins(records: &[Record]) -> Vec<Note> {
    grouped(records, |record| match &record.origin {
        Some(origin) => format!("{} on {}", origin.software, origin.machine),
        None => "not recorded: made by a version that did not".to_owned(),
    })
}

/// The models, each once with the hash of its file.
pub(crate) fn models(records: &[Record]) -> Vec<Note> {
    grouped(records, |record| format!("{}, SHA-256 {}", record.model, record.model_sha256))
}

fn grouped(records: &[Record], text: impl Fn(&Record) -> String) -> Vec<Note> {
    let mut notes: Vec<(String, Vec<&str>)> = Vec::new();
    for record in records {
        let text = text(record);
        match notes.iter_mut().find(|(known, _)| *known == text) {
            Some((_, chips)) if chips.contains(&record.chip.as_str()) => {}
            Some((_, chips)) => chips.push(&record.chip),
            None => notes.push((text, vec![&record.chip])),
        }
    }
    let note =
        |(text, chips): (String, Vec<&str>)| Note { mark: String::new(), text, of: few(&chips) };
    notes.into_iter().map(note).collect()
}
