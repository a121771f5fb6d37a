//! Limits on figures, and whether a record keeps them.

use anychip_record::Record;
use anychip_units::format::significant;

use super::metric::Metric;

/// The most a figure may be, or the least for figures of which more is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// The figure.
    pub metric: Metric,
    /// In the unit of the figure: s, 1/s, 1/$, W, J, $, $/h, mm².
    pub bound: f64,
}

/// How a record keeps a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// The whole interval does.
    Meets,
    /// The value does, an end of the interval does not.
    MayBreak,
    /// The value does not, an end of the interval does.
    ProbablyBreaks,
    /// No point of the interval does.
    Breaks,
    /// The figure is not known.
    Unknown,
}

impl Limit {
    /// How a record keeps it.
    pub(super) fn fit(&self, record: &Record) -> Fit {
        let Some(view) = self.metric.of(record) else { return Fit::Unknown };
        let admits = |number: f64| {
            if self.metric.more_is_better() { number >= self.bound } else { number <= self.bound }
        };
        match (admits(view.value), admits(view.low), admits(view.high)) {
            (true, true, true) => Fit::Meets,
            (true, _, _) => Fit::MayBreak,
            (false, false, false) => Fit::Breaks,
            (false, _, _) => Fit::ProbablyBreaks,
        }
    }

    /// By which factor the value of a record is beyond the limit; at most 1 where it keeps it, none where it is not known.
    pub(super) fn excess(&self, record: &Record) -> Option<f64> {
        let value = self.metric.of(record)?.value;
        Some(if self.metric.more_is_better() { self.bound / value } else { value / self.bound })
    }

    /// `--max-power 15W`.
    pub(super) fn option(&self) -> String {
        format!("{} {}", self.metric.option(), self.metric.typed(self.bound))
    }

    /// What breaking it is called: `over --max-power 15W`.
    pub(super) fn broken(&self) -> String {
        let beyond = if self.metric.more_is_better() { "under" } else { "over" };
        format!("{beyond} {}", self.option())
    }

    /// `power 42.0 [21–70] W, 2.8 times that`: by how much a record breaks it.
    pub(super) fn broken_by(&self, record: &Record) -> String {
        let Some(view) = self.metric.of(record) else { return String::new() };
        let factor = self.excess(record).unwrap_or(1.0);
        let amount = match (factor >= 2.0, self.metric.more_is_better()) {
            (true, false) => format!("{} times that", significant(factor, 2)),
            (true, true) => format!("1/{} of that", significant(factor, 2)),
            (false, false) => format!("{:.0} % more", percent(factor - 1.0)),
            (false, true) => format!("{:.0} % less", percent(1.0 - 1.0 / factor)),
        };
        let but = if self.fit(record) == Fit::ProbablyBreaks { ", probably" } else { "" };
        format!("{} {}, {amount}{but}", self.metric.name(), view.text_with_interval())
    }
}

/// A share in percent that is never rounded to nothing.
fn percent(share: f64) -> f64 {
    (share * 100.0).max(1.0)
}
