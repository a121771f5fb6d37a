//! Reading and writing at indices.
//!
//! Negative indices count from the end. What lies outside is an error for the reference; a device cannot report it, and takes the
//! nearest element instead (reading) or writes nothing.

use anychip_ir::{Combine, Node};

use super::writer::{Value, array, list};
use super::{Cx, EmitError};
use crate::element::Element;

/// Indices as `i64` within a dim of `size`.
fn wrapped(cx: &mut Cx<'_, '_>, indices: &Value, size: usize) -> Value {
    let indices = cx.w.convert(indices, Element::I64);
    let zero = cx.w.splat_integer(Element::I64, &indices.shape, 0);
    let length = cx.w.splat_integer(Element::I64, &indices.shape, size as i128);
    let negative = cx.w.compare("LT", &indices, &zero);
    let from_end = cx.w.add(&indices, &length);
    cx.w.select(&negative, &from_end, &indices)
}

/// Slices of `x` at the index vectors in the last dim of `indices`, one entry for each of `dims`. `offsets` are the places of
/// the slices' dims in the result; dims in `dims` are one long in a slice and leave it.
fn gather(
    cx: &mut Cx<'_, '_>,
    x: &Value,
    indices: &Value,
    dims: &[usize],
    offsets: &[usize],
    shape: &[usize],
) -> Value {
    let sizes: Vec<usize> =
        (0..x.rank()).map(|d| if dims.contains(&d) { 1 } else { x.shape[d] }).collect();
    let attributes = format!(
        "dimension_numbers = #stablehlo.gather<offset_dims = [{}], collapsed_slice_dims = [{dims}], \
         start_index_map = [{dims}], index_vector_dim = {}>, indices_are_sorted = false, slice_sizes = {}",
        list(offsets),
        indices.rank() - 1,
        array(sizes),
        dims = list(dims),
    );
    cx.w.op("stablehlo.gather", &[x, indices], &attributes, x.element, shape)
}

/// Entries of a vector at non-negative integers of any shape.
pub(super) fn rows_of_table(cx: &mut Cx<'_, '_>, table: &Value, places: &Value) -> Value {
    let shape = places.shape.clone();
    let places = cx.w.convert(places, Element::I32);
    let vectors = cx.w.reshape(&places, &[&shape[..], &[1]].concat());
    gather(cx, table, &vectors, &[0], &[], &shape)
}

pub(super) fn take(cx: &mut Cx<'_, '_>, node: &Node, axis: usize) -> Result<Value, EmitError> {
    let (x, indices) = (cx.operand(node, 0)?, cx.operand(node, 1)?);
    let shape = cx.shape(node, 0)?;
    if shape.contains(&0) {
        return Ok(cx.w.splat_integer(x.element, &shape, 0));
    }
    let places = wrapped(cx, &indices, x.shape[axis]);
    let vectors = cx.w.reshape(&places, &[&indices.shape[..], &[1]].concat());
    let offsets: Vec<usize> = (0..axis).chain(axis + indices.rank()..shape.len()).collect();
    Ok(gather(cx, &x, &vectors, &[axis], &offsets, &shape))
}

/// An index vector for each element of an along-axis operand: its own place with `axis` replaced by the index.
fn along(cx: &mut Cx<'_, '_>, data: &[usize], indices: &Value, axis: usize) -> Value {
    let wrapped = wrapped(cx, indices, data[axis]);
    let column = [&indices.shape[..], &[1]].concat();
    let columns: Vec<Value> = (0..data.len())
        .map(|d| {
            let places = if d == axis {
                wrapped.clone()
            } else {
                cx.w.iota(Element::I64, &indices.shape, d)
            };
            cx.w.reshape(&places, &column)
        })
        .collect();
    cx.w.concatenate(&columns.iter().collect::<Vec<_>>(), indices.rank())
}

pub(super) fn take_along(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    axis: usize,
) -> Result<Value, EmitError> {
    let (x, indices) = (cx.operand(node, 0)?, cx.operand(node, 1)?);
    let shape = cx.shape(node, 0)?;
    if shape.contains(&0) {
        return Ok(cx.w.splat_integer(x.element, &shape, 0));
    }
    let vectors = along(cx, &x.shape, &indices, axis);
    let dims: Vec<usize> = (0..x.rank()).collect();
    Ok(gather(cx, &x, &vectors, &dims, &[], &shape))
}

/// Index vectors whose entries address `sizes`, wrapped.
fn wrapped_vectors(cx: &mut Cx<'_, '_>, indices: &Value, sizes: &[usize]) -> Value {
    let indices = cx.w.convert(indices, Element::I64);
    let lengths: Vec<i64> = sizes.iter().map(|&n| n as i64).collect();
    let lengths = cx.w.constant(&anychip_tensor::Tensor::from_i64s(&lengths));
    let lengths = cx.w.broadcast(&lengths, &indices.shape);
    let zero = cx.w.splat_integer(Element::I64, &indices.shape, 0);
    let negative = cx.w.compare("LT", &indices, &zero);
    let from_end = cx.w.add(&indices, &lengths);
    cx.w.select(&negative, &from_end, &indices)
}

pub(super) fn gather_nd(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    batch: usize,
) -> Result<Value, EmitError> {
    let (x, indices) = (cx.operand(node, 0)?, cx.operand(node, 1)?);
    let shape = cx.shape(node, 0)?;
    if shape.contains(&0) {
        return Ok(cx.w.splat_integer(x.element, &shape, 0));
    }
    let rows = indices.rank() - 1;
    let depth = indices.shape[rows];
    let vectors = wrapped_vectors(cx, &indices, &x.shape[batch..batch + depth]);
    // Shared dims address themselves.
    let column = [&indices.shape[..rows], &[1]].concat();
    let mut columns: Vec<Value> = (0..batch).map(|d| cx.w.iota(Element::I64, &column, d)).collect();
    columns.push(vectors);
    let vectors = cx.w.concatenate(&columns.iter().collect::<Vec<_>>(), rows);
    let dims: Vec<usize> = (0..batch + depth).collect();
    let offsets: Vec<usize> = (rows..shape.len()).collect();
    Ok(gather(cx, &x, &vectors, &dims, &offsets, &shape))
}

pub(super) fn scatter_along(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    axis: usize,
    combine: Combine,
) -> Result<Value, EmitError> {
    let x = cx.operand(node, 0)?;
    let (indices, updates) = (cx.operand(node, 1)?, cx.operand(node, 2)?);
    if updates.len() == 0 || x.len() == 0 {
        return Ok(x);
    }
    let vectors = along(cx, &x.shape, &indices, axis);
    let count = updates.len();
    let vectors = cx.w.reshape(&vectors, &[count, x.rank()]);
    let updates = cx.w.reshape(&updates, &[count]);
    Ok(scatter(cx, combine, &x, &vectors, &updates))
}

pub(super) fn scatter_nd(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    combine: Combine,
) -> Result<Value, EmitError> {
    let x = cx.operand(node, 0)?;
    let (indices, updates) = (cx.operand(node, 1)?, cx.operand(node, 2)?);
    if updates.len() == 0 || x.len() == 0 {
        return Ok(x);
    }
    let depth = indices.shape[indices.rank() - 1];
    let vectors = wrapped_vectors(cx, &indices, &x.shape[..depth]);
    let count = indices.shape[..indices.rank() - 1].iter().product();
    let vectors = cx.w.reshape(&vectors, &[count, depth]);
    let updates = cx.w.reshape(&updates, &[&[count], &x.shape[depth..]].concat());
    Ok(scatter(cx, combine, &x, &vectors, &updates))
}

/// Combines blocks of `updates` (one a row of `vectors`) with `x`.
fn scatter(
    cx: &mut Cx<'_, '_>,
    combine: Combine,
    x: &Value,
    vectors: &Value,
    updates: &Value,
) -> Value {
    let operation = match combine {
        Combine::Set => return last_wins(cx, x, vectors, updates),
        Combine::Add => "stablehlo.add",
        Combine::Mul => "stablehlo.multiply",
        Combine::Max => "stablehlo.maximum",
        Combine::Min => "stablehlo.minimum",
    };
    // Floats of 16 bits gather in `f32`.
    let wide = if x.element.is_half() { Element::F32 } else { x.element };
    let (wide_x, updates) = (cx.w.convert(x, wide), cx.w.convert(updates, wide));
    let result = scatter_with(cx, operation, &wide_x, vectors, &updates);
    cx.w.convert(&result, x.element)
}

/// Of several updates of one place the last wins: devices write in any order, so first the greatest number of an update is
/// found for each place, which no order changes, and then that update is read.
fn last_wins(cx: &mut Cx<'_, '_>, x: &Value, vectors: &Value, updates: &Value) -> Value {
    let (count, depth) = (vectors.shape[0], vectors.shape[1]);
    let places = x.shape[..depth].to_vec();
    let nobody = cx.w.splat_integer(Element::I32, &places, -1);
    let numbers = cx.w.iota(Element::I32, &[count], 0);
    let winner = scatter_with(cx, "stablehlo.maximum", &nobody, vectors, &numbers);
    let zero = cx.w.splat_integer(Element::I32, &places, 0);
    let written = cx.w.compare("GE", &winner, &zero);
    let source = cx.w.map("stablehlo.maximum", &[&winner, &zero]);
    let source = cx.w.reshape(&source, &[&places[..], &[1]].concat());
    let offsets: Vec<usize> = (depth..x.rank()).collect();
    let chosen = gather(cx, updates, &source, &[0], &offsets, &x.shape);
    let dims: Vec<usize> = (0..depth).collect();
    let written =
        if depth == x.rank() { written } else { cx.w.broadcast_in(&written, &x.shape, &dims) };
    cx.w.select(&written, &chosen, x)
}

fn scatter_with(
    cx: &mut Cx<'_, '_>,
    operation: &str,
    x: &Value,
    vectors: &Value,
    updates: &Value,
) -> Value {
    let depth = vectors.shape[1];
    let addressed: Vec<usize> = (0..depth).collect();
    let windows: Vec<usize> = (1..updates.rank()).collect();
    let attributes = format!(
        "indices_are_sorted = false, scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [{}], \
         inserted_window_dims = [{dims}], scatter_dims_to_operand_dims = [{dims}], index_vector_dim = 1>, \
         unique_indices = false",
        list(windows),
        dims = list(addressed),
    );
    let region = cx.w.combiner(operation, x.element);
    let types = [(x.element, x.shape.clone())];
    cx.w.ops("stablehlo.scatter", &[x, vectors, updates], &[region], &attributes, &types).remove(0)
}
