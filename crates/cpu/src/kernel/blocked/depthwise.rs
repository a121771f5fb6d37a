//! Depthwise convolution on blocks: every lane is a channel of its own, so each tap is one multiply-add of vectors.
//!
//! Pixels whose windows lie within the input run eight at a time with all taps; those at the edges one at a time with the taps
//! that see the input. Nothing is copied first.
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at `Lines`")]

use super::{BLOCK, Sizes, blocks};
use crate::detect::Simd;
use crate::kernel::activation::{Activation, activate_rows};
use crate::kernel::conv::ConvShape;
use crate::kernel::gemm::Epilogue;
use crate::kernel::{SharedMut, split_evenly};
use crate::pool::Pool;
use crate::simd::{Task, Vector, dispatch};
use std::ops::Range;

/// `channels × kernel` weights as the kernel reads them: for each block and tap, the channels' weights, 0 beyond the last.
pub fn depthwise_weights(channels: usize, taps: usize, weights: &[f32]) -> Vec<f32> {
    let mut packed = vec![0.0; blocks(channels) * taps * BLOCK];
    for (i, &weight) in weights.iter().enumerate().take(channels * taps) {
        let (channel, tap) = (i / taps, i % taps);
        packed[(channel / BLOCK * taps + tap) * BLOCK + channel % BLOCK] = weight;
    }
    packed
}

/// Elements that stay in the first-level cache until they are read again.
const FEW_ELEMENTS: usize = 4096;

/// A prepared convolution with one input channel and one filter a group, over two spatial axes.
#[derive(Clone, Debug)]
pub struct Depthwise {
    shape: ConvShape,
    simd: Simd,
}

impl Depthwise {
    /// Whether a convolution can run here.
    pub fn does(shape: &ConvShape) -> bool {
        shape.groups == shape.channels
            && shape.filters == shape.channels
            && shape.input_step == [1; 3]
            && (shape.input[0], shape.kernel[0]) == (1, 1)
            && (shape.pads_begin[0], shape.pads_end[0]) == (0, 0)
    }

    /// Prepares a convolution.
    ///
    /// # Panics
    /// When it is none that [`Depthwise::does`].
    pub fn new(simd: Simd, shape: &ConvShape) -> Depthwise {
        assert!(Self::does(shape), "a convolution for another kernel");
        Depthwise { shape: *shape, simd: simd.at_most() }
    }

    /// Computes the convolution. The epilogue's `column_bias` is one value a channel, padded to whole blocks; its `residual` is
    /// laid out as the output; `row_bias` is not used.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says.
    pub fn run(
        &self,
        weights: &[f32],
        input: &[f32],
        output: &mut [f32],
        epilogue: &Epilogue<'_>,
        pool: &Pool,
    ) {
        let s = &self.shape;
        let [_, height, width] = s.output();
        let per_image = blocks(s.channels);
        let planes = s.batch * per_image;
        let (image, result) = (s.input_pixels() * BLOCK, height * width * BLOCK);
        assert!(weights.len() >= per_image * s.taps() * BLOCK, "weights shorter than their shape");
        let sizes = Sizes {
            images: s.batch,
            image: per_image * image,
            result: per_image * result,
            channels: s.channels,
        };
        sizes.check(input, output, epilogue);
        let out = SharedMut::new(output);
        // A task of some hundred thousand multiply-adds is some ten microseconds. Strips come first, then parts of the blocks:
        // the lines that a thread wrote for the layer before are then its own.
        let work = planes * height * width * s.taps() * BLOCK;
        let wanted = (work / 200_000).clamp(1, 4 * pool.threads());
        let strip = split_evenly(height, wanted.min(pool.threads()), 1);
        let strips = height.div_ceil(strip.max(1));
        let unit = split_evenly(planes, wanted.div_ceil(strips.max(1)), 1);
        let parts = planes.div_ceil(unit);
        pool.parallel_for(strips * parts, |task, _| {
            let (strip_index, part) = (task / parts, task % parts);
            let lines = strip_index * strip..((strip_index + 1) * strip).min(height);
            for plane in part * unit..((part + 1) * unit).min(planes) {
                let block = plane % per_image;
                let plane = Plane {
                    x: &input[plane * image..][..image],
                    weights: &weights[block * s.taps() * BLOCK..][..s.taps() * BLOCK],
                    // SAFETY: the plane is within the output (checked above); a task writes its own lines.
                    y: unsafe { out.get().add(plane * result) },
                    residual: epilogue.residual.map(|r| &r[plane * result..][..result]),
                    bias: epilogue.column_bias.map(|b| &b[block * BLOCK..][..BLOCK]),
                    activation: epilogue.activation,
                    width,
                };
                // SAFETY: as above.
                unsafe { plane.lines(self.simd, s, lines.clone()) };
            }
        });
    }
}

/// One block of channels of one image.
pub(super) struct Plane<'a> {
    pub(super) x: &'a [f32],
    /// Of the block.
    pub(super) weights: &'a [f32],
    pub(super) y: *mut f32,
    pub(super) residual: Option<&'a [f32]>,
    /// Of the block.
    pub(super) bias: Option<&'a [f32]>,
    pub(super) activation: Activation,
    /// Of an output line.
    pub(super) width: usize,
}

impl Plane<'_> {
    /// Computes some output lines of a convolution that [`Depthwise::does`].
    ///
    /// # Safety
    /// The input and the residual are as the shape says, the result is writable at these lines and nobody else's, and the
    /// processor has the instruction set.
    pub(super) unsafe fn lines(&self, simd: Simd, shape: &ConvShape, lines: Range<usize>) {
        let width = self.width;
        let clamp = self.activation.as_clamp();
        // An activation in a pass of its own finds its lines in the first level.
        let together = match clamp {
            Some(_) => lines.len(),
            None => (FEW_ELEMENTS / (width * BLOCK).max(1)).max(1),
        };
        for first in lines.clone().step_by(together.max(1)) {
            let until = lines.end.min(first + together);
            let rows = Lines {
                shape,
                lines: first..until,
                width,
                x: self.x,
                weights: self.weights,
                y: self.y,
                residual: self.residual,
                bias: self.bias,
                clamp: clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY)),
            };
            dispatch(simd, rows);
            if clamp.is_none() {
                // The lines just written, still ours.
                let start = self.y.add(first * width * BLOCK);
                let n = (until - first) * width * BLOCK;
                activate_rows(simd, self.activation, start, 1, n, 0);
            }
        }
    }
}

/// Some output lines of one block of channels of one image.
struct Lines<'a> {
    shape: &'a ConvShape,
    lines: Range<usize>,
    width: usize,
    x: &'a [f32],
    weights: &'a [f32],
    /// The plane of the result: writable at these lines, and nobody else's.
    y: *mut f32,
    residual: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    clamp: (f32, f32),
}

/// Kernel rows or columns that lie within the input for output position `o`.
#[inline(always)]
fn inside(s: &ConvShape, axis: usize, o: usize) -> (usize, usize) {
    let start = (o * s.stride[axis]) as isize - s.pads_begin[axis];
    let d = s.dilation[axis] as isize;
    let room = s.input[axis] as isize - start;
    // A division takes longer than a pixel.
    let steps = |n: isize| if d == 1 { n } else { (n + d - 1) / d };
    let first = steps((-start).max(0));
    let last = steps(room.max(0));
    let k = s.kernel[axis] as isize;
    (first.min(k) as usize, last.clamp(0, k) as usize)
}

impl Task for Lines<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let s = self.shape;
        // Output columns whose whole window lies within the input.
        let low = (s.pads_begin[2].max(0) as usize).div_ceil(s.stride[2]).min(self.width);
        let room = s.input[2] as isize + s.pads_begin[2] - s.window(2) as isize;
        let high =
            if room < 0 { low } else { (room as usize / s.stride[2] + 1).clamp(low, self.width) };
        for line in self.lines.clone() {
            let rows = inside(s, 1, line);
            let mut lane = 0;
            while lane < BLOCK {
                // SAFETY: pixels between `low` and `high` see the input with all taps of their row, the others take
                // only the taps that do; lanes are within the block.
                unsafe {
                    let mut o = 0;
                    while o < self.width {
                        if o < low || o >= high {
                            self.pixels::<V, 1>(line, o, rows, inside(s, 2, o), lane);
                            o += 1;
                            continue;
                        }
                        // The last of a run again with some before them rather than one by one.
                        let all = (0, s.kernel[2]);
                        if high - low >= 8 && high - o > 4 {
                            self.pixels::<V, 8>(line, o.min(high - 8), rows, all, lane);
                            o = (o + 8).min(high);
                        } else if high - low >= 4 {
                            self.pixels::<V, 4>(line, o.min(high - 4), rows, all, lane);
                            o = (o + 4).min(high);
                        } else {
                            self.pixels::<V, 1>(line, o, rows, all, lane);
                            o += 1;
                        }
                    }
                }
                lane += V::LANES;
            }
        }
    }
}

impl Lines<'_> {
    /// `P` pixels from column `o` of a line, with kernel rows and columns from the first to before the last of each pair.
    ///
    /// # Safety
    /// The input holds what the given kernel rows and columns of `P` pixels from `o` read; the output holds those pixels, which
    /// nobody else touches.
    #[inline(always)]
    unsafe fn pixels<V: Vector, const P: usize>(
        &self,
        line: usize,
        o: usize,
        rows: (usize, usize),
        columns: (usize, usize),
        lane: usize,
    ) {
        let s = self.shape;
        let step = s.stride[2] * BLOCK;
        let mut acc = [V::zero(); P];
        for kh in rows.0..rows.1 {
            let row = (line * s.stride[1] + kh * s.dilation[1]) as isize - s.pads_begin[1];
            for kw in columns.0..columns.1 {
                let column = (o * s.stride[2] + kw * s.dilation[2]) as isize - s.pads_begin[2];
                let at = (row as usize * s.input[2] + column as usize) * BLOCK + lane;
                let x = self.x.as_ptr().add(at);
                let w = V::load(self.weights.as_ptr().add((kh * s.kernel[2] + kw) * BLOCK + lane));
                for (p, sum) in acc.iter_mut().enumerate() {
                    *sum = V::load(x.add(p * step)).fma(w, *sum);
                }
            }
        }
        let (low, high) = (V::splat(self.clamp.0), V::splat(self.clamp.1));
        let bias = match self.bias {
            Some(bias) => V::load(bias.as_ptr().add(lane)),
            None => V::zero(),
        };
        for (p, sum) in acc.iter().enumerate() {
            let at = (line * self.width + o + p) * BLOCK + lane;
            let mut y = sum.add(bias);
            if let Some(residual) = self.residual {
                y = y.add(V::load(residual.as_ptr().add(at)));
            }
            y.clamp(low, high).store(self.y.add(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::blocked::{from_blocked, to_blocked};
    use crate::kernel::conv::reference;
    use crate::kernel::testing::{Random, assert_close};

    #[test]
    fn random_shapes_match_the_reference() {
        let mut random = Random::new(0xD3);
        for simd in Simd::available() {
            let mut done = 0;
            while done < crate::kernel::testing::rounds(150) {
                let channels = 1 + random.below(40);
                let mut axis = |low: usize, range: usize| {
                    (0..2).map(|_| low + random.below(range)).collect::<Vec<_>>()
                };
                let (input, kernel) = (axis(1, 30), axis(1, 6));
                let (stride, dilation) = (axis(1, 3), axis(1, 3));
                let pads: Vec<isize> = axis(0, 5).iter().map(|&p| p as isize - 1).collect();
                let ends: Vec<isize> = axis(0, 5).iter().map(|&p| p as isize - 1).collect();
                let sizes = (1 + random.below(2), channels, channels, channels);
                let shape =
                    ConvShape::new(sizes, &input, &kernel, &stride, &dilation, (&pads, &ends));
                let Some(shape) = shape else { continue };
                done += 1;
                let (pixels, batch) = (shape.output_pixels(), shape.batch);
                let pool = Pool::new(1 + random.below(2));
                let x = random.floats(batch * channels * shape.input_pixels());
                let weights = random.floats(shape.weights_len());
                let (bias, residual) =
                    (random.floats(channels), random.floats(batch * channels * pixels));
                let activation = [Activation::Relu, Activation::Silu][random.below(2)];
                let mut want = vec![f32::NAN; residual.len()];
                let epilogue = Epilogue {
                    row_bias: Some(&bias),
                    column_bias: None,
                    residual: Some(&residual),
                    activation,
                };
                reference(&shape, &x, &weights, &mut want, &epilogue);
                let side = |pixels: usize, x: &[f32]| {
                    let mut out = vec![f32::NAN; batch * blocks(channels) * BLOCK * pixels];
                    to_blocked((batch, channels, pixels), x, &mut out, &pool);
                    out
                };
                let mut padded_bias = bias.clone();
                padded_bias.resize(blocks(channels) * BLOCK, 0.0);
                let residual = side(pixels, &residual);
                let epilogue = Epilogue {
                    row_bias: None,
                    column_bias: Some(&padded_bias),
                    residual: Some(&residual),
                    activation,
                };
                let mut out = vec![f32::NAN; residual.len()];
                let packed = depthwise_weights(channels, shape.taps(), &weights);
                let x = side(shape.input_pixels(), &x);
                Depthwise::new(simd, &shape).run(&packed, &x, &mut out, &epilogue, &pool);
                let mut got = vec![f32::NAN; want.len()];
                from_blocked((batch, channels, pixels), &out, &mut got, &pool);
                assert_close(&got, &want, 1e-5, &format!("{simd:?} {shape:?}"));
            }
        }
    }
}
