//! What is in a model, counted.

use anychip_ir::Graph;
use anychip_passes::node_count;
use anychip_predict::{GroupCost, cost, model_precision};
use anychip_target::legalize;

use crate::{Error, Model};

/// What `anychip inspect` tells.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Producer and version of the standard, or that it is an architecture without a file.
    pub origin: String,
    /// Name and type of each input.
    pub inputs: Vec<(String, String)>,
    /// Name and type of each output.
    pub outputs: Vec<(String, String)>,
    /// Trained numbers where the model says how many there are; else elements of constants with more than one.
    pub parameters: f64,
    /// Bytes of all constants, as imported.
    pub weight_bytes: f64,
    /// Multiply-accumulates of one run.
    pub macs: f64,
    /// Other operations of one run.
    pub operations: f64,
    /// The most bytes of activations alive at once.
    pub peak_activation_bytes: f64,
    /// Nodes as imported, constants left out.
    pub imported_nodes: usize,
    /// Nodes after the passes, constants left out.
    pub nodes: usize,
    /// Each target and whether it runs all of it.
    pub targets: Vec<(String, String)>,
    /// The kernels in order.
    pub layers: Vec<GroupCost>,
}

/// Counts a model; `optimized` is its graph after the passes with a number for every size.
pub fn inspect(model: &Model, optimized: &Graph) -> Result<Facts, Error> {
    let graph = model.graph();
    let work = cost(optimized, model_precision(optimized).bits())?;
    let mut counted = 0.0;
    let mut weight_bytes = 0.0;
    for tensor in graph.values().filter_map(|v| graph.constant(v)) {
        weight_bytes += tensor.byte_len() as f64;
        // Scalars and shapes are settings, not parameters.
        if tensor.dtype().is_float() && tensor.len() > 1 {
            counted += tensor.len() as f64;
        }
    }
    let named = |values: &[anychip_ir::ValueId], names: Vec<String>| -> Vec<(String, String)> {
        names.into_iter().zip(values.iter().map(|&v| graph.ty(v).to_string())).collect()
    };
    let input_names = graph.inputs().iter().map(|&v| graph.value_name(v).unwrap_or("").to_string());
    let targets = crate::targets::targets()
        .iter()
        .map(|target| {
            let verdict = match legalize(target.as_ref(), optimized) {
                Ok(_) => "all of it".to_string(),
                Err(refusals) => {
                    let list: Vec<String> = refusals
                        .iter()
                        .map(|r| format!("{} ({})", r.node, r.refused.reason))
                        .collect();
                    format!("not {}", list.join(", "))
                }
            };
            (target.id().to_string(), verdict)
        })
        .collect();
    Ok(Facts {
        origin: model.origin(),
        inputs: named(graph.inputs(), input_names.collect()),
        outputs: named(
            graph.outputs(),
            graph.output_names().iter().map(ToString::to_string).collect(),
        ),
        parameters: model.parameters().map_or(counted, |n| n as f64),
        weight_bytes,
        macs: work.groups.iter().map(|g| g.macs).sum(),
        operations: work.groups.iter().map(|g| g.operations).sum(),
        peak_activation_bytes: work.peak_activation_bytes,
        imported_nodes: node_count(graph),
        nodes: node_count(optimized),
        targets,
        layers: work.groups,
    })
}
