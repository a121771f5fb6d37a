//! [`Record`]: its fields, its invariants, and views of its figures by name.

use crate::{ChipRow, Layer, Origin, Roof, Verdict};
use std::collections::BTreeMap;

use anychip_units::{
    Basis, Bytes, Figure, FlopsPerSecond, InstructionsPerSecond, Joules, PerSecond, PerUsDollar,
    Ratio, Seconds, SquareMillimeters, Style, TeraOperationsPerSecond, Unit, UsDollars,
    UsDollarsPerHour, Watts, format,
};
use serde::{Deserialize, Serialize};

/// The version of the serialized form. A change that an old reader would misread increases it.
pub const SCHEMA: u32 = 1;

/// What a record is the result of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The model's name, as people know it.
    pub model: String,
    /// The hash of the model's file.
    pub model_sha256: String,
    /// The chip's id in the catalog.
    pub chip: String,
    /// The software it runs with: `anychip`, `pytorch-compile`, …
    pub stack: String,
    /// The target that executed it; none for an estimate.
    pub target: Option<String>,
    /// Inferences in one run.
    pub batch: u64,
    /// The number format: `f32`, `f16`, `int8`, …
    pub dtype: String,
}

macro_rules! record {
    ($($(#[$doc:meta])* $variant:ident $field:ident: $unit:ident;)*) => {
        /// One model on one chip: the flat object that is serialized.
        ///
        /// Latencies are of one run of [`Record::batch`] inferences; throughput, energy and cost are of inferences.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Record {
            /// [`SCHEMA`].
            pub schema: u32,
            /// The model's name.
            pub model: String,
            /// The hash of the model's file.
            pub model_sha256: String,
            /// The chip's id in the catalog.
            pub chip: String,
            /// The software it runs with.
            pub stack: String,
            /// The target that executed it; none for an estimate.
            pub target: Option<String>,
            /// Inferences in one run.
            pub batch: u64,
            /// The number format.
            pub dtype: String,
            /// How requests arrive, for a bench: `single-stream`, `offline`, `server`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub scenario: Option<String>,
            /// Threads used, where that was chosen.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub threads: Option<u32>,
            /// How many chips share the model, where it is more than one; power and prices are of all of them.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub devices: Option<u32>,
            /// Whether the chip can run the model as it is.
            pub runs: bool,
            $(
                $(#[$doc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $field: Option<Figure<$unit>>,
            )*
            /// The chip's row of the catalog.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub chip_row: Option<ChipRow>,
            /// The chip's peak and bandwidth for the number format, where they are known.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub roof: Option<Roof>,
            /// Where the time of a run goes, when that was asked for.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub layers: Vec<Layer>,
            /// How the times of the layers came about.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub layers_source: Option<String>,
            /// The program and the machine that made the record.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub origin: Option<Origin>,
            /// Why each figure that is not here is not here, by field name.
            #[serde(default)]
            pub absent: BTreeMap<String, String>,
            /// Why the chip cannot run the model, if it cannot.
            pub why_not: Option<String>,
            /// What a choice among chips found of it.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub verdict: Option<Verdict>,
        }

        /// The figures of a record.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field {
            $($(#[$doc])* $variant,)*
        }

        impl Field {
            /// All of them, in serialized order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in the serialized form.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($field),)*
                }
            }

            /// What a unit of the serialized number is: the symbol, how it is written, and how many of what the symbol
            /// names it is.
            pub fn unit(self) -> (&'static str, Style, f64) {
                match self {
                    $(Self::$variant => ($unit::SYMBOL, $unit::STYLE, $unit::SCALE),)*
                }
            }
        }

        impl Record {
            /// A record of a model that runs, with no figures yet.
            pub fn new(key: Key) -> Self {
                let Key { model, model_sha256, chip, stack, target, batch, dtype } = key;
                Self {
                    schema: SCHEMA,
                    model,
                    model_sha256,
                    chip,
                    stack,
                    target,
                    batch,
                    dtype,
                    scenario: None,
                    threads: None,
                    devices: None,
                    runs: true,
                    $($field: None,)*
                    chip_row: None,
                    roof: None,
                    layers: Vec::new(),
                    layers_source: None,
                    origin: None,
                    absent: BTreeMap::new(),
                    why_not: None,
                    verdict: None,
                }
            }

            /// A figure by name, for tables.
            pub fn view(&self, field: Field) -> Option<View<'_>> {
                match field {
                    $(Field::$variant => self.$field.as_ref().map(View::of),)*
                }
            }
        }
    };
}

record! {
    /// Time of one run of the whole batch.
    Latency latency_s: Seconds;
    /// The latency that half of the runs stay below.
    LatencyP50 latency_p50_s: Seconds;
    /// The latency that nine of ten runs stay below.
    LatencyP90 latency_p90_s: Seconds;
    /// The latency that 99 of 100 runs stay below.
    LatencyP99 latency_p99_s: Seconds;
    /// Inferences a second.
    Throughput throughput_per_s: PerSecond;
    /// Floating-point operations a second achieved; a multiply-accumulate is two.
    Flops flops: FlopsPerSecond;
    /// Integer operations a second achieved, in tera: 1.5 is 1.5 TOP/s.
    Tops tops: TeraOperationsPerSecond;
    /// Machine instructions a second.
    Ips ips: InstructionsPerSecond;
    /// Achieved rate over the chip's peak for the number format.
    Utilization utilization: Ratio;
    /// Power while running.
    Power power_w: Watts;
    /// Energy of one inference.
    Energy energy_j: Joules;
    /// The most memory in use at once, weights and activations.
    PeakMemory peak_memory_bytes: Bytes;
    /// What buying the chip costs.
    Price price_usd: UsDollars;
    /// What renting it costs.
    PricePerHour price_usd_per_hour: UsDollarsPerHour;
    /// Inferences a dollar buys.
    ThroughputPerUsd throughput_per_usd: PerUsDollar;
    /// Silicon.
    Die die_mm2: SquareMillimeters;
    /// Board or module.
    Board board_mm2: SquareMillimeters;
    /// Share of right answers.
    Accuracy accuracy: Ratio;
}

impl Field {
    /// The field a serialized name stands for.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name() == name)
    }

    /// Whether it is a fact of the chip, which a chip that cannot run the model has too.
    pub fn is_of_the_chip(self) -> bool {
        matches!(self, Self::Price | Self::PricePerHour | Self::Die | Self::Board)
    }
}

/// A figure of any unit, ready to be written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View<'a> {
    /// The number, in the unit of its field.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How it came about.
    pub basis: Basis,
    /// Where it came from.
    pub source: &'a str,
    style: Style,
    symbol: &'static str,
    scale: f64,
}

impl<'a> View<'a> {
    fn of<U: Unit>(figure: &'a Figure<U>) -> Self {
        View {
            value: figure.value(),
            low: figure.low(),
            high: figure.high(),
            basis: figure.basis(),
            source: figure.source(),
            style: U::STYLE,
            symbol: U::SYMBOL,
            scale: U::SCALE,
        }
    }

    /// `1.23 ms`.
    pub fn text(&self) -> String {
        format::styled(self.value * self.scale, self.style, self.symbol)
    }

    /// `1.23 [1.10–1.40] ms`; as [`View::text`] where the interval is a point.
    pub fn text_with_interval(&self) -> String {
        let [value, low, high] =
            [self.value, self.low, self.high].map(|number| number * self.scale);
        format::styled_with_interval(value, low, high, self.style, self.symbol)
    }
}

impl Record {
    /// Whether its latency is an estimate that was never held against a measurement: a bound more than a prediction. The
    /// predictor says so in the source.
    pub fn is_unvalidated(&self) -> bool {
        let says =
            |source: &str| source.contains("unvalidated") || source.contains("not validated");
        self.latency_s.as_ref().is_some_and(|latency| says(latency.source()))
    }

    /// A record of a model the chip cannot run as it is. Facts of the chip may still be set.
    pub fn refused(key: Key, why_not: impl Into<String>) -> Self {
        Self { runs: false, why_not: Some(why_not.into()), ..Self::new(key) }
    }

    /// States why figures are absent. A figure that is there stays, and needs no reason.
    pub fn mark_absent(
        &mut self,
        fields: impl IntoIterator<Item = Field>,
        reason: impl Into<String>,
    ) {
        let reason = reason.into();
        for field in fields {
            if self.view(field).is_none() {
                self.absent.insert(field.name().to_owned(), reason.clone());
            }
        }
    }

    /// The figures that are neither there nor absent with a reason. A record of a model that runs is complete when
    /// there are none; one that does not run has its `why_not`.
    pub fn unexplained(&self) -> Vec<Field> {
        if !self.runs {
            return Vec::new();
        }
        let explained = |field: &Field| self.absent.contains_key(field.name());
        Field::ALL.iter().copied().filter(|f| self.view(*f).is_none() && !explained(f)).collect()
    }
}
