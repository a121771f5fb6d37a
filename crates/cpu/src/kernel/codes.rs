//! Loops over 8-bit codes: sums of two, means and maxima of windows on blocks, to and from floats. Each is compiled for every
//! instruction set through [`crate::simd::dispatch`] and left to the compiler to vectorize.

use super::blocked::BLOCK;
use super::{SharedMut, split_evenly};
use crate::detect::Simd;
use crate::kernel::conv::ConvShape;
use crate::pool::Pool;
use crate::simd::{Task, Vector, dispatch};

/// An 8-bit code type.
pub trait Code: bytemuck::Pod + Send + Sync {
    /// As a number.
    fn wide(self) -> i32;
    /// The code nearest to a number that is one.
    fn of(x: i32) -> Self;
    /// The least and the largest.
    const RANGE: (i32, i32);
}

impl Code for u8 {
    const RANGE: (i32, i32) = (0, 255);
    #[inline(always)]
    fn wide(self) -> i32 {
        i32::from(self)
    }
    #[inline(always)]
    fn of(x: i32) -> u8 {
        x as u8
    }
}

impl Code for i8 {
    const RANGE: (i32, i32) = (-128, 127);
    #[inline(always)]
    fn wide(self) -> i32 {
        i32::from(self)
    }
    #[inline(always)]
    fn of(x: i32) -> i8 {
        x as i8
    }
}

/// Elements of a task.
const RUN: usize = 16 << 10;

/// `body(run)` for runs of `len` elements, each compiled for the instruction set.
fn in_runs<F: Fn(std::ops::Range<usize>) + Sync>(simd: Simd, len: usize, pool: &Pool, body: &F) {
    struct Run<'f, F>(&'f F, std::ops::Range<usize>);
    impl<F: Fn(std::ops::Range<usize>)> Task for Run<'_, F> {
        type Output = ();
        #[inline(always)]
        fn run<V: Vector>(self) {
            (self.0)(self.1);
        }
    }
    let unit = split_evenly(len, 2 * pool.threads(), BLOCK).clamp(BLOCK, RUN);
    pool.parallel_for(len.div_ceil(unit), |task, _| {
        dispatch(simd, Run(body, task * unit..((task + 1) * unit).min(len)));
    });
}

/// The settings of a sum of two tensors of codes.
#[derive(Clone, Copy, Debug)]
pub struct Addition {
    /// Zero points of the operands.
    pub zeros: [i32; 2],
    /// Multipliers of the operands, below 2^22.
    pub multipliers: [i32; 2],
    /// Bits dropped, 1 to 31.
    pub shift: u32,
    /// The code of 0 of the result.
    pub zero: i32,
    /// Its least and its largest code.
    pub limits: (i32, i32),
}

/// `clamp(((Σ (xᵢ − zeroᵢ) · multiplierᵢ + 2^(shift−1)) >> shift) + zero)` of two slices.
///
/// # Panics
/// When the slices differ in length.
pub fn add<A: Code, B: Code, R: Code>(
    simd: Simd,
    s: &Addition,
    a: &[A],
    b: &[B],
    out: &mut [R],
    pool: &Pool,
) {
    assert!(a.len() == out.len() && b.len() == out.len(), "operands of other lengths");
    let (to, s) = (SharedMut::new(out), *s);
    // Half a step more would leave 32 bits where both products are at their largest: the half is added after a shift.
    let before = s.shift - 1;
    in_runs(simd, a.len(), pool, &|run: std::ops::Range<usize>| {
        // SAFETY: runs are disjoint and within the result, which is as long as the operands.
        let out = unsafe { std::slice::from_raw_parts_mut(to.get().add(run.start), run.len()) };
        for ((out, a), b) in out.iter_mut().zip(&a[run.clone()]).zip(&b[run]) {
            let sum = ((a.wide() - s.zeros[0]).wrapping_mul(s.multipliers[0]))
                .wrapping_add((b.wide() - s.zeros[1]).wrapping_mul(s.multipliers[1]));
            let rounded = ((sum >> before) + 1) >> 1;
            let code = rounded.saturating_add(s.zero).max(s.limits.0).min(s.limits.1);
            *out = R::of(code);
        }
    });
}

/// To codes: `saturate(round_even(x / scale) + zero)`, NaN as 0.
///
/// # Panics
/// When the slices differ in length.
pub fn quantize<R: Code>(
    simd: Simd,
    (scale, zero): (f32, i32),
    x: &[f32],
    out: &mut [R],
    pool: &Pool,
) {
    assert_eq!(x.len(), out.len(), "operands of other lengths");
    let to = SharedMut::new(out);
    in_runs(simd, x.len(), pool, &|run: std::ops::Range<usize>| {
        // SAFETY: as in `add`.
        let out = unsafe { std::slice::from_raw_parts_mut(to.get().add(run.start), run.len()) };
        for (out, &x) in out.iter_mut().zip(&x[run]) {
            let steps = (x / scale).round_ties_even();
            // What lies farther out saturates alike.
            let steps = if steps.is_nan() { 0.0 } else { steps.clamp(-1e6, 1e6) };
            // SAFETY: a finite number within 32 bits.
            let code = unsafe { steps.to_int_unchecked::<i32>() } + zero;
            *out = R::of(code.max(R::RANGE.0).min(R::RANGE.1));
        }
    });
}

/// From codes: `(x − zero) · scale`.
///
/// # Panics
/// When the slices differ in length.
pub fn dequantize<A: Code>(
    simd: Simd,
    (scale, zero): (f32, i32),
    x: &[A],
    out: &mut [f32],
    pool: &Pool,
) {
    assert_eq!(x.len(), out.len(), "operands of other lengths");
    let to = SharedMut::new(out);
    in_runs(simd, x.len(), pool, &|run: std::ops::Range<usize>| {
        // SAFETY: as in `add`.
        let out = unsafe { std::slice::from_raw_parts_mut(to.get().add(run.start), run.len()) };
        for (out, &x) in out.iter_mut().zip(&x[run]) {
            *out = (x.wide() - zero) as f32 * scale;
        }
    });
}

/// Sums of codes less their zero point: `[planes, pixels, lanes] → [planes, lanes]`, what `finish` makes of each.
///
/// # Panics
/// When a slice is shorter than the shape says.
pub fn mean<A: Code, R: Code>(
    simd: Simd,
    (planes, pixels, lanes): (usize, usize, usize),
    x: &[A],
    zero: i32,
    finish: impl Fn(i32) -> i32 + Sync,
    out: &mut [R],
    pool: &Pool,
) {
    assert!(x.len() >= planes * pixels * lanes && out.len() >= planes * lanes, "short operands");
    let to = SharedMut::new(out);
    let body = |plane: usize| {
        let x = &x[plane * pixels * lanes..(plane + 1) * pixels * lanes];
        // SAFETY: planes are disjoint and within the result.
        let out = unsafe { std::slice::from_raw_parts_mut(to.get().add(plane * lanes), lanes) };
        let mut first = 0;
        while first < lanes {
            let count = BLOCK.min(lanes - first);
            let mut sums = [0i32; BLOCK];
            for pixel in x.chunks_exact(lanes) {
                for (sum, x) in sums.iter_mut().zip(&pixel[first..first + count]) {
                    *sum += x.wide() - zero;
                }
            }
            for (out, &sum) in out[first..first + count].iter_mut().zip(&sums) {
                *out = R::of(finish(sum));
            }
            first += count;
        }
    };
    pool.parallel_for(planes, |plane, _| in_runs_one(simd, &|| body(plane)));
}

/// `body` compiled for the instruction set.
fn in_runs_one<F: Fn()>(simd: Simd, body: &F) {
    struct One<'f, F>(&'f F);
    impl<F: Fn()> Task for One<'_, F> {
        type Output = ();
        #[inline(always)]
        fn run<V: Vector>(self) {
            (self.0)();
        }
    }
    dispatch(simd, One(body));
}

/// The largest code of each window, on `planes` blocks of channels. Every window covers an element.
///
/// # Panics
/// When a slice is shorter than the shape says.
pub fn max_pool<A: Code>(
    simd: Simd,
    planes: usize,
    window: &ConvShape,
    x: &[A],
    out: &mut [A],
    pool: &Pool,
) {
    let [_, height, width] = window.output();
    let (image, result) = (window.input_pixels() * BLOCK, height * width * BLOCK);
    assert!(x.len() >= planes * image && out.len() >= planes * result, "short operands");
    let to = SharedMut::new(out);
    let inside = |i: usize, at: usize, k: usize| {
        let place =
            (at * window.stride[i] + k * window.dilation[i]) as isize - window.pads_begin[i];
        (0..window.input[i] as isize).contains(&place).then_some(place as usize)
    };
    let body = |plane: usize, line: usize| {
        let x = &x[plane * image..(plane + 1) * image];
        // SAFETY: lines are disjoint and within the result.
        let out = unsafe {
            let start = to.get().add(plane * result + line * width * BLOCK);
            std::slice::from_raw_parts_mut(start, width * BLOCK)
        };
        for (column, out) in out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let mut most = [A::of(A::RANGE.0); BLOCK];
            for row in (0..window.kernel[1]).filter_map(|k| inside(1, line, k)) {
                for col in (0..window.kernel[2]).filter_map(|k| inside(2, column, k)) {
                    let pixel = &x[(row * window.input[2] + col) * BLOCK..][..BLOCK];
                    for (most, x) in most.iter_mut().zip(pixel) {
                        *most = if x.wide() > most.wide() { *x } else { *most };
                    }
                }
            }
            *out = most;
        }
    };
    pool.parallel_for(planes * height, |task, _| {
        in_runs_one(simd, &|| body(task / height, task % height));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::Random;

    #[test]
    fn sums_round_as_defined() {
        let mut random = Random::new(0xADD);
        let pool = Pool::new(2);
        for simd in Simd::available() {
            for _ in 0..40 {
                let n = 1 + random.below(100);
                let a: Vec<u8> = (0..n).map(|_| random.below(256) as u8).collect();
                let b: Vec<i8> = (0..n).map(|_| random.below(256) as u8 as i8).collect();
                let most = (1 << 22) - 1;
                let s = Addition {
                    zeros: [random.below(256) as i32, random.below(256) as i32 - 128],
                    multipliers: [most, random.below(1 << 22) as i32],
                    shift: 1 + random.below(31) as u32,
                    zero: random.below(256) as i32,
                    limits: (random.below(100) as i32, 250),
                };
                let mut out = vec![0u8; n];
                add(simd, &s, &a, &b, &mut out, &pool);
                for i in 0..n {
                    let term =
                        |x: i32, k: usize| i64::from(x - s.zeros[k]) * i64::from(s.multipliers[k]);
                    let sum = term(a[i].into(), 0) + term(b[i].into(), 1);
                    let rounded = (sum + (1 << (s.shift - 1))) >> s.shift;
                    let (low, high) = s.limits;
                    let want = (rounded + i64::from(s.zero)).clamp(low.into(), high.into()) as u8;
                    assert_eq!(out[i], want, "{simd:?} {s:?} {} {}", a[i], b[i]);
                }
            }
        }
    }
}
