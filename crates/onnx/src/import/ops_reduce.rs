//! Reductions, running sums, sorting, and the softmax family.

use anychip_ir::{Compare, Prim, ReduceKind, ValueId};
use anychip_ops::{LogSoftmax, Softmax};
use anychip_tensor::{DType, Dim};

use super::call::{Call, ImportError};
use super::table::Row;

type Results = Result<Vec<ValueId>, ImportError>;

pub(crate) const ROWS: &[Row] = &[
    Row::onnx("ReduceSum", 1, |c| {
        reduce(c, 13, |c, x, a, k| Ok(c.b.reduce(ReduceKind::Sum, x, a, k)?))
    }),
    Row::onnx("ReduceProd", 1, |c| {
        reduce(c, 18, |c, x, a, k| Ok(c.b.reduce(ReduceKind::Prod, x, a, k)?))
    }),
    Row::onnx("ReduceMax", 1, |c| {
        reduce(c, 18, |c, x, a, k| Ok(c.b.reduce(ReduceKind::Max, x, a, k)?))
    }),
    Row::onnx("ReduceMin", 1, |c| {
        reduce(c, 18, |c, x, a, k| Ok(c.b.reduce(ReduceKind::Min, x, a, k)?))
    }),
    Row::onnx("ReduceMean", 1, |c| reduce(c, 18, |c, x, a, k| Ok(c.b.mean(x, a, k)?))),
    Row::onnx("ReduceL1", 1, |c| reduce(c, 18, l1)),
    Row::onnx("ReduceL2", 1, |c| reduce(c, 18, l2)),
    Row::onnx("ReduceLogSum", 1, |c| reduce(c, 18, log_sum)),
    Row::onnx("ReduceLogSumExp", 1, |c| reduce(c, 18, log_sum_exp)),
    Row::onnx("ReduceSumSquare", 1, |c| reduce(c, 18, sum_square)),
    Row::onnx("ArgMax", 1, |c| arg(c, ReduceKind::Max)),
    Row::onnx("ArgMin", 1, |c| arg(c, ReduceKind::Min)),
    Row::onnx("CumSum", 11, |c| cumulative(c, ReduceKind::Sum)),
    Row::onnx("CumProd", 26, |c| cumulative(c, ReduceKind::Prod)),
    Row::onnx("TopK", 1, top_k),
    Row::onnx("Softmax", 1, |c| {
        flattened(c, |c, x, axis| Ok(c.b.composite(Softmax { axis }, &[x])?))
    }),
    Row::onnx("LogSoftmax", 1, |c| {
        flattened(c, |c, x, axis| Ok(c.b.composite(LogSoftmax { axis }, &[x])?))
    }),
    Row::onnx("Hardmax", 1, |c| flattened(c, hardmax)),
];

type Reduction = fn(&mut Call<'_>, ValueId, &[usize], bool) -> Result<ValueId, ImportError>;

/// Axes are an attribute before opset `input_since` and an operand from then on. Without axes all dims are
/// reduced, or none where `noop_with_empty_axes` says so.
fn reduce(call: &mut Call<'_>, input_since: i64, reduction: Reduction) -> Results {
    let x = call.input(0)?;
    let rank = call.b.rank(x);
    let keep = call.flag("keepdims", true);
    let axes = if call.opset < input_since {
        call.ints("axes").map(|axes| call.axes(&axes, rank)).transpose()?
    } else {
        call.axes_input_or_attribute(1, "axes", rank)?
    };
    let axes = axes.unwrap_or_default();
    let mut axes = if axes.is_empty() && !call.flag("noop_with_empty_axes", false) {
        (0..rank).collect()
    } else {
        axes
    };
    axes.sort_unstable();
    Ok(vec![reduction(call, x, &axes, keep)?])
}

fn l1(call: &mut Call<'_>, x: ValueId, axes: &[usize], keep: bool) -> Result<ValueId, ImportError> {
    let size = call.b.abs(x)?;
    Ok(call.b.reduce(ReduceKind::Sum, size, axes, keep)?)
}

fn sum_square(
    call: &mut Call<'_>,
    x: ValueId,
    axes: &[usize],
    keep: bool,
) -> Result<ValueId, ImportError> {
    let square = call.b.mul(x, x)?;
    Ok(call.b.reduce(ReduceKind::Sum, square, axes, keep)?)
}

/// Roots and logarithms of integers are taken in `f64` and truncated.
fn in_floats(
    call: &mut Call<'_>,
    x: ValueId,
    then: impl FnOnce(&mut Call<'_>, ValueId) -> Result<ValueId, ImportError>,
) -> Result<ValueId, ImportError> {
    let dtype = call.b.dtype(x);
    let wide = if dtype.is_float() { x } else { call.b.cast(x, DType::F64)? };
    let result = then(call, wide)?;
    Ok(call.b.cast(result, dtype)?)
}

fn l2(call: &mut Call<'_>, x: ValueId, axes: &[usize], keep: bool) -> Result<ValueId, ImportError> {
    in_floats(call, x, |call, x| {
        let sum = sum_square(call, x, axes, keep)?;
        Ok(call.b.sqrt(sum)?)
    })
}

fn log_sum(
    call: &mut Call<'_>,
    x: ValueId,
    axes: &[usize],
    keep: bool,
) -> Result<ValueId, ImportError> {
    in_floats(call, x, |call, x| {
        let sum = call.b.reduce(ReduceKind::Sum, x, axes, keep)?;
        Ok(call.b.log(sum)?)
    })
}

/// `m + ln Σ e^(x − m)`, with `m` the maximum where it is finite and 0 elsewhere.
fn log_sum_exp(
    call: &mut Call<'_>,
    x: ValueId,
    axes: &[usize],
    keep: bool,
) -> Result<ValueId, ImportError> {
    in_floats(call, x, |call, x| {
        let b = &mut *call.b;
        let largest = b.reduce(ReduceKind::Max, x, axes, true)?;
        let infinite = b.is_inf(largest)?;
        let zero = b.scalar_like(x, 0.0)?;
        let largest = b.select(infinite, zero, largest)?;
        let shifted = b.sub(x, largest)?;
        let powers = b.exp(shifted)?;
        let sum = b.reduce(ReduceKind::Sum, powers, axes, true)?;
        let log = b.log(sum)?;
        let result = b.add(log, largest)?;
        Ok(if keep { result } else { b.squeeze(result, axes)? })
    })
}

fn arg(call: &mut Call<'_>, kind: ReduceKind) -> Results {
    let x = call.input(0)?;
    let axis = call.axis(call.int("axis", 0), call.b.rank(x))?;
    let last = call.flag("select_last_index", false);
    let keep = call.flag("keepdims", true);
    let index = call.b.prim(Prim::ArgReduce { kind, axis, last }, &[x])?;
    Ok(vec![if keep { call.b.unsqueeze(index, &[axis])? } else { index }])
}

fn cumulative(call: &mut Call<'_>, kind: ReduceKind) -> Results {
    let x = call.input(0)?;
    let axis = call.need_integers(1, "the axis")?;
    let &[axis] = &axis[..] else { return Err(call.invalid("the axis must be one number")) };
    let axis = call.axis(axis, call.b.rank(x))?;
    let (exclusive, reverse) = (call.flag("exclusive", false), call.flag("reverse", false));
    Ok(vec![call.b.prim(Prim::Cumulative { kind, axis, exclusive, reverse }, &[x])?])
}

fn top_k(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let axis = call.axis(call.int("axis", -1), call.b.rank(x))?;
    let largest = call.flag("largest", true);
    let k = if call.opset < 10 {
        call.b.constant(anychip_tensor::Tensor::scalar(call.need_int("k")?))
    } else {
        let k = call.input(1)?;
        let k = call.b.cast(k, DType::I64)?;
        call.b.reshape(k, &[])?
    };
    Ok(call.b.node(Prim::TopK { axis, largest }, &[x, k], Vec::new())?)
}

/// Before opset 13 the dims from `axis` on are taken as one, and the default is 1 instead of −1.
fn flattened(
    call: &mut Call<'_>,
    along: fn(&mut Call<'_>, ValueId, usize) -> Result<ValueId, ImportError>,
) -> Results {
    let x = call.input(0)?;
    let dims = call.b.dims(x);
    let rank = dims.len();
    if call.opset >= 13 {
        let axis = call.axis(call.int("axis", -1), rank)?;
        return Ok(vec![along(call, x, axis)?]);
    }
    let axis = call.int("axis", 1);
    let axis = if axis == rank as i64 { rank } else { call.axis(axis, rank)? };
    if axis + 1 == rank {
        return Ok(vec![along(call, x, axis)?]);
    }
    let product = |dims: &[Dim]| dims.iter().cloned().fold(Dim::Fixed(1), |a, d| a * d);
    let flat = call.b.reshape(x, &[product(&dims[..axis]), product(&dims[axis..])])?;
    let result = along(call, flat, 1)?;
    Ok(vec![call.b.reshape(result, &dims)?])
}

/// 1 at the first maximum, 0 elsewhere.
fn hardmax(call: &mut Call<'_>, x: ValueId, axis: usize) -> Result<ValueId, ImportError> {
    let b = &mut *call.b;
    let dims = b.dims(x);
    let place = b.prim(Prim::ArgReduce { kind: ReduceKind::Max, axis, last: false }, &[x])?;
    let place = b.unsqueeze(place, &[axis])?;
    let positions = b.iota(&dims[axis])?;
    let mut shape = vec![Dim::Fixed(1); dims.len()];
    shape[axis] = dims[axis].clone();
    let positions = b.reshape(positions, &shape)?;
    let here = b.prim(Prim::Compare(Compare::Eq), &[place, positions])?;
    Ok(b.cast(here, b.dtype(x))?)
}
