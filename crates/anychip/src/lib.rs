//! The library: load, optimise, compile, run, compare.

mod npz;

pub use npz::{NpzError, read_npz, write_npz};
