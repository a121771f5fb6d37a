//! Reductions over dims, windows and prefixes. Floats of 16 bits gather in `f32`.

use anychip_ir::{Node, ReduceKind, Window};
use anychip_tensor::DType;

use super::contraction::pairs;
use super::writer::{Value, array};
use super::{Cx, EmitError};
use crate::element::Element;

/// The operation that combines two elements.
fn combine(kind: ReduceKind, element: Element) -> &'static str {
    match kind {
        ReduceKind::Sum => "stablehlo.add",
        ReduceKind::Prod => "stablehlo.multiply",
        ReduceKind::Max if element == Element::Bool => "stablehlo.or",
        ReduceKind::Min if element == Element::Bool => "stablehlo.and",
        ReduceKind::Max => "stablehlo.maximum",
        ReduceKind::Min => "stablehlo.minimum",
    }
}

/// What combining nothing gives.
pub(super) fn start(cx: &mut Cx<'_, '_>, kind: ReduceKind, element: Element) -> Value {
    let (low, high) = element.range().unwrap_or_default();
    match kind {
        ReduceKind::Sum => cx.w.splat_integer(element, &[], 0),
        ReduceKind::Prod => cx.w.splat_integer(element, &[], 1),
        ReduceKind::Max if element.is_float() => cx.w.splat(element, &[], f64::NEG_INFINITY),
        ReduceKind::Min if element.is_float() => cx.w.splat(element, &[], f64::INFINITY),
        ReduceKind::Max => cx.w.splat_integer(element, &[], low),
        ReduceKind::Min => cx.w.splat_integer(element, &[], high),
    }
}

/// The operand in the type that it is gathered in.
fn gathered(cx: &mut Cx<'_, '_>, node: &Node, kind: ReduceKind) -> Result<Value, EmitError> {
    let x = cx.operand(node, 0)?;
    let rounds = matches!(kind, ReduceKind::Sum | ReduceKind::Prod) && x.element.is_half();
    Ok(if rounds { cx.w.convert(&x, Element::F32) } else { x })
}

fn back(cx: &mut Cx<'_, '_>, node: &Node, result: &Value) -> Value {
    let dtype: DType = cx.dtype(node, 0);
    cx.w.convert(result, Element::of(dtype))
}

pub(super) fn reduce(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    kind: ReduceKind,
    axes: &[usize],
) -> Result<Value, EmitError> {
    let x = gathered(cx, node, kind)?;
    if axes.is_empty() {
        return Ok(back(cx, node, &x));
    }
    let start = start(cx, kind, x.element);
    let result = cx.w.reduce(combine(kind, x.element), &x, &start, axes);
    Ok(back(cx, node, &result))
}

/// The extreme, then the least (or the greatest) place that holds it.
pub(super) fn arg_reduce(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    kind: ReduceKind,
    axis: usize,
    last: bool,
) -> Result<Value, EmitError> {
    let x = cx.operand(node, 0)?;
    let first = start(cx, kind, x.element);
    let best = cx.w.reduce(combine(kind, x.element), &x, &first, &[axis]);
    let kept: Vec<usize> = (0..x.rank()).filter(|&d| d != axis).collect();
    let best = cx.w.broadcast_in(&best, &x.shape, &kept);
    let mut is_best = cx.w.compare("EQ", &x, &best);
    if x.element.is_float() {
        let is_nan = cx.w.is_nan(&x);
        // Beside a NaN no number counts. Whether there is one is asked for by itself: on some devices it gets lost in the extreme.
        let nothing = cx.w.splat_integer(Element::Bool, &[], 0);
        let any = cx.w.reduce("stablehlo.or", &is_nan, &nothing, &[axis]);
        let any = cx.w.broadcast_in(&any, &x.shape, &kept);
        is_best = cx.w.select(&any, &is_nan, &is_best);
    }
    let places = cx.w.iota(Element::I64, &x.shape, axis);
    let (pick, none) =
        if last { (ReduceKind::Max, -1) } else { (ReduceKind::Min, i128::from(i64::MAX)) };
    let nowhere = cx.w.splat_integer(Element::I64, &x.shape, none);
    let candidates = cx.w.select(&is_best, &places, &nowhere);
    let nothing = cx.w.splat_integer(Element::I64, &[], none);
    Ok(cx.w.reduce(combine(pick, Element::I64), &candidates, &nothing, &[axis]))
}

pub(super) fn reduce_window(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    kind: ReduceKind,
    window: &Window,
) -> Result<Value, EmitError> {
    let mut x = gathered(cx, node, kind)?;
    let start = start(cx, kind, x.element);
    let outer = x.rank() - window.size.len();
    let whole = |inner: &[usize]| -> Vec<usize> { [vec![1; outer].as_slice(), inner].concat() };
    let mut padding = vec![(0i64, 0i64); outer];
    padding.extend_from_slice(&window.padding);
    // Negative padding crops, which is a matter of its own.
    if padding.iter().any(|&(low, high)| low < 0 || high < 0) {
        let crop: Vec<(i64, i64)> = padding.iter().map(|&(l, h)| (l.min(0), h.min(0))).collect();
        let shape: Vec<usize> = x
            .shape
            .iter()
            .zip(&crop)
            .map(|(&n, &(l, h))| (n as i64 + l + h).max(0) as usize)
            .collect();
        let (low, high): (Vec<i64>, Vec<i64>) = crop.into_iter().unzip();
        x = cx.w.pad(&x, &start, &low, &high, &shape);
        for (low, high) in &mut padding {
            (*low, *high) = ((*low).max(0), (*high).max(0));
        }
    }
    let attributes = format!(
        "padding = {}, window_dilations = {}, window_dimensions = {}, window_strides = {}",
        pairs(&padding),
        array(whole(&window.dilation)),
        array(whole(&window.size)),
        array(whole(&window.strides)),
    );
    let region = cx.w.combiner(combine(kind, x.element), x.element);
    let types = [(x.element, cx.shape(node, 0)?)];
    let result =
        cx.w.ops("stablehlo.reduce_window", &[&x, &start], &[region], &attributes, &types)
            .remove(0);
    Ok(back(cx, node, &result))
}

/// In steps that double: after the n-th every element has gathered the 2ⁿ before it.
pub(super) fn cumulative(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    kind: ReduceKind,
    axis: usize,
    exclusive: bool,
    reverse: bool,
) -> Result<Value, EmitError> {
    let mut x = gathered(cx, node, kind)?;
    let start = start(cx, kind, x.element);
    let size = x.shape[axis];
    let mut distance = 1;
    while distance < size {
        let moved = moved(cx, &x, &start, axis, distance, reverse);
        x = cx.w.map(combine(kind, x.element), &[&x, &moved]);
        distance *= 2;
    }
    if exclusive && size > 0 {
        x = moved(cx, &x, &start, axis, 1, reverse);
    }
    Ok(back(cx, node, &x))
}

/// Elements moved on along a dim, with `fill` where they came from.
fn moved(
    cx: &mut Cx<'_, '_>,
    x: &Value,
    fill: &Value,
    axis: usize,
    distance: usize,
    reverse: bool,
) -> Value {
    let along = |amount: i64| -> Vec<i64> {
        (0..x.rank()).map(|d| if d == axis { amount } else { 0 }).collect()
    };
    let distance = distance as i64;
    let (low, high) = if reverse { (-distance, distance) } else { (distance, -distance) };
    cx.w.pad(x, fill, &along(low), &along(high), &x.shape)
}
