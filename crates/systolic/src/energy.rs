//! Joules from counts: a table of energies by process (`data/energy.toml`), each column with its source.

use std::sync::OnceLock;

use anychip_chips::Precision;
use serde::Deserialize;

use crate::tiling::Traffic;

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    process: Vec<Process>,
}

/// Energies in one process.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    /// Nanometers.
    pub(crate) nm: f64,
    /// Who states them.
    pub(crate) source: String,
    picojoules: Picojoules,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Picojoules {
    int8_multiply: f64,
    int32_add: f64,
    f16_multiply: f64,
    f32_multiply: f64,
    f32_add: f64,
    buffer_byte: f64,
    accumulator_byte: f64,
    memory_byte: f64,
}

/// The text of the table, which a test holds to its schema.
const TABLE: &str = include_str!("../data/energy.toml");

/// The column for a process: the nearest on a scale of ratios.
pub(crate) fn process(nm: f64) -> Option<&'static Process> {
    static PARSED: OnceLock<Vec<Process>> = OnceLock::new();
    let processes = PARSED
        .get_or_init(|| toml::from_str::<Table>(TABLE).map(|t| t.process).unwrap_or_default());
    let distance = |process: &&Process| (process.nm / nm).ln().abs();
    processes.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

impl Process {
    /// Joules of products, each with its addition, on cells of a format.
    pub(crate) fn products(&self, count: f64, format: Precision) -> f64 {
        let p = &self.picojoules;
        let one = match format {
            Precision::Int8 | Precision::Int4 => p.int8_multiply + p.int32_add,
            Precision::Int16 => 4.0 * p.int8_multiply + p.int32_add,
            Precision::F16 | Precision::Bf16 | Precision::Fp8 | Precision::Fp4 => {
                p.f16_multiply + p.f32_add
            }
            Precision::F32 | Precision::Tf32 | Precision::F64 => p.f32_multiply + p.f32_add,
        };
        count * one * 1e-12
    }

    /// Joules of the vector unit's operations, taken as additions.
    pub(crate) fn operations(&self, count: f64, format: Precision) -> f64 {
        let p = &self.picojoules;
        count * 1e-12 * if format.is_integer() { p.int32_add } else { p.f32_add }
    }

    /// Joules of moving bytes.
    pub(crate) fn traffic(&self, traffic: &Traffic) -> f64 {
        let p = &self.picojoules;
        1e-12
            * ((traffic.memory_read + traffic.memory_written) * p.memory_byte
                + (traffic.buffer_read + traffic.buffer_written) * p.buffer_byte
                + traffic.accumulators * p.accumulator_byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads_and_the_nearest_process_answers() {
        let table: Table = toml::from_str(TABLE).unwrap();
        assert!(table.process.len() >= 2 && table.process.iter().all(|p| !p.source.is_empty()));
        assert_eq!(process(28.0).unwrap().nm, 45.0);
        assert_eq!(process(16.0).unwrap().nm, 7.0);
        let joules = process(45.0).unwrap().products(1e12, Precision::Int8);
        assert!((joules - 0.3).abs() < 1e-9, "{joules}");
    }
}
