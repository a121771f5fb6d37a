//! The body of a chip with arithmetic units and a memory hierarchy: processors, GPUs, TPUs, other ASICs.

use std::collections::BTreeMap;

use anychip_units::{Bytes, BytesPerSecond, Count, Hertz, OperationsPerSecond, PerSecond};
use serde::{Deserialize, Serialize};

use crate::spec::{Figures, See, Spec, each_field, join};

/// Arithmetic units and a memory hierarchy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compute {
    /// What the vendor calls one of [`Compute::units`]: `SM`, `core`, `MXU`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// How many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<Spec<Count>>,
    /// The clock at which the peaks hold: the highest one the vendor states for all units at work, as a rule the boost
    /// clock. A peak that holds at another has its own, [`Peak::clock_hz`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_hz: Option<Spec<Hertz>>,
    /// The clock that is kept up whatever the work, where the vendor states one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_clock_hz: Option<Spec<Hertz>>,
    /// The highest rates of arithmetic. A precision that is not here is not stated, or not done by the chip.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peaks: BTreeMap<Precision, Peak>,
    /// The memory levels, nearest to the arithmetic first; weights live in the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<Memory>,
    /// The ways out of the chip.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

impl Compute {
    /// The level where weights live: the last one.
    pub fn main_memory(&self) -> Option<&Memory> {
        self.memory.last()
    }

    /// The dense peak for a precision, operations a second.
    pub fn peak(&self, precision: Precision) -> Option<&Spec<OperationsPerSecond>> {
        self.peaks.get(&precision)?.dense.as_ref()
    }
}

/// The number formats chips state peaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE double.
    F64,
    /// IEEE single.
    F32,
    /// 19-bit TensorFloat-32 products of single-precision operands.
    Tf32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// Any 8-bit float.
    Fp8,
    /// Any 4-bit float.
    Fp4,
    /// 16-bit integers.
    Int16,
    /// 8-bit integers.
    Int8,
    /// 4-bit integers.
    Int4,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::F64,
        Self::F32,
        Self::Tf32,
        Self::F16,
        Self::Bf16,
        Self::Fp8,
        Self::Fp4,
        Self::Int16,
        Self::Int8,
        Self::Int4,
    ];

    /// The word that files and commands use.
    pub fn word(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Fp4 => "fp4",
            Self::Int16 => "int16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// From the word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.word() == word)
    }

    /// Whether its operations are counted as OP/s and not as FLOP/s.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::Int16 | Self::Int8 | Self::Int4)
    }

    /// `FLOP/s` or `OP/s`.
    pub fn rate_symbol(self) -> &'static str {
        if self.is_integer() { "OP/s" } else { "FLOP/s" }
    }

    /// The bits of one stored operand.
    pub fn bits(self) -> u32 {
        match self {
            Self::F64 => 64,
            Self::F32 | Self::Tf32 => 32,
            Self::F16 | Self::Bf16 | Self::Int16 => 16,
            Self::Fp8 | Self::Int8 => 8,
            Self::Fp4 | Self::Int4 => 4,
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.word())
    }
}

/// The highest rates for one precision; a multiply-accumulate is two operations.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peak {
    /// On dense operands, by the fastest unit that has the precision (matrix engines where there are any).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dense: Option<Spec<OperationsPerSecond>>,
    /// On operands with the structured sparsity the chip exploits, counting the zeros.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse: Option<Spec<OperationsPerSecond>>,
    /// By the ordinary (vector) units, where `dense` is a matrix engine's rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<Spec<OperationsPerSecond>>,
    /// Multiply-accumulates a clock in one unit, behind `dense`: dense = 2 × lanes × units × clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<Spec<Count>>,
    /// The clock behind `dense`, where it is not [`Compute::clock_hz`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_hz: Option<Spec<Hertz>>,
}

/// One level of memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// `L2`, `HBM2e`, `SRAM`.
    pub name: String,
    /// The figures are for one of [`Compute::units`], which each have their own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub per_unit: bool,
    /// Outside the package's compute die.
    #[serde(default, skip_serializing_if = "is_false")]
    pub off_chip: bool,
    /// Its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Spec<Bytes>>,
    /// Its bandwidth, reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<Spec<BytesPerSecond>>,
    /// Data lines to it, all channels together: bandwidth = lines / 8 × transfers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus_bits: Option<Spec<Count>>,
    /// Transfers a second on one data line: 6.4e9 for DDR5-6400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfers_per_second: Option<Spec<PerSecond>>,
}

/// Where a link leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkEnd {
    /// To the processor that runs the program: `PCIe`, `USB`.
    Host,
    /// To other chips of the kind: `NVLink`, `ICI`. A model that is split over several is split over these.
    Chips,
}

/// One way out of the chip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// `NVLink`, `PCIe 4.0 x16`, `USB 3.0`.
    pub name: String,
    /// Where it leads.
    pub to: LinkEnd,
    /// All lanes together, in one direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<Spec<BytesPerSecond>>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

impl Figures for Compute {
    fn each(&mut self, at: &str, see: See<'_>) {
        each_field!(self, at, see, units, clock_hz, base_clock_hz);
        each_peak(&mut self.peaks, at, see);
        each_memory(&mut self.memory, at, see);
        for link in &mut self.links {
            let at = join(at, &format!("links.{}", link.name));
            each_field!(link, &at, see, bytes_per_second);
        }
    }
}

pub(crate) fn each_peak(peaks: &mut BTreeMap<Precision, Peak>, at: &str, see: See<'_>) {
    for (precision, peak) in peaks {
        let at = join(at, &format!("peaks.{precision}"));
        let rates = [
            ("dense", &mut peak.dense),
            ("sparse", &mut peak.sparse),
            ("vector", &mut peak.vector),
        ];
        for (name, rate) in rates {
            if let Some(spec) = rate {
                see(&join(&at, name), Some(precision.rate_symbol()), spec);
            }
        }
        each_field!(peak, &at, see, lanes, clock_hz);
    }
}

pub(crate) fn each_memory(memory: &mut [Memory], at: &str, see: See<'_>) {
    for level in memory {
        let at = join(at, &format!("memory.{}", level.name));
        each_field!(level, &at, see, bytes, bytes_per_second, bus_bits, transfers_per_second);
    }
}
