//! The bench report: few records in full, one column each.

use anychip_record::{Field, Record};

use crate::{
    evidence::{legend, marked, marked_with_interval},
    grid::{Column, Grid, width},
};

/// The metrics in reading order.
const METRICS: &[(&str, Field)] = &[
    ("latency", Field::Latency),
    ("  p50", Field::LatencyP50),
    ("  p90", Field::LatencyP90),
    ("  p99", Field::LatencyP99),
    ("throughput", Field::Throughput),
    ("float rate", Field::Flops),
    ("integer rate", Field::Tops),
    ("instructions", Field::Ips),
    ("share of peak", Field::Utilization),
    ("power", Field::Power),
    ("energy/inference", Field::Energy),
    ("peak memory", Field::PeakMemory),
    ("price", Field::Price),
    ("rent", Field::PricePerHour),
    ("inferences/$", Field::ThroughputPerUsd),
    ("die", Field::Die),
    ("board", Field::Board),
    ("accuracy", Field::Accuracy),
];

/// Records side by side, a metric a row, intervals shown; as many side by side as `width` has room for, the others
/// below. Metrics that no record has are left out.
pub fn bench_table(records: &[Record], width: usize) -> String {
    let mut out = String::new();
    let mut rest = records;
    while !rest.is_empty() {
        let fits = (1..=rest.len()).rev().find(|count| total(&rest[..*count]) <= width);
        let (now, later) = rest.split_at(fits.unwrap_or(1));
        out += &block(now, width);
        out += "\n";
        rest = later;
    }
    let why_not = records.iter().filter_map(|record| Some((record, record.why_not.as_ref()?)));
    for (record, reason) in why_not {
        out += &crate::grid::wrap("", &format!("{} cannot run it: {reason}", record.chip), width);
    }
    let legend = legend(&out);
    out + &legend
}

fn total(records: &[Record]) -> usize {
    let columns = columns(records);
    columns
        .iter()
        .map(|(title, cells)| cells.iter().chain([title]).map(|c| width(c)).max().unwrap_or(0) + 2)
        .sum::<usize>()
        - 2
}

fn block(records: &[Record], width: usize) -> String {
    let columns = columns(records);
    let wishes: Vec<(String, usize)> =
        columns.iter().map(|(title, _)| (title.clone(), 0)).collect();
    let wishes: Vec<(&str, usize)> =
        wishes.iter().map(|(title, form)| (title.as_str(), *form)).collect();
    let grid = Grid::new(
        columns
            .into_iter()
            .enumerate()
            .map(|(index, (title, cells))| {
                if index == 0 {
                    Column::words(&title, cells)
                } else {
                    Column::numbers(&title, cells)
                }
            })
            .collect(),
    );
    grid.draw(&wishes, width.max(usize::from(u16::MAX))).text
}

/// Titles and cells: the metrics, then one column a record.
fn columns(records: &[Record]) -> Vec<(String, Vec<String>)> {
    let known = |field: Field| records.iter().any(|record| record.view(field).is_some());
    let metrics: Vec<&(&str, Field)> = METRICS.iter().filter(|(_, field)| known(*field)).collect();
    let rows = |cell: &dyn Fn(&str, Field) -> String| -> Vec<String> {
        metrics.iter().map(|(name, field)| cell(name, *field)).collect()
    };
    let mut columns = vec![(shared_title(records), rows(&|name, _| name.to_owned()))];
    for (index, record) in records.iter().enumerate() {
        let cells = rows(&|_, field| {
            let view = record.view(field);
            let rich = marked_with_interval(view);
            if width(&rich) <= 34 { rich } else { marked(view) }
        });
        let mut title = heading(record);
        if records[..index].iter().any(|other| heading(other) == title) {
            title = format!("{title} #{}", index + 1);
        }
        columns.push((title, cells));
    }
    columns
}

fn shared_title(records: &[Record]) -> String {
    let model = &records[0].model;
    if records.iter().all(|record| record.model == *model) { model.clone() } else { String::new() }
}

/// What tells the record from its neighbors.
fn heading(record: &Record) -> String {
    let mut parts = vec![record.chip.clone(), record.stack.clone(), record.dtype.clone()];
    parts.push(format!("batch {}", record.batch));
    if let Some(threads) = record.threads {
        parts.push(format!("{threads} thread{}", if threads == 1 { "" } else { "s" }));
    }
    parts.extend(record.scenario.clone());
    parts.join(" ")
}
