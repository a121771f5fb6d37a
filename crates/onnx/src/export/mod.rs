//! From a graph to a file that any runtime loads.
//!
//! Each primitive is written as the standard's operators that mean the same; a composite as the operator of
//! its name where the asked opset has one of equal meaning, and as its expansion otherwise.

mod composites;
mod contract;
mod control;
mod emit;
mod idioms;
mod prims;
mod quantize;
mod reduce;
mod write;

use anychip_ir::{Graph, IrError, Node, Op, rewrite};
use prost::Message;

use crate::proto::ModelProto;
use emit::Emitter;

/// How a graph is written.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// Version of the standard's operators, 13 to 28.
    pub opset: i64,
    /// What the file says it was written by.
    pub producer: String,
    /// [`save`] puts weights into a file beside the model when they take more bytes than this together. One
    /// file holds at most 2 GiB.
    pub external_above: usize,
}

impl Default for ExportOptions {
    /// Opset 20, which every runtime of the last years loads.
    fn default() -> ExportOptions {
        ExportOptions { opset: 20, producer: "anychip".into(), external_above: 1 << 30 }
    }
}

/// Why a graph cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// An opset out of range.
    #[error("opset {0} cannot be written; 13 to 28 can")]
    Opset(i64),
    /// Nodes that the opset has no operators for; all of them.
    #[error("{}", .0.join("\n"))]
    Unsupported(Vec<String>),
    /// A composite does not expand.
    #[error(transparent)]
    Ir(#[from] IrError),
    /// More than one file can hold.
    #[error(
        "the model takes {0} bytes and one file holds 2 GiB: save it with its weights beside it"
    )]
    TooLarge(usize),
    /// The file cannot be written.
    #[error("cannot write the model: {0}")]
    Io(#[from] std::io::Error),
}

/// The bytes of a model file, weights included.
pub fn export(graph: &Graph, options: &ExportOptions) -> Result<Vec<u8>, ExportError> {
    let model = model(graph, options)?;
    let length = model.encoded_len();
    if length >= write::MOST_BYTES {
        return Err(ExportError::TooLarge(length));
    }
    Ok(model.encode_to_vec())
}

/// Writes a model file, with its weights in a file beside it (`NAME.data`) where they are many.
pub fn save(
    graph: &Graph,
    path: &std::path::Path,
    options: &ExportOptions,
) -> Result<(), ExportError> {
    write::save(model(graph, options)?, path, options.external_above)
}

fn model(graph: &Graph, options: &ExportOptions) -> Result<ModelProto, ExportError> {
    if !(13..=28).contains(&options.opset) {
        return Err(ExportError::Opset(options.opset));
    }
    let graph = expand(graph, options.opset)?;
    let mut emitter = Emitter::new(options.opset);
    let proto = emitter.model_graph(&graph);
    if !emitter.problems.is_empty() {
        return Err(ExportError::Unsupported(emitter.problems));
    }
    Ok(ModelProto {
        ir_version: Some(ir_version(options.opset)),
        producer_name: Some(options.producer.clone()),
        opset_import: vec![crate::proto::OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(options.opset),
        }],
        graph: Some(proto),
        ..ModelProto::default()
    })
}

/// The file format that came with an opset (`onnx/helper.py`, `VERSION_TABLE`).
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=14 => 7,
        15..=18 => 8,
        19 | 20 => 9,
        21 | 22 => 10,
        23 => 11,
        24 | 25 => 12,
        26 => 13,
        _ => 14,
    }
}

/// Expands composites until all that are left can be written as they are.
fn expand(graph: &Graph, opset: i64) -> Result<Graph, IrError> {
    let mut graph = graph.clone();
    while needs_expansion(&graph, opset) {
        graph = rewrite(&graph, &mut |b, node, inputs| replace(b, node, inputs, opset))?;
    }
    Ok(graph)
}

fn needs_expansion(graph: &Graph, opset: i64) -> bool {
    graph.nodes().iter().any(|node| {
        let composite = match &node.op {
            Op::Composite(_) => !composites::native(graph, node, opset),
            Op::Prim(_) => false,
        };
        composite || node.regions.iter().any(|region| needs_expansion(region, opset))
    })
}

fn replace(
    b: &mut anychip_ir::Builder,
    node: &Node,
    inputs: &[anychip_ir::ValueId],
    opset: i64,
) -> anychip_ir::Replacement {
    if let Op::Composite(composite) = &node.op {
        // What counts is the node as it stands in the new graph.
        let types: Vec<_> = inputs.iter().map(|&v| b.ty(v).clone()).collect();
        if composites::native_on(node, &types, opset) {
            return Ok(None);
        }
        return composite.expand(b, inputs).map(Some);
    }
    if !node.regions.iter().any(|region| needs_expansion(region, opset)) {
        return Ok(None);
    }
    let regions: Vec<Graph> =
        node.regions.iter().map(|region| expand(region, opset)).collect::<Result<_, _>>()?;
    b.node(node.op.clone(), inputs, regions).map(Some)
}
