//! Between floats and quantized integers, with the reference's own rounding, and the one integer requantization.

use anychip_ir::{Node, Rounding};
use anychip_tensor::DType;

use super::writer::Value;
use super::{Cx, EmitError, cast, small_float};
use crate::element::Element;

/// An operand as a float that holds it, spread to `shape`.
fn wide(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    i: usize,
    to: Element,
    shape: &[usize],
) -> Result<Value, EmitError> {
    let dtype = cx.dtype(node, i);
    // Compilers turn a division by a number they know into a product with its inverse, which rounds otherwise.
    let mut value = cx.opaque(node, i)?;
    if dtype.is_small_float() {
        value = small_float::decode(cx, &value, dtype);
    }
    let value = cx.w.convert(&value, to);
    Ok(cx.w.broadcast(&value, shape))
}

pub(super) fn quantize(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    to: DType,
    saturate: bool,
) -> Result<Value, EmitError> {
    let shape = cx.shape(node, 0)?;
    // The type that the division happens in.
    let precision = match cx.dtype(node, 1) {
        DType::F16 => Element::F16,
        DType::BF16 => Element::BF16,
        DType::F32 => Element::F32,
        small if small.is_small_float() => Element::F32,
        _ => Element::F64,
    };
    let x = wide(cx, node, 0, precision, &shape)?;
    let scale = wide(cx, node, 1, precision, &shape)?;
    let quotient = divide(cx, &x, &scale, precision);
    if to.is_float() {
        // The sum is rounded once, to the result's type.
        let quotient = cx.w.convert(&quotient, Element::F64);
        let zero = wide(cx, node, 2, Element::F64, &shape)?;
        let sum = cx.w.add(&quotient, &zero);
        if to.is_small_float() {
            return small_float::encode(cx, &sum, to, saturate, Rounding::NearestEven);
        }
        return Ok(cx.w.convert(&sum, Element::of(to)));
    }
    let rounded = cx.w.map("stablehlo.round_nearest_even", &[&quotient]);
    let zero = cx.operand(node, 2)?;
    let zero = cx.w.convert(&zero, Element::I64);
    let zero = cx.w.broadcast(&zero, &shape);
    let whole = cast::to_integer(cx.w, &rounded, Element::I64);
    // Far beyond any result, and far from the ends of `i64`, so that the sum cannot wrap.
    let whole = clamp(cx, &whole, -(1 << 40), 1 << 40);
    let sum = cx.w.add(&whole, &zero);
    Ok(saturated(cx, &sum, to))
}

/// A quotient rounded to `precision`, once: devices that divide 16-bit floats in 32 bits round it once more, to the same.
fn divide(cx: &mut Cx<'_, '_>, x: &Value, scale: &Value, precision: Element) -> Value {
    if !precision.is_half() {
        return cx.w.map("stablehlo.divide", &[x, scale]);
    }
    let (x, scale) = (cx.w.convert(x, Element::F32), cx.w.convert(scale, Element::F32));
    let quotient = cx.w.map("stablehlo.divide", &[&x, &scale]);
    // `reduce_precision` keeps the rounding where a compiler would see two conversions that undo each other.
    let (exponent, mantissa) = if precision == Element::F16 { (5, 10) } else { (8, 7) };
    let attributes = format!("exponent_bits = {exponent} : i32, mantissa_bits = {mantissa} : i32");
    cx.w.op("stablehlo.reduce_precision", &[&quotient], &attributes, Element::F32, &quotient.shape)
}

fn clamp(cx: &mut Cx<'_, '_>, x: &Value, low: i128, high: i128) -> Value {
    let low = cx.w.splat_integer(x.element, &x.shape, low);
    let high = cx.w.splat_integer(x.element, &x.shape, high);
    let x = cx.w.map("stablehlo.maximum", &[x, &low]);
    cx.w.map("stablehlo.minimum", &[&x, &high])
}

/// An `i64` in the range of `to`.
fn saturated(cx: &mut Cx<'_, '_>, x: &Value, to: DType) -> Value {
    let (low, high) = to.integer_range().unwrap_or_default();
    let (low, high) = (low.max(i128::from(i64::MIN)), high.min(i128::from(i64::MAX)));
    let x = clamp(cx, x, low, high);
    cx.w.convert(&x, Element::of(to))
}

pub(super) fn dequantize(cx: &mut Cx<'_, '_>, node: &Node, to: DType) -> Result<Value, EmitError> {
    let shape = cx.shape(node, 0)?;
    // The difference is exact and the product rounded once where both fit the type they are computed in.
    let dtype = cx.dtype(node, 0);
    let narrow = dtype.storage_bits() <= 16 && !dtype.is_float() && cx.dtype(node, 1) != DType::F64;
    let compute = if narrow && to != DType::F64 { Element::F32 } else { Element::F64 };
    let x = wide(cx, node, 0, compute, &shape)?;
    let scale = wide(cx, node, 1, compute, &shape)?;
    let zero = wide(cx, node, 2, compute, &shape)?;
    let difference = cx.w.map("stablehlo.subtract", &[&x, &zero]);
    let product = cx.w.map("stablehlo.multiply", &[&difference, &scale]);
    if to.is_small_float() {
        return small_float::encode(cx, &product, to, true, Rounding::NearestEven);
    }
    if to == DType::Bool {
        return Ok(cx.w.compare_with("NE", &product, 0.0));
    }
    if to.is_float() {
        return Ok(cx.w.convert(&product, Element::of(to)));
    }
    let rounded = cx.w.map("stablehlo.round_nearest_even", &[&product]);
    let whole = cast::to_integer(cx.w, &rounded, Element::I64);
    Ok(saturated(cx, &whole, to))
}

/// `saturate(((accumulator · multiplier + 2^(shift−1)) >> shift) + zero_point)`, as it stands, in 64 bits.
pub(super) fn requantize(cx: &mut Cx<'_, '_>, node: &Node, to: DType) -> Result<Value, EmitError> {
    let shape = cx.shape(node, 0)?;
    let mut operand = |i: usize| -> Result<Value, EmitError> {
        let value = cx.operand(node, i)?;
        let value = cx.w.convert(&value, Element::I64);
        Ok(cx.w.broadcast(&value, &shape))
    };
    let (accumulator, multiplier) = (operand(0)?, operand(1)?);
    let (shift, zero) = (operand(2)?, operand(3)?);
    let product = cx.w.map("stablehlo.multiply", &[&accumulator, &multiplier]);
    let one = cx.w.splat_integer(Element::I64, &shape, 1);
    let before = cx.w.map("stablehlo.subtract", &[&shift, &one]);
    let half = cx.w.map("stablehlo.shift_left", &[&one, &before]);
    let sum = cx.w.add(&product, &half);
    let shifted = cx.w.map("stablehlo.shift_right_arithmetic", &[&sum, &shift]);
    let result = cx.w.add(&shifted, &zero);
    Ok(saturated(cx, &result, to))
}
