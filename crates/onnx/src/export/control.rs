//! Control flow. What a region takes from outside it finds by name, as the standard's sub-graphs do.

use anychip_ir::{Graph, Node};

use super::emit::{Emitter, Frame};
use super::prims::{Emitted, Operands};
use crate::proto::{GraphProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

pub(super) fn conditional(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    node: &Node,
    x: &Operands,
) -> Emitted {
    let captures = &x.names[1..];
    let mut branches = Vec::new();
    for (name, region) in ["then", "else"].into_iter().zip(&node.regions) {
        let (nodes, _, outputs) = e.region(region, &[], captures, |_, _| {});
        branches.push(GraphProto {
            name: Some(name.into()),
            node: nodes,
            output: outputs,
            ..GraphProto::default()
        });
    }
    let mut branches = branches.into_iter();
    let (Some(then), Some(otherwise)) = (branches.next(), branches.next()) else {
        return Err("two branches are needed".into());
    };
    let attributes = vec![("then_branch", then.into()), ("else_branch", otherwise.into())];
    Ok(e.results(frame, "If", &x.names[..1], attributes, node.outputs.len()))
}

pub(super) fn repeat(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    node: &Node,
    x: &Operands,
    carried: usize,
) -> Emitted {
    let [region] = &node.regions[..] else { return Err("one body is needed".into()) };
    let region: &Graph = region;
    let captures = &x.names[2 + carried..];
    let own: Vec<String> = (0..=carried)
        .map(|i| {
            let given = region.value_name(region.inputs()[i]).filter(|n| !n.is_empty());
            e.unique(given.unwrap_or("carried"))
        })
        .collect();
    let (nodes, mut inputs, outputs) = e.region(region, &own, captures, |_, _| {});
    // The standard hands the condition to the body too; nothing there uses it.
    let condition = e.unique("condition");
    inputs.insert(1, bool_scalar(&condition));
    let body = GraphProto {
        name: Some("body".into()),
        node: nodes,
        input: inputs,
        output: outputs,
        ..GraphProto::default()
    };
    let operands = &x.names[..2 + carried];
    Ok(e.results(frame, "Loop", operands, vec![("body", body.into())], node.outputs.len()))
}

fn bool_scalar(name: &str) -> ValueInfoProto {
    let tensor =
        type_proto::Tensor { elem_type: Some(9), shape: Some(TensorShapeProto::default()) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            denotation: None,
        }),
        ..ValueInfoProto::default()
    }
}
