//! The quantized graph: values on their grids, weights and biases as integers with a scale a channel.

use std::collections::BTreeMap;

use anychip_ir::{Builder, DotDims, Graph, NodeId, Op, Prim, ValueId};
use anychip_passes::{Verdict, rebuild, remove_dead_code};
use anychip_tensor::{DType, Tensor};

use crate::site::channel_dim;
use crate::{Grid, Kind, Plan, QuantizeError, Site};

/// The integers of one layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// `i8`, in the shape of the weights; a product's are `[k, n]`.
    pub codes: Tensor,
    /// A scale for each output channel.
    pub scales: Vec<f32>,
    /// What is added to each channel, where anything is.
    pub bias: Option<Vec<f32>>,
}

/// `graph` with `layers` on integers. `grids` holds the grid of each group of the plan.
pub fn rewrite(
    graph: &Graph,
    plan: &Plan,
    grids: &BTreeMap<ValueId, Grid>,
    layers: &[(&Site, Layer)],
) -> Result<Graph, QuantizeError> {
    let by_node: BTreeMap<NodeId, &(&Site, Layer)> =
        layers.iter().map(|entry| (entry.0.node, entry)).collect();
    let by_bias: BTreeMap<NodeId, &(&Site, Layer)> =
        layers.iter().filter_map(|entry| Some((entry.0.bias?.node, entry))).collect();
    let grid_of = |value: ValueId| plan.group(value).and_then(|group| grids.get(&group)).copied();
    let mut restored: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let outcome = rebuild(graph, &mut |b, site| {
        // The bodies of loops and branches stay as they are.
        if !std::ptr::eq(site.graph, graph) {
            return Ok(Verdict::Keep);
        }
        if let Some((layer_site, layer)) = by_bias.get(&site.id) {
            let sum = site.new_value(graph.node(layer_site.node).outputs[0]);
            let result = with_bias(b, graph, layer_site, layer, grid_of(layer_site.input), sum)?;
            return Ok(Verdict::Replace(vec![result]));
        }
        let mut inputs = site.inputs.to_vec();
        let mut changed = false;
        for (i, input) in inputs.iter_mut().enumerate() {
            let old = site.node.inputs[i];
            if plan.reads(site.id, i)
                && let Some(grid) = grid_of(old)
            {
                changed = true;
                *input = match restored.get(&old) {
                    Some(&known) => known,
                    None => on_grid(b, *input, grid)?,
                };
                restored.insert(old, *input);
            }
        }
        if let Some((layer_site, layer)) = by_node.get(&site.id) {
            let sum = product(b, graph, layer_site, layer, inputs[0])?;
            if layer_site.bias.is_none() && layer.bias.is_some() {
                let grid = grid_of(layer_site.input);
                let result = with_bias(b, graph, layer_site, layer, grid, sum)?;
                return Ok(Verdict::Replace(vec![result]));
            }
            return Ok(Verdict::Replace(vec![sum]));
        }
        if !changed {
            return Ok(Verdict::Keep);
        }
        Ok(Verdict::Replace(b.copy(graph, site.node, &inputs)?))
    })?;
    Ok(remove_dead_code(&outcome.graph)?)
}

/// A value rounded to its grid.
pub(crate) fn on_grid(
    b: &mut Builder,
    x: ValueId,
    grid: Grid,
) -> Result<ValueId, anychip_ir::IrError> {
    let scale = b.constant(Tensor::scalar(grid.scale));
    let zero = Tensor::from_f64(grid.dtype, [], &[f64::from(grid.zero_point)])?;
    let zero = b.constant(zero);
    let codes = b.prim(Prim::Quantize { to: grid.dtype, saturate: true }, &[x, scale, zero])?;
    b.prim(Prim::Dequantize { to: DType::F32 }, &[codes, scale, zero])
}

/// Integers with a scale each along one dim.
fn from_codes(
    b: &mut Builder,
    codes: Tensor,
    scales: &[f32],
    dim: usize,
) -> Result<ValueId, anychip_ir::IrError> {
    let mut shape = vec![1; codes.rank()];
    shape[dim] = scales.len();
    let zeros = Tensor::zeros(codes.dtype(), shape.clone())?;
    let scales = Tensor::from_vec(shape, scales.to_vec())?;
    let (codes, scales, zeros) = (b.constant(codes), b.constant(scales), b.constant(zeros));
    b.prim(Prim::Dequantize { to: DType::F32 }, &[codes, scales, zeros])
}

/// The layer without its bias.
pub(crate) fn product(
    b: &mut Builder,
    graph: &Graph,
    site: &Site,
    layer: &Layer,
    x: ValueId,
) -> Result<ValueId, anychip_ir::IrError> {
    let node = graph.node(site.node);
    match site.kind {
        Kind::Convolution => {
            let weight = from_codes(b, layer.codes.clone(), &layer.scales, 0)?;
            Ok(b.node(node.op.clone(), &[x, weight], Vec::new())?[0])
        }
        Kind::Dot { .. } => {
            let weight = from_codes(b, layer.codes.clone(), &layer.scales, 1)?;
            let last = b.rank(x) - 1;
            let dims =
                DotDims { lhs_contract: vec![last], rhs_contract: vec![0], ..DotDims::default() };
            b.prim(Prim::DotGeneral(dims, DType::F32), &[x, weight])
        }
    }
}

/// Adds the bias: as 32-bit integers in units of the products where other runtimes take them so (convolutions, and
/// products of matrices), in floats otherwise.
pub(crate) fn with_bias(
    b: &mut Builder,
    graph: &Graph,
    site: &Site,
    layer: &Layer,
    grid: Option<Grid>,
    sum: ValueId,
) -> Result<ValueId, anychip_ir::IrError> {
    let Some(bias) = &layer.bias else { return Ok(sum) };
    let node = graph.node(site.node);
    let rank = b.rank(sum);
    let mut shape = vec![1; rank - channel_dim(graph, node, site.kind)];
    shape[0] = bias.len();
    let whole = matches!(node.op, Op::Prim(Prim::Convolution(..))) || rank == 2;
    let value = match grid {
        Some(grid) if whole => {
            let scales: Vec<f32> = layer.scales.iter().map(|s| s * grid.scale).collect();
            let codes: Vec<i32> = bias
                .iter()
                .zip(&scales)
                .map(|(&v, &s)| (f64::from(v) / f64::from(s)).round_ties_even() as i32)
                .collect();
            from_codes(b, Tensor::from_vec(shape, codes)?, &scales, 0)?
        }
        _ => b.constant(Tensor::from_vec(shape, bias.clone())?),
    };
    b.add(sum, value)
}
