//! The body of a gate-model quantum computer.

use anychip_units::{Count, Ratio, Seconds, UsDollars};
use serde::{Deserialize, Serialize};

use crate::spec::{Figures, See, Spec, each_field, join};

/// Qubits and what can be done with them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantum {
    /// How many qubits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qubits: Option<Spec<Count>>,
    /// Which qubits a two-qubit gate can join: `all-to-all`, `heavy-hex`, `grid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connectivity: Option<String>,
    /// The operations the machine has, measurement included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// Relaxation time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t1_s: Option<Spec<Seconds>>,
    /// Dephasing time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t2_s: Option<Spec<Seconds>>,
    /// Price of one task, whatever its shots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_task: Option<Spec<UsDollars>>,
    /// Price of one shot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_per_shot: Option<Spec<UsDollars>>,
}

/// One native operation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Its name in `OpenQASM`, or `measure`.
    pub name: String,
    /// How many qubits it joins.
    pub qubits: u32,
    /// How long it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_s: Option<Spec<Seconds>>,
    /// One minus its average fidelity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infidelity: Option<Spec<Ratio>>,
}

impl Figures for Quantum {
    fn each(&mut self, at: &str, see: See<'_>) {
        each_field!(self, at, see, qubits);
        for gate in &mut self.gates {
            let at = join(at, &format!("gates.{}", gate.name));
            each_field!(gate, &at, see, time_s, infidelity);
        }
        each_field!(self, at, see, t1_s, t2_s, usd_per_task, usd_per_shot);
    }
}
