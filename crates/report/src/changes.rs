//! What changed between two runs of the comparison: chips that came or went, figures that moved, and whether their
//! intervals had allowed for it.

use std::collections::BTreeMap;

use anychip_record::{Field, Record, View};
use anychip_units::format::significant;
use serde::Serialize;

use crate::grid::{Column, Grid, elide, wrap};

/// How two figures of the same thing agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Agreement {
    /// Each value lies in the other's interval.
    Within,
    /// A value lies outside of the other's interval; the intervals meet.
    Outside,
    /// The intervals do not meet.
    Apart,
}

impl Agreement {
    fn of(old: &View<'_>, new: &View<'_>) -> Self {
        let holds = |a: &View<'_>, b: &View<'_>| (a.low..=a.high).contains(&b.value);
        if old.high < new.low || new.high < old.low {
            Self::Apart
        } else if holds(old, new) && holds(new, old) {
            Self::Within
        } else {
            Self::Outside
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Within => "",
            Self::Outside => " !",
            Self::Apart => " !!",
        }
    }
}

/// One thing that changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Only the new run has the chip.
    Added,
    /// Only the old run has the chip.
    Removed,
    /// It could not run the model, and can.
    RunsNow {
        /// Why it could not.
        why_not: String,
    },
    /// It could run the model, and cannot.
    RunsNoLonger {
        /// Why it cannot.
        why_not: String,
    },
    /// It is estimated with, or runs, other software.
    Stack {
        /// The old one.
        old: String,
    },
    /// A figure became known.
    Known {
        /// Its field.
        figure: &'static str,
        /// The number, in the unit of its field.
        new: f64,
        /// As tables show it.
        #[serde(skip)]
        text: String,
    },
    /// A figure is no longer known.
    Unknown {
        /// Its field.
        figure: &'static str,
        /// The number that was, in the unit of its field.
        old: f64,
        /// As tables show it.
        #[serde(skip)]
        text: String,
    },
    /// A figure moved, or its interval did.
    Figure {
        /// Its field.
        figure: &'static str,
        /// The number that was, in the unit of its field.
        old: f64,
        /// The number that is.
        new: f64,
        /// `100 · (new / old − 1)`; none where the old number is zero.
        percent: Option<f64>,
        /// Whether the intervals had allowed for it.
        agreement: Agreement,
        /// Old and new as tables show them.
        #[serde(skip)]
        texts: [String; 2],
    },
}

/// A change, and of what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangeOf {
    /// The model in the new run, or in the old one where it is gone.
    pub model: String,
    /// The chip.
    pub chip: String,
    /// The software.
    pub stack: String,
    /// Inferences in one run.
    pub batch: u64,
    /// The number format.
    pub dtype: String,
    /// What happened.
    #[serde(flatten)]
    pub change: Change,
}

/// All changes between two runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// By chip, in the order of the new run; removed chips last.
    pub list: Vec<ChangeOf>,
    /// How many records both runs have.
    pub shared: usize,
    /// How many of those are the same in every figure.
    pub same: usize,
    /// The models, where the runs are of different ones: old and new.
    models: Option<[String; 2]>,
}

/// Numbers nearer than this to one another are equal: they went through text and back.
const EQUAL: f64 = 1e-9;

/// Compares two runs. Records belong together when chip, software, batch and number format agree, and the model where
/// a run has several; of those left over, when the software alone differs.
pub fn changes(old: &[Record], new: &[Record]) -> Changes {
    let models = |records: &[Record]| {
        let mut models: Vec<String> = records.iter().map(|r| r.model.clone()).collect();
        models.sort();
        models.dedup();
        models
    };
    let (old_models, new_models) = (models(old), models(new));
    let several = old_models.len() > 1 || new_models.len() > 1;
    let key = |record: &Record, with_stack: bool| {
        (
            if several { record.model.clone() } else { String::new() },
            record.chip.clone(),
            if with_stack { record.stack.clone() } else { String::new() },
            record.batch,
            record.dtype.clone(),
            record.scenario.clone(),
        )
    };
    let mut partner: Vec<Option<usize>> = vec![None; new.len()];
    let mut gone = vec![true; old.len()];
    for with_stack in [true, false] {
        let mut left = BTreeMap::new();
        for (index, record) in old.iter().enumerate().filter(|(index, _)| gone[*index]).rev() {
            left.entry(key(record, with_stack)).or_insert_with(Vec::new).push(index);
        }
        for (index, record) in new.iter().enumerate() {
            let found = left.get_mut(&key(record, with_stack)).filter(|_| partner[index].is_none());
            if let Some(of_old) = found.and_then(Vec::pop) {
                partner[index] = Some(of_old);
                gone[of_old] = false;
            }
        }
    }
    let mut changes = Changes::default();
    if !several && old_models != new_models && !old.is_empty() && !new.is_empty() {
        changes.models = Some([old_models.concat(), new_models.concat()]);
    }
    for (record, partner) in new.iter().zip(partner) {
        let Some(partner) = partner else {
            changes.list.push(of(record, Change::Added));
            continue;
        };
        let before = changes.list.len();
        changes.list.extend(between(&old[partner], record).map(|change| of(record, change)));
        changes.shared += 1;
        changes.same += usize::from(changes.list.len() == before);
    }
    for (record, _) in old.iter().zip(gone).filter(|(_, gone)| *gone) {
        changes.list.push(of(record, Change::Removed));
    }
    changes
}

fn of(record: &Record, change: Change) -> ChangeOf {
    ChangeOf {
        model: record.model.clone(),
        chip: record.chip.clone(),
        stack: record.stack.clone(),
        batch: record.batch,
        dtype: record.dtype.clone(),
        change,
    }
}

/// What differs between two records of the same thing.
fn between(old: &Record, new: &Record) -> impl Iterator<Item = Change> {
    let reason = |record: &Record| record.why_not.clone().unwrap_or_default();
    let runs = match (old.runs, new.runs) {
        (false, true) => Some(Change::RunsNow { why_not: reason(old) }),
        (true, false) => Some(Change::RunsNoLonger { why_not: reason(new) }),
        (true, true) | (false, false) => None,
    };
    let stack = (old.stack != new.stack).then(|| Change::Stack { old: old.stack.clone() });
    let figures = Field::ALL.iter().filter_map(|field| {
        let figure = field.name();
        match (old.view(*field), new.view(*field)) {
            (None, None) => None,
            (None, Some(new)) => {
                Some(Change::Known { figure, new: new.value, text: new.text_with_interval() })
            }
            (Some(old), None) => {
                Some(Change::Unknown { figure, old: old.value, text: old.text_with_interval() })
            }
            (Some(old), Some(new)) => moved(figure, &old, &new),
        }
    });
    let figures: Vec<Change> = figures.collect();
    runs.into_iter().chain(stack).chain(figures)
}

fn moved(figure: &'static str, old: &View<'_>, new: &View<'_>) -> Option<Change> {
    let equal = |a: f64, b: f64| (a - b).abs() <= EQUAL * a.abs().max(b.abs());
    if equal(old.value, new.value) && equal(old.low, new.low) && equal(old.high, new.high) {
        return None;
    }
    Some(Change::Figure {
        figure,
        old: old.value,
        new: new.value,
        percent: (old.value != 0.0).then(|| 100.0 * (new.value / old.value - 1.0)),
        agreement: Agreement::of(old, new),
        texts: [old.text_with_interval(), new.text_with_interval()],
    })
}

/// `+5.1 %`, `−48 %`; `±0 %` where only the interval moved.
fn signed(percent: f64) -> String {
    if percent == 0.0 {
        return "±0 %".to_owned();
    }
    let sign = if percent < 0.0 { "−" } else { "+" };
    format!("{sign}{} %", significant(percent.abs(), 3))
}

/// A row of the page's table of changes.
#[derive(Serialize)]
pub(crate) struct ChangeRow {
    chip: String,
    stack: String,
    what: &'static str,
    old: String,
    new: String,
    percent: Option<f64>,
    change: String,
    intervals: &'static str,
}

impl Changes {
    /// `184 in both runs, 20 of them the same; 3 added, 1 removed; …`
    pub fn summary(&self) -> String {
        let count = |wanted: &dyn Fn(&Change) -> bool| {
            self.list.iter().filter(|of| wanted(&of.change)).count()
        };
        let added = count(&|change| matches!(change, Change::Added));
        let removed = count(&|change| matches!(change, Change::Removed));
        let latencies = |least: Agreement| {
            count(&|change| {
                matches!(change, Change::Figure { figure: "latency_s", agreement, .. }
                    if *agreement >= least)
            })
        };
        let mut out = match &self.models {
            Some([old, new]) => format!("Different models: {old}, now {new}. "),
            None => String::new(),
        };
        out += &format!(
            "{} in both runs, {} of them the same; {added} added, {removed} removed. {} latencies changed: {} outside \
             of the other's interval, {} with intervals apart.",
            self.shared,
            self.same,
            latencies(Agreement::Within),
            latencies(Agreement::Outside) - latencies(Agreement::Apart),
            latencies(Agreement::Apart)
        );
        out
    }

    pub(crate) fn rows(&self) -> Vec<ChangeRow> {
        self.list.iter().map(row).collect()
    }
}

fn row(of: &ChangeOf) -> ChangeRow {
    let mut row = ChangeRow {
        chip: of.chip.clone(),
        stack: of.stack.clone(),
        what: "",
        old: String::new(),
        new: String::new(),
        percent: None,
        change: String::new(),
        intervals: "",
    };
    match &of.change {
        Change::Added => row.what = "added",
        Change::Removed => row.what = "removed",
        Change::RunsNow { why_not } => {
            row.what = "runs now";
            row.old.clone_from(why_not);
        }
        Change::RunsNoLonger { why_not } => {
            row.what = "runs no longer";
            row.new.clone_from(why_not);
        }
        Change::Stack { old } => {
            row.what = "software";
            row.old.clone_from(old);
            row.new.clone_from(&of.stack);
        }
        Change::Known { figure, text, .. } => {
            row.what = figure;
            row.new.clone_from(text);
        }
        Change::Unknown { figure, text, .. } => {
            row.what = figure;
            row.old.clone_from(text);
        }
        Change::Figure { figure, percent, agreement, texts: [old, new], .. } => {
            row.what = figure;
            row.old.clone_from(old);
            row.new.clone_from(new);
            row.percent = *percent;
            row.change = percent.map(signed).unwrap_or_default();
            row.intervals = match agreement {
                Agreement::Within => "within",
                Agreement::Outside => "outside",
                Agreement::Apart => "apart",
            };
        }
    }
    row
}

/// The figures whose changes have a column, as percentages: title and field.
const PERCENTAGES: [(&str, &str); 9] = [
    ("inf/s", "throughput_per_s"),
    ("J/inf", "energy_j"),
    ("inf/$", "throughput_per_usd"),
    ("util", "utilization"),
    ("power", "power_w"),
    ("memory", "peak_memory_bytes"),
    ("rent", "price_usd_per_hour"),
    ("price", "price_usd"),
    ("accuracy", "accuracy"),
];

/// What changed, in at most `width` columns: a chip a row, the largest change of latency first, then what has no row.
pub fn changes_table(changes: &Changes, width: usize) -> String {
    let mut out = wrap("", &changes.summary(), width);
    let mut by_record: BTreeMap<(&str, &str, &str, u64, &str), Vec<&Change>> = BTreeMap::new();
    for of in &changes.list {
        let key =
            (of.chip.as_str(), of.stack.as_str(), of.model.as_str(), of.batch, of.dtype.as_str());
        by_record.entry(key).or_default().push(&of.change);
    }
    let mut moved: Vec<OfRecord<'_>> = by_record
        .iter()
        .filter(|(_, list)| list.iter().any(|change| matches!(change, Change::Figure { .. })))
        .map(|((chip, stack, ..), list)| (*chip, *stack, list.clone()))
        .collect();
    let size =
        |list: &[&Change]| figure(list, "latency_s").and_then(|f| f.percent).map_or(0.0, f64::abs);
    moved.sort_by(|a, b| size(&b.2).total_cmp(&size(&a.2)));
    if !moved.is_empty() {
        out += "\n";
        let text = changed_figures(&moved, width);
        out += &text;
        if text.contains('!') {
            out +=
                "\n! a value lies outside of the other's interval   !! the intervals do not meet\n";
        }
    }
    out += "\n";
    let chips = |wanted: &dyn Fn(&Change) -> bool| -> Vec<&str> {
        let found = changes.list.iter().filter(|of| wanted(&of.change));
        found.map(|of| of.chip.as_str()).collect()
    };
    for (title, found) in [
        ("Added: ", chips(&|change| matches!(change, Change::Added))),
        ("Removed: ", chips(&|change| matches!(change, Change::Removed))),
    ] {
        if !found.is_empty() {
            out += &wrap(title, &found.join(", "), width);
        }
    }
    for of in &changes.list {
        match &of.change {
            Change::RunsNow { why_not } => {
                out += &wrap("", &format!("{} runs now; before: {why_not}", of.chip), width);
            }
            Change::RunsNoLonger { why_not } => {
                out += &wrap("", &format!("{} runs no longer: {why_not}", of.chip), width);
            }
            Change::Stack { old } => {
                let text = format!("{} with {}; before with {old}", of.chip, of.stack);
                out += &wrap("", &text, width);
            }
            Change::Added
            | Change::Removed
            | Change::Known { .. }
            | Change::Unknown { .. }
            | Change::Figure { .. } => {}
        }
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

/// A figure's change among those of a record.
struct Moved<'a> {
    percent: Option<f64>,
    agreement: Agreement,
    texts: &'a [String; 2],
}

fn figure<'a>(list: &[&'a Change], wanted: &str) -> Option<Moved<'a>> {
    list.iter().find_map(|change| match change {
        Change::Figure { figure, percent, agreement, texts, .. } if *figure == wanted => {
            Some(Moved { percent: *percent, agreement: *agreement, texts })
        }
        _ => None,
    })
}

/// Chip, software and changes of one record.
type OfRecord<'a> = (&'a str, &'a str, Vec<&'a Change>);

fn changed_figures(moved: &[OfRecord<'_>], width: usize) -> String {
    let percent = |list: &[&Change], field: &str| {
        figure(list, field).map_or_else(String::new, |found| {
            found.percent.map_or_else(String::new, |p| signed(p) + found.agreement.mark())
        })
    };
    let cells = |cell: &dyn Fn(&OfRecord<'_>) -> String| -> Vec<String> {
        moved.iter().map(cell).collect()
    };
    let side = |list: &[&Change], side: usize| {
        figure(list, "latency_s").map_or_else(String::new, |found| found.texts[side].clone())
    };
    let mut columns = vec![
        Column::words("chip", cells(&|(chip, ..)| elide(chip, (width * 35 / 100).max(12)))),
        Column::numbers("old latency", cells(&|(.., list)| side(list, 0))),
        Column::numbers("new latency", cells(&|(.., list)| side(list, 1))),
        Column::numbers("latency", cells(&|(.., list)| percent(list, "latency_s"))),
    ];
    for (title, field) in PERCENTAGES {
        columns.push(Column::numbers(title, cells(&|(.., list)| percent(list, field))));
    }
    columns.push(Column::words("stack", cells(&|(_, stack, _)| (*stack).to_owned())));
    let mut wishes = vec![("chip", 0), ("latency", 0), ("old latency", 0), ("new latency", 0)];
    wishes.extend(PERCENTAGES.map(|(title, _)| (title, 0)));
    wishes.push(("stack", 0));
    Grid::new(columns).draw(&wishes, width).text
}
