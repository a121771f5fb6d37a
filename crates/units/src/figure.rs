//! [`Figure`]: the one way anychip states a number.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    Basis,
    format::quantity_with_interval,
    relations::{Per, Times},
    unit::{PerSecond, Ratio, Seconds, Unit},
};

/// A number with its interval, basis and source. The unit is the type parameter.
///
/// Always `low <= value <= high`, all finite and not negative, and the source is never empty. Fields are private, so
/// no figure can be edited into a stronger basis: [`Figure::measured`] is for whoever held the stopwatch.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure<U: Unit> {
    value: f64,
    low: f64,
    high: f64,
    basis: Basis,
    source: String,
    unit: PhantomData<U>,
}

/// Why a number is not a figure.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum FigureError {
    /// NaN or infinite, or an operation on figures overflowed or divided by zero.
    #[error("a figure must be finite, this is {0}")]
    NotFinite(f64),
    /// Negative.
    #[error("a figure must not be negative, this is {0}")]
    Negative(f64),
    /// Zero in a unit where zero only ever means "unknown".
    #[error("zero {0} is not a figure: what is unknown is left out")]
    Zero(&'static str),
    /// `low <= value <= high` does not hold.
    #[error("the interval [{low}, {high}] does not contain {value}")]
    Interval {
        /// The value.
        value: f64,
        /// The lower end.
        low: f64,
        /// The upper end.
        high: f64,
    },
    /// No source.
    #[error("a figure needs a source")]
    NoSource,
}

/// What separates the parts of a source made from several.
const SEPARATOR: &str = "; ";

impl<U: Unit> Figure<U> {
    /// Read off a clock or a meter while the real device ran.
    pub fn measured(value: f64, source: impl Into<String>) -> Result<Self, FigureError> {
        Self::new(value, value, value, Basis::Measured, source.into())
    }

    /// As [`Figure::measured`], with the spread that was seen.
    pub fn measured_between(
        value: f64,
        low: f64,
        high: f64,
        source: impl Into<String>,
    ) -> Result<Self, FigureError> {
        Self::new(value, low, high, Basis::Measured, source.into())
    }

    /// Counted by a simulator that executed the compiled program.
    pub fn simulated(value: f64, source: impl Into<String>) -> Result<Self, FigureError> {
        Self::new(value, value, value, Basis::Simulated, source.into())
    }

    /// Computed from the graph and the catalog; the interval is where the truth is expected.
    pub fn estimated(
        value: f64,
        low: f64,
        high: f64,
        source: impl Into<String>,
    ) -> Result<Self, FigureError> {
        Self::new(value, low, high, Basis::Estimated, source.into())
    }

    /// Taken from a document: a data sheet, a price list. Nobody here observed it, so it is an estimate.
    pub fn stated(value: f64, source: impl Into<String>) -> Result<Self, FigureError> {
        Self::new(value, value, value, Basis::Estimated, source.into())
    }

    fn new(
        value: f64,
        low: f64,
        high: f64,
        basis: Basis,
        source: String,
    ) -> Result<Self, FigureError> {
        for number in [value, low, high] {
            if !number.is_finite() {
                return Err(FigureError::NotFinite(number));
            }
            if number < 0.0 {
                return Err(FigureError::Negative(number));
            }
        }
        if !U::ZERO && value == 0.0 {
            return Err(FigureError::Zero(
                std::any::type_name::<U>().rsplit("::").next().unwrap_or(""),
            ));
        }
        if !(low <= value && value <= high) {
            return Err(FigureError::Interval { value, low, high });
        }
        if source.trim().is_empty() {
            return Err(FigureError::NoSource);
        }
        Ok(Self { value, low, high, basis, source, unit: PhantomData })
    }

    /// The number, in the unit `U`.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The lower end of the interval.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// The upper end of the interval.
    pub fn high(&self) -> f64 {
        self.high
    }

    /// How it came about.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// Where it came from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The same number on a basis at least as weak as `basis`. There is no way to strengthen one.
    #[must_use]
    pub fn weakened_to(mut self, basis: Basis) -> Self {
        self.basis = self.basis.weakest(basis);
        self
    }

    /// The same number with one more part in its source.
    #[must_use]
    pub fn noting(mut self, source: &str) -> Self {
        self.source = merge_sources(&self.source, source);
        self
    }

    /// The sum; intervals add end to end, as if all errors had the same sign.
    pub fn plus(&self, other: &Self) -> Result<Self, FigureError> {
        self.combine(other, self.value + other.value, self.low + other.low, self.high + other.high)
    }

    /// The sum of several figures; `None` if there are none.
    pub fn sum<'a>(
        figures: impl IntoIterator<Item = &'a Self>,
    ) -> Result<Option<Self>, FigureError> {
        let mut total: Option<Self> = None;
        for figure in figures {
            total = Some(match total {
                Some(so_far) => so_far.plus(figure)?,
                None => figure.clone(),
            });
        }
        Ok(total)
    }

    /// `factor` times this; the factor is exact and not negative.
    pub fn scale(&self, factor: f64) -> Result<Self, FigureError> {
        let source = self.source.clone();
        Self::new(self.value * factor, self.low * factor, self.high * factor, self.basis, source)
    }

    /// The product, in the unit that `U × V` makes.
    pub fn times<V: Unit>(&self, other: &Figure<V>) -> Result<Figure<U::Output>, FigureError>
    where
        U: Times<V>,
    {
        self.combine(other, self.value * other.value, self.low * other.low, self.high * other.high)
    }

    /// The quotient, in the unit that `U / V` makes. A divisor whose interval reaches zero is refused.
    pub fn per<V: Unit>(&self, other: &Figure<V>) -> Result<Figure<U::Output>, FigureError>
    where
        U: Per<V>,
    {
        let factor = <U as Per<V>>::FACTOR;
        self.combine(
            other,
            factor * self.value / other.value,
            factor * self.low / other.high,
            factor * self.high / other.low,
        )
    }

    /// This over another of the same unit.
    pub fn ratio(&self, other: &Self) -> Result<Figure<Ratio>, FigureError> {
        self.combine(other, self.value / other.value, self.low / other.high, self.high / other.low)
    }

    /// The same quantity in another unit: `factor` is what one `U` is in `V`.
    pub fn convert<V: Unit>(&self, factor: f64) -> Result<Figure<V>, FigureError> {
        let source = self.source.clone();
        Figure::new(self.value * factor, self.low * factor, self.high * factor, self.basis, source)
    }

    fn combine<V: Unit, W: Unit>(
        &self,
        other: &Figure<V>,
        value: f64,
        low: f64,
        high: f64,
    ) -> Result<Figure<W>, FigureError> {
        let source = merge_sources(&self.source, &other.source);
        Figure::new(value, low, high, self.basis.weakest(other.basis), source)
    }
}

impl Figure<Seconds> {
    /// How often something happens of which `count` take this long together: `count / self`.
    pub fn rate(&self, count: f64) -> Result<Figure<PerSecond>, FigureError> {
        let source = self.source.clone();
        Figure::new(count / self.value, count / self.high, count / self.low, self.basis, source)
    }
}

/// Both sources, each part once: a sum over a hundred nodes from one predictor still has one source.
fn merge_sources(a: &str, b: &str) -> String {
    let mut merged = a.to_owned();
    for part in b.split(SEPARATOR) {
        if !merged.split(SEPARATOR).any(|known| known == part) {
            merged.push_str(SEPARATOR);
            merged.push_str(part);
        }
    }
    merged
}

/// `0.61 [0.50–0.74] ms`; the interval only where there is one.
impl<U: Unit> std::fmt::Display for Figure<U> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&quantity_with_interval::<U>(self.value, self.low, self.high))
    }
}

/// The serialized form. The unit is not in it: the name of the field that holds the figure carries it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain<S> {
    value: f64,
    low: f64,
    high: f64,
    basis: Basis,
    source: S,
}

impl<U: Unit> Serialize for Figure<U> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Self { value, low, high, basis, .. } = self;
        Plain { value, low, high, basis, source: self.source.as_str() }.serialize(serializer)
    }
}

impl<'de, U: Unit> Deserialize<'de> for Figure<U> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Plain::<String> { value, low, high, basis, source } = Plain::deserialize(deserializer)?;
        Self::new(value, low, high, basis, source).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::{Count, Joules, PerUsDollar, Seconds, UsDollarsPerHour, Watts};

    fn seconds(value: f64) -> Figure<Seconds> {
        Figure::measured(value, "clock").unwrap()
    }

    #[test]
    fn what_is_unknown_cannot_be_a_figure() {
        let source = "s";
        assert!(matches!(
            Figure::<Seconds>::measured(f64::NAN, source),
            Err(FigureError::NotFinite(_))
        ));
        assert!(matches!(
            Figure::<Seconds>::measured(f64::INFINITY, source),
            Err(FigureError::NotFinite(_))
        ));
        assert_eq!(Figure::<Seconds>::measured(0.0, source), Err(FigureError::Zero("Seconds")));
        assert_eq!(Figure::<Watts>::stated(-1.0, source), Err(FigureError::Negative(-1.0)));
        assert_eq!(Figure::<Watts>::stated(1.0, " "), Err(FigureError::NoSource));
        assert!(matches!(
            Figure::<Watts>::estimated(5.0, 6.0, 7.0, source),
            Err(FigureError::Interval { .. })
        ));
        assert!(
            Figure::<Count>::measured(0.0, source).is_ok(),
            "zero of something counted is real"
        );
    }

    #[test]
    fn arithmetic_carries_interval_basis_and_source() {
        let power = Figure::<Watts>::estimated(100.0, 80.0, 120.0, "data sheet").unwrap();
        let energy: Figure<Joules> = power.times(&seconds(2.0)).unwrap();
        assert_eq!((energy.value(), energy.low(), energy.high()), (200.0, 160.0, 240.0));
        assert_eq!(energy.basis(), Basis::Estimated);
        assert_eq!(energy.source(), "data sheet; clock");

        let simulated = Figure::<Seconds>::simulated(1.0, "cycles").unwrap();
        let sum = simulated.plus(&seconds(2.0)).unwrap();
        assert_eq!((sum.value(), sum.basis()), (3.0, Basis::Simulated));

        let back: Figure<Watts> = energy.per(&seconds(2.0)).unwrap();
        assert_eq!((back.value(), back.low(), back.high()), (100.0, 80.0, 120.0));
        assert_eq!(back.source(), "data sheet; clock", "no part twice");
    }

    #[test]
    fn division_widens_and_refuses_zero() {
        let a = Figure::<Seconds>::estimated(2.0, 1.0, 4.0, "a").unwrap();
        let ratio = a.ratio(&a).unwrap();
        assert_eq!((ratio.value(), ratio.low(), ratio.high()), (1.0, 0.25, 4.0));
        let touching_zero = Figure::<Seconds>::estimated(2.0, 0.0, 4.0, "b").unwrap();
        assert!(matches!(a.ratio(&touching_zero), Err(FigureError::NotFinite(_))));
        assert!(matches!(a.scale(f64::NAN), Err(FigureError::NotFinite(_))));
        assert!(
            matches!(a.scale(f64::MAX), Err(FigureError::NotFinite(_))),
            "overflow is not a number either"
        );
    }

    #[test]
    fn a_dollar_an_hour_buys_3600_seconds() {
        let count = Figure::<Count>::measured(50.0, "n").unwrap();
        let throughput = count.per(&seconds(1.0)).unwrap();
        let rent = Figure::<UsDollarsPerHour>::stated(2.0, "list").unwrap();
        let per_dollar: Figure<PerUsDollar> = throughput.per(&rent).unwrap();
        assert_eq!(per_dollar.value(), 90_000.0);
    }

    #[test]
    fn the_slowest_time_makes_the_lowest_rate() {
        let latency = Figure::<Seconds>::estimated(0.5, 0.25, 1.0, "model").unwrap();
        let rate = latency.rate(8.0).unwrap();
        assert_eq!((rate.value(), rate.low(), rate.high()), (16.0, 8.0, 32.0));
        assert_eq!(rate.basis(), Basis::Estimated);
    }

    #[test]
    fn a_basis_only_ever_weakens() {
        let simulated = Figure::<Seconds>::simulated(1.0, "cycles").unwrap();
        assert_eq!(simulated.clone().weakened_to(Basis::Measured).basis(), Basis::Simulated);
        assert_eq!(simulated.weakened_to(Basis::Estimated).basis(), Basis::Estimated);
    }

    #[test]
    fn sums_of_many_parts() {
        assert_eq!(Figure::<Seconds>::sum([]).unwrap(), None);
        let parts = vec![seconds(1.0), seconds(2.0), seconds(4.0)];
        let total = Figure::sum(&parts).unwrap().unwrap();
        assert_eq!((total.value(), total.source()), (7.0, "clock"));
    }

    #[test]
    fn serialized_as_five_flat_fields_and_checked_when_read() {
        let figure = Figure::<Seconds>::estimated(0.00061, 0.0005, 0.00074, "predict/gpu").unwrap();
        let json = serde_json::to_string(&figure).unwrap();
        assert_eq!(
            json,
            r#"{"value":0.00061,"low":0.0005,"high":0.00074,"basis":"estimated","source":"predict/gpu"}"#
        );
        assert_eq!(serde_json::from_str::<Figure<Seconds>>(&json).unwrap(), figure);
        for bad in [
            r#"{"value":2,"low":3,"high":4,"basis":"estimated","source":"x"}"#,
            r#"{"value":0,"low":0,"high":0,"basis":"measured","source":"x"}"#,
            r#"{"value":1,"low":1,"high":1,"basis":"measured","source":""}"#,
            r#"{"value":1,"low":1,"high":1,"basis":"guessed","source":"x"}"#,
            r#"{"value":1,"low":1,"high":1,"basis":"measured"}"#,
            r#"{"value":1,"low":1,"high":1,"basis":"measured","source":"x","unit":"s"}"#,
        ] {
            assert!(serde_json::from_str::<Figure<Seconds>>(bad).is_err(), "{bad}");
        }
    }
}
