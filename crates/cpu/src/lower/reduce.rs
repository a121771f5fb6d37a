//! Reductions over dims, where the extreme element is, and running reductions.

use anychip_ir::{IrError, Node, Prim, ReduceKind};
use anychip_tensor::{DType, Element};
use half::{bf16, f16};

use super::{Cx, Lowered};
use crate::kernel::reduce::{Reduce, Reduction};
use crate::step::{Io, Kernel};

pub(crate) fn lower(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let Some(Prim::Reduce { kind, axes }) = node.op.prim() else { return None };
    let x = node.inputs[0];
    let plan = Reduce::new(cx.shared.simd, cx.shape(x), axes);
    let (kind, dtype) = (*kind, cx.dtype(x));
    let kernel: Box<dyn Kernel> = match dtype {
        DType::F32 => Box::new(ReduceFloat { plan, reduction: reduction(kind) }),
        DType::F64 => typed::<f64, f64>(plan, float_start(kind), float_step(kind), |x| x, |a| a),
        DType::F16 => {
            typed::<f16, f64>(plan, float_start(kind), float_step(kind), f16::to_f64, |a| {
                f16::from_f32(a as f32)
            })
        }
        DType::BF16 => {
            typed::<bf16, f64>(plan, float_start(kind), float_step(kind), bf16::to_f64, |a| {
                bf16::from_f32(a as f32)
            })
        }
        DType::I64 => typed::<i64, i64>(
            plan,
            i64_start(kind, i64::MIN, i64::MAX),
            i64_step(kind),
            |x| x,
            |a| a,
        ),
        DType::I32 => typed::<i32, i64>(
            plan,
            i64_start(kind, i32::MIN.into(), i32::MAX.into()),
            i64_step(kind),
            i64::from,
            |a| a as i32,
        ),
        DType::I8 => typed::<i8, i64>(
            plan,
            i64_start(kind, i8::MIN.into(), i8::MAX.into()),
            i64_step(kind),
            i64::from,
            |a| a as i8,
        ),
        DType::U8 => typed::<u8, i64>(
            plan,
            i64_start(kind, 0, u8::MAX.into()),
            i64_step(kind),
            i64::from,
            |a| a as u8,
        ),
        DType::Bool => {
            typed::<u8, i64>(plan, i64_start(kind, 0, 1), i64_step(kind), i64::from, |a| a as u8)
        }
        _ => return None,
    };
    Some(Lowered {
        kernel,
        detail: format!("{} {dtype}", kind.name()),
        ..Lowered::new("reduce", Nothing, &[x])
    })
}

/// Stands in while a [`Lowered`] is put together; replaced before it is used.
struct Nothing;

impl Kernel for Nothing {
    fn run(&self, _: &Io<'_>) -> Result<(), IrError> {
        unreachable!("replaced when the step was made")
    }
}

fn reduction(kind: ReduceKind) -> Reduction {
    match kind {
        ReduceKind::Sum => Reduction::Sum,
        ReduceKind::Prod => Reduction::Product,
        ReduceKind::Max => Reduction::Max,
        ReduceKind::Min => Reduction::Min,
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

fn float_step(kind: ReduceKind) -> fn(f64, f64) -> f64 {
    match kind {
        ReduceKind::Sum => |a, x| a + x,
        ReduceKind::Prod => |a, x| a * x,
        ReduceKind::Max => |a, x| if a.is_nan() || a > x { a } else { x },
        ReduceKind::Min => |a, x| if a.is_nan() || a < x { a } else { x },
    }
}

fn i64_start(kind: ReduceKind, least: i64, most: i64) -> i64 {
    match kind {
        ReduceKind::Sum => 0,
        ReduceKind::Prod => 1,
        ReduceKind::Max => least,
        ReduceKind::Min => most,
    }
}

fn i64_step(kind: ReduceKind) -> fn(i64, i64) -> i64 {
    match kind {
        ReduceKind::Sum => i64::wrapping_add,
        ReduceKind::Prod => i64::wrapping_mul,
        ReduceKind::Max => i64::max,
        ReduceKind::Min => i64::min,
    }
}

struct ReduceFloat {
    plan: Reduce,
    reduction: Reduction,
}

impl Kernel for ReduceFloat {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        self.plan.run(self.reduction, io.operand(0), io.result(0), io.pool);
        Ok(())
    }
}

struct ReduceTyped<T, A> {
    plan: Reduce,
    start: A,
    step: fn(A, A) -> A,
    widen: fn(T) -> A,
    narrow: fn(A) -> T,
}

fn typed<T: Element, A: Copy + Send + Sync + 'static>(
    plan: Reduce,
    start: A,
    step: fn(A, A) -> A,
    widen: fn(T) -> A,
    narrow: fn(A) -> T,
) -> Box<dyn Kernel> {
    Box::new(ReduceTyped { plan, start, step, widen, narrow })
}

impl<T: Element, A: Copy + Send + Sync> Kernel for ReduceTyped<T, A> {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let (step, widen, narrow) = (self.step, self.widen, self.narrow);
        self.plan.run_with(
            io.operand::<T>(0),
            io.result::<T>(0),
            self.start,
            |a, x| step(a, widen(x)),
            narrow,
            io.pool,
        );
        Ok(())
    }
}

/// Where the largest or smallest element is, and running sums: lines along one axis.
pub(crate) fn lower_lines(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let prim = node.op.prim()?;
    let x = node.inputs[0];
    let (axis, name) = match prim {
        Prim::ArgReduce { axis, .. } => (*axis, "arg-reduce"),
        Prim::Cumulative { axis, .. } => (*axis, "cumulative"),
        _ => return None,
    };
    let shape = cx.shape(x);
    let lines = Lines {
        outer: shape[..axis].iter().product(),
        n: shape[axis],
        inner: shape[axis + 1..].iter().product(),
        prim: prim.clone(),
    };
    if lines.n == 0 && matches!(prim, Prim::ArgReduce { .. }) {
        return None;
    }
    let kernel: Box<dyn Kernel> = match cx.dtype(x) {
        DType::F32 => Box::new(OfFloats::<f32>(lines, f64::from, |x| x as f32)),
        DType::F64 => Box::new(OfFloats::<f64>(lines, |x| x, |x| x)),
        DType::I64 => Box::new(OfIntegers::<i64>(lines, |x| x, |x| x, (i64::MIN, i64::MAX))),
        DType::I32 => Box::new(OfIntegers::<i32>(
            lines,
            i64::from,
            |x| x as i32,
            (i32::MIN.into(), i32::MAX.into()),
        )),
        _ => return None,
    };
    Some(Lowered { kernel, detail: cx.dtype(x).to_string(), ..Lowered::new(name, Nothing, &[x]) })
}

/// `outer × n × inner`, each line along `n`.
struct Lines {
    outer: usize,
    n: usize,
    inner: usize,
    prim: Prim,
}

struct OfFloats<T>(Lines, fn(T) -> f64, fn(f64) -> T);
/// With the least and the greatest value of the type.
struct OfIntegers<T>(Lines, fn(T) -> i64, fn(i64) -> T, (i64, i64));

impl<T: Element> Kernel for OfFloats<T> {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let Self(lines, widen, narrow) = self;
        lines.run::<T, f64>(io, *widen, *narrow, float_start, float_step, |x: f64| x.is_nan());
        Ok(())
    }
}

impl<T: Element> Kernel for OfIntegers<T> {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let Self(lines, widen, narrow, (least, greatest)) = self;
        let start = |kind| i64_start(kind, *least, *greatest);
        lines.run::<T, i64>(io, *widen, *narrow, start, i64_step, |_| false);
        Ok(())
    }
}

impl Lines {
    fn run<T: Element, A: Copy + PartialOrd>(
        &self,
        io: &Io<'_>,
        widen: fn(T) -> A,
        narrow: fn(A) -> T,
        start: impl Fn(ReduceKind) -> A,
        step: impl Fn(ReduceKind) -> fn(A, A) -> A,
        is_nan: fn(A) -> bool,
    ) {
        let x = io.operand::<T>(0);
        for line in 0..self.outer * self.inner {
            let base = line / self.inner * self.n * self.inner + line % self.inner;
            let at = |i: usize| base + i * self.inner;
            match &self.prim {
                Prim::ArgReduce { kind, last, .. } => {
                    let largest = *kind == ReduceKind::Max;
                    let (mut best, mut own) = (0, widen(x[at(0)]));
                    for i in 1..self.n {
                        let value = widen(x[at(i)]);
                        let replaces = if is_nan(own) {
                            *last && is_nan(value)
                        } else {
                            is_nan(value)
                                || (if largest { value > own } else { value < own })
                                || (*last && value == own)
                        };
                        if replaces {
                            (best, own) = (i, value);
                        }
                    }
                    io.result::<i64>(0)[line] = best as i64;
                }
                Prim::Cumulative { kind, exclusive, reverse, .. } => {
                    let step = step(*kind);
                    let result = io.result::<T>(0);
                    let mut sum = start(*kind);
                    for i in 0..self.n {
                        let place = at(if *reverse { self.n - 1 - i } else { i });
                        let next = step(sum, widen(x[place]));
                        result[place] = narrow(if *exclusive { sum } else { next });
                        sum = next;
                    }
                }
                _ => {}
            }
        }
    }
}
