//! Functions of one element at a time, operands spread to the result's shape.

use anychip_ir::{Binary, Compare, Node, Unary};
use anychip_tensor::DType;

use super::writer::{Value, Writer};
use super::{Cx, EmitError, cast, small_float};
use crate::element::Element;

pub(super) fn unary(cx: &mut Cx<'_, '_>, node: &Node, unary: Unary) -> Result<Value, EmitError> {
    let dtype = cx.dtype(node, 0);
    let mut x = cx.operand(node, 0)?;
    if dtype.is_small_float() {
        x = small_float::decode(cx, &x, dtype);
    }
    let name = match unary {
        Unary::IsNan => return Ok(cx.w.is_nan(&x)),
        Unary::IsInf => {
            let magnitude = cx.w.map("stablehlo.abs", &[&x]);
            return Ok(cx.w.compare_with("EQ", &magnitude, f64::INFINITY));
        }
        Unary::Not => {
            let flipped = cx.w.map("stablehlo.not", &[&x]);
            return Ok(cast::wrap(cx, &flipped, dtype));
        }
        Unary::Abs | Unary::Sign | Unary::Neg if x.element.is_unsigned() => {
            return Ok(unsigned(cx, &x, unary));
        }
        // Exact in any float type, and the only ones that integers have.
        Unary::Neg => return Ok(cx.w.map("stablehlo.negate", &[&x])),
        Unary::Abs => return Ok(cx.w.map("stablehlo.abs", &[&x])),
        Unary::Sign => return Ok(cx.w.map("stablehlo.sign", &[&x])),
        Unary::Floor => "stablehlo.floor",
        Unary::Ceil => "stablehlo.ceil",
        Unary::Round => "stablehlo.round_nearest_even",
        Unary::Sqrt => "stablehlo.sqrt",
        Unary::Exp => "stablehlo.exponential",
        Unary::Log => "stablehlo.log",
        Unary::Sin => "stablehlo.sine",
        Unary::Cos => "stablehlo.cosine",
        Unary::Tan => "chlo.tan",
        Unary::Asin => "chlo.asin",
        Unary::Acos => "chlo.acos",
        Unary::Atan => {
            return Ok(in_single_or_double(cx, &x, |cx, x| arc_tangent(cx.w, x)));
        }
        Unary::Sinh => "chlo.sinh",
        Unary::Cosh => "chlo.cosh",
        Unary::Asinh => "chlo.asinh",
        Unary::Acosh => "chlo.acosh",
        Unary::Atanh => "chlo.atanh",
        Unary::Tanh => "stablehlo.tanh",
        Unary::Erf => "chlo.erf",
        Unary::Sigmoid => "stablehlo.logistic",
    };
    Ok(in_single_or_double(cx, &x, |cx, x| cx.w.map(name, &[x])))
}

/// What `compute` makes of floats, of 16-bit ones in `f32`.
fn in_single_or_double(
    cx: &mut Cx<'_, '_>,
    x: &Value,
    compute: impl FnOnce(&mut Cx<'_, '_>, &Value) -> Value,
) -> Value {
    let wide = if x.element.is_half() { cx.w.convert(x, Element::F32) } else { x.clone() };
    let result = compute(cx, &wide);
    cx.w.convert(&result, x.element)
}

/// How often [`arc_tangent`] halves the angle before it takes the series.
const HALVINGS: i32 = 2;

/// The arc tangent from operations that every plugin has right: one whose compiler turns `chlo.atan` and `stablehlo.atan2` by 1
/// into something else gives wrong numbers for both.
///
/// Beyond 1 it is π/2 less that of the reciprocal; twice the half angle's, `atan(t) = 2 atan(t / (1 + √(1 + t²)))`; and of
/// what is then at most tan(π/16) the Taylor series.
fn arc_tangent(w: &mut Writer, x: &Value) -> Value {
    let one = w.splat(x.element, &x.shape, 1.0);
    let size = w.map("stablehlo.abs", &[x]);
    let steep = w.compare("GT", &size, &one);
    let reciprocal = w.map("stablehlo.divide", &[&one, &size]);
    let mut tangent = w.select(&steep, &reciprocal, &size);
    for _ in 0..HALVINGS {
        let square = w.map("stablehlo.multiply", &[&tangent, &tangent]);
        let sum = w.add(&square, &one);
        let root = w.map("stablehlo.sqrt", &[&sum]);
        let divisor = w.add(&root, &one);
        tangent = w.map("stablehlo.divide", &[&tangent, &divisor]);
    }
    let square = w.map("stablehlo.multiply", &[&tangent, &tangent]);
    let coefficients = arc_tangent_series(x.element);
    let mut sum = w.splat(x.element, &x.shape, 0.0);
    for coefficient in coefficients.iter().rev() {
        let coefficient = w.splat(x.element, &x.shape, *coefficient);
        let product = w.map("stablehlo.multiply", &[&sum, &square]);
        sum = w.add(&product, &coefficient);
    }
    let angle = w.map("stablehlo.multiply", &[&sum, &tangent]);
    let quarter = w.splat(x.element, &x.shape, std::f64::consts::FRAC_PI_2);
    let complement = w.map("stablehlo.subtract", &[&quarter, &angle]);
    let angle = w.select(&steep, &complement, &angle);
    // The sign of -0 is -0, that of NaN is NaN.
    let sign = w.map("stablehlo.sign", &[x]);
    w.map("stablehlo.multiply", &[&angle, &sign])
}

/// The coefficients of `t, t³, t⁵ …` with which the series is as precise as the type, times 2 to the [`HALVINGS`].
fn arc_tangent_series(element: Element) -> Vec<f64> {
    let terms = if element == Element::F64 { 11 } else { 5 };
    (0..terms).map(|i| 2f64.powi(HALVINGS) * (-1f64).powi(i) / f64::from(2 * i + 1)).collect()
}

fn unsigned(cx: &mut Cx<'_, '_>, x: &Value, unary: Unary) -> Value {
    match unary {
        Unary::Neg => {
            let zero = cx.w.splat_integer(x.element, &x.shape, 0);
            cx.w.map("stablehlo.subtract", &[&zero, x])
        }
        Unary::Sign => {
            let one = cx.w.splat_integer(x.element, &x.shape, 1);
            cx.w.map("stablehlo.minimum", &[x, &one])
        }
        _ => x.clone(),
    }
}

pub(super) fn binary(cx: &mut Cx<'_, '_>, node: &Node, binary: Binary) -> Result<Value, EmitError> {
    let dtype = cx.dtype(node, 0);
    let shape = cx.shape(node, 0)?;
    let (a, b) = (cx.spread(node, 0, &shape)?, cx.spread(node, 1, &shape)?);
    let is_bool = dtype == DType::Bool;
    let name = match binary {
        Binary::Div if !a.element.is_float() => return Ok(divide(cx, "stablehlo.divide", &a, &b)),
        Binary::Rem if !a.element.is_float() => {
            return Ok(divide(cx, "stablehlo.remainder", &a, &b));
        }
        Binary::Pow => return Ok(power(cx, &a, &b)),
        Binary::ShiftLeft | Binary::ShiftRight => {
            let shifted = shift(cx, &a, &b, binary, dtype);
            return Ok(cast::wrap(cx, &shifted, dtype));
        }
        Binary::Add => "stablehlo.add",
        Binary::Sub => "stablehlo.subtract",
        Binary::Mul => "stablehlo.multiply",
        Binary::Div => "stablehlo.divide",
        Binary::Rem => "stablehlo.remainder",
        Binary::Max if is_bool => "stablehlo.or",
        Binary::Min if is_bool => "stablehlo.and",
        Binary::Max => "stablehlo.maximum",
        Binary::Min => "stablehlo.minimum",
        Binary::And => "stablehlo.and",
        Binary::Or => "stablehlo.or",
        Binary::Xor => "stablehlo.xor",
    };
    let result = cx.w.map(name, &[&a, &b]);
    let is_extreme = matches!(binary, Binary::Max | Binary::Min) && a.element.is_float();
    if !is_extreme || !cx.style.keeps_nan {
        return Ok(result);
    }
    Ok([&b, &a].into_iter().fold(result, |result, operand| {
        let is_nan = cx.w.compare("NE", operand, operand);
        cx.w.select(&is_nan, operand, &result)
    }))
}

/// Integers; what is divided by zero is 0. What the least number divided by −1 is, is said apart too: devices differ.
fn divide(cx: &mut Cx<'_, '_>, name: &str, a: &Value, b: &Value) -> Value {
    let zero = cx.w.splat_integer(b.element, &b.shape, 0);
    let one = cx.w.splat_integer(b.element, &b.shape, 1);
    let by_zero = cx.w.compare("EQ", b, &zero);
    let divisor = cx.w.select(&by_zero, &one, b);
    if a.element.is_unsigned() {
        let result = cx.w.map(name, &[a, &divisor]);
        return cx.w.select(&by_zero, &zero, &result);
    }
    let minus_one = cx.w.splat_integer(b.element, &b.shape, -1);
    let negates = cx.w.compare("EQ", b, &minus_one);
    let divisor = cx.w.select(&negates, &one, &divisor);
    let result = cx.w.map(name, &[a, &divisor]);
    let negated =
        if name == "stablehlo.divide" { cx.w.map("stablehlo.negate", &[a]) } else { zero.clone() };
    let result = cx.w.select(&negates, &negated, &result);
    cx.w.select(&by_zero, &zero, &result)
}

/// Shifts by the width or more give 0, negative ones too.
fn shift(cx: &mut Cx<'_, '_>, a: &Value, b: &Value, binary: Binary, dtype: DType) -> Value {
    let name = match binary {
        Binary::ShiftLeft => "stablehlo.shift_left",
        _ if a.element.is_unsigned() => "stablehlo.shift_right_logical",
        _ => "stablehlo.shift_right_arithmetic",
    };
    let zero = cx.w.splat_integer(b.element, &b.shape, 0);
    let width = cx.w.splat_integer(b.element, &b.shape, dtype.storage_bits() as i128);
    let low = cx.w.compare("GE", b, &zero);
    let high = cx.w.compare("LT", b, &width);
    let within = cx.w.and(&low, &high);
    let amount = cx.w.select(&within, b, &zero);
    let shifted = cx.w.map(name, &[a, &amount]);
    cx.w.select(&within, &shifted, &zero)
}

/// `a ^ b` in the type of `a`. Of two integers exact, wrapped; a negative exponent gives the quotient truncated.
fn power(cx: &mut Cx<'_, '_>, a: &Value, b: &Value) -> Value {
    if !a.element.is_float() && !b.element.is_float() {
        return integer_power(cx, a, b);
    }
    // A float base and an exponent of its type or an integer stay in the base's type; anything else takes the widest.
    let wide = match (a.element, b.element) {
        (Element::F64, _) | (_, Element::F64) => Element::F64,
        (base, exponent) if base.is_float() && (exponent.is_float() || base == Element::F32) => {
            Element::F32
        }
        (base, _) if base.is_half() => Element::F32,
        _ => Element::F64,
    };
    let (x, y) = (cx.w.convert(a, wide), cx.w.convert(b, wide));
    let result = cx.w.map("stablehlo.power", &[&x, &y]);
    if a.element.is_float() {
        cx.w.convert(&result, a.element)
    } else {
        cast::to_integer(cx.w, &result, a.element)
    }
}

/// By squaring, a bit of the exponent at a time: every multiplication wraps as the definition does.
fn integer_power(cx: &mut Cx<'_, '_>, a: &Value, b: &Value) -> Value {
    let w = &mut *cx.w;
    let shape = a.shape.clone();
    let one = w.splat_integer(a.element, &shape, 1);
    let zero = w.splat_integer(b.element, &shape, 0);
    let single = w.splat_integer(b.element, &shape, 1);
    let bits = 8 * b.element.bytes();
    let (mut result, mut square, mut rest) = (one.clone(), a.clone(), b.clone());
    for bit in 0..bits {
        let low = w.and(&rest, &single);
        let odd = w.compare("EQ", &low, &single);
        let product = w.map("stablehlo.multiply", &[&result, &square]);
        result = w.select(&odd, &product, &result);
        if bit + 1 < bits {
            square = w.map("stablehlo.multiply", &[&square, &square]);
            rest = w.map("stablehlo.shift_right_logical", &[&rest, &single]);
        }
    }
    if b.element.is_unsigned() {
        return result;
    }
    let negative = w.compare("LT", b, &zero);
    let nothing = w.splat_integer(a.element, &shape, 0);
    let is_one = w.compare("EQ", a, &one);
    let mut quotient = w.select(&is_one, &one, &nothing);
    if !a.element.is_unsigned() {
        let minus_one = w.splat_integer(a.element, &shape, -1);
        let is_minus_one = w.compare("EQ", a, &minus_one);
        let low = w.and(b, &single);
        let odd = w.compare("EQ", &low, &single);
        let sign = w.select(&odd, &minus_one, &one);
        quotient = w.select(&is_minus_one, &sign, &quotient);
    }
    w.select(&negative, &quotient, &result)
}

pub(super) fn compare(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    compare: Compare,
) -> Result<Value, EmitError> {
    let shape = cx.shape(node, 0)?;
    let (mut a, mut b) = (cx.spread(node, 0, &shape)?, cx.spread(node, 1, &shape)?);
    let dtype = cx.dtype(node, 0);
    if dtype.is_small_float() {
        (a, b) = (small_float::decode(cx, &a, dtype), small_float::decode(cx, &b, dtype));
    }
    let direction = match compare {
        Compare::Eq => "EQ",
        Compare::Ne => "NE",
        Compare::Lt => "LT",
        Compare::Le => "LE",
        Compare::Gt => "GT",
        Compare::Ge => "GE",
    };
    Ok(cx.w.compare(direction, &a, &b))
}

pub(super) fn select(cx: &mut Cx<'_, '_>, node: &Node) -> Result<Value, EmitError> {
    let shape = cx.shape(node, 0)?;
    let condition = cx.spread(node, 0, &shape)?;
    let (a, b) = (cx.spread(node, 1, &shape)?, cx.spread(node, 2, &shape)?);
    Ok(cx.w.select(&condition, &a, &b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps of [`arc_tangent`] in Rust, but for the sign and for what is above 1.
    fn by_steps(mut tangent: f64, element: Element) -> f64 {
        for _ in 0..HALVINGS {
            tangent /= 1.0 + tangent.mul_add(tangent, 1.0).sqrt();
        }
        let series = arc_tangent_series(element);
        tangent * series.iter().rev().fold(0.0, |sum, c| sum * tangent * tangent + c)
    }

    #[test]
    fn the_series_of_the_arc_tangent_is_as_precise_as_its_type() {
        for i in 0..=1000 {
            let tangent = f64::from(i) / 1000.0;
            let off = |element| (by_steps(tangent, element) - tangent.atan()).abs();
            assert!(off(Element::F64) <= 4e-16, "{tangent}: {:e}", off(Element::F64));
            assert!(off(Element::F32) <= 4e-8, "{tangent}: {:e}", off(Element::F32));
        }
    }
}
