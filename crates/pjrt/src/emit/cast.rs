//! From one element type to another, as the reference does: floats to integers truncate and saturate, NaN becoming 0.

use anychip_ir::{Node, Rounding};
use anychip_tensor::DType;

use super::writer::{Value, Writer};
use super::{Cx, EmitError, small_float};
use crate::element::Element;

pub(super) fn cast(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    to: DType,
    saturate: bool,
    rounding: Rounding,
) -> Result<Value, EmitError> {
    let from = cx.dtype(node, 0);
    let mut x = cx.operand(node, 0)?;
    if from == to {
        return Ok(x);
    }
    if from.is_small_float() {
        x = small_float::decode(cx, &x, from);
    }
    if to.is_small_float() {
        return small_float::encode(cx, &x, to, saturate, rounding);
    }
    let element = Element::of(to);
    Ok(match (x.element.is_float(), element.is_float()) {
        _ if to == DType::Bool => cx.w.compare_with("NE", &x, 0.0),
        (true, false) if to.storage_bits() < 8 => {
            let whole = to_integer(cx.w, &x, Element::I64);
            let low = cx.w.convert(&whole, element);
            wrap(cx, &low, to)
        }
        (true, false) => to_integer(cx.w, &x, element),
        (false, false) => {
            let low = cx.w.convert(&x, element);
            wrap(cx, &low, to)
        }
        (_, true) => cx.w.convert(&x, element),
    })
}

/// Truncated towards zero and saturated. What devices do beyond an integer's range differs, so it is written out.
pub(super) fn to_integer(w: &mut Writer, x: &Value, to: Element) -> Value {
    let x = if x.element.is_half() { w.convert(x, Element::F32) } else { x.clone() };
    let Some((low, high)) = to.range() else { return x };
    // Powers of two, which floats hold exactly.
    let above = w.compare_with("GE", &x, (high + 1) as f64);
    let below = w.compare_with("LE", &x, low as f64);
    let nan = w.is_nan(&x);
    let outside = w.or(&above, &below);
    let outside = w.or(&outside, &nan);
    let zero = w.splat(x.element, &x.shape, 0.0);
    let within = w.select(&outside, &zero, &x);
    let whole = w.convert(&within, to);
    let least = w.splat_integer(to, &x.shape, low);
    let most = w.splat_integer(to, &x.shape, high);
    let whole = w.select(&below, &least, &whole);
    w.select(&above, &most, &whole)
}

/// Keeps the low bits that a type narrower than a byte has.
pub(super) fn wrap(cx: &mut Cx<'_, '_>, x: &Value, dtype: DType) -> Value {
    let bits = dtype.storage_bits();
    if bits >= 8 {
        return x.clone();
    }
    if dtype.is_unsigned_integer() {
        let mask = cx.w.splat_integer(x.element, &x.shape, (1 << bits) - 1);
        return cx.w.and(x, &mask);
    }
    let unused = cx.w.splat_integer(x.element, &x.shape, 8 - bits as i128);
    let high = cx.w.map("stablehlo.shift_left", &[x, &unused]);
    cx.w.map("stablehlo.shift_right_arithmetic", &[&high, &unused])
}

pub(super) fn bit_cast(cx: &mut Cx<'_, '_>, node: &Node, to: DType) -> Result<Value, EmitError> {
    let x = cx.operand(node, 0)?;
    let element = Element::of(to);
    let packed = |dtype: DType| dtype.storage_bits() < 8;
    if x.element == Element::Bool || element == Element::Bool {
        // One byte, 0 or 1, on both sides.
        let bits = if x.element == Element::Bool { cx.w.convert(&x, Element::U8) } else { x };
        return Ok(if element == Element::Bool {
            cx.w.compare_with("NE", &bits, 0.0)
        } else {
            reread(cx, &bits, element)
        });
    }
    let read = reread(cx, &x, element);
    Ok(if packed(to) || packed(cx.dtype(node, 0)) { wrap(cx, &read, to) } else { read })
}

fn reread(cx: &mut Cx<'_, '_>, x: &Value, to: Element) -> Value {
    if x.element == to {
        return x.clone();
    }
    cx.w.op("stablehlo.bitcast_convert", &[x], "", to, &x.shape)
}
