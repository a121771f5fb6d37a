//! The matrix engine of a chip as its maker describes it: what the simulator of systolic arrays needs beyond peaks
//! and memories, which [`Compute`](crate::Compute) has.

use anychip_units::{Bytes, Count, Seconds};
use serde::{Deserialize, Serialize};

use crate::spec::{Figures, See, Spec, each_field};

/// One or more systolic arrays with their memories. What nobody states is absent; the simulator then says what it takes
/// in its place.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Systolic {
    /// What stays in the cells while the other operand streams through.
    pub dataflow: Dataflow,
    /// Whether a cell can take its next weight while it still multiplies by the last one.
    #[serde(default)]
    pub overlaps_loads: bool,
    /// How many arrays there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrays: Option<Spec<Count>>,
    /// Cells from top to bottom: the products that one sum takes in on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Spec<Count>>,
    /// Cells from left to right: the sums in flight side by side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Spec<Count>>,
    /// Rows of sums that the accumulators below one array hold, all buffers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accumulator_rows: Option<Spec<Count>>,
    /// Stationary tiles that may be fetched ahead of the array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles_ahead: Option<Spec<Count>>,
    /// On-chip memory for activations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_bytes: Option<Spec<Bytes>>,
    /// On-chip memory in which weights of a layer are kept while they are used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_bytes: Option<Spec<Bytes>>,
    /// On-chip memory in which weights stay from one run to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_cache_bytes: Option<Spec<Bytes>>,
    /// Operations a clock of the unit that does everything but products.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector_lanes: Option<Spec<Count>>,
    /// From asking main memory to the first byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_latency_s: Option<Spec<Seconds>>,
    /// What each transfer of a tile costs beside its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_s: Option<Spec<Seconds>>,
    /// What each layer costs beside its work: the steps of the program that begin and end it, and memory's answer to the first and
    /// last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_s: Option<Spec<Seconds>>,
    /// What each run costs before the chip begins: the host's software and the way to the chip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_s: Option<Spec<Seconds>>,
}

/// What stays in the cells of an array.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Dataflow {
    /// Weights stay, activations stream, sums leave at the bottom.
    #[default]
    WeightStationary,
    /// Sums stay, both operands stream.
    OutputStationary,
    /// Activations stay, weights stream.
    InputStationary,
}

impl Dataflow {
    /// All of them.
    pub const ALL: [Self; 3] =
        [Self::WeightStationary, Self::OutputStationary, Self::InputStationary];

    /// The word that files and tables use.
    pub fn word(self) -> &'static str {
        match self {
            Self::WeightStationary => "weight-stationary",
            Self::OutputStationary => "output-stationary",
            Self::InputStationary => "input-stationary",
        }
    }
}

impl std::fmt::Display for Dataflow {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.word())
    }
}

impl Figures for Systolic {
    fn each(&mut self, at: &str, see: See<'_>) {
        each_field!(self, at, see, arrays, rows, columns, accumulator_rows, tiles_ahead);
        each_field!(
            self,
            at,
            see,
            activation_bytes,
            weight_bytes,
            weight_cache_bytes,
            vector_lanes
        );
        each_field!(self, at, see, memory_latency_s, transfer_s, layer_s, launch_s);
    }
}
