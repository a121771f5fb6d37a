//! The Pareto front of records whose figures are intervals.
//!
//! A record *beats* another in a figure when its interval is wholly better; otherwise they tie. It *dominates* another chip's
//! record when it beats it in some figure and is beaten in none, and
//! - gains nothing from how little is known of it: where they tie, its value is not worse than the other's whole interval, and
//!   it knows every figure that the other knows (what nobody knows argues for nobody);
//! - may break no limit that the other surely keeps.
//!
//! Ties of intervals are not transitive, so neither is domination: where A dominates B and B dominates C, C may still beat A
//! in something, and three can dominate each other in a circle. Therefore a record loses only to one that stays:
//! what nobody left dominates is kept, what it dominates is dropped, and so on with the rest. Those who dominate each other
//! in a circle that nobody outside of it breaks all stay. So the front is never empty, each loser has one on the front that
//! dominates it, and the order of the records makes no difference.

use anychip_record::Record;

use super::limit::{Fit, Limit};
use super::metric::{Metric, Relation};

/// Whether `a` dominates `b` under the limits.
pub(super) fn dominates(a: &Record, b: &Record, limits: &[Limit]) -> bool {
    let mut beats = false;
    for metric in Metric::COMPARED {
        match metric.compare(a, b) {
            Relation::Better => beats = true,
            Relation::Worse | Relation::Behind | Relation::LacksIt => return false,
            Relation::Tie | Relation::NoMatch => {}
        }
    }
    let as_sure = |limit: &Limit| limit.fit(a) != Fit::MayBreak || limit.fit(b) == Fit::MayBreak;
    beats && limits.iter().all(as_sure)
}

/// For each record, those on the front that dominate it; none where it is on the front itself.
pub(super) fn front(records: &[&Record], limits: &[Limit]) -> Vec<Vec<usize>> {
    let count = records.len();
    // Who dominates each. Records of one chip are alternatives, not rivals.
    let dominators: Vec<Vec<usize>> = (0..count)
        .map(|loser| {
            let rival = |&other: &usize| {
                records[other].chip != records[loser].chip
                    && dominates(records[other], records[loser], limits)
            };
            (0..count).filter(rival).collect()
        })
        .collect();
    let mut state = vec![State::Open; count];
    while state.contains(&State::Open) {
        let open_dominators = |record: usize, state: &[State]| {
            dominators[record].iter().filter(|&&d| state[d] == State::Open).count()
        };
        let mut kept: Vec<usize> = (0..count)
            .filter(|&r| state[r] == State::Open && open_dominators(r, &state) == 0)
            .collect();
        if kept.is_empty() {
            kept = circle(&dominators, &state);
        }
        for &one in &kept {
            state[one] = State::Kept;
        }
        for record in 0..count {
            if state[record] == State::Open
                && dominators[record].iter().any(|&d| state[d] == State::Kept)
            {
                state[record] = State::Dropped;
            }
        }
    }
    (0..count)
        .map(|record| match state[record] {
            State::Dropped => {
                let all = dominators[record].iter().copied();
                all.filter(|&d| state[d] == State::Kept).collect()
            }
            State::Kept | State::Open => Vec::new(),
        })
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Kept,
    Dropped,
}

/// The open records of the circles that no open record outside of them dominates: whoever reaches one of them by
/// domination is reached by it. Called when every open record is dominated by an open one.
fn circle(dominators: &[Vec<usize>], state: &[State]) -> Vec<usize> {
    // All open records from which `start` is dominated, directly or through others.
    let above = |start: usize| {
        let mut seen = vec![false; state.len()];
        let mut next = vec![start];
        while let Some(record) = next.pop() {
            for &d in &dominators[record] {
                if state[d] == State::Open && !seen[d] {
                    seen[d] = true;
                    next.push(d);
                }
            }
        }
        seen
    };
    let above: Vec<Option<Vec<bool>>> = (0..state.len())
        .map(|record| (state[record] == State::Open).then(|| above(record)))
        .collect();
    (0..state.len())
        .filter(|&record| {
            above[record].as_ref().is_some_and(|all| {
                (0..state.len())
                    .filter(|&other| all[other])
                    .all(|other| above[other].as_ref().is_some_and(|back| back[record]))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::example::{Example, random_records};
    use super::*;

    fn kept(records: &[Record]) -> Vec<String> {
        let all: Vec<&Record> = records.iter().collect();
        let losers = front(&all, &[]);
        let kept = all.iter().zip(&losers).filter(|(_, by)| by.is_empty());
        kept.map(|(record, _)| record.chip.clone()).collect()
    }

    #[test]
    fn wholly_better_in_one_figure_and_a_tie_in_the_rest_dominates() {
        let slow = Example::new("slow").latency(0.010, 0.009, 0.011).record();
        let fast = Example::new("fast").latency(0.005, 0.004, 0.006).record();
        let near = Example::new("near").latency(0.0065, 0.0055, 0.008).record();
        assert!(dominates(&fast, &slow, &[]) && !dominates(&slow, &fast, &[]));
        assert!(!dominates(&fast, &near, &[]), "their intervals share a point");
        assert_eq!(kept(&[slow, fast, near]), ["fast", "near"]);
    }

    #[test]
    fn what_one_does_not_know_it_cannot_win_with() {
        let priced = Example::new("priced").latency(0.010, 0.009, 0.011).price(100.0).record();
        let unpriced = Example::new("unpriced").latency(0.005, 0.004, 0.006).record();
        assert!(!dominates(&unpriced, &priced, &[]), "it may cost anything");
        let cheap = Example::new("cheap").latency(0.001, 0.001, 0.001).price(1.0).record();
        assert!(dominates(&cheap, &unpriced, &[]), "what nobody knows argues for nobody");
    }

    #[test]
    fn a_wide_interval_does_not_stand_in_for_a_good_figure() {
        let known = Example::new("known").latency(0.001, 0.0009, 0.0011).price(2000.0).record();
        let vague = Example::new("vague").latency(0.004, 0.001, 0.016).price(200.0).record();
        assert!(
            !dominates(&vague, &known, &[]),
            "its value is beyond all that is known of the other"
        );
        let alike = Example::new("alike").latency(0.001, 0.0003, 0.004).price(200.0).record();
        assert!(dominates(&alike, &known, &[]));
    }

    #[test]
    fn one_that_may_break_a_limit_does_not_drop_one_that_keeps_it() {
        let sure =
            Example::new("sure").latency(0.010, 0.009, 0.011).power(10.0, 9.0, 11.0).record();
        let risky =
            Example::new("risky").latency(0.005, 0.004, 0.006).power(9.0, 5.0, 20.0).record();
        let limit = [Limit { metric: Metric::Power, bound: 15.0 }];
        assert!(dominates(&risky, &sure, &[]) && !dominates(&risky, &sure, &limit));
    }

    #[test]
    fn a_loser_is_dominated_by_one_that_stays() {
        // a dominates b, b dominates c, and c is wholly cheaper than a: c stays.
        let a = Example::new("a")
            .latency(0.001, 0.001, 0.001)
            .power(5.0, 4.0, 6.0)
            .prices(20.0, 20.0, 25.0);
        let b = Example::new("b")
            .latency(0.002, 0.002, 0.002)
            .power(5.0, 4.0, 6.0)
            .prices(15.0, 10.0, 22.0);
        let c = Example::new("c")
            .latency(0.002, 0.002, 0.002)
            .power(9.0, 8.0, 9.5)
            .prices(12.0, 9.0, 15.0);
        let [a, b, c] = [a, b, c].map(Example::record);
        assert!(dominates(&a, &b, &[]) && dominates(&b, &c, &[]));
        assert_eq!(kept(&[a, b, c]), ["a", "c"]);
    }

    #[test]
    fn a_circle_stays_and_drops_what_it_dominates() {
        // Each is wholly better than the next in one figure and ties in the others.
        let of = |name, latency: [f64; 3], power: [f64; 3], price: [f64; 3]| {
            Example::new(name)
                .latency(latency[1], latency[0], latency[2])
                .power(power[1], power[0], power[2])
                .prices(price[1], price[0], price[2])
                .record()
        };
        let (better, between, worse) = ([1.0, 1.5, 2.0], [1.5, 2.0, 3.6], [3.0, 3.5, 4.0]);
        let records = [
            of("a", better, worse, between),
            of("b", worse, between, better),
            of("c", between, better, worse),
            of("d", [9.0; 3], [9.0; 3], [9.0; 3]),
        ];
        assert!(dominates(&records[0], &records[1], &[]));
        assert!(dominates(&records[1], &records[2], &[]));
        assert!(dominates(&records[2], &records[0], &[]));
        assert_eq!(kept(&records), ["a", "b", "c"]);
    }

    #[test]
    fn fronts_of_random_records_keep_the_rules() {
        for seed in 0..200 {
            let records = random_records(seed, 24);
            let all: Vec<&Record> = records.iter().collect();
            let found = front(&all, &[]);
            assert!(found.iter().any(Vec::is_empty), "an empty front, seed {seed}");
            for (loser, by) in found.iter().enumerate() {
                for &winner in by {
                    assert!(found[winner].is_empty(), "lost to a loser, seed {seed}");
                    assert!(dominates(all[winner], all[loser], &[]), "seed {seed}");
                }
            }
            // In another order the same are kept.
            let back: Vec<&Record> = all.iter().rev().copied().collect();
            let mut again: Vec<bool> = front(&back, &[]).iter().map(Vec::is_empty).collect();
            again.reverse();
            let first: Vec<bool> = found.iter().map(Vec::is_empty).collect();
            assert_eq!(first, again, "the order decides, seed {seed}");
        }
    }
}
