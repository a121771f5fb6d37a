//! Reductions over dims, windows and prefixes. Floats gather in `f64` and are rounded once; integers wrap.

use anychip_tensor::{DType, Tensor};

use super::strided::{offsets, strides};
use super::values::{Values, float_max, float_min};
use crate::{IrError, ReduceKind, Window};

fn float_step(kind: ReduceKind) -> fn(f64, f64) -> f64 {
    match kind {
        ReduceKind::Sum => |a, x| a + x,
        ReduceKind::Prod => |a, x| a * x,
        ReduceKind::Max => float_max,
        ReduceKind::Min => float_min,
    }
}

fn integer_step(kind: ReduceKind) -> fn(i128, i128) -> i128 {
    match kind {
        ReduceKind::Sum => i128::wrapping_add,
        ReduceKind::Prod => i128::wrapping_mul,
        ReduceKind::Max => i128::max,
        ReduceKind::Min => i128::min,
    }
}

fn float_start(kind: ReduceKind) -> f64 {
    match kind {
        ReduceKind::Sum => 0.0,
        ReduceKind::Prod => 1.0,
        ReduceKind::Max => f64::NEG_INFINITY,
        ReduceKind::Min => f64::INFINITY,
    }
}

fn integer_start(kind: ReduceKind, dtype: DType) -> i128 {
    let (low, high) = dtype.integer_range().unwrap_or((0, 0));
    match kind {
        ReduceKind::Sum => 0,
        ReduceKind::Prod => 1,
        ReduceKind::Max => low,
        ReduceKind::Min => high,
    }
}

/// Runs `$fold` with the widened elements, the empty result and the step of the element type at hand, and
/// stores the vector it gives.
macro_rules! folded {
    ($x:expr, $kind:expr, $shape:expr, |$data:ident, $start:ident, $step:ident| $fold:expr) => {
        match Values::of($x) {
            Values::Float($data) => {
                let ($start, $step) = (float_start($kind), float_step($kind));
                Values::Float($fold).store($x.dtype(), $shape)
            }
            Values::Integer($data) => {
                let ($start, $step) = (integer_start($kind, $x.dtype()), integer_step($kind));
                Values::Integer($fold).store($x.dtype(), $shape)
            }
        }
    };
}

pub(super) fn reduce(
    kind: ReduceKind,
    axes: &[usize],
    x: &Tensor,
    shape: Vec<usize>,
) -> Result<Tensor, IrError> {
    // Each element of `x` goes to the result at the strides of the dims that stay.
    let result_strides = strides(&shape);
    let mut kept = result_strides.iter();
    let walk: Vec<isize> = (0..x.rank())
        .map(|d| if axes.contains(&d) { 0 } else { kept.next().map_or(0, |&s| s as isize) })
        .collect();
    let count: usize = shape.iter().product();
    folded!(x, kind, shape, |data, start, step| {
        let mut result = vec![start; count];
        let mut elements = data.into_iter();
        offsets(x.shape(), &walk, 0, |place| {
            if let Some(element) = elements.next() {
                result[place] = step(result[place], element);
            }
        });
        result
    })
}

pub(super) fn arg_reduce(
    kind: ReduceKind,
    axis: usize,
    last: bool,
    x: &Tensor,
    shape: Vec<usize>,
) -> Result<Tensor, IrError> {
    fn best<T: PartialOrd + Copy>(
        line: impl Iterator<Item = T>,
        largest: bool,
        last: bool,
        is_nan: fn(T) -> bool,
    ) -> i64 {
        let mut found: Option<(i64, T)> = None;
        for (i, value) in line.enumerate() {
            let replaces = match found {
                None => true,
                Some((_, own)) if is_nan(own) => last && is_nan(value),
                Some((_, own)) => {
                    is_nan(value)
                        || (if largest { value > own } else { value < own })
                        || (last && value == own)
                }
            };
            if replaces {
                found = Some((i as i64, value));
            }
        }
        found.map_or(0, |(i, _)| i)
    }
    let size = x.shape()[axis];
    let count: usize = shape.iter().product();
    if size == 0 && count > 0 {
        return Err(IrError::Setting {
            op: "arg-reduce",
            reason: "an empty dim has no largest or smallest element",
            found: format!("axis {axis}"),
        });
    }
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let largest = kind == ReduceKind::Max;
    let element = |line: usize, i: usize| (line / inner * size + i) * inner + line % inner;
    let data: Vec<i64> = match Values::of(x) {
        Values::Float(v) => (0..count)
            .map(|line| {
                best((0..size).map(|i| v[element(line, i)]), largest, last, |v: f64| v.is_nan())
            })
            .collect(),
        Values::Integer(v) => (0..count)
            .map(|line| {
                best((0..size).map(|i| v[element(line, i)]), largest, last, |_: i128| false)
            })
            .collect(),
    };
    Ok(Tensor::from_vec(shape, data)?)
}

pub(super) fn reduce_window(
    kind: ReduceKind,
    window: &Window,
    x: &Tensor,
    shape: Vec<usize>,
) -> Result<Tensor, IrError> {
    let start_dim = x.rank() - window.size.len();
    let outer: usize = shape[..start_dim].iter().product();
    let (from, to) = (&x.shape()[start_dim..], &shape[start_dim..]);
    let (plane, result_plane) = (from.iter().product::<usize>(), to.iter().product::<usize>());
    let own = strides(from);
    let to_strides = strides(to);
    // For each windowed dim and each place of the result along it, the elements (as offsets) it covers.
    let covered: Vec<Vec<Vec<usize>>> = (0..from.len())
        .map(|d| {
            (0..to[d])
                .map(|place| {
                    let dilation = window.dilation[d] as i128;
                    let first =
                        place as i128 * window.strides[d] as i128 - i128::from(window.padding[d].0);
                    // Only the taps within the operand: a window over nothing but padding may be huge.
                    let end = first + window.size[d] as i128 * dilation;
                    let start = if first < 0 { first.rem_euclid(dilation) } else { first };
                    (start..end.min(from[d] as i128))
                        .step_by(window.dilation[d])
                        .map(|i| i as usize * own[d])
                        .collect()
                })
                .collect()
        })
        .collect();
    folded!(x, kind, shape, |data, start, step| {
        let mut result = vec![start; outer * result_plane];
        for o in 0..outer {
            let base = o * plane;
            for place in 0..result_plane {
                let taps: Vec<&[usize]> = (0..to.len())
                    .map(|d| covered[d][place / to_strides[d] % to[d]].as_slice())
                    .collect();
                let mut own = start;
                visit(&taps, base, &mut |element| own = step(own, data[element]));
                result[o * result_plane + place] = own;
            }
        }
        result
    })
}

/// Calls `f` with `base` plus each sum of one offset of every dim, the last dim fastest.
fn visit(taps: &[&[usize]], base: usize, f: &mut dyn FnMut(usize)) {
    match taps {
        [] => f(base),
        [only] => only.iter().for_each(|tap| f(base + tap)),
        [first, rest @ ..] => first.iter().for_each(|tap| visit(rest, base + tap, f)),
    }
}

pub(super) fn cumulative(
    kind: ReduceKind,
    axis: usize,
    exclusive: bool,
    reverse: bool,
    x: &Tensor,
) -> Result<Tensor, IrError> {
    let size = x.shape()[axis];
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let lines = x.shape()[..axis].iter().product::<usize>() * inner;
    folded!(x, kind, x.shape().to_vec(), |data, start, step| {
        let mut result = data.clone();
        for line in 0..lines {
            let mut running = start;
            for i in 0..size {
                let place = if reverse { size - 1 - i } else { i };
                let element = (line / inner * size + place) * inner + line % inner;
                let with = step(running, data[element]);
                result[element] = if exclusive { running } else { with };
                running = with;
            }
        }
        result
    })
}
