//! Convolutions with many input channels a filter, on blocks.
//!
//! A task is a strip of output lines by some filters. Where the input is padded (or stands in rows of channels, as the first
//! layer's), the strip's rows are first copied with their padding into the thread's scratch, a run of input channels at a
//! time that fits the second-level cache; or lines are cut where a tap begins or ends to see the input, which is cheaper
//! where the padding is wide. Else the tiles read the input where it is. Taps that see only padding are left out.

#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at `Task::strip`")]

mod weights;

pub use weights::DenseWeights;

use super::cut::{Cut, Work};
use super::tile::{Reach, Target, Tile, Tiles};
use super::{BLOCK, Sizes, blocks};
use crate::detect::{Caches, Simd};
use crate::kernel::conv::ConvShape;
use crate::kernel::gemm::Epilogue;
use crate::kernel::{Scratch, SharedMut};
use crate::pool::Pool;
use std::ops::Range;

/// Channels of a block of a staged input that stands in rows of channels: images have up to four.
const FEW: usize = 4;

/// A prepared convolution of one group and two spatial axes.
#[derive(Clone, Debug)]
pub struct Dense {
    shape: ConvShape,
    simd: Simd,
    threads: usize,
    /// The input stands in rows of channels.
    rows: bool,
    /// The strip's input rows are copied before they are read.
    staged: bool,
    /// Parts of an output line: where nothing is staged, a tap sees the input from all pixels of one or from none.
    segments: Vec<Range<usize>>,
    /// All pixels are one run.
    linear: bool,
    /// Output lines of an image and their length; all pixels are one run where nothing tells rows apart.
    lines: usize,
    width: usize,
    pixels: usize,
    /// The tasks.
    cut: Cut,
    /// Blocks of input channels done at a time.
    chunk: usize,
    /// Rows and columns of a staged strip.
    stage_rows: usize,
    stage_columns: usize,
}

impl Dense {
    /// Whether a convolution can run here: one group, two spatial axes, steps of one or two pixels.
    pub fn does(shape: &ConvShape, rows: bool) -> bool {
        shape.groups == 1
            && shape.input_step == [1; 3]
            && (shape.input[0], shape.kernel[0]) == (1, 1)
            && (shape.pads_begin[0], shape.pads_end[0]) == (0, 0)
            && Tiles::has_step(shape.stride[2] * if rows { FEW } else { BLOCK })
            && (!rows || shape.channels <= FEW)
            && shape.channels > 0
    }

    /// Prepares a convolution for pools of up to `threads` threads.
    ///
    /// # Panics
    /// When it is none that [`Dense::does`].
    pub fn new(simd: Simd, threads: usize, shape: &ConvShape, rows: bool) -> Dense {
        Dense::for_cache(simd, threads, shape, rows, 3)
    }

    /// The same, counting on so many eighths of the second-level cache for what is read again.
    ///
    /// # Panics
    /// As [`Dense::new`].
    pub fn for_cache(
        simd: Simd,
        threads: usize,
        shape: &ConvShape,
        rows: bool,
        eighths: usize,
    ) -> Dense {
        assert!(Self::does(shape, rows), "a convolution for another kernel");
        let (simd, threads) = (simd.at_most(), threads.max(1));
        let [_, height, width] = shape.output();
        let segments = if rows { None } else { cheaper_than_staging(simd, shape) };
        let staged = rows || (shape.is_padded() && segments.is_none());
        let block = if rows { FEW } else { BLOCK };
        let pixels = height * width;
        let tiles = Tiles::of(simd);
        // Without rows to tell apart, lines are as long as a few tiles.
        let linear =
            !shape.is_padded() && !rows && shape.taps() == 1 && shape.stride[1..] == [1, 1];
        let (lines, width) = if linear {
            // A thread's share at most, so that each can have pixels of its own.
            let share = pixels.div_ceil(threads).max(tiles.pixels);
            let count = pixels.div_ceil((8 * tiles.pixels).min(share)).max(1);
            let line = pixels.div_ceil(count);
            (pixels.div_ceil(line.max(1)), line)
        } else {
            (height, width)
        };
        let (_, l2) = Caches::detect_once().for_blocking();
        let budget = l2 * eighths / 8 / 4;
        let input_blocks = shape.channels.div_ceil(block);
        let tile_filters = tiles.blocks * BLOCK;
        let tile_count = blocks(shape.filters).div_ceil(tiles.blocks);

        // Elements that a strip of `n` lines reads of one block of channels.
        let stage_columns = (width.max(1) - 1) * shape.stride[2] + shape.window(2);
        let rows_of = |n: usize| (n - 1) * shape.stride[1] + shape.window(1).min(shape.input[1]);
        let strip_len = |n: usize| {
            if linear {
                n * width * block
            } else if staged {
                rows_of(n) * stage_columns * block
            } else {
                rows_of(n).min(shape.input[1]) * shape.input[2] * block
            }
        };
        let whole = strip_len(lines.max(1)) * input_blocks;
        let tile_weights = tile_filters * block * shape.taps();
        let weights = tile_count * input_blocks * tile_weights;
        // Elements that cross the border of the cache: strips read all weights again, tiles of filters what of their strip does not
        // fit, and runs of channels their sums, which they write again.
        let traffic = |strips: usize, chunk: usize| {
            let fits = strip_len(lines.max(1).div_ceil(strips)) * chunk <= budget;
            let sums = 2 * (input_blocks.div_ceil(chunk) - 1) * pixels * blocks(shape.filters);
            let inputs = if fits { whole } else { whole * tile_count };
            inputs + if weights <= budget { weights } else { strips * weights } + sums * BLOCK
        };
        // Blocks of input channels at a time, and what that costs: a tile's weights and the strip both fit, or all channels do not.
        let chunk_of = |strips: usize| {
            let strip = strip_len(lines.max(1).div_ceil(strips));
            let part = (budget / tile_weights.max(strip).max(1)).clamp(1, input_blocks);
            let all_fit = tile_weights * input_blocks <= budget && !staged;
            let chunks = [part, if all_fit { input_blocks } else { part }];
            let costs = chunks.map(|chunk| (traffic(strips, chunk), chunk));
            costs[0].min(costs[1])
        };
        let most = whole.div_ceil(budget).clamp(1, lines.max(1));
        let least = (1..=most).rev().min_by_key(|&n| chunk_of(n).0).unwrap_or(most);
        let cut = Cut::new(&Work {
            threads,
            batch: shape.batch,
            lines: lines.max(1),
            tiles: tile_count.max(1),
            least_strips: least,
            products: width * input_blocks * tile_weights / (2 * simd.lanes()),
            input: whole * 4,
            weights: weights * 4,
            budget: budget * 4,
        });
        let (_, chunk) = chunk_of(lines.max(1).div_ceil(cut.strip));
        let stage_rows = if staged { rows_of(cut.strip) } else { 0 };
        Dense {
            shape: *shape,
            simd,
            threads,
            rows,
            staged,
            segments: segments.unwrap_or_else(|| Vec::from([Range { start: 0, end: width }])),
            linear,
            lines,
            width,
            pixels,
            cut,
            chunk,
            stage_rows,
            stage_columns,
        }
    }

    fn block(&self) -> usize {
        if self.rows { FEW } else { BLOCK }
    }

    fn per_thread(&self) -> usize {
        self.stage_rows * self.stage_columns * self.block() * self.chunk
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        Scratch::len(self.per_thread(), self.threads)
    }

    /// What was chosen, for `explain`.
    pub fn describe(&self) -> String {
        format!(
            "{} lines × {} tiles of filters a task, {} channels at a time",
            self.cut.strip,
            self.cut.filter_tiles,
            (self.chunk * self.block()).min(self.shape.channels)
        )
    }

    /// Computes the convolution. The epilogue's `column_bias` is one value a filter, padded to whole blocks; its `residual` is
    /// laid out as the output; `row_bias` is not used.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says, the weights are another convolution's, or the pool has more
    /// threads than prepared for.
    pub fn run(
        &self,
        weights: &DenseWeights,
        input: &[f32],
        output: &mut [f32],
        epilogue: &Epilogue<'_>,
        scratch: &mut [f32],
        pool: &Pool,
    ) {
        self.run_packed(weights, weights.as_slice(), input, output, epilogue, scratch, pool);
    }

    /// [`Dense::run`] with other numbers in the place of the weights, packed alike.
    ///
    /// # Panics
    /// As [`Dense::run`].
    pub fn run_packed(
        &self,
        weights: &DenseWeights,
        packed: &[f32],
        input: &[f32],
        output: &mut [f32],
        epilogue: &Epilogue<'_>,
        scratch: &mut [f32],
        pool: &Pool,
    ) {
        assert!(packed.len() >= weights.data.len(), "weights shorter than their shape");
        let s = &self.shape;
        let block = self.block();
        assert!(weights.are_for(self.simd, block, s), "weights of another convolution");
        let channels = if self.rows { s.channels } else { blocks(s.channels) * BLOCK };
        let (image, result) =
            (channels * s.input_pixels(), blocks(s.filters) * BLOCK * self.pixels);
        let sizes = Sizes { images: s.batch, image, result, channels: s.filters };
        sizes.check(input, output, epilogue);
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        if result == 0 || s.batch == 0 {
            return;
        }
        let scratch = Scratch::split(scratch, self.per_thread(), self.threads);
        let tile_count = blocks(s.filters).div_ceil(Tiles::of(self.simd).blocks);
        let (strips, parts) =
            (self.lines.div_ceil(self.cut.strip), tile_count.div_ceil(self.cut.filter_tiles));
        let out = SharedMut::new(output);
        pool.parallel_for(s.batch * strips * parts, |task, thread| {
            let index = task / (strips * parts);
            let (strip, part) = if self.cut.parts_first {
                (task % strips, task / strips % parts)
            } else {
                (task / parts % strips, task % parts)
            };
            let lines = strip * self.cut.strip..((strip + 1) * self.cut.strip).min(self.lines);
            let tiles =
                part * self.cut.filter_tiles..((part + 1) * self.cut.filter_tiles).min(tile_count);
            let work = Task {
                conv: self,
                weights: packed,
                x: &input[index * image..(index + 1) * image],
                // SAFETY: images are within the slice (checked above); a task writes its own lines and filters.
                y: unsafe { out.get().add(index * result) },
                epilogue: Epilogue {
                    residual: epilogue.residual.map(|r| &r[index * result..(index + 1) * result]),
                    ..*epilogue
                },
                stage: scratch.part(thread),
            };
            // SAFETY: slices were checked above, and the scratch part is this thread's.
            unsafe { work.strip(lines, tiles) };
        });
    }

    /// The taps that some pixel of `columns` of output line `line` sees within the input: tap, and the row and column of the
    /// (padded) input that the first of these pixels sees there.
    fn taps(
        &self,
        line: usize,
        columns: &Range<usize>,
        mut found: impl FnMut(usize, isize, isize),
    ) {
        let s = &self.shape;
        for kh in 0..s.kernel[1] {
            let row = (line * s.stride[1] + kh * s.dilation[1]) as isize - s.pads_begin[1];
            if !(0..s.input[1] as isize).contains(&row) && !self.linear {
                continue;
            }
            for kw in 0..s.kernel[2] {
                let column =
                    |i: usize| (i * s.stride[2] + kw * s.dilation[2]) as isize - s.pads_begin[2];
                let seen =
                    column(columns.end - 1) >= 0 && column(columns.start) < s.input[2] as isize;
                if seen || self.linear {
                    found(kh * s.kernel[2] + kw, row, column(columns.start));
                }
            }
        }
    }
}

/// The parts of a line between the columns where a tap begins or ends to see the input, if it is padded and going part by part
/// costs less than copying all that is read with its padding.
fn cheaper_than_staging(simd: Simd, s: &ConvShape) -> Option<Vec<Range<usize>>> {
    let [_, height, width] = s.output();
    if !s.is_padded() || height == 0 || width == 0 {
        return None;
    }
    let tile_count = blocks(s.filters).div_ceil(Tiles::of(simd).blocks);
    let lines = height * s.kernel[1].min(s.input[1]) * BLOCK * tile_count;
    let segments = segments(s);
    let in_parts: usize = segments.iter().map(|part| cycles(simd, s, part, false)).sum();
    // Staged, a strip's rows are copied once, about four elements a cycle; strips are at least a window high.
    let staged_columns = (width - 1) * s.stride[2] + s.window(2);
    let copied = (height * s.stride[1]).max(s.window(1)) * staged_columns * BLOCK;
    let staged = lines * cycles(simd, s, &(0..width), true) + copied / 4;
    (lines * in_parts < staged).then_some(segments)
}

/// What a line of outputs takes with one row of taps, in products of a tile with an input channel: in parts, or staged if that is less.
pub(super) fn line_cycles(simd: Simd, s: &ConvShape) -> usize {
    let in_parts: usize = segments(s).iter().map(|part| cycles(simd, s, part, false)).sum();
    in_parts.min(cycles(simd, s, &(0..s.output()[2]), true))
}

/// Where a tap of column `kw` begins and ends to see the input.
fn seen(s: &ConvShape, kw: usize) -> Range<usize> {
    let offset = (kw * s.dilation[2]) as isize - s.pads_begin[2];
    let first = |column: isize| {
        let steps = (column - offset).max(0) as usize;
        steps.div_ceil(s.stride[2]).min(s.output()[2])
    };
    first(0)..first(s.input[2] as isize)
}

/// The parts of a line between the columns where a tap begins or ends to see the input.
fn segments(s: &ConvShape) -> Vec<Range<usize>> {
    let ends = (0..s.kernel[2]).map(|kw| seen(s, kw)).flat_map(|r| [r.start, r.end]);
    let mut cuts: Vec<usize> = ends.chain([0, s.output()[2]]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|w| w[0]..w[1]).collect()
}

/// Steps of the innermost loop of the tiles of some columns, in cycles: a product for each pixel, and at least what reading the
/// weights takes.
fn cycles(simd: Simd, s: &ConvShape, columns: &Range<usize>, is_staged: bool) -> usize {
    let taps = (0..s.kernel[2]).map(|kw| seen(s, kw)).filter(|r| {
        !r.is_empty() && (is_staged || (r.start <= columns.start && columns.end <= r.end))
    });
    let tiles = Tiles::of(simd).split(columns.len());
    taps.count() * tiles.map(|n| n.max(LEAST_PIXELS)).sum::<usize>()
}

/// Pixels below which a tile takes as long as one of so many: its weights have to be read.
const LEAST_PIXELS: usize = 5;

/// Taps of the largest kernel that is kept on the stack.
const MOST_TAPS: usize = 128;

/// One task.
struct Task<'a> {
    conv: &'a Dense,
    weights: &'a [f32],
    x: &'a [f32],
    y: *mut f32,
    epilogue: Epilogue<'a>,
    stage: *mut f32,
}

impl Task<'_> {
    /// Output lines `lines` of the filters of `tiles`.
    ///
    /// # Safety
    /// The result holds an image, the stage what [`Dense::scratch_len`] asks for, and nobody else writes either's part.
    unsafe fn strip(&self, lines: Range<usize>, tiles: Range<usize>) {
        let c = self.conv;
        let s = &c.shape;
        let table = Tiles::of(c.simd);
        let block = c.block();
        let step = s.stride[2] * block;
        let input_blocks = s.channels.div_ceil(block);
        let depth = input_blocks * block * s.taps();
        let taps_total = s.taps();
        // In the input: columns and rows as they are. In the stage: those of the strip with their padding.
        let (row, plane, first_row) = if c.staged {
            let first = (lines.start * s.stride[1]) as isize - s.pads_begin[1];
            (c.stage_columns * block, c.stage_rows * c.stage_columns * block, first)
        } else {
            (s.input[2] * block, s.input_pixels() * block, 0)
        };
        // Taps above the input in the whole strip are not staged.
        let first_row = first_row.max(0) as usize;
        let mut few = [(0, 0); MOST_TAPS];
        let mut many = Vec::new();
        let mut chunk = 0;
        while chunk < input_blocks {
            let until = (chunk + c.chunk).min(input_blocks);
            if c.staged {
                self.fill(lines.clone(), first_row, chunk..until);
            }
            let x =
                if c.staged { self.stage.cast_const() } else { self.x.as_ptr().add(chunk * plane) };
            for tile in tiles.clone() {
                let first = tile * table.blocks;
                let count = table.blocks.min(blocks(s.filters) - first);
                let mut target = Target {
                    accumulate: chunk > 0,
                    finish: until == input_blocks,
                    bias: self
                        .epilogue
                        .column_bias
                        .map_or(std::ptr::null(), |b| b[first * BLOCK..].as_ptr()),
                    activation: self.epilogue.activation,
                    ..Target::blocks(self.y, c.pixels * BLOCK, c.simd)
                };
                let w_block = taps_total * block * count * BLOCK;
                let w = self.weights.as_ptr().add(first * BLOCK * depth + chunk * w_block);
                // While these weights are used for all lines, those of the next tile or run of channels come to the second
                // level.
                let next = if tile + 1 < tiles.end {
                    let count = table.blocks.min(blocks(s.filters) - first - count);
                    let ahead = chunk * taps_total * block * count * BLOCK;
                    (first + table.blocks) * BLOCK * depth + ahead
                } else {
                    tiles.start * table.blocks * BLOCK * depth + until * w_block
                };
                let next = self.weights.as_ptr().wrapping_add(next);
                let next_len = w_block * (until - chunk);
                let runs = lines.len() * c.width.div_ceil(table.pixels);
                let soon_step = (count * BLOCK).div_ceil(runs);
                let mut asked = 0;
                for (line, columns) in
                    lines.clone().flat_map(|l| c.segments.iter().map(move |part| (l, part)))
                {
                    many.clear();
                    let mut n = 0;
                    c.taps(line, columns, |tap, in_row, in_column| {
                        let x = if c.linear {
                            line * c.width * block
                        } else if c.staged {
                            // The stage begins with the padding of its columns, and with row `first_row`.
                            let column = (in_column + s.pads_begin[2]) as usize;
                            (in_row as usize - first_row) * row + column * block
                        } else {
                            in_row as usize * row + in_column as usize * block
                        };
                        let tap = (x, tap * block * count * BLOCK);
                        if n < MOST_TAPS && many.is_empty() {
                            few[n] = tap;
                        } else {
                            if many.is_empty() {
                                many.extend_from_slice(&few[..n]);
                            }
                            many.push(tap);
                        }
                        n += 1;
                    });
                    let reach = Reach {
                        blocks: until - chunk,
                        last: block.min(s.channels - (until - 1) * block),
                        block,
                        x_block: plane,
                        w_block,
                        taps: if many.is_empty() { &few[..n] } else { &many },
                    };
                    let start = line * c.width + columns.start;
                    let width = columns.len().min(c.pixels - start);
                    let mut pixel = 0;
                    for pixels in table.split(width) {
                        let at = first * c.pixels * BLOCK + (start + pixel) * BLOCK;
                        target.y = self.y.add(at);
                        if let Some(residual) = self.epilogue.residual {
                            target.residual = residual.as_ptr().add(at);
                        }
                        (target.soon, target.soon_step) = if asked < next_len {
                            (next.wrapping_add(asked), soon_step)
                        } else {
                            (w, 0)
                        };
                        asked += soon_step * n * block * (until - chunk);
                        let run: Tile = table.get(step, pixels, count);
                        run(&reach, x.add(pixel * step), w, &target);
                        pixel += pixels;
                    }
                }
            }
            chunk = until;
        }
    }

    /// Copies the rows of the input that `lines` see, with the padding at their ends, for blocks `chunk` of channels.
    ///
    /// # Safety
    /// As [`Task::strip`].
    unsafe fn fill(&self, lines: Range<usize>, first_row: usize, chunk: Range<usize>) {
        let c = self.conv;
        let s = &c.shape;
        let block = c.block();
        let last = ((lines.end - 1) * s.stride[1] + s.window(1)) as isize - s.pads_begin[1];
        let rows = first_row..(last.max(0) as usize).min(s.input[1]);
        // Columns of the stage before the input, of the input, and behind it.
        let left = s.pads_begin[2].clamp(0, c.stage_columns as isize) as usize;
        let skipped = (-s.pads_begin[2]).max(0) as usize;
        let own = s.input[2].saturating_sub(skipped).min(c.stage_columns - left);
        let right = c.stage_columns - left - own;
        for b in chunk.clone() {
            let plane = self.stage.add((b - chunk.start) * c.stage_rows * c.stage_columns * block);
            let lanes = block.min(s.channels - b * block);
            for row in rows.clone() {
                let to = plane.add((row - first_row) * c.stage_columns * block);
                std::ptr::write_bytes(to, 0, left * block);
                std::ptr::write_bytes(to.add((left + own) * block), 0, right * block);
                let to = to.add(left * block);
                if c.rows {
                    for lane in 0..lanes {
                        let channel = (b * block + lane) * s.input_pixels();
                        let from = &self.x[channel + row * s.input[2] + skipped..][..own];
                        for (i, &x) in from.iter().enumerate() {
                            *to.add(i * block + lane) = x;
                        }
                    }
                } else {
                    let from = ((b * s.input[1] + row) * s.input[2] + skipped) * block;
                    let from = &self.x[from..][..own * block];
                    std::ptr::copy_nonoverlapping(from.as_ptr(), to, own * block);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::blocked::testing::Case;
    use crate::kernel::testing::{Random, assert_close};

    fn compare(simd: Simd, random: &mut Random, shape: &ConvShape, rows: bool) {
        let case = Case::new(random, shape, false, Random::floats);
        let conv = Dense::new(simd, case.pool.threads(), shape, rows);
        let packed = DenseWeights::new(simd, shape, rows, &|run, out| {
            out.copy_from_slice(&case.weights[run]);
        });
        let x = if rows { case.input.clone() } else { case.input_in_blocks() };
        let got = case.got(conv.scratch_len(), |out, scratch| {
            conv.run(&packed, &x, out, &case.epilogue(), scratch, &case.pool);
        });
        let k = shape.channels * shape.taps();
        let tolerance = 1e-5 * (k as f32).sqrt().max(1.0);
        assert_close(&got, &case.want, tolerance, &format!("{simd:?} {rows} {shape:?}"));
    }

    #[test]
    fn random_shapes_match_the_reference() {
        let mut random = Random::new(0xB10C);
        for simd in Simd::available() {
            let mut done = 0;
            while done < crate::kernel::testing::rounds(60) {
                let rows = random.below(4) == 0;
                let channels = 1 + random.below(if rows { 4 } else { 67 });
                let filters = 1 + random.below(67);
                let mut axis = |low: usize, range: usize| {
                    (0..2).map(|_| low + random.below(range)).collect::<Vec<_>>()
                };
                let (input, kernel) = (axis(1, 33), axis(1, 5));
                let (stride, dilation) = (axis(1, 2), axis(1, 3));
                let pads: Vec<isize> = axis(0, 4).iter().map(|&p| p as isize - 1).collect();
                let ends: Vec<isize> = axis(0, 4).iter().map(|&p| p as isize - 1).collect();
                let sizes = (1 + random.below(2), channels, filters, 1);
                let shape =
                    ConvShape::new(sizes, &input, &kernel, &stride, &dilation, (&pads, &ends));
                let Some(shape) = shape.filter(|s| Dense::does(s, rows)) else { continue };
                compare(simd, &mut random, &shape, rows);
                done += 1;
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes an interpreter too long")]
    fn layers_of_real_networks_match_the_reference() {
        let mut random = Random::new(0xB10D);
        let layer = |c, f, size: usize, k: usize, s: usize, d: usize| {
            let p = ((k - 1) * d / 2) as isize;
            let (pads, ends) = ([p, p], [p, p]);
            ConvShape::new((1, c, f, 1), &[size, size], &[k, k], &[s, s], &[d, d], (&pads, &ends))
        };
        for simd in Simd::available() {
            for (shape, rows) in [
                (layer(3, 24, 37, 7, 2, 1), true),
                (layer(64, 48, 14, 1, 1, 1), false),
                (layer(40, 30, 7, 3, 1, 1), false),
                (layer(64, 32, 14, 1, 2, 1), false),
                (layer(300, 33, 9, 3, 1, 4), false),
                (layer(48, 16, 28, 3, 1, 36), false),
                (layer(70, 50, 16, 3, 1, 12), false),
                (layer(40, 40, 17, 3, 1, 4), false),
                (layer(24, 40, 33, 5, 2, 7), false),
                (layer(20, 20, 20, 11, 1, 2), false),
            ] {
                compare(simd, &mut random, &shape.expect("a valid layer"), rows);
            }
        }
    }
}
