//! The choice: the front under limits, what is best, and why each other chip lost.

use anychip_record::{Record, Standing, Verdict};

use crate::compare::{grid, has_blanks, title};
use crate::evidence::{few, legend};
use crate::grid::{Column, Drawn, wrap};

/// What to show of a choice.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChoiceView<'a> {
    /// What was chosen for: `throughput-per-dollar`.
    pub goal: Option<&'a str>,
    /// Every chip that lost, with its figures, instead of a summary.
    pub all: bool,
}

/// The columns by how much they are wanted, as in a comparison; the goal's come right after the first.
const WISHES: &[(&str, usize)] = &[
    ("chip", 0),
    ("mark", 0),
    ("latency", 0),
    ("batch", 0),
    ("inf/s", 0),
    ("inf/$", 0),
    ("dtype", 0),
    ("power", 0),
    ("price", 0),
    ("rent", 0),
    ("latency", 1),
    ("J/inf", 0),
    ("board", 0),
    ("die", 0),
    ("runs", 0),
    ("stack", 0),
    ("inf/s", 1),
    ("inf/$", 1),
    ("memory", 0),
];

/// The column that shows a goal, and the form of it that has the interval if there is one.
fn goal_columns(goal: &str) -> &'static [(&'static str, usize)] {
    match goal {
        "latency" => &[("latency", 1)],
        "throughput" => &[("inf/s", 0), ("inf/s", 1)],
        "throughput-per-dollar" => &[("inf/$", 0), ("inf/$", 1)],
        "power" => &[("power", 0), ("power", 1)],
        "energy" => &[("J/inf", 0), ("J/inf", 1)],
        "price" => &[("price", 0), ("price", 1)],
        "price-per-hour" => &[("rent", 0), ("rent", 1)],
        "size" => &[("board", 0), ("die", 0)],
        _ => &[],
    }
}

/// Best for the goal, or not to be told from it.
const BEST: char = '=';
/// It may break a limit.
const UNSURE: char = '?';
/// Never held against a measurement.
const BOUND: char = '~';

/// The records of a choice, each with its verdict, in at most `width` columns.
pub fn choice_table(records: &[Record], view: &ChoiceView<'_>, width: usize) -> String {
    let of = |record: &Record| record.verdict.clone().map(|verdict| verdict.standing);
    let (front, lost): (Vec<&Record>, Vec<&Record>) =
        records.iter().partition(|record| of(record) == Some(Standing::Front));
    let mut out = String::new();
    if !front.is_empty() {
        out += &kept(&front, view, width);
    }
    if !lost.is_empty() {
        out += if front.is_empty() { "Why not:\n" } else { "\nWhy not the others:\n" };
        out += &losers(&lost, view, width);
    }
    out
}

fn verdict(record: &Record) -> Verdict {
    record.verdict.clone().unwrap_or_else(|| Verdict::new(Standing::CannotRun))
}

fn marks(record: &Record) -> String {
    let verdict = verdict(record);
    let marks = [
        (verdict.best, BEST),
        (!verdict.may_break.is_empty(), UNSURE),
        (record.is_unvalidated(), BOUND),
    ];
    marks.into_iter().filter(|(applies, _)| *applies).map(|(_, mark)| mark).collect()
}

/// The most rows of the front that are shown unasked.
const MOST_ROWS: usize = 24;

/// Reasons why chips cannot run a model that fewer than this many share are put together.
const FEW_CHIPS: usize = 4;

fn kept(front: &[&Record], view: &ChoiceView<'_>, width: usize) -> String {
    let all = front;
    let front = if view.all { all } else { &all[..all.len().min(MOST_ROWS)] };
    let owned: Vec<Record> = front.iter().map(|record| (*record).clone()).collect();
    let mut out = title(&owned, width);
    let marks: Vec<String> = front.iter().map(|record| marks(record)).collect();
    let grid = grid(front, width).with(1, Column::words("mark", marks.clone()));
    let mut wishes = WISHES[..3].to_vec();
    let goal = view.goal.map_or(&[][..], goal_columns);
    wishes.extend(goal);
    wishes.extend(WISHES[3..].iter().filter(|(title, _)| goal.iter().all(|(own, _)| own != title)));
    let Drawn { text, titles } = grid.draw(&wishes, width);
    out += &text;
    if all.len() > front.len() {
        out += &format!(
            "… and {} more that no other is better than; --all lists them\n",
            all.len() - front.len()
        );
    }
    out.push('\n');
    out += &legend(&text);
    let used = |mark: char| marks.iter().any(|marks| marks.contains(mark));
    if used(BOUND) {
        out += &format!("{BOUND} a bound: such estimates were never held against a measurement\n");
    }
    if has_blanks(front, &titles) {
        out += "A blank is unknown, not zero; --verbose says why.\n";
    }
    out += &changed_formats(front, width);
    out += &best(all, view, width);
    let unsure: Vec<String> = all
        .iter()
        .map(|record| (record, verdict(record)))
        .filter(|(_, verdict)| !verdict.may_break.is_empty())
        .map(|(record, verdict)| format!("{} ({})", record.chip, verdict.may_break.join(", ")))
        .collect();
    if !unsure.is_empty() {
        let shown: Vec<&str> = unsure.iter().map(String::as_str).collect();
        let shown = if view.all { shown.join(", ") } else { few(&shown) };
        out += &wrap(&format!("{UNSURE} "), &format!("may break a limit: {shown}"), width);
    }
    out
}

/// Which rows are of a model in another number format than its own.
fn changed_formats(front: &[&Record], width: usize) -> String {
    let mut formats: Vec<&str> = front.iter().map(|record| record.dtype.as_str()).collect();
    formats.sort_unstable();
    formats.dedup();
    if formats.len() < 2 {
        return String::new();
    }
    let text = format!(
        "Where the format (dtype) is not the model's own, the model is a converted one, whose accuracy is not known; \
         --dtype fixes it. Formats here: {}.",
        formats.join(", ")
    );
    wrap("", &text, width)
}

/// The sentence that names the best, what it ties with, and the best of those that were held against measurements.
fn best(front: &[&Record], view: &ChoiceView<'_>, width: usize) -> String {
    let Some(goal) = view.goal else {
        let text = format!(
            "{} of these is best at everything; --for GOAL sorts them and names the best.",
            if front.len() == 1 { "This one" } else { "None" }
        );
        return if front.len() == 1 { String::new() } else { wrap("", &text, width) };
    };
    let best: Vec<&Record> = front.iter().copied().filter(|record| verdict(record).best).collect();
    let Some((first, ties)) = best.split_first() else {
        return wrap("", &format!("No chip on the front has a known {goal}."), width);
    };
    let described = |record: &Record| {
        let bound = if record.is_unvalidated() { ", a bound" } else { "" };
        format!("{} at batch {} in {}{bound}", record.chip, record.batch, record.dtype)
    };
    let mut text = format!("Best for {goal}: {}", described(first));
    if ties.is_empty() {
        text += ", by more than the intervals.";
    } else {
        let names: Vec<&str> = ties.iter().map(|record| record.chip.as_str()).collect();
        let names = if view.all { names.join(", ") } else { few(&names) };
        text += &format!("; inside the intervals it ties with {names}.");
        if first.is_unvalidated()
            && let Some(sound) = ties.iter().find(|record| !record.is_unvalidated())
        {
            text += &format!(
                " The best of them whose estimates were held against measurements: {}.",
                described(sound)
            );
        }
    }
    wrap(&format!("{BEST} "), &text, width)
}

/// Chips that lost in one way for one reason.
type Group<'a> = (Standing, String, Vec<&'a Record>);

/// Puts the rare reasons why chips cannot run the model into one group, at the end.
fn fold_rare(groups: &mut Vec<Group<'_>>) {
    let rare = |(standing, _, records): &Group<'_>| {
        *standing == Standing::CannotRun && records.len() < FEW_CHIPS
    };
    if groups.iter().filter(|group| rare(group)).count() < 2 {
        return;
    }
    let (folded, kept): (Vec<_>, Vec<_>) = groups.drain(..).partition(rare);
    *groups = kept;
    let reason = format!("{} other reasons", folded.len());
    let records = folded.into_iter().flat_map(|(_, _, records)| records).collect();
    groups.push((Standing::CannotRun, reason, records));
}

/// The chips that lost, one line for all that lost for the same, or one each.
fn losers(lost: &[&Record], view: &ChoiceView<'_>, width: usize) -> String {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for record in lost {
        let Verdict { standing, reason, .. } = verdict(record);
        let reason = match &record.why_not {
            Some(why_not) => why_not.clone(),
            None => reason,
        };
        match groups.iter_mut().find(|(s, r, _)| *s == standing && *r == reason) {
            Some((_, _, records)) => records.push(record),
            None => groups.push((standing, reason, vec![record])),
        }
    }
    // Large groups first among those that lost in the same way.
    groups.sort_by_key(|(standing, _, records)| (*standing, usize::MAX - records.len()));
    if !view.all {
        fold_rare(&mut groups);
    }
    let mut out = String::new();
    for (standing, reason, records) in &groups {
        let names: Vec<&str> = records.iter().map(|record| record.chip.as_str()).collect();
        let reason = match standing {
            Standing::CannotRun => format!("cannot run it: {reason}"),
            Standing::Front | Standing::Dominated | Standing::OverLimit | Standing::Unknown => {
                reason.clone()
            }
        };
        let lead = format!("{:>4}  ", records.len());
        if view.all {
            out += &wrap(&lead, &reason, width);
            for record in records {
                let detail = verdict(record).detail;
                let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
                out += &wrap("        ", &format!("{}{detail}", record.chip), width);
            }
            continue;
        }
        let detail = verdict(records[0]).detail;
        let text = match (standing, records.len()) {
            (_, 1) if detail.is_empty() => format!("{reason}: {}", names[0]),
            (_, 1) => format!("{reason}: {}, {detail}", names[0]),
            (Standing::OverLimit, _) => {
                format!("{reason}; the nearest {}, {detail}", names[0])
            }
            (_, _) => format!("{reason}: {}", few(&names)),
        };
        out += &wrap(&lead, &text, width);
    }
    if !view.all && groups.iter().any(|(_, _, records)| records.len() > 1) {
        out += "--all lists every chip with its figures.\n";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_record::Key;
    use anychip_units::Figure;

    fn record(chip: &str, latency: f64, source: &str, verdict: Verdict) -> Record {
        let mut record = Record::new(Key {
            model: "m".into(),
            model_sha256: "0".into(),
            chip: chip.into(),
            stack: "s".into(),
            target: None,
            batch: 1,
            dtype: "f16".into(),
        });
        let latency = Figure::estimated(latency, latency / 2.0, latency * 2.0, source);
        record.set_latency(latency.expect("sound")).expect("sound");
        Record { verdict: Some(verdict), ..record }
    }

    fn choice() -> Vec<Record> {
        let best = Verdict { best: true, ..Verdict::new(Standing::Front) };
        let unsure = Verdict { may_break: vec!["power 14 [7–23] W".into()], ..best.clone() };
        let over =
            |detail: &str| Verdict::lost(Standing::OverLimit, "over --max-power 15W", detail);
        let mut all = vec![
            record("sound", 0.001, "fitted", best),
            record("risky", 0.001, "unfitted and unvalidated", unsure),
            record("hot", 0.001, "fitted", over("power 20 W, 33 % more")),
            record("hotter", 0.001, "fitted", over("power 40 W, 2.7 times that")),
        ];
        for (chip, reason) in [("a", "it spikes"), ("b", "it has qubits"), ("c", "it spikes")] {
            let mut record = record(chip, 1.0, "fitted", Verdict::new(Standing::CannotRun));
            (record.runs, record.why_not) = (false, Some(reason.into()));
            all.push(record);
        }
        all
    }

    #[test]
    fn the_front_is_marked_and_the_others_are_summed_up() {
        let view = ChoiceView { goal: Some("latency"), all: false };
        let text = choice_table(&choice(), &view, 80);
        let row = |chip: &str| text.lines().find(|line| line.starts_with(chip)).expect("a row");
        assert!(row("sound").contains(" = ") && row("risky").contains(" =?~ "), "{text}");
        assert!(text.contains("= Best for latency: sound at batch 1 in f16; inside the intervals"));
        assert!(text.contains("? may break a limit: risky (power 14 [7–23] W)"), "{text}");
        assert!(
            text.contains("   2  over --max-power 15W; the nearest hot, power 20 W, 33 % more")
        );
        assert!(text.contains("   3  cannot run it: 2 other reasons: a, c, b"), "{text}");
        assert!(!text.contains("hotter"), "{text}");
    }

    #[test]
    fn all_lists_each_chip_with_its_figures() {
        let text = choice_table(&choice(), &ChoiceView { goal: None, all: true }, 80);
        assert!(text.contains("hotter: power 40 W, 2.7 times that"), "{text}");
        assert!(text.contains("cannot run it: it has qubits"), "{text}");
        assert!(text.contains("--for GOAL"), "{text}");
    }

    #[test]
    fn nothing_kept_is_no_table() {
        let lost: Vec<Record> = choice().split_off(4);
        let text = choice_table(&lost, &ChoiceView::default(), 80);
        assert!(text.starts_with("Why not:\n"), "{text}");
        assert_eq!(choice_table(&[], &ChoiceView::default(), 80), "");
    }
}
