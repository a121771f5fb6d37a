//! The body of a neuromorphic chip: cores of spiking neurons.

use anychip_units::{Count, Hertz, Joules, Seconds};
use serde::{Deserialize, Serialize};

use crate::spec::{Figures, See, Spec, each_field};

/// Cores of spiking neurons joined by synapses.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spiking {
    /// Cores on the chip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<Spec<Count>>,
    /// Neurons on the chip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neurons: Option<Spec<Count>>,
    /// Synapses on the chip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synapses: Option<Spec<Count>>,
    /// Neurons a core can hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neurons_per_core: Option<Spec<Count>>,
    /// Inputs a core can hold, where that is a limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axons_per_core: Option<Spec<Count>>,
    /// The clock of a core, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_hz: Option<Spec<Hertz>>,
    /// One time step of the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick_s: Option<Spec<Seconds>>,
    /// Energy of one synaptic event. Definitions differ; the note says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_per_event_j: Option<Spec<Joules>>,
}

impl Figures for Spiking {
    fn each(&mut self, at: &str, see: See<'_>) {
        each_field!(self, at, see, cores, neurons, synapses, neurons_per_core, axons_per_core);
        each_field!(self, at, see, clock_hz, tick_s, energy_per_event_j);
    }
}
