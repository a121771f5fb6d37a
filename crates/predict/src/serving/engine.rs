//! What a chip offers to single kernels, and the roofline that their times are taken relative to.

use anychip_chips::{Chip, Precision};

/// What a chip offers to a kernel in one number format.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Engine {
    /// Dense operations a second in the kernel's format.
    pub peak: f64,
    /// Bytes a second of main memory.
    pub bandwidth: f64,
    /// Bytes of the last cache.
    pub cache: f64,
    /// Units that tiles are dealt to.
    pub units: f64,
    /// Their clock, Hz.
    pub clock: f64,
}

/// The share of peaks that the roofline counts with.
const SHARE: f64 = 0.8;
/// How sharply the roofline turns from memory to arithmetic: `(a³ + b³)^(1/3)`.
const SHARPNESS: f64 = 3.0;
/// Clocks that a kernel takes to start, to fill its pipeline and to finish; the roofline's floor.
const START_CLOCKS: f64 = 5500.0;
/// Bytes that one unit has on their way from memory in a clock: a few units alone cannot draw all of the bandwidth.
const UNIT_BYTES_PER_CLOCK: f64 = 64.0;

impl Engine {
    /// What the catalog says of a chip; `None` where it lacks one of the figures.
    pub fn of(chip: &Chip, precision: Precision) -> Option<Self> {
        let compute = chip.compute()?;
        let cache = compute.memory.iter().rev().find(|m| !m.off_chip && !m.per_unit)?;
        Some(Self {
            peak: compute.peak(precision)?.value,
            bandwidth: compute.main_memory()?.bytes_per_second.as_ref()?.value,
            cache: cache.bytes.as_ref()?.value,
            units: compute.units.as_ref()?.value,
            clock: compute.clock_hz.as_ref()?.value,
        })
    }

    /// Seconds until the first and from the last of a kernel's work, with `clocks` more of work that cannot overlap.
    pub fn start(&self, clocks: f64) -> f64 {
        (START_CLOCKS + clocks) / self.clock
    }

    /// Bytes a second that `units` busy units draw from memory.
    pub fn drawn(&self, units: f64) -> f64 {
        let busy = units.clamp(1.0, self.units.max(1.0));
        self.bandwidth.min(busy * UNIT_BYTES_PER_CLOCK * self.clock)
    }

    /// Operations that one unit does in a clock.
    pub fn operations_per_clock(&self) -> f64 {
        self.peak / (self.units * self.clock)
    }

    /// Seconds of a kernel that only moves bytes.
    pub fn moving(&self, bytes: f64) -> f64 {
        bytes / self.bandwidth / SHARE + self.start(0.0)
    }
}

/// Seconds of a kernel with so many seconds of arithmetic and of traffic at full peaks, and so many to start.
pub(crate) fn roofline(arithmetic: f64, traffic: f64, start: f64) -> f64 {
    let join = (arithmetic / SHARE).powf(SHARPNESS) + (traffic / SHARE).powf(SHARPNESS);
    join.powf(1.0 / SHARPNESS) + start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_units_draw_less_than_all() {
        let engine = Engine { peak: 3e14, bandwidth: 2e12, cache: 4e7, units: 108.0, clock: 1.4e9 };
        assert_eq!(engine.drawn(1.0), 64.0 * 1.4e9);
        assert_eq!(engine.drawn(0.0), engine.drawn(1.0));
        assert_eq!(engine.drawn(1e9), 2e12);
        assert!(engine.moving(2e9) > 1e-3);
    }

    #[test]
    fn the_longer_part_decides() {
        assert!((roofline(8e-3, 8e-6, 0.0) - 10e-3).abs() < 1e-8);
        assert!((roofline(8e-6, 8e-3, 1e-3) - 11e-3).abs() < 1e-8);
    }

    #[test]
    fn the_catalog_describes_the_chips_that_were_measured() {
        let catalog = anychip_chips::Catalog::builtin().expect("built in");
        let chip = catalog.find("nvidia-h100-sxm5-80gb").expect("in the catalog");
        let engine = Engine::of(chip, Precision::Bf16).expect("all figures are there");
        assert_eq!((engine.units, engine.bandwidth), (132.0, 3.35e12));
        assert_eq!(Engine::of(chip, Precision::Int16), None);
    }
}
