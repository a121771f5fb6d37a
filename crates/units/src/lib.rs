//! Quantities with units, and [`Figure`]: a value with its interval, its basis and its source.
//!
//! Everything anychip prints about speed, energy, area or price is a [`Figure`]. The unit is in the type, the
//! evidence is in the value, and arithmetic carries both along: a sum is as weak as its weakest part.
//!
//! ```
//! use anychip_units::{Basis, Figure, Seconds, Watts};
//! let power: Figure<Watts> = Figure::estimated(300.0, 250.0, 350.0, "board power, data sheet")?;
//! let latency: Figure<Seconds> = Figure::measured(0.002, "stopwatch")?;
//! let energy = power.times(&latency)?;
//! assert_eq!(energy.basis(), Basis::Estimated);
//! assert_eq!(energy.to_string(), "600 [500–700] mJ");
//! # Ok::<(), anychip_units::FigureError>(())
//! ```

mod basis;
mod figure;
pub mod format;
mod parse;
mod relations;
mod unit;

pub use basis::Basis;
pub use figure::{Figure, FigureError};
pub use parse::{ParseError, parse};
pub use relations::{Per, Times};
pub use unit::{
    Bytes, BytesPerSecond, Count, FlopsPerSecond, Hertz, InstructionsPerSecond, Joules, Nanometers,
    Operations, OperationsPerSecond, PerSecond, PerUsDollar, Ratio, Seconds, SquareMillimeters,
    Style, TeraOperationsPerSecond, Unit, UsDollars, UsDollarsPerHour, Watts, Year,
};
