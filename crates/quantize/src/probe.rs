//! Graphs that show what happens inside another: values as outputs, sums of products of a layer's inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use anychip_ir::{Builder, DotDims, Graph, IrError, Op, Prim, ReduceKind, ValueId};
use anychip_passes::remove_dead_code;
use anychip_tensor::{DType, Dim};

use crate::rewrite::{on_grid, product, with_bias};
use crate::section::Copied;
use crate::site::channel_dim;
use crate::{Grid, Kind, Layer, Movable, Plan, QuantizeError, Section, Site, simulate};

/// What to gather of the inputs of a layer.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The layer.
    pub site: &'a Site,
    /// In how many runs a group's inputs are cut, of each of which the products are summed; 0 where no products are wanted.
    pub runs: usize,
    /// The grid that the layer will read its input on: asks for what rounding to it moves the inputs by.
    pub grid: Option<Grid>,
}

/// A graph whose outputs are, for each layer in turn: the matrices of a [`crate::Gram`], `[matrices, n, n]`, where its products
/// are wanted; and where it has a grid the sums of its inputs, of (input − rounded input), both one a column of its weights and group
/// `[groups, k]`, and how many vectors they are of.
///
/// The graph begins with `known` values where it depends on them.
pub fn input_sums(
    graph: &Graph,
    known: &[ValueId],
    wanted: &[Wanted<'_>],
) -> Result<Section, QuantizeError> {
    let inputs: Vec<ValueId> = wanted.iter().map(|w| w.site.input).collect();
    let mut copied = Copied::of(graph, known, &inputs)?;
    let mut outputs: Vec<(Arc<str>, ValueId)> = Vec::new();
    for (i, wanted) in wanted.iter().enumerate() {
        let site = wanted.site;
        let given = copied.value(site.input);
        let b = &mut copied.b;
        let (x, vectors, groups) = shown(b, graph, site, given)?;
        if wanted.runs > 0 {
            let mut shape = b.dims(x);
            let of = |dim: &Dim| dim.fixed().unwrap_or(1);
            let (g, k) = (of(&shape[groups]), of(&shape[groups + 1]));
            shape[groups] = Dim::Fixed(g * wanted.runs);
            shape[groups + 1] = Dim::Fixed(k / wanted.runs);
            let cut = if wanted.runs == 1 { x } else { b.reshape(x, &shape)? };
            let dims = DotDims {
                lhs_batch: vec![groups],
                rhs_batch: vec![groups],
                lhs_contract: vectors.clone(),
                rhs_contract: vectors.clone(),
            };
            let gram = b.prim(Prim::DotGeneral(dims, DType::F32), &[cut, cut])?;
            outputs.push((format!("gram_{i}").into(), gram));
        }
        if let Some(grid) = wanted.grid {
            let rounded = on_grid(b, given, grid)?;
            let moved = b.sub(given, rounded)?;
            let (moved, ..) = shown(b, graph, site, moved)?;
            let sum = b.reduce(ReduceKind::Sum, x, &vectors, false)?;
            let moved = b.reduce(ReduceKind::Sum, moved, &vectors, false)?;
            let count = b.count(x, &vectors, DType::F32)?;
            for (name, value) in [("sum", sum), ("moved", moved), ("count", count)] {
                outputs.push((format!("{name}_{i}").into(), value));
            }
        }
    }
    copied.finish(&outputs, simulate)
}

/// What a layer multiplies, `[vectors.., groups, k]`: the dims of vectors, and that of groups, which columns follow.
fn shown(
    b: &mut Builder,
    graph: &Graph,
    site: &Site,
    x: ValueId,
) -> Result<(ValueId, Vec<usize>, usize), IrError> {
    if let (Kind::Convolution, Op::Prim(Prim::Convolution(dims, _))) =
        (&site.kind, &graph.node(site.node).op)
    {
        let kernel = graph.ty(site.weight).fixed_shape().unwrap_or_default();
        return Ok((columns(b, x, dims, &kernel)?, vec![0, 3], 1));
    }
    let rank = b.rank(x);
    let x = b.unsqueeze(x, &[rank - 1])?;
    Ok((x, (0..rank - 1).collect(), rank - 1))
}

/// A graph whose outputs tell how to make up in one layer for what a network lost before it: for `layer` of `smaller` the products
/// of its inputs, `[k, k]`, those of what the layer gives in the whole network, bias apart, with them, `[m, k]`, the sums of both,
/// `[k]` and `[m]`, and how many vectors they are of. The layer is one of a single group of channels.
pub fn paired_sums(
    (whole, its): (&Graph, &Site),
    (smaller, layer): (&Graph, &Site),
) -> Result<Section, QuantizeError> {
    let result = whole.node(its.node).outputs[0];
    let mut copied = Copied::of(whole, &[], &[result])?;
    let y = copied.value(result);
    let given = copied.beside(whole, smaller, &[layer.input])?[0];
    let b = &mut copied.b;
    let (x, vectors, groups) = shown(b, smaller, layer, given)?;
    let mut dims = b.dims(x);
    dims.remove(groups);
    let x = b.reshape(x, &dims)?;
    let (x, y, vectors, channels) = if layer.kind == Kind::Convolution {
        // [n, k, places] and [n, m, places]
        let of_y = b.dims(y);
        let places = of_y[2..].iter().cloned().fold(Dim::Fixed(1), |n, d| n * d);
        let y = b.reshape(y, &[of_y[0].clone(), of_y[1].clone(), places])?;
        (x, y, vec![0, 2], 1)
    } else {
        (x, y, vectors, groups)
    };
    debug_assert!(!vectors.contains(&channels));
    let contract = DotDims {
        lhs_contract: vectors.clone(),
        rhs_contract: vectors.clone(),
        ..DotDims::default()
    };
    let gram = b.prim(Prim::DotGeneral(contract.clone(), DType::F32), &[x, x])?;
    let cross = b.prim(Prim::DotGeneral(contract, DType::F32), &[y, x])?;
    let of_x = b.reduce(ReduceKind::Sum, x, &vectors, false)?;
    let of_y = b.reduce(ReduceKind::Sum, y, &vectors, false)?;
    let count = b.count(x, &vectors, DType::F32)?;
    let outputs: Vec<(Arc<str>, ValueId)> =
        [("gram", gram), ("cross", cross), ("x", of_x), ("y", of_y), ("n", count)]
            .map(|(name, value)| (name.into(), value))
            .to_vec();
    copied.finish(&outputs, remove_dead_code).map_err(QuantizeError::from)
}

/// A graph whose outputs are, for each value in turn, the least and the largest number and the sum of squares of each channel, and
/// how many numbers a channel has. The graph begins with `known` values where it depends on them.
pub fn channel_ranges(
    graph: &Graph,
    known: &[ValueId],
    values: &[&Movable],
) -> Result<Section, QuantizeError> {
    let wanted: Vec<ValueId> = values.iter().map(|m| m.value).collect();
    let mut copied = Copied::of(graph, known, &wanted)?;
    let mut outputs: Vec<(Arc<str>, ValueId)> = Vec::new();
    for (i, movable) in values.iter().enumerate() {
        let x = copied.value(movable.value);
        let b = &mut copied.b;
        let others: Vec<usize> = (0..b.rank(x)).filter(|&d| d != movable.dim).collect();
        let low = b.reduce(ReduceKind::Min, x, &others, false)?;
        let high = b.reduce(ReduceKind::Max, x, &others, false)?;
        let square = b.mul(x, x)?;
        let square = b.reduce(ReduceKind::Sum, square, &others, false)?;
        let count = b.count(x, &others, DType::F32)?;
        for (name, value) in [("low", low), ("high", high), ("square", square), ("n", count)] {
            outputs.push((format!("{name}_{i}").into(), value));
        }
    }
    copied.finish(&outputs, remove_dead_code).map_err(QuantizeError::from)
}

/// Each tap of the kernel sees the padded input moved and stepped over; together they are the columns of the product
/// that the convolution is: `[n, groups, k, places]`.
fn columns(
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
    b.reshape(columns, &shape)
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
/// Every layer gets the inputs it has in the float graph, so that errors do not mix. The graph begins with `known` values
/// where it depends on them.
pub fn local_errors(
    graph: &Graph,
    known: &[ValueId],
    plan: &Plan,
    grids: &BTreeMap<ValueId, Grid>,
    layers: &[(&Site, Layer)],
) -> Result<Section, QuantizeError> {
    let own = |(site, _): &(&Site, Layer)| {
        [site.input, site.bias.map_or(graph.node(site.node).outputs[0], |_| site.result)]
    };
    let wanted: Vec<ValueId> = layers.iter().flat_map(own).collect();
    let mut copied = Copied::of(graph, known, &wanted)?;
    let mut outputs: Vec<(Arc<str>, ValueId)> = Vec::new();
    for (i, (site, layer)) in layers.iter().enumerate() {
        let node = graph.node(site.node);
        let [x, exact] = own(&(*site, layer.clone())).map(|v| copied.value(v));
        let b = &mut copied.b;
        let grid = plan.group(site.input).and_then(|group| grids.get(&group)).copied();
        let x = match grid {
            Some(grid) => on_grid(b, x, grid)?,
            None => x,
        };
        let mut rounded = product(b, graph, site, layer, x)?;
        if layer.bias.is_some() {
            rounded = with_bias(b, graph, site, layer, grid, rounded)?;
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
    copied.finish(&outputs, simulate)
}
