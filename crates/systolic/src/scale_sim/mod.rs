//! The mode that follows SCALE-Sim 3.0.0: its files, its assumptions, its reports, so that anyone can check us.
//!
//! One array, words of a byte, folds one after the other, no overlap of loads, sizes of results rounded up. In closed form the
//! cycles of a layer are those of its folds ([`closed_form`]); with a bandwidth given ([`walk`]) every line of demands meets
//! the peer's three buffers, whose arithmetic is reproduced as published or as it was meant ([`Arithmetic`]).

mod config;
mod memory;
mod report;
mod topology;
mod walk;

pub use config::{Config, Interface};
pub use report::{Row, closed_form, csv, total};
pub use topology::{Layer, Spread, Topology};
pub use walk::{Walked, walk};

/// Which arithmetic of stalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arithmetic {
    /// As SCALE-Sim 3.0.0 has it: the wait for a prefetch is added twice, and a prefetch that came early moves time back
    /// within the line.
    #[default]
    Published,
    /// The wait added once, and never less than nothing.
    Sound,
}

/// What is wrong with a file of SCALE-Sim's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScaleSimError {
    /// A setting is missing or no number.
    #[error("the configuration's [{section}] {key}: {reason}")]
    Config {
        /// The section.
        section: &'static str,
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A row of a topology cannot be a layer.
    #[error("line {line} of the topology: {reason}")]
    Topology {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The buffers cannot hold what a cycle asks for, so that SCALE-Sim would not end.
    #[error(
        "layer {layer}: the {buffer} buffer never holds all that one cycle needs; give it more memory"
    )]
    Starved {
        /// The layer.
        layer: String,
        /// Which buffer.
        buffer: &'static str,
    },
}
