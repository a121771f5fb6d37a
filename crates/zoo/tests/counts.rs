//! Every named model has as many parameters and multiply-accumulates as its publishers say.

use anychip_ir::{Graph, graph_work, specialize};

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
                    faults.push(format!("{}: {} of {:?}", row.name, built.parameters, row.parameters));
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
