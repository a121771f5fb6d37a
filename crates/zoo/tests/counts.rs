//! Every named model has as many parameters and multiply-accumulates as its publishers say.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use anychip_ir::{Graph, graph_work, node_works, specialize};

/// The graph with one inference in a batch and the usual size of every other dim.
fn sized(architecture: &anychip_zoo::Architecture) -> Graph {
    let size = |name: &str| {
        let usual = architecture.usual_sizes.iter().find(|(known, _)| known == name);
        Some(usual.map_or(1, |&(_, size)| size))
    };
    specialize(&architecture.graph, &architecture.graph.bind_dims(&size)).unwrap()
}

#[test]
fn parameters_are_as_published() {
    let mut faults = Vec::new();
    for row in anychip_zoo::rows() {
        match anychip_zoo::build(row.name) {
            Ok(built) => {
                if row.parameters.agrees(built.parameters as f64) == Some(false) {
                    faults.push(format!(
                        "{}: {} of {:?}",
                        row.name, built.parameters, row.parameters
                    ));
                }
            }
            Err(error) => faults.push(format!("{}: {error}", row.name)),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn multiply_accumulates_are_as_published() {
    let mut faults = Vec::new();
    for row in anychip_zoo::rows() {
        let name = format!("{},{}", row.name, row.macs_at);
        let Ok(built) = anychip_zoo::build(&name) else {
            faults.push(name);
            continue;
        };
        match graph_work(&sized(&built)) {
            Ok(work) if row.macs.agrees(work.macs) == Some(false) => {
                faults.push(format!("{name}: {:.4e} of {:?}", work.macs, row.macs));
            }
            Ok(work) => assert!(!work.data_dependent, "{name}"),
            Err(error) => faults.push(format!("{name}: {error}")),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// BK-SDM (arXiv:2305.15798, table 1) gives 339 G for one step of Stable Diffusion's U-Net, without the products inside
/// attention, which have no weights.
#[test]
fn a_step_of_diffusion_multiplies_as_published() {
    let graph = sized(&anychip_zoo::build("sd-1.5-unet").unwrap());
    let works = node_works(&graph).unwrap();
    let outside =
        graph.nodes().iter().zip(&works).filter(|(node, _)| node.op.name() != "attention");
    let macs: f64 = outside.map(|(_, work)| work.macs).sum();
    assert!((macs / 339e9 - 1.0).abs() < 0.01, "{macs:e}");
}

/// A token passes two of Mixtral's eight experts: the 12.9 billion parameters that arXiv:2401.04088 calls active.
#[test]
fn a_mixture_multiplies_by_the_experts_that_are_chosen() {
    let built = anychip_zoo::build("mixtral-8x7b,phase=decode,context=1").unwrap();
    let macs = graph_work(&sized(&built)).unwrap().macs;
    // The table of the embedding is looked up, not multiplied.
    let expected = 12.9e9 - 32_000.0 * 4096.0;
    assert!((macs / expected - 1.0).abs() < 0.01, "{macs:e}");
}
