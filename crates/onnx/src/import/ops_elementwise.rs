//! Elementwise operators: arithmetic, comparisons, logic, activations, casts.

use anychip_ir::{Binary, Compare, Prim, Rounding, Unary, ValueId};
use anychip_ops::{Gelu, Silu};
use anychip_tensor::{DType, Dim};

use super::call::{Call, ImportError, dtype_from_onnx};
use super::table::Row;

type Results = Result<Vec<ValueId>, ImportError>;

pub(crate) const ROWS: &[Row] = &[
    Row::onnx("Abs", 1, |c| unary(c, Unary::Abs)),
    Row::onnx("Acos", 7, |c| unary(c, Unary::Acos)),
    Row::onnx("Acosh", 9, |c| unary(c, Unary::Acosh)),
    Row::onnx("Asin", 7, |c| unary(c, Unary::Asin)),
    Row::onnx("Asinh", 9, |c| unary(c, Unary::Asinh)),
    Row::onnx("Atan", 7, |c| unary(c, Unary::Atan)),
    Row::onnx("Atanh", 9, |c| unary(c, Unary::Atanh)),
    Row::onnx("BitwiseNot", 18, |c| unary(c, Unary::Not)),
    Row::onnx("Ceil", 1, |c| unary(c, Unary::Ceil)),
    Row::onnx("Cos", 7, |c| unary(c, Unary::Cos)),
    Row::onnx("Cosh", 9, |c| unary(c, Unary::Cosh)),
    Row::onnx("Erf", 9, |c| unary(c, Unary::Erf)),
    Row::onnx("Exp", 1, |c| unary(c, Unary::Exp)),
    Row::onnx("Floor", 1, |c| unary(c, Unary::Floor)),
    Row::onnx("IsNaN", 9, |c| unary(c, Unary::IsNan)),
    Row::onnx("Log", 1, |c| unary(c, Unary::Log)),
    Row::onnx("Neg", 1, |c| unary(c, Unary::Neg)),
    Row::onnx("Not", 1, |c| unary(c, Unary::Not)),
    Row::onnx("Round", 11, |c| unary(c, Unary::Round)),
    Row::onnx("Sigmoid", 1, |c| unary(c, Unary::Sigmoid)),
    Row::onnx("Sign", 9, |c| unary(c, Unary::Sign)),
    Row::onnx("Sin", 7, |c| unary(c, Unary::Sin)),
    Row::onnx("Sinh", 9, |c| unary(c, Unary::Sinh)),
    Row::onnx("Sqrt", 1, |c| unary(c, Unary::Sqrt)),
    Row::onnx("Tan", 7, |c| unary(c, Unary::Tan)),
    Row::onnx("Tanh", 1, |c| unary(c, Unary::Tanh)),
    Row::onnx("Reciprocal", 1, reciprocal),
    Row::onnx("Add", 1, |c| binary(c, Prim::Binary(Binary::Add))),
    Row::onnx("And", 1, |c| binary(c, Prim::Binary(Binary::And))),
    Row::onnx("BitwiseAnd", 18, |c| binary(c, Prim::Binary(Binary::And))),
    Row::onnx("BitwiseOr", 18, |c| binary(c, Prim::Binary(Binary::Or))),
    Row::onnx("BitwiseXor", 18, |c| binary(c, Prim::Binary(Binary::Xor))),
    Row::onnx("Div", 1, |c| binary(c, Prim::Binary(Binary::Div))),
    Row::onnx("Mul", 1, |c| binary(c, Prim::Binary(Binary::Mul))),
    Row::onnx("Or", 1, |c| binary(c, Prim::Binary(Binary::Or))),
    Row::onnx("Pow", 1, |c| binary(c, Prim::Binary(Binary::Pow))),
    Row::onnx("Sub", 1, |c| binary(c, Prim::Binary(Binary::Sub))),
    Row::onnx("Xor", 1, |c| binary(c, Prim::Binary(Binary::Xor))),
    Row::onnx("Equal", 1, |c| binary(c, Prim::Compare(Compare::Eq))),
    Row::onnx("Greater", 1, |c| binary(c, Prim::Compare(Compare::Gt))),
    Row::onnx("GreaterOrEqual", 12, |c| binary(c, Prim::Compare(Compare::Ge))),
    Row::onnx("Less", 1, |c| binary(c, Prim::Compare(Compare::Lt))),
    Row::onnx("LessOrEqual", 12, |c| binary(c, Prim::Compare(Compare::Le))),
    Row::onnx("BitShift", 11, bit_shift),
    Row::onnx("Mod", 10, modulo),
    Row::onnx("Max", 1, |c| variadic(c, Binary::Max)),
    Row::onnx("Min", 1, |c| variadic(c, Binary::Min)),
    Row::onnx("Sum", 1, |c| variadic(c, Binary::Add)),
    Row::onnx("Mean", 1, mean),
    Row::onnx("Where", 9, select),
    Row::onnx("Cast", 1, cast),
    Row::onnx("CastLike", 15, cast_like),
    Row::onnx("BitCast", 26, bit_cast),
    Row::onnx("IsInf", 10, is_inf),
    Row::onnx("Relu", 1, relu),
    Row::onnx("LeakyRelu", 1, leaky_relu),
    Row::onnx("PRelu", 1, p_relu),
    Row::onnx("ThresholdedRelu", 10, thresholded_relu),
    Row::onnx("Elu", 1, elu),
    Row::onnx("Selu", 1, selu),
    Row::onnx("Celu", 12, celu),
    Row::onnx("Clip", 1, clip),
    Row::onnx("HardSigmoid", 1, hard_sigmoid),
    Row::onnx("HardSwish", 14, hard_swish),
    Row::onnx("Mish", 18, mish),
    Row::onnx("Softplus", 1, |c| Ok(vec![softplus(c)?])),
    Row::onnx("Softsign", 1, softsign),
    Row::onnx("Shrink", 9, shrink),
    Row::onnx("Gelu", 20, gelu),
    Row::onnx("Swish", 24, swish),
];

fn unary(call: &mut Call<'_>, unary: Unary) -> Results {
    let x = call.input(0)?;
    Ok(vec![call.b.prim(Prim::Unary(unary), &[x])?])
}

fn reciprocal(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    Ok(vec![call.b.reciprocal(x)?])
}

/// The second operand as broadcasting wants it: before opset 7 its dims lie at `axis` of the first.
fn right_operand(call: &mut Call<'_>) -> Result<ValueId, ImportError> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let (Some(axis), true) = (call.int_opt("axis"), call.opset < 7) else { return Ok(b) };
    let rank = call.b.rank(a);
    let axis = call.axis(axis, rank)?;
    let mut dims = call.b.dims(b);
    if axis + dims.len() > rank {
        return Err(call.bad_attribute("axis", "leaves no room for the second operand"));
    }
    dims.resize(rank - axis, Dim::Fixed(1));
    Ok(call.b.reshape(b, &dims)?)
}

fn binary(call: &mut Call<'_>, prim: Prim) -> Results {
    let a = call.input(0)?;
    let b = right_operand(call)?;
    Ok(vec![call.b.prim(prim, &[a, b])?])
}

fn bit_shift(call: &mut Call<'_>) -> Results {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let shift = match call.string("direction", "").as_str() {
        "LEFT" => Binary::ShiftLeft,
        "RIGHT" => Binary::ShiftRight,
        _ => return Err(call.bad_attribute("direction", "is LEFT or RIGHT")),
    };
    let dtype = call.b.dtype(a);
    let builder = &mut *call.b;
    let mut amount = b;
    if dtype.is_signed_integer() {
        // By a negative amount, or the width or more: all bits go out, and the sign comes in on the right.
        let width = dtype.storage_bits() as f64;
        let zero = builder.scalar_like(a, 0.0)?;
        let most = builder
            .scalar_like(a, if shift == Binary::ShiftRight { width - 1.0 } else { width })?;
        let negative = builder.lt(b, zero)?;
        let bounded = builder.min(b, most)?;
        amount = builder.select(negative, most, bounded)?;
    }
    Ok(vec![builder.prim(Prim::Binary(shift), &[a, amount])?])
}

/// With `fmod` the sign of the dividend, otherwise that of the divisor.
fn modulo(call: &mut Call<'_>) -> Results {
    let (x, y) = (call.input(0)?, call.input(1)?);
    let fmod = call.flag("fmod", false);
    let b = &mut *call.b;
    let remainder = b.rem(x, y)?;
    if fmod || b.dtype(x).is_unsigned_integer() {
        return Ok(vec![remainder]);
    }
    let zero = b.scalar_like(x, 0.0)?;
    let inexact = b.ne(remainder, zero)?;
    let (negative, divisor_negative) = (b.lt(remainder, zero)?, b.lt(y, zero)?);
    let differ = b.prim(Prim::Binary(Binary::Xor), &[negative, divisor_negative])?;
    let wrong = b.and(inexact, differ)?;
    let moved = b.add(remainder, y)?;
    Ok(vec![b.select(wrong, moved, remainder)?])
}

fn fold(call: &mut Call<'_>, binary: Binary) -> Result<ValueId, ImportError> {
    let inputs = call.all_inputs(1)?;
    let mut result = inputs[0];
    for &input in &inputs[1..] {
        result = call.b.prim(Prim::Binary(binary), &[result, input])?;
    }
    Ok(result)
}

fn variadic(call: &mut Call<'_>, binary: Binary) -> Results {
    Ok(vec![fold(call, binary)?])
}

fn mean(call: &mut Call<'_>) -> Results {
    let sum = fold(call, Binary::Add)?;
    let count = call.b.scalar_like(sum, call.inputs.len() as f64)?;
    Ok(vec![call.b.div(sum, count)?])
}

fn select(call: &mut Call<'_>) -> Results {
    let (condition, a, b) = (call.input(0)?, call.input(1)?, call.input(2)?);
    Ok(vec![call.b.select(condition, a, b)?])
}

fn cast(call: &mut Call<'_>) -> Results {
    // Opset 1 names the type in words.
    let to = match call.string_opt("to").filter(|name| !name.is_empty()) {
        Some(name) => named_dtype(&name)
            .ok_or_else(|| call.bad_attribute("to", &format!("`{name}` is no element type")))?,
        None => call.dtype("to")?.ok_or_else(|| ImportError::MissingAttribute("to".into()))?,
    };
    cast_to(call, to)
}

/// The names of opset 1, as in the standard's enumeration.
fn named_dtype(name: &str) -> Option<DType> {
    let code = match name {
        "FLOAT" => 1,
        "UINT8" => 2,
        "INT8" => 3,
        "UINT16" => 4,
        "INT16" => 5,
        "INT32" => 6,
        "INT64" => 7,
        "BOOL" => 9,
        "FLOAT16" => 10,
        "DOUBLE" => 11,
        "UINT32" => 12,
        "UINT64" => 13,
        _ => return None,
    };
    dtype_from_onnx(code)
}

fn cast_to(call: &mut Call<'_>, to: DType) -> Results {
    let x = call.input(0)?;
    let rounding = match (to, call.string("round_mode", "up").as_str()) {
        (DType::F8E8M0, "up") => Rounding::Up,
        (DType::F8E8M0, "down") => Rounding::Down,
        (DType::F8E8M0, "nearest") => Rounding::NearestUp,
        (DType::F8E8M0, _) => {
            return Err(call.bad_attribute("round_mode", "is up, down or nearest"));
        }
        _ => Rounding::NearestEven,
    };
    if call.b.dtype(x) == to {
        return Ok(vec![x]);
    }
    let saturate = call.flag("saturate", true);
    Ok(vec![call.b.prim(Prim::Cast { to, saturate, rounding }, &[x])?])
}

fn cast_like(call: &mut Call<'_>) -> Results {
    let to = call.b.dtype(call.input(1)?);
    cast_to(call, to)
}

fn bit_cast(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let to = call.dtype("to")?.ok_or_else(|| ImportError::MissingAttribute("to".into()))?;
    Ok(vec![call.b.prim(Prim::BitCast { to }, &[x])?])
}

fn is_inf(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let (negative, positive) =
        (call.flag("detect_negative", true), call.flag("detect_positive", true));
    let infinite = call.b.is_inf(x)?;
    let b = &mut *call.b;
    if negative && positive {
        return Ok(vec![infinite]);
    }
    // Small floats have no arithmetic, and comparing their sign needs none in a wider type.
    let wide = if b.dtype(x).is_small_float() { b.cast(x, DType::F32)? } else { x };
    let zero = b.scalar_like(wide, 0.0)?;
    let side = match (negative, positive) {
        (true, _) => b.lt(wide, zero)?,
        (false, true) => b.gt(wide, zero)?,
        (false, false) => b.ne(wide, wide)?,
    };
    Ok(vec![b.and(infinite, side)?])
}

fn relu(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let zero = call.b.scalar_like(x, 0.0)?;
    Ok(vec![call.b.max(x, zero)?])
}

fn leaky_relu(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let alpha = f64::from(call.float("alpha", 0.01));
    let b = &mut *call.b;
    let zero = b.scalar_like(x, 0.0)?;
    let below = b.lt(x, zero)?;
    let scaled = b.scale(x, alpha)?;
    Ok(vec![b.select(below, scaled, x)?])
}

fn p_relu(call: &mut Call<'_>) -> Results {
    let (x, mut slope) = (call.input(0)?, call.input(1)?);
    let b = &mut *call.b;
    if call.opset < 7 && b.rank(slope) == 1 && b.rank(x) > 2 {
        // One slope a channel.
        let mut dims = b.dims(slope);
        dims.resize(b.rank(x) - 1, Dim::Fixed(1));
        slope = b.reshape(slope, &dims)?;
    }
    let zero = b.scalar_like(x, 0.0)?;
    let below = b.lt(x, zero)?;
    let scaled = b.mul(x, slope)?;
    Ok(vec![b.select(below, scaled, x)?])
}

fn thresholded_relu(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let alpha = f64::from(call.float("alpha", 1.0));
    let b = &mut *call.b;
    let (bound, zero) = (b.scalar_like(x, alpha)?, b.scalar_like(x, 0.0)?);
    let above = b.gt(x, bound)?;
    Ok(vec![b.select(above, x, zero)?])
}

/// `x > 0 ? x : alpha · (e^x − 1)`
fn exponential_unit(call: &mut Call<'_>, x: ValueId, alpha: f64) -> Result<ValueId, ImportError> {
    let b = &mut *call.b;
    let zero = b.scalar_like(x, 0.0)?;
    let above = b.gt(x, zero)?;
    let power = b.exp(x)?;
    let less = b.offset(power, -1.0)?;
    let scaled = b.scale(less, alpha)?;
    Ok(b.select(above, x, scaled)?)
}

fn elu(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let alpha = f64::from(call.float("alpha", 1.0));
    Ok(vec![exponential_unit(call, x, alpha)?])
}

fn selu(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let (alpha, gamma) = if call.opset < 6 {
        (call.float("alpha", 1.6732), call.float("gamma", 1.0507))
    } else {
        (call.float("alpha", 1.673_263_2), call.float("gamma", 1.050_701))
    };
    let unit = exponential_unit(call, x, f64::from(alpha))?;
    Ok(vec![call.b.scale(unit, f64::from(gamma))?])
}

/// `max(0, x) + min(0, alpha · (e^(x / alpha) − 1))`
fn celu(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let alpha = f64::from(call.float("alpha", 1.0));
    let b = &mut *call.b;
    let zero = b.scalar_like(x, 0.0)?;
    let above = b.max(x, zero)?;
    let divisor = b.scalar_like(x, alpha)?;
    let ratio = b.div(x, divisor)?;
    let power = b.exp(ratio)?;
    let less = b.offset(power, -1.0)?;
    let scaled = b.scale(less, alpha)?;
    let below = b.min(scaled, zero)?;
    Ok(vec![b.add(above, below)?])
}

/// Bounds are attributes before opset 11 and operands since; the upper one wins.
fn clip(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let dtype = call.b.dtype(x);
    let mut result = x;
    if let Some(low) = call.scalar_input_or_attribute(1, "min", dtype)? {
        result = call.b.max(result, low)?;
    }
    if let Some(high) = call.scalar_input_or_attribute(2, "max", dtype)? {
        result = call.b.min(result, high)?;
    }
    Ok(vec![result])
}

/// `max(0, min(1, alpha · x + beta))`
fn hard_gate(
    call: &mut Call<'_>,
    x: ValueId,
    alpha: f64,
    beta: f64,
) -> Result<ValueId, ImportError> {
    let b = &mut *call.b;
    let scaled = b.scale(x, alpha)?;
    let moved = b.offset(scaled, beta)?;
    let (zero, one) = (b.scalar_like(x, 0.0)?, b.scalar_like(x, 1.0)?);
    let below = b.min(moved, one)?;
    Ok(b.max(below, zero)?)
}

fn hard_sigmoid(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let (alpha, beta) = (call.float("alpha", 0.2), call.float("beta", 0.5));
    Ok(vec![hard_gate(call, x, f64::from(alpha), f64::from(beta))?])
}

fn hard_swish(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let gate = hard_gate(call, x, 1.0 / 6.0, 0.5)?;
    Ok(vec![call.b.mul(x, gate)?])
}

/// `ln(1 + e^x)`, without overflow: `max(x, 0) + ln(1 + e^−|x|)`
fn softplus(call: &mut Call<'_>) -> Result<ValueId, ImportError> {
    let x = call.input(0)?;
    let b = &mut *call.b;
    let zero = b.scalar_like(x, 0.0)?;
    let above = b.max(x, zero)?;
    let size = b.abs(x)?;
    let negative = b.neg(size)?;
    let power = b.exp(negative)?;
    let sum = b.offset(power, 1.0)?;
    let log = b.log(sum)?;
    Ok(b.add(above, log)?)
}

fn mish(call: &mut Call<'_>) -> Results {
    let soft = softplus(call)?;
    let x = call.input(0)?;
    let gate = call.b.tanh(soft)?;
    Ok(vec![call.b.mul(x, gate)?])
}

fn softsign(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let size = call.b.abs(x)?;
    let divisor = call.b.offset(size, 1.0)?;
    Ok(vec![call.b.div(x, divisor)?])
}

fn shrink(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let (bias, bound) = (f64::from(call.float("bias", 0.0)), f64::from(call.float("lambd", 0.5)));
    let dtype = call.b.dtype(x);
    let b = &mut *call.b;
    // The bounds are fractions also where the elements are integers.
    let wide = if dtype.is_float() { x } else { b.cast(x, DType::F64)? };
    let (low, high) = (b.scalar_like(wide, -bound)?, b.scalar_like(wide, bound)?);
    let (below, above) = (b.lt(wide, low)?, b.gt(wide, high)?);
    let (raised, lowered) = (b.offset(wide, bias)?, b.offset(wide, -bias)?);
    let zero = b.scalar_like(wide, 0.0)?;
    let rest = b.select(above, lowered, zero)?;
    let result = b.select(below, raised, rest)?;
    Ok(vec![b.cast(result, dtype)?])
}

fn gelu(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let tanh = match call.string("approximate", "none").as_str() {
        "none" => false,
        "tanh" => true,
        _ => return Err(call.bad_attribute("approximate", "is none or tanh")),
    };
    Ok(vec![call.b.composite(Gelu { tanh }, &[x])?])
}

fn swish(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let alpha = call.float("alpha", 1.0);
    if alpha == 1.0 {
        return Ok(vec![call.b.composite(Silu {}, &[x])?]);
    }
    let scaled = call.b.scale(x, f64::from(alpha))?;
    let gate = call.b.sigmoid(scaled)?;
    Ok(vec![call.b.mul(x, gate)?])
}
