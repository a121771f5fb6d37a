//! The units, as marker types: `Figure<Seconds>` cannot be added to `Figure<Watts>`.

use std::fmt::Debug;

/// How a number of some unit is written for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Any SI prefix: `312 TFLOP/s`, `23.6 pJ`.
    Prefixed,
    /// Prefixes below one only: `1.23 ms`, but `4,200 s`.
    SmallPrefixed,
    /// No prefix, thousands separated: `46,225 mm²`.
    Plain,
    /// A share of one, as percent: `43.1 %`.
    Percent,
    /// Money: `$3.93`, and the symbol is what follows the amount (`$3.93/h`).
    Dollars,
    /// A bare integer with nothing between the digits: `2020`.
    Bare,
}

/// A unit of measurement, known at compile time.
pub trait Unit: Debug + Clone + Copy + PartialEq + Send + Sync + 'static {
    /// What is written after the number.
    const SYMBOL: &'static str;
    /// How the number is written.
    const STYLE: Style;
    /// Whether zero can be a real value. Where it cannot, zero is refused: it would mean "unknown".
    const ZERO: bool;
    /// What one of this unit is in the unit that [`Unit::SYMBOL`] names (1 except for units stored in tera).
    const SCALE: f64 = 1.0;
}

macro_rules! units {
    ($($(#[$doc:meta])* $name:ident: $symbol:literal, $style:ident, zero $zero:literal $(, scale $scale:literal)?;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name;
        impl Unit for $name {
            const SYMBOL: &'static str = $symbol;
            const STYLE: Style = Style::$style;
            const ZERO: bool = $zero;
            $(const SCALE: f64 = $scale;)?
        }
    )*};
}

units! {
    /// Time, s.
    Seconds: "s", SmallPrefixed, zero false;
    /// Power, W.
    Watts: "W", Prefixed, zero false;
    /// Energy, J.
    Joules: "J", Prefixed, zero false;
    /// Money, US dollars.
    UsDollars: "", Dollars, zero false;
    /// Rent, US dollars an hour.
    UsDollarsPerHour: "/h", Dollars, zero false;
    /// What a dollar buys, 1/$.
    PerUsDollar: "/$", Prefixed, zero false;
    /// Area, mm².
    SquareMillimeters: "mm²", Plain, zero false;
    /// Length on silicon, nm.
    Nanometers: "nm", Plain, zero false;
    /// Memory, bytes (decimal prefixes: 80 GB is 80e9).
    Bytes: "B", Prefixed, zero false;
    /// Bandwidth, bytes a second.
    BytesPerSecond: "B/s", Prefixed, zero false;
    /// Arithmetic, operations; a multiply-accumulate counts as two.
    Operations: "OP", Prefixed, zero true;
    /// Arithmetic rate, operations a second.
    OperationsPerSecond: "OP/s", Prefixed, zero true;
    /// Floating-point arithmetic rate, operations a second.
    FlopsPerSecond: "FLOP/s", Prefixed, zero true;
    /// Arithmetic rate, tera-operations a second: the value 1.5 is 1.5 TOP/s.
    TeraOperationsPerSecond: "OP/s", Prefixed, zero true, scale 1e12;
    /// Machine instructions a second.
    InstructionsPerSecond: "IPS", Prefixed, zero false;
    /// Inferences (or other events) a second.
    PerSecond: "/s", Prefixed, zero false;
    /// Clock, Hz.
    Hertz: "Hz", Prefixed, zero false;
    /// A number of things.
    Count: "", Plain, zero true;
    /// A share or a quotient, 1 = all.
    Ratio: "%", Percent, zero true;
    /// A calendar year.
    Year: "", Bare, zero false;
}
