//! Depthwise convolutions: a task is a strip of output lines of one block of channels; taps are multiplied two at a time.
#![allow(clippy::wildcard_imports, reason = "intrinsics have names of their own")]
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at each function")]

use super::form::{Form, pair};
use super::stage::fill;
use super::{Codes, QuantizedWeights};
use crate::detect::Simd;
use crate::kernel::SharedMut;
use crate::kernel::blocked::{BLOCK, blocks};
use crate::kernel::conv::ConvShape;
use crate::pool::Pool;
use std::ops::Range;

/// A prepared depthwise convolution over two spatial axes.
#[derive(Clone, Debug)]
pub struct QuantizedDepthwise {
    shape: ConvShape,
    simd: Simd,
    threads: usize,
    strip: usize,
    stage_rows: usize,
    stage_columns: usize,
}

/// Bytes of a staged strip: what stays in the first-level cache.
const STAGE: usize = 20 << 10;
/// Pixels of a tile.
const PIXELS: usize = 4;

impl QuantizedDepthwise {
    /// Whether a convolution can run here: as many groups as channels and filters, two spatial axes.
    pub fn does(shape: &ConvShape) -> bool {
        shape.groups == shape.channels
            && shape.filters == shape.channels
            && shape.input_step == [1; 3]
            && (shape.input[0], shape.kernel[0]) == (1, 1)
            && (shape.pads_begin[0], shape.pads_end[0]) == (0, 0)
    }

    /// Prepares a convolution for pools of up to `threads` threads.
    ///
    /// # Panics
    /// When it is none that [`QuantizedDepthwise::does`].
    pub fn new(simd: Simd, threads: usize, shape: &ConvShape) -> QuantizedDepthwise {
        assert!(Self::does(shape), "a convolution for another kernel");
        let [_, height, width] = shape.output();
        let stage_columns = (width.max(1) - 1) * shape.stride[2] + shape.window(2);
        let rows_of = |n: usize| (n.max(1) - 1) * shape.stride[1] + shape.window(1);
        let fits = |n: &usize| rows_of(*n) * stage_columns * BLOCK * 2 <= STAGE;
        let strip = (1..=height.max(1)).take_while(fits).last().unwrap_or(1);
        QuantizedDepthwise {
            shape: *shape,
            simd: simd.at_most(),
            threads: threads.max(1),
            strip,
            stage_rows: rows_of(strip),
            stage_columns,
        }
    }

    fn per_thread(&self) -> usize {
        (self.stage_rows * self.stage_columns * BLOCK / 2).next_multiple_of(BLOCK)
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        self.per_thread() * self.threads
    }

    /// Computes the convolution of codes in blocks of channels as codes in blocks.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says, the weights are another convolution's, or the pool has more
    /// threads than prepared for.
    pub fn run(
        &self,
        weights: &QuantizedWeights,
        input: Codes<'_>,
        output: &mut [u8],
        scratch: &mut [i32],
        pool: &Pool,
    ) {
        let s = &self.shape;
        assert!(weights.are_for(self.simd, 0, s), "weights of another convolution");
        let [_, height, width] = s.output();
        let (image, result) = (s.input_pixels() * BLOCK, height * width * BLOCK);
        let planes = s.batch * blocks(s.channels);
        assert!(input.bytes.len() >= planes * image, "input shorter than its shape");
        assert!(output.len() >= planes * result, "output shorter than its shape");
        assert!(scratch.len() >= self.scratch_len(), "scratch too short");
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        if result == 0 {
            return;
        }
        let strips = height.div_ceil(self.strip);
        let (out, stages) = (SharedMut::new(output), SharedMut::new(scratch));
        pool.parallel_for(planes * strips, |task, thread| {
            let (plane, strip) = (task / strips, task % strips);
            let lines = strip * self.strip..((strip + 1) * self.strip).min(height);
            let bytes = &input.bytes[plane * image..(plane + 1) * image];
            // SAFETY: planes are within the slices (checked above); a task writes its own lines, and each thread its own
            // part of the scratch.
            unsafe {
                let stage = stages.get().add(thread * self.per_thread()).cast::<i16>();
                let x = Codes { bytes, ..input };
                let rows = (lines.len() - 1) * s.stride[1] + s.window(1);
                let own = std::slice::from_raw_parts_mut(stage, rows * self.stage_columns * BLOCK);
                let first = lines.start * s.stride[1];
                fill(self.simd, x, s, (first, rows), self.stage_columns, own);
                let y = out.get().add(plane * result);
                let block = plane % blocks(s.channels);
                match weights.form {
                    #[cfg(target_arch = "x86_64")]
                    Form::PairsAvx2 => self.lines_avx2(weights, block, &lines, stage, y),
                    #[cfg(not(target_arch = "x86_64"))]
                    Form::PairsAvx2 => self.lines_plain(weights, block, &lines, stage, y),
                    Form::Pairs => self.lines_plain(weights, block, &lines, stage, y),
                }
            }
        });
    }

    /// Where in the stage tap `tap` of the first output pixel of the strip lies; past the last tap that of the last.
    fn offset(&self, tap: usize) -> usize {
        let s = &self.shape;
        let tap = tap.min(s.taps() - 1);
        let (row, column) = (tap / s.kernel[2] * s.dilation[1], tap % s.kernel[2] * s.dilation[2]);
        (row * self.stage_columns + column) * BLOCK
    }

    /// # Safety
    /// The stage is filled for `lines`, `y` is the plane of the result.
    unsafe fn lines_plain(
        &self,
        weights: &QuantizedWeights,
        block: usize,
        lines: &Range<usize>,
        stage: *const i16,
        y: *mut u8,
    ) {
        let s = &self.shape;
        let groups = s.taps().div_ceil(Form::GROUP);
        let w = &weights.data[block * groups * BLOCK..];
        let width = s.output()[2];
        for line in lines.clone() {
            let row = (line - lines.start) * s.stride[1] * self.stage_columns;
            for column in 0..width {
                let x = stage.add((row + column * s.stride[2]) * BLOCK);
                let mut sums = [0i32; BLOCK];
                for (lane, sum) in sums.iter_mut().enumerate() {
                    *sum = weights.finish.bias[block * BLOCK + lane];
                    for group in 0..groups {
                        let at = |tap: usize| i32::from(*x.add(self.offset(tap) + lane));
                        let (values, w) =
                            (pair(at(group * 2), at(group * 2 + 1)), w[group * BLOCK + lane]);
                        let products = i32::from(values as i16) * i32::from(w as i16)
                            + (values >> 16) * (w >> 16);
                        *sum = sum.wrapping_add(products);
                    }
                }
                let to = y.add((line * width + column) * BLOCK);
                weights.finish.write(block * BLOCK, sums.as_ptr(), 1, to);
            }
        }
    }

    /// # Safety
    /// As [`QuantizedDepthwise::lines_plain`]; the CPU has AVX2.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn lines_avx2(
        &self,
        weights: &QuantizedWeights,
        block: usize,
        lines: &Range<usize>,
        stage: *const i16,
        y: *mut u8,
    ) {
        use std::arch::x86_64::*;
        let s = &self.shape;
        let groups = s.taps().div_ceil(Form::GROUP);
        let w = weights.data.as_ptr().add(block * groups * BLOCK);
        let bias = weights.finish.bias.as_ptr().add(block * BLOCK);
        let bias = [_mm256_loadu_si256(bias.cast()), _mm256_loadu_si256(bias.add(8).cast())];
        let width = s.output()[2];
        let step = s.stride[2] * BLOCK;
        let offsets: Vec<[usize; 2]> =
            (0..groups).map(|g| [self.offset(g * 2), self.offset(g * 2 + 1)]).collect();
        let mut sums = [0i32; PIXELS * BLOCK];
        for line in lines.clone() {
            let row = (line - lines.start) * s.stride[1] * self.stage_columns;
            let mut column = 0;
            while column < width {
                // The last tile of a line begins earlier where the line is long enough: pixels twice, to the same end.
                let pixels = PIXELS.min(width);
                let first = column.min(width - pixels);
                let x = stage.add(row * BLOCK + first * step);
                let mut acc = [bias; PIXELS];
                if pixels == PIXELS {
                    for (g, &[one, two]) in offsets.iter().enumerate() {
                        let w0 = _mm256_loadu_si256(w.add(g * BLOCK).cast());
                        let w1 = _mm256_loadu_si256(w.add(g * BLOCK + 8).cast());
                        for (p, acc) in acc.iter_mut().enumerate() {
                            let a = _mm256_loadu_si256(x.add(one + p * step).cast());
                            let b = _mm256_loadu_si256(x.add(two + p * step).cast());
                            let (low, high) =
                                (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
                            acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(low, w0));
                            acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(high, w1));
                        }
                    }
                } else {
                    for (g, &[one, two]) in offsets.iter().enumerate() {
                        let w0 = _mm256_loadu_si256(w.add(g * BLOCK).cast());
                        let w1 = _mm256_loadu_si256(w.add(g * BLOCK + 8).cast());
                        for (p, acc) in acc.iter_mut().enumerate().take(pixels) {
                            let a = _mm256_loadu_si256(x.add(one + p * step).cast());
                            let b = _mm256_loadu_si256(x.add(two + p * step).cast());
                            let (low, high) =
                                (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
                            acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(low, w0));
                            acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(high, w1));
                        }
                    }
                }
                for (p, acc) in acc.iter().enumerate() {
                    _mm256_storeu_si256(sums.as_mut_ptr().add(p * BLOCK).cast(), acc[0]);
                    _mm256_storeu_si256(sums.as_mut_ptr().add(p * BLOCK + 8).cast(), acc[1]);
                }
                let to = y.add((line * width + first) * BLOCK);
                weights.finish.write(block * BLOCK, sums.as_ptr(), pixels, to);
                column = first + pixels;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, random_shape};
    use super::*;
    use crate::kernel::testing::{Random, rounds};

    #[test]
    fn random_shapes_equal_the_definition() {
        let mut random = Random::new(0x1D9);
        for simd in Simd::available() {
            let mut done = 0;
            while done < rounds(40) {
                let channels = 1 + random.below(40);
                let Some(shape) = random_shape(&mut random, channels, true) else { continue };
                let case = Case::new(&mut random, &shape);
                let weights = QuantizedWeights::depthwise(simd, &shape, &case.requantize(), &|i| {
                    case.weight(i)
                });
                let conv = QuantizedDepthwise::new(simd, case.pool.threads(), &shape);
                let mut scratch = vec![-1; conv.scratch_len()];
                let mut out = vec![77u8; case.output_len()];
                let input = case.in_blocks();
                conv.run(&weights, case.codes(&input), &mut out, &mut scratch, &case.pool);
                case.check(&out, &format!("{simd:?} {shape:?}"));
                done += 1;
            }
        }
    }
}
