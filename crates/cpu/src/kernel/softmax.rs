//! Softmax and log-softmax along any axis: `e^(x − max) / Σ e^(x − max)`.
//!
//! Rows along the last axis are vectors over the row; along another axis, vectors over the elements beside it. Each row is read
//! three times while it is in the first-level cache.

use super::SharedMut;
use crate::detect::Simd;
use crate::pool::Pool;
use crate::simd::{Task, Vector, dispatch, math};

/// A prepared softmax over the middle axis of `[outer, n, inner]`.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    simd: Simd,
    outer: usize,
    n: usize,
    inner: usize,
    log: bool,
}

impl Softmax {
    /// Prepares softmax (or, with `log`, its logarithm) of a row-major tensor of `shape` along `axis`.
    ///
    /// # Panics
    /// When the tensor has no such axis.
    pub fn new(simd: Simd, shape: &[usize], axis: usize, log: bool) -> Self {
        let outer = shape[..axis].iter().product();
        Self {
            simd: simd.at_most(),
            outer,
            n: shape[axis],
            inner: shape[axis + 1..].iter().product(),
            log,
        }
    }

    /// Computes it.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says.
    pub fn run(&self, input: &[f32], out: &mut [f32], pool: &Pool) {
        let len = self.outer * self.n * self.inner;
        assert!(input.len() >= len && out.len() >= len, "slices of the softmax");
        // SAFETY: the lengths were checked; the pointers are to distinct slices.
        unsafe { self.run_raw(input.as_ptr(), SharedMut::new(out), pool) };
    }

    /// Computes it in place.
    ///
    /// # Panics
    /// When the slice is shorter than the shape says.
    pub fn run_in_place(&self, data: &mut [f32], pool: &Pool) {
        assert!(data.len() >= self.outer * self.n * self.inner, "slice of the softmax");
        let to = SharedMut::new(data);
        // SAFETY: each row is read before it is written, by the same thread.
        unsafe { self.run_raw(to.get().cast_const(), to, pool) };
    }

    /// # Safety
    /// `input` is readable and `out` writable for the softmax's elements; they are the same or do not overlap.
    unsafe fn run_raw(&self, input: *const f32, out: SharedMut<f32>, pool: &Pool) {
        if self.n == 0 {
            return;
        }
        let input = SharedMut(input.cast_mut());
        let rows_per_task = (16_384 / (self.n * self.inner)).max(1);
        pool.parallel_for(self.outer.div_ceil(rows_per_task), |task, _| {
            let rows = task * rows_per_task..((task + 1) * rows_per_task).min(self.outer);
            dispatch(self.simd, Rows { plan: *self, input: input.get(), out: out.get(), rows });
        });
    }
}

struct Rows {
    plan: Softmax,
    input: *const f32,
    out: *mut f32,
    rows: std::ops::Range<usize>,
}

impl Task for Rows {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let p = self.plan;
        for row in self.rows {
            // SAFETY: a row within both slices, this task's own.
            unsafe {
                let (from, to) =
                    (self.input.add(row * p.n * p.inner), self.out.add(row * p.n * p.inner));
                if p.inner == 1 {
                    softmax_row::<V>(from, to, p.n, p.log);
                } else {
                    let mut c = 0;
                    while c < p.inner {
                        columns::<V>(
                            from.add(c),
                            to.add(c),
                            V::LANES.min(p.inner - c),
                            p.inner,
                            p.n,
                            p.log,
                        );
                        c += V::LANES;
                    }
                }
            }
        }
    }
}

/// Softmax of `n ≥ 1` consecutive elements; `from` and `to` may be the same. Gives nothing but NaN if an element is NaN, and when
/// all are −∞.
///
/// # Safety
/// Both hold `n` elements.
#[inline(always)]
pub(crate) unsafe fn softmax_row<V: Vector>(from: *const f32, to: *mut f32, n: usize, log: bool) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut largest = V::splat(*from);
        let mut i = 0;
        while i + V::LANES <= n {
            largest = largest.max(V::load(from.add(i)));
            i += V::LANES;
        }
        let mut max = largest.max_lane();
        while i < n {
            max = max.max(*from.add(i));
            i += 1;
        }
        let shift = V::splat(max);
        let mut sums = V::zero();
        i = 0;
        while i + V::LANES <= n {
            let e = math::exp(V::load(from.add(i)).sub(shift));
            if !log {
                e.store(to.add(i));
            }
            sums = sums.add(e);
            i += V::LANES;
        }
        let mut sum = sums.sum();
        if i < n {
            let e = math::exp(V::load_first(from.add(i), n - i).sub(shift));
            let mut lanes = [0.0f32; 16];
            e.store(lanes.as_mut_ptr());
            for (j, &x) in lanes.iter().enumerate().take(n - i) {
                sum += x;
                if !log {
                    *to.add(i + j) = x;
                }
            }
        }
        let (source, scale, offset) =
            if log { (from, 1.0, -max - sum.ln()) } else { (to.cast_const(), 1.0 / sum, 0.0) };
        let (scale, offset) = (V::splat(scale), V::splat(offset));
        i = 0;
        while i < n {
            let k = V::LANES.min(n - i);
            V::load_first(source.add(i), k).fma(scale, offset).store_first(to.add(i), k);
            i += V::LANES;
        }
    }
}

/// Softmax of `width ≤ LANES` columns of `n` elements, `stride` apart.
///
/// # Safety
/// `from` is readable and `to` writable for `n` runs of `width` elements, `stride` apart; they are the same or do not overlap.
#[inline(always)]
unsafe fn columns<V: Vector>(
    from: *const f32,
    to: *mut f32,
    width: usize,
    stride: usize,
    n: usize,
    log: bool,
) {
    // SAFETY: the caller's contract: every row holds `width` elements.
    unsafe {
        let mut max = V::load_first(from, width);
        for i in 1..n {
            max = max.max(V::load_first(from.add(i * stride), width));
        }
        let mut sum = V::zero();
        for i in 0..n {
            let e = math::exp(V::load_first(from.add(i * stride), width).sub(max));
            if !log {
                e.store_first(to.add(i * stride), width);
            }
            sum = sum.add(e);
        }
        let one = V::splat(1.0);
        let (scale, offset) =
            if log { (one, max.add(math::log(sum))) } else { (one.div(sum), V::zero()) };
        let source = if log { from } else { to.cast_const() };
        for i in 0..n {
            let x = V::load_first(source.add(i * stride), width);
            x.mul(scale).sub(offset).store_first(to.add(i * stride), width);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{Random, assert_close};

    fn reference(shape: [usize; 3], x: &[f32], log: bool) -> Vec<f32> {
        let [outer, n, inner] = shape;
        let mut y = vec![0.0; x.len()];
        for o in 0..outer {
            for c in 0..inner {
                let at = |i: usize| (o * n + i) * inner + c;
                let max = (0..n).map(|i| f64::from(x[at(i)])).fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = (0..n).map(|i| (f64::from(x[at(i)]) - max).exp()).sum();
                for i in 0..n {
                    let z = f64::from(x[at(i)]) - max;
                    y[at(i)] = if log { z - sum.ln() } else { z.exp() / sum } as f32;
                }
            }
        }
        y
    }

    #[test]
    fn any_axis_matches_the_reference() {
        let mut random = Random::new(31);
        let pool = Pool::new(2);
        for simd in Simd::available() {
            for shape in [
                [1, 1, 1],
                [3, 5, 1],
                [40, 128, 1],
                [7, 1000, 1],
                [2, 3, 5],
                [3, 10, 33],
                [2, 17, 64],
            ] {
                if cfg!(miri) && shape.iter().product::<usize>() > 1_000 {
                    continue;
                }
                for log in [false, true] {
                    let x: Vec<f32> =
                        random.floats(shape.iter().product()).iter().map(|x| 20.0 * x).collect();
                    let want = reference(shape, &x, log);
                    let softmax = Softmax::new(simd, &shape, 1, log);
                    let mut got = vec![f32::NAN; x.len()];
                    softmax.run(&x, &mut got, &pool);
                    assert_close(&got, &want, 3e-6, &format!("{simd:?} {shape:?} log {log}"));
                    let mut got = x.clone();
                    softmax.run_in_place(&mut got, &pool);
                    assert_close(
                        &got,
                        &want,
                        3e-6,
                        &format!("{simd:?} {shape:?} log {log} in place"),
                    );
                }
            }
            let mut x = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
            Softmax::new(simd, &[3], 0, false).run_in_place(&mut x, &pool);
            assert_eq!(x, [0.0, 1.0, 0.0]);
        }
    }
}
