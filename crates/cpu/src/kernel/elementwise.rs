//! Chains of elementwise `f32` operators in one pass over memory.
//!
//! A chain is a short program of steps. It runs over pieces of a few hundred elements: each step is one vector loop over the
//! piece, intermediate pieces stay in the first-level cache, and only the last step writes the result. Operands broadcast; an
//! operand that is constant along a run is one register.

use super::activation::Activation;
use super::broadcast::{Broadcast, MAX_OPERANDS};
use super::{Scratch, SharedMut};
use crate::detect::Simd;
use crate::pool::Pool;
use crate::simd::{Task, Vector, dispatch, math};

/// One-operand step.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the names are the functions; parametrized ones are documented at Activation"
)]
pub enum Unary {
    Negate,
    Abs,
    Sign,
    Floor,
    Ceil,
    /// To nearest, ties to even.
    Round,
    Sqrt,
    Reciprocal,
    Square,
    Exp,
    Log,
    Erf,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    /// `ln(1 + e^x)`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    Activation(Activation),
}

/// Two-operand step. `Max` and `Min` give NaN when either operand is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the functions")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    Pow,
    /// `a` where `a ≥ 0`, `a·b` elsewhere.
    PRelu,
}

/// What a step reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operand {
    /// Input of the chain.
    Input(usize),
    /// Result of an earlier step.
    Step(usize),
    /// The same number everywhere.
    Constant(f32),
}

/// One step of a chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// `op(x)`
    Unary(Unary, Operand),
    /// `op(a, b)`
    Binary(Binary, Operand, Operand),
    /// `a·b + c`
    MulAdd(Operand, Operand, Operand),
}

/// An input of [`Chain::run`].
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A slice of its own.
    Slice(&'a [f32]),
    /// The output's memory, read before it is written; the walk must treat this operand like the result.
    Output,
}

/// A prepared chain; the last step is the result.
#[derive(Clone, Debug)]
pub struct Chain {
    simd: Simd,
    threads: usize,
    walk: Broadcast,
    inputs: usize,
    steps: Vec<Step>,
}

/// Elements of a piece.
const CHUNK: usize = 512;

impl Chain {
    /// Prepares `steps` over `walk`, whose operands are the chain's inputs.
    ///
    /// # Panics
    /// When there is no step, or a step reads an input that the walk does not have or a step that is not earlier.
    pub fn new(
        simd: Simd,
        threads: usize,
        walk: Broadcast,
        inputs: usize,
        steps: Vec<Step>,
    ) -> Self {
        assert!(
            !steps.is_empty() && inputs <= MAX_OPERANDS,
            "{} steps, {inputs} inputs",
            steps.len()
        );
        for (i, step) in steps.iter().enumerate() {
            let valid = |o: Operand| match o {
                Operand::Input(x) => x < inputs,
                Operand::Step(s) => s < i,
                Operand::Constant(_) => true,
            };
            let fine = match *step {
                Step::Unary(_, x) => valid(x),
                Step::Binary(_, a, b) => valid(a) && valid(b),
                Step::MulAdd(a, b, c) => valid(a) && valid(b) && valid(c),
            };
            assert!(fine, "step {i} reads what is not there: {step:?}");
        }
        Self { simd: simd.at_most(), threads: threads.max(1), walk, inputs, steps }
    }

    fn per_thread(&self) -> usize {
        (self.steps.len() + self.inputs) * CHUNK
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        Scratch::len(self.per_thread(), self.threads)
    }

    /// Runs the chain.
    ///
    /// # Panics
    /// When a slice is shorter than the walk says, `Input::Output` is not walked like the result, or the pool is too large.
    pub fn run(&self, inputs: &[Input<'_>], out: &mut [f32], scratch: &mut [f32], pool: &Pool) {
        assert!(
            inputs.len() == self.inputs && out.len() >= self.walk.len(),
            "inputs or output of the chain"
        );
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        let to = SharedMut::new(out);
        let mut pointers = [std::ptr::null(); MAX_OPERANDS];
        for (i, input) in inputs.iter().enumerate() {
            pointers[i] = match input {
                Input::Slice(slice) => {
                    assert!(slice.len() >= self.walk.operand_len(i), "input {i} of the chain");
                    slice.as_ptr()
                }
                Input::Output => {
                    assert!(self.walk.is_like_result(i), "input {i} in place");
                    to.get().cast_const()
                }
            };
        }
        let pointers = Pointers(pointers);
        let scratch = Scratch::split(scratch, self.per_thread(), self.threads);
        pool.parallel_for(self.walk.tasks(), |task, thread| {
            let pointers = &pointers;
            dispatch(
                self.simd,
                Run {
                    chain: self,
                    task,
                    inputs: &pointers.0,
                    out: to.get(),
                    scratch: scratch.part(thread),
                },
            );
        });
    }
}

struct Pointers([*const f32; MAX_OPERANDS]);
// SAFETY: read-only, or (in place) read and written by the same thread element by element.
unsafe impl Sync for Pointers {}

struct Run<'a> {
    chain: &'a Chain,
    task: usize,
    inputs: &'a [*const f32; MAX_OPERANDS],
    out: *mut f32,
    scratch: *mut f32,
}

/// A piece of an operand: `CHUNK` elements at most in memory, or one number.
#[derive(Clone, Copy)]
enum Piece {
    Memory(*const f32),
    Number(f32),
}

impl Task for Run<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let chain = self.chain;
        let mut repeated = [std::ptr::null(); MAX_OPERANDS];
        for run in chain.walk.runs(self.task) {
            let mut done = 0;
            while done < run.len {
                let len = CHUNK.min(run.len - done);
                // SAFETY: the walk stays within the lengths `run` checked.
                unsafe { piece::<V>(&self, run.at + done, &run.from, done, len, &mut repeated) };
                done += len;
            }
        }
    }
}

/// All steps over `n ≤ CHUNK` elements at `at` of the output.
///
/// # Safety
/// `at + n` is within the output, whose elements there are nobody else's; `from + done` of each operand is readable as its walk
/// says.
#[inline(always)]
unsafe fn piece<V: Vector>(
    run: &Run<'_>,
    at: usize,
    from: &[usize; MAX_OPERANDS],
    done: usize,
    n: usize,
    // What the scratch of each periodic operand holds already.
    repeated: &mut [*const f32; MAX_OPERANDS],
) {
    let chain = run.chain;
    let mut inputs = [Piece::Number(0.0); MAX_OPERANDS];
    for i in 0..chain.inputs {
        let stride = chain.walk.inner_stride(i);
        let pointer = run.inputs[i].wrapping_add(from[i] + done * stride);
        let period = chain.walk.period(i);
        if period > 0 {
            // Pieces begin with a period, as both lengths are multiples of it.
            let buffer = run.scratch.wrapping_add((chain.steps.len() + i) * CHUNK);
            if repeated[i] != pointer {
                for j in 0..CHUNK {
                    // SAFETY: a period is within the operand, the piece within the scratch of this thread.
                    unsafe { *buffer.add(j) = *pointer.add(j % period) };
                }
                repeated[i] = pointer;
            }
            inputs[i] = Piece::Memory(buffer);
            continue;
        }
        inputs[i] = match stride {
            // SAFETY: within the operand.
            0 => Piece::Number(unsafe { *pointer }),
            1 => Piece::Memory(pointer),
            _ => {
                let buffer = run.scratch.wrapping_add((chain.steps.len() + i) * CHUNK);
                for j in 0..n {
                    // SAFETY: within the operand, and within the scratch of this thread.
                    unsafe { *buffer.add(j) = *pointer.add(j * stride) };
                }
                Piece::Memory(buffer)
            }
        };
    }
    let last = chain.steps.len() - 1;
    for s in 0..=last {
        let to =
            if s == last { run.out.wrapping_add(at) } else { run.scratch.wrapping_add(s * CHUNK) };
        let get = |o: Operand| match o {
            Operand::Input(i) => inputs[i],
            Operand::Step(s) => Piece::Memory(run.scratch.wrapping_add(s * CHUNK)),
            Operand::Constant(x) => Piece::Number(x),
        };
        // SAFETY: the pieces and `to` hold `n` elements.
        unsafe {
            match chain.steps[s] {
                Step::Unary(op, x) => unary::<V>(op, get(x), to, n),
                Step::Binary(op, a, b) => binary::<V>(op, get(a), get(b), to, n),
                Step::MulAdd(a, b, c) => mul_add::<V>(get(a), get(b), get(c), to, n),
            }
        }
    }
}

/// Loads vector `i` of a piece: a constant operand is a splat outside of the loop.
macro_rules! each {
    ($to:expr, $n:expr, |$i:ident, $count:ident| $value:expr) => {{
        let mut $i = 0;
        while $i + V::LANES <= $n {
            let $count = V::LANES;
            let value: V = $value;
            value.store($to.add($i));
            $i += V::LANES;
        }
        if $i < $n {
            let $count = $n - $i;
            let value: V = $value;
            value.store_first($to.add($i), $count);
        }
    }};
}

/// # Safety
/// `p` is readable for `n ≤ LANES` elements.
#[inline(always)]
unsafe fn load<V: Vector>(p: *const f32, n: usize) -> V {
    // SAFETY: the caller's contract.
    unsafe { if n == V::LANES { V::load(p) } else { V::load_first(p, n) } }
}

/// # Safety
/// `to` is writable for `n` elements; a piece in memory is readable for as many.
#[inline(always)]
unsafe fn unary<V: Vector>(op: Unary, x: Piece, to: *mut f32, n: usize) {
    let p = match x {
        Piece::Memory(p) => p,
        Piece::Number(x) => {
            // SAFETY: `to` holds `n` elements.
            unsafe { each!(to, n, |i, _count| V::splat(x)) };
            to.cast_const()
        }
    };
    macro_rules! vector {
        ($x:ident => $y:expr) => {
            // SAFETY: both hold `n` elements.
            unsafe {
                each!(to, n, |i, count| {
                    let $x = load::<V>(p.add(i), count);
                    $y
                })
            }
        };
    }
    macro_rules! scalar {
        ($f:expr) => {
            for i in 0..n {
                // SAFETY: both hold `n` elements.
                unsafe { *to.add(i) = $f(*p.add(i)) };
            }
        };
    }
    let (zero, one) = (V::zero(), V::splat(1.0));
    match op {
        Unary::Negate => vector!(x => x.mul(V::splat(-1.0))),
        Unary::Abs => vector!(x => x.abs()),
        Unary::Sign => {
            vector!(x => V::select(x.lt(zero), V::splat(-1.0), V::select(zero.lt(x), one, x)));
        }
        Unary::Floor => vector!(x => x.floor()),
        Unary::Ceil => scalar!(f32::ceil),
        Unary::Round => vector!(x => x.round()),
        Unary::Sqrt => vector!(x => x.sqrt()),
        Unary::Reciprocal => vector!(x => one.div(x)),
        Unary::Square => vector!(x => x.mul(x)),
        Unary::Exp => vector!(x => math::exp(x)),
        Unary::Log => vector!(x => math::log(x)),
        Unary::Erf => vector!(x => math::erf(x)),
        Unary::Sin => scalar!(f32::sin),
        Unary::Cos => scalar!(f32::cos),
        Unary::Tan => scalar!(f32::tan),
        Unary::Asin => scalar!(f32::asin),
        Unary::Acos => scalar!(f32::acos),
        Unary::Atan => scalar!(f32::atan),
        Unary::Sinh => scalar!(f32::sinh),
        Unary::Cosh => scalar!(f32::cosh),
        Unary::Asinh => scalar!(f32::asinh),
        Unary::Acosh => scalar!(f32::acosh),
        Unary::Atanh => scalar!(f32::atanh),
        // max(x, 0) + ln(1 + e^-|x|) does not overflow.
        Unary::Softplus => scalar!(|x: f32| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        Unary::Softsign => vector!(x => x.div(one.add(x.abs()))),
        Unary::Activation(activation) => match activation {
            Activation::None => vector!(x => x),
            Activation::Relu => vector!(x => zero.max(x)),
            Activation::Clip { low, high } => vector!(x => x.clamp(V::splat(low), V::splat(high))),
            Activation::GeluErf => vector!(x => math::gelu_erf(x)),
            Activation::GeluTanh => vector!(x => math::gelu_tanh(x)),
            Activation::Silu => vector!(x => x.mul(math::sigmoid(x))),
            Activation::HardSwish => {
                vector!(x => x.mul(x.fma(V::splat(1.0 / 6.0), V::splat(0.5)).clamp(zero, one)));
            }
            Activation::HardSigmoid { alpha, beta } => {
                vector!(x => x.fma(V::splat(alpha), V::splat(beta)).clamp(zero, one));
            }
            Activation::Sigmoid => vector!(x => math::sigmoid(x)),
            Activation::Tanh => vector!(x => math::tanh(x)),
            Activation::LeakyRelu { slope } => {
                vector!(x => V::select(x.lt(zero), x.mul(V::splat(slope)), x));
            }
        },
    }
}

/// # Safety
/// `to` is writable for `n` elements; pieces in memory are readable for as many.
#[inline(always)]
unsafe fn binary<V: Vector>(op: Binary, a: Piece, b: Piece, to: *mut f32, n: usize) {
    macro_rules! vector {
        ($a:ident, $b:ident => $y:expr) => {
            // SAFETY: the pieces and `to` hold `n` elements.
            unsafe {
                match (a, b) {
                    (Piece::Memory(p), Piece::Memory(q)) => each!(to, n, |i, count| {
                        let ($a, $b) = (load::<V>(p.add(i), count), load::<V>(q.add(i), count));
                        $y
                    }),
                    (Piece::Memory(p), Piece::Number(y)) => {
                        let $b = V::splat(y);
                        each!(to, n, |i, count| {
                            let $a = load::<V>(p.add(i), count);
                            $y
                        });
                    }
                    (Piece::Number(x), Piece::Memory(q)) => {
                        let $a = V::splat(x);
                        each!(to, n, |i, count| {
                            let $b = load::<V>(q.add(i), count);
                            $y
                        });
                    }
                    (Piece::Number(x), Piece::Number(y)) => {
                        let ($a, $b) = (V::splat(x), V::splat(y));
                        each!(to, n, |i, _count| $y);
                    }
                }
            }
        };
    }
    match op {
        Binary::Add => vector!(x, y => x.add(y)),
        Binary::Sub => vector!(x, y => x.sub(y)),
        Binary::Mul => vector!(x, y => x.mul(y)),
        Binary::Div => vector!(x, y => x.div(y)),
        // `max` gives its second operand when either is NaN; a NaN in the first is put back.
        Binary::Max => vector!(x, y => V::select(x.eq(x), x.max(y), x)),
        Binary::Min => vector!(x, y => V::select(x.eq(x), x.min(y), x)),
        Binary::PRelu => vector!(x, y => V::select(x.lt(V::zero()), x.mul(y), x)),
        Binary::Pow => match b {
            Piece::Number(2.0) => vector!(x, _y => x.mul(x)),
            Piece::Number(3.0) => vector!(x, _y => x.mul(x).mul(x)),
            Piece::Number(0.5) => vector!(x, _y => x.sqrt()),
            Piece::Number(-1.0) => vector!(x, _y => V::splat(1.0).div(x)),
            Piece::Number(_) | Piece::Memory(_) => {
                let get = |piece: Piece, i: usize| match piece {
                    // SAFETY: the piece holds `n` elements.
                    Piece::Memory(p) => unsafe { *p.add(i) },
                    Piece::Number(x) => x,
                };
                for i in 0..n {
                    // SAFETY: `to` holds `n` elements.
                    unsafe { *to.add(i) = get(a, i).powf(get(b, i)) };
                }
            }
        },
    }
}

/// # Safety
/// `to` is writable for `n` elements; pieces in memory are readable for as many.
#[inline(always)]
unsafe fn mul_add<V: Vector>(a: Piece, b: Piece, c: Piece, to: *mut f32, n: usize) {
    // SAFETY: `to` and the pieces hold `n` elements.
    unsafe {
        each!(to, n, |i, count| {
            part::<V>(a, i, count).fma(part::<V>(b, i, count), part::<V>(c, i, count))
        });
    };
}

/// `n` elements of a piece, from element `i`.
///
/// # Safety
/// A piece in memory is readable for `i + n` elements; `n ≤ LANES`.
#[inline(always)]
unsafe fn part<V: Vector>(piece: Piece, i: usize, n: usize) -> V {
    match piece {
        // SAFETY: the caller's contract.
        Piece::Memory(p) => unsafe { load::<V>(p.add(i), n) },
        Piece::Number(x) => V::splat(x),
    }
}

#[cfg(test)]
mod tests {
    use super::super::broadcast::broadcast_strides;
    use super::*;
    use crate::kernel::testing::{Random, assert_close};

    type UnaryCase = (Unary, fn(f32) -> f32);
    type BinaryCase = (Binary, fn(f32, f32) -> f32);

    fn one(simd: Simd, step: Step, inputs: &[&[f32]], len: usize) -> Vec<f32> {
        let chain =
            Chain::new(simd, 1, Broadcast::contiguous(len, inputs.len()), inputs.len(), vec![step]);
        let (mut out, mut scratch) = (vec![0.0; len], vec![0.0; chain.scratch_len()]);
        let inputs: Vec<Input<'_>> = inputs.iter().map(|x| Input::Slice(x)).collect();
        chain.run(&inputs, &mut out, &mut scratch, &Pool::new(1));
        out
    }

    #[test]
    fn every_operator_matches_the_standard_library() {
        let mut random = Random::new(11);
        let unary: [UnaryCase; 25] = [
            (Unary::Negate, |x| -x),
            (Unary::Abs, f32::abs),
            (Unary::Sign, |x| if x == 0.0 { 0.0 } else { x.signum() }),
            (Unary::Floor, f32::floor),
            (Unary::Ceil, f32::ceil),
            (Unary::Round, f32::round_ties_even),
            (Unary::Sqrt, f32::sqrt),
            (Unary::Reciprocal, f32::recip),
            (Unary::Square, |x| x * x),
            (Unary::Exp, f32::exp),
            (Unary::Log, f32::ln),
            (Unary::Sin, f32::sin),
            (Unary::Cos, f32::cos),
            (Unary::Tan, f32::tan),
            (Unary::Asin, f32::asin),
            (Unary::Acos, f32::acos),
            (Unary::Atan, f32::atan),
            (Unary::Sinh, f32::sinh),
            (Unary::Cosh, f32::cosh),
            (Unary::Asinh, f32::asinh),
            (Unary::Acosh, f32::acosh),
            (Unary::Atanh, f32::atanh),
            (Unary::Softplus, |x| x.exp().ln_1p()),
            (Unary::Softsign, |x| x / (1.0 + x.abs())),
            (Unary::Activation(Activation::LeakyRelu { slope: 0.3 }), |x| {
                if x < 0.0 { 0.3 * x } else { x }
            }),
        ];
        let binary: [BinaryCase; 8] = [
            (Binary::Add, |a, b| a + b),
            (Binary::Sub, |a, b| a - b),
            (Binary::Mul, |a, b| a * b),
            (Binary::Div, |a, b| a / b),
            (Binary::Max, |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }),
            (Binary::Min, |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { a.min(b) }),
            (Binary::Pow, f32::powf),
            (Binary::PRelu, |a, b| if a < 0.0 { a * b } else { a }),
        ];
        for simd in Simd::available() {
            let lengths: &[usize] = if cfg!(miri) { &[7] } else { &[1, 15, 16, 700] };
            for &len in lengths {
                let mut x: Vec<f32> = random.floats(len).iter().map(|x| x * 3.0).collect();
                x[0] = if len > 1 { f32::NAN } else { -0.0 };
                let mut y = random.floats(len);
                y[len / 2] = f32::NAN;
                for (op, f) in unary {
                    let want: Vec<f32> = x.iter().map(|&x| f(x)).collect();
                    let got = one(simd, Step::Unary(op, Operand::Input(0)), &[&x], len);
                    assert_close(&got, &want, 3e-6, &format!("{simd:?} {op:?}"));
                }
                for (op, f) in binary {
                    let want: Vec<f32> = x.iter().zip(&y).map(|(&a, &b)| f(a, b)).collect();
                    let got = one(
                        simd,
                        Step::Binary(op, Operand::Input(0), Operand::Input(1)),
                        &[&x, &y],
                        len,
                    );
                    assert_close(&got, &want, 3e-6, &format!("{simd:?} {op:?}"));
                    for constant in [2.0, 0.5, 1.7] {
                        let want: Vec<f32> = x.iter().map(|&a| f(a, constant)).collect();
                        let step = Step::Binary(op, Operand::Input(0), Operand::Constant(constant));
                        assert_close(
                            &one(simd, step, &[&x], len),
                            &want,
                            3e-6,
                            &format!("{simd:?} {op:?} constant"),
                        );
                        let want: Vec<f32> = x.iter().map(|&a| f(constant, a)).collect();
                        let step = Step::Binary(op, Operand::Constant(constant), Operand::Input(0));
                        assert_close(
                            &one(simd, step, &[&x], len),
                            &want,
                            3e-6,
                            &format!("{simd:?} {op:?} constant"),
                        );
                    }
                }
            }
            assert!(
                one(simd, Step::Unary(Unary::Negate, Operand::Input(0)), &[&[0.0, 1.0]], 2)[0]
                    .is_sign_negative()
            );
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes an interpreter too long")]
    fn a_chain_broadcasts_and_runs_in_place() {
        let mut random = Random::new(12);
        let (shape, pool) = ([2, 7, 900], Pool::new(2));
        let len = 2 * 7 * 900;
        let (x, scale, table) = (random.floats(len), random.floats(7), random.floats(900 * 7));
        // The third input is a transposed table: stride 7 along the inner axis.
        let scale_strides = broadcast_strides(&[7, 1], &shape).expect("broadcasts");
        let walk = Broadcast::new(&shape, &[&[6300, 900, 1], &scale_strides, &[0, 1, 7]]);
        let steps = vec![
            Step::Binary(Binary::Mul, Operand::Input(0), Operand::Input(1)),
            Step::MulAdd(Operand::Step(0), Operand::Constant(2.0), Operand::Input(2)),
            Step::Unary(Unary::Activation(Activation::Relu), Operand::Step(1)),
            Step::Binary(Binary::Sub, Operand::Step(2), Operand::Input(0)),
        ];
        for simd in Simd::available() {
            let chain = Chain::new(simd, 2, walk.clone(), 3, steps.clone());
            let mut out = x.clone();
            let mut scratch = vec![0.0; chain.scratch_len()];
            let inputs = [Input::Output, Input::Slice(&scale), Input::Slice(&table)];
            chain.run(&inputs, &mut out, &mut scratch, &pool);
            for i in 0..len {
                let (row, column) = (i / 900 % 7, i % 900);
                let want = (x[i] * scale[row] * 2.0 + table[column * 7 + row]).max(0.0) - x[i];
                assert!((out[i] - want).abs() < 1e-6, "{simd:?} {i}");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes an interpreter too long")]
    fn a_scale_for_each_channel_of_a_block_repeats() {
        let mut random = Random::new(13);
        let (blocks, pixels, pool) = (3, 700, Pool::new(2));
        let (x, scale) = (random.floats(blocks * pixels * 16), random.floats(blocks * 16));
        let walk = Broadcast::new(&[blocks, pixels, 16], &[&[pixels * 16, 16, 1], &[16, 0, 1]]);
        let walk = walk.with_periods();
        assert_eq!((walk.period(0), walk.period(1)), (0, 16));
        let steps = vec![Step::Binary(Binary::Mul, Operand::Input(0), Operand::Input(1))];
        for simd in Simd::available() {
            let chain = Chain::new(simd, 2, walk.clone(), 2, steps.clone());
            let mut out = vec![f32::NAN; x.len()];
            let mut scratch = vec![0.0; chain.scratch_len()];
            chain.run(&[Input::Slice(&x), Input::Slice(&scale)], &mut out, &mut scratch, &pool);
            for (i, &got) in out.iter().enumerate() {
                assert_eq!(got, x[i] * scale[i / (pixels * 16) * 16 + i % 16], "{simd:?} {i}");
            }
        }
    }
}
