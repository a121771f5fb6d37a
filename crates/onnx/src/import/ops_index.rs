//! Operators that pick or place elements by index.

use anychip_ir::{Builder, Combine, Prim, ReduceKind, ValueId};
use anychip_tensor::{DType, Dim, Tensor};

use super::call::{Call, ImportError};
use super::table::Row;

type Results = Result<Vec<ValueId>, ImportError>;

pub(crate) const ROWS: &[Row] = &[
    Row::onnx("Gather", 1, gather),
    Row::onnx("GatherElements", 11, gather_elements),
    Row::onnx("GatherND", 11, gather_nd),
    Row::onnx("Scatter", 9, scatter_elements),
    Row::onnx("ScatterElements", 11, scatter_elements),
    Row::onnx("ScatterND", 11, scatter_nd),
    Row::onnx("TensorScatter", 24, tensor_scatter),
    Row::onnx("NonZero", 9, non_zero),
    Row::onnx("Compress", 9, compress),
    Row::onnx("ReverseSequence", 10, reverse_sequence),
    Row::onnx("Unique", 11, unique),
];

fn gather(call: &mut Call<'_>) -> Results {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    let axis = call.axis(call.int("axis", 0), call.b.rank(x))?;
    Ok(vec![call.b.prim(Prim::Take { axis }, &[x, indices])?])
}

fn gather_elements(call: &mut Call<'_>) -> Results {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    let axis = call.axis(call.int("axis", 0), call.b.rank(x))?;
    Ok(vec![call.b.prim(Prim::TakeAlong { axis }, &[x, indices])?])
}

fn gather_nd(call: &mut Call<'_>) -> Results {
    let (x, indices) = (call.input(0)?, call.input(1)?);
    let batch = usize::try_from(call.int("batch_dims", 0))
        .map_err(|_| call.bad_attribute("batch_dims", "must not be negative"))?;
    Ok(vec![call.b.prim(Prim::GatherNd { batch }, &[x, indices])?])
}

fn combine(call: &Call<'_>) -> Result<Combine, ImportError> {
    Ok(match call.string("reduction", "none").as_str() {
        "none" => Combine::Set,
        "add" => Combine::Add,
        "mul" => Combine::Mul,
        "max" => Combine::Max,
        "min" => Combine::Min,
        _ => return Err(call.bad_attribute("reduction", "is none, add, mul, max or min")),
    })
}

fn scatter_elements(call: &mut Call<'_>) -> Results {
    let (x, indices, updates) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let axis = call.axis(call.int("axis", 0), call.b.rank(x))?;
    let combine = combine(call)?;
    Ok(vec![call.b.prim(Prim::ScatterAlong { axis, combine }, &[x, indices, updates])?])
}

fn scatter_nd(call: &mut Call<'_>) -> Results {
    let (x, indices, updates) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let combine = combine(call)?;
    Ok(vec![call.b.prim(Prim::ScatterNd { combine }, &[x, indices, updates])?])
}

/// Writes a piece of a cache, for each batch from a place of its own.
fn tensor_scatter(call: &mut Call<'_>) -> Results {
    let (cache, update) = (call.input(0)?, call.input(1)?);
    let rank = call.b.rank(cache);
    let axis = call.axis(call.int("axis", -2), rank)?;
    if axis == 0 || call.b.rank(update) != rank {
        return Err(call.invalid("the update must have the cache's rank and axis must not be 0"));
    }
    let circular = match call.string("mode", "linear").as_str() {
        "linear" => false,
        "circular" => true,
        _ => return Err(call.bad_attribute("mode", "is linear or circular")),
    };
    let starts = call.optional(2);
    let b = &mut *call.b;
    let dims = b.dims(update);
    let positions = b.iota(&dims[axis])?;
    let mut shape = vec![Dim::Fixed(1); rank];
    shape[axis] = dims[axis].clone();
    let mut index = b.reshape(positions, &shape)?;
    if let Some(starts) = starts {
        let mut shape = vec![Dim::Fixed(1); rank];
        shape[0] = dims[0].clone();
        let starts = b.reshape(starts, &shape)?;
        index = b.add(index, starts)?;
    }
    if circular {
        let size = b.dims(cache)[axis].clone();
        let size = b.dim_value(&size)?;
        index = b.rem(index, size)?;
    }
    let index = b.broadcast(index, &dims)?;
    let prim = Prim::ScatterAlong { axis, combine: Combine::Set };
    Ok(vec![b.prim(prim, &[cache, index, update])?])
}

fn non_zero(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    Ok(vec![call.b.prim(Prim::NonZero, &[x])?])
}

/// The places of the true elements of a vector.
fn places(b: &mut Builder, mask: ValueId) -> Result<ValueId, ImportError> {
    let places = b.prim(Prim::NonZero, &[mask])?;
    Ok(b.squeeze(places, &[0])?)
}

fn compress(call: &mut Call<'_>) -> Results {
    let (x, condition) = (call.input(0)?, call.input(1)?);
    let (x, axis) = if let Some(axis) = call.int_opt("axis") {
        (x, call.axis(axis, call.b.rank(x))?)
    } else {
        let elements = call.b.ty(x).elements();
        (call.b.reshape(x, &[elements])?, 0)
    };
    let index = places(call.b, condition)?;
    Ok(vec![call.b.prim(Prim::Take { axis }, &[x, index])?])
}

fn reverse_sequence(call: &mut Call<'_>) -> Results {
    let (x, lengths) = (call.input(0)?, call.input(1)?);
    let rank = call.b.rank(x);
    let (batch, time) =
        (call.axis(call.int("batch_axis", 1), rank)?, call.axis(call.int("time_axis", 0), rank)?);
    let b = &mut *call.b;
    let dims = b.dims(x);
    let line = |axis: usize| {
        let mut shape = vec![Dim::Fixed(1); rank];
        shape[axis] = dims[axis].clone();
        shape
    };
    let lengths = b.reshape(lengths, &line(batch))?;
    let positions = b.iota(&dims[time])?;
    let positions = b.reshape(positions, &line(time))?;
    let inside = b.lt(positions, lengths)?;
    let last = b.offset(lengths, -1.0)?;
    let mirrored = b.sub(last, positions)?;
    let index = b.select(inside, mirrored, positions)?;
    let index = b.broadcast(index, &dims)?;
    Ok(vec![b.prim(Prim::TakeAlong { axis: time }, &[x, index])?])
}

/// `(values, indices)` of a vector in ascending order.
fn sorted(b: &mut Builder, x: ValueId) -> Result<(ValueId, ValueId), ImportError> {
    let length = b.dims(x)[0].clone();
    let k = b.dim_value(&length)?;
    let results = b.node(Prim::TopK { axis: 0, largest: false }, &[x, k], Vec::new())?;
    Ok((results[0], results[1]))
}

/// How many rows along `axis` come before each in lexicographic order: equal rows have equal numbers.
fn row_order(b: &mut Builder, x: ValueId, axis: usize) -> Result<ValueId, ImportError> {
    let rank = b.rank(x);
    let mut permutation: Vec<usize> = (0..rank).filter(|&d| d != axis).collect();
    permutation.insert(0, axis);
    let rows = b.transpose(x, &permutation)?;
    let dims = b.dims(rows);
    let width = dims[1..].iter().cloned().fold(Dim::Fixed(1), |a, d| a * d);
    let rows = b.reshape(rows, &[dims[0].clone(), width])?;
    // Element k of row i against that of row j.
    let (left, right) = (b.unsqueeze(rows, &[1])?, b.unsqueeze(rows, &[0])?);
    let (above, below) = (b.gt(left, right)?, b.lt(left, right)?);
    let (above, below) = (b.cast(above, DType::I64)?, b.cast(below, DType::I64)?);
    let differ = b.add(above, below)?;
    let first = Prim::ArgReduce { kind: ReduceKind::Max, axis: 2, last: false };
    let first = b.prim(first, &[differ])?;
    let first = b.unsqueeze(first, &[2])?;
    let above = b.prim(Prim::TakeAlong { axis: 2 }, &[above, first])?;
    Ok(b.reduce(ReduceKind::Sum, above, &[1, 2], false)?)
}

fn unique(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let in_order = call.flag("sorted", true);
    let (x, axis) = if let Some(axis) = call.int_opt("axis") {
        (x, call.axis(axis, call.b.rank(x))?)
    } else {
        let elements = call.b.ty(x).elements();
        (call.b.reshape(x, &[elements])?, 0)
    };
    let b = &mut *call.b;
    let key = if b.rank(x) == 1 { x } else { row_order(b, x, axis)? };
    let key = if b.dtype(key) == DType::Bool { b.cast(key, DType::U8)? } else { key };
    let (values, order) = sorted(b, key)?;
    // An element starts a group when it differs from the one before.
    let (zero, one) = (b.integers(&[0]), b.integers(&[1]));
    let (end, far) = (b.integers(&[-1]), b.integers(&[i64::MAX]));
    let slice = || Prim::Slice { axes: vec![0] };
    let later = b.prim(slice(), &[values, one, far, one])?;
    let earlier = b.prim(slice(), &[values, zero, end, one])?;
    let differs = b.ne(later, earlier)?;
    let differs = b.cast(differs, DType::I64)?;
    // The first of all starts one; of an empty vector nothing does.
    let head = b.prim(slice(), &[order, zero, one, one])?;
    let head = b.mul(head, zero)?;
    let head = b.add(head, one)?;
    let starts = b.concat(&[head, differs], 0)?;
    let running =
        Prim::Cumulative { kind: ReduceKind::Sum, axis: 0, exclusive: false, reverse: false };
    let group = b.prim(running, &[starts])?;
    let group = b.offset(group, -1.0)?;
    let start_places = places(b, starts)?;
    let mut first = b.prim(Prim::Take { axis: 0 }, &[order, start_places])?;
    let groups = b.dims(first)[0].clone();
    let scalar_zero = b.constant(Tensor::scalar(0i64));
    let nothing = b.broadcast(scalar_zero, std::slice::from_ref(&groups))?;
    let ones = b.mul(starts, zero)?;
    let ones = b.add(ones, one)?;
    let along = |combine| Prim::ScatterAlong { axis: 0, combine };
    let mut counts = b.prim(along(Combine::Add), &[nothing, group, ones])?;
    let mut inverse = b.prim(along(Combine::Set), &[order, order, group])?;
    if !in_order {
        let (ordered, permutation) = sorted(b, first)?;
        first = ordered;
        counts = b.prim(Prim::Take { axis: 0 }, &[counts, permutation])?;
        let positions = b.iota(&groups)?;
        let place = b.prim(along(Combine::Set), &[permutation, permutation, positions])?;
        inverse = b.prim(Prim::Take { axis: 0 }, &[place, inverse])?;
    }
    let result = b.prim(Prim::Take { axis }, &[x, first])?;
    Ok(vec![result, first, inverse, counts])
}
