//! Reading and writing records as JSON, one a line.

use std::io::{self, Write};

use crate::{Field, Record, SCHEMA};

/// Why a text is not a record, or a record cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or not the fields of a record.
    #[error("not a record: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by another version.
    #[error(
        "a record of schema {found} was met, this version reads schema {SCHEMA}; run the comparison again to rewrite it"
    )]
    Schema {
        /// What the `schema` field holds.
        found: String,
    },
    /// The record contradicts itself or leaves a figure unexplained.
    #[error("record of `{model}` on `{chip}`: {message}")]
    Invariant {
        /// The record's model.
        model: String,
        /// The record's chip.
        chip: String,
        /// What does not hold.
        message: String,
    },
    /// A line of several.
    #[error("line {line}: {error}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        error: Box<RecordError>,
    },
    /// Writing failed.
    #[error("cannot write the records: {0}")]
    Write(#[from] io::Error),
}

impl Record {
    /// Reads one record and checks that it keeps its invariants.
    pub fn from_json(text: &str) -> Result<Self, RecordError> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        let schema = value.get("schema");
        if schema.and_then(serde_json::Value::as_u64) != Some(u64::from(SCHEMA)) {
            let found = schema.map_or_else(|| "none".to_owned(), ToString::to_string);
            return Err(RecordError::Schema { found });
        }
        // From the text again, so that an error names its place in it.
        let record: Self = serde_json::from_str(text)?;
        record.check()?;
        Ok(record)
    }

    /// The record as one line of JSON, without a line end. A record that leaves a figure unexplained is not written.
    pub fn to_json_line(&self) -> Result<String, RecordError> {
        self.check()?;
        Ok(serde_json::to_string(self)?)
    }

    /// The invariants: what runs has no `why_not` and leaves no figure unexplained; what does not run has one and claims
    /// no performance; nothing is both there and absent.
    pub fn check(&self) -> Result<(), RecordError> {
        match self.fault() {
            None => Ok(()),
            Some(message) => {
                let (model, chip) = (self.model.clone(), self.chip.clone());
                Err(RecordError::Invariant { model, chip, message })
            }
        }
    }

    fn fault(&self) -> Option<String> {
        if self.batch == 0 {
            return Some("a batch of 0".to_owned());
        }
        match (&self.why_not, self.runs) {
            (Some(_), true) => return Some("it runs, and says why it does not".to_owned()),
            (None, false) => return Some("it does not run and does not say why".to_owned()),
            (Some(_), false) | (None, true) => {}
        }
        for (name, reason) in &self.absent {
            let Some(field) = Field::from_name(name) else {
                return Some(format!("`absent` names `{name}`, which is no figure"));
            };
            if self.view(field).is_some() {
                return Some(format!("`{name}` is both there and absent"));
            }
            if reason.trim().is_empty() {
                return Some(format!("`{name}` is absent without a reason"));
            }
        }
        let claims = |field: &&Field| !field.is_of_the_chip() && self.view(**field).is_some();
        if let (false, Some(field)) = (self.runs, Field::ALL.iter().find(claims)) {
            return Some(format!("it does not run, and has a `{}`", field.name()));
        }
        let missing: Vec<&str> = self.unexplained().into_iter().map(Field::name).collect();
        (!missing.is_empty())
            .then(|| format!("neither there nor explained: {}", missing.join(", ")))
    }
}

/// Reads records, one a line; empty lines are skipped.
pub fn read_json_lines(text: &str) -> Result<Vec<Record>, RecordError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            Record::from_json(line)
                .map_err(|error| RecordError::Line { line: index + 1, error: Box::new(error) })
        })
        .collect()
}

/// Writes records, one a line.
pub fn write_json_lines(records: &[Record], out: &mut dyn Write) -> Result<(), RecordError> {
    for record in records {
        writeln!(out, "{}", record.to_json_line()?)?;
    }
    Ok(())
}
