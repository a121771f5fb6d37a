//! Which chip: the Pareto front of many records under limits, and why each other chip lost.
//!
//! [`search`] makes the candidates, a record for each chip, batch and number format; [`choose`] is pure over records. It
//! keeps the front (`front.rs` has the rule) and gives each chip one record with a [`Verdict`], or two where no goal says which of its batches
//! is wanted: the fastest and the one of most throughput.

#[cfg(test)]
mod example;
mod front;
mod limit;
mod metric;
mod relax;
mod search;

use anychip_record::{Record, Standing, Verdict};

use limit::Fit;
pub use limit::Limit;
pub use metric::Metric;
use metric::Relation;
pub use relax::{NothingMeets, Relaxation};
pub use search::{SearchOptions, search};

/// Batches of one chip share the error of its estimate, so their values are compared; what is within this share of the best
/// is as good.
const AS_GOOD: f64 = 0.05;

/// Chooses among candidates under the limits, for a goal if there is one.
///
/// The records come back with verdicts: the front first, by the goal (by latency without one), those that may break a limit
/// after those that surely keep all; then one record of each chip that lost, by how it lost, those nearest to the limits first.
/// Where no candidate runs the model at all, every record says why it cannot.
///
/// # Errors
/// When chips run the model and none keeps the limits: what to relax.
pub fn choose(
    candidates: &[Record],
    limits: &[Limit],
    goal: Option<Metric>,
) -> Result<Vec<Record>, NothingMeets> {
    let mut chips: Vec<String> = Vec::new();
    for record in candidates {
        if !chips.contains(&record.chip) {
            chips.push(record.chip.clone());
        }
    }
    let running: Vec<&Record> = candidates.iter().filter(|record| record.runs).collect();
    let meeting: Vec<&Record> =
        running.iter().copied().filter(|record| keeps(record, limits)).collect();
    let meeting = one_format(&surest(&meeting, limits));
    if meeting.is_empty() && !running.is_empty() {
        return Err(NothingMeets::of(&running, limits));
    }
    let mut losers = front::front(&meeting, limits);
    if let Some(best) = goal.and_then(|goal| best_for(goal, &meeting, limits)) {
        losers[best].clear();
    }
    let mut kept: Vec<Record> = Vec::new();
    let mut lost: Vec<Record> = Vec::new();
    for chip in &chips {
        let own: Vec<usize> = (0..meeting.len()).filter(|&i| meeting[i].chip == *chip).collect();
        let on_front: Vec<&Record> =
            own.iter().filter(|&&i| losers[i].is_empty()).map(|&i| meeting[i]).collect();
        if !on_front.is_empty() {
            kept.extend(representatives(&on_front, goal).into_iter().map(|record| {
                let mut record = record.clone();
                let verdict = Verdict::new(Standing::Front);
                record.verdict = Some(Verdict { may_break: may_break(&record, limits), ..verdict });
                record
            }));
            continue;
        }
        let (record, verdict) = if own.is_empty() {
            let all: Vec<&Record> = candidates.iter().filter(|r| r.chip == *chip).collect();
            not_admitted(&all, limits)
        } else {
            dominated(&own, &meeting, &losers, goal)
        };
        lost.push(Record { verdict: Some(verdict), ..record.clone() });
    }
    lost.sort_by(|a, b| {
        let standing = |record: &Record| record.verdict.as_ref().map(|v| v.standing);
        let far = |record: &Record| beyond(record, limits);
        standing(a).cmp(&standing(b)).then(far(a).total_cmp(&far(b)))
    });
    sort(&mut kept, goal);
    mark_best(&mut kept, goal);
    kept.append(&mut lost);
    Ok(kept)
}

/// The record that surely keeps all limits and whose value is the best for the goal. It stays even where another ties with
/// it in the goal and is better in something else: it is what was asked for.
fn best_for(goal: Metric, meeting: &[&Record], limits: &[Limit]) -> Option<usize> {
    let sure = |record: &Record| limits.iter().all(|limit| limit.fit(record) == Fit::Meets);
    let known = (0..meeting.len()).filter(|&i| goal.of(meeting[i]).is_some());
    known.max_by(|&a, &b| {
        let by_goal = goal.merit(meeting[a]).total_cmp(&goal.merit(meeting[b]));
        sure(meeting[a]).cmp(&sure(meeting[b])).then(by_goal).then(b.cmp(&a))
    })
}

/// Whether the values keep all limits.
fn keeps(record: &Record, limits: &[Limit]) -> bool {
    limits.iter().all(|limit| matches!(limit.fit(record), Fit::Meets | Fit::MayBreak))
}

/// Where some records of a chip surely keep the limits, only those: the batch is ours to choose.
fn surest<'a>(records: &[&'a Record], limits: &[Limit]) -> Vec<&'a Record> {
    let sure = |record: &Record| limits.iter().all(|limit| limit.fit(record) == Fit::Meets);
    let has_sure = |chip: &str| records.iter().any(|other| other.chip == chip && sure(other));
    records.iter().copied().filter(|record| sure(record) || !has_sure(&record.chip)).collect()
}

/// Of the number formats of one chip and batch, the first of those that are as fast as the fastest: candidates come with the
/// model's own format first.
fn one_format<'a>(records: &[&'a Record]) -> Vec<&'a Record> {
    let same = |a: &Record, b: &Record| a.chip == b.chip && a.batch == b.batch;
    let merit = |record: &Record| Metric::Latency.merit(record);
    let mut kept: Vec<&Record> = Vec::new();
    for &record in records {
        if kept.iter().any(|one| same(one, record)) {
            continue;
        }
        let formats: Vec<&Record> =
            records.iter().copied().filter(|other| same(other, record)).collect();
        let best = formats.iter().map(|r| merit(r)).fold(f64::NEG_INFINITY, f64::max);
        kept.extend(formats.into_iter().find(|r| as_good(merit(r), best)));
    }
    kept
}

/// Whether a merit is within [`AS_GOOD`] of the best.
fn as_good(merit: f64, best: f64) -> bool {
    merit >= best - AS_GOOD * best.abs()
}

/// Of one chip's records the one that is best for the goal, the fastest of those that are as good; without a goal the
/// fastest and the one of most throughput, if that is another.
fn representatives<'a>(records: &[&'a Record], goal: Option<Metric>) -> Vec<&'a Record> {
    let best_for = |goal: Metric, then: Metric| {
        let best = records.iter().map(|r| goal.merit(r)).fold(f64::NEG_INFINITY, f64::max);
        let good = records.iter().filter(|r| as_good(goal.merit(r), best));
        good.max_by(|a, b| {
            let by_merit = then.merit(a).total_cmp(&then.merit(b));
            by_merit.then(b.batch.cmp(&a.batch))
        })
    };
    let found = match goal {
        Some(Metric::Latency) => vec![best_for(Metric::Latency, Metric::Throughput)],
        Some(goal) => vec![best_for(goal, Metric::Latency)],
        None => vec![
            best_for(Metric::Latency, Metric::Throughput),
            best_for(Metric::Throughput, Metric::Latency),
        ],
    };
    let mut out: Vec<&Record> = found.into_iter().flatten().copied().collect();
    out.dedup_by(|a, b| std::ptr::eq(*a, *b));
    out
}

/// The limits that a record may break, as its figures are.
fn may_break(record: &Record, limits: &[Limit]) -> Vec<String> {
    let unsure = limits.iter().filter(|limit| limit.fit(record) == Fit::MayBreak);
    unsure
        .filter_map(|limit| {
            let view = limit.metric.of(record)?;
            Some(format!("{} {}", limit.metric.name(), view.text_with_interval()))
        })
        .collect()
}

/// By which factors together a record is beyond limits.
fn beyond(record: &Record, limits: &[Limit]) -> f64 {
    limits.iter().filter_map(|limit| limit.excess(record)).map(|factor| factor.max(1.0)).product()
}

/// The record to show of a chip none of whose records keeps the limits, and why.
fn not_admitted<'a>(all: &[&'a Record], limits: &[Limit]) -> (&'a Record, Verdict) {
    let running = all.iter().copied().filter(|record| record.runs);
    let broken = |record: &Record| -> Vec<Limit> {
        let over = |limit: &Limit| matches!(limit.fit(record), Fit::Breaks | Fit::ProbablyBreaks);
        limits.iter().copied().filter(over).collect()
    };
    // The one that comes closest: fewest limits, then by the least factor.
    let closest = running.min_by(|a, b| {
        let count = broken(a).len().cmp(&broken(b).len());
        count.then(beyond(a, limits).total_cmp(&beyond(b, limits)))
    });
    let Some(record) = closest else {
        return (all[0], Verdict::new(Standing::CannotRun));
    };
    let broken = broken(record);
    if let Some(worst) = broken.iter().max_by(|a, b| {
        let excess = |limit: &Limit| limit.excess(record).unwrap_or(1.0);
        excess(a).total_cmp(&excess(b))
    }) {
        let detail: Vec<String> = broken.iter().map(|limit| limit.broken_by(record)).collect();
        let verdict = Verdict::lost(Standing::OverLimit, worst.broken(), detail.join("; "));
        return (record, verdict);
    }
    let unknown = limits.iter().filter(|limit| limit.fit(record) == Fit::Unknown);
    let names: Vec<&str> = unknown.map(|limit| limit.metric.name()).collect();
    let reason = format!("no known {}", names.join(" and "));
    (record, Verdict::lost(Standing::Unknown, reason, ""))
}

/// The record to show of a chip whose records are all dominated, and by which and in what. Of several that dominate it the one
/// that most others lost to as well is named.
fn dominated<'a>(
    own: &[usize],
    meeting: &[&'a Record],
    losers: &[Vec<usize>],
    goal: Option<Metric>,
) -> (&'a Record, Verdict) {
    let records: Vec<&Record> = own.iter().map(|&i| meeting[i]).collect();
    let shown = representatives(&records, goal)[0];
    let at = own.iter().copied().find(|&i| std::ptr::eq(meeting[i], shown)).unwrap_or(own[0]);
    let victims =
        |chip: &str| losers.iter().filter(|by| by.iter().any(|&d| meeting[d].chip == chip)).count();
    let winner = losers[at]
        .iter()
        .map(|&d| meeting[d])
        .max_by(|a, b| {
            let by_count = victims(&a.chip).cmp(&victims(&b.chip));
            by_count.then_with(|| b.chip.cmp(&a.chip)).then(b.batch.cmp(&a.batch))
        })
        .expect("a dominated record has one that dominates it");
    let figures = Metric::COMPARED
        .into_iter()
        .filter(|metric| metric.compare(winner, shown) == Relation::Better)
        .filter_map(|metric| {
            let (Some(ours), Some(theirs)) = metric.pair(shown, winner) else { return None };
            Some(format!(
                "{} {} against {}",
                metric.name(),
                ours.text_with_interval(),
                theirs.text_with_interval()
            ))
        });
    let detail = figures.collect::<Vec<_>>().join("; ");
    let reason = format!("beaten by {}", winner.chip);
    (shown, Verdict::lost(Standing::Dominated, reason, detail))
}

/// By the goal, the best first; what may break a limit after what surely keeps all.
fn sort(front: &mut [Record], goal: Option<Metric>) {
    let unsure = |record: &Record| record.verdict.as_ref().is_some_and(|v| !v.may_break.is_empty());
    let by = goal.unwrap_or(Metric::Latency);
    front.sort_by(|a, b| {
        let sure = unsure(a).cmp(&unsure(b));
        sure.then(by.merit(b).total_cmp(&by.merit(a)))
            .then(Metric::Latency.merit(b).total_cmp(&Metric::Latency.merit(a)))
            .then_with(|| (&a.chip, a.batch).cmp(&(&b.chip, b.batch)))
    });
}

/// Marks the first of a sorted front and all that its interval cannot be told from.
fn mark_best(front: &mut [Record], goal: Option<Metric>) {
    let Some(goal) = goal else { return };
    let Some(best) = front.first().filter(|record| goal.of(record).is_some()).cloned() else {
        return;
    };
    for record in front {
        let relation = goal.compare(record, &best);
        let ties = matches!(relation, Relation::Tie | Relation::Behind) || record.chip == best.chip;
        if let Some(verdict) = &mut record.verdict {
            verdict.best = ties;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::example::Example;
    use super::*;

    fn limit(metric: Metric, bound: f64) -> Limit {
        Limit { metric, bound }
    }

    fn standing(records: &[Record], chip: &str) -> Standing {
        let record = records.iter().find(|record| record.chip == chip).expect("is there");
        record.verdict.as_ref().expect("has a verdict").standing
    }

    fn verdict<'a>(records: &'a [Record], chip: &str) -> &'a Verdict {
        let record = records.iter().find(|record| record.chip == chip).expect("is there");
        record.verdict.as_ref().expect("has a verdict")
    }

    #[test]
    fn each_loser_says_why() {
        let key = Example::new("fpga").record();
        let candidates = vec![
            Example::new("good")
                .latency(0.004, 0.003, 0.005)
                .power(10.0, 9.0, 11.0)
                .price(100.0)
                .record(),
            Example::new("hot")
                .latency(0.002, 0.001, 0.003)
                .power(42.0, 21.0, 70.0)
                .price(90.0)
                .record(),
            Example::new("worse")
                .latency(0.009, 0.008, 0.010)
                .power(10.0, 9.0, 12.0)
                .price(300.0)
                .record(),
            Example::new("unpriced").latency(0.004, 0.003, 0.005).power(5.0, 4.0, 6.0).record(),
            Record { runs: false, why_not: Some("no engine".into()), ..key },
            Example::new("unsure")
                .latency(0.001, 0.001, 0.002)
                .power(14.0, 7.0, 23.0)
                .price(80.0)
                .record(),
        ];
        let limits = [limit(Metric::Power, 15.0), limit(Metric::Price, 500.0)];
        let found = choose(&candidates, &limits, Some(Metric::Latency)).expect("some keep them");
        let order: Vec<&str> = found.iter().map(|record| record.chip.as_str()).collect();
        assert_eq!(order, ["good", "unsure", "worse", "hot", "unpriced", "fpga"]);
        assert_eq!(standing(&found, "hot"), Standing::OverLimit);
        assert_eq!(verdict(&found, "hot").reason, "over --max-power 15W");
        assert_eq!(verdict(&found, "hot").detail, "power 42 [21–70] W, 2.8 times that");
        assert_eq!(standing(&found, "unpriced"), Standing::Unknown);
        assert_eq!(verdict(&found, "unpriced").reason, "no known price");
        assert_eq!(standing(&found, "fpga"), Standing::CannotRun);
        assert_eq!(standing(&found, "worse"), Standing::Dominated);
        assert_eq!(verdict(&found, "worse").reason, "beaten by good");
        assert!(verdict(&found, "worse").detail.contains("price $300.00 against $100.00"));
        assert_eq!(verdict(&found, "unsure").may_break, ["power 14 [7–23] W"]);
        assert!(verdict(&found, "good").best && !verdict(&found, "unsure").best);
    }

    #[test]
    fn a_chip_is_shown_with_the_batch_that_its_goal_asks_for() {
        let at = |batch: u64, latency: f64| {
            Example::new("chip")
                .batch(batch)
                .latency(latency, latency, latency)
                .streaming()
                .record()
        };
        // 100/s, 160/s, 200/s, 202/s
        let candidates = vec![at(1, 0.010), at(2, 0.0125), at(8, 0.040), at(64, 0.317)];
        let batches = |goal: Option<Metric>, limits: &[Limit]| -> Vec<u64> {
            let found = choose(&candidates, limits, goal).expect("keeps them");
            found.iter().map(|record| record.batch).collect()
        };
        assert_eq!(batches(Some(Metric::Latency), &[]), [1]);
        assert_eq!(batches(Some(Metric::Throughput), &[]), [8], "64 is no better and far slower");
        assert_eq!(batches(None, &[]), [1, 8]);
        let within = [limit(Metric::Latency, 0.020)];
        assert_eq!(batches(Some(Metric::Throughput), &within), [2]);
    }

    #[test]
    fn a_batch_that_surely_keeps_the_limits_is_taken_where_there_is_one() {
        let at = |chip: &str, batch: u64, latency: f64| {
            Example::new(chip)
                .batch(batch)
                .latency(latency, latency / 4.0, latency * 4.0)
                .streaming()
        };
        let candidates = vec![
            at("bound", 1, 0.002).record(),
            at("bound", 8, 0.004).record(),
            at("slow", 1, 0.006).power(1.0, 1.0, 1.0).record(),
        ];
        let limits = [limit(Metric::Latency, 0.010)];
        let found = choose(&candidates, &limits, Some(Metric::Throughput)).expect("keeps it");
        let rows: Vec<(&str, u64)> = found.iter().map(|r| (r.chip.as_str(), r.batch)).collect();
        assert_eq!(rows, [("bound", 1), ("slow", 1)]);
        assert!(verdict(&found, "bound").may_break.is_empty());
        assert_eq!(verdict(&found, "slow").may_break, ["latency 6 [1.50–24] ms"]);
    }

    #[test]
    fn the_own_format_is_kept_where_another_is_no_faster() {
        let at = |dtype: &str, latency: f64| {
            Example::new("chip")
                .dtype(dtype)
                .latency(latency, latency, latency)
                .streaming()
                .record()
        };
        let formats = |candidates: Vec<Record>| -> Vec<String> {
            let found = choose(&candidates, &[], Some(Metric::Latency)).expect("no limits");
            found.into_iter().map(|record| record.dtype).collect()
        };
        assert_eq!(formats(vec![at("f32", 0.0102), at("f16", 0.0100)]), ["f32"]);
        assert_eq!(formats(vec![at("f32", 0.0200), at("f16", 0.0100)]), ["f16"]);
    }

    #[test]
    fn the_best_for_a_goal_stays_and_names_its_ties() {
        let candidates = vec![
            // Better in price by far, and a tie in what is asked for.
            Example::new("frugal").per_dollar(80.0, 40.0, 160.0).price(10.0).record(),
            Example::new("strong").per_dollar(100.0, 50.0, 200.0).price(90.0).record(),
            Example::new("weak").per_dollar(30.0, 29.0, 31.0).price(10.0).record(),
        ];
        let goal = Some(Metric::ThroughputPerDollar);
        let found = choose(&candidates, &[], goal).expect("no limits");
        assert_eq!(found[0].chip, "strong");
        assert!(verdict(&found, "strong").best && verdict(&found, "frugal").best);
        assert_eq!(standing(&found, "weak"), Standing::Dominated);
        assert_eq!(verdict(&found, "weak").reason, "beaten by frugal");
    }

    #[test]
    fn the_order_of_candidates_makes_no_difference() {
        for seed in 0..50 {
            let records = example::random_records(seed, 20);
            let mut back = records.clone();
            back.reverse();
            let limits = [limit(Metric::Power, 6.0)];
            let front = |candidates: Vec<Record>| {
                let found =
                    choose(&candidates, &limits, Some(Metric::Price)).expect("some keep it");
                let mut chips: Vec<(String, String)> =
                    found.iter().map(|r| (r.chip.clone(), format!("{:?}", r.verdict))).collect();
                chips.sort();
                chips
            };
            assert_eq!(front(records), front(back), "seed {seed}");
        }
    }

    #[test]
    fn nothing_asked_nothing_found() {
        assert_eq!(choose(&[], &[], None), Ok(Vec::new()));
        let none = Record { runs: false, why_not: Some("no".into()), ..Example::new("a").record() };
        let found = choose(&[none], &[limit(Metric::Power, 1.0)], None).expect("none runs");
        assert_eq!(standing(&found, "a"), Standing::CannotRun);
    }
}
