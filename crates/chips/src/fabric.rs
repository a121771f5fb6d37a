//! The body of an FPGA: what a circuit can be made of.

use std::collections::BTreeMap;

use anychip_units::{Count, Hertz};
use serde::{Deserialize, Serialize};

use crate::{
    compute::{Memory, Peak, Precision, each_memory, each_peak},
    spec::{Figures, See, Spec, each_field, join},
};

/// Configurable logic.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fabric {
    /// Look-up tables, of the inputs that [`Fabric::lut_inputs`] says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub luts: Option<Spec<Count>>,
    /// Inputs of one look-up table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lut_inputs: Option<Spec<Count>>,
    /// Flip-flops outside the other blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flip_flops: Option<Spec<Count>>,
    /// The hard multipliers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multipliers: Option<Blocks>,
    /// The RAM blocks, one entry a kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rams: Vec<Blocks>,
    /// A clock that designs full of multipliers reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_hz: Option<Spec<Hertz>>,
    /// Rates the vendor states for the whole device.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peaks: BTreeMap<Precision, Peak>,
    /// Memory on the board, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<Memory>,
}

/// Hard blocks of one kind.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocks {
    /// What the vendor calls one: `DSP48E2`, `M20K`.
    pub name: String,
    /// How many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<Spec<Count>>,
    /// For a multiplier: the bits of its wider operand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wide_bits: Option<Spec<Count>>,
    /// For a multiplier: the bits of its narrower operand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrow_bits: Option<Spec<Count>>,
    /// For a RAM: the bits one block stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<Spec<Count>>,
}

impl Figures for Fabric {
    fn each(&mut self, at: &str, see: See<'_>) {
        each_field!(self, at, see, luts, lut_inputs, flip_flops);
        if let Some(multipliers) = &mut self.multipliers {
            multipliers.each(&join(at, &format!("multipliers.{}", multipliers.name)), see);
        }
        for ram in &mut self.rams {
            ram.each(&join(at, &format!("rams.{}", ram.name)), see);
        }
        each_field!(self, at, see, clock_hz);
        each_peak(&mut self.peaks, at, see);
        each_memory(&mut self.memory, at, see);
    }
}

impl Figures for Blocks {
    fn each(&mut self, at: &str, see: See<'_>) {
        each_field!(self, at, see, count, wide_bits, narrow_bits, bits);
    }
}
