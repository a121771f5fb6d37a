//! The conformance suite on simulated machines: each dataflow, values by the reference and stepped through the cells.

use anychip_chips::Dataflow;
use anychip_systolic::{Machine, SystolicTarget};

mod weight_stationary {
    use super::*;
    anychip_conformance::suite! {
        target: SystolicTarget::with_machine(Machine::ideal(8, 8, Dataflow::WeightStationary))
    }
}
