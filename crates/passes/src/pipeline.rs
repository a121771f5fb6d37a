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

/// Runs [`PIPELINE`] until nothing changes, telling `report` of every pass that ran.
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
    // How many changes of the graph there were when each pass last ran: it has nothing to do until
    // another has changed something since.
    let mut version = 0usize;
    let mut seen: Vec<Option<usize>> = vec![None; passes.len()];
    for round in 1..=MOST_ROUNDS {
        for (pass, seen) in passes.iter().zip(&mut seen) {
            if *seen == Some(version) {
                continue;
            }
            let outcome = (pass.run)(&graph)?;
            let mut nodes_after = nodes_before;
            if outcome.changes > 0 {
                version += 1;
                graph = outcome.graph;
                nodes_after = node_count(&graph);
            } else {
                *seen = Some(version);
            }
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
        if seen.iter().all(|&s| s == Some(version)) {
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
