//! When no chip keeps all limits: which to relax, to what, and which chip then keeps them.

use std::fmt;

use anychip_record::Record;

use super::limit::{Fit, Limit};
use super::metric::Metric;

/// Limits to be relaxed together, and what then keeps all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Relaxation {
    /// Each limit with the value that it needs.
    pub limits: Vec<Limit>,
    /// The chip that keeps all limits then.
    pub chip: String,
    /// Inferences in one of its runs.
    pub batch: u64,
    /// The number format of its arithmetic.
    pub dtype: String,
    /// By which factors together the limits are moved.
    pub factor: f64,
}

/// No chip keeps the limits.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub struct NothingMeets {
    /// What was asked for.
    pub limits: Vec<Limit>,
    /// How many chips can run the model.
    pub chips: usize,
    /// The smallest relaxation of each single limit that is enough, the smallest first; where no single one is,
    /// the fewest and smallest together.
    pub relaxations: Vec<Relaxation>,
    /// Figures that limits are about and that some chip which breaks no other limit does not know, and how many such chips.
    pub unknown: Vec<(Metric, usize)>,
}

impl NothingMeets {
    /// Finds what to relax. `records` are those that run the model.
    pub(super) fn of(records: &[&Record], limits: &[Limit]) -> Self {
        let mut chips: Vec<&str> = records.iter().map(|record| record.chip.as_str()).collect();
        chips.sort_unstable();
        chips.dedup();
        let mut found: Vec<Relaxation> =
            records.iter().filter_map(|record| relaxation(record, limits)).collect();
        found.sort_by(|a, b| {
            let fewest = a.limits.len().cmp(&b.limits.len());
            fewest.then(a.factor.total_cmp(&b.factor)).then_with(|| a.chip.cmp(&b.chip))
        });
        let fewest = found.first().map_or(0, |first| first.limits.len());
        let mut relaxations: Vec<Relaxation> = Vec::new();
        for one in found.into_iter().filter(|one| one.limits.len() == fewest) {
            let same = |kept: &Relaxation| {
                kept.limits.iter().zip(&one.limits).all(|(a, b)| a.metric == b.metric)
            };
            let room = fewest == 1 || relaxations.is_empty();
            if room && !relaxations.iter().any(same) {
                relaxations.push(one);
            }
        }
        Self {
            limits: limits.to_vec(),
            chips: chips.len(),
            relaxations,
            unknown: unknown(records, limits),
        }
    }
}

/// What a record needs; none where a figure is not known.
fn relaxation(record: &Record, limits: &[Limit]) -> Option<Relaxation> {
    let mut needed = Vec::new();
    let mut factor = 1.0;
    for limit in limits {
        let excess = limit.excess(record)?;
        if excess > 1.0 {
            let bound = limit.metric.of(record)?.value;
            needed.push(Limit { metric: limit.metric, bound });
            factor *= excess;
        }
    }
    (!needed.is_empty()).then(|| Relaxation {
        limits: needed,
        chip: record.chip.clone(),
        batch: record.batch,
        dtype: record.dtype.clone(),
        factor,
    })
}

/// For each limited figure, the chips that lack it and break nothing else.
fn unknown(records: &[&Record], limits: &[Limit]) -> Vec<(Metric, usize)> {
    let mut found = Vec::new();
    for limit in limits {
        let mut chips: Vec<&str> = records
            .iter()
            .filter(|record| {
                limits.iter().all(|other| match other.fit(record) {
                    Fit::Unknown => other.metric == limit.metric,
                    Fit::Meets | Fit::MayBreak => other.metric != limit.metric,
                    Fit::ProbablyBreaks | Fit::Breaks => false,
                })
            })
            .map(|record| record.chip.as_str())
            .collect();
        chips.sort_unstable();
        chips.dedup();
        if !chips.is_empty() {
            found.push((limit.metric, chips.len()));
        }
    }
    found
}

impl fmt::Display for NothingMeets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits: Vec<String> = self.limits.iter().map(Limit::option).collect();
        let all = if limits.len() == 1 { "keeps" } else { "keeps all of" };
        let (are, can) = if self.chips == 1 { ("", "that can") } else { ("s", "that can") };
        write!(
            out,
            "none of the {} chip{are} {can} run the model {all} {}",
            self.chips,
            limits.join(" ")
        )?;
        for (index, one) in self.relaxations.iter().enumerate() {
            let lead = if index == 0 { "help:" } else { "  or:" };
            let options: Vec<String> = one.limits.iter().map(Limit::option).collect();
            let reached: Vec<String> =
                one.limits.iter().map(|limit| limit.metric.shown(limit.bound)).collect();
            write!(
                out,
                "\n  {lead} {}, which {} meets ({}, batch {}, {})",
                options.join(" "),
                one.chip,
                reached.join(", "),
                one.batch,
                one.dtype
            )?;
        }
        for (metric, count) in &self.unknown {
            let (chips, their) =
                if *count == 1 { ("chip keeps", "its") } else { ("chips keep", "their") };
            write!(
                out,
                "\n  note: {count} {chips} the rest, but {their} {} is not known",
                metric.name()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::Example;
    use super::*;

    fn at(metric: Metric, bound: f64) -> Limit {
        Limit { metric, bound }
    }

    #[test]
    fn the_smallest_single_relaxation_of_each_limit_is_found() {
        let records = [
            Example::new("hot").latency(0.008, 0.007, 0.009).power(30.0, 25.0, 35.0).record(),
            Example::new("hotter").latency(0.004, 0.004, 0.004).power(70.0, 60.0, 80.0).record(),
            Example::new("slow").latency(0.011, 0.010, 0.012).power(10.0, 9.0, 11.0).record(),
            Example::new("unpowered").latency(0.001, 0.001, 0.001).record(),
        ];
        let all: Vec<&Record> = records.iter().collect();
        let limits = [at(Metric::Latency, 0.010), at(Metric::Power, 15.0)];
        let found = NothingMeets::of(&all, &limits);
        let chips: Vec<&str> = found.relaxations.iter().map(|r| r.chip.as_str()).collect();
        assert_eq!(chips, ["slow", "hot"], "10 % of latency is less than twice the power");
        assert_eq!(found.unknown, [(Metric::Power, 1)]);
        let text = found.to_string();
        assert!(text.starts_with("none of the 4 chips"), "{text}");
        assert!(text.contains("help: --max-latency 11ms, which slow meets"), "{text}");
        assert!(text.contains("  or: --max-power 30W, which hot meets"), "{text}");
        assert!(text.contains("note: 1 chip keeps the rest, but its power is not known"), "{text}");
    }

    #[test]
    fn where_no_single_limit_is_enough_the_fewest_are_named_together() {
        let records = [
            Example::new("a").latency(0.020, 0.020, 0.020).power(30.0, 30.0, 30.0).record(),
            Example::new("b").latency(0.040, 0.040, 0.040).power(20.0, 20.0, 20.0).record(),
        ];
        let all: Vec<&Record> = records.iter().collect();
        let limits = [at(Metric::Latency, 0.010), at(Metric::Power, 15.0)];
        let found = NothingMeets::of(&all, &limits);
        assert_eq!(found.relaxations.len(), 1);
        assert_eq!(found.relaxations[0].chip, "a", "2 × 2 is less than 4 × 4/3");
        assert!(found.to_string().contains("--max-latency 20ms --max-power 30W, which a meets"));
    }

    #[test]
    fn a_relaxed_limit_is_kept_by_the_chip_it_was_made_for() {
        let record = Example::new("odd").latency(0.010_000_1 / 3.0, 0.003, 0.004).record();
        let limits = [at(Metric::Latency, 0.001)];
        let found = NothingMeets::of(&[&record], &limits);
        let typed =
            found.relaxations[0].limits[0].metric.typed(found.relaxations[0].limits[0].bound);
        let bound = anychip_units::parse::<anychip_units::Seconds>(&typed).expect("is a time");
        assert!(bound < 0.0034);
        assert_eq!(at(Metric::Latency, bound).fit(&record), Fit::MayBreak);
    }
}
