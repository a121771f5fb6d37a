//! Which operations give other results each time they run.

use anychip_ir::{Builder, Graph, IrError, Op, Prim, ValueId};

/// Whether an operation draws new random numbers each time.
pub(crate) fn draws(b: &Builder, op: &Op, inputs: &[ValueId]) -> Result<bool, IrError> {
    match op {
        Op::Prim(prim) => Ok(matches!(prim, Prim::Random { seed: None, .. })),
        Op::Composite(composite) => {
            let expansion = b.expansion(composite.as_ref(), inputs)?;
            Ok(contains_draw(&expansion))
        }
    }
}

/// Whether a primitive of the graph draws; composites inside an expansion are taken to when they are
/// given no operand that could tell one drawing from another.
fn contains_draw(graph: &Graph) -> bool {
    graph.nodes().iter().any(|node| match &node.op {
        Op::Prim(Prim::Random { seed, .. }) => seed.is_none(),
        Op::Prim(_) => node.regions.iter().any(contains_draw),
        Op::Composite(inner) => {
            let mut b = Builder::new("inner");
            let inputs: Vec<ValueId> =
                node.inputs.iter().map(|&v| b.input("", graph.ty(v).clone())).collect();
            // Sizes that only the outer expansion knows make this fail; then it is not merged.
            b.expansion(inner.as_ref(), &inputs).map_or(true, |g| contains_draw(&g))
        }
    })
}
