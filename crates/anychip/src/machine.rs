//! This machine's CPU as a row of the catalogue: facts read from the system, peaks measured.

use std::borrow::Cow;

use anychip_chips::{Body, Chip, Compute, Family, Memory, Peak, Precision, Spec};
use anychip_cpu::detect::{Cpu, Peaks};
use anychip_cpu::pool::Pool;
use anychip_ir::Graph;

use crate::Error;
use crate::targets::is_this_cpu;

/// The catalogue name of this machine's CPU.
pub const THIS_CPU: &str = "cpu";

/// This machine's CPU. With `measure`, its peak arithmetic and read bandwidth are measured with `threads`
/// threads, which takes a few tenths of a second; without, they are absent.
pub fn this_cpu(measure: bool, threads: Option<usize>) -> Chip {
    let cpu = Cpu::detect();
    let threads = threads.unwrap_or(cpu.threads);
    let read = "read from this machine";
    let mut compute = Compute { unit: Some("core".to_string()), ..Compute::default() };
    compute.units = Some(Spec::measured(cpu.cores.unwrap_or(cpu.threads) as f64, read));
    for (name, bytes, per_unit) in
        [("L1", cpu.caches.l1, true), ("L2", cpu.caches.l2, true), ("L3", cpu.caches.l3, false)]
    {
        if let Some(bytes) = bytes {
            compute.memory.push(Memory {
                name: name.to_string(),
                per_unit,
                bytes: Some(Spec::measured(bytes as f64, read)),
                ..Memory::default()
            });
        }
    }
    let mut memory = Memory { name: "DRAM".to_string(), off_chip: true, ..Memory::default() };
    memory.bytes = cpu.memory.map(|bytes| Spec::measured(bytes as f64, read));
    if measure {
        let peaks = Peaks::measure(cpu.simd, &Pool::new(threads));
        let source =
            format!("micro-benchmark on this machine, {threads} threads, {}", cpu.simd.name());
        memory.bytes_per_second = Some(Spec::measured(peaks.read_bandwidth, source.clone()));
        let peak = Peak {
            dense: Some(Spec::measured(peaks.flops_all_cores, source.clone())),
            ..Peak::default()
        };
        compute.peaks.insert(Precision::F32, peak);
        let codes = Spec::measured(peaks.integer_operations_all_cores, source);
        compute.peaks.insert(Precision::Int8, Peak { dense: Some(codes), ..Peak::default() });
    }
    compute.memory.push(memory);
    Chip {
        id: THIS_CPU.to_string(),
        aliases: Vec::new(),
        name: cpu.name.unwrap_or_else(|| "this machine's CPU".to_string()),
        vendor: String::new(),
        family: Family::Cpu,
        architecture: None,
        target: Some("cpu".to_string()),
        stacks: vec!["anychip".to_string()],
        year: None,
        process_nm: None,
        die_mm2: None,
        dies: None,
        board_mm2: None,
        power_w: None,
        price_usd: Vec::new(),
        price_usd_per_hour: Vec::new(),
        body: Body::Compute(compute),
        systolic: None,
    }
}

/// The share of this machine's memory that weights may take; the rest is for activations and for everybody else.
const SHARE_OF_MEMORY: f64 = 0.8;

/// An error where weights that are still to be made would not fit in this machine's memory. They are there twice
/// once a program has been compiled: as they were made, and packed in single precision as its kernels read them.
pub(crate) fn check_memory(graph: &Graph) -> Result<(), Error> {
    let deferred = graph.values().filter_map(|v| graph.constant(v)).filter(|t| t.is_deferred());
    let needed: f64 = deferred.map(|t| t.byte_len() as f64 + 4.0 * t.len() as f64).sum();
    match Cpu::detect().memory.map(|bytes| bytes as f64) {
        Some(memory) if needed > SHARE_OF_MEMORY * memory => {
            Err(Error::TooLarge { needed, memory })
        }
        _ => Ok(()),
    }
}

/// `chip`, with its peaks measured now if it is this machine's CPU and they were not.
pub(crate) fn with_peaks(chip: &Chip, threads: Option<usize>) -> Cow<'_, Chip> {
    let unmeasured = chip.compute().is_some_and(|compute| compute.peaks.is_empty());
    if is_this_cpu(&chip.id) && unmeasured {
        Cow::Owned(Chip { body: this_cpu(true, threads).body, ..chip.clone() })
    } else {
        Cow::Borrowed(chip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{Builder, TensorType};
    use anychip_tensor::{DType, Tensor};

    #[test]
    fn weights_beyond_this_machine_are_refused_unmade() {
        for (rows, fits) in [(1usize << 10, true), (1 << 40, false)] {
            let weights =
                Tensor::deferred(DType::F16, [rows, 8], || unreachable!("nobody reads it"));
            let mut b = Builder::new("large");
            let x = b.input("x", TensorType::new(DType::F16, [1usize, rows]));
            let w = b.constant(weights.unwrap());
            let y = b.matmul(x, w, DType::F16).unwrap();
            let result = check_memory(&b.finish(&[y]));
            assert_eq!(result.is_ok(), fits || Cpu::detect().memory.is_none());
        }
    }
}
