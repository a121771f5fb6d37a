//! Convolution with channels last (`batch × height × width × channels`), the layout of TensorFlow exports.
//!
//! The patches are the left side of the product (one row a pixel, channels contiguous), the weights a packed right side, and the
//! result is written channels last as it is. Depthwise is a loop over taps with vectors along the channels.
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is `SourceA`'s")]

use super::ConvShape;
use crate::detect::Simd;
use crate::kernel::activation::activate_rows;
use crate::kernel::gemm::blocks::{Blocks, Out, SideA, SideB, SourceA};
use crate::kernel::gemm::{Epilogue, Matrix, PackedB};
use crate::kernel::{Scratch, SharedMut};
use crate::pool::Pool;
use crate::simd::{Task, Vector, dispatch};
use std::ops::Range;

/// A prepared channels-last convolution; owns its packed weights.
#[derive(Clone, Debug)]
pub struct ConvNhwc {
    shape: ConvShape,
    simd: Simd,
    threads: usize,
    method: Method,
}

#[derive(Clone, Debug)]
enum Method {
    Product {
        weights: Vec<PackedB>,
        blocks: Blocks,
    },
    /// `taps × filters`, one input channel a filter.
    Depthwise {
        weights: Vec<f32>,
    },
}

impl ConvNhwc {
    /// Prepares a convolution; `weights` are `filters × channels/groups × kernel`, as for [`super::Conv`].
    ///
    /// # Panics
    /// When there are not as many weights as the shape says, or the shape is that of a transposed convolution.
    pub fn new(simd: Simd, threads: usize, shape: &ConvShape, weights: &[f32]) -> Self {
        assert_eq!(weights.len(), shape.weights_len(), "weights of the convolution");
        assert_eq!(shape.input_step, [1; 3], "transposed convolution has channels first");
        let (simd, threads) = (simd.at_most(), threads.max(1));
        let (channels, filters, taps) =
            (shape.channels / shape.groups, shape.filters / shape.groups, shape.taps());
        let method = if channels == 1 && filters == 1 && shape.groups > 1 {
            let mut by_tap = vec![0.0; weights.len()];
            for (i, &w) in weights.iter().enumerate() {
                by_tap[i % taps * shape.filters + i / taps] = w;
            }
            Method::Depthwise { weights: by_tap }
        } else {
            let k = channels * taps;
            let group = |g: usize| {
                // Row (tap, channel), column filter.
                let mut by_patch = vec![0.0; k * filters];
                for f in 0..filters {
                    for c in 0..channels {
                        for t in 0..taps {
                            by_patch[(t * channels + c) * filters + f] =
                                weights[((g * filters + f) * channels + c) * taps + t];
                        }
                    }
                }
                PackedB::new(simd, k, filters, &Matrix::row_major(&by_patch, filters))
            };
            let size = (shape.batch * shape.output_pixels(), filters, k);
            let blocks = Blocks::new(simd, size, shape.groups, threads, (true, false));
            Method::Product { weights: (0..shape.groups).map(group).collect(), blocks }
        };
        Self { shape: *shape, simd, threads, method }
    }

    fn per_thread(&self) -> usize {
        match &self.method {
            Method::Product { blocks, .. } => blocks.scratch_per_thread(),
            Method::Depthwise { .. } => 0,
        }
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        Scratch::len(self.per_thread(), self.threads)
    }

    /// Computes the convolution. The epilogue's `column_bias` is one value a filter; `row_bias` is not used.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says, or the pool has more threads than prepared for.
    pub fn run(
        &self,
        input: &[f32],
        output: &mut [f32],
        epilogue: &Epilogue<'_>,
        scratch: &mut [f32],
        pool: &Pool,
    ) {
        let s = &self.shape;
        let pixels = s.batch * s.output_pixels();
        assert!(
            input.len() >= s.batch * s.channels * s.input_pixels(),
            "input shorter than its shape"
        );
        assert!(output.len() >= pixels * s.filters, "output shorter than its shape");
        assert!(
            epilogue.column_bias.is_none_or(|b| b.len() >= s.filters),
            "bias shorter than the filters"
        );
        assert!(
            epilogue.residual.is_none_or(|r| r.len() >= pixels * s.filters),
            "residual shorter than the output"
        );
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        if pixels * s.filters == 0 {
            return;
        }
        let to = SharedMut::new(output);
        match &self.method {
            Method::Depthwise { weights } => {
                let unit = (100_000 / (s.filters * s.taps())).max(1);
                pool.parallel_for(pixels.div_ceil(unit), |task, _| {
                    let range = task * unit..((task + 1) * unit).min(pixels);
                    dispatch(
                        self.simd,
                        Depthwise {
                            shape: s,
                            weights,
                            input,
                            out: to.get(),
                            epilogue,
                            pixels: range.clone(),
                        },
                    );
                    if epilogue.activation.as_clamp().is_none() {
                        // SAFETY: the rows just written, still this task's.
                        unsafe {
                            let rows = to.get().add(range.start * s.filters);
                            activate_rows(
                                self.simd,
                                epilogue.activation,
                                rows,
                                1,
                                range.len() * s.filters,
                                0,
                            );
                        }
                    }
                });
            }
            Method::Product { weights, blocks } => {
                let scratch = Scratch::split(scratch, self.per_thread(), self.threads);
                let (channels, filters, tasks) =
                    (s.channels / s.groups, s.filters / s.groups, blocks.tasks());
                pool.parallel_for(tasks * s.groups, |task, thread| {
                    let group = task / tasks;
                    let patches = Patches { shape: s, data: &input[group * channels..] };
                    let epilogue = Epilogue {
                        row_bias: None,
                        column_bias: epilogue.column_bias.map(|b| &b[group * filters..]),
                        residual: epilogue.residual.map(|r| &r[group * filters..]),
                        ..*epilogue
                    };
                    // SAFETY: lengths were checked above; each task is a block of its own; the scratch part is this thread's.
                    unsafe {
                        let out = Out { c: to.get().add(group * filters), stride: s.filters };
                        let (a, b) = (SideA::Source(&patches), SideB::Packed(&weights[group]));
                        blocks.run(task % tasks, a, b, out, &epilogue, scratch.part(thread));
                    }
                });
            }
        }
    }
}

/// Offset of the input pixel under tap `tap` of output pixel `pixel`, in channels; `None` in the padding.
#[inline]
fn source(s: &ConvShape, pixel: usize, tap: usize) -> Option<usize> {
    let [_, height, width] = s.output();
    let per_image = s.output_pixels();
    let (image, p) = (pixel / per_image, pixel % per_image);
    let o = [p / (height * width), p / width % height, p % width];
    let k = [tap / (s.kernel[1] * s.kernel[2]), tap / s.kernel[2] % s.kernel[1], tap % s.kernel[2]];
    let mut index = image;
    for i in 0..3 {
        let x = (o[i] * s.stride[i] + k[i] * s.dilation[i]) as isize - s.pads_begin[i];
        if x < 0 || x as usize >= s.input[i] {
            return None;
        }
        index = index * s.input[i] + x as usize;
    }
    Some(index * s.channels)
}

/// Patches as rows: one a pixel, (tap, channel) along it.
struct Patches<'a> {
    shape: &'a ConvShape,
    data: &'a [f32],
}

impl SourceA for Patches<'_> {
    unsafe fn pack(&self, rows: Range<usize>, ks: Range<usize>, height: usize, mut to: *mut f32) {
        let channels = self.shape.channels / self.shape.groups;
        let mut row = rows.start;
        while row < rows.end {
            let h = height.min(rows.end - row);
            let mut k = ks.start;
            while k < ks.end {
                let (tap, channel) = (k / channels, k % channels);
                let n = (channels - channel).min(ks.end - k);
                for i in 0..h {
                    let line = to.add((k - ks.start) * h + i);
                    match source(self.shape, row + i, tap) {
                        Some(at) => {
                            let from = self.data.as_ptr().add(at + channel);
                            for c in 0..n {
                                *line.add(c * h) = *from.add(c);
                            }
                        }
                        None => (0..n).for_each(|c| *line.add(c * h) = 0.0),
                    }
                }
                k += n;
            }
            to = to.add(h * ks.len());
            row += h;
        }
    }
}

struct Depthwise<'a> {
    shape: &'a ConvShape,
    weights: &'a [f32],
    input: &'a [f32],
    out: *mut f32,
    epilogue: &'a Epilogue<'a>,
    pixels: Range<usize>,
}

impl Task for Depthwise<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (s, filters) = (self.shape, self.shape.filters);
        let (low, high) =
            self.epilogue.activation.as_clamp().unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        for pixel in self.pixels {
            // The taps inside the input, found once for all channels.
            let mut c = 0;
            while c < filters {
                let n = V::LANES.min(filters - c);
                // SAFETY: `n` channels from `c` of a pixel, a tap's weights, the bias and the result.
                unsafe {
                    let at = pixel * filters + c;
                    let mut sum = self
                        .epilogue
                        .column_bias
                        .map_or(V::zero(), |b| V::load_first(b.as_ptr().add(c), n));
                    for tap in 0..s.taps() {
                        if let Some(from) = source(s, pixel, tap) {
                            let x = V::load_first(self.input.as_ptr().add(from + c), n);
                            sum = x.fma(
                                V::load_first(self.weights.as_ptr().add(tap * filters + c), n),
                                sum,
                            );
                        }
                    }
                    if let Some(residual) = self.epilogue.residual {
                        sum = sum.add(V::load_first(residual.as_ptr().add(at), n));
                    }
                    sum.clamp(V::splat(low), V::splat(high)).store_first(self.out.add(at), n);
                }
                c += V::LANES;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::activation::Activation;
    use crate::kernel::conv::reference;
    use crate::kernel::testing::{Random, assert_close};

    /// `[batch, channels, pixels]` to `[batch, pixels, channels]`.
    fn channels_last(x: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
        let image = channels * pixels;
        (0..x.len())
            .map(|i| x[i / image * image + i % channels * pixels + i % image / channels])
            .collect()
    }

    #[test]
    fn channels_last_equals_channels_first() {
        let mut random = Random::new(0xD0);
        for simd in Simd::available() {
            let mut done = 0;
            while done < 60 {
                let groups = 1 + random.below(3);
                let depthwise = random.below(3) == 0;
                let (channels, filters) = if depthwise {
                    let c = 2 + random.below(20);
                    (c, c)
                } else {
                    (groups * (1 + random.below(6)), groups * (1 + random.below(40)))
                };
                let groups = if depthwise { channels } else { groups };
                let two = |random: &mut Random, low: usize, range: usize| {
                    [low + random.below(range), low + random.below(range)]
                };
                let (input, kernel) = (two(&mut random, 1, 12), two(&mut random, 1, 3));
                let (stride, dilation) = (two(&mut random, 1, 2), two(&mut random, 1, 2));
                let pads = [random.below(3) as isize, random.below(3) as isize];
                let sizes = (1 + random.below(2), channels, filters, groups);
                let shape =
                    ConvShape::new(sizes, &input, &kernel, &stride, &dilation, (&pads, &pads));
                let Some(shape) = shape else { continue };
                done += 1;
                let x = random.floats(shape.batch * channels * shape.input_pixels());
                let (weights, bias) = (random.floats(shape.weights_len()), random.floats(filters));
                let mut want = vec![0.0; shape.batch * filters * shape.output_pixels()];
                let activation = [Activation::Relu, Activation::Silu][random.below(2)];
                let epilogue =
                    Epilogue { row_bias: Some(&bias), activation, ..Epilogue::default() };
                reference(&shape, &x, &weights, &mut want, &epilogue);
                let conv = ConvNhwc::new(simd, 2, &shape, &weights);
                let (mut got, mut scratch) =
                    (vec![f32::NAN; want.len()], vec![f32::NAN; conv.scratch_len()]);
                let epilogue =
                    Epilogue { column_bias: Some(&bias), activation, ..Epilogue::default() };
                let input = channels_last(&x, channels, shape.input_pixels());
                conv.run(&input, &mut got, &epilogue, &mut scratch, &Pool::new(2));
                let want = channels_last(&want, filters, shape.output_pixels());
                assert_close(&got, &want, 2e-5, &format!("{simd:?} {shape:?}"));
            }
        }
    }
}
