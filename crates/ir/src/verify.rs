//! Checks a graph from outside: what every pass and importer may rely on.
//!
//! A graph made through a [`crate::Builder`] is well formed by construction; this holds the finished
//! graph to the same rules again, so that a fault of ours (a rule that changed its mind, a value of another
//! builder, a rewrite that broke a promise) is caught where it arises.

use std::collections::BTreeMap;

use anychip_tensor::Dim;

use crate::{Builder, Definition, Graph, IrError, NodeId, TensorType, ValueId};

/// What is wrong with a graph.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum VerifyError {
    /// A value that the graph does not have.
    #[error("{place}: value {value} does not exist")]
    NoSuchValue {
        /// Where it is used.
        place: String,
        /// Its number.
        value: usize,
    },
    /// A value used before the node that makes it.
    #[error("{place}: value {value} is used before it is made")]
    Order {
        /// Where it is used.
        place: String,
        /// Its number.
        value: usize,
    },
    /// A value made twice, never, or elsewhere than it says.
    #[error("value {value}: {reason}")]
    Definition {
        /// Its number.
        value: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// As many output names as outputs are needed.
    #[error("{outputs} outputs have {names} names")]
    OutputNames {
        /// How many outputs.
        outputs: usize,
        /// How many names.
        names: usize,
    },
    /// A node that cannot be typed.
    #[error("{place}: {error}")]
    Node {
        /// The node.
        place: String,
        /// Why not.
        error: IrError,
    },
    /// A type that does not follow from the operands.
    #[error("{place}: result {result} is {found}, but follows to be {expected}")]
    Type {
        /// The node.
        place: String,
        /// Which result.
        result: usize,
        /// The type in the graph.
        found: TensorType,
        /// The type by the rules.
        expected: TensorType,
    },
    /// A fault inside a region.
    #[error("{place}, region {region}: {error}")]
    Region {
        /// The node.
        place: String,
        /// Which region.
        region: usize,
        /// What is wrong there.
        error: Box<VerifyError>,
    },
}

/// Checks single assignment, order, regions and types; every fault found.
///
/// Types are derived again from the inputs and must agree with those in the graph, up to the names (`?n`) of
/// sizes that only a run can tell.
pub fn verify(graph: &Graph) -> Result<(), Vec<VerifyError>> {
    let mut errors = structure(graph);
    for (id, node) in graph.iter() {
        for (i, region) in node.regions.iter().enumerate() {
            for error in verify(region).err().unwrap_or_default() {
                let error = Box::new(error);
                errors.push(VerifyError::Region { place: place(graph, id), region: i, error });
            }
        }
    }
    // Types are only derived where every value exists and comes before its use.
    if errors.is_empty() {
        errors = types(graph);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// `conv_1 (convolution, node 4)`
fn place(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    if node.name.is_empty() {
        format!("{} (node {})", node.op.name(), id.index())
    } else {
        format!("{} ({}, node {})", node.name, node.op.name(), id.index())
    }
}

fn structure(graph: &Graph) -> Vec<VerifyError> {
    let mut errors = Vec::new();
    let mut made = vec![false; graph.value_count()];
    let mut make = |value: ValueId, definition: Definition, errors: &mut Vec<VerifyError>| {
        let index = value.index();
        let reason = match made.get_mut(index) {
            None => {
                let place = format!("{definition:?}");
                return errors.push(VerifyError::NoSuchValue { place, value: index });
            }
            Some(made) if *made => Some("made twice"),
            Some(made) => {
                *made = true;
                (graph.definition(value) != definition).then_some("made elsewhere than it says")
            }
        };
        if let Some(reason) = reason {
            errors.push(VerifyError::Definition { value: index, reason });
        }
    };
    // Where each value is made, by the order of nodes; inputs come before all.
    let mut made_by = vec![None; graph.value_count()];
    for (i, &value) in graph.inputs().iter().enumerate() {
        make(value, Definition::Input(i), &mut errors);
        if let Some(slot) = made_by.get_mut(value.index()) {
            *slot = Some(0);
        }
    }
    for (id, node) in graph.iter() {
        for &input in &node.inputs {
            match made_by.get(input.index()) {
                None => errors.push(VerifyError::NoSuchValue {
                    place: place(graph, id),
                    value: input.index(),
                }),
                Some(None) => errors
                    .push(VerifyError::Order { place: place(graph, id), value: input.index() }),
                Some(Some(_)) => {}
            }
        }
        for (i, &output) in node.outputs.iter().enumerate() {
            make(output, Definition::Output(id, i), &mut errors);
            if let Some(slot) = made_by.get_mut(output.index()) {
                *slot = Some(id.index() + 1);
            }
        }
    }
    for (i, output) in graph.outputs().iter().enumerate() {
        match made_by.get(output.index()) {
            Some(Some(_)) => {}
            Some(None) => errors
                .push(VerifyError::Order { place: format!("output {i}"), value: output.index() }),
            None => errors.push(VerifyError::NoSuchValue {
                place: format!("output {i}"),
                value: output.index(),
            }),
        }
    }
    for value in graph.values().filter(|v| made_by[v.index()].is_none()) {
        errors.push(VerifyError::Definition { value: value.index(), reason: "never made" });
    }
    if graph.output_names().len() != graph.outputs().len() {
        errors.push(VerifyError::OutputNames {
            outputs: graph.outputs().len(),
            names: graph.output_names().len(),
        });
    }
    errors
}

fn types(graph: &Graph) -> Vec<VerifyError> {
    let mut errors = Vec::new();
    let mut b = Builder::new(graph.name());
    let mut values: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for &input in graph.inputs() {
        values.insert(input, b.input("", graph.ty(input).clone()));
    }
    b.reserve_symbols(crate::rewrite::first_free_symbol(graph));
    for (id, node) in graph.iter() {
        let operands: Vec<ValueId> = node.inputs.iter().map(|v| values[v]).collect();
        let results = match b.node(node.op.clone(), &operands, node.regions.clone()) {
            Ok(results) if results.len() == node.outputs.len() => results,
            Ok(results) => {
                let error = IrError::OperandCount {
                    op: "results",
                    expected: results.len(),
                    found: node.outputs.len(),
                };
                errors.push(VerifyError::Node { place: place(graph, id), error });
                break;
            }
            Err(error) => {
                errors.push(VerifyError::Node { place: place(graph, id), error });
                break;
            }
        };
        for (i, (&own, &derived)) in node.outputs.iter().zip(&results).enumerate() {
            let (found, expected) = (graph.ty(own).clone(), b.ty(derived).clone());
            // What follows is derived from the type in the graph, so each fault is reported where it is.
            if !b.retype(derived, &found) {
                let place = place(graph, id);
                errors.push(VerifyError::Type { place, result: i, found, expected });
            }
            values.insert(own, derived);
        }
    }
    errors
}

/// Whether a type in the graph is one that the rules allow: equal, but for names (`?n`) that were invented. A
/// builder may have known more than the graph keeps, or less, so anything may stand against an invented name.
pub(crate) fn agree(found: &TensorType, derived: &TensorType) -> bool {
    let invented = |dim: &Dim| dim.symbols().iter().any(|s| s.starts_with('?'));
    found.dtype == derived.dtype
        && found.rank() == derived.rank()
        && found
            .shape
            .iter()
            .zip(&derived.shape)
            .all(|(found, derived)| found == derived || invented(found) || invented(derived))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Prim, Unary};
    use anychip_tensor::DType;

    fn small() -> Graph {
        let mut b = Builder::new("small");
        let x = b.input("x", TensorType::new(DType::F32, [Dim::sym("n"), Dim::Fixed(3)]));
        let y = b.exp(x).unwrap();
        let z = b.add(x, y).unwrap();
        b.finish(&[z])
    }

    #[test]
    fn a_built_graph_is_well_formed() {
        assert_eq!(verify(&small()), Ok(()));
    }

    #[test]
    fn each_fault_is_found() {
        let mut wrong_type = small();
        Arc::make_mut(&mut wrong_type.values)[1].ty.shape[1] = Dim::Fixed(4);
        let errors = verify(&wrong_type).unwrap_err();
        assert!(matches!(errors[0], VerifyError::Type { result: 0, .. }), "{errors:?}");

        let mut out_of_order = small();
        Arc::make_mut(&mut out_of_order.nodes).swap(0, 1);
        let errors = verify(&out_of_order).unwrap_err();
        assert!(errors.iter().any(|e| matches!(e, VerifyError::Order { value: 1, .. })));

        let mut missing = small();
        missing.outputs = vec![ValueId(9)];
        let errors = verify(&missing).unwrap_err();
        assert!(matches!(errors[0], VerifyError::NoSuchValue { value: 9, .. }));

        let mut twice = small();
        Arc::make_mut(&mut twice.nodes)[1].outputs = vec![ValueId(1)];
        let errors = verify(&twice).unwrap_err();
        assert!(errors.iter().any(|e| matches!(e, VerifyError::Definition { value: 1, .. })));

        let mut names = small();
        names.output_names.clear();
        assert_eq!(
            verify(&names).unwrap_err(),
            [VerifyError::OutputNames { outputs: 1, names: 0 }]
        );

        let mut operator = small();
        Arc::make_mut(&mut operator.nodes)[0].op = crate::Op::Prim(Prim::Unary(Unary::Not));
        let errors = verify(&operator).unwrap_err();
        assert!(matches!(errors[0], VerifyError::Node { .. }));
    }

    #[test]
    fn invented_names_may_differ() {
        let mut b = Builder::new("data");
        b.reserve_symbols(7);
        let x = b.input("x", TensorType::new(DType::F32, [5usize]));
        let places = b.prim(Prim::NonZero, &[x]).unwrap();
        let twice = b.concat(&[places, places], 1).unwrap();
        let graph = b.finish(&[twice]);
        assert_eq!(graph.ty(twice).to_string(), "i64[1, 2*?7]");
        assert_eq!(verify(&graph), Ok(()));
    }
}
