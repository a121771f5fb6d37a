//! What surrounds a record: the chip's row, the program and the machine that made it.

use std::sync::OnceLock;

use anychip_chips::Chip;
use anychip_cpu::detect::Cpu;
use anychip_record::{ChipRow, Origin, Record};

/// This program and machine, which do not change while it runs.
static ORIGIN: OnceLock<Origin> = OnceLock::new();

/// Adds the chip's row of the catalogue, and what made the record.
pub(crate) fn describe(record: &mut Record, chip: &Chip) {
    record.chip_row = Some(ChipRow {
        name: chip.name.clone(),
        vendor: chip.vendor.clone(),
        family: chip.family.word().to_string(),
        year: chip.year.as_ref().map(|year| year.value as u16),
    });
    record.origin = Some(ORIGIN.get_or_init(origin).clone());
}

/// This program on this machine.
fn origin() -> Origin {
    let cpu = Cpu::detect();
    let name = cpu.name.unwrap_or_else(|| "unknown processor".to_string());
    let (threads, simd) = (cpu.threads, cpu.simd.name());
    let (system, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    Origin {
        software: format!("anychip {}", env!("CARGO_PKG_VERSION")),
        machine: format!("{name}, {threads} threads, {simd}, {system} {architecture}"),
    }
}
