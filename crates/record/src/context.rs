//! What surrounds a result: the chip's place in the catalog, its roofs, and what made the record. A report that
//! draws an old run has nothing else to ask.

use anychip_units::{BytesPerSecond, Figure, OperationsPerSecond};
use serde::{Deserialize, Serialize};

/// The chip's row of the catalog, as far as a table sorts and filters by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChipRow {
    /// The name its vendor gives it.
    pub name: String,
    /// Who makes it; empty where that is in the name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vendor: String,
    /// `gpu`, `tpu`, `fpga`, …
    pub family: String,
    /// The year it came out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub year: Option<u16>,
}

/// What no layer can pass: the two lines of a roofline chart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roof {
    /// Dense operations a second in the record's number format.
    pub peak: Figure<OperationsPerSecond>,
    /// Bytes a second of main memory; none where the catalog has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Figure<BytesPerSecond>>,
}

/// What made the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The program and its version.
    pub software: String,
    /// The machine it ran on: processor, threads, system.
    pub machine: String,
}
