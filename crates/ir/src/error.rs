//! What can be wrong with a graph or with running one.

use anychip_tensor::{DType, TensorError};

use crate::TensorType;

/// Why an operator cannot be built or evaluated on the given operands. The caller knows the node and
/// adds its name.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum IrError {
    /// Too few or too many operands.
    #[error("{op} takes {expected} operands and got {found}")]
    OperandCount {
        /// The operator.
        op: &'static str,
        /// What it takes.
        expected: usize,
        /// What it got.
        found: usize,
    },
    /// An element type that the operator does not take there.
    #[error("{op}: operand {operand} is {found}, expected {expected}")]
    OperandDType {
        /// The operator.
        op: &'static str,
        /// Which operand, from 0.
        operand: usize,
        /// Its element type.
        found: DType,
        /// What would be accepted.
        expected: &'static str,
    },
    /// Shapes that do not go together.
    #[error("{op}: {reason} ({})", list(.types))]
    Shapes {
        /// The operator.
        op: &'static str,
        /// The rule that is broken.
        reason: &'static str,
        /// The operands.
        types: Vec<TensorType>,
    },
    /// A setting out of range.
    #[error("{op}: {reason}, got {found}")]
    Setting {
        /// The operator.
        op: &'static str,
        /// The rule that is broken.
        reason: &'static str,
        /// The setting as it was.
        found: String,
    },
    /// The shape of the result depends on the contents of an operand.
    #[error(
        "{op}: the value of operand {operand} decides {what} and is not known before the model runs"
    )]
    NeedsValue {
        /// The operator.
        op: &'static str,
        /// Which operand, from 0.
        operand: usize,
        /// What it decides.
        what: &'static str,
    },
    /// A name in a dim that no value of the graph carries.
    #[error("the size `{0}` is used before any value has it")]
    UnboundSymbol(String),
    /// An index outside its dim.
    #[error("{op}: index {index} is outside a dim of {size}")]
    IndexOutOfRange {
        /// The operator.
        op: &'static str,
        /// The index.
        index: i64,
        /// The dim.
        size: usize,
    },
    /// A tensor whose parts disagree or that cannot be held.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// An error inside a named node.
    #[error("{node}: {source}")]
    At {
        /// The node, or the operator where it has no name.
        node: String,
        /// What is wrong there.
        source: Box<IrError>,
    },
    /// A result that would take more memory than the evaluation may use.
    #[error("a result {dtype}{shape:?} would take more than {limit} bytes")]
    TooLarge {
        /// Element type of the result.
        dtype: DType,
        /// Its shape.
        shape: Vec<usize>,
        /// What one result may take.
        limit: usize,
    },
    /// A loop that ran for longer than the evaluation may.
    #[error("loop: more than {limit} iterations")]
    Iterations {
        /// How many it may run.
        limit: u64,
    },
    /// An evaluation that would take more operations than it may.
    #[error("takes more than the {left} operations that are left")]
    Operations {
        /// How many were left.
        left: u64,
    },
    /// A result whose shape is not what the graph says: two sizes taken to be equal are not.
    #[error("{op}: the result is {found}, expected {expected}")]
    Result {
        /// The operator.
        op: &'static str,
        /// What came out.
        found: String,
        /// The type in the graph, with the sizes its names have.
        expected: String,
    },
    /// A graph was given other inputs than it takes.
    #[error("input `{name}` is {found}, expected {expected}")]
    Input {
        /// The input's name.
        name: String,
        /// What was given.
        found: String,
        /// What is taken.
        expected: String,
    },
}

fn list(types: &[TensorType]) -> String {
    types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl IrError {
    /// This error with the node's name before it (once).
    #[must_use]
    pub fn at(self, node: &str) -> IrError {
        match self {
            already @ IrError::At { .. } => already,
            _ if node.is_empty() => self,
            _ => IrError::At { node: node.to_string(), source: Box::new(self) },
        }
    }
}
