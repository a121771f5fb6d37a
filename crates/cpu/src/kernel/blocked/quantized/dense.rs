//! Convolutions of one group: a task is a strip of output lines by some blocks of filters.
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at `Task::run`")]

use super::form::Form;
use super::tile::{MOST_PIXELS, Reach};
use super::weights::FEW;
use super::{Codes, QuantizedWeights};
use crate::detect::{Caches, Simd};
use crate::kernel::SharedMut;
use crate::kernel::blocked::cut::{Cut, Work};
use crate::kernel::blocked::{BLOCK, blocks};
use crate::kernel::conv::ConvShape;
use crate::pool::Pool;
use std::ops::Range;

/// How an image stands in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[c/16, h, w, 16]`, the result too.
    Blocks,
    /// `[c, h, w]` of few channels; the result in blocks.
    Planes,
    /// `[h, w, c]`, the result too: rows of a matrix.
    Pixels,
}

impl Layout {
    /// Channels that stand together once staged.
    pub(super) fn block(self) -> usize {
        if self == Layout::Planes { FEW } else { BLOCK }
    }

    /// Elements of the channels of a pixel, as operand or result.
    fn channels(self, channels: usize) -> usize {
        if self == Layout::Blocks { blocks(channels) * BLOCK } else { channels }
    }
}

/// A prepared convolution of one group and two spatial axes.
#[derive(Clone, Debug)]
pub struct QuantizedDense {
    shape: ConvShape,
    simd: Simd,
    threads: usize,
    layout: Layout,
    /// One tap: what is read for one pixel follows what is read for the one before.
    pointwise: bool,
    /// Lines are runs of pixels, whatever the rows of the image.
    linear: bool,
    lines: usize,
    width: usize,
    pixels: usize,
    cut: Cut,
    /// Rows and columns of a staged strip.
    stage_rows: usize,
    stage_columns: usize,
}

impl QuantizedDense {
    /// Whether a convolution can run here: one group, two spatial axes; few channels in planes, one tap on pixels.
    pub fn does(shape: &ConvShape, layout: Layout) -> bool {
        shape.groups == 1
            && shape.input_step == [1; 3]
            && (shape.input[0], shape.kernel[0]) == (1, 1)
            && (shape.pads_begin[0], shape.pads_end[0]) == (0, 0)
            && (layout != Layout::Planes || shape.channels <= FEW)
            && (layout != Layout::Pixels || shape.taps() == 1)
            && shape.channels > 0
    }

    /// Prepares a convolution for pools of up to `threads` threads.
    ///
    /// # Panics
    /// When it is none that [`QuantizedDense::does`].
    pub fn new(simd: Simd, threads: usize, shape: &ConvShape, layout: Layout) -> QuantizedDense {
        assert!(Self::does(shape, layout), "a convolution for another kernel");
        let (simd, threads) = (simd.at_most(), threads.max(1));
        let form = Form::of(simd);
        let [_, height, width] = shape.output();
        let pixels = height * width;
        let pointwise = shape.taps() == 1 && layout != Layout::Planes;
        let linear = pointwise && !shape.is_padded() && shape.stride[1..] == [1, 1];
        let (lines, width) = if linear {
            // A thread's share at most, so that each can have pixels of its own.
            let share = pixels.div_ceil(threads).max(form.pixels());
            let count = pixels.div_ceil((8 * form.pixels()).min(share)).max(1);
            let line = pixels.div_ceil(count);
            (pixels.div_ceil(line.max(1)), line)
        } else {
            (height, width)
        };
        let block = layout.block();
        let input_blocks = shape.channels.div_ceil(block);
        let stage_columns =
            if pointwise { width } else { (width.max(1) - 1) * shape.stride[2] + shape.window(2) };
        let rows_of = |n: usize| {
            if pointwise { n } else { (n.max(1) - 1) * shape.stride[1] + shape.window(1) }
        };
        let staged = |n: usize| rows_of(n) * stage_columns * input_blocks * block * 2;
        let (_, l2) = Caches::detect_once().for_blocking();
        let budget = l2 * 3 / 8;
        let whole = staged(lines.max(1));
        let tiles = blocks(shape.filters);
        let depth = input_blocks * block * shape.taps();
        let cut = Cut::new(&Work {
            threads,
            batch: shape.batch,
            lines: lines.max(1),
            tiles: tiles.max(1),
            least_strips: whole.div_ceil(budget).clamp(1, lines.max(1)),
            products: width * BLOCK * depth / (4 * simd.lanes()),
            input: whole,
            weights: tiles * BLOCK * depth * 2,
            budget,
        });
        QuantizedDense {
            shape: *shape,
            simd,
            threads,
            layout,
            pointwise,
            linear,
            lines,
            width,
            pixels,
            cut,
            stage_rows: rows_of(cut.strip),
            stage_columns,
        }
    }

    fn block(&self) -> usize {
        self.layout.block()
    }

    fn per_thread(&self) -> usize {
        let blocks = self.shape.channels.div_ceil(self.block());
        let groups = self.block() / Form::GROUP;
        (self.stage_rows * self.stage_columns * blocks * groups).next_multiple_of(BLOCK)
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        self.per_thread() * self.threads
    }

    /// What was chosen, for `explain`.
    pub fn describe(&self) -> String {
        let Cut { strip, filter_tiles, .. } = self.cut;
        format!("{strip} lines × {filter_tiles} blocks of filters a task")
    }

    /// Computes the convolution of codes that stand as its layout says.
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
        assert!(weights.are_for(self.simd, self.block(), s), "weights of another convolution");
        let image = self.layout.channels(s.channels) * s.input_pixels();
        let result = match self.layout {
            Layout::Pixels => s.filters,
            Layout::Blocks | Layout::Planes => blocks(s.filters) * BLOCK,
        } * self.pixels;
        assert!(input.bytes.len() >= s.batch * image, "input shorter than its shape");
        assert!(output.len() >= s.batch * result, "output shorter than its shape");
        assert!(scratch.len() >= self.scratch_len(), "scratch too short");
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        if result == 0 || s.batch == 0 {
            return;
        }
        let tiles = blocks(s.filters);
        let (strips, parts) =
            (self.lines.div_ceil(self.cut.strip), tiles.div_ceil(self.cut.filter_tiles));
        let (out, stages) = (SharedMut::new(output), SharedMut::new(scratch));
        pool.parallel_for(s.batch * strips * parts, |task, thread| {
            let index = task / (strips * parts);
            let (strip, part) = if self.cut.parts_first {
                (task % strips, task / strips % parts)
            } else {
                (task / parts % strips, task % parts)
            };
            let lines = strip * self.cut.strip..((strip + 1) * self.cut.strip).min(self.lines);
            let tiles =
                part * self.cut.filter_tiles..((part + 1) * self.cut.filter_tiles).min(tiles);
            let bytes = &input.bytes[index * image..(index + 1) * image];
            // SAFETY: images are within the slices (checked above); a task writes its own lines and filters, and each
            // thread its own part of the scratch.
            unsafe {
                let task = Task {
                    conv: self,
                    weights,
                    x: Codes { bytes, ..input },
                    y: out.get().add(index * result),
                    stage: stages.get().add(thread * self.per_thread()),
                };
                task.run(lines, tiles);
            }
        });
    }
}

/// One task.
struct Task<'a> {
    conv: &'a QuantizedDense,
    weights: &'a QuantizedWeights,
    x: Codes<'a>,
    y: *mut u8,
    stage: *mut i32,
}

impl Task<'_> {
    /// Output lines `lines` of the filters of blocks `tiles`.
    ///
    /// # Safety
    /// The result holds an image, the stage what [`QuantizedDense::per_thread`] asks for, and nobody else writes either's part.
    unsafe fn run(&self, lines: Range<usize>, tiles: Range<usize>) {
        let c = self.conv;
        let s = &c.shape;
        let form = self.weights.form;
        let (block, taps) = (c.block(), s.taps());
        let groups = block / Form::GROUP;
        let input_blocks = s.channels.div_ceil(block);
        self.fill(&lines);
        let last = (s.channels - (input_blocks - 1) * block).div_ceil(Form::GROUP);
        // Taps of one row follow each other in the stage as in the weights: one long tap, where all channels are read.
        let joined = if s.dilation[2] == 1 && last == groups { s.kernel[2] } else { 1 };
        let offsets: Vec<(usize, usize)> = (0..taps)
            .step_by(joined)
            .map(|tap| {
                let (row, column) =
                    (tap / s.kernel[2] * s.dilation[1], tap % s.kernel[2] * s.dilation[2]);
                ((row * c.stage_columns + column) * groups, tap * groups * BLOCK)
            })
            .collect();
        let step = if c.pointwise { groups } else { s.stride[2] * groups };
        let w_block = taps * groups * BLOCK;
        let mut sums = Sums([0; MOST_PIXELS * BLOCK]);
        for tile in tiles {
            let w = self.weights.data.as_ptr().add(tile * input_blocks * w_block);
            let bias = self.weights.finish.bias.as_ptr().add(tile * BLOCK);
            let mut line = lines.start;
            while line < lines.end {
                // Of one tap all pixels of the strip are one run.
                let until = if c.pointwise { lines.end } else { line + 1 };
                let start = line * c.width;
                let count = (until * c.width).min(c.pixels) - start;
                let seen = self.seen(line);
                let reach = Reach {
                    blocks: input_blocks,
                    last: last * joined,
                    block: groups * joined,
                    x_block: c.stage_rows * c.stage_columns * groups,
                    w_block,
                    taps: &offsets[seen.start / joined..seen.end / joined],
                    step,
                };
                let row = (line - lines.start) * if c.pointwise { 1 } else { s.stride[1] };
                let x = self.stage.cast_const().add(row * c.stage_columns * groups);
                let parts = count.div_ceil(form.pixels());
                let mut pixel = 0;
                for part in 0..parts {
                    let pixels = count / parts + usize::from(part < count % parts);
                    let sums = sums.0.as_mut_ptr();
                    form.tile(pixels)(&reach, x.add(pixel * step), w, bias, sums);
                    self.write(tile, start + pixel, pixels, sums);
                    pixel += pixels;
                }
                line = until;
            }
        }
    }

    /// Codes of `pixels` times 16 sums from pixel `first` on.
    ///
    /// # Safety
    /// As [`Task::run`].
    #[inline(always)]
    unsafe fn write(&self, tile: usize, first: usize, pixels: usize, sums: *const i32) {
        let (c, finish) = (self.conv, &self.weights.finish);
        if c.layout != Layout::Pixels {
            let to = self.y.add((tile * c.pixels + first) * BLOCK);
            return finish.write(tile * BLOCK, sums, pixels, to);
        }
        let mut codes = [0u8; MOST_PIXELS * BLOCK];
        finish.write(tile * BLOCK, sums, pixels, codes.as_mut_ptr());
        let filters = c.shape.filters;
        let own = BLOCK.min(filters - tile * BLOCK);
        for (p, codes) in codes.chunks_exact(BLOCK).take(pixels).enumerate() {
            let to = self.y.add((first + p) * filters + tile * BLOCK);
            to.copy_from_nonoverlapping(codes.as_ptr(), own);
        }
    }

    /// The taps whose rows lie within the input for an output line; the others see padding only, which adds nothing.
    fn seen(&self, line: usize) -> Range<usize> {
        let s = &self.conv.shape;
        if self.conv.pointwise {
            return 0..1;
        }
        let row = |kernel: usize| {
            (line * s.stride[1] + kernel * s.dilation[1]) as isize - s.pads_begin[1]
        };
        let below = (0..s.kernel[1]).filter(|&k| row(k) < 0).count();
        let within = (0..s.kernel[1]).filter(|&k| row(k) < s.input[1] as isize).count();
        below * s.kernel[2]..within.max(below) * s.kernel[2]
    }

    /// Copies what `lines` read to the stage, with the padding around it.
    ///
    /// # Safety
    /// As [`Task::run`].
    unsafe fn fill(&self, lines: &Range<usize>) {
        let c = self.conv;
        let s = &c.shape;
        let block = c.block();
        let input_blocks = s.channels.div_ceil(block);
        let line_len = c.stage_columns * block;
        let stage = self.stage.cast::<i16>();
        for b in 0..input_blocks {
            let plane = stage.add(b * c.stage_rows * line_len);
            if c.layout == Layout::Pixels {
                let own = block.min(s.channels - b * block);
                for pixel in 0..(lines.end * c.width).min(c.pixels) - lines.start * c.width {
                    let to = plane.add(pixel * block);
                    let from = (lines.start * c.width + pixel) * s.channels + b * block;
                    self.widen(from, own, to);
                    to.add(own).write_bytes(0, block - own);
                }
                continue;
            }
            if c.linear {
                let start = lines.start * c.width;
                let count = (lines.end * c.width).min(c.pixels) - start;
                let from = (b * s.input_pixels() + start) * block;
                self.widen(from, count * block, plane);
                continue;
            }
            let rows = if c.pointwise {
                lines.len()
            } else {
                (lines.len() - 1) * s.stride[1] + s.window(1)
            };
            for r in 0..rows {
                let to = plane.add(r * line_len);
                let row = if c.pointwise {
                    (lines.start + r) * s.stride[1]
                } else {
                    lines.start * s.stride[1] + r
                };
                let row = row as isize - s.pads_begin[1];
                if !(0..s.input[1] as isize).contains(&row) {
                    to.write_bytes(0, line_len);
                    continue;
                }
                let row = row as usize;
                if c.pointwise {
                    for column in 0..c.width {
                        let from = (column * s.stride[2]) as isize - s.pads_begin[2];
                        let to = to.add(column * block);
                        if (0..s.input[2] as isize).contains(&from) {
                            let from = (b * s.input[1] + row) * s.input[2] + from as usize;
                            self.widen(from * block, block, to);
                        } else {
                            to.write_bytes(0, block);
                        }
                    }
                    continue;
                }
                // Columns of the stage before the input, of the input, and behind it.
                let left = s.pads_begin[2].clamp(0, c.stage_columns as isize) as usize;
                let skipped = (-s.pads_begin[2]).max(0) as usize;
                let own = s.input[2].saturating_sub(skipped).min(c.stage_columns - left);
                to.write_bytes(0, left * block);
                let inner = to.add(left * block);
                if c.layout == Layout::Planes {
                    let planes = std::array::from_fn(|channel| {
                        let from = (channel * s.input[1] + row) * s.input[2] + skipped;
                        if channel < s.channels { &self.x.bytes[from..from + own] } else { &[] }
                    });
                    let inner = std::slice::from_raw_parts_mut(inner.cast(), own);
                    super::form::interleave(c.simd, self.x, planes, inner);
                } else {
                    let from = (b * s.input[1] + row) * s.input[2] + skipped;
                    self.widen(from * block, own * block, inner);
                }
                inner.add(own * block).write_bytes(0, line_len - (left + own) * block);
            }
        }
    }

    /// Codes from `from` on as 16-bit numbers less their zero point.
    ///
    /// # Safety
    /// `to` is writable for `count` elements.
    #[inline(always)]
    unsafe fn widen(&self, from: usize, count: usize, to: *mut i16) {
        super::form::widen(self.conv.simd, self.x, from, std::slice::from_raw_parts_mut(to, count));
    }
}

/// The sums of the largest tile, on its own cache lines.
#[repr(align(64))]
struct Sums([i32; MOST_PIXELS * BLOCK]);

#[cfg(test)]
mod tests {
    use super::super::testing::{Case, random_shape};
    use super::*;
    use crate::kernel::testing::{Random, rounds};

    #[test]
    fn random_shapes_equal_the_definition() {
        let mut random = Random::new(0x1D8);
        for simd in Simd::available() {
            let mut done = 0;
            while done < rounds(60) {
                let layout = [Layout::Blocks, Layout::Blocks, Layout::Planes, Layout::Pixels]
                    [random.below(4)];
                let few = layout == Layout::Planes;
                let channels = 1 + random.below(if few { 4 } else { 67 });
                let Some(shape) = random_shape(&mut random, channels, false) else { continue };
                if !QuantizedDense::does(&shape, layout)
                    || (layout == Layout::Pixels && (shape.is_padded() || shape.stride != [1; 3]))
                {
                    continue;
                }
                let case = Case::new(&mut random, &shape);
                let weights =
                    QuantizedWeights::dense(simd, &shape, layout, &case.requantize(), &|i| {
                        case.weight(i)
                    });
                let conv = QuantizedDense::new(simd, case.pool.threads(), &shape, layout);
                let input = match layout {
                    Layout::Blocks => case.in_blocks(),
                    Layout::Planes => case.input.clone(),
                    Layout::Pixels => case.in_pixels(),
                };
                let mut scratch = vec![-1; conv.scratch_len()];
                let mut out = vec![77u8; case.output_len()];
                conv.run(&weights, case.codes(&input), &mut out, &mut scratch, &case.pool);
                if layout == Layout::Pixels {
                    out = case.pixels_in_blocks(&out);
                }
                case.check(&out, &format!("{simd:?} {layout:?} {shape:?}"));
                done += 1;
            }
        }
    }
}
