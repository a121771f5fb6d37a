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
    /// How else people write the unit; prefixes go before it as before [`Unit::SYMBOL`].
    const SPELLINGS: &'static [&'static str];
    /// A quantity as people write it, for messages: `10ms`.
    const EXAMPLE: &'static str;
    /// What one of this unit is in the unit that [`Unit::SYMBOL`] names (1 except for units stored in tera).
    const SCALE: f64 = 1.0;
}

macro_rules! units {
    ($($(#[$doc:meta])* $name:ident: $symbol:literal, $style:ident, zero $zero:literal, as $example:literal
        $(, or $($also:literal)|+)? $(, scale $scale:literal)?;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name;
        impl Unit for $name {
            const SYMBOL: &'static str = $symbol;
            const STYLE: Style = Style::$style;
            const ZERO: bool = $zero;
            const SPELLINGS: &'static [&'static str] = &[$($($also),+)?];
            const EXAMPLE: &'static str = $example;
            $(const SCALE: f64 = $scale;)?
        }
    )*};
}

units! {
    /// Time, s.
    Seconds: "s", SmallPrefixed, zero false, as "10ms", or "sec";
    /// Power, W.
    Watts: "W", Prefixed, zero false, as "15W", or "watt" | "watts";
    /// Energy, J.
    Joules: "J", Prefixed, zero false, as "3mJ";
    /// Money, US dollars.
    UsDollars: "", Dollars, zero false, as "500usd", or "usd" | "$" | "dollars";
    /// Rent, US dollars an hour.
    UsDollarsPerHour: "/h", Dollars, zero false, as "2usd/h", or "usd/h" | "$/h" | "usd/hour";
    /// What a dollar buys, 1/$.
    PerUsDollar: "/$", Prefixed, zero false, as "100k/usd", or "/usd";
    /// Area, mm².
    SquareMillimeters: "mm²", Plain, zero false, as "100mm2", or "mm2" | "mm^2";
    /// Length on silicon, nm.
    Nanometers: "nm", Plain, zero false, as "7nm";
    /// Memory, bytes (decimal prefixes: 80 GB is 80e9).
    Bytes: "B", Prefixed, zero false, as "40GB";
    /// Bandwidth, bytes a second.
    BytesPerSecond: "B/s", Prefixed, zero false, as "900GB/s", or "Bps";
    /// Arithmetic, operations; a multiply-accumulate counts as two.
    Operations: "OP", Prefixed, zero true, as "4GOP", or "FLOP" | "OPS" | "FLOPS";
    /// Arithmetic rate, operations a second.
    OperationsPerSecond: "OP/s", Prefixed, zero true, as "100TOPS", or "FLOP/s" | "OPS" | "FLOPS";
    /// Floating-point arithmetic rate, operations a second.
    FlopsPerSecond: "FLOP/s", Prefixed, zero true, as "100TFLOPS", or "FLOPS";
    /// Arithmetic rate, tera-operations a second: the value 1.5 is 1.5 TOP/s.
    TeraOperationsPerSecond: "OP/s", Prefixed, zero true, as "100TOPS", or "OPS", scale 1e12;
    /// Machine instructions a second.
    InstructionsPerSecond: "IPS", Prefixed, zero false, as "2GIPS";
    /// Inferences (or other events) a second.
    PerSecond: "/s", Prefixed, zero false, as "200/s", or "per second";
    /// Clock, Hz.
    Hertz: "Hz", Prefixed, zero false, as "1.4GHz";
    /// A number of things.
    Count: "", Plain, zero true, as "4096";
    /// A share or a quotient, 1 = all.
    Ratio: "%", Percent, zero true, as "50%";
    /// A calendar year.
    Year: "", Bare, zero false, as "2020";
}
