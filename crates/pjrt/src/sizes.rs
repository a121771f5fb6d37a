//! Whether the sizes in a graph are known before it runs: a program for such devices has none that are not.

use std::collections::BTreeMap;

use anychip_ir::{Definition, Graph, Node, Op, Prim, ValueId};
use anychip_passes::specialize::{is_small_integer, size_operands};
use anychip_tensor::DType;

/// Which operands of a node decide the sizes of its results by their contents.
pub(crate) fn deciding(node: &Node) -> &'static [usize] {
    // The number of rows that are stacked.
    if stacks(node) {
        return &[0, 1];
    }
    // Which branch is taken, where they differ in sizes.
    if branches_differ(node) {
        return &[0];
    }
    node.op.prim().map_or(&[], size_operands)
}

fn stacks(node: &Node) -> bool {
    let Some(Prim::Loop { carried }) = node.op.prim() else { return false };
    node.regions.first().is_some_and(|body| body.outputs().len() > 1 + carried)
}

fn branches_differ(node: &Node) -> bool {
    let [then, otherwise] = &node.regions[..] else { return false };
    let mut pairs = then.outputs().iter().zip(otherwise.outputs());
    pairs.any(|(&a, &b)| then.ty(a) != otherwise.ty(b))
}

/// Why a node's results have sizes that only a run can tell; `None` where they have none.
pub(crate) fn undecided(node: &Node, graph: &Graph) -> Option<&'static str> {
    if matches!(node.op, Op::Prim(Prim::NonZero)) {
        return Some("how many elements are not zero only a run can tell");
    }
    if stacks(node) {
        let body = &node.regions[0];
        if body.constant_integers(body.outputs()[0]).is_none_or(|always| always != [1]) {
            return Some(
                "it stacks a result for each iteration and stops when its contents say so",
            );
        }
    }
    let mut known = BTreeMap::new();
    let decides = |&i: &usize| {
        node.inputs.get(i).is_some_and(|&v| source(graph, v, &mut known) == Source::Contents)
    };
    deciding(node)
        .iter()
        .any(decides)
        .then_some("a size depends on the contents of what is computed")
}

/// What a value follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// Shapes and constants alone.
    Shapes,
    /// Also small integer inputs, which a program can be compiled for.
    Inputs,
    /// Anything else.
    Contents,
}

fn source(graph: &Graph, value: ValueId, known: &mut BTreeMap<ValueId, Source>) -> Source {
    if let Some(&source) = known.get(&value) {
        return source;
    }
    let small = is_small_integer(graph.ty(value)) || graph.ty(value).dtype == DType::Bool;
    let found = match graph.definition(value) {
        Definition::Input(_) if small => Source::Inputs,
        Definition::Input(_) => Source::Contents,
        Definition::Output(id, _) => {
            let node = graph.node(id);
            if matches!(node.op, Op::Prim(Prim::Constant(_) | Prim::ShapeOf)) {
                Source::Shapes
            } else if matches!(node.op, Op::Prim(Prim::Random { .. })) || !node.regions.is_empty() {
                Source::Contents
            } else {
                let worst = node.inputs.iter().map(|&v| source(graph, v, known)).max();
                let worst = worst.unwrap_or(Source::Shapes);
                if worst == Source::Inputs && !small { Source::Contents } else { worst }
            }
        }
    };
    known.insert(value, found);
    found
}
