//! Random graphs evaluated at concrete sizes: symbolic types, concrete types and results must agree.

#[allow(unreachable_pub, dead_code, reason = "shared by tests and examples, which each use a part")]
mod support;

use anychip_ir::{Binary, Compare, IrError, TensorType, evaluate, specialize};
use anychip_tensor::Dim;
use support::{Rng, size_of};

/// Faults that only the contents of operands can show: an index out of range, two sizes of different names
/// taken to be equal, too deep a slice of a small dim.
fn depends_on_data(error: &IrError) -> bool {
    match error {
        IrError::At { source, .. } => depends_on_data(source),
        // Sizes of two names broadcast against each other; windows larger than a named dim.
        IrError::Result { op, .. } => {
            let binary = Binary::ALL.iter().any(|(_, name)| name == op);
            binary
                || Compare::ALL.iter().any(|(_, name)| name == op)
                || ["select", "convolution", "reduce-window"].contains(op)
        }
        IrError::IndexOutOfRange { .. }
        | IrError::Shapes { .. }
        | IrError::Setting { .. }
        | IrError::Input { .. } => true,
        _ => false,
    }
}

#[test]
fn results_have_the_types_that_were_derived() {
    let (mut evaluated, mut total) = (0, 0);
    for seed in 0..1500 {
        let mut rng = Rng(seed);
        let graph = support::graph(&mut rng, 16);
        let inputs = support::inputs(&mut rng, &graph);
        total += 1;
        match evaluate(&graph, &inputs) {
            Ok(results) => {
                evaluated += 1;
                for (result, &value) in results.iter().zip(graph.outputs()) {
                    assert_eq!(result.dtype(), graph.ty(value).dtype, "seed {seed}");
                }
            }
            Err(error) => assert!(
                depends_on_data(&error),
                "seed {seed}: {error}\n{}",
                anychip_ir::text::print(&graph)
            ),
        }
    }
    assert!(evaluated * 3 > total, "only {evaluated} of {total} could be evaluated");
}

#[test]
fn specializing_changes_no_result() {
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let graph = support::graph(&mut rng, 12);
        let inputs = support::inputs(&mut rng, &graph);
        let types: Vec<TensorType> = graph
            .inputs()
            .iter()
            .map(|&v| {
                let ty = graph.ty(v);
                let sizes =
                    ty.shape.iter().map(|d| d.substitute(&|n| Some(Dim::Fixed(size_of(n)))));
                TensorType::new(ty.dtype, sizes)
            })
            .collect();
        // A fault that names hide may show when the sizes are known.
        let (Ok(fixed), Ok(expected)) = (specialize(&graph, &types), evaluate(&graph, &inputs))
        else {
            continue;
        };
        assert_eq!(evaluate(&fixed, &inputs).unwrap(), expected, "seed {seed}");
    }
}
