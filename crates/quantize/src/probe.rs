//! Graphs that show what happens inside another: values as outputs, sums of products of a layer's inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use anychip_ir::{
    Builder, DotDims, Graph, IrError, Op, Prim, ReduceKind, ValueId, first_free_symbol,
};
use anychip_passes::remove_dead_code;
use anychip_tensor::{DType, Dim};

use crate::rewrite::{on_grid, product, with_bias};
use crate::site::channel_dim;
use crate::{Grid, Kind, Layer, Plan, QuantizeError, Site, simulate};

/// A copy of `graph` under construction, and its values.
pub(crate) fn copied(graph: &Graph) -> Result<(Builder, Vec<ValueId>), IrError> {
    // A graph that returns every value, so that inlining it says where each went.
    let mut b = Builder::new(graph.name());
    b.reserve_symbols(first_free_symbol(graph));
    let mut map: Vec<Option<ValueId>> = vec![None; graph.value_count()];
    for &input in graph.inputs() {
        let name = graph.value_name(input).unwrap_or_default();
        map[input.index()] = Some(b.input(name, graph.ty(input).clone()));
    }
    for node in graph.nodes() {
        b.set_scope(Arc::clone(&node.name));
        let inputs: Vec<ValueId> = node.inputs.iter().filter_map(|v| map[v.index()]).collect();
        let results = b.copy(graph, node, &inputs).map_err(|error| error.at(&node.name))?;
        for (&old, new) in node.outputs.iter().zip(results) {
            map[old.index()] = Some(new);
        }
    }
    Ok((b, map.into_iter().flatten().collect()))
}

/// The graph with the given values as its outputs, and nothing they do not depend on.
pub fn expose(graph: &Graph, values: &[ValueId]) -> Result<Graph, IrError> {
    let (b, map) = copied(graph)?;
    let outputs: Vec<(Arc<str>, ValueId)> = values
        .iter()
        .enumerate()
        .map(|(i, v)| (format!("value_{i}").into(), map[v.index()]))
        .collect();
    remove_dead_code(&b.finish_named(&outputs))
}

/// A graph whose i-th output is the [`crate::Gram`] of the i-th site's inputs, `[groups, k, k]`.
pub fn grams(graph: &Graph, sites: &[&Site]) -> Result<Graph, IrError> {
    let (mut b, map) = copied(graph)?;
    let mut outputs: Vec<(Arc<str>, ValueId)> = Vec::new();
    for (i, site) in sites.iter().enumerate() {
        let x = map[site.input.index()];
        let gram = if let (Kind::Convolution, Op::Prim(Prim::Convolution(dims, _))) =
            (&site.kind, &graph.node(site.node).op)
        {
            let kernel = graph.ty(site.weight).fixed_shape().unwrap_or_default();
            convolution_gram(&mut b, x, dims, &kernel)?
        } else {
            let rank = b.rank(x);
            let rows: Vec<usize> = (0..rank - 1).collect();
            let dims =
                DotDims { lhs_contract: rows.clone(), rhs_contract: rows, ..DotDims::default() };
            let dtype = b.dtype(x);
            let gram = b.prim(Prim::DotGeneral(dims, dtype), &[x, x])?;
            b.unsqueeze(gram, &[0])?
        };
        outputs.push((format!("gram_{i}").into(), gram));
    }
    remove_dead_code(&b.finish_named(&outputs))
}

/// Each tap of the kernel sees the padded input moved and stepped over; together they are the columns of the product
/// that the convolution is.
fn convolution_gram(
    b: &mut Builder,
    x: ValueId,
    dims: &anychip_ir::ConvolutionDims,
    kernel: &[usize],
) -> Result<ValueId, IrError> {
    let spatial = dims.strides.len();
    let mut low = vec![0i64; 2];
    let mut high = vec![0i64; 2];
    for &(before, after) in &dims.padding {
        low.push(before);
        high.push(after);
    }
    let padded = if dims.padding.iter().any(|&p| p != (0, 0)) {
        let (low, high) = (b.integers(&low), b.integers(&high));
        let zero = b.scalar_like(x, 0.0)?;
        b.prim(Prim::Pad, &[x, low, high, zero])?
    } else {
        x
    };
    let sizes = b.dims(padded);
    let groups = dims.groups;
    let per_group = kernel[1];
    let taps: usize = kernel[2..].iter().product();
    let axes: Vec<usize> = (2..2 + spatial).collect();
    let strides: Vec<i64> = dims.strides.iter().map(|&s| s as i64).collect();
    let mut parts = Vec::new();
    for tap in 0..taps {
        let mut rest = tap;
        let mut place = vec![0usize; spatial];
        for i in (0..spatial).rev() {
            place[i] = rest % kernel[2 + i];
            rest /= kernel[2 + i];
        }
        let starts: Vec<Dim> =
            (0..spatial).map(|i| Dim::Fixed(place[i] * dims.dilation[i])).collect();
        // The last window begins where the kernel still fits.
        let ends: Vec<Dim> = (0..spatial)
            .map(|i| {
                let reach = dims.dilation[i] * (kernel[2 + i] - 1 - place[i]);
                sizes[2 + i].clone() + Dim::from_i64(-(reach as i64))
            })
            .collect();
        let (starts, ends) = (b.dims_value(&starts)?, b.dims_value(&ends)?);
        let steps = b.integers(&strides);
        let seen = b.prim(Prim::Slice { axes: axes.clone() }, &[padded, starts, ends, steps])?;
        // [n, groups, c/groups, 1, places]
        let own = b.dims(seen);
        let places = own[2..].iter().cloned().fold(Dim::Fixed(1), |n, d| n * d);
        let shape = [own[0].clone(), groups.into(), per_group.into(), Dim::Fixed(1), places];
        parts.push(b.reshape(seen, &shape)?);
    }
    let columns = if parts.len() == 1 { parts[0] } else { b.concat(&parts, 3)? };
    let own = b.dims(columns);
    let shape = [own[0].clone(), groups.into(), (per_group * taps).into(), own[4].clone()];
    let columns = b.reshape(columns, &shape)?;
    let product = DotDims {
        lhs_batch: vec![1],
        rhs_batch: vec![1],
        lhs_contract: vec![0, 3],
        rhs_contract: vec![0, 3],
    };
    let dtype = b.dtype(columns);
    b.prim(Prim::DotGeneral(product, dtype), &[columns, columns])
}

/// What one layer does to its own output when it alone runs on integers, by channel.
#[derive(Debug, Clone, Default)]
pub struct LocalError {
    /// Sums of (float − integer) for each channel.
    pub off: Vec<f64>,
    /// The sum of squares of the difference.
    pub noise: f64,
    /// The sum of squares of the float output.
    pub signal: f64,
    /// How many numbers each channel has.
    pub count: f64,
}

/// A graph with four outputs for each layer, from which [`LocalError`] is added up: the differences summed by channel,
/// their squares, the squares of the float output, and the number of elements.
///
/// Every layer gets the inputs it has in the float graph, so that errors do not mix.
pub fn local_errors(
    graph: &Graph,
    plan: &Plan,
    grids: &BTreeMap<ValueId, Grid>,
    layers: &[(&Site, Layer)],
) -> Result<Graph, QuantizeError> {
    let (mut b, map) = copied(graph)?;
    let mut outputs: Vec<(Arc<str>, ValueId)> = Vec::new();
    for (i, (site, layer)) in layers.iter().enumerate() {
        let node = graph.node(site.node);
        let x = map[site.input.index()];
        let grid = plan.group(site.input).and_then(|group| grids.get(&group)).copied();
        let x = match grid {
            Some(grid) => on_grid(&mut b, x, grid)?,
            None => x,
        };
        let mut exact = map[node.outputs[0].index()];
        if site.bias.is_some() {
            exact = map[site.result.index()];
        }
        let mut rounded = product(&mut b, graph, site, layer, x)?;
        if layer.bias.is_some() {
            rounded = with_bias(&mut b, graph, site, layer, grid, rounded)?;
        }
        let channels = channel_dim(graph, node, site.kind);
        let others: Vec<usize> = (0..b.rank(exact)).filter(|&d| d != channels).collect();
        let all: Vec<usize> = (0..b.rank(exact)).collect();
        let off = b.sub(exact, rounded)?;
        let sums = b.reduce(ReduceKind::Sum, off, &others, false)?;
        let square = b.mul(off, off)?;
        let noise = b.reduce(ReduceKind::Sum, square, &all, false)?;
        let square = b.mul(exact, exact)?;
        let signal = b.reduce(ReduceKind::Sum, square, &all, false)?;
        let count = b.count(exact, &others, DType::F32)?;
        for (name, value) in [("off", sums), ("noise", noise), ("signal", signal), ("n", count)] {
            outputs.push((format!("{name}_{i}").into(), value));
        }
    }
    simulate(&b.finish_named(&outputs))
}
