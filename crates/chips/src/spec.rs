//! [`Spec`]: one figure of a catalog row, with who stated it.

use std::marker::PhantomData;

use anychip_units::{Basis, Figure, FigureError, Style, Unit, format};
use serde::{Deserialize, Serialize};

/// One figure of a chip and who stated it.
///
/// In a file: `{ value = 312e12, source = "datasheet" }`, where the source is a key of the file's `[sources]` table;
/// once loaded, `source` is the text itself. A file has no way to say *measured*: somebody else's figure is
/// *estimated* here. Only code that read a clock on this machine calls [`Spec::measured`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound = "",
    expecting = "a figure, { value = NUMBER, source = \"KEY OF [sources]\" }"
)]
pub struct Spec<U: Unit> {
    /// The number, in `U`.
    pub value: f64,
    /// The lower end, where sources disagree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// The upper end, where sources disagree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// Who stated it.
    pub source: String,
    /// When it was stated, or looked up where that is unknown: `2026`, `2026-11` or
    /// `2026-11-22`. Prices must have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// What the number does not say by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    #[serde(skip, default = "stated")]
    basis: Basis,
    #[serde(skip)]
    unit: PhantomData<U>,
}

fn stated() -> Basis {
    Basis::Estimated
}

impl<U: Unit> Spec<U> {
    /// A figure taken from a document.
    pub fn stated(value: f64, source: impl Into<String>) -> Self {
        Self::new(value, source.into(), Basis::Estimated)
    }

    /// A figure read off a clock or meter on this machine.
    pub fn measured(value: f64, source: impl Into<String>) -> Self {
        Self::new(value, source.into(), Basis::Measured)
    }

    fn new(value: f64, source: String, basis: Basis) -> Self {
        let unit = PhantomData;
        Self { value, low: None, high: None, source, date: None, note: None, basis, unit }
    }

    /// The same with an interval.
    #[must_use]
    pub fn between(mut self, low: f64, high: f64) -> Self {
        (self.low, self.high) = (Some(low), Some(high));
        self
    }

    /// The same with a remark.
    #[must_use]
    pub fn noting(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// How it came about.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// As a figure for arithmetic. The checker has seen to it that a catalog row never fails here.
    pub fn figure(&self) -> Result<Figure<U>, FigureError> {
        let (low, high) = (self.low.unwrap_or(self.value), self.high.unwrap_or(self.value));
        match self.basis {
            Basis::Measured => Figure::measured_between(self.value, low, high, &self.source),
            Basis::Simulated | Basis::Estimated => {
                Figure::estimated(self.value, low, high, &self.source)
            }
        }
    }
}

/// One figure of a chip with its unit known at run time: a line of `anychip chips CHIP`.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it stands in the file, as `compute.peaks.f16.dense`.
    pub path: String,
    /// The number, interval and unit for people, as `312 TFLOP/s`.
    pub text: String,
    /// The bare number.
    pub value: f64,
    /// Measured here, or stated by somebody.
    pub basis: Basis,
    /// Who stated it.
    pub source: String,
    /// When.
    pub date: Option<String>,
    /// What the number does not say by itself.
    pub note: Option<String>,
}

/// A [`Spec`] of any unit, for walks over all the figures of a chip.
pub(crate) trait AnySpec {
    fn entry(&self, path: &str, symbol: Option<&str>) -> Entry;
    fn source_mut(&mut self) -> &mut String;
    /// What one of it is called, as `W`; empty for counts.
    fn symbol(&self) -> &'static str;
    /// What [`Spec::figure`] complains about.
    fn fault(&self) -> Option<FigureError>;
}

impl<U: Unit> AnySpec for Spec<U> {
    fn entry(&self, path: &str, symbol: Option<&str>) -> Entry {
        let (low, high) = (self.low.unwrap_or(self.value), self.high.unwrap_or(self.value));
        let text = match symbol {
            Some(symbol) => {
                format::styled_with_interval(self.value, low, high, Style::Prefixed, symbol)
            }
            None => format::quantity_with_interval::<U>(self.value, low, high),
        };
        Entry {
            path: path.to_owned(),
            text,
            value: self.value,
            basis: self.basis,
            source: self.source.clone(),
            date: self.date.clone(),
            note: self.note.clone(),
        }
    }

    fn source_mut(&mut self) -> &mut String {
        &mut self.source
    }

    fn symbol(&self) -> &'static str {
        U::SYMBOL
    }

    fn fault(&self) -> Option<FigureError> {
        self.figure().err().or_else(|| (self.value == 0.0).then_some(FigureError::Zero(U::SYMBOL)))
    }
}

/// What a walk over a chip's figures calls: the path, the unit's other name if it has one, the figure.
pub(crate) type See<'a> = &'a mut dyn FnMut(&str, Option<&str>, &mut dyn AnySpec);

/// A part of a chip that has figures.
pub(crate) trait Figures {
    /// Shows every figure to `see`, in reading order, with its path below `at`.
    fn each(&mut self, at: &str, see: See<'_>);
}

/// Shows the optional figures named, each under its field's name.
macro_rules! each_field {
    ($self:ident, $at:expr, $see:expr, $($field:ident),+ $(,)?) => {$(
        if let Some(spec) = &mut $self.$field {
            $see(&$crate::spec::join($at, stringify!($field)), None, spec);
        }
    )+};
}
pub(crate) use each_field;

/// `at.name`, or `name` at the top.
pub(crate) fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}
