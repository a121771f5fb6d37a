//! What one step of a run took, for tables of where the time goes.

use serde::{Deserialize, Serialize};

/// One step: a node of the model, or several that run as one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The node as the model's author would know it.
    pub name: String,
    /// The operator or operators, and the code chosen for them.
    pub kernel: String,
    /// Seconds; the basis is the Record's latency's.
    pub seconds: f64,
    /// Arithmetic operations.
    pub operations: f64,
    /// Bytes of operands, weights and results, each once.
    pub bytes: f64,
}
