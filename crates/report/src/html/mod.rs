//! The report as one HTML file that needs no network: tables that stand without a script, charts that one of its own
//! draws from the records it carries.
//!
//! What a cell shows is what the terminal shows, by the same function, and the cell carries the exact number too. Every
//! word of a record goes through the template's escaping; the records themselves go into a block of JSON that can hold
//! no tag.

mod data;
mod notes;
mod table;

use anychip_record::Record;
use anychip_units::Basis;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context};

use crate::changes::Changes;
use crate::compare::shared_words;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// Nothing to show.
    #[error("there are no records to draw a report of")]
    NoRecords,
    /// A record could not be written into the page.
    #[error("cannot write the records into the report: {0}")]
    Data(#[from] serde_json::Error),
    /// The template is at fault, not the records.
    #[error("cannot fill the report's template: {0:#}")]
    Template(#[from] minijinja::Error),
}

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPTS: [&str; 3] =
    [include_str!("table.js"), include_str!("draw.js"), include_str!("charts.js")];

/// The page of `records`, and of what changed since other records where `changes` says so.
///
/// # Errors
/// When there are no records, or they cannot be written as JSON.
pub fn html_page(records: &[Record], changes: Option<&Changes>) -> Result<String, PageError> {
    if records.is_empty() {
        return Err(PageError::NoRecords);
    }
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let template = environment.template_from_str(TEMPLATE)?;
    let refused: Vec<&Record> = records.iter().filter(|record| !record.runs).collect();
    let bases = Basis::ALL.map(|basis| (basis.word(), basis.mark().to_string()));
    let table = table::table(records);
    let page = context! {
        style => Value::from_safe_string(STYLE.to_owned()),
        script => Value::from_safe_string(SCRIPTS.concat()),
        data => Value::from_safe_string(data::block(records)?),
        title => shared_words(records),
        families => Serde(table.families()),
        bases => Serde(bases),
        chips => records.len(),
        layers => records.iter().any(|record| !record.layers.is_empty()),
        refused_chips => refused.len(),
        refusals => Serde(notes::refusals(&refused)),
        sources => Serde(notes::sources(records)),
        absences => Serde(notes::absences(records)),
        origins => Serde(notes::origins(records)),
        models => Serde(notes::models(records)),
        changes => Serde(changes.map(Changes::rows)),
        summary => changes.map(Changes::summary),
        table => Serde(table),
    };
    Ok(template.render(page)?)
}
