//! What a pass is, and the loop that runs passes.

use anychip_ir::{Graph, IrError, Op, Prim};

use crate::PIPELINE;

/// A graph after a pass, and in how many places the pass changed it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The graph; as it was when `changes` is 0.
    pub graph: Graph,
    /// Nodes replaced or removed.
    pub changes: usize,
}

/// A rewrite of whole graphs that keeps their meaning.
#[derive(Clone, Copy)]
pub struct Pass {
    /// A verb phrase in kebab case.
    pub name: &'static str,
    /// What it rewrites to what: the lines of its doc comment.
    pub equation: &'static str,
    /// Applies it once to a graph and the regions in it.
    pub run: fn(&Graph) -> Result<Outcome, IrError>,
}

/// Declares a pass: its doc comment is its equation.
macro_rules! pass {
    ($(#[doc = $line:literal])+ pub(crate) const $constant:ident = $name:literal, $run:path;) => {
        $(#[doc = $line])+
        pub(crate) const $constant: $crate::Pass =
            $crate::Pass { name: $name, equation: concat!($($line, "\n"),+), run: $run };
    };
}

/// What one pass did in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassReport {
    /// The pass.
    pub pass: &'static str,
    /// Its equation.
    pub equation: &'static str,
    /// Which time through the pipeline, from 1.
    pub round: usize,
    /// Nodes replaced or removed.
    pub changes: usize,
    /// [`node_count`] before.
    pub nodes_before: usize,
    /// [`node_count`] after.
    pub nodes_after: usize,
}

/// Passes run again while one of them changes something, at most so often: every pass makes the graph
/// smaller or moves something one way, so real models settle after two or three.
const MOST_ROUNDS: usize = 6;

/// Runs [`PIPELINE`] until nothing changes, telling `report` of every pass of every round.
pub fn optimize(graph: &Graph, report: &mut dyn FnMut(&PassReport)) -> Result<Graph, IrError> {
    run(PIPELINE, graph, report)
}

/// Runs the given passes until nothing changes.
pub fn run(
    passes: &[Pass],
    graph: &Graph,
    report: &mut dyn FnMut(&PassReport),
) -> Result<Graph, IrError> {
    let mut graph = graph.clone();
    let mut nodes_before = node_count(&graph);
    for round in 1..=MOST_ROUNDS {
        let mut changed = false;
        for pass in passes {
            let outcome = (pass.run)(&graph)?;
            if outcome.changes > 0 {
                changed = true;
                graph = outcome.graph;
            }
            let nodes_after = if outcome.changes > 0 { node_count(&graph) } else { nodes_before };
            report(&PassReport {
                pass: pass.name,
                equation: pass.equation,
                round,
                changes: outcome.changes,
                nodes_before,
                nodes_after,
            });
            nodes_before = nodes_after;
        }
        if !changed {
            break;
        }
    }
    Ok(graph)
}

/// The nodes of a graph and the regions in it, constants not counted.
pub fn node_count(graph: &Graph) -> usize {
    graph
        .nodes()
        .iter()
        .map(|node| match &node.op {
            Op::Prim(Prim::Constant(_)) => 0,
            _ => 1 + node.regions.iter().map(node_count).sum::<usize>(),
        })
        .sum()
}
