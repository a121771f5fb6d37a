//! The fitted tables of single kernels that come with the library.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::attention::ATTENTION_FEATURES;
use super::product::PRODUCT_FEATURES;
use super::table::KernelTable;
use crate::tables::TableError;

/// Tables of the kernels that language models are made of, with where they come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServingTables {
    /// Counts up when the form or the data change.
    pub version: u32,
    /// The measurements and the program that made the tables.
    pub provenance: String,
    /// Matrix products.
    pub products: KernelTable,
    /// Attention of a prompt to itself.
    pub prefill: KernelTable,
    /// Attention of one more position to all that are kept.
    pub decode: KernelTable,
}

impl ServingTables {
    /// The tables that come with the library, read once.
    pub fn builtin() -> Result<&'static Self, TableError> {
        static TABLES: OnceLock<Result<ServingTables, TableError>> = OnceLock::new();
        TABLES
            .get_or_init(|| Self::read(include_str!("../../data/serving.json")))
            .as_ref()
            .map_err(Clone::clone)
    }

    /// From their text.
    pub fn read(text: &str) -> Result<Self, TableError> {
        let tables: Self =
            serde_json::from_str(text).map_err(|error| TableError::unreadable(&error))?;
        let sound = tables.products.is_sound(PRODUCT_FEATURES)
            && tables.prefill.is_sound(ATTENTION_FEATURES)
            && tables.decode.is_sound(ATTENTION_FEATURES);
        if sound { Ok(tables) } else { Err(TableError::unsound()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_tables_are_sound_and_of_chips_of_the_catalog() {
        let tables = ServingTables::builtin().expect("built in");
        let catalog = anychip_chips::Catalog::builtin().expect("built in");
        for table in [&tables.products, &tables.prefill, &tables.decode] {
            for band in [table.known, table.unknown] {
                assert!(band[0] < 0.0 && band[1] > 0.0);
            }
            for kind in &table.kinds {
                assert!(!kind.devices.is_empty());
                for device in &kind.devices {
                    catalog.find(device).expect("in the catalog");
                }
            }
        }
        assert!(tables.products.newest("vllm", "bfloat16", "nvidia-h100-sxm5-80gb").is_some());
    }

    #[test]
    fn damaged_tables_are_refused() {
        assert!(ServingTables::read("{}").is_err());
        let text = include_str!("../../data/serving.json").replacen("[[[", "[[[9", 1);
        assert!(ServingTables::read(&text).is_err());
    }
}
