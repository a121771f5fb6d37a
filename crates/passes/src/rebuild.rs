//! The runner of node-by-node rewrites: offers each node of the old graph, counts what was replaced.

use std::sync::Arc;

use anychip_ir::{Builder, Graph, IrError, Node, NodeId, Op, ValueId, first_free_symbol};
use anychip_tensor::Dim;

use crate::{Outcome, Uses};

/// A node of the old graph, with what a rule may look at: the old graph for matching (its producers and
/// uses are complete), and the values of the new graph to build the replacement from.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The old graph.
    pub graph: &'a Graph,
    /// Uses in the old graph.
    pub uses: &'a Uses,
    /// The node's place in the old graph.
    pub id: NodeId,
    /// The node, with operands of the old graph.
    pub node: &'a Node,
    /// The operands in the new graph.
    pub inputs: &'a [ValueId],
    map: &'a [Option<ValueId>],
}

impl Site<'_> {
    /// The value of the new graph that stands for `old`, which is defined before this node.
    pub fn new_value(&self, old: ValueId) -> ValueId {
        mapped(self.map, old)
    }
}

/// What a rule says of a node.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Copy it.
    Keep,
    /// The rule has copied it already; these are its results.
    Kept(Vec<ValueId>),
    /// These values of the new graph stand for its results: a change.
    Replace(Vec<ValueId>),
    /// No node that is kept reads its results and the graph does not return them.
    Remove,
}

/// Says of a node what becomes of it in the new graph.
pub type Rule<'r> = dyn FnMut(&mut Builder, &Site<'_>) -> Result<Verdict, IrError> + 'r;

/// Says of a node which value of the new graph stands for its only result, or `None` to keep it.
pub type ValueRule<'r> =
    dyn FnMut(&mut Builder, &Site<'_>) -> Result<Option<ValueId>, IrError> + 'r;

/// Rebuilds `graph` and the regions in it, offering each node to `rule`: the value that stands for its
/// first and only result, or `None` to keep it. When nothing was replaced the graph comes back as it was.
pub fn replace(graph: &Graph, rule: &mut ValueRule<'_>) -> Result<Outcome, IrError> {
    rebuild(graph, &mut |b, site| {
        Ok(match rule(b, site)? {
            Some(value) => Verdict::Replace(vec![value]),
            None => Verdict::Keep,
        })
    })
}

/// Rebuilds `graph` and the regions in it, offering each node to `rule`. When nothing was replaced the
/// graph comes back as it was. Inputs, outputs and their names stay.
pub fn rebuild(graph: &Graph, rule: &mut Rule<'_>) -> Result<Outcome, IrError> {
    let uses = Uses::of(graph);
    let mut b = Builder::new(graph.name());
    b.reserve_symbols(first_free_symbol(graph));
    let mut map: Vec<Option<ValueId>> = vec![None; graph.value_count()];
    for &input in graph.inputs() {
        let name = graph.value_name(input).unwrap_or_default();
        map[input.index()] = Some(b.input(name, graph.ty(input).clone()));
    }
    let mut changes = 0;
    let mut inputs = Vec::new();
    for (id, node) in graph.iter() {
        inputs.clear();
        inputs.extend(node.inputs.iter().map_while(|v| map[v.index()]));
        if inputs.len() < node.inputs.len() {
            // It reads a removed value, so it was to be removed itself.
            changes += 1;
            continue;
        }
        b.set_scope(Arc::clone(&node.name));
        let inputs = inputs.as_slice();
        let site = Site { graph, uses: &uses, id, node, inputs, map: &map };
        let verdict = rule(&mut b, &site).map_err(|error| error.at(&node.name))?;
        let results = match verdict {
            Verdict::Keep if node.regions.is_empty() => {
                b.copy(graph, node, inputs).map_err(|error| error.at(&node.name))?
            }
            Verdict::Keep => {
                let mut regions = Vec::with_capacity(node.regions.len());
                for region in &node.regions {
                    let outcome = rebuild(region, rule)?;
                    changes += outcome.changes;
                    regions.push(outcome.graph);
                }
                b.node(node.op.clone(), inputs, regions).map_err(|error| error.at(&node.name))?
            }
            Verdict::Kept(results) => results,
            Verdict::Remove => {
                changes += 1;
                continue;
            }
            Verdict::Replace(results) => {
                changes += 1;
                for (&old, &new) in node.outputs.iter().zip(&results) {
                    debug_assert!(
                        stands_for(graph, old, &b, new),
                        "{} ({}) was replaced by {}",
                        graph.ty(old),
                        node.op.name(),
                        b.ty(new)
                    );
                }
                results
            }
        };
        assert_eq!(results.len(), node.outputs.len(), "a replacement must have the node's results");
        for (&old, new) in node.outputs.iter().zip(results) {
            if let Some(name) = graph.value_name(old) {
                b.name_value(new, name);
            }
            map[old.index()] = Some(new);
        }
    }
    if changes == 0 {
        return Ok(Outcome { graph: graph.clone(), changes });
    }
    let outputs = graph.outputs().iter().map(|v| mapped(&map, *v));
    let named: Vec<_> = graph.output_names().iter().cloned().zip(outputs).collect();
    Ok(Outcome { graph: b.finish_named(&named), changes })
}

/// Whether a graph or a region in it has such an operation: a pass without candidates need not rebuild.
pub(crate) fn contains(graph: &Graph, wanted: &dyn Fn(&Op) -> bool) -> bool {
    graph
        .nodes()
        .iter()
        .any(|node| wanted(&node.op) || node.regions.iter().any(|region| contains(region, wanted)))
}

/// The graph as it is.
pub(crate) fn unchanged(graph: &Graph) -> Outcome {
    Outcome { graph: graph.clone(), changes: 0 }
}

/// Applies a pass that looks at whole graphs to the regions of a node; for [`rebuild`]'s rules.
pub(crate) fn apply_to_regions(
    b: &mut Builder,
    site: &Site<'_>,
    pass: fn(&Graph) -> Result<Outcome, IrError>,
) -> Result<Verdict, IrError> {
    let mut changed = false;
    let mut regions = Vec::with_capacity(site.node.regions.len());
    for region in &site.node.regions {
        let outcome = pass(region)?;
        changed |= outcome.changes > 0;
        regions.push(outcome.graph);
    }
    let results = b.node(site.node.op.clone(), site.inputs, regions)?;
    Ok(if changed { Verdict::Replace(results) } else { Verdict::Kept(results) })
}

fn mapped(map: &[Option<ValueId>], old: ValueId) -> ValueId {
    map[old.index()].expect("a value is mapped before its users are offered")
}

/// Whether the types agree as far as both know them.
fn stands_for(graph: &Graph, old: ValueId, b: &Builder, new: ValueId) -> bool {
    let (old, new) = (graph.ty(old), b.ty(new));
    old.dtype == new.dtype
        && old.rank() == new.rank()
        && old.shape.iter().zip(&new.shape).all(|(a, b)| match (a, b) {
            (Dim::Fixed(a), Dim::Fixed(b)) => a == b,
            _ => true,
        })
}
