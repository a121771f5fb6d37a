//! The catalogue of accelerators: one TOML file a chip, every figure with its source.
