//! Which units multiply and divide into which: the whole table.

use crate::unit::{
    Bytes, BytesPerSecond, Count, Joules, Operations, OperationsPerSecond, PerSecond, PerUsDollar,
    Seconds, Unit, UsDollarsPerHour, Watts,
};

/// `Self × Other = Output`.
pub trait Times<Other: Unit>: Unit {
    /// The unit of the product.
    type Output: Unit;
}

/// `Self / Other = FACTOR · Output`.
pub trait Per<Other: Unit>: Unit {
    /// The unit of the quotient.
    type Output: Unit;
    /// What the bare quotient of the two values is multiplied by.
    const FACTOR: f64 = 1.0;
}

macro_rules! relations {
    ($($a:ident * $b:ident = $c:ident;)*) => {$(
        impl Times<$b> for $a { type Output = $c; }
        impl Times<$a> for $b { type Output = $c; }
        impl Per<$a> for $c { type Output = $b; }
        impl Per<$b> for $c { type Output = $a; }
    )*};
}

relations! {
    Watts * Seconds = Joules;
    OperationsPerSecond * Seconds = Operations;
    BytesPerSecond * Seconds = Bytes;
    PerSecond * Seconds = Count;
    Joules * PerSecond = Watts;
}

/// 1/s over $/h: an hour has 3600 seconds.
impl Per<UsDollarsPerHour> for PerSecond {
    type Output = PerUsDollar;
    const FACTOR: f64 = 3600.0;
}
