//! Functions of one element at a time, operands broadcast as NumPy does.

use anychip_tensor::{DType, Element, Tensor};
use half::{bf16, f16};

use super::strided::{by_width, flags, operand};
use super::values::{Float, Values, float_max, float_min, wrapped};
use crate::{Binary, Compare, IrError, Unary};

/// Runs `$body` with `$T` as the Rust type of a float or whole-byte integer type, or `$otherwise`.
macro_rules! with_float {
    ($dtype:expr, $T:ident => $body:expr, _ => $otherwise:expr) => {
        match $dtype {
            DType::F16 => {
                type $T = f16;
                $body
            }
            DType::BF16 => {
                type $T = bf16;
                $body
            }
            DType::F32 => {
                type $T = f32;
                $body
            }
            DType::F64 => {
                type $T = f64;
                $body
            }
            _ => $otherwise,
        }
    };
}

macro_rules! with_integer {
    ($dtype:expr, $T:ident => $body:expr, _ => $otherwise:expr) => {
        match $dtype {
            DType::U8 => {
                type $T = u8;
                $body
            }
            DType::I8 => {
                type $T = i8;
                $body
            }
            DType::U16 => {
                type $T = u16;
                $body
            }
            DType::I16 => {
                type $T = i16;
                $body
            }
            DType::U32 => {
                type $T = u32;
                $body
            }
            DType::I32 => {
                type $T = i32;
                $body
            }
            DType::U64 => {
                type $T = u64;
                $body
            }
            DType::I64 => {
                type $T = i64;
                $body
            }
            _ => $otherwise,
        }
    };
}

/// The number of places of a shape.
fn places(shape: &[usize]) -> usize {
    if shape.contains(&0) { 0 } else { shape.iter().product() }
}

/// `f` of two operands of which each is whole or one element.
fn zip<A: Copy, B: Copy, R>(a: &[A], b: &[B], n: usize, f: impl Fn(A, B) -> R) -> Vec<R> {
    match (a, b) {
        (&[a], &[b]) => (0..n).map(|_| f(a, b)).collect(),
        (&[a], _) => b.iter().take(n).map(|&b| f(a, b)).collect(),
        (_, &[b]) => a.iter().take(n).map(|&a| f(a, b)).collect(),
        _ => a.iter().zip(b).take(n).map(|(&a, &b)| f(a, b)).collect(),
    }
}

fn native<T: Element>(x: &Tensor) -> std::borrow::Cow<'_, [T]> {
    x.elements::<T>().unwrap_or_default()
}

pub(super) fn unary(op: Unary, x: &Tensor) -> Result<Tensor, IrError> {
    let shape = x.shape().to_vec();
    match op {
        Unary::IsNan => {
            return flags(shape, x.to_f64().iter().map(|v| u8::from(v.is_nan())).collect());
        }
        Unary::IsInf => {
            return flags(shape, x.to_f64().iter().map(|v| u8::from(v.is_infinite())).collect());
        }
        _ => {}
    }
    with_float!(x.dtype(), T => {
        let f = float_unary(op);
        let data: Vec<T> = native::<T>(x).iter().map(|&v| T::narrow(f(v.widen()))).collect();
        Ok(Tensor::from_vec(shape, data)?)
    }, _ => {
        let bool_not = x.dtype() == DType::Bool && op == Unary::Not;
        let data: Vec<i128> = x
            .to_integers()
            .into_iter()
            .map(|v| match op {
                Unary::Not if bool_not => i128::from(v == 0),
                Unary::Not => !v,
                Unary::Neg => -v,
                Unary::Abs => v.abs(),
                Unary::Sign => v.signum(),
                // The type rule lets no other reach integers.
                _ => v,
            })
            .collect();
        wrapped(x.dtype(), shape, &data)
    })
}

/// The function on `f64`. Those that IEEE 754 does not define come from the `libm` crate, whose results are
/// the same on every machine (within 1 ulp of the exact value, before the rounding to a narrower type).
fn float_unary(op: Unary) -> fn(f64) -> f64 {
    match op {
        Unary::Neg => |x| -x,
        Unary::Abs => f64::abs,
        Unary::Sign => |x| if x == 0.0 || x.is_nan() { x } else { x.signum() },
        Unary::Floor => f64::floor,
        Unary::Ceil => f64::ceil,
        Unary::Round => f64::round_ties_even,
        Unary::Sqrt => f64::sqrt,
        Unary::Exp => libm::exp,
        Unary::Log => libm::log,
        Unary::Sin => libm::sin,
        Unary::Cos => libm::cos,
        Unary::Tan => libm::tan,
        Unary::Asin => libm::asin,
        Unary::Acos => libm::acos,
        Unary::Atan => libm::atan,
        Unary::Sinh => libm::sinh,
        Unary::Cosh => libm::cosh,
        Unary::Asinh => libm::asinh,
        Unary::Acosh => libm::acosh,
        Unary::Atanh => libm::atanh,
        Unary::Tanh => libm::tanh,
        Unary::Erf => libm::erf,
        Unary::Sigmoid => |x| 1.0 / (1.0 + libm::exp(-x)),
        // Handled apart, or kept from floats by the type rule.
        Unary::Not | Unary::IsNan | Unary::IsInf => |x| x,
    }
}

pub(super) fn binary(
    op: Binary,
    a: &Tensor,
    b: &Tensor,
    shape: Vec<usize>,
) -> Result<Tensor, IrError> {
    let (a, b) = (&operand(a, &shape)?, &operand(b, &shape)?);
    let n = places(&shape);
    if op == Binary::Pow {
        return power(a, b, shape);
    }
    with_float!(a.dtype(), T => {
        let f = float_binary(op);
        let data: Vec<T> =
            zip(&native::<T>(a), &native::<T>(b), n, |x, y| T::narrow(f(x.widen(), y.widen())));
        Ok(Tensor::from_vec(shape, data)?)
    }, _ => with_integer!(a.dtype(), T => {
        let f = <T as Integer>::binary(op);
        let data: Vec<T> = zip(&native::<T>(a), &native::<T>(b), n, f);
        Ok(Tensor::from_vec(shape, data)?)
    }, _ => {
        // `bool` and the packed integers, which know only the bitwise ones.
        let bits = if a.dtype() == DType::Bool { 1 } else { a.dtype().storage_bits() as i128 };
        let data = zip(&a.to_integers(), &b.to_integers(), n, |x, y| packed_binary(op, bits, x, y));
        wrapped(a.dtype(), shape, &data)
    }))
}

/// Each rounds once when the result is narrowed: with 53 bits, rounding twice is the same as rounding once for
/// these operations on operands of 24 bits or fewer (Figueroa, 1995).
fn float_binary(op: Binary) -> fn(f64, f64) -> f64 {
    match op {
        Binary::Add => |x, y| x + y,
        Binary::Sub => |x, y| x - y,
        Binary::Mul => |x, y| x * y,
        Binary::Div => |x, y| x / y,
        Binary::Rem => libm::fmod,
        Binary::Pow => libm::pow,
        Binary::Max => float_max,
        Binary::Min => float_min,
        // Kept from floats by the type rule.
        Binary::And | Binary::Or | Binary::Xor | Binary::ShiftLeft | Binary::ShiftRight => {
            |x, _| x
        }
    }
}

fn packed_binary(op: Binary, bits: i128, x: i128, y: i128) -> i128 {
    let in_width = (0..bits).contains(&y);
    match op {
        Binary::And => x & y,
        Binary::Or => x | y,
        Binary::Xor => x ^ y,
        Binary::Max => x.max(y),
        Binary::Min => x.min(y),
        Binary::ShiftLeft => {
            if in_width {
                x << y
            } else {
                0
            }
        }
        Binary::ShiftRight => {
            if in_width {
                x >> y
            } else {
                0
            }
        }
        // Kept from these types by the type rule.
        Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Rem | Binary::Pow => x,
    }
}

/// A whole-byte integer type.
trait Integer: Element {
    fn binary(op: Binary) -> fn(Self, Self) -> Self;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Integer for $t {
            fn binary(op: Binary) -> fn($t, $t) -> $t {
                match op {
                    Binary::Add => <$t>::wrapping_add,
                    Binary::Sub => <$t>::wrapping_sub,
                    Binary::Mul => <$t>::wrapping_mul,
                    Binary::Div => |x, y| if y == 0 { 0 } else { x.wrapping_div(y) },
                    Binary::Rem => |x, y| if y == 0 { 0 } else { x.wrapping_rem(y) },
                    // Types may differ, so it has a function of its own.
                    Binary::Pow => |x, _| x,
                    Binary::Max => <$t>::max,
                    Binary::Min => <$t>::min,
                    Binary::And => |x, y| x & y,
                    Binary::Or => |x, y| x | y,
                    Binary::Xor => |x, y| x ^ y,
                    Binary::ShiftLeft => |x, y| {
                        u32::try_from(y).ok().and_then(|y| x.checked_shl(y)).unwrap_or(0)
                    },
                    Binary::ShiftRight => |x, y| {
                        u32::try_from(y).ok().and_then(|y| x.checked_shr(y)).unwrap_or(0)
                    },
                }
            }
        }
    )*};
}
integers!(u8, i8, u16, i16, u32, i32, u64, i64);

/// `a ^ b` in the type of `a`: two integers exactly, wrapped; otherwise in `f64`, where an integer result
/// truncates and saturates.
fn power(a: &Tensor, b: &Tensor, shape: Vec<usize>) -> Result<Tensor, IrError> {
    let n = places(&shape);
    match (Values::of(a), Values::of(b)) {
        (Values::Integer(x), Values::Integer(y)) => {
            Values::Integer(zip(&x, &y, n, integer_power)).store(a.dtype(), shape)
        }
        (Values::Float(x), Values::Float(y)) => {
            Values::Float(zip(&x, &y, n, libm::pow)).store(a.dtype(), shape)
        }
        (Values::Float(x), Values::Integer(y)) => {
            Values::Float(zip(&x, &y, n, |x, y| libm::pow(x, y as f64))).store(a.dtype(), shape)
        }
        (Values::Integer(x), Values::Float(y)) => {
            Values::Float(zip(&x, &y, n, |x, y| libm::pow(x as f64, y))).store(a.dtype(), shape)
        }
    }
}

/// `base ^ exponent` modulo 2^128; a negative exponent gives the quotient truncated, so 0 but for ±1.
fn integer_power(base: i128, exponent: i128) -> i128 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 if exponent % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    let (mut result, mut square, mut rest) = (1i128, base, exponent);
    while rest > 0 {
        if rest & 1 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        rest >>= 1;
    }
    result
}

pub(super) fn compare(
    op: Compare,
    a: &Tensor,
    b: &Tensor,
    shape: Vec<usize>,
) -> Result<Tensor, IrError> {
    fn holds<T: PartialOrd>(op: Compare) -> fn(T, T) -> u8 {
        match op {
            Compare::Eq => |x, y| u8::from(x == y),
            Compare::Ne => |x, y| u8::from(x != y),
            Compare::Lt => |x, y| u8::from(x < y),
            Compare::Le => |x, y| u8::from(x <= y),
            Compare::Gt => |x, y| u8::from(x > y),
            Compare::Ge => |x, y| u8::from(x >= y),
        }
    }
    let (a, b) = (&operand(a, &shape)?, &operand(b, &shape)?);
    let n = places(&shape);
    let data = with_float!(a.dtype(), T => {
        zip(&native::<T>(a), &native::<T>(b), n, holds::<T>(op))
    }, _ => with_integer!(a.dtype(), T => {
        zip(&native::<T>(a), &native::<T>(b), n, holds::<T>(op))
    }, _ => if a.dtype().is_float() {
        zip(&a.to_f64(), &b.to_f64(), n, holds::<f64>(op))
    } else {
        zip(&a.to_integers(), &b.to_integers(), n, holds::<i128>(op))
    }));
    flags(shape, data)
}

pub(super) fn select(
    condition: &Tensor,
    on_true: &Tensor,
    on_false: &Tensor,
    shape: Vec<usize>,
) -> Result<Tensor, IrError> {
    let n = places(&shape);
    let condition = operand(condition, &shape)?.codes();
    let (a, b) = (&operand(on_true, &shape)?, &operand(on_false, &shape)?);
    // One after the other in one tensor, so that a choice is an index whatever the element type.
    let both = super::movement::concat(
        0,
        &[a.reshaped([a.len()])?, b.reshaped([b.len()])?],
        vec![a.len() + b.len()],
    )?;
    let (one_a, one_b, one_condition) = (a.len() == 1, b.len() == 1, condition.len() == 1);
    let offset = a.len();
    Ok(by_width!(&both, shape, |data| (0..n)
        .map(|i| {
            let chosen = condition[if one_condition { 0 } else { i }] != 0;
            if chosen {
                data[if one_a { 0 } else { i }]
            } else {
                data[offset + if one_b { 0 } else { i }]
            }
        })
        .collect())?)
}
