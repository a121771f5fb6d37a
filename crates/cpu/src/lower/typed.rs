//! Elementwise operators on every other type: integers, `bool`, `f64` and half precision; comparisons, choices, casts.
//!
//! Half precision is computed in `f64` and rounded to `f32`, then to half. Functions of types that no model computes
//! much in are called through a pointer, one loop a type; what models do much of has a loop of its own.

use anychip_ir::{Binary, Compare, IrError, Node, Op, Prim, Unary};
use anychip_tensor::{DType, Element};
use half::{bf16, f16};

use super::{Cx, Lowered};
use crate::kernel::broadcast::{Broadcast, broadcast_strides};
use crate::kernel::map::{map1, map2, map3};
use crate::step::{Io, Kernel};

/// A kernel that is a function of what it may touch.
struct Mapped<F>(F);

impl<F: Fn(&Io<'_>) + Send + Sync> Kernel for Mapped<F> {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        (self.0)(io);
        Ok(())
    }
}

type Run = Box<dyn Fn(&Io<'_>) + Send + Sync>;

/// A unary or binary operator on types other than `f32`, a comparison, a choice or a cast.
pub(crate) fn lower(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let Op::Prim(prim) = &node.op else { return None };
    let result = node.outputs[0];
    let shape = cx.shape(result);
    if shape.len() > 16 {
        return None;
    }
    let strides = node
        .inputs
        .iter()
        .map(|&v| broadcast_strides(cx.shape(v), shape))
        .collect::<Option<Vec<_>>>()?;
    let strides: Vec<&[usize]> = strides.iter().map(Vec::as_slice).collect();
    let walk = Broadcast::new(shape, &strides);
    let dtype = cx.dtype(node.inputs[0]);
    let run: Run = if let Prim::Unary(op) = prim {
        unary(*op, dtype, walk)?
    } else if let Prim::Binary(op) = prim
        && *op != Binary::Pow
    {
        binary(*op, dtype, walk)?
    } else if let Prim::Compare(op) = prim {
        compare(*op, dtype, walk)?
    } else if let Prim::Select = prim {
        select(cx.dtype(result), walk)?
    } else if let Prim::Cast { to, .. } = prim {
        cast(dtype, *to, walk)?
    } else {
        return None;
    };
    Some(Lowered {
        detail: format!("{} {dtype}", node.op.name()),
        ..Lowered::new("typed-elementwise", Mapped(run), &node.inputs)
    })
}

/// A loop of its own, compiled for each instruction set: for what models do much of.
fn fast_one<A: Element, R: Element>(
    walk: Broadcast,
    f: impl Fn(A) -> R + Send + Sync + 'static,
) -> Run {
    Box::new(move |io| map1(io.simd, &walk, io.operand::<A>(0), io.result::<R>(0), &f, io.pool))
}

/// As [`fast_one`], of two operands.
fn fast_two<A: Element, R: Element>(
    walk: Broadcast,
    f: impl Fn(A, A) -> R + Send + Sync + 'static,
) -> Run {
    Box::new(move |io| {
        map2(
            io.simd,
            &walk,
            io.operand::<A>(0),
            io.operand::<A>(1),
            io.result::<R>(0),
            &f,
            io.pool,
        );
    })
}

/// One loop a pair of types, the function called through a pointer: for what models do little of. (A loop for each
/// function, type and instruction set took four minutes to compile.)
fn one<A: Element, R: Element>(walk: Broadcast, f: fn(A) -> R) -> Run {
    Box::new(move |io| {
        let (a, result) = (io.operand::<A>(0), io.result::<R>(0));
        let stride = walk.inner_stride(0);
        for task in 0..walk.tasks() {
            for run in walk.runs(task) {
                for (i, r) in result[run.at..run.at + run.len].iter_mut().enumerate() {
                    *r = f(a[run.from[0] + i * stride]);
                }
            }
        }
    })
}

/// As [`one`], of two operands.
fn two<A: Element, R: Element>(walk: Broadcast, f: fn(A, A) -> R) -> Run {
    Box::new(move |io| {
        let (a, b, result) = (io.operand::<A>(0), io.operand::<A>(1), io.result::<R>(0));
        let strides = (walk.inner_stride(0), walk.inner_stride(1));
        for task in 0..walk.tasks() {
            for run in walk.runs(task) {
                for (i, r) in result[run.at..run.at + run.len].iter_mut().enumerate() {
                    *r = f(a[run.from[0] + i * strides.0], b[run.from[1] + i * strides.1]);
                }
            }
        }
    })
}

/// Runs `$body` with `$t` as the type of a whole-byte integer.
macro_rules! integer {
    ($dtype:expr, $t:ident => $body:expr, _ => $otherwise:expr) => {
        match $dtype {
            DType::I64 => {
                type $t = i64;
                $body
            }
            DType::I32 => {
                type $t = i32;
                $body
            }
            DType::I16 => {
                type $t = i16;
                $body
            }
            DType::I8 => {
                type $t = i8;
                $body
            }
            DType::U64 => {
                type $t = u64;
                $body
            }
            DType::U32 => {
                type $t = u32;
                $body
            }
            DType::U16 => {
                type $t = u16;
                $body
            }
            DType::U8 => {
                type $t = u8;
                $body
            }
            _ => $otherwise,
        }
    };
}

fn unary(op: Unary, dtype: DType, walk: Broadcast) -> Option<Run> {
    match (op, dtype) {
        (Unary::IsNan, DType::F32) => return Some(one(walk, |x: f32| u8::from(x.is_nan()))),
        (Unary::IsInf, DType::F32) => return Some(one(walk, |x: f32| u8::from(x.is_infinite()))),
        (Unary::IsNan, DType::F64) => return Some(one(walk, |x: f64| u8::from(x.is_nan()))),
        (Unary::IsInf, DType::F64) => return Some(one(walk, |x: f64| u8::from(x.is_infinite()))),
        (Unary::Not, DType::Bool) => return Some(one(walk, |x: u8| u8::from(x == 0))),
        _ => {}
    }
    match dtype {
        DType::F64 => Some(one::<f64, f64>(walk, float_unary(op)?)),
        DType::F16 => {
            let f = float_unary(op)?;
            Some(fast_one(walk, move |x: f16| f16::from_f32(f(x.to_f64()) as f32)))
        }
        DType::BF16 => {
            let f = float_unary(op)?;
            Some(fast_one(walk, move |x: bf16| bf16::from_f32(f(x.to_f64()) as f32)))
        }
        other => {
            integer!(other, T => Some(one::<T, T>(walk, <T as Integer>::unary(op)?)), _ => None)
        }
    }
}

/// The functions whose `f64` form the standard library has; the others are left to the reference.
fn float_unary(op: Unary) -> Option<fn(f64) -> f64> {
    Some(match op {
        Unary::Neg => |x| -x,
        Unary::Abs => f64::abs,
        Unary::Sign => |x| if x == 0.0 || x.is_nan() { x } else { x.signum() },
        Unary::Floor => f64::floor,
        Unary::Ceil => f64::ceil,
        Unary::Round => f64::round_ties_even,
        Unary::Sqrt => f64::sqrt,
        Unary::Exp => f64::exp,
        Unary::Log => f64::ln,
        Unary::Sin => f64::sin,
        Unary::Cos => f64::cos,
        Unary::Tan => f64::tan,
        Unary::Asin => f64::asin,
        Unary::Acos => f64::acos,
        Unary::Atan => f64::atan,
        Unary::Sinh => f64::sinh,
        Unary::Cosh => f64::cosh,
        Unary::Asinh => f64::asinh,
        Unary::Acosh => f64::acosh,
        Unary::Atanh => f64::atanh,
        Unary::Tanh => f64::tanh,
        Unary::Sigmoid => |x| 1.0 / (1.0 + (-x).exp()),
        Unary::Erf | Unary::Not | Unary::IsNan | Unary::IsInf => return None,
    })
}

trait Integer: Element {
    fn unary(op: Unary) -> Option<fn(Self) -> Self>;
    fn binary(op: Binary) -> Option<fn(Self, Self) -> Self>;
}

macro_rules! integers {
    ($($t:ty: $negate:expr, $absolute:expr, $sign:expr;)*) => {$(
        impl Integer for $t {
            fn unary(op: Unary) -> Option<fn($t) -> $t> {
                Some(match op {
                    Unary::Not => |x| !x,
                    Unary::Neg => $negate,
                    Unary::Abs => $absolute,
                    Unary::Sign => $sign,
                    _ => return None,
                })
            }
            fn binary(op: Binary) -> Option<fn($t, $t) -> $t> {
                Some(match op {
                    Binary::Add => <$t>::wrapping_add,
                    Binary::Sub => <$t>::wrapping_sub,
                    Binary::Mul => <$t>::wrapping_mul,
                    Binary::Div => |x, y| if y == 0 { 0 } else { x.wrapping_div(y) },
                    Binary::Rem => |x, y| if y == 0 { 0 } else { x.wrapping_rem(y) },
                    Binary::Max => <$t>::max,
                    Binary::Min => <$t>::min,
                    Binary::And => |x, y| x & y,
                    Binary::Or => |x, y| x | y,
                    Binary::Xor => |x, y| x ^ y,
                    Binary::ShiftLeft => |x, y| u32::try_from(y).ok().and_then(|y| x.checked_shl(y)).unwrap_or(0),
                    Binary::ShiftRight => |x, y| u32::try_from(y).ok().and_then(|y| x.checked_shr(y)).unwrap_or(0),
                    Binary::Pow => return None,
                })
            }
        }
    )*};
}

integers! {
    i64: i64::wrapping_neg, i64::wrapping_abs, i64::signum;
    i32: i32::wrapping_neg, i32::wrapping_abs, i32::signum;
    i16: i16::wrapping_neg, i16::wrapping_abs, i16::signum;
    i8: i8::wrapping_neg, i8::wrapping_abs, i8::signum;
    u64: u64::wrapping_neg, |x| x, |x| x.min(1);
    u32: u32::wrapping_neg, |x| x, |x| x.min(1);
    u16: u16::wrapping_neg, |x| x, |x| x.min(1);
    u8: u8::wrapping_neg, |x| x, |x| x.min(1);
}

fn binary(op: Binary, dtype: DType, walk: Broadcast) -> Option<Run> {
    match dtype {
        DType::Bool => Some(two::<u8, u8>(
            walk,
            match op {
                Binary::And | Binary::Min => |x, y| x & y,
                Binary::Or | Binary::Max => |x, y| x | y,
                Binary::Xor => |x, y| x ^ y,
                _ => return None,
            },
        )),
        DType::F32 => match op {
            Binary::Rem => Some(two(walk, |x: f32, y: f32| x % y)),
            _ => None,
        },
        DType::F64 => Some(two::<f64, f64>(walk, float_binary(op)?)),
        DType::F16 => {
            let f = float_binary(op)?;
            Some(fast_two(walk, move |x: f16, y: f16| {
                f16::from_f32(f(x.to_f64(), y.to_f64()) as f32)
            }))
        }
        DType::BF16 => {
            let f = float_binary(op)?;
            Some(fast_two(walk, move |x: bf16, y: bf16| {
                bf16::from_f32(f(x.to_f64(), y.to_f64()) as f32)
            }))
        }
        other => {
            integer!(other, T => Some(two::<T, T>(walk, <T as Integer>::binary(op)?)), _ => None)
        }
    }
}

fn float_binary(op: Binary) -> Option<fn(f64, f64) -> f64> {
    Some(match op {
        Binary::Add => |x, y| x + y,
        Binary::Sub => |x, y| x - y,
        Binary::Mul => |x, y| x * y,
        Binary::Div => |x, y| x / y,
        Binary::Rem => |x, y| x % y,
        Binary::Max => |x, y| if x.is_nan() || x > y { x } else { y },
        Binary::Min => |x, y| if x.is_nan() || x < y { x } else { y },
        Binary::Pow
        | Binary::And
        | Binary::Or
        | Binary::Xor
        | Binary::ShiftLeft
        | Binary::ShiftRight => return None,
    })
}

fn compare(op: Compare, dtype: DType, walk: Broadcast) -> Option<Run> {
    fn of<T: Element>(op: Compare, walk: Broadcast) -> Run {
        match op {
            Compare::Eq => two::<T, u8>(walk, |x, y| u8::from(x == y)),
            Compare::Ne => two::<T, u8>(walk, |x, y| u8::from(x != y)),
            Compare::Lt => two::<T, u8>(walk, |x, y| u8::from(x < y)),
            Compare::Le => two::<T, u8>(walk, |x, y| u8::from(x <= y)),
            Compare::Gt => two::<T, u8>(walk, |x, y| u8::from(x > y)),
            Compare::Ge => two::<T, u8>(walk, |x, y| u8::from(x >= y)),
        }
    }
    match dtype {
        DType::F32 => Some(match op {
            Compare::Eq => fast_two(walk, |x: f32, y: f32| u8::from(x == y)),
            Compare::Ne => fast_two(walk, |x: f32, y: f32| u8::from(x != y)),
            Compare::Lt => fast_two(walk, |x: f32, y: f32| u8::from(x < y)),
            Compare::Le => fast_two(walk, |x: f32, y: f32| u8::from(x <= y)),
            Compare::Gt => fast_two(walk, |x: f32, y: f32| u8::from(x > y)),
            Compare::Ge => fast_two(walk, |x: f32, y: f32| u8::from(x >= y)),
        }),
        DType::F64 => Some(of::<f64>(op, walk)),
        DType::F16 => Some(of::<f16>(op, walk)),
        DType::BF16 => Some(of::<bf16>(op, walk)),
        DType::Bool => Some(of::<u8>(op, walk)),
        other => integer!(other, T => Some(of::<T>(op, walk)), _ => None),
    }
}

/// By width: a choice does not look at what it chooses.
fn select(dtype: DType, walk: Broadcast) -> Option<Run> {
    fn of<T: Element>(walk: Broadcast) -> Run {
        Box::new(move |io| {
            let (a, b) = (
                bytemuck::cast_slice::<u8, T>(io.bytes(1)),
                bytemuck::cast_slice::<u8, T>(io.bytes(2)),
            );
            let result = bytemuck::cast_slice_mut::<u8, T>(io.result_bytes(0));
            map3(
                io.simd,
                &walk,
                (io.bytes(0), a, b),
                result,
                |c, a, b| if c == 0 { b } else { a },
                io.pool,
            );
        })
    }
    match dtype.storage_bits() {
        8 => Some(of::<u8>(walk)),
        16 => Some(of::<u16>(walk)),
        32 => Some(of::<u32>(walk)),
        64 => Some(of::<u64>(walk)),
        _ => None,
    }
}

/// Floats to integers truncate and saturate, integers keep their low bits: Rust's `as`.
fn cast(from: DType, to: DType, walk: Broadcast) -> Option<Run> {
    macro_rules! to_number {
        ($a:ident, $x:ident => $value:expr) => {
            match to {
                DType::F32 => Some(one(walk, |$x: $a| $value as f32)),
                DType::F64 => Some(one(walk, |$x: $a| $value as f64)),
                // Not `T`: types in macros are not hygienic, and `$a` may be a `T` of outside.
                other => integer!(other, To => Some(one(walk, |$x: $a| $value as To)), _ => None),
            }
        };
    }
    match (from, to) {
        (DType::F32, DType::Bool) => Some(one(walk, |x: f32| u8::from(x != 0.0))),
        (DType::F64, DType::Bool) => Some(one(walk, |x: f64| u8::from(x != 0.0))),
        (DType::F32, DType::F16) => Some(fast_one(walk, f16::from_f32)),
        (DType::F32, DType::BF16) => Some(fast_one(walk, bf16::from_f32)),
        (DType::F16, DType::F32) => Some(fast_one(walk, f16::to_f32)),
        (DType::BF16, DType::F32) => Some(fast_one(walk, bf16::to_f32)),
        (DType::Bool, _) => to_number!(u8, x => x),
        (DType::F32, _) => to_number!(f32, x => x),
        (DType::F64, _) => to_number!(f64, x => x),
        (other, DType::Bool) => {
            integer!(other, T => Some(one(walk, |x: T| u8::from(x != 0))), _ => None)
        }
        (other, _) => integer!(other, T => to_number!(T, x => x), _ => None),
    }
}
