//! [`Machine`]: what the simulator simulates, in cycles and bytes, made of a chip's row or by hand.

use std::collections::BTreeMap;

use anychip_chips::{Chip, Dataflow, Precision, Systolic};
use anychip_tensor::DType;

/// Stationary tiles fetched ahead where nobody states how many: a buffer that is used and one that is filled.
const USUAL_TILES_AHEAD: u64 = 2;

/// A product of single-precision numbers from six of bfloat16: three parts each, the smallest three products left out.
const BF16_PRODUCTS_OF_F32: u64 = 6;

/// The same of half-precision numbers, which have two parts each; the product of the small parts is left out.
const BF16_PRODUCTS_OF_F16: u64 = 3;

/// A product of 16-bit integers from four of 8 bits.
const INT8_PRODUCTS_OF_INT16: u64 = 4;

/// One or more arrays, their memories and the unit for everything else.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// The chip's name in the catalogue.
    pub name: String,
    /// Cycles a second.
    pub clock_hz: f64,
    /// Arrays that work in step on one layer.
    pub arrays: u64,
    /// Cells of one array from top to bottom.
    pub rows: u64,
    /// Cells of one array from left to right.
    pub columns: u64,
    /// What stays in the cells.
    pub dataflow: Dataflow,
    /// Whether the next stationary tile moves in while this one is used.
    pub overlaps_loads: bool,
    /// Tiles that memory may run ahead of the array.
    pub tiles_ahead: u64,
    /// The formats that arrays multiply, and how fast. Others are the vector unit's.
    pub formats: BTreeMap<Precision, Rate>,
    /// Rows of sums that one fold may fill, in each array; any number when absent.
    pub accumulator_rows: Option<u64>,
    /// On-chip bytes for activations; enough for all when absent.
    pub activation_bytes: Option<u64>,
    /// On-chip bytes that keep a layer's weights while they are used again.
    pub weight_bytes: u64,
    /// On-chip bytes in which weights stay from one run to the next.
    pub weight_cache_bytes: u64,
    /// The way to main memory; infinitely fast when absent.
    pub memory: Option<Bandwidth>,
    /// How much main memory holds; any amount when absent.
    pub memory_bytes: Option<u64>,
    /// Cycles from asking memory to the first byte.
    pub memory_latency: u64,
    /// Cycles that each transfer takes beside its bytes.
    pub transfer_cycles: u64,
    /// Operations a cycle of the vector unit.
    pub vector_lanes: u64,
    /// Cycles that each layer takes beside its work, where that reads or writes main memory.
    pub layer_cycles: u64,
    /// Cycles before a run begins.
    pub launch_cycles: u64,
    /// The process it is made in, nanometers: which column of the energy table holds.
    pub process_nm: Option<f64>,
    /// What was taken in place of figures that nobody states.
    pub assumptions: Vec<String>,
}

/// Rows that stream into an array in so many cycles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Rows.
    pub rows: u64,
    /// Cycles for them.
    pub cycles: u64,
}

impl Rate {
    /// A row a cycle.
    pub const ONE: Rate = Rate { rows: 1, cycles: 1 };

    /// Cycles for `rows` rows.
    pub fn cycles_for(self, rows: u64) -> u64 {
        (rows * self.cycles).div_ceil(self.rows)
    }

    fn slower(self, factor: u64) -> Rate {
        Rate { cycles: self.cycles * factor, ..self }
    }
}

/// Bytes in so many cycles, exactly: both are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth {
    /// Bytes.
    pub bytes: u64,
    /// Cycles for them.
    pub cycles: u64,
}

impl Bandwidth {
    /// Cycles for `bytes` bytes.
    pub fn cycles_for(self, bytes: u64) -> u64 {
        (u128::from(bytes) * u128::from(self.cycles)).div_ceil(u128::from(self.bytes)) as u64
    }
}

/// Why a chip cannot be simulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// Its row has no description of a systolic array.
    #[error(
        "the catalog describes no systolic array of {chip}; add a table [systolic] to its file"
    )]
    Undescribed {
        /// The chip.
        chip: String,
    },
    /// Its row lacks a figure that nothing can stand in for.
    #[error("the catalog has no {what} of {chip}")]
    Lacks {
        /// The chip.
        chip: String,
        /// The figure.
        what: &'static str,
    },
}

impl Machine {
    /// A machine with arrays of a size, bfloat16 and 8-bit integers, and no limit of memory: the one to start from.
    pub fn ideal(rows: u64, columns: u64, dataflow: Dataflow) -> Machine {
        Machine {
            name: format!("ideal-{rows}x{columns}-{dataflow}"),
            clock_hz: 1e9,
            arrays: 1,
            rows,
            columns,
            dataflow,
            overlaps_loads: true,
            tiles_ahead: USUAL_TILES_AHEAD,
            formats: [Precision::Int8, Precision::Bf16, Precision::F16, Precision::F32]
                .map(|format| (format, Rate::ONE))
                .into(),
            accumulator_rows: None,
            activation_bytes: None,
            weight_bytes: 0,
            weight_cache_bytes: 0,
            memory: None,
            memory_bytes: None,
            memory_latency: 0,
            transfer_cycles: 0,
            vector_lanes: columns,
            layer_cycles: 0,
            launch_cycles: 0,
            process_nm: None,
            assumptions: Vec::new(),
        }
    }

    /// The machine that a chip's row describes.
    pub fn of(chip: &Chip) -> Result<Machine, MachineError> {
        let undescribed = || MachineError::Undescribed { chip: chip.id.clone() };
        let lacks = |what| MachineError::Lacks { chip: chip.id.clone(), what };
        let Some(systolic) = chip.systolic.as_ref().filter(|_| chip.compute().is_some()) else {
            return Err(undescribed());
        };
        let count = |spec: &Option<anychip_chips::Spec<_>>| spec.as_ref().map(whole);
        let rows = count(&systolic.rows).ok_or_else(|| lacks("rows of the array"))?;
        let columns = count(&systolic.columns).ok_or_else(|| lacks("columns of the array"))?;
        let mut machine = Machine::ideal(rows, columns, systolic.dataflow);
        machine.name.clone_from(&chip.id);
        machine.overlaps_loads = systolic.overlaps_loads;
        machine.arrays = if let Some(arrays) = count(&systolic.arrays) {
            arrays
        } else {
            machine.assumptions.push("one array".to_owned());
            1
        };
        machine
            .set_formats(chip)
            .ok_or_else(|| lacks("clock, or a peak that one could follow from"))?;
        let cycles = |seconds: f64| (seconds * machine.clock_hz).ceil() as u64;
        machine.memory_latency = systolic.memory_latency_s.as_ref().map_or(0, |s| cycles(s.value));
        machine.transfer_cycles = systolic.transfer_s.as_ref().map_or(0, |s| cycles(s.value));
        machine.layer_cycles = systolic.layer_s.as_ref().map_or(0, |s| cycles(s.value));
        machine.launch_cycles = systolic.launch_s.as_ref().map_or(0, |s| cycles(s.value));
        machine.process_nm = chip.process_nm.as_ref().map(|nm| nm.value);
        machine.set_memories(chip, systolic);
        // What a layer costs beside its work has memory's latency in it, where that is stated and the latency is not.
        let waits = systolic.memory_latency_s.is_some() || systolic.layer_s.is_some();
        let free: Vec<&str> = [
            ("launches", systolic.launch_s.is_some()),
            ("beginnings of layers", systolic.layer_s.is_some()),
            ("memory's latency", waits),
            ("transfers beside their bytes", systolic.transfer_s.is_some()),
        ]
        .into_iter()
        .filter_map(|(what, stated)| (!stated).then_some(what))
        .collect();
        if !free.is_empty() {
            machine.assumptions.push(format!("no cost of {}", free.join(", ")));
        }
        Ok(machine)
    }

    /// Clock and formats, from the peaks: an array is some whole factor faster or slower in a format than a row a cycle.
    fn set_formats(&mut self, chip: &Chip) -> Option<()> {
        let compute = chip.compute()?;
        let cells = 2.0 * (self.arrays * self.rows * self.columns) as f64;
        let peak = |format| compute.peak(format).map(|peak| peak.value);
        self.clock_hz = if let Some(clock) = &compute.clock_hz {
            clock.value
        } else {
            let (format, peak) = [Precision::Bf16, Precision::Int8]
                .into_iter()
                .find_map(|format| Some((format, peak(format)?)))?;
            self.assumptions.push(format!(
                "a clock of {:.2} GHz, at which the arrays make the stated {format} peak",
                peak / cells * 1e-9
            ));
            peak / cells
        };
        self.formats.clear();
        for format in Precision::ALL {
            let Some(peak) = peak(format) else { continue };
            let factor = peak / (cells * self.clock_hz);
            let rate = if factor >= 1.0 {
                Rate { rows: factor.round() as u64, cycles: 1 }
            } else {
                Rate { rows: 1, cycles: (1.0 / factor).round() as u64 }
            };
            self.formats.insert(format, rate);
        }
        let emulated = [
            (Precision::F32, Precision::Bf16, BF16_PRODUCTS_OF_F32),
            (Precision::F16, Precision::Bf16, BF16_PRODUCTS_OF_F16),
            (Precision::Int16, Precision::Int8, INT8_PRODUCTS_OF_INT16),
        ];
        for (wide, narrow, products) in emulated {
            if let Some(&rate) = self.formats.get(&narrow)
                && !self.formats.contains_key(&wide)
            {
                self.formats.insert(wide, rate.slower(products));
                self.assumptions.push(format!("{wide} products made of {products} in {narrow}"));
            }
        }
        Some(())
    }

    fn set_memories(&mut self, chip: &Chip, systolic: &Systolic) {
        let bytes = |spec: &Option<anychip_chips::Spec<_>>| spec.as_ref().map(whole);
        self.accumulator_rows = systolic.accumulator_rows.as_ref().map(|rows| whole(rows) / 2);
        if let Some(tiles) = &systolic.tiles_ahead {
            self.tiles_ahead = whole(tiles);
        }
        self.activation_bytes = bytes(&systolic.activation_bytes);
        self.weight_cache_bytes = bytes(&systolic.weight_cache_bytes).unwrap_or(0);
        // Where one memory holds both and nobody states a division, half is for weights in use.
        self.weight_bytes = bytes(&systolic.weight_bytes).unwrap_or_else(|| {
            if systolic.tiles_ahead.is_some() { 0 } else { self.activation_bytes.unwrap_or(0) / 2 }
        });
        self.vector_lanes = if let Some(lanes) = &systolic.vector_lanes {
            whole(lanes)
        } else {
            self.assumptions.push("a vector unit as wide as what leaves the arrays".to_owned());
            self.arrays * self.columns
        };
        let Some(compute) = chip.compute() else { return };
        let main = compute.memory.iter().rfind(|level| level.off_chip);
        let rate = main.and_then(|level| level.bytes_per_second.as_ref()).or_else(|| {
            let host = |link: &&anychip_chips::Link| link.to == anychip_chips::LinkEnd::Host;
            compute.links.iter().find(host).and_then(|link| link.bytes_per_second.as_ref())
        });
        self.memory_bytes = main.and_then(|level| level.bytes.as_ref()).map(whole);
        self.memory = rate.map(|rate| Bandwidth {
            bytes: rate.value.round() as u64,
            cycles: self.clock_hz.round() as u64,
        });
        match (main.is_some(), self.memory.is_some()) {
            (true, _) => {}
            (false, true) => {
                self.assumptions
                    .push("the host's memory, over its link, as main memory".to_owned());
            }
            (false, false) => self.assumptions.push("memory without limit".to_owned()),
        }
        if self.activation_bytes.is_none() {
            self.assumptions.push("on-chip memory for all activations".to_owned());
        }
    }

    /// The format that arrays multiply tensors of these element types in; `None` where it is the vector unit's work.
    pub fn format(&self, lhs: DType, rhs: DType) -> Option<Precision> {
        let format = |dtype: DType| match dtype {
            DType::F32 => Some(Precision::F32),
            DType::F16 => Some(Precision::F16),
            DType::BF16 => Some(Precision::Bf16),
            DType::I8 | DType::U8 => Some(Precision::Int8),
            DType::I16 | DType::U16 => Some(Precision::Int16),
            _ => None,
        };
        let (a, b) = (format(lhs)?, format(rhs)?);
        if a.is_integer() != b.is_integer() {
            return None;
        }
        let wider = if a.bits() >= b.bits() { a } else { b };
        self.formats.contains_key(&wider).then_some(wider)
    }

    /// Whether what follows a product is a pipeline behind the arrays, an element a lane a cycle however many steps its scaling
    /// takes: a chip that computes integers alone has no unit that could do it step by step.
    pub fn scales_in_passing(&self) -> bool {
        !self.formats.is_empty() && self.formats.keys().all(|format| format.is_integer())
    }

    /// Multiply-accumulates that all arrays can do in `cycles`.
    pub fn cells_times(&self, cycles: u64) -> f64 {
        (self.arrays * self.rows * self.columns) as f64 * cycles as f64
    }

    /// Cycles for `bytes` to or from main memory as one transfer; none for no bytes.
    pub fn transfer(&self, bytes: u64) -> u64 {
        if bytes == 0 {
            return 0;
        }
        self.transfer_cycles + self.memory.map_or(0, |memory| memory.cycles_for(bytes))
    }
}

fn whole<U: anychip_units::Unit>(spec: &anychip_chips::Spec<U>) -> u64 {
    spec.value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_chips::Catalog;

    #[test]
    fn rows_of_the_catalog_become_machines() {
        let catalog = Catalog::builtin().unwrap();
        let v1 = Machine::of(catalog.find("google-tpu-v1").unwrap()).unwrap();
        assert_eq!((v1.arrays, v1.rows, v1.columns, v1.tiles_ahead), (1, 256, 256, 4));
        assert_eq!(v1.formats[&Precision::Int8], Rate::ONE);
        assert_eq!(v1.accumulator_rows, Some(2048));
        assert_eq!(v1.format(DType::F32, DType::F32), None, "it has integers alone");
        // 34 GB/s at 700 MHz are 48.6 bytes a cycle: a tile of 64 KiB takes 1,350 cycles.
        assert_eq!(v1.transfer(65536), 1350);

        let v5e = Machine::of(catalog.find("google-tpu-v5e").unwrap()).unwrap();
        assert_eq!(v5e.formats[&Precision::Int8], Rate { rows: 2, cycles: 1 });
        assert_eq!(v5e.formats[&Precision::F32], Rate { rows: 1, cycles: 6 });
        assert!(v5e.assumptions.iter().any(|a| a.contains("1.50 GHz")), "{:?}", v5e.assumptions);

        assert!(v5e.assumptions.iter().any(|a| a.starts_with("no cost of launches")));
        assert!(v1.scales_in_passing() && !v5e.scales_in_passing());

        // Of the v6e a layer's and a run's cost beside the work are published: 1.1 µs and 138 µs at 1.75 GHz.
        let v6e = Machine::of(catalog.find("google-tpu-v6e").unwrap()).unwrap();
        assert_eq!((v6e.layer_cycles, v6e.launch_cycles), (1925, 241_500));
        assert_eq!(v6e.formats[&Precision::Bf16], Rate { rows: 2, cycles: 1 });
        let free = "no cost of transfers beside their bytes";
        assert!(v6e.assumptions.iter().any(|a| a == free), "{:?}", v6e.assumptions);

        let gpu = catalog.find("nvidia-t4").unwrap();
        assert!(matches!(Machine::of(gpu), Err(MachineError::Undescribed { .. })));
    }

    #[test]
    fn whole_rates() {
        assert_eq!(Rate { rows: 2, cycles: 1 }.cycles_for(5), 3);
        assert_eq!(Rate { rows: 1, cycles: 6 }.cycles_for(5), 30);
        assert_eq!(Bandwidth { bytes: 3, cycles: 2 }.cycles_for(4), 3);
    }
}
