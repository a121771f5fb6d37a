//! Depthwise convolution: one input channel a filter, vectors along the width.
//!
//! v1: the channel's plane is staged in the thread's scratch (padding and stride gone), then each output vector is one load and
//! one multiply-add a tap, with 9 or 25 weights kept in registers.
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
            match self.weights.len() {
                9 => fixed::<V, 9>(&self),
                25 => fixed::<V, 25>(&self),
                _ => any::<V>(&self),
            }
        }
    }
}

/// Bias and residual in, clamp and store.
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

#[inline(always)]
unsafe fn fixed<V: Vector, const TAPS: usize>(c: &Channel<'_>) {
    let mut weights = [V::zero(); TAPS];
    let mut taps = [0usize; TAPS];
    for t in 0..TAPS {
        weights[t] = V::splat(c.weights[t]);
        taps[t] = c.planes.taps[t];
    }
    let bias = V::splat(c.bias);
    for line in 0..c.lines {
        let from = c.plane.add(c.planes.line_offset(line));
        let mut x = 0;
        while x < c.width {
            // Two chains, so that the additions do not wait for each other.
            let (mut even, mut odd) = (bias, V::zero());
            for t in 0..TAPS {
                let value = V::load(from.add(taps[t] + x));
                if t % 2 == 0 {
                    even = value.fma(weights[t], even);
                } else {
                    odd = value.fma(weights[t], odd);
                }
            }
            finish(c, even.add(odd), line * c.width + x, V::LANES.min(c.width - x));
            x += V::LANES;
        }
    }
}

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
