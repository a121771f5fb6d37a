//! Reductions: over dims, windows, and running.

use anychip_ir::{ReduceKind, Window};
use anychip_tensor::{DType, Tensor};

use super::emit::{Emitter, Frame, Value};
use super::prims::Operands;

/// A type that reductions take and that holds what `dtype` does.
fn reduce_type(dtype: DType) -> DType {
    match dtype {
        DType::Bool | DType::U8 | DType::I8 | DType::U16 | DType::I16 => DType::I32,
        other => other,
    }
}

pub(super) fn reduce(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    kind: ReduceKind,
    axes: &[usize],
) -> String {
    if axes.is_empty() {
        return e.add(frame, "Identity", &[x.name(0)], vec![]);
    }
    let (op, input_since) = match kind {
        ReduceKind::Sum => ("ReduceSum", 13),
        ReduceKind::Prod => ("ReduceProd", 18),
        ReduceKind::Max => ("ReduceMax", 18),
        ReduceKind::Min => ("ReduceMin", 18),
    };
    let dtype = x.dtype(0);
    // Of nothing the least of the type itself results, so the largest is not taken in a wider one.
    let compute = match (kind, dtype) {
        (ReduceKind::Max | ReduceKind::Min, DType::Bool | DType::U8) => DType::U8,
        (ReduceKind::Max | ReduceKind::Min, DType::I8) => DType::I8,
        _ => reduce_type(dtype),
    };
    let input = e.cast(frame, x.name(0), dtype, compute);
    let made = operator(e, frame, &input, (op, input_since), axes, false);
    e.cast(frame, &made, compute, dtype)
}

/// One of the `Reduce` operators, whose axes are an operand since the given opset.
pub(super) fn operator(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    input: &str,
    (op, input_since): (&str, i64),
    axes: &[usize],
    keep: bool,
) -> String {
    let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
    let keep: (&str, Value) = ("keepdims", i64::from(keep).into());
    if e.opset >= input_since {
        let axes = e.ints(&axes);
        e.add(frame, op, &[input, &axes], vec![keep])
    } else {
        e.add(frame, op, &[input], vec![keep, ("axes", axes.into())])
    }
}

pub(super) fn arg(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    kind: ReduceKind,
    axis: usize,
    last: bool,
) -> String {
    let op = if kind == ReduceKind::Max { "ArgMax" } else { "ArgMin" };
    let dtype = x.dtype(0);
    let compute = match dtype {
        small if small.is_small_float() => DType::F32,
        DType::I64 | DType::U64 | DType::U32 | DType::I32 => dtype,
        other if other.is_float() => other,
        _ => DType::I32,
    };
    let input = e.cast(frame, x.name(0), dtype, compute);
    let mut attributes = vec![("axis", (axis as i64).into()), ("keepdims", 0.into())];
    if last {
        attributes.push(("select_last_index", 1.into()));
    }
    e.add(frame, op, &[&input], attributes)
}

/// The value that changes nothing.
fn neutral(kind: ReduceKind, dtype: DType) -> f64 {
    let (low, high) = match dtype.integer_range() {
        Some((low, high)) => (low as f64, high as f64),
        None => (f64::NEG_INFINITY, f64::INFINITY),
    };
    match kind {
        ReduceKind::Sum => 0.0,
        ReduceKind::Prod => 1.0,
        ReduceKind::Max => low,
        ReduceKind::Min => high,
    }
}

fn combine(kind: ReduceKind) -> &'static str {
    match kind {
        ReduceKind::Sum => "Add",
        ReduceKind::Prod => "Mul",
        ReduceKind::Max => "Max",
        ReduceKind::Min => "Min",
    }
}

/// Windows of more elements than this are not written out.
const MOST_TERMS: usize = 1024;

/// A pooling operator where one means the same; otherwise the windows' elements one after the other.
pub(super) fn window(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    kind: ReduceKind,
    window: &Window,
) -> Result<String, String> {
    let n = window.size.len();
    let rank = x.types[0].rank();
    let dtype = x.dtype(0);
    // A pool wants each window to hold an element: no padding as long as a window.
    let fits = window.padding.iter().zip(&window.size).all(|(&(low, high), &size)| {
        low >= 0 && high >= 0 && low < size as i64 && high < size as i64
    });
    let floats = matches!(dtype, DType::F16 | DType::F32 | DType::F64);
    if kind == ReduceKind::Max && rank == n + 2 && n > 0 && fits && floats {
        let mut pads: Vec<i64> = window.padding.iter().map(|p| p.0).collect();
        pads.extend(window.padding.iter().map(|p| p.1));
        let attributes = vec![
            ("kernel_shape", window.size.clone().into()),
            ("strides", window.strides.clone().into()),
            ("dilations", window.dilation.clone().into()),
            ("pads", pads.into()),
        ];
        return Ok(e.add(frame, "MaxPool", &[x.name(0)], attributes));
    }
    let terms = window.size.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
    let terms = terms.filter(|&t| t <= MOST_TERMS && t > 0);
    let Some(terms) = terms else {
        return Err(format!("a window of {:?} elements", window.size));
    };
    let mut amounts = vec![0i64; 2 * rank];
    for (i, &(low, high)) in window.padding.iter().enumerate() {
        amounts[rank - n + i] = low;
        amounts[2 * rank - n + i] = high;
    }
    let compute = match dtype {
        DType::U8 | DType::I8 | DType::U16 | DType::I16 => DType::I32,
        other => other,
    };
    let input = e.cast(frame, x.name(0), dtype, compute);
    let amounts = e.ints(&amounts);
    let fill = e.scalar(compute, neutral(kind, dtype));
    let padded = e.add(frame, "Pad", &[&input, &amounts, &fill], vec![]);
    let axes: Vec<i64> = (rank - n..rank).map(|a| a as i64).collect();
    let axes = e.ints(&axes);
    let steps: Vec<i64> = window.strides.iter().map(|&s| s as i64).collect();
    let steps = e.ints(&steps);
    let mut result: Option<String> = None;
    for term in 0..terms {
        // Where this element lies in its window, and how far before the end its last one is.
        let mut rest = term;
        let (mut starts, mut ends) = (vec![0i64; n], vec![0i64; n]);
        for i in (0..n).rev() {
            let place = (rest % window.size[i]) * window.dilation[i];
            rest /= window.size[i];
            let reach = (window.size[i] - 1) * window.dilation[i];
            starts[i] = place as i64;
            let back = place as i64 - reach as i64;
            ends[i] = if back == 0 { i64::MAX } else { back };
        }
        let (starts, ends) = (e.ints(&starts), e.ints(&ends));
        let part = e.add(frame, "Slice", &[&padded, &starts, &ends, &axes, &steps], vec![]);
        result = Some(match result {
            None => part,
            Some(sum) => e.add(frame, combine(kind), &[&sum, &part], vec![]),
        });
    }
    let result = result.ok_or("an empty window")?;
    Ok(e.cast(frame, &result, compute, dtype))
}

pub(super) fn cumulative(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    kind: ReduceKind,
    axis: usize,
    exclusive: bool,
    reverse: bool,
) -> Result<String, String> {
    let dtype = x.dtype(0);
    let compute = match reduce_type(dtype) {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    };
    let input = e.cast(frame, x.name(0), dtype, compute);
    let native = match kind {
        ReduceKind::Sum => Some("CumSum"),
        ReduceKind::Prod if e.opset >= 26 => Some("CumProd"),
        ReduceKind::Prod | ReduceKind::Max | ReduceKind::Min => None,
    };
    if let Some(op) = native {
        let axis = e.constant(&Tensor::scalar(axis as i64));
        let attributes = vec![
            ("exclusive", i64::from(exclusive).into()),
            ("reverse", i64::from(reverse).into()),
        ];
        let made = e.add(frame, op, &[&input, &axis], attributes);
        return Ok(e.cast(frame, &made, compute, dtype));
    }
    // Doubling: after step s each element combines 2s before it.
    let size = x.types[0].shape[axis]
        .fixed()
        .ok_or("a running reduction along a dim that is not known")?;
    let rank = x.types[0].rank();
    let fill = e.scalar(compute, neutral(kind, dtype));
    let shifted = |e: &mut Emitter, frame: &mut Frame<'_>, x: &str, by: usize| {
        let mut amounts = vec![0i64; 2 * rank];
        let (first, second) = if reverse { (rank + axis, axis) } else { (axis, rank + axis) };
        amounts[first] = by as i64;
        amounts[second] = -(by as i64);
        let amounts = e.ints(&amounts);
        e.add(frame, "Pad", &[x, &amounts, &fill], vec![])
    };
    let mut result = if exclusive && size > 0 { shifted(e, frame, &input, 1) } else { input };
    let mut step = 1;
    while step < size {
        let moved = shifted(e, frame, &result, step);
        result = e.add(frame, combine(kind), &[&result, &moved], vec![]);
        step *= 2;
    }
    let result = e.add(frame, "Identity", &[&result], vec![]);
    Ok(e.cast(frame, &result, compute, dtype))
}
