//! Winograd's algorithm for 3×3 convolutions of codes, exact: 16 products for 4 results of 9 taps.
//!
//! In integers nothing rounds. The transformed input is at most 4 times as large as codes less their zero point, the transformed
//! filter, times 4 to be whole, 9 times: both fit 16 bits, so the tiles of the plain convolution multiply them. What comes out is 4
//! times the sum, modulo 2³²; a sum below 2²⁹ survives that, and weights for which it may not are none that this does.
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at each function")]

mod transform;

use super::form::{Form, pair};
use super::stage::fill;
use super::tile::{MOST_PIXELS, Reach};
use super::weights::WINOGRAD;
use super::{Codes, QuantizedWeights, Requantize};
use crate::detect::{Caches, Simd};
use crate::kernel::SharedMut;
use crate::kernel::blocked::cut::{Cut, Work};
use crate::kernel::blocked::{BLOCK, blocks};
use crate::kernel::conv::ConvShape;
use crate::pool::Pool;
use std::ops::Range;
use transform::{gather_any, transform_plain, transformed_filter};
#[cfg(target_arch = "x86_64")]
use transform::{gather_avx2, transform_avx2};

/// Products of a tile of 2×2 results, and its side in the input.
const POSITIONS: usize = 16;
const SIDE: usize = 4;
/// The largest element of the input.
const MOST: i64 = 255;
/// With fewer channels or filters the transforms cost more than they save.
const FEWEST: usize = 32;

/// A prepared convolution.
#[derive(Clone, Debug)]
pub struct QuantizedWinograd {
    shape: ConvShape,
    simd: Simd,
    threads: usize,
    /// Tiles down and across.
    tiles: (usize, usize),
    cut: Cut,
}

impl QuantizedWinograd {
    /// Whether a convolution can run here and takes less time so.
    pub fn pays(simd: Simd, shape: &ConvShape) -> bool {
        let [_, height, width] = shape.output();
        Form::of(simd.at_most()) == Form::PairsAvx2
            && shape.channels >= FEWEST
            && shape.filters >= FEWEST
            && height.min(width) >= 4
            && Self::does(shape)
    }

    fn does(shape: &ConvShape) -> bool {
        shape.groups == 1
            && shape.kernel == [1, 3, 3]
            && shape.stride == [1; 3]
            && shape.dilation[1..] == [1, 1]
            && shape.input_step == [1; 3]
            && shape.input[0] == 1
            && (shape.pads_begin[0], shape.pads_end[0]) == (0, 0)
    }

    /// Weights for it, or `None` where sums may leave what the algorithm keeps of them.
    pub fn weights(
        simd: Simd,
        shape: &ConvShape,
        requantize: &Requantize<'_>,
        read: &dyn Fn(usize) -> i32,
    ) -> Option<QuantizedWeights> {
        let per_filter = shape.channels * shape.taps();
        let largest = (0..shape.filters)
            .map(|f| {
                let own = f * per_filter..(f + 1) * per_filter;
                MOST * own.map(|i| i64::from(read(i).abs())).sum::<i64>()
            })
            .max();
        if !Self::does(shape) || largest? >= 1 << 29 {
            return None;
        }
        Some(QuantizedWeights::transformed(simd, shape, requantize, &|filter, channel| {
            let own = (filter * shape.channels + channel) * shape.taps();
            transformed_filter(std::array::from_fn(|i| read(own + i)))
        }))
    }

    /// Prepares a convolution for pools of up to `threads` threads.
    ///
    /// # Panics
    /// When it is none that this does.
    pub fn new(simd: Simd, threads: usize, shape: &ConvShape) -> QuantizedWinograd {
        assert!(Self::does(shape), "a convolution for another kernel");
        let (simd, threads) = (simd.at_most(), threads.max(1));
        let [_, height, width] = shape.output();
        let tiles = (height.div_ceil(2), width.div_ceil(2));
        let depth = blocks(shape.channels) * BLOCK;
        let line = POSITIONS * tiles.1 * depth * 2;
        let (_, l2) = Caches::detect_once().for_blocking();
        let budget = l2 * 3 / 8;
        let cut = Cut::new(&Work {
            threads,
            batch: shape.batch,
            lines: tiles.0.max(1),
            tiles: blocks(shape.filters).max(1),
            least_strips: (line * tiles.0).div_ceil(budget).clamp(1, tiles.0.max(1)),
            products: tiles.1 * POSITIONS * BLOCK * depth / (4 * simd.lanes()),
            input: line * tiles.0,
            weights: blocks(shape.filters) * BLOCK * POSITIONS * depth * 2,
            budget,
        });
        QuantizedWinograd { shape: *shape, simd, threads, tiles, cut }
    }

    /// Elements (of 32 bits) of a strip's lines as they are, and transformed.
    fn parts(&self) -> (usize, usize) {
        let columns = 2 * self.tiles.1 + 2;
        let lines = (2 * self.cut.strip + 2) * columns * BLOCK / 2;
        let blocks = blocks(self.shape.channels);
        (
            lines.next_multiple_of(BLOCK),
            POSITIONS * blocks * self.cut.strip * self.tiles.1 * BLOCK / 2,
        )
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        let (lines, transformed) = self.parts();
        (lines + transformed) * self.threads
    }

    /// What was chosen, for `explain`.
    pub fn describe(&self) -> String {
        let Cut { strip, filter_tiles, .. } = self.cut;
        format!("tiles of 2 × 2, {strip} lines of them × {filter_tiles} blocks of filters a task")
    }

    /// Computes the convolution of codes in blocks as codes in blocks.
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
        assert!(weights.are_for(self.simd, WINOGRAD, s), "weights of another convolution");
        let image = blocks(s.channels) * BLOCK * s.input_pixels();
        let result = blocks(s.filters) * BLOCK * s.output_pixels();
        assert!(input.bytes.len() >= s.batch * image, "input shorter than its shape");
        assert!(output.len() >= s.batch * result, "output shorter than its shape");
        assert!(scratch.len() >= self.scratch_len(), "scratch too short");
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        if result == 0 || s.batch == 0 {
            return;
        }
        let filter_blocks = blocks(s.filters);
        let strips = self.tiles.0.div_ceil(self.cut.strip);
        let parts = filter_blocks.div_ceil(self.cut.filter_tiles);
        let (lines_len, transformed_len) = self.parts();
        let (out, all) = (SharedMut::new(output), SharedMut::new(scratch));
        pool.parallel_for(s.batch * strips * parts, |task, thread| {
            let index = task / (strips * parts);
            let (strip, part) = if self.cut.parts_first {
                (task % strips, task / strips % parts)
            } else {
                (task / parts % strips, task % parts)
            };
            let lines = strip * self.cut.strip..((strip + 1) * self.cut.strip).min(self.tiles.0);
            let filters = part * self.cut.filter_tiles
                ..((part + 1) * self.cut.filter_tiles).min(filter_blocks);
            let bytes = &input.bytes[index * image..(index + 1) * image];
            // SAFETY: images are within the slices (checked above); a task writes its own lines and filters, and each
            // thread its own part of the scratch.
            unsafe {
                let own = all.get().add(thread * (lines_len + transformed_len));
                let transformed = own.add(lines_len);
                let stage = std::slice::from_raw_parts_mut(own.cast::<i16>(), 2 * lines_len);
                self.transform(Codes { bytes, ..input }, &lines, stage, transformed.cast());
                let y = out.get().add(index * result);
                self.multiply(weights, &lines, filters, transformed, y);
            }
        });
    }

    /// The tiles of `lines`, transformed: `[position][block][tile][channel]`.
    ///
    /// # Safety
    /// `to` is writable for the strip's tiles.
    unsafe fn transform(
        &self,
        x: Codes<'_>,
        lines: &Range<usize>,
        stage: &mut [i16],
        to: *mut i16,
    ) {
        let s = &self.shape;
        let columns = 2 * self.tiles.1 + 2;
        let count = lines.len() * self.tiles.1;
        let channel_blocks = blocks(s.channels);
        let plane = s.input_pixels() * BLOCK;
        for b in 0..channel_blocks {
            let own = Codes { bytes: &x.bytes[b * plane..(b + 1) * plane], ..x };
            fill(self.simd, own, s, (2 * lines.start, 2 * lines.len() + 2), columns, stage);
            for tile in 0..count {
                let (line, column) = (tile / self.tiles.1, tile % self.tiles.1);
                let from = stage.as_ptr().add((2 * line * columns + 2 * column) * BLOCK);
                let to = to.add((b * count + tile) * BLOCK);
                let position = channel_blocks * count * BLOCK;
                match self.simd {
                    #[cfg(target_arch = "x86_64")]
                    Simd::Avx2 | Simd::Avx512 => {
                        transform_avx2(from, columns * BLOCK, to, position);
                    }
                    _ => transform_plain(from, columns * BLOCK, to, position),
                }
            }
        }
    }

    /// # Safety
    /// `x` holds the transformed tiles of `lines`, `y` the image of the result, whose lines and filters nobody else writes.
    unsafe fn multiply(
        &self,
        weights: &QuantizedWeights,
        lines: &Range<usize>,
        filters: Range<usize>,
        x: *const i32,
        y: *mut u8,
    ) {
        let s = &self.shape;
        let form = weights.form;
        let [_, height, width] = s.output();
        let channel_blocks = blocks(s.channels);
        let groups = BLOCK / Form::GROUP;
        let count = lines.len() * self.tiles.1;
        let last = s.channels - (channel_blocks - 1) * BLOCK;
        let reach = Reach {
            blocks: channel_blocks,
            last: last.div_ceil(Form::GROUP),
            block: groups,
            x_block: count * groups,
            w_block: groups * BLOCK,
            taps: &[(0, 0)],
            step: groups,
        };
        let none = [0i32; BLOCK];
        let mut products = Products([0; POSITIONS * MOST_PIXELS * BLOCK]);
        let mut sums = [[0i32; 2 * MOST_PIXELS * BLOCK]; 2];
        for block in filters {
            let w = weights.data.as_ptr().add(block * POSITIONS * channel_blocks * groups * BLOCK);
            let bias = weights.finish.bias.as_ptr().add(block * BLOCK);
            for line in 0..lines.len() {
                let runs = self.tiles.1.div_ceil(form.pixels());
                let mut tile = 0;
                for run in 0..runs {
                    let tiles = self.tiles.1 / runs + usize::from(run < self.tiles.1 % runs);
                    let first = x.add((line * self.tiles.1 + tile) * groups);
                    for position in 0..POSITIONS {
                        let x = first.add(position * channel_blocks * count * groups);
                        let w = w.add(position * channel_blocks * groups * BLOCK);
                        let to = products.0.as_mut_ptr().add(position * tiles * BLOCK);
                        form.tile(tiles)(&reach, x, w, none.as_ptr(), to);
                    }
                    let products = products.0.as_ptr();
                    match self.simd {
                        #[cfg(target_arch = "x86_64")]
                        Simd::Avx2 | Simd::Avx512 => gather_avx2(products, tiles, bias, &mut sums),
                        _ => gather_any(products, tiles, bias, &mut sums),
                    }
                    let row = 2 * (lines.start + line);
                    let pixels = (2 * tiles).min(width - 2 * tile);
                    for (i, sums) in sums.iter().enumerate().take(height - row) {
                        let at = (block * height + row + i) * width + 2 * tile;
                        weights.finish.write(
                            block * BLOCK,
                            sums.as_ptr(),
                            pixels,
                            y.add(at * BLOCK),
                        );
                    }
                    tile += tiles;
                }
            }
        }
    }
}

/// The products of the largest tile, on cache lines of their own.
#[repr(align(64))]
struct Products([i32; POSITIONS * MOST_PIXELS * BLOCK]);

impl QuantizedWeights {
    /// Packs filters that `read` gives transformed for each filter and channel: for each block of filters and position the
    /// channels.
    fn transformed(
        simd: Simd,
        shape: &ConvShape,
        requantize: &Requantize<'_>,
        read: &dyn Fn(usize, usize) -> [i32; POSITIONS],
    ) -> QuantizedWeights {
        let form = Form::of(simd.at_most());
        let (filters, channels) = (shape.filters, shape.channels);
        let groups = blocks(channels) * BLOCK / Form::GROUP;
        let order = form.order();
        let mut data = vec![0; blocks(filters) * POSITIONS * groups * BLOCK];
        for (lane, group) in
            (0..blocks(filters) * BLOCK).flat_map(|l| (0..groups).map(move |g| (l, g)))
        {
            let filter = lane / BLOCK * BLOCK + order[lane % BLOCK];
            let of = |channel: usize| {
                if filter < filters && channel < channels {
                    read(filter, channel)
                } else {
                    [0; POSITIONS]
                }
            };
            let (first, second) = (of(group * Form::GROUP), of(group * Form::GROUP + 1));
            for position in 0..POSITIONS {
                let at = ((lane / BLOCK * POSITIONS + position) * groups + group) * BLOCK;
                data[at + lane % BLOCK] = pair(first[position], second[position]);
            }
        }
        let finish = super::finish::Packed::new(form, filters, requantize);
        QuantizedWeights {
            data,
            form,
            finish,
            block: WINOGRAD,
            shape: (filters, channels, shape.taps()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Case;
    use super::*;
    use crate::kernel::testing::{Random, rounds};

    #[test]
    fn random_shapes_equal_the_definition() {
        let mut random = Random::new(0x1DA);
        for simd in Simd::available() {
            for _ in 0..rounds(40) {
                let (channels, filters) = (1 + random.below(67), 1 + random.below(50));
                let mut two = |low: usize, range: usize| {
                    (0..2).map(|_| low + random.below(range)).collect::<Vec<_>>()
                };
                let input = two(3, 25);
                let pads: Vec<isize> = two(0, 3).iter().map(|&p| p as isize).collect();
                let ends: Vec<isize> = two(0, 3).iter().map(|&p| p as isize).collect();
                let sizes = (1 + random.below(2), channels, filters, 1);
                let ones = [1, 1];
                let shape = ConvShape::new(sizes, &input, &[3, 3], &ones, &ones, (&pads, &ends))
                    .expect("a window in the input");
                let case = Case::new(&mut random, &shape);
                let weights = QuantizedWinograd::weights(simd, &shape, &case.requantize(), &|i| {
                    case.weight(i)
                })
                .expect("few channels");
                let conv = QuantizedWinograd::new(simd, case.pool.threads(), &shape);
                let mut scratch = vec![-1; conv.scratch_len()];
                let mut out = vec![77u8; case.output_len()];
                let input = case.in_blocks();
                conv.run(&weights, case.codes(&input), &mut out, &mut scratch, &case.pool);
                case.check(&out, &format!("{simd:?} {shape:?}"));
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes an interpreter too long")]
    fn weights_that_may_overflow_are_refused() {
        let sizes = (1, 1024, 32, 1);
        let ones = [1, 1];
        let shape = ConvShape::new(sizes, &[8, 8], &[3, 3], &ones, &ones, (&[1, 1], &[1, 1]))
            .expect("a window in the input");
        let lists = (vec![0; 32], vec![1 << 30; 32], vec![40; 32]);
        let requantize = Requantize {
            bias: &lists.0,
            multiplier: &lists.1,
            shift: &lists.2,
            zero: 0,
            low: 0,
            high: 255,
            signed: false,
        };
        let simd = Simd::detect();
        assert!(QuantizedWinograd::weights(simd, &shape, &requantize, &|_| 255).is_none());
        assert!(QuantizedWinograd::weights(simd, &shape, &requantize, &|_| 20).is_some());
    }
}
