//! A named model: how it is built and what is published about it.

use anychip_tensor::DType;

use crate::net::{Made, Net, Outputs};
use crate::settings::Settings;

/// Builds a model into a graph.
pub(crate) type Recipe = fn(&mut Net, &mut Settings) -> Made<Outputs>;

/// A count that somebody published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Published {
    /// To the last one.
    Exact(u64),
    /// Rounded; [`Published::agrees`] allows 1 %.
    Rounded(f64),
    /// Nobody says.
    Unknown,
}

impl Published {
    /// Whether a count is what was published; `None` where nothing was.
    pub fn agrees(self, count: f64) -> Option<bool> {
        match self {
            Published::Exact(n) => Some(n as f64 == count),
            Published::Rounded(value) => Some((count / value - 1.0).abs() <= 0.01),
            Published::Unknown => None,
        }
    }
}

/// One named model.
pub struct Row {
    /// The name after `zoo:`.
    pub name: &'static str,
    /// Other names it is known by.
    pub aliases: &'static [&'static str],
    /// Trained numbers.
    pub parameters: Published,
    /// Multiply-accumulates of one inference.
    pub macs: Published,
    /// The settings that `macs` holds for, as they are written after the name.
    pub macs_at: &'static str,
    /// Who published the counts.
    pub source: &'static str,
    /// The type that the published weights have.
    pub(crate) dtype: DType,
    pub(crate) build: Recipe,
}

/// Where torchvision says how many parameters its models have, and how many operations (which are multiply-accumulates).
const TORCHVISION: &str = "torchvision 0.21, `num_params` and `_ops` of the model's weights";

/// An image classifier of torchvision; its underscores are dashes here.
pub(crate) const fn torchvision(
    name: &'static str,
    parameters: u64,
    macs: f64,
    build: Recipe,
) -> Row {
    Row {
        name,
        aliases: &[],
        parameters: Published::Exact(parameters),
        macs: Published::Rounded(macs),
        macs_at: "",
        source: TORCHVISION,
        dtype: DType::F32,
        build,
    }
}

/// A model of the Hugging Face hub, whose weights say how many there are.
pub(crate) const fn hub(
    name: &'static str,
    aliases: &'static [&'static str],
    parameters: u64,
    dtype: DType,
    build: Recipe,
) -> Row {
    Row {
        name,
        aliases,
        parameters: Published::Exact(parameters),
        macs: Published::Unknown,
        macs_at: "",
        source: "Hugging Face hub, parameter count of the weights",
        dtype,
        build,
    }
}

impl Row {
    /// With the multiply-accumulates that somebody published for these settings.
    pub(crate) const fn with_macs(self, macs: f64, at: &'static str, source: &'static str) -> Row {
        Row { macs: Published::Rounded(macs), macs_at: at, source, ..self }
    }

    /// With other names.
    pub(crate) const fn also(self, aliases: &'static [&'static str]) -> Row {
        Row { aliases, ..self }
    }
}
