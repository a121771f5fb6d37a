//! The order in which the nodes of a graph can run, and the names they use.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Code, Diagnostic};
use crate::proto::{GraphProto, NodeProto};

use super::importer::label;

/// Where the nodes of a graph go.
pub(super) struct Order {
    /// Nodes that can run, each after those it uses.
    pub(super) sorted: Vec<usize>,
    /// Nodes on a cycle or behind one.
    pub(super) waiting: Vec<usize>,
}

/// The names that nodes and their sub-graphs use from around them.
pub(super) fn uses(nodes: &[NodeProto]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for node in nodes {
        node_uses(node, &mut names);
    }
    names
}

fn node_uses(node: &NodeProto, names: &mut BTreeSet<String>) {
    names.extend(node.input.iter().filter(|n| !n.is_empty()).cloned());
    for attribute in &node.attribute {
        for graph in attribute.g.as_deref().into_iter().chain(&attribute.graphs) {
            names.extend(free_names(graph));
        }
    }
}

/// The names that a sub-graph uses and does not define.
pub(super) fn free_names(graph: &GraphProto) -> BTreeSet<String> {
    let mut names = uses(&graph.node);
    names.extend(graph.output.iter().map(|o| o.name().to_string()));
    let own = graph
        .input
        .iter()
        .map(super::super::proto::ValueInfoProto::name)
        .chain(graph.initializer.iter().map(super::super::proto::TensorProto::name))
        .chain(graph.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.name())))
        .chain(graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str)));
    for name in own {
        names.remove(name);
    }
    names.remove("");
    names
}

/// Sorts nodes so that each comes after those whose results it uses, keeping the file's order where it can.
/// What cannot be sorted is reported.
pub(super) fn node_order(nodes: &[NodeProto], diagnostics: &mut Vec<Diagnostic>) -> Order {
    let mut makers: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            makers.entry(output).or_insert(i);
        }
    }
    let mut waits: Vec<BTreeSet<usize>> = Vec::with_capacity(nodes.len());
    let mut ordered = true;
    for (i, node) in nodes.iter().enumerate() {
        let mut names = BTreeSet::new();
        node_uses(node, &mut names);
        let needed: BTreeSet<usize> =
            names.iter().filter_map(|name| makers.get(name.as_str()).copied()).collect();
        ordered &= needed.iter().all(|&maker| maker < i);
        waits.push(needed);
    }
    if ordered {
        return Order { sorted: (0..nodes.len()).collect(), waiting: Vec::new() };
    }
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (i, needed) in waits.iter().enumerate() {
        for &maker in needed {
            users[maker].push(i);
        }
    }
    let mut left: Vec<usize> = waits.iter().map(BTreeSet::len).collect();
    let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|&i| left[i] == 0).collect();
    let mut sorted = Vec::with_capacity(nodes.len());
    while let Some(i) = ready.pop_first() {
        sorted.push(i);
        for &user in &users[i] {
            left[user] -= 1;
            if left[user] == 0 {
                ready.insert(user);
            }
        }
    }
    let done: BTreeSet<usize> = sorted.iter().copied().collect();
    let waiting: Vec<usize> = (0..nodes.len()).filter(|i| !done.contains(i)).collect();
    if let Some(&first) = waiting.first() {
        let names: Vec<&str> = waiting.iter().take(5).map(|&i| label(&nodes[i])).collect();
        let more = if waiting.len() > 5 { ", …" } else { "" };
        diagnostics.push(
            Diagnostic::new(
                Code::Cycle,
                format!("{} nodes wait for each other: {}{more}", waiting.len(), names.join(", ")),
            )
            .at(label(&nodes[first]))
            .help("a graph must not have cycles; loops are Loop or Scan nodes"),
        );
    }
    Order { sorted, waiting }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        NodeProto {
            name: Some(name.into()),
            input: inputs.iter().map(|s| (*s).into()).collect(),
            output: outputs.iter().map(|s| (*s).into()).collect(),
            ..NodeProto::default()
        }
    }

    #[test]
    fn nodes_in_the_wrong_order_are_sorted() {
        let nodes =
            [node("c", &["b"], &["c"]), node("b", &["a"], &["b"]), node("a", &["x"], &["a"])];
        let mut diagnostics = Vec::new();
        let order = node_order(&nodes, &mut diagnostics);
        assert_eq!(order.sorted, [2, 1, 0]);
        assert!(diagnostics.is_empty());
    }

    #[test]
    fn a_cycle_is_named_and_the_rest_goes_on() {
        let nodes =
            [node("a", &["b"], &["a"]), node("b", &["a"], &["b"]), node("free", &["x"], &["y"])];
        let mut diagnostics = Vec::new();
        let order = node_order(&nodes, &mut diagnostics);
        assert_eq!(order.sorted, [2]);
        assert_eq!(order.waiting, [0, 1]);
        assert_eq!(diagnostics[0].code, Code::Cycle);
    }
}
