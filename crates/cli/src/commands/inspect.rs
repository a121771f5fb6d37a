//! `anychip inspect`: what is in a model.

use std::collections::BTreeMap;

use anychip::{Graph, Op};
use anyhow::Result;

use crate::args::Inspect;
use crate::commands::{prepare, print, zoo};

/// Inputs and outputs that are listed one by one; `--json` has them all.
const MOST_LISTED: usize = 9;

pub(crate) fn execute(args: &Inspect) -> Result<()> {
    if args.model.model.as_os_str() == anychip::ZOO {
        return zoo::list(args.json);
    }
    let prepared = prepare(&args.model)?;
    if args.graph {
        return print(&anychip::print_summary(prepared.model.graph()));
    }
    let facts = anychip::inspect(&prepared.model, &prepared.graph)?;
    if args.json {
        return print(&format!("{}\n", json(&facts)));
    }
    let mut text = format!("{}\n", prepared.model.path().display());
    text += &format!("  from         {}\n", facts.origin);
    for (heading, values) in [("inputs", &facts.inputs), ("outputs", &facts.outputs)] {
        for (i, (name, ty)) in values.iter().take(MOST_LISTED).enumerate() {
            let label = if i == 0 { heading } else { "" };
            text += &format!("  {label:<12} {name}: {ty}\n");
        }
        if values.len() > MOST_LISTED {
            text += &format!("  {:<12} … and {} more\n", "", values.len() - MOST_LISTED);
        }
    }
    text +=
        &format!("  parameters   {} in {}\n", grouped(facts.parameters), bytes(facts.weight_bytes));
    text += &format!(
        "  work         {} MACs and {} other operations a run\n",
        grouped(facts.macs),
        grouped(facts.operations)
    );
    text += &format!("  activations  {} at the peak\n", bytes(facts.peak_activation_bytes));
    text += &format!(
        "  nodes        {} as imported, {} after the passes\n",
        facts.imported_nodes, facts.nodes
    );
    for (target, verdict) in &facts.targets {
        text += &format!("  runs on      {target}: {verdict}\n");
    }
    text += "\n  operators after the passes\n";
    for (op, count) in operators(&prepared.graph) {
        text += &format!("    {count:>5}  {op}\n");
    }
    if args.layers {
        text +=
            "\n  layer                                    operator          MACs          bytes\n";
        for layer in &facts.layers {
            let name: String =
                layer.name.chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect();
            text += &format!(
                "  {name:<40} {:<16} {:>14} {:>12}\n",
                layer.op,
                grouped(layer.macs),
                bytes(layer.float_bytes + layer.other_bytes)
            );
        }
    }
    print(&text)
}

/// Operators by how often they occur, then by name; constants are not operators.
fn operators(graph: &Graph) -> Vec<(&'static str, usize)> {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    count(graph, &mut counts);
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by_key(|&(name, n)| (std::cmp::Reverse(n), name));
    sorted
}

fn count(graph: &Graph, counts: &mut BTreeMap<&'static str, usize>) {
    for node in graph.nodes() {
        if !matches!(&node.op, Op::Prim(anychip::Prim::Constant(_))) {
            *counts.entry(node.op.name()).or_default() += 1;
        }
        for region in &node.regions {
            count(region, counts);
        }
    }
}

fn json(facts: &anychip::Facts) -> serde_json::Value {
    let types = |values: &[(String, String)]| -> Vec<serde_json::Value> {
        values.iter().map(|(name, ty)| serde_json::json!({"name": name, "type": ty})).collect()
    };
    let layers: Vec<serde_json::Value> = facts
        .layers
        .iter()
        .map(|l| {
            serde_json::json!({
                "name": l.name, "op": l.op, "macs": l.macs, "operations": l.operations,
                "bytes": l.float_bytes + l.other_bytes,
            })
        })
        .collect();
    let targets: BTreeMap<&str, &str> =
        facts.targets.iter().map(|(t, v)| (t.as_str(), v.as_str())).collect();
    serde_json::json!({
        "origin": facts.origin, "inputs": types(&facts.inputs), "outputs": types(&facts.outputs),
        "parameters": facts.parameters, "weight_bytes": facts.weight_bytes, "macs": facts.macs,
        "operations": facts.operations, "peak_activation_bytes": facts.peak_activation_bytes,
        "imported_nodes": facts.imported_nodes, "nodes": facts.nodes, "targets": targets, "layers": layers,
    })
}

/// `25,557,032`
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(c);
    }
    text
}

fn bytes(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} GB", v / 1e9),
        v if v >= 1e6 => format!("{:.2} MB", v / 1e6),
        v if v >= 1e3 => format!("{:.1} kB", v / 1e3),
        v => format!("{v:.0} B"),
    }
}
