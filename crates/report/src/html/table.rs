//! The rows and columns of the page's table.

use anychip_record::{Field, Record, View};
use anychip_units::Style;
use serde::Serialize;

use crate::compare::measured_then_fastest;

/// One figure's column: title, what it is, and whether less of it is better (`None`: neither).
const COLUMNS: &[(&str, Field, &str, bool)] = &[
    ("latency", Field::Latency, "time of one run of the batch", true),
    ("p90", Field::LatencyP90, "nine of ten runs are faster", true),
    ("p99", Field::LatencyP99, "99 of 100 runs are faster", true),
    ("inferences/s", Field::Throughput, "inferences a second", false),
    ("FLOP/s", Field::Flops, "floating-point operations a second achieved", false),
    ("TOP/s", Field::Tops, "integer operations a second achieved", false),
    ("utilization", Field::Utilization, "achieved rate over the dense peak", false),
    ("power", Field::Power, "power while running", true),
    ("J/inference", Field::Energy, "energy of one inference", true),
    ("inferences/$", Field::ThroughputPerUsd, "inferences a dollar buys", false),
    ("memory", Field::PeakMemory, "most memory in use at once", true),
    ("rent", Field::PricePerHour, "rent of an hour", true),
    ("price", Field::Price, "price of the chip", true),
    ("accuracy", Field::Accuracy, "share of right answers", false),
    ("die", Field::Die, "silicon", true),
    ("board", Field::Board, "board or module", true),
    ("IPS", Field::Ips, "machine instructions a second", false),
    ("p50", Field::LatencyP50, "half of the runs are faster", true),
];

/// The table of the chips that run the model, those measured first and then by speed.
#[derive(Serialize)]
pub(crate) struct Table {
    /// Words that differ between rows.
    words: Vec<&'static str>,
    columns: Vec<Column>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Column {
    title: &'static str,
    field: &'static str,
    explanation: &'static str,
    symbol: &'static str,
    style: &'static str,
    scale: f64,
    better: &'static str,
}

#[derive(Serialize)]
struct Row {
    /// Its place among the records given.
    record: usize,
    chip: String,
    name: String,
    family: String,
    basis: &'static str,
    words: Vec<String>,
    cells: Vec<Option<Cell>>,
}

/// A figure as the terminal writes it, cut where its interval stands, and the exact number.
#[derive(Serialize)]
struct Cell {
    value: f64,
    before: String,
    interval: String,
    after: String,
    mark: char,
    basis: &'static str,
}

impl Cell {
    fn of(view: &View<'_>) -> Self {
        let text = view.text_with_interval();
        let (before, rest) = text.split_once('[').unwrap_or((&text, ""));
        let (interval, after) = rest.split_once(']').unwrap_or(("", rest));
        Self {
            value: view.value,
            before: before.to_owned(),
            interval: if interval.is_empty() { String::new() } else { format!("[{interval}]") },
            after: after.to_owned(),
            mark: view.basis.mark(),
            basis: view.basis.word(),
        }
    }
}

/// A word of a record: the column's title and how to read it.
type Word = (&'static str, fn(&Record) -> String);

pub(crate) fn table(records: &[Record]) -> Table {
    let mut runs: Vec<(usize, &Record)> =
        records.iter().enumerate().filter(|(_, record)| record.runs).collect();
    runs.sort_by(|(_, a), (_, b)| measured_then_fastest(a, b));
    let words: [Word; 5] = [
        ("model", |record| record.model.clone()),
        ("batch", |record| record.batch.to_string()),
        ("dtype", |record| record.dtype.clone()),
        ("stack", |record| record.stack.clone()),
        ("scenario", |record| record.scenario.clone().unwrap_or_default()),
    ];
    let differs = |(_, word): &Word| runs.windows(2).any(|pair| word(pair[0].1) != word(pair[1].1));
    let words: Vec<Word> = words.into_iter().filter(differs).collect();
    let known = |field: Field| runs.iter().any(|(_, record)| record.view(field).is_some());
    let columns: Vec<_> = COLUMNS.iter().filter(|(_, field, ..)| known(*field)).collect();
    let rows = runs.iter().map(|(index, record)| Row {
        record: *index,
        chip: record.chip.clone(),
        name: record.chip_row.as_ref().map(|row| row.name.clone()).unwrap_or_default(),
        family: record.chip_row.as_ref().map(|row| row.family.clone()).unwrap_or_default(),
        basis: record.latency_s.as_ref().map_or("", |latency| latency.basis().word()),
        words: words.iter().map(|(_, word)| word(record)).collect(),
        cells: columns
            .iter()
            .map(|(_, field, ..)| record.view(*field).as_ref().map(Cell::of))
            .collect(),
    });
    Table {
        rows: rows.collect(),
        words: words.iter().map(|(title, _)| *title).collect(),
        columns: columns
            .into_iter()
            .map(|&(title, field, explanation, less)| {
                let (symbol, style, scale) = field.unit();
                let (style, better) = (style_word(style), if less { "less" } else { "more" });
                Column { title, field: field.name(), explanation, symbol, style, scale, better }
            })
            .collect(),
    }
}

/// The page's script writes the ticks of axes as tables write numbers, by the style of their unit.
fn style_word(style: Style) -> &'static str {
    match style {
        Style::Prefixed => "prefixed",
        Style::SmallPrefixed => "small-prefixed",
        Style::Percent => "percent",
        Style::Plain => "plain",
        Style::Dollars => "dollars",
        Style::Bare => "bare",
    }
}

impl Table {
    /// The families of the rows, each once, sorted.
    pub(crate) fn families(&self) -> Vec<String> {
        let mut families: Vec<String> =
            self.rows.iter().map(|row| row.family.clone()).filter(|f| !f.is_empty()).collect();
        families.sort();
        families.dedup();
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_of_a_record_has_a_column() {
        for field in Field::ALL {
            let columns = COLUMNS.iter().filter(|(_, of, ..)| of == field).count();
            assert_eq!(columns, 1, "{}", field.name());
        }
    }
}
