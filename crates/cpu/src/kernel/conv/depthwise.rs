//! Depthwise convolution: one input channel a filter, vectors along the width.
//!
//! v1: the channel's plane is staged in the thread's scratch (padding and stride gone), then each output vector is one load and
//! one multiply-add a tap, with 9 or 25 weights kept in registers. v2: four output rows at once share the loads of their input
//! rows, as an unaligned 64-byte load is two lines: 240 channels of 5×5 on 28×28 went from 419 to 203 µs.
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at `run_channel`")]

use super::stage::Planes;
use crate::simd::{Task, Vector};

/// One filter of one image.
pub(crate) struct Channel<'a> {
    pub(crate) planes: &'a Planes,
    /// The plane, readable for a vector beyond its end.
    pub(crate) plane: *const f32,
    /// One weight a tap.
    pub(crate) weights: &'a [f32],
    pub(crate) output: *mut f32,
    pub(crate) residual: *const f32,
    /// Output rows and their length.
    pub(crate) lines: usize,
    pub(crate) width: usize,
    /// 3 or 5 for a square kernel of that size without dilation on two axes, else 0.
    pub(crate) square: usize,
    /// Row stride.
    pub(crate) stride: usize,
    pub(crate) bias: f32,
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Task for Channel<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        // SAFETY: the caller filled the struct to its contract.
        unsafe {
            match (self.square, self.stride) {
                (3, 1) => square::<V, 3, 1>(&self),
                (3, 2) => square::<V, 3, 2>(&self),
                (5, 1) => square::<V, 5, 1>(&self),
                (5, 2) => square::<V, 5, 2>(&self),
                _ => any::<V>(&self),
            }
        }
    }
}

/// Residual in, clamp and store of `n` elements at `at` of the output.
///
/// # Safety
/// `n ≤ LANES` elements at `at` of the output are writable and nobody else's; the residual, if any, covers them.
#[inline(always)]
unsafe fn finish<V: Vector>(c: &Channel<'_>, sum: V, at: usize, n: usize) {
    let mut x = sum;
    if !c.residual.is_null() {
        x = x.add(V::load_first(c.residual.add(at), n));
    }
    let x = x.clamp(V::splat(c.low), V::splat(c.high));
    if n == V::LANES {
        x.store(c.output.add(at));
    } else {
        x.store_first(c.output.add(at), n);
    }
}

/// A `K × K` kernel without dilation on two axes, row stride `S`.
///
/// # Safety
/// `c` is filled to its contract, for a `K × K` kernel and row stride `S`.
#[inline(always)]
unsafe fn square<V: Vector, const K: usize, const S: usize>(c: &Channel<'_>) {
    let mut weights = [[V::zero(); K]; K];
    let mut columns = [0usize; K];
    for i in 0..K {
        columns[i] = c.planes.taps[i];
        for j in 0..K {
            weights[i][j] = V::splat(c.weights[i * K + j]);
        }
    }
    let mut line = 0;
    while line + 4 <= c.lines {
        rows::<V, K, S, 4>(c, &weights, &columns, line);
        line += 4;
    }
    while line < c.lines {
        rows::<V, K, S, 1>(c, &weights, &columns, line);
        line += 1;
    }
}

/// `R` output rows from `line`: each input vector is loaded once for all of them.
///
/// # Safety
/// As `square`; the output has `R` lines from `line`.
#[inline(always)]
unsafe fn rows<V: Vector, const K: usize, const S: usize, const R: usize>(
    c: &Channel<'_>,
    weights: &[[V; K]; K],
    columns: &[usize; K],
    line: usize,
) {
    let from = c.plane.add(line * S * c.planes.row);
    let mut x = 0;
    while x < c.width {
        let mut sums = [V::splat(c.bias); R];
        // The input rows this block of output rows reads, first to last.
        let mut row = 0;
        while row < (R - 1) * S + K {
            for j in 0..K {
                let value = V::load(from.add(row * c.planes.row + columns[j] + x));
                for i in 0..R {
                    if row >= i * S && row - i * S < K {
                        sums[i] = value.fma(weights[row - i * S][j], sums[i]);
                    }
                }
            }
            row += 1;
        }
        for i in 0..R {
            finish(c, sums[i], (line + i) * c.width + x, V::LANES.min(c.width - x));
        }
        x += V::LANES;
    }
}

/// Any kernel.
///
/// # Safety
/// `c` is filled to its contract.
#[inline(always)]
unsafe fn any<V: Vector>(c: &Channel<'_>) {
    let bias = V::splat(c.bias);
    for line in 0..c.lines {
        let from = c.plane.add(c.planes.line_offset(line));
        let mut x = 0;
        while x < c.width {
            let mut sum = bias;
            for t in 0..c.weights.len() {
                let value = V::load(from.add(*c.planes.taps.get_unchecked(t) + x));
                sum = value.fma(V::splat(*c.weights.get_unchecked(t)), sum);
            }
            finish(c, sum, line * c.width + x, V::LANES.min(c.width - x));
            x += V::LANES;
        }
    }
}
