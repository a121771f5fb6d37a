//! Expands what a target wants expanded and collects what it refuses.

use anychip_ir::{Builder, Graph, IrError, Node, Op, ValueId, inline_with, rewrite};

use crate::{Refused, Support, Target};

/// A graph whose every node is native on one target. Only [`legalize`] makes one.
#[derive(Debug, Clone)]
pub struct LegalGraph(Graph);

impl LegalGraph {
    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.0
    }
}

/// A node that a target refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The node's name, or its operator's where it has none.
    pub node: String,
    /// The operator.
    pub op: &'static str,
    /// Why, and the way out.
    pub refused: Refused,
}

/// Makes every node native on `target`, or says of each that cannot be why. The graph's own faults
/// come back as the one refusal they are.
pub fn legalize(target: &dyn Target, graph: &Graph) -> Result<LegalGraph, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let legal = expand(target, graph, &mut refusals);
    match legal {
        Ok(graph) if refusals.is_empty() => Ok(LegalGraph(graph)),
        Ok(_) => Err(refusals),
        Err(error) => {
            refusals.push(Refusal {
                node: graph.name().to_string(),
                op: "graph",
                refused: Refused { reason: error.to_string(), help: None },
            });
            Err(refusals)
        }
    }
}

fn expand(
    target: &dyn Target,
    graph: &Graph,
    refusals: &mut Vec<Refusal>,
) -> Result<Graph, IrError> {
    rewrite(graph, &mut |b, node, inputs| place(target, b, graph, node, inputs, refusals))
}

fn place(
    target: &dyn Target,
    b: &mut Builder,
    graph: &Graph,
    node: &Node,
    inputs: &[ValueId],
    refusals: &mut Vec<Refusal>,
) -> Result<Option<Vec<ValueId>>, IrError> {
    let regions: Vec<Graph> = node
        .regions
        .iter()
        .map(|region| expand(target, region, refusals))
        .collect::<Result<_, _>>()?;
    // The node as it stands in the new graph, so that a target sees the types it will be compiled with.
    let candidate = Node { inputs: inputs.to_vec(), outputs: Vec::new(), regions, ..node.clone() };
    match target.support(&candidate, b.graph()) {
        Support::Native => {}
        Support::Expand => {
            if let Op::Composite(composite) = &node.op {
                let expansion = b.expansion(composite.as_ref(), inputs)?;
                // In place, so that what the builder knows of the operands stays known inside.
                let mut inner = |b: &mut Builder, node: &Node, inputs: &[ValueId]| {
                    place(target, b, &expansion, node, inputs, refusals)
                };
                return inline_with(b, &expansion, inputs, &mut inner).map(Some);
            }
        }
        Support::Refuse(refused) => {
            let (node, op) = (node.label().to_string(), node.op.name());
            refusals.push(Refusal { node, op, refused });
        }
    }
    if node.regions.is_empty() {
        return b.copy(graph, node, inputs).map(Some);
    }
    b.node(candidate.op, inputs, candidate.regions).map(Some)
}
