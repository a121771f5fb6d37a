//! The fitted table of kernels in 32-bit floats that comes with the library.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::sized::SINGLE_FEATURES;
use crate::serving::table::KernelTable;
use crate::tables::TableError;

/// Kernels in 32-bit floats, with what sums of them were off by on whole models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SingleTable {
    /// Counts up when the form or the data change.
    pub version: u32,
    /// The measurements and the program that made the table.
    pub provenance: String,
    /// By platform (`cuda`, `rocm`) and class of kernel.
    pub kernels: KernelTable,
    /// Whole models measured, none of which was fitted on.
    pub models: usize,
    /// The quantiles 0.1 and 0.9 of logarithmic errors of whole models, on devices whose kernels were measured.
    pub known: [f64; 2],
    /// The same on devices whose kernels were left out.
    pub unknown: [f64; 2],
}

impl SingleTable {
    /// The table that comes with the library, read once.
    pub fn builtin() -> Result<&'static Self, TableError> {
        static TABLE: OnceLock<Result<SingleTable, TableError>> = OnceLock::new();
        TABLE
            .get_or_init(|| Self::read(include_str!("../../data/single.json")))
            .as_ref()
            .map_err(Clone::clone)
    }

    /// From its text.
    pub fn read(text: &str) -> Result<Self, TableError> {
        let table: Self =
            serde_json::from_str(text).map_err(|error| TableError::unreadable(&error))?;
        if table.kernels.is_sound(SINGLE_FEATURES) { Ok(table) } else { Err(TableError::unsound()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_is_sound_and_of_chips_of_the_catalog() {
        let table = SingleTable::builtin().expect("built in");
        let catalog = anychip_chips::Catalog::builtin().expect("built in");
        for band in [table.known, table.unknown] {
            assert!(band[0] < band[1]);
        }
        assert!(table.models > 0 && !table.kernels.kinds.is_empty());
        for kind in &table.kernels.kinds {
            for device in &kind.devices {
                let chip = catalog.find(device).expect("in the catalog");
                assert_eq!(super::super::platform(chip), Some(kind.software.as_str()));
            }
        }
    }

    #[test]
    fn a_damaged_table_is_refused() {
        assert!(SingleTable::read("{}").is_err());
        let text = include_str!("../../data/single.json").replacen("[[[", "[[[9", 1);
        assert!(SingleTable::read(&text).is_err());
    }
}
