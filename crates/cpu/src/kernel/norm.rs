//! Normalizations: layer and RMS norm over rows, group and instance norm over channels.
//!
//! Each row is read three times from the first- or second-level cache (mean, spread, result); the spread is that of the centered
//! values, so there is no cancellation. Batch norm at inference is one multiply-add a channel: [`super::elementwise`].

use super::SharedMut;
use crate::detect::Simd;
use crate::pool::Pool;
use crate::simd::{Task, Vector, dispatch};

/// Layer norm `(x − mean)/√(var + ε)·scale + bias` over rows of `n`, or RMS norm `x/√(mean(x²) + ε)·scale + bias`.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    /// Instruction set.
    pub simd: Simd,
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub n: usize,
    /// Added under the root.
    pub epsilon: f32,
    /// RMS norm: the mean is not subtracted.
    pub rms: bool,
}

/// Optional operands of [`LayerNorm::run`].
#[derive(Debug, Default)]
pub struct LayerNormOperands<'a> {
    /// `n` factors.
    pub scale: Option<&'a [f32]>,
    /// `n` offsets.
    pub bias: Option<&'a [f32]>,
    /// Added to the input first; same shape.
    pub residual: Option<&'a [f32]>,
    /// Receives input + residual.
    pub sum: Option<&'a mut [f32]>,
    /// Receives the mean of each row.
    pub mean: Option<&'a mut [f32]>,
    /// Receives `1/√(var + ε)` of each row.
    pub inverse_deviation: Option<&'a mut [f32]>,
}

impl LayerNorm {
    /// Computes it. `input` and `out` have `rows · n` elements.
    ///
    /// # Panics
    /// When a slice is shorter than that.
    pub fn run(
        &self,
        input: &[f32],
        out: &mut [f32],
        operands: LayerNormOperands<'_>,
        pool: &Pool,
    ) {
        let len = self.rows * self.n;
        let LayerNormOperands { scale, bias, residual, sum, mean, inverse_deviation } = operands;
        assert!(input.len() >= len && out.len() >= len, "slices of the layer norm");
        assert!(scale.is_none_or(|s| s.len() >= self.n) && bias.is_none_or(|b| b.len() >= self.n));
        assert!(
            residual.is_none_or(|r| r.len() >= len) && sum.as_ref().is_none_or(|s| s.len() >= len)
        );
        assert!(mean.as_ref().is_none_or(|m| m.len() >= self.rows));
        assert!(inverse_deviation.as_ref().is_none_or(|d| d.len() >= self.rows));
        let pointer = |s: Option<&[f32]>| s.map_or(std::ptr::null(), <[f32]>::as_ptr);
        let mutable = |s: Option<&mut [f32]>| s.map_or(std::ptr::null_mut(), <[f32]>::as_mut_ptr);
        let plan = Row {
            n: self.n,
            epsilon: self.epsilon,
            rms: self.rms,
            input: input.as_ptr(),
            out: out.as_mut_ptr(),
            scale: pointer(scale),
            bias: pointer(bias),
            residual: pointer(residual),
            sum: mutable(sum),
            mean: mutable(mean),
            inverse_deviation: mutable(inverse_deviation),
        };
        let rows_per_task = (8192 / self.n.max(1)).max(1);
        let simd = self.simd.at_most();
        let plan = &plan;
        pool.parallel_for(self.rows.div_ceil(rows_per_task), |task, _| {
            let rows = task * rows_per_task..((task + 1) * rows_per_task).min(self.rows);
            dispatch(simd, LayerRows { plan, rows });
        });
    }
}

/// Everything by pointer, so that an operand may be absent.
struct Row {
    n: usize,
    epsilon: f32,
    rms: bool,
    input: *const f32,
    out: *mut f32,
    scale: *const f32,
    bias: *const f32,
    residual: *const f32,
    sum: *mut f32,
    mean: *mut f32,
    inverse_deviation: *mut f32,
}

// SAFETY: each row is touched by one task only; the lengths were checked in `run`.
unsafe impl Sync for Row {}

struct LayerRows<'a> {
    plan: &'a Row,
    rows: std::ops::Range<usize>,
}

impl Task for LayerRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        for row in self.rows {
            // SAFETY: a row within the checked slices.
            unsafe { layer_row::<V>(self.plan, row) };
        }
    }
}

/// # Safety
/// `p` has this row, and its output is nobody else's.
#[inline(always)]
unsafe fn layer_row<V: Vector>(p: &Row, row: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        let n = p.n;
        let mut x = p.input.add(row * n);
        let out = p.out.add(row * n);
        if !p.residual.is_null() {
            let residual = p.residual.add(row * n);
            // The sum is needed three times: in its own result, or for now where the result will be.
            let to = if p.sum.is_null() { out } else { p.sum.add(row * n) };
            let mut i = 0;
            while i < n {
                let k = V::LANES.min(n - i);
                V::load_first(x.add(i), k)
                    .add(V::load_first(residual.add(i), k))
                    .store_first(to.add(i), k);
                i += V::LANES;
            }
            x = to.cast_const();
        } else if !p.sum.is_null() {
            std::ptr::copy_nonoverlapping(x, p.sum.add(row * n), n);
        }
        let mean = if p.rms { 0.0 } else { sum::<V>(x, n) / n as f32 };
        let spread = centered_squares::<V>(x, n, mean) / n as f32;
        let factor = 1.0 / (spread + p.epsilon).sqrt();
        if !p.mean.is_null() {
            *p.mean.add(row) = mean;
        }
        if !p.inverse_deviation.is_null() {
            *p.inverse_deviation.add(row) = factor;
        }
        let (mean, factor) = (V::splat(mean), V::splat(factor));
        let mut i = 0;
        while i < n {
            let k = V::LANES.min(n - i);
            let mut y = V::load_first(x.add(i), k).sub(mean).mul(factor);
            if !p.scale.is_null() {
                y = y.mul(V::load_first(p.scale.add(i), k));
            }
            if !p.bias.is_null() {
                y = y.add(V::load_first(p.bias.add(i), k));
            }
            y.store_first(out.add(i), k);
            i += V::LANES;
        }
    }
}

/// `Σ x`.
///
/// # Safety
/// `x` is readable for `n` elements.
#[inline(always)]
unsafe fn sum<V: Vector>(x: *const f32, n: usize) -> f32 {
    let (mut a, mut b, mut i) = (V::zero(), V::zero(), 0);
    // SAFETY: `n` elements are readable.
    unsafe {
        while i + 2 * V::LANES <= n {
            a = a.add(V::load(x.add(i)));
            b = b.add(V::load(x.add(i + V::LANES)));
            i += 2 * V::LANES;
        }
        while i < n {
            a = a.add(V::load_first(x.add(i), V::LANES.min(n - i)));
            i += V::LANES;
        }
    }
    a.add(b).sum()
}

/// `Σ (x − mean)²`.
///
/// # Safety
/// `x` is readable for `n` elements.
#[inline(always)]
unsafe fn centered_squares<V: Vector>(x: *const f32, n: usize, mean: f32) -> f32 {
    let (mut a, mut b, mut i) = (V::zero(), V::zero(), 0);
    let shift = V::splat(mean);
    let mut total = 0.0;
    // SAFETY: `n` elements are readable.
    unsafe {
        while i + 2 * V::LANES <= n {
            let (c, d) = (V::load(x.add(i)).sub(shift), V::load(x.add(i + V::LANES)).sub(shift));
            a = c.fma(c, a);
            b = d.fma(d, b);
            i += 2 * V::LANES;
        }
        while i + V::LANES <= n {
            let c = V::load(x.add(i)).sub(shift);
            a = c.fma(c, a);
            i += V::LANES;
        }
        while i < n {
            let c = *x.add(i) - mean;
            total += c * c;
            i += 1;
        }
    }
    total + a.add(b).sum()
}

/// Group norm over `[batch, channels, pixels]`; instance norm is one group a channel.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm {
    /// Instruction set.
    pub simd: Simd,
    /// Images.
    pub batch: usize,
    /// Channels, a multiple of `groups`.
    pub channels: usize,
    /// Groups of channels normalized together.
    pub groups: usize,
    /// Elements of a channel.
    pub pixels: usize,
    /// Added under the root.
    pub epsilon: f32,
}

impl GroupNorm {
    /// Computes it; `scale` and `bias` have one value a channel.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says, or the groups do not divide the channels.
    pub fn run(&self, input: &[f32], out: &mut [f32], scale: &[f32], bias: &[f32], pool: &Pool) {
        let len = self.batch * self.channels * self.pixels;
        assert!(self.groups > 0 && self.channels.is_multiple_of(self.groups), "groups of the norm");
        assert!(input.len() >= len && out.len() >= len, "slices of the group norm");
        assert!(
            scale.len() >= self.channels && bias.len() >= self.channels,
            "scale and bias of the group norm"
        );
        let to = SharedMut::new(out);
        let simd = self.simd.at_most();
        pool.parallel_for(self.batch * self.groups, |task, _| {
            dispatch(simd, Group { plan: self, task, input, out: to.get(), scale, bias });
        });
    }
}

struct Group<'a> {
    plan: &'a GroupNorm,
    task: usize,
    input: &'a [f32],
    out: *mut f32,
    scale: &'a [f32],
    bias: &'a [f32],
}

impl Task for Group<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let p = self.plan;
        let per_group = p.channels / p.groups;
        let n = per_group * p.pixels;
        if n == 0 {
            return;
        }
        let start = self.task * n;
        let first = self.task % p.groups * per_group;
        // SAFETY: a group within the checked slices, this task's own.
        unsafe {
            let x = self.input.as_ptr().add(start);
            let mean = sum::<V>(x, n) / n as f32;
            let factor = 1.0 / (centered_squares::<V>(x, n, mean) / n as f32 + p.epsilon).sqrt();
            for c in 0..per_group {
                let scale = *self.scale.get_unchecked(first + c) * factor;
                let shift = *self.bias.get_unchecked(first + c) - mean * scale;
                let (scale, shift) = (V::splat(scale), V::splat(shift));
                let (from, to) = (x.add(c * p.pixels), self.out.add(start + c * p.pixels));
                let mut i = 0;
                while i < p.pixels {
                    let k = V::LANES.min(p.pixels - i);
                    V::load_first(from.add(i), k).fma(scale, shift).store_first(to.add(i), k);
                    i += V::LANES;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{Random, assert_close};

    #[test]
    fn layer_and_rms_norm_match_the_definition() {
        let mut random = Random::new(41);
        let pool = Pool::new(2);
        for simd in Simd::available() {
            for (rows, n) in [(1, 1), (3, 17), (if cfg!(miri) { 1 } else { 50 }, 768), (2, 63)] {
                for rms in [false, true] {
                    let (x, residual) = (random.floats(rows * n), random.floats(rows * n));
                    let (scale, bias) = (random.floats(n), random.floats(n));
                    let norm = LayerNorm { simd, rows, n, epsilon: 1e-5, rms };
                    let (mut out, mut sum) = (vec![f32::NAN; rows * n], vec![f32::NAN; rows * n]);
                    let (mut means, mut deviations) = (vec![f32::NAN; rows], vec![f32::NAN; rows]);
                    let operands = LayerNormOperands {
                        scale: Some(&scale),
                        bias: Some(&bias),
                        residual: Some(&residual),
                        sum: Some(&mut sum),
                        mean: Some(&mut means),
                        inverse_deviation: Some(&mut deviations),
                    };
                    norm.run(&x, &mut out, operands, &pool);
                    let mut plain = vec![f32::NAN; rows * n];
                    norm.run(
                        &sum,
                        &mut plain,
                        LayerNormOperands { scale: Some(&scale), ..Default::default() },
                        &pool,
                    );
                    for r in 0..rows {
                        let row: Vec<f64> =
                            (0..n).map(|i| f64::from(x[r * n + i] + residual[r * n + i])).collect();
                        let mean = if rms { 0.0 } else { row.iter().sum::<f64>() / n as f64 };
                        let var = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
                        let want =
                            |i: usize| (row[i] - mean) / (var + 1e-5).sqrt() * f64::from(scale[i]);
                        let wanted: Vec<f32> =
                            (0..n).map(|i| (want(i) + f64::from(bias[i])) as f32).collect();
                        let what = format!("{simd:?} {rows}×{n} rms {rms}");
                        assert_close(&out[r * n..(r + 1) * n], &wanted, 1e-4, &what);
                        let wanted: Vec<f32> = (0..n).map(|i| want(i) as f32).collect();
                        assert_close(&plain[r * n..(r + 1) * n], &wanted, 1e-4, &what);
                        assert!((f64::from(means[r]) - mean).abs() < 1e-6);
                        assert!(
                            (f64::from(deviations[r]) * (var + 1e-5).sqrt() - 1.0).abs() < 1e-4
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn group_norm_matches_the_definition() {
        let mut random = Random::new(42);
        let (batch, channels, pixels) = (2, 6, 35);
        for simd in Simd::available() {
            for groups in [1, 2, 6] {
                let x = random.floats(batch * channels * pixels);
                let (scale, bias) = (random.floats(channels), random.floats(channels));
                let mut out = vec![f32::NAN; x.len()];
                let norm = GroupNorm { simd, batch, channels, groups, pixels, epsilon: 1e-5 };
                norm.run(&x, &mut out, &scale, &bias, &Pool::new(2));
                let n = channels / groups * pixels;
                for (i, &y) in out.iter().enumerate() {
                    let group = &x[i / n * n..i / n * n + n];
                    let mean = group.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
                    let var = group.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>()
                        / n as f64;
                    let c = i / pixels % channels;
                    let want = (f64::from(x[i]) - mean) / (var + 1e-5).sqrt() * f64::from(scale[c])
                        + f64::from(bias[c]);
                    assert!(
                        (f64::from(y) - want).abs() < 1e-5,
                        "{simd:?} {groups} groups, element {i}"
                    );
                }
            }
        }
    }
}
