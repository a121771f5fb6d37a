//! The cases: graphs with operands, generated the same everywhere from the names of the cases.

mod casts;
mod composites;
mod contractions;
mod control_flow;
mod elementwise;
mod indexing;
mod movement;
mod networks;
mod quantization;
mod reductions;

use anychip_ir::{Builder, Graph, IrError, OpSpec, TensorType, ValueId};
use anychip_tensor::Tensor;

use crate::Random;

/// A graph and sets of operands to run it on.
#[derive(Clone, Debug)]
pub struct Case {
    /// `family/operator/what is particular`.
    pub name: String,
    /// What is computed.
    pub graph: Graph,
    /// Sets of operands, each in the graph's order.
    pub inputs: Vec<Vec<Tensor>>,
    /// Factor of the tolerance: more where many roundings come together.
    pub slack: f64,
    /// Where the operands' numbers started.
    pub seed: u64,
}

/// A group of cases: one test of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Functions of one element at a time.
    Elementwise,
    /// Every element type to every other.
    Casts,
    /// Dot products and convolutions.
    Contractions,
    /// Reductions over dims, windows and prefixes; sorting.
    Reductions,
    /// Transposes, slices, pads …
    Movement,
    /// Reading and writing at indices.
    Indexing,
    /// Quantize, dequantize, requantize.
    Quantization,
    /// Branches and loops.
    ControlFlow,
    /// Every composite.
    Composites,
    /// Whole graphs, with named sizes.
    Networks,
}

impl Family {
    /// Every family.
    pub const ALL: [Family; 10] = [
        Family::Elementwise,
        Family::Casts,
        Family::Contractions,
        Family::Reductions,
        Family::Movement,
        Family::Indexing,
        Family::Quantization,
        Family::ControlFlow,
        Family::Composites,
        Family::Networks,
    ];

    /// Its cases.
    pub fn cases(self) -> Vec<Case> {
        let mut all = Vec::new();
        match self {
            Family::Elementwise => elementwise::cases(&mut all),
            Family::Casts => casts::cases(&mut all),
            Family::Contractions => contractions::cases(&mut all),
            Family::Reductions => reductions::cases(&mut all),
            Family::Movement => movement::cases(&mut all),
            Family::Indexing => indexing::cases(&mut all),
            Family::Quantization => quantization::cases(&mut all),
            Family::ControlFlow => control_flow::cases(&mut all),
            Family::Composites => composites::cases(&mut all),
            Family::Networks => networks::cases(&mut all),
        }
        all
    }
}

/// A graph of one node on the given operands, all of them inputs but those in `constants`.
fn node_case(
    name: String,
    op: impl OpSpec,
    operands: &[Tensor],
    constants: &[usize],
) -> Result<Case, IrError> {
    let op = op.into_op();
    let mut b = Builder::new(&name);
    let mut inputs = Vec::new();
    let values: Vec<ValueId> = operands
        .iter()
        .enumerate()
        .map(|(i, tensor)| {
            if constants.contains(&i) {
                b.constant(tensor.clone())
            } else {
                inputs.push(tensor.clone());
                b.input(&format!("x{i}"), TensorType::of(tensor))
            }
        })
        .collect();
    let outputs = b.node(op, &values, Vec::new())?;
    Ok(Case {
        seed: Random::seed_of(&name),
        name,
        graph: b.finish(&outputs),
        inputs: vec![inputs],
        slack: 1.0,
    })
}

/// Adds a case that must build.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a table of cases reads best with its values in place"
)]
fn add(
    all: &mut Vec<Case>,
    name: String,
    op: impl OpSpec,
    operands: &[Tensor],
    constants: &[usize],
) {
    let case = node_case(name.clone(), op, operands, constants);
    all.push(case.unwrap_or_else(|error| panic!("case {name} does not build: {error}")));
}
