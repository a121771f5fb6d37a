//! Times of single kernels: a roofline, what each software's kernels take beyond it, and trees for the rest.

use serde::{Deserialize, Serialize};

use super::product::Regime;
use crate::trees::Trees;

/// Kernels of one software in one number format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// Software with its version: `vllm-0.24.0`.
    pub software: String,
    /// Number format, in the words of the table's source: `bfloat16`, `int4_wo`.
    pub format: String,
    /// The catalog's names of the devices it was measured on.
    pub devices: Vec<String>,
    /// By [`Regime`]: the mean of the logarithms of times over the roofline.
    pub effects: [f64; 3],
}

/// Where a kernel stands apart from its software: the logarithm of the roofline's seconds, what bounds it, and sizes.
pub type Sized = (f64, Regime, Vec<f64>);

/// A fitted predictor of one sort of kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelTable {
    /// All that was measured, by software and then format.
    pub kinds: Vec<Kind>,
    /// What roofline and effects leave over.
    pub residual: Trees,
    /// The quantiles 0.1 and 0.9 of logarithmic errors on sizes left out, devices and kinds seen.
    pub known: [f64; 2],
    /// The same on whole devices left out.
    pub unknown: [f64; 2],
}

/// How many features kinds add to those of sizes.
pub(crate) const KIND_FEATURES: usize = 4;

impl KernelTable {
    /// The logarithm of the seconds of one kernel.
    pub fn log_seconds(&self, software: &str, format: &str, kernel: &Sized) -> f64 {
        let (roofline, regime, sizes) = kernel;
        let effects = effects(&self.kinds, software, format);
        let row = row(&self.kinds, format, &effects, sizes);
        roofline + effects[*regime as usize] + self.residual.predict(&row)
    }

    /// The newest version of a software (`vllm`) that was measured in a format, on a chip if it was there. Kernels that it
    /// takes in rare cases only, named after a space, do not count.
    pub fn newest(&self, name: &str, format: &str, chip: &str) -> Option<&Kind> {
        self.kinds
            .iter()
            .filter(|kind| {
                family(&kind.software) == name
                    && kind.format == format
                    && !kind.software.contains(' ')
            })
            .max_by_key(|kind| (kind.devices.iter().any(|d| d == chip), version(&kind.software)))
    }

    /// Whether any kernel was measured on a chip.
    pub fn has_seen(&self, chip: &str) -> bool {
        self.kinds.iter().any(|kind| kind.devices.iter().any(|d| d == chip))
    }

    /// Whether the trees ask for no feature that rows of so many size features lack.
    pub fn is_sound(&self, size_features: usize) -> bool {
        self.residual.is_sound(size_features + KIND_FEATURES)
    }
}

/// The name of a software without its version.
pub(crate) fn family(software: &str) -> &str {
    software.split_once('-').map_or(software, |(name, _)| name)
}

/// The numbers of a version, for order: `1.3.0rc20` after `1.3.0rc5`.
fn version(software: &str) -> Vec<u32> {
    software.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// The effects of a kind; where it was not fitted, the mean of the same software's other versions in the format, else of
/// all software's in the format.
pub(crate) fn effects(kinds: &[Kind], software: &str, format: &str) -> [f64; 3] {
    let mean = |chosen: &dyn Fn(&&Kind) -> bool| -> Option<[f64; 3]> {
        let found: Vec<&Kind> = kinds.iter().filter(chosen).collect();
        (!found.is_empty()).then(|| {
            [0, 1, 2]
                .map(|r| found.iter().map(|kind| kind.effects[r]).sum::<f64>() / found.len() as f64)
        })
    };
    mean(&|kind| kind.format == format && kind.software == software)
        .or_else(|| {
            mean(&|kind| kind.format == format && family(&kind.software) == family(software))
        })
        .or_else(|| mean(&|kind| kind.format == format))
        .unwrap_or_default()
}

/// The features that the trees see.
pub(crate) fn row(kinds: &[Kind], format: &str, effects: &[f64; 3], sizes: &[f64]) -> Vec<f64> {
    let mut formats: Vec<&str> = kinds.iter().map(|kind| kind.format.as_str()).collect();
    formats.sort_unstable();
    formats.dedup();
    let place = formats.iter().position(|f| *f == format).map_or(-1.0, |at| at as f64);
    let mut row = sizes.to_vec();
    row.push(place);
    row.extend(effects);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(software: &str, format: &str, effect: f64, devices: &[&str]) -> Kind {
        Kind {
            software: software.into(),
            format: format.into(),
            devices: devices.iter().map(ToString::to_string).collect(),
            effects: [effect; 3],
        }
    }

    fn table() -> KernelTable {
        KernelTable {
            kinds: vec![
                kind("vllm-0.9.0", "fp8", 0.1, &["a", "b"]),
                kind("vllm-0.24.0", "fp8", 0.3, &["b"]),
                kind("vllm-0.24.0 rare-9", "fp8", 0.2, &["a", "b"]),
                kind("trtllm-1.3.0rc5", "fp8", 1.4, &["b"]),
                kind("trtllm-1.3.0rc20", "int8", 2.0, &["b"]),
            ],
            residual: Trees::default(),
            known: [0.0; 2],
            unknown: [0.0; 2],
        }
    }

    #[test]
    fn unknown_kinds_take_after_their_relatives() {
        let table = table();
        let at = |software, format| {
            table.log_seconds(software, format, &(-7.0, Regime::Traffic, vec![])) + 7.0
        };
        assert!((at("vllm-0.24.0", "fp8") - 0.3).abs() < 1e-12);
        assert!((at("vllm-0.30.0", "fp8") - 0.2).abs() < 1e-12);
        assert!((at("sglang-0.5.9", "fp8") - 0.5).abs() < 1e-12);
        assert_eq!(at("sglang-0.5.9", "int4"), 0.0);
    }

    #[test]
    fn the_newest_version_on_the_chip_is_chosen() {
        let table = table();
        let newest = |chip| table.newest("vllm", "fp8", chip).map(|kind| kind.software.as_str());
        assert_eq!(newest("a"), Some("vllm-0.9.0"));
        assert_eq!(newest("b"), Some("vllm-0.24.0"));
        assert_eq!(newest("c"), Some("vllm-0.24.0"));
        assert_eq!(table.newest("vllm", "int8", "a"), None);
        assert!(table.has_seen("a") && !table.has_seen("c"));
    }
}
