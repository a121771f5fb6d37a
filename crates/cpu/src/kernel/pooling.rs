//! Maximum and average pooling over one to three spatial axes, NCHW, with padding, stride and dilation.
//!
//! A channel is staged as a plane ([`super::conv`]'s layout) whose padding is the neutral element, so a window is vector loads and
//! maxima or additions along the output row. The divisor of an average is a product of one count an axis.

use super::conv::ConvShape;
use super::conv::stage::Planes;
use super::{Scratch, SharedMut, split_evenly};
use crate::detect::Simd;
use crate::pool::Pool;
use crate::simd::{Task, Vector, dispatch};

/// What a window becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The largest element; padding never wins.
    Max,
    /// The mean of the elements within the input.
    Average,
    /// The mean, padding counted as zeros up to `counted_end` positions after the input an axis (a window that a rounded-up
    /// output size lets reach further is divided by what it has up to there).
    AverageWithPadding {
        /// Padding after the input that counts, an axis.
        counted_end: [usize; 3],
    },
}

/// A prepared pooling.
#[derive(Clone, Debug)]
pub struct Window {
    simd: Simd,
    threads: usize,
    planes_count: usize,
    shape: ConvShape,
    planes: Planes,
    pooling: Pooling,
    /// Elements a window counts along each axis, by output position.
    counts: [Vec<f32>; 3],
}

impl Window {
    /// Prepares pooling of `planes_count` (batch × channels) planes. Only the spatial part of `shape` is used; its `pads_end` must
    /// reach as far as the last window.
    pub fn new(
        simd: Simd,
        threads: usize,
        planes_count: usize,
        shape: &ConvShape,
        pooling: Pooling,
    ) -> Self {
        let planes = Planes::new(shape);
        let out = shape.output();
        let counts = [0, 1, 2].map(|axis| {
            let begin = shape.pads_begin[axis];
            let (low, high) = match pooling {
                Pooling::AverageWithPadding { counted_end } => {
                    (-begin, (shape.input[axis] + counted_end[axis]) as isize)
                }
                Pooling::Average | Pooling::Max => (0, shape.input[axis] as isize),
            };
            let count = |position: usize| {
                let start = (position * shape.stride[axis]) as isize - begin;
                let tap = |k: usize| start + (k * shape.dilation[axis]) as isize;
                (0..shape.kernel[axis]).filter(|&k| tap(k) >= low && tap(k) < high).count() as f32
            };
            // A vector may read past the last position; ones there keep the division harmless.
            let mut counts: Vec<f32> = (0..out[axis]).map(count).collect();
            counts.resize(out[axis] + 16, 1.0);
            counts
        });
        Self {
            simd: simd.at_most(),
            threads: threads.max(1),
            planes_count,
            shape: *shape,
            planes,
            pooling,
            counts,
        }
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        Scratch::len(self.planes.len + 64, self.threads)
    }

    /// Computes the pooling.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says, or the pool has more threads than prepared for.
    pub fn run(&self, input: &[f32], out: &mut [f32], scratch: &mut [f32], pool: &Pool) {
        let (pixels, result) = (self.shape.input_pixels(), self.shape.output_pixels());
        assert!(input.len() >= self.planes_count * pixels, "input of the pooling");
        assert!(out.len() >= self.planes_count * result, "output of the pooling");
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        let scratch = Scratch::split(scratch, self.planes.len + 64, self.threads);
        let to = SharedMut::new(out);
        let parts =
            (self.planes_count * result * self.shape.taps() / 200_000).clamp(1, 4 * pool.threads());
        let unit = split_evenly(self.planes_count, parts, 1);
        let fill = if self.pooling == Pooling::Max { f32::NEG_INFINITY } else { 0.0 };
        pool.parallel_for(self.planes_count.div_ceil(unit), |task, thread| {
            for plane in task * unit..((task + 1) * unit).min(self.planes_count) {
                let staged = scratch.part(thread);
                // SAFETY: the input plane is within the slice; the scratch part holds a plane and a vector beyond.
                unsafe {
                    self.planes.write(self.simd, input.as_ptr().add(plane * pixels), staged, fill);
                };
                // SAFETY: each plane of the result is one task's, within the slice.
                let out = unsafe { to.get().add(plane * result) };
                dispatch(self.simd, Plane { plan: self, plane: staged, out });
            }
        });
    }
}

struct Plane<'a> {
    plan: &'a Window,
    plane: *const f32,
    out: *mut f32,
}

impl Task for Plane<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let [depth, height, width] = self.plan.shape.output();
        let taps = &self.plan.planes.taps[..];
        for od in 0..depth {
            for oh in 0..height {
                let line = od * height + oh;
                // SAFETY: rows of the plane and of the result; the plane has a vector beyond its end.
                unsafe {
                    let from = self.plane.add(self.plan.planes.line_offset(line));
                    let to = self.out.add(line * width);
                    let outer = self.plan.counts[0].get_unchecked(od)
                        * self.plan.counts[1].get_unchecked(oh);
                    let mut x = 0;
                    while x < width {
                        let n = V::LANES.min(width - x);
                        let y = if self.plan.pooling == Pooling::Max {
                            let mut y = V::load(from.add(taps[0] + x));
                            for &tap in &taps[1..] {
                                let v = V::load(from.add(tap + x));
                                y = V::select(v.eq(v), v.max(y), v);
                            }
                            y
                        } else {
                            let mut y = V::zero();
                            for &tap in taps {
                                y = y.add(V::load(from.add(tap + x)));
                            }
                            let inner = V::load(self.plan.counts[2].as_ptr().add(x));
                            y.div(inner.mul(V::splat(outer)))
                        };
                        y.store_first(to.add(x), n);
                        x += V::LANES;
                    }
                }
            }
        }
    }
}

/// Maximum pooling with the position of each maximum in its plane (row-major over the spatial axes); the first of equals.
/// Plain loops. Elements of any ordered type.
///
/// # Panics
/// When a slice is shorter than the shape says.
pub fn max_with_positions<T: Copy + PartialOrd + Send + Sync>(
    shape: &ConvShape,
    planes: usize,
    input: &[T],
    out: &mut [T],
    positions: &mut [i64],
    pool: &Pool,
) {
    let (pixels, result) = (shape.input_pixels(), shape.output_pixels());
    let [_, height, width] = shape.output();
    assert!(
        input.len() >= planes * pixels
            && out.len() >= planes * result
            && positions.len() >= planes * result
    );
    let (to, at) = (SharedMut::new(out), SharedMut::new(positions));
    pool.parallel_for(planes, |plane, _| {
        let input = &input[plane * pixels..(plane + 1) * pixels];
        for p in 0..result {
            let o = [p / (height * width), p / width % height, p % width];
            let mut best: Option<(T, usize)> = None;
            for tap in 0..shape.taps() {
                let [_, kh, kw] = shape.kernel;
                let k = [tap / (kh * kw), tap / kw % kh, tap % kw];
                let mut index = Some(0usize);
                for i in 0..3 {
                    let x = (o[i] * shape.stride[i] + k[i] * shape.dilation[i]) as isize
                        - shape.pads_begin[i];
                    let inside = x >= 0 && (x as usize) < shape.input[i];
                    index = index.filter(|_| inside).map(|at| at * shape.input[i] + x as usize);
                }
                let Some(index) = index else { continue };
                if best.is_none_or(|(x, _)| input[index] > x) {
                    best = Some((input[index], index));
                }
            }
            if let Some((x, index)) = best {
                // SAFETY: each plane of the results is one task's, within the slices.
                unsafe {
                    to.get().add(plane * result + p).write(x);
                    at.get().add(plane * result + p).write(index as i64);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{Random, assert_close};

    fn reference(shape: &ConvShape, planes: usize, pooling: Pooling, input: &[f32]) -> Vec<f32> {
        let out = shape.output();
        let mut result = Vec::new();
        for plane in input.chunks(shape.input_pixels()).take(planes) {
            for p in 0..shape.output_pixels() {
                let o = [p / (out[1] * out[2]), p / out[2] % out[1], p % out[2]];
                let (mut max, mut sum, mut count) = (f32::NEG_INFINITY, 0.0, 0.0);
                for tap in 0..shape.taps() {
                    let k = shape.kernel;
                    let k = [tap / (k[1] * k[2]), tap / k[2] % k[1], tap % k[2]];
                    let (mut inside, mut counted, mut at) = (true, true, 0);
                    for i in 0..3 {
                        let x = (o[i] * shape.stride[i] + k[i] * shape.dilation[i]) as isize
                            - shape.pads_begin[i];
                        inside &= x >= 0 && x < shape.input[i] as isize;
                        if let Pooling::AverageWithPadding { counted_end } = pooling {
                            counted &= x < (shape.input[i] + counted_end[i]) as isize;
                        }
                        at = at * shape.input[i] as isize + x;
                    }
                    if inside {
                        max = max.max(plane[at as usize]);
                        sum += plane[at as usize];
                    }
                    let with_padding = matches!(pooling, Pooling::AverageWithPadding { .. });
                    count += f32::from(u8::from(if with_padding { counted } else { inside }));
                }
                result.push(if pooling == Pooling::Max { max } else { sum / count });
            }
        }
        result
    }

    #[test]
    fn random_windows_match_the_reference() {
        let mut random = Random::new(61);
        let pool = Pool::new(2);
        for simd in Simd::available() {
            let mut done = 0;
            while done < crate::kernel::testing::rounds(80) {
                let rank = 1 + random.below(3);
                let mut axis = |low: usize, range: usize| {
                    (0..rank).map(|_| low + random.below(range)).collect::<Vec<_>>()
                };
                let (input, kernel) = (axis(2, if rank == 3 { 8 } else { 40 }), axis(2, 3));
                let (stride, dilation) = (axis(1, 3), axis(1, 2));
                let pads: Vec<isize> = axis(0, 2).iter().map(|&p| p as isize).collect();
                let pads_end: Vec<isize> = axis(0, 2).iter().map(|&p| p as isize).collect();
                let Some(shape) = ConvShape::new(
                    (1, 1, 1, 1),
                    &input,
                    &kernel,
                    &stride,
                    &dilation,
                    (&pads, &pads_end),
                ) else {
                    continue;
                };
                done += 1;
                let planes = 1 + random.below(4);
                let x = random.floats(planes * shape.input_pixels());
                let counted_end = [0, 1, 2].map(|i| shape.pads_end[i] as usize);
                for pooling in
                    [Pooling::Max, Pooling::Average, Pooling::AverageWithPadding { counted_end }]
                {
                    let want = reference(&shape, planes, pooling, &x);
                    let kernel = Window::new(simd, 2, planes, &shape, pooling);
                    let (mut got, mut scratch) =
                        (vec![f32::NAN; want.len()], vec![0.0; kernel.scratch_len()]);
                    kernel.run(&x, &mut got, &mut scratch, &pool);
                    assert_close(&got, &want, 1e-5, &format!("{simd:?} {pooling:?} {shape:?}"));
                    if pooling == Pooling::Max {
                        let (mut values, mut at) = (vec![0.0; want.len()], vec![0; want.len()]);
                        max_with_positions(&shape, planes, &x, &mut values, &mut at, &pool);
                        assert_close(&values, &want, 0.0, "with positions");
                        for (i, &p) in at.iter().enumerate() {
                            let plane = i / shape.output_pixels();
                            assert_eq!(x[plane * shape.input_pixels() + p as usize], values[i]);
                        }
                    }
                }
            }
        }
    }
}
