//! The catalogue of accelerators: one TOML file a chip, every figure with its source.

/// A product: one row of the catalogue.
#[derive(Debug, Clone)]
pub struct Chip {
    /// Catalogue name.
    pub id: String,
}
