//! Puts composites in the place of their spelled-out computations: what all `recognize-…` passes share.

use std::collections::{HashMap, HashSet};

use anychip_ir::{Builder, Graph, IrError, Op, ValueId};

use crate::matching::{Bindings, Pattern};
use crate::rebuild::{apply_to_regions, unchanged};
use crate::{Outcome, Verdict, rebuild};

/// A computation that a composite stands for.
pub(crate) struct Found {
    /// The composite.
    pub(crate) op: Op,
    /// Its operands, in the old graph.
    pub(crate) inputs: Vec<ValueId>,
    /// Values computed on the way, the result included.
    pub(crate) interior: Vec<ValueId>,
}

/// Looks for computations that end in each node, the last nodes first, so that what lies inside a larger
/// one is not taken for a smaller; then rebuilds the graph with the composites. `pass` is the pass itself,
/// for the regions.
pub(crate) fn recognize(
    graph: &Graph,
    pass: fn(&Graph) -> Result<Outcome, IrError>,
    find: &mut dyn FnMut(&Graph, ValueId) -> Option<Found>,
) -> Result<Outcome, IrError> {
    let mut found: HashMap<ValueId, Found> = HashMap::new();
    let mut inside: HashSet<ValueId> = HashSet::new();
    for node in graph.nodes().iter().rev() {
        let (Op::Prim(_), [output]) = (&node.op, &node.outputs[..]) else { continue };
        if inside.contains(output) {
            continue;
        }
        if let Some(computation) = find(graph, *output) {
            inside.extend(&computation.interior);
            found.insert(*output, computation);
        }
    }
    if found.is_empty() {
        let mut changes = false;
        for region in graph.nodes().iter().flat_map(|n| &n.regions) {
            changes |= pass(region)?.changes > 0;
        }
        if !changes {
            return Ok(unchanged(graph));
        }
    }
    rebuild(graph, &mut |b, site| {
        if !site.node.regions.is_empty() {
            return apply_to_regions(b, site, pass);
        }
        let Some(computation) = site.node.outputs.first().and_then(|v| found.get(v)) else {
            return Ok(Verdict::Keep);
        };
        let inputs: Vec<ValueId> = computation.inputs.iter().map(|&v| site.new_value(v)).collect();
        // The pattern does not see every type: a scale may widen what is normalized, and then the
        // composite would give another shape.
        let fits = expansion_type(b, &computation.op, &inputs)
            .is_some_and(|ty| ty == *site.graph.ty(site.node.outputs[0]));
        if !fits {
            return Ok(Verdict::Keep);
        }
        b.node(computation.op.clone(), &inputs, Vec::new()).map(Verdict::Replace)
    })
}

fn expansion_type(b: &Builder, op: &Op, inputs: &[ValueId]) -> Option<anychip_ir::TensorType> {
    match op {
        Op::Composite(composite) => {
            let expansion = b.expansion(composite.as_ref(), inputs).ok()?;
            Some(expansion.ty(*expansion.outputs().first()?).clone())
        }
        Op::Prim(_) => None,
    }
}

/// The first of several patterns that `value` matches, with its place in the list.
pub(crate) fn first_match(
    patterns: &[Pattern],
    graph: &Graph,
    value: ValueId,
) -> Option<(usize, Bindings)> {
    patterns.iter().enumerate().find_map(|(i, p)| Some((i, p.matches(graph, value)?)))
}

/// Patterns from their texts.
pub(crate) fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::new(text)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use anychip_ir::{Prim, TensorType};
    use anychip_tensor::DType;

    /// A graph of one `f32` input.
    pub(crate) fn with_input<const N: usize>(
        shape: [usize; N],
        build: impl FnOnce(&mut Builder, ValueId) -> ValueId,
    ) -> Graph {
        let mut b = Builder::new("g");
        let x = b.input("x", TensorType::new(DType::F32, shape));
        let y = build(&mut b, x);
        b.finish(&[y])
    }

    /// The operators left after a pass and the removal of dead code, constants left out.
    pub(crate) fn ops_after(
        graph: &Graph,
        pass: fn(&Graph) -> Result<Outcome, IrError>,
    ) -> Vec<&'static str> {
        let after = pass(graph).unwrap().graph;
        let dead = crate::PIPELINE.iter().find(|p| p.name == "remove-dead-code").unwrap();
        let after = (dead.run)(&after).unwrap().graph;
        let kept = after.nodes().iter().filter(|n| !matches!(n.op, Op::Prim(Prim::Constant(_))));
        kept.map(|n| n.op.name()).collect()
    }
}
