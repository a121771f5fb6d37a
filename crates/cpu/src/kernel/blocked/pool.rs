//! Pooling on blocks: the largest or the mean of each window, a vector of channels at a time.
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at `Lines`")]

use super::BLOCK;
use crate::detect::Simd;
use crate::kernel::conv::ConvShape;
use crate::kernel::{SharedMut, split_evenly};
use crate::pool::Pool;
use crate::simd::{Task, Vector, dispatch};

/// A prepared pooling of planes of blocks; padding is never read.
#[derive(Clone, Debug)]
pub struct Pooled {
    shape: ConvShape,
    simd: Simd,
    planes: usize,
    mean: bool,
}

impl Pooled {
    /// Windows as those of a convolution over two spatial axes, over `planes` blocks of channels: the mean of the elements
    /// that lie within the input, or the largest.
    pub fn new(simd: Simd, planes: usize, shape: &ConvShape, mean: bool) -> Pooled {
        Pooled { shape: *shape, simd: simd.at_most(), planes, mean }
    }

    /// Pools.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says.
    pub fn run(&self, input: &[f32], output: &mut [f32], pool: &Pool) {
        let s = &self.shape;
        let [_, height, width] = s.output();
        let (image, result) = (s.input_pixels() * BLOCK, height * width * BLOCK);
        assert!(input.len() >= self.planes * image, "input shorter than its shape");
        assert!(output.len() >= self.planes * result, "output shorter than its shape");
        let out = SharedMut::new(output);
        let lines = self.planes * height;
        let parts = (lines * width * s.taps() * BLOCK / 100_000).clamp(1, 4 * pool.threads());
        let unit = split_evenly(lines, parts, 1);
        pool.parallel_for(lines.div_ceil(unit), |task, _| {
            for index in task * unit..((task + 1) * unit).min(lines) {
                let (plane, line) = (index / height, index % height);
                let rows = Line {
                    shape: s,
                    line,
                    x: &input[plane * image..][..image],
                    // SAFETY: each line is written by one task, within the output (checked above).
                    y: unsafe {
                        let start = out.get().add(plane * result + line * width * BLOCK);
                        std::slice::from_raw_parts_mut(start, width * BLOCK)
                    },
                    mean: self.mean,
                };
                dispatch(self.simd, rows);
            }
        });
    }
}

/// One output line of one block of channels.
struct Line<'a> {
    shape: &'a ConvShape,
    line: usize,
    x: &'a [f32],
    y: &'a mut [f32],
    mean: bool,
}

/// Input positions of a window: those that lie within the input, in steps of the dilation.
#[inline(always)]
fn positions(s: &ConvShape, axis: usize, o: usize) -> (usize, usize) {
    let start = (o * s.stride[axis]) as isize - s.pads_begin[axis];
    let end = start + s.window(axis) as isize;
    let d = s.dilation[axis] as isize;
    let first = if start >= 0 { start } else { start.rem_euclid(d) };
    (first as usize, end.clamp(first, (s.input[axis] as isize).max(first)) as usize)
}

impl Task for Line<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let s = self.shape;
        let rows = positions(s, 1, self.line);
        let start = if self.mean { 0.0 } else { f32::NEG_INFINITY };
        for o in 0..self.y.len() / BLOCK {
            let columns = positions(s, 2, o);
            let mut lane = 0;
            while lane < BLOCK {
                let mut sum = V::splat(start);
                let mut count = 0;
                let mut row = rows.0;
                while row < rows.1 {
                    let mut column = columns.0;
                    while column < columns.1 {
                        let at = (row * s.input[2] + column) * BLOCK + lane;
                        debug_assert!(at + V::LANES <= self.x.len());
                        // SAFETY: row and column lie within the input, the lanes within the block.
                        let x = unsafe { V::load(self.x.as_ptr().add(at)) };
                        // `max` gives its argument where a lane of either is not a number: what came first must stay.
                        sum = if self.mean { sum.add(x) } else { keep_nan_max(sum, x) };
                        count += 1;
                        column += s.dilation[2];
                    }
                    row += s.dilation[1];
                }
                if self.mean {
                    sum = sum.div(V::splat(count as f32));
                }
                // SAFETY: pixel `o` of the line, the lanes within the block.
                unsafe { sum.store(self.y.as_mut_ptr().add(o * BLOCK + lane)) };
                lane += V::LANES;
            }
        }
    }
}

/// The larger lane; not a number where either is none.
#[inline(always)]
fn keep_nan_max<V: Vector>(so_far: V, x: V) -> V {
    // `so_far.max(x)` is `x` where either is not a number; where `so_far` is none it has to be that again.
    V::select(so_far.eq(so_far), so_far.max(x), so_far)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{Random, assert_close};

    #[test]
    fn windows_match_their_definition() {
        let mut random = Random::new(0x9001);
        for simd in Simd::available() {
            let mut done = 0;
            while done < crate::kernel::testing::rounds(60) {
                let mut axis = |low: usize, range: usize| {
                    (0..2).map(|_| low + random.below(range)).collect::<Vec<_>>()
                };
                let (input, kernel) = (axis(1, 12), axis(1, 4));
                let (stride, dilation) = (axis(1, 3), axis(1, 2));
                let pads: Vec<isize> = kernel.iter().map(|&k| (k as isize - 1) / 2).collect();
                let sizes = (1, 1, 1, 1);
                let shape =
                    ConvShape::new(sizes, &input, &kernel, &stride, &dilation, (&pads, &pads));
                let Some(shape) = shape else { continue };
                done += 1;
                let mean = random.below(2) == 1;
                let mut x = random.floats(2 * shape.input_pixels() * BLOCK);
                x[3] = f32::NAN;
                let [_, height, width] = shape.output();
                let mut out = vec![0.0; 2 * height * width * BLOCK];
                Pooled::new(simd, 2, &shape, mean).run(&x, &mut out, &Pool::new(2));
                let mut want = out.clone();
                for (i, y) in want.iter_mut().enumerate() {
                    let (lane, o) = (i % BLOCK, i / BLOCK % width);
                    let (line, plane) = (i / BLOCK / width % height, i / BLOCK / width / height);
                    let mut seen = Vec::new();
                    for t in 0..shape.taps() {
                        let (kh, kw) = (t / shape.kernel[2], t % shape.kernel[2]);
                        let at = |o: usize, k: usize, a: usize| {
                            let p = (o * shape.stride[a] + k * shape.dilation[a]) as isize
                                - shape.pads_begin[a];
                            (0..shape.input[a] as isize).contains(&p).then_some(p as usize)
                        };
                        if let (Some(r), Some(c)) = (at(line, kh, 1), at(o, kw, 2)) {
                            let pixel = (plane * shape.input[1] + r) * shape.input[2] + c;
                            seen.push(x[pixel * BLOCK + lane]);
                        }
                    }
                    *y = if mean {
                        seen.iter().sum::<f32>() / seen.len() as f32
                    } else {
                        seen.iter().copied().fold(f32::NEG_INFINITY, |a, b| {
                            if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
                        })
                    };
                }
                assert_close(&out, &want, 1e-6, &format!("{simd:?} {mean} {shape:?}"));
            }
        }
    }
}
