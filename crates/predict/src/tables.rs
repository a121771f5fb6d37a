//! The fitted tables that come with the library, and the choice among them for a chip and a stack.

use std::sync::OnceLock;

use anychip_chips::{Chip, Family, Precision};
use serde::{Deserialize, Serialize};

use crate::graph_kernels::Launching;
use crate::whole::Whole;

/// All fitted tables with where they come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tables {
    /// Counts up when the form or the data change.
    pub version: u32,
    /// The measurements and the program that made the tables.
    pub provenance: String,
    /// One for each device and stack.
    pub entries: Vec<Entry>,
    /// How tables do on chips that they were not fitted on, by family.
    pub transfers: Vec<Transfer>,
}

/// How the tables of a family do on a chip that they were not fitted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// The family.
    pub family: Family,
    /// The quantile 0.8 of the size of errors on devices left out, over the difficulty of the model: what an interval
    /// extends to on either side.
    pub reach: f64,
    /// Whether a measurement of the same model on another chip of the family, with the same software, makes predictions
    /// better: it did on every device left out.
    pub anchored: bool,
}

/// The fitted predictor of one device and stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The catalog's name of the device.
    pub chip: String,
    /// What that is.
    pub family: Family,
    /// The stack as chips list it: `pytorch-eager`.
    pub stack: String,
    /// Its version and layout: `torch2.9.1-eager nchw`.
    pub software: String,
    /// How it launches.
    pub launching: Launching,
    /// The number format of its products.
    pub precision: Precision,
    /// How many measured models it was fitted on.
    pub models: usize,
    /// The predictor.
    pub whole: Whole,
}

/// The built-in tables are damaged: a fault of the build, not of a user.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the fitted tables cannot be read: {0}")]
pub struct TableError(String);

impl TableError {
    pub(crate) fn unreadable(error: &serde_json::Error) -> Self {
        Self(error.to_string())
    }

    pub(crate) fn unsound() -> Self {
        Self("a tree that asks for a feature there is not, or leads nowhere".to_string())
    }
}

/// An entry, and how well it fits what was asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice<'a> {
    /// What to predict with.
    pub entry: &'a Entry,
    /// It was fitted on this very chip.
    pub own_chip: bool,
    /// It was fitted in this number format.
    pub own_precision: bool,
}

impl Tables {
    /// The tables that come with the library, read once.
    pub fn builtin() -> Result<&'static Self, TableError> {
        static TABLES: OnceLock<Result<Tables, TableError>> = OnceLock::new();
        TABLES
            .get_or_init(|| {
                serde_json::from_str(include_str!("../data/tables.json"))
                    .map_err(|error| TableError::unreadable(&error))
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    /// How tables of a family do on other chips.
    pub fn transfer(&self, family: Family) -> Option<&Transfer> {
        self.transfers.iter().find(|transfer| transfer.family == family)
    }

    /// The entry for a stack that comes closest to a chip and a format: its own if there is one, else that of a chip of the
    /// same family, and its own format before another floating-point one. `None` where the family was never measured with this stack.
    pub fn choose(&self, chip: &Chip, stack: &str, precision: Precision) -> Option<Choice<'_>> {
        let of_family = self.entries.iter().filter(|e| e.stack == stack && e.family == chip.family);
        of_family
            .map(|entry| Choice {
                entry,
                own_chip: entry.chip == chip.id,
                own_precision: half(entry.precision) == half(precision),
            })
            .filter(|choice| {
                choice.own_precision || (floating(precision) && floating(choice.entry.precision))
            })
            .max_by_key(|choice| (choice.own_precision, choice.own_chip, choice.entry.models))
    }
}

/// Formats that frameworks run with the same kernels but for their size.
fn floating(precision: Precision) -> bool {
    matches!(precision, Precision::F32 | Precision::Tf32 | Precision::F16 | Precision::Bf16)
}

/// Formats of the same size run alike on matrix engines.
fn half(precision: Precision) -> Precision {
    if precision == Precision::Bf16 { Precision::F16 } else { precision }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_tables_are_sound_and_chosen_by_chip() {
        let tables = Tables::builtin().expect("built in");
        assert!(!tables.entries.is_empty());
        let catalog = anychip_chips::Catalog::builtin().expect("built in");
        for entry in &tables.entries {
            let chip = catalog.find(&entry.chip).expect("a chip of the catalog");
            assert_eq!(chip.family, entry.family);
            let choice = tables.choose(chip, &entry.stack, entry.precision).expect("its own");
            assert!(choice.own_chip);
            assert!(tables.transfer(entry.family).is_some_and(|transfer| transfer.reach > 0.0));
        }
        let other = catalog.find("nvidia-a100-sxm4-80gb").expect("in the catalog");
        let choice = tables.choose(other, "pytorch-eager", Precision::Bf16).expect("of GPUs");
        assert!(!choice.own_chip);
        assert_eq!(tables.choose(other, "no-such-stack", Precision::F16), None);
        assert_eq!(tables.choose(other, "pytorch-eager", Precision::Int8), None);
    }
}
