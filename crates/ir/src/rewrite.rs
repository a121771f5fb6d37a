//! Rebuilding a graph node by node: a rewrite proposes, the runner disposes.

use std::sync::Arc;

use anychip_tensor::Dim;

use crate::{Builder, Graph, IrError, Node, TensorType, ValueId};

/// What a rewrite says of a node: the values that stand for its results, or `None` to copy it.
pub type Replacement = Result<Option<Vec<ValueId>>, IrError>;

/// Rebuilds `graph`, offering each node to `replace` with its operands in the new graph. `Some(values)`
/// stand for the node's results from then on; `None` copies the node. Regions are rebuilt by the
/// caller's closure if it wants them changed. Nodes that nobody uses any more stay; removing them is
/// another pass.
pub fn rewrite(
    graph: &Graph,
    replace: &mut dyn FnMut(&mut Builder, &Node, &[ValueId]) -> Replacement,
) -> Result<Graph, IrError> {
    let mut b = Builder::new(graph.name());
    b.reserve_symbols(first_free_symbol(graph));
    let inputs: Vec<ValueId> = graph
        .inputs()
        .iter()
        .map(|&v| b.input(graph.value_name(v).unwrap_or_default(), graph.ty(v).clone()))
        .collect();
    let outputs = inline_with(&mut b, graph, &inputs, replace)?;
    let named: Vec<_> = graph.output_names().iter().cloned().zip(outputs).collect();
    Ok(b.finish_named(&named))
}

/// Rebuilds `graph` for inputs of the given types, for instance with numbers in place of names.
pub fn specialize(graph: &Graph, types: &[TensorType]) -> Result<Graph, IrError> {
    if types.len() != graph.inputs().len() {
        return Err(IrError::OperandCount {
            op: "graph",
            expected: graph.inputs().len(),
            found: types.len(),
        });
    }
    let mut b = Builder::new(graph.name());
    b.reserve_symbols(first_free_symbol(graph));
    let mut inputs = Vec::new();
    for (&v, ty) in graph.inputs().iter().zip(types) {
        inputs.push(b.input(graph.value_name(v).unwrap_or_default(), ty.clone()));
    }
    let outputs = inline(&mut b, graph, &inputs)?;
    let named: Vec<_> = graph.output_names().iter().cloned().zip(outputs).collect();
    Ok(b.finish_named(&named))
}

/// Adds the nodes of `graph` to a graph being built, with `inputs` in place of its inputs; its outputs.
pub fn inline(b: &mut Builder, graph: &Graph, inputs: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
    inline_with(b, graph, inputs, &mut |_, _, _| Ok(None))
}

/// As [`inline`], offering each node to `replace` first.
pub fn inline_with(
    b: &mut Builder,
    graph: &Graph,
    inputs: &[ValueId],
    replace: &mut dyn FnMut(&mut Builder, &Node, &[ValueId]) -> Replacement,
) -> Result<Vec<ValueId>, IrError> {
    if inputs.len() != graph.inputs().len() {
        return Err(IrError::OperandCount {
            op: "graph",
            expected: graph.inputs().len(),
            found: inputs.len(),
        });
    }
    let mut map: Vec<Option<ValueId>> = vec![None; graph.value_count()];
    let defined = |map: &[Option<ValueId>], v: ValueId| map[v.index()].expect("defined before");
    for (&old, &new) in graph.inputs().iter().zip(inputs) {
        map[old.index()] = Some(new);
    }
    for node in graph.nodes() {
        let operands: Vec<ValueId> = node.inputs.iter().map(|&v| defined(&map, v)).collect();
        let name = (!node.name.is_empty()).then(|| Arc::clone(&node.name));
        let before = name.map(|name| b.set_scope(name));
        let results = match replace(b, node, &operands) {
            Ok(Some(results)) => Ok(results),
            Ok(None) => b.copy(graph, node, &operands),
            Err(error) => Err(error),
        };
        if let Some(before) = before {
            b.set_scope(before);
        }
        let results = results.map_err(|error| error.at(&node.name))?;
        assert_eq!(results.len(), node.outputs.len(), "a replacement must have the node's results");
        for (&old, new) in node.outputs.iter().zip(results) {
            if let Some(name) = graph.value_name(old) {
                b.name_value(new, name);
            }
            map[old.index()] = Some(new);
        }
    }
    Ok(graph.outputs().iter().map(|&v| defined(&map, v)).collect())
}

/// One more than the largest `n` of a size named `?n` in a graph or its regions: for
/// [`Builder::reserve_symbols`] of a builder into which it is copied.
pub fn first_free_symbol(graph: &Graph) -> usize {
    let of_dim =
        |dim: &Dim| dim.symbols().iter().filter_map(|s| number_after(s.strip_prefix('?')?)).max();
    let own = graph.values().flat_map(|v| &graph.ty(v).shape).filter_map(of_dim).max().unwrap_or(0);
    graph.nodes().iter().flat_map(|n| &n.regions).map(first_free_symbol).fold(own, usize::max)
}

/// `n + 1` of the digits of a name `?n`. A number to which no builder counts is a name like any other.
pub(crate) fn number_after(digits: &str) -> Option<usize> {
    let number = digits.parse::<usize>().ok()?;
    (number < usize::MAX / 2).then(|| number + 1)
}
