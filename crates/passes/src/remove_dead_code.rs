//! Removes nodes whose results nobody uses.

use anychip_ir::{Graph, IrError};

use crate::rebuild::apply_to_regions;
use crate::{Outcome, Verdict, rebuild};

pass! {
    /// `f(x) =>` nothing, where no node uses it and the graph does not return it
    pub(crate) const REMOVE_DEAD_CODE = "remove-dead-code", run;
}

/// The graph without the nodes that no output depends on.
pub fn remove_dead_code(graph: &Graph) -> Result<Graph, IrError> {
    Ok(run(graph)?.graph)
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    let live = live(graph);
    rebuild(graph, &mut |b, site| {
        if !site.node.outputs.iter().any(|v| live[v.index()]) {
            return Ok(Verdict::Remove);
        }
        if site.node.regions.is_empty() {
            return Ok(Verdict::Keep);
        }
        apply_to_regions(b, site, run)
    })
}

/// Which values some output depends on.
fn live(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.value_count()];
    for &output in graph.outputs() {
        live[output.index()] = true;
    }
    for node in graph.nodes().iter().rev() {
        if node.outputs.iter().any(|v| live[v.index()]) {
            for input in &node.inputs {
                live[input.index()] = true;
            }
        }
    }
    live
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{Builder, TensorType};
    use anychip_tensor::DType;

    #[test]
    fn keeps_what_is_returned_and_its_names() {
        let mut b = Builder::new("g");
        let x = b.input("x", TensorType::new(DType::F32, [2usize]));
        let unused = b.input("unused", TensorType::new(DType::F32, [2usize]));
        let kept = b.exp(x).unwrap();
        let dead = b.log(kept).unwrap();
        b.add(dead, unused).unwrap();
        let g = b.finish_named(&[("y".into(), kept), ("again".into(), kept)]);
        let outcome = run(&g).unwrap();
        assert_eq!(outcome.changes, 2);
        assert_eq!(outcome.graph.nodes().len(), 1);
        assert_eq!(outcome.graph.inputs().len(), 2);
        let names: Vec<&str> = outcome.graph.output_names().iter().map(|n| &**n).collect();
        assert_eq!(names, ["y", "again"]);
    }
}
