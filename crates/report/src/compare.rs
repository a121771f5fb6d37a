//! The comparison: one model on many chips.

use std::collections::BTreeMap;

use anychip_record::{Field, Record, View};
use anychip_units::{Basis, Figure};

use crate::{
    evidence::{legend, marked, marked_with_interval},
    grid::{Column, Drawn, Grid, elide, wrap},
};

/// The columns by how much they are wanted: `(title, form)`, where form 1 has the interval.
const WISHES: &[(&str, usize)] = &[
    ("chip", 0),
    ("latency", 0),
    ("model", 0),
    ("batch", 0),
    ("dtype", 0),
    ("stack", 0),
    ("latency", 1),
    ("inf/s", 0),
    ("J/inf", 0),
    ("inf/$", 0),
    ("util", 0),
    ("rate", 0),
    ("power", 0),
    ("memory", 0),
    ("runs", 0),
    ("rent", 0),
    ("price", 0),
    ("accuracy", 0),
    ("all stacks", 0),
    ("die", 0),
    ("board", 0),
    ("IPS", 0),
    ("inf/s", 1),
    ("J/inf", 1),
    ("inf/$", 1),
];

/// A table of records in at most `width` columns: chips that run the model, those measured here and then the fastest first,
/// then the reasons of those that cannot. Every number has the mark of its basis; the latency shows its interval; a blank is explained by
/// [`absences`](crate::absences).
pub fn compare_table(records: &[Record], width: usize) -> String {
    if records.is_empty() {
        return "No records.\n".to_owned();
    }
    let (runs, refused): (Vec<&Record>, Vec<&Record>) =
        records.iter().partition(|record| record.runs);
    let mut out = title(records, width);
    if !runs.is_empty() {
        out += &table(runs, width);
    }
    if !refused.is_empty() {
        out += &cannot_run(&refused, width);
    }
    out
}

/// What was measured stands before what was not, whose numbers are compared with it; fastest first in both. A chip without a
/// latency comes after those with one; ties keep a fixed order.
pub(crate) fn measured_then_fastest(a: &Record, b: &Record) -> std::cmp::Ordering {
    let place = |record: &Record| {
        let latency = record.latency_s.as_ref();
        let measured = latency.is_some_and(|figure| figure.basis() == Basis::Measured);
        (!measured, latency.map_or(f64::INFINITY, Figure::value))
    };
    let ((a_other, a_latency), (b_other, b_latency)) = (place(a), place(b));
    let by_latency = a_other.cmp(&b_other).then(a_latency.total_cmp(&b_latency));
    by_latency.then_with(|| (&a.chip, &a.stack).cmp(&(&b.chip, &b.stack)))
}

fn table(mut runs: Vec<&Record>, width: usize) -> String {
    runs.sort_by(|a, b| measured_then_fastest(a, b));
    let Drawn { text, titles } = grid(&runs, width).draw(WISHES, width);
    let mut out = text;
    let legend = legend(&out);
    if !legend.is_empty() {
        out += "\n";
        out += &legend;
    }
    if has_blanks(&runs, &titles) {
        out += "A blank is unknown, not zero; --verbose says why.\n";
    }
    out
}

pub(crate) fn grid(runs: &[&Record], width: usize) -> Grid {
    let words = |title: &str, cell: &dyn Fn(&Record) -> String| {
        Column::words(title, runs.iter().map(|record| cell(record)).collect())
    };
    // A word that is the same in every row stands in the title line instead.
    let differing = |title: &str, cell: &dyn Fn(&Record) -> String| {
        let same = runs.windows(2).all(|pair| cell(pair[0]) == cell(pair[1]));
        words(title, &|record| if same { String::new() } else { cell(record) })
    };
    let numbers = |title: &str, field: Field| {
        let view = |record: &&Record| marked(record.view(field).filter(is_shown));
        Column::numbers(title, runs.iter().map(view).collect())
            .or_richer(runs.iter().map(|record| marked_with_interval(record.view(field))).collect())
    };
    let rate = |record: &&Record| marked(record.view(Field::Tops).or(record.view(Field::Flops)));
    let same_stack = |record: &Record| {
        let of_chip = runs.iter().filter(|other| other.chip == record.chip);
        of_chip.map(|other| &other.stack).all(|stack| *stack == record.stack)
    };
    let stacks_matter = runs.iter().any(|record| !same_stack(record));
    let basis = |record: &Record| {
        record.latency_s.as_ref().map_or_else(String::new, |l| l.basis().to_string())
    };
    let stack = |wanted: bool| {
        move |record: &Record| if wanted { record.stack.clone() } else { String::new() }
    };
    Grid::new(vec![
        words("chip", &|record| {
            let all = record.devices.map_or_else(String::new, |n| format!(" ×{n}"));
            elide(&record.chip, (width * 35 / 100).max(12)) + &all
        }),
        differing("model", &|record| record.model.clone()),
        differing("batch", &|record| record.batch.to_string()),
        differing("dtype", &|record| record.dtype.clone()),
        words("stack", &stack(stacks_matter)),
        words("all stacks", &stack(!stacks_matter)),
        words("runs", &basis),
        numbers("latency", Field::Latency),
        numbers("inf/s", Field::Throughput),
        Column::numbers("rate", runs.iter().map(rate).collect()),
        numbers("util", Field::Utilization),
        numbers("power", Field::Power),
        numbers("J/inf", Field::Energy),
        numbers("inf/$", Field::ThroughputPerUsd),
        numbers("memory", Field::PeakMemory),
        numbers("rent", Field::PricePerHour),
        numbers("price", Field::Price),
        numbers("accuracy", Field::Accuracy),
        numbers("die", Field::Die),
        numbers("board", Field::Board),
        numbers("IPS", Field::Ips),
    ])
}

fn is_shown(view: &View<'_>) -> bool {
    view.value.is_finite()
}

/// `resnet50 · batch 1 · f16`, of what all records share.
pub(crate) fn shared_words(records: &[Record]) -> String {
    let shared = |cell: &dyn Fn(&Record) -> String| {
        let first = cell(&records[0]);
        records.iter().all(|record| cell(record) == first).then_some(first)
    };
    let parts = [
        shared(&|record| record.model.clone()),
        shared(&|record| format!("batch {}", record.batch)),
        shared(&|record| record.dtype.clone()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// [`shared_words`] as a table's first line.
pub(crate) fn title(records: &[Record], width: usize) -> String {
    let title = shared_words(records);
    if title.is_empty() { String::new() } else { elide(&title, width) + "\n\n" }
}

/// The chips that cannot run the model, one reason once.
pub(crate) fn refusals<'a>(refused: &[&'a Record]) -> Vec<(Vec<&'a str>, &'a str)> {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for record in refused {
        let reason = record.why_not.as_deref().unwrap_or("no reason was recorded");
        let chips = by_reason.entry(reason).or_default();
        if !chips.contains(&record.chip.as_str()) {
            chips.push(&record.chip);
        }
    }
    let mut groups: Vec<(Vec<&str>, &str)> =
        by_reason.into_iter().map(|(reason, chips)| (chips, reason)).collect();
    groups.sort();
    groups
}

fn cannot_run(refused: &[&Record], width: usize) -> String {
    let mut out = "\nCannot run it as it is:\n".to_owned();
    for (chips, reason) in refusals(refused) {
        out += &wrap("  ", &format!("{}: {reason}", chips.join(", ")), width);
    }
    out
}

pub(crate) fn has_blanks(runs: &[&Record], titles: &[String]) -> bool {
    let fields: &[(&str, &[Field])] = &[
        ("latency", &[Field::Latency]),
        ("inf/s", &[Field::Throughput]),
        ("rate", &[Field::Flops, Field::Tops]),
        ("util", &[Field::Utilization]),
        ("power", &[Field::Power]),
        ("J/inf", &[Field::Energy]),
        ("inf/$", &[Field::ThroughputPerUsd]),
        ("memory", &[Field::PeakMemory]),
        ("rent", &[Field::PricePerHour]),
        ("price", &[Field::Price]),
        ("accuracy", &[Field::Accuracy]),
        ("die", &[Field::Die]),
        ("board", &[Field::Board]),
        ("IPS", &[Field::Ips]),
    ];
    let shown = fields.iter().filter(|(title, _)| titles.iter().any(|shown| shown == title));
    shown.into_iter().any(|(_, fields)| {
        runs.iter().any(|record| fields.iter().all(|field| record.view(*field).is_none()))
    })
}
