//! A part of a graph as a graph of its own: what lies between values that are known and values that are wanted.

use std::sync::Arc;

use anychip_ir::{Builder, Definition, Graph, IrError, NodeId, ValueId, first_free_symbol};
use anychip_passes::remove_dead_code;
use anychip_tensor::Dim;

/// A part of a graph.
#[derive(Debug)]
pub struct Section {
    /// It, as a graph.
    pub graph: Graph,
    /// Which value of the whole each of its inputs is.
    pub inputs: Vec<ValueId>,
}

/// A copy of part of a graph, under construction.
pub(crate) struct Copied {
    pub(crate) b: Builder,
    map: Vec<Option<ValueId>>,
    inputs: Vec<ValueId>,
}

impl Copied {
    /// Copies what `wanted` depend on, down to the graph's inputs and to `known`, which become inputs.
    pub(crate) fn of(
        graph: &Graph,
        known: &[ValueId],
        wanted: &[ValueId],
    ) -> Result<Copied, IrError> {
        let mut needed = vec![false; graph.value_count()];
        for v in wanted {
            needed[v.index()] = true;
        }
        let mut stops = vec![false; graph.value_count()];
        for v in known {
            stops[v.index()] = true;
        }
        let copied = |node: &anychip_ir::Node, needed: &[bool]| {
            node.outputs.iter().any(|v| needed[v.index()] && !stops[v.index()])
        };
        for node in graph.nodes().iter().rev() {
            if copied(node, &needed) {
                node.inputs.iter().for_each(|v| needed[v.index()] = true);
            }
        }
        let mut b = Builder::new(graph.name());
        b.reserve_symbols(first_free_symbol(graph));
        let mut own = Copied { b, map: vec![None; graph.value_count()], inputs: Vec::new() };
        for value in graph.values().filter(|v| needed[v.index()]) {
            let input = matches!(graph.definition(value), Definition::Input(_));
            if input || stops[value.index()] {
                let name = match graph.value_name(value) {
                    Some(name) if input => name.to_string(),
                    _ => format!("known_{}", value.index()),
                };
                own.map[value.index()] = Some(own.b.input(&name, graph.ty(value).clone()));
                own.inputs.push(value);
            }
        }
        for node in graph.nodes().iter().filter(|n| copied(n, &needed)) {
            own.b.set_scope(Arc::clone(&node.name));
            let inputs: Vec<ValueId> = node.inputs.iter().map(|&v| own.value(v)).collect();
            let results = own.b.copy(graph, node, &inputs).map_err(|error| error.at(&node.name))?;
            for (&old, new) in node.outputs.iter().zip(results) {
                own.map[old.index()].get_or_insert(new);
            }
        }
        Ok(own)
    }

    /// Copies what values of another graph with the same inputs depend on beside it, and says where they went.
    pub(crate) fn beside(
        &mut self,
        graph: &Graph,
        other: &Graph,
        wanted: &[ValueId],
    ) -> Result<Vec<ValueId>, IrError> {
        let mut needed = vec![false; other.value_count()];
        for v in wanted {
            needed[v.index()] = true;
        }
        for node in other.nodes().iter().rev() {
            if node.outputs.iter().any(|v| needed[v.index()]) {
                node.inputs.iter().for_each(|v| needed[v.index()] = true);
            }
        }
        self.b.reserve_symbols(first_free_symbol(graph).max(first_free_symbol(other)));
        let mut map: Vec<Option<ValueId>> = vec![None; other.value_count()];
        for (&input, &twin) in other.inputs().iter().zip(graph.inputs()) {
            if !needed[input.index()] {
                continue;
            }
            let own = if let Some(own) = self.map[twin.index()] {
                own
            } else {
                let name = graph.value_name(twin).unwrap_or_default();
                self.inputs.push(twin);
                self.b.input(name, graph.ty(twin).clone())
            };
            self.map[twin.index()] = Some(own);
            map[input.index()] = Some(own);
        }
        for node in other.nodes() {
            if node.outputs.iter().any(|v| needed[v.index()]) {
                self.b.set_scope(Arc::clone(&node.name));
                let inputs: Vec<ValueId> =
                    node.inputs.iter().filter_map(|v| map[v.index()]).collect();
                let results =
                    self.b.copy(other, node, &inputs).map_err(|error| error.at(&node.name))?;
                for (&old, new) in node.outputs.iter().zip(results) {
                    map[old.index()] = Some(new);
                }
            }
        }
        Ok(wanted.iter().filter_map(|v| map[v.index()]).collect())
    }

    /// Where a value went.
    pub(crate) fn value(&self, old: ValueId) -> ValueId {
        self.map[old.index()].expect("what is wanted was copied with all it depends on")
    }

    /// The part with the given outputs; `last` is what is still to be done with it.
    pub(crate) fn finish<E: From<IrError>>(
        self,
        outputs: &[(Arc<str>, ValueId)],
        last: impl FnOnce(&Graph) -> Result<Graph, E>,
    ) -> Result<Section, E> {
        Ok(Section { graph: last(&self.b.finish_named(outputs))?, inputs: self.inputs })
    }
}

/// The graph from `known` values on with the given values as its outputs, and nothing they do not depend on.
pub fn expose(graph: &Graph, known: &[ValueId], values: &[ValueId]) -> Result<Section, IrError> {
    let copied = Copied::of(graph, known, values)?;
    let named = |(i, &v): (usize, &ValueId)| (format!("value_{i}").into(), copied.value(v));
    let outputs: Vec<(Arc<str>, ValueId)> = values.iter().enumerate().map(named).collect();
    copied.finish(&outputs, remove_dead_code)
}

/// What a node and those after it read of the results of those before it: the values that the graph can go on from. `None`
/// where it cannot: where one has elements that sizes may depend on, or a size that is neither a number nor a name.
pub fn boundary(graph: &Graph, node: NodeId) -> Option<Vec<ValueId>> {
    let mut read = vec![false; graph.value_count()];
    for (id, later) in graph.iter() {
        if id >= node {
            later.inputs.iter().for_each(|v| read[v.index()] = true);
        }
    }
    graph.outputs().iter().for_each(|v| read[v.index()] = true);
    let before = |v: &ValueId| match graph.definition(*v) {
        Definition::Output(maker, _) => maker < node && graph.constant(*v).is_none(),
        Definition::Input(_) => false,
    };
    let values: Vec<ValueId> = graph.values().filter(|v| read[v.index()]).filter(before).collect();
    let plain = |v: &ValueId| {
        let ty = graph.ty(*v);
        ty.dtype.is_float() && ty.shape.iter().all(|d| !matches!(d, Dim::Expr(_)))
    };
    values.iter().all(plain).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{TensorType, evaluate};
    use anychip_tensor::{DType, Tensor};

    #[test]
    fn a_graph_goes_on_from_where_it_was_left() {
        let mut b = Builder::new("two branches");
        let x = b.input("x", TensorType::new(DType::F32, [2usize]));
        let other = b.input("other", TensorType::new(DType::F32, [2usize]));
        let (double, half) = (b.scale(x, 2.0).unwrap(), b.scale(x, 0.5).unwrap());
        let sum = b.add(double, half).unwrap();
        let result = b.mul(sum, other).unwrap();
        let graph = b.finish(&[result]);
        let Definition::Output(last, _) = graph.definition(sum) else { panic!("a node makes it") };
        let known = boundary(&graph, last).unwrap();
        assert_eq!(known, [double, half]);
        let given = |v: [f32; 2]| Tensor::from_vec([2], v.to_vec()).unwrap();
        let before = expose(&graph, &[], &known).unwrap();
        assert_eq!(before.inputs, [x]);
        let mut held = evaluate(&before.graph, &[given([1.0, 3.0])]).unwrap();
        let after = expose(&graph, &known, &[result]).unwrap();
        assert_eq!(after.inputs, [other, double, half]);
        held.insert(0, given([10.0, 1.0]));
        let expected = evaluate(&graph, &[given([1.0, 3.0]), given([10.0, 1.0])]).unwrap();
        assert_eq!(evaluate(&after.graph, &held).unwrap(), expected);
    }
}
