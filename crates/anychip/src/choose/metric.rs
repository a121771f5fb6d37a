//! The figures that chips are chosen by, and how two of one kind compare.

use anychip_record::{Field, Record, View};
use anychip_units::{
    Joules, PerSecond, PerUsDollar, Seconds, SquareMillimeters, UsDollars, UsDollarsPerHour, Watts,
    format,
};

/// A figure that chips are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Time of one run of the batch, s.
    Latency,
    /// Inferences a second.
    Throughput,
    /// Inferences a dollar buys, rented where there is a rent, else bought.
    ThroughputPerDollar,
    /// Power while running, W.
    Power,
    /// Energy of one inference, J. It is power over throughput, so the front does not compare it again.
    Energy,
    /// What buying the chip costs, $.
    Price,
    /// What renting it costs, $/h.
    PricePerHour,
    /// Area of the board where it is known, else of the silicon, mm².
    Size,
}

/// How a chip compares with another in one figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// Its interval is wholly better.
    Better,
    /// Its interval is wholly worse.
    Worse,
    /// The intervals share a point and its value is not worse than the whole of the other's; or the two figures are of
    /// different things.
    Tie,
    /// The intervals share a point only because little is known of it: its value is worse than the whole of the other's.
    Behind,
    /// It does not know the figure and the other does.
    LacksIt,
    /// The other does not know it, or neither does.
    NoMatch,
}

impl Metric {
    /// All of them, in the order of messages.
    pub const ALL: [Self; 8] = [
        Self::Latency,
        Self::Throughput,
        Self::ThroughputPerDollar,
        Self::Power,
        Self::Energy,
        Self::Price,
        Self::PricePerHour,
        Self::Size,
    ];

    /// What the Pareto front is over.
    pub(super) const COMPARED: [Self; 7] = [
        Self::Latency,
        Self::Throughput,
        Self::ThroughputPerDollar,
        Self::Power,
        Self::Price,
        Self::PricePerHour,
        Self::Size,
    ];

    /// The word that commands use for it as a goal.
    pub fn word(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Throughput => "throughput",
            Self::ThroughputPerDollar => "throughput-per-dollar",
            Self::Power => "power",
            Self::Energy => "energy",
            Self::Price => "price",
            Self::PricePerHour => "price-per-hour",
            Self::Size => "size",
        }
    }

    /// From the word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.word() == word)
    }

    /// The name in sentences.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ThroughputPerDollar => "throughput per dollar",
            Self::PricePerHour => "price per hour",
            Self::Energy => "energy of an inference",
            Self::Latency | Self::Throughput | Self::Power | Self::Price | Self::Size => {
                self.word()
            }
        }
    }

    /// Whether more of it is better.
    pub(super) fn more_is_better(self) -> bool {
        matches!(self, Self::Throughput | Self::ThroughputPerDollar)
    }

    /// The figure of a record.
    pub(super) fn of(self, record: &Record) -> Option<View<'_>> {
        record.view(match self {
            Self::Latency => Field::Latency,
            Self::Throughput => Field::Throughput,
            Self::ThroughputPerDollar => Field::ThroughputPerUsd,
            Self::Power => Field::Power,
            Self::Energy => Field::Energy,
            Self::Price => Field::Price,
            Self::PricePerHour => Field::PricePerHour,
            Self::Size => return record.view(Field::Board).or(record.view(Field::Die)),
        })
    }

    /// The central value, negated where less is better, for sorting; what is not known is worst.
    pub(super) fn merit(self, record: &Record) -> f64 {
        let Some(view) = self.of(record) else { return f64::NEG_INFINITY };
        if self.more_is_better() { view.value } else { -view.value }
    }

    /// The figures of two records that say something of each other: boards with boards, else silicon with silicon.
    pub(super) fn pair<'a>(
        self,
        a: &'a Record,
        b: &'a Record,
    ) -> (Option<View<'a>>, Option<View<'a>>) {
        let of = |field: Field| (a.view(field), b.view(field));
        match (self, of(Field::Board), of(Field::Die)) {
            (Self::Size, boards @ (Some(_), Some(_)), _) => boards,
            (Self::Size, _, dies @ (Some(_), Some(_))) => dies,
            (_, _, _) => (self.of(a), self.of(b)),
        }
    }

    /// How `a` compares with `b`.
    pub(super) fn compare(self, a: &Record, b: &Record) -> Relation {
        let alike = |field: Field| a.view(field).is_some() && b.view(field).is_some();
        let (first, second) = match self.pair(a, b) {
            // A board and a die say nothing of each other.
            (Some(_), Some(_))
                if self == Self::Size && !alike(Field::Board) && !alike(Field::Die) =>
            {
                return Relation::Tie;
            }
            (Some(first), Some(second)) => (first, second),
            (None, Some(_)) => return Relation::LacksIt,
            (_, None) => return Relation::NoMatch,
        };
        let (a, b) = (first, second);
        let (above, below) = (a.low > b.high, a.high < b.low);
        let behind = if self.more_is_better() { a.value < b.low } else { a.value > b.high };
        match (above, below, self.more_is_better()) {
            (true, _, true) | (_, true, false) => Relation::Better,
            (true, _, false) | (_, true, true) => Relation::Worse,
            (false, false, _) if behind => Relation::Behind,
            (false, false, _) => Relation::Tie,
        }
    }

    /// The option that limits it.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::Latency => "--max-latency",
            Self::Throughput => "--min-throughput",
            Self::ThroughputPerDollar => "--min-throughput-per-dollar",
            Self::Power => "--max-power",
            Self::Energy => "--max-energy",
            Self::Price => "--max-price",
            Self::PricePerHour => "--max-price-per-hour",
            Self::Size => "--max-area",
        }
    }

    /// A value as tables show it.
    pub(super) fn shown(self, value: f64) -> String {
        match self {
            Self::Latency => format::quantity::<Seconds>(value),
            Self::Throughput => format::quantity::<PerSecond>(value),
            Self::ThroughputPerDollar => format::quantity::<PerUsDollar>(value),
            Self::Power => format::quantity::<Watts>(value),
            Self::Energy => format::quantity::<Joules>(value),
            Self::Price => format::quantity::<UsDollars>(value),
            Self::PricePerHour => format::quantity::<UsDollarsPerHour>(value),
            Self::Size => format::quantity::<SquareMillimeters>(value),
        }
    }

    /// A limit as one types it, on the side of `value` that still admits it: `42W`, `30500usd`.
    pub(super) fn typed(self, value: f64) -> String {
        let value = round_outward(value, !self.more_is_better());
        // What a shell takes for something else is spelled out.
        match self {
            Self::Price => format!("{value}usd"),
            Self::PricePerHour => format!("{value}usd/h"),
            Self::Size => format!("{value}mm2"),
            Self::Latency
            | Self::Throughput
            | Self::ThroughputPerDollar
            | Self::Power
            | Self::Energy => self.shown(value).replace([' ', ','], "").replace('$', "usd"),
        }
    }
}

/// To three digits, never the wrong way.
fn round_outward(value: f64, up: bool) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return value;
    }
    let step = 10f64.powi(value.log10().floor() as i32 - 2);
    // A value that has three digits already may divide into a hair more or less than a whole number.
    let steps = value / step;
    let whole = if up { (steps - 1e-9).ceil() } else { (steps + 1e-9).floor() };
    // By powers of ten that are whole, so that 0.0042 stays what it is.
    if step < 1.0 { whole / step.recip().round() } else { whole * step }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_as_typed_admits_the_value() {
        for value in [0.001_234_5, 41.96, 30_678.0, 0.0042, 199.96, 3.0, 1e-7 / 3.0] {
            let up = round_outward(value, true);
            let down = round_outward(value, false);
            assert!(up >= value * (1.0 - 1e-9) && up <= value * 1.011, "{value} up to {up}");
            assert!(down <= value * (1.0 + 1e-9) && down >= value * 0.989, "{value} to {down}");
        }
        assert_eq!(Metric::Power.typed(41.96), "42W");
        assert_eq!(Metric::Latency.typed(0.001_231), "1.24ms");
        assert_eq!(Metric::Throughput.typed(1239.0), "1.23k/s");
        assert_eq!(Metric::Price.typed(30_678.0), "30700usd");
        assert_eq!(Metric::PricePerHour.typed(0.4501), "0.451usd/h");
        let read = anychip_units::parse::<UsDollarsPerHour>;
        assert_eq!(read(&Metric::PricePerHour.typed(0.4501)), Ok(0.451));
        assert_eq!(anychip_units::parse::<PerSecond>("1.23k/s"), Ok(1230.0));
    }

    #[test]
    fn sizes_are_compared_like_with_like() {
        use super::super::example::Example;
        let of = |board, die| Example::new("chip").size(board, die).record();
        let compare = |a: (Option<f64>, Option<f64>), b: (Option<f64>, Option<f64>)| {
            Metric::Size.compare(&of(a.0, a.1), &of(b.0, b.1))
        };
        let (small, large) = (Some(100.0), Some(400.0));
        assert_eq!(compare((large, small), (small, large)), Relation::Worse, "boards first");
        assert_eq!(compare((None, small), (small, large)), Relation::Better, "else silicon");
        assert_eq!(compare((None, small), (large, None)), Relation::Tie, "a die and a board");
        assert_eq!(compare((None, None), (large, None)), Relation::LacksIt);
        assert_eq!(compare((None, small), (None, None)), Relation::NoMatch);
    }

    #[test]
    fn words_and_metrics_are_one_to_one() {
        for metric in Metric::ALL {
            assert_eq!(Metric::from_word(metric.word()), Some(metric));
        }
        assert_eq!(Metric::from_word("speed"), None);
    }
}
