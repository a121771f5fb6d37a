//! Winograd's convolution for three by three taps, on blocks: fewer multiplications for some additions.
//!
//! A task is a patch of tiles by some filters. It transforms the patch's input into the scratch of its thread, multiplies each of the 16
//! or 36 points as a convolution of one tap (the direct kernel's register tiles, with tiles of the image for pixels), and transforms
//! the products, with bias, residual and activation. Where the weights are few, it does so for each tile of filters, with all that it reads
//! in the cache; where they are many, point after point for all filters, so that more tiles share what is read of them.
//!
//! Taps with others between them (a dilation) make several images of one, interleaved, whose tiles are of one patch.
//!
//! Error, as a share of the largest output of random data (`errors_stay_small_with_many_channels`): with 64, 256 and 512 channels
//! 2.8e-7, 7.1e-7 and 7.2e-7 with tiles of 2 × 2, 1.4e-6, 2.3e-6 and 3.8e-6 with tiles of 4 × 4.

#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at `Work::patch`")]

mod plan;
mod transform;
mod weights;

pub use weights::WinogradWeights;

use super::tile::{Reach, Target, Tiles};
use super::{BLOCK, Sizes, blocks};
use crate::detect::Simd;
use crate::kernel::activation::activate_rows;
use crate::kernel::conv::ConvShape;
use crate::kernel::gemm::Epilogue;
use crate::kernel::{Scratch, SharedMut};
use crate::pool::Pool;
use plan::Share;
pub use transform::Size;
use transform::{Axis, Input, Output, Patch, lines_len};

/// A prepared convolution of one group with three by three taps.
#[derive(Clone, Debug)]
pub struct Winograd {
    shape: ConvShape,
    simd: Simd,
    threads: usize,
    size: Size,
    /// Rows and columns of an image.
    axes: [Axis; 2],
    /// What a task takes.
    share: Share,
}

impl Winograd {
    /// The tiles that a convolution is worth transforming for; none where it cannot run here or the direct kernel takes about as
    /// long. Tiles of 4 × 4 round more, and are for those who say that they may (`relaxed`).
    pub fn size(simd: Simd, shape: &ConvShape, relaxed: bool) -> Option<Size> {
        let simd = simd.at_most();
        let size = plan::does(shape).then(|| plan::size(simd, shape, relaxed))?;
        plan::pays(simd, shape, size).then_some(size)
    }

    /// The tiles that a convolution can be transformed for, whether that pays or not.
    pub(crate) fn sizes(shape: &ConvShape, relaxed: bool) -> impl Iterator<Item = Size> {
        let does = plan::does(shape);
        [Size::Two, Size::Four]
            .into_iter()
            .filter(move |&size| does && (relaxed || size == Size::Two))
    }

    /// Prepares a convolution for pools of up to `threads` threads.
    ///
    /// # Panics
    /// When it is none that has a [`Winograd::size`].
    pub fn new(simd: Simd, threads: usize, shape: &ConvShape, size: Size) -> Winograd {
        assert!(plan::does(shape), "a convolution for another kernel");
        let (simd, threads) = (simd.at_most(), threads.max(1));
        let share = plan::share(simd, threads, shape, size);
        let axes = plan::axes(shape, size);
        Winograd { shape: *shape, simd, threads, size, axes, share }
    }

    fn depth(&self) -> usize {
        blocks(self.shape.channels) * BLOCK
    }

    /// Elements from one point to the next of the transformed input and of the products: an odd number of cache lines, so
    /// that a tile's points do not compete for the same lines of the cache.
    fn positions(&self) -> (usize, usize) {
        let tiles = self.share.patch.0 * self.share.patch.1;
        let odd = |elements: usize| ((elements / 16) | 1) * 16;
        (odd(tiles * self.depth()), odd(tiles * Tiles::of(self.simd).blocks * BLOCK))
    }

    /// Elements of the products of a tile of filters, and of how many tiles of them are kept.
    fn products(&self) -> (usize, usize) {
        let kept = if self.share.points_first { self.share.filter_tiles } else { 1 };
        (self.positions().1 * self.size.products(), kept)
    }

    fn per_thread(&self) -> usize {
        let (products, kept) = self.products();
        let lines = lines_len(self.size, self.share.patch.1);
        self.positions().0 * self.size.products() + products * kept + lines
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        Scratch::len(self.per_thread(), self.threads)
    }

    /// What was chosen, for `explain`.
    pub fn describe(&self) -> String {
        let out = self.size.outputs();
        format!(
            "Winograd F({out}×{out}, 3×3), {} × {} tiles × {} tiles of filters a task{}",
            self.share.patch.0,
            self.share.patch.1,
            self.share.filter_tiles,
            if self.share.points_first { ", points first" } else { "" }
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
        weights: &WinogradWeights,
        input: &[f32],
        output: &mut [f32],
        epilogue: &Epilogue<'_>,
        scratch: &mut [f32],
        pool: &Pool,
    ) {
        let s = &self.shape;
        let same = (weights.simd, weights.size) == (self.simd, self.size)
            && (weights.filters, weights.channels) == (s.filters, s.channels);
        assert!(same, "weights of another convolution");
        let image = self.depth() * s.input_pixels();
        let result = blocks(s.filters) * BLOCK * s.output_pixels();
        let sizes = Sizes { images: s.batch, image, result, channels: s.filters };
        sizes.check(input, output, epilogue);
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        if result == 0 || s.batch == 0 {
            return;
        }
        let scratch = Scratch::split(scratch, self.per_thread(), self.threads);
        let tile_count = blocks(s.filters).div_ceil(Tiles::of(self.simd).blocks);
        let (rows, columns) = (self.axes[0].tiles(), self.axes[1].tiles());
        let down = rows.div_ceil(self.share.patch.0);
        let across = columns.div_ceil(self.share.patch.1);
        let parts = tile_count.div_ceil(self.share.filter_tiles);
        let out = SharedMut::new(output);
        pool.parallel_for(s.batch * down * across * parts, |task, thread| {
            let (task, part) = (task / parts, task % parts);
            let (task, column) = (task / across, task % across);
            let (index, row) = (task / down, task % down);
            let range = |i: usize, n: usize, end: usize| i * n..((i + 1) * n).min(end);
            let work = Work {
                conv: self,
                weights,
                x: &input[index * image..(index + 1) * image],
                // SAFETY: images are within the slice (checked above); a task writes its own patch and filters.
                y: unsafe { out.get().add(index * result) },
                epilogue: Epilogue {
                    residual: epilogue.residual.map(|r| &r[index * result..(index + 1) * result]),
                    ..*epilogue
                },
                scratch: scratch.part(thread),
            };
            let patch = Patch {
                rows: range(row, self.share.patch.0, rows),
                columns: range(column, self.share.patch.1, columns),
            };
            // SAFETY: slices were checked above, and the scratch part is this thread's.
            unsafe { work.patch(&patch, range(part, self.share.filter_tiles, tile_count)) };
        });
    }
}

/// One task.
struct Work<'a> {
    conv: &'a Winograd,
    weights: &'a WinogradWeights,
    x: &'a [f32],
    y: *mut f32,
    epilogue: Epilogue<'a>,
    scratch: *mut f32,
}

impl Work<'_> {
    /// The outputs of a patch for the filters of `tiles`.
    ///
    /// # Safety
    /// The result holds an image, the scratch what [`Winograd::scratch_len`] asks for, and nobody else writes either's part.
    unsafe fn patch(&self, patch: &Patch, tiles: std::ops::Range<usize>) {
        let c = self.conv;
        let s = &c.shape;
        let (v_position, _) = c.positions();
        let (products, kept) = c.products();
        let points = c.size.products();
        let v = self.scratch;
        let m = v.add(v_position * points);
        let input = Input {
            x: self.x.as_ptr(),
            blocks: blocks(s.channels),
            axes: c.axes,
            patch,
            lines: m.add(products * kept),
            v,
            position: v_position,
        };
        input.transform(c.simd, c.size);
        if c.share.points_first {
            for point in 0..points {
                for (i, tile) in tiles.clone().enumerate() {
                    // The next tile's weights at this point, or the first's at the next.
                    let next = if tile + 1 < tiles.end {
                        (tile + 1, point)
                    } else {
                        (tiles.start, (point + 1) % points)
                    };
                    self.multiply(patch, tile, point, next, m.add(i * products));
                }
            }
            for (i, tile) in tiles.enumerate() {
                self.finish(patch, tile, m.add(i * products));
            }
        } else {
            for tile in tiles {
                for point in 0..points {
                    self.multiply(patch, tile, point, (tile, point + 1), m);
                }
                self.finish(patch, tile, m);
            }
        }
    }

    /// The weights of a tile of filters at a point. The first point after the last is the next tile's first.
    fn weights(&self, tile: usize, point: usize) -> *const f32 {
        let (first, count) = self.filters(tile);
        let (depth, points) = (self.weights.depth(), self.conv.size.products());
        let at = (first * points + point * count) * BLOCK * depth;
        self.weights.data.as_ptr().wrapping_add(at)
    }

    /// The first block of filters of a tile, and how many it has.
    fn filters(&self, tile: usize) -> (usize, usize) {
        let most = Tiles::of(self.conv.simd).blocks;
        let first = tile * most;
        (first, most.min(blocks(self.conv.shape.filters) - first))
    }

    /// The products of a patch at a point with a tile of filters, into `m`; the weights that `next` names are asked for meanwhile.
    ///
    /// # Safety
    /// As [`Work::patch`], with the patch's input transformed.
    unsafe fn multiply(
        &self,
        patch: &Patch,
        tile: usize,
        point: usize,
        next: (usize, usize),
        m: *mut f32,
    ) {
        let c = self.conv;
        let s = &c.shape;
        let table = Tiles::of(c.simd);
        let (v_position, m_position) = c.positions();
        let (_, count) = self.filters(tile);
        let reach = Reach {
            blocks: blocks(s.channels),
            last: s.channels - (blocks(s.channels) - 1) * BLOCK,
            block: BLOCK,
            x_block: patch.tiles() * BLOCK,
            w_block: BLOCK * count * BLOCK,
            taps: &[(0, 0)],
        };
        let w = self.weights(tile, point);
        let x = self.scratch.add(point * v_position).cast_const();
        let sums = m.add(point * m_position);
        // To the second level, in equal parts.
        let steps = s.channels.next_multiple_of(BLOCK);
        let runs = patch.tiles().div_ceil(table.pixels);
        let soon_step = (count * BLOCK).div_ceil(runs);
        let mut soon = self.weights(next.0, next.1);
        let mut done = 0;
        for pixels in table.split(patch.tiles()) {
            let run = table.get(BLOCK, pixels, count);
            let to = sums.add(done * count * BLOCK);
            let target = Target::sums(to, c.simd, (soon, soon_step));
            soon = soon.wrapping_add(soon_step * steps);
            run(&reach, x.add(done * BLOCK), w, &target);
            done += pixels;
        }
    }

    /// The outputs of a patch for a tile of filters, from the products in `m`.
    ///
    /// # Safety
    /// As [`Work::patch`], with all points multiplied.
    unsafe fn finish(&self, patch: &Patch, tile: usize, m: *const f32) {
        let c = self.conv;
        let plane = c.shape.output_pixels() * BLOCK;
        let clamp = self.epilogue.activation.as_clamp();
        let (first, count) = self.filters(tile);
        let at = first * plane;
        let pointer =
            |x: Option<&[f32]>, at: usize| x.map_or(std::ptr::null(), |x| x[at..].as_ptr());
        let output = Output {
            m,
            position: c.positions().1,
            blocks: count,
            patch,
            y: self.y.add(at),
            plane,
            axes: c.axes,
            bias: pointer(self.epilogue.column_bias, first * BLOCK),
            residual: pointer(self.epilogue.residual, at),
            clamp: clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY)),
        };
        output.transform(c.simd, c.size);
        if clamp.is_none() {
            self.activate(patch, at, count);
        }
    }

    /// Applies an activation that is no clamp to what was just written.
    ///
    /// # Safety
    /// As [`Work::patch`].
    unsafe fn activate(&self, patch: &Patch, at: usize, count: usize) {
        let c = self.conv;
        let [down, across] = c.axes;
        let (plane, width) = (c.shape.output_pixels(), across.outputs);
        for (top, rows) in down.spans(patch.rows.clone()) {
            for (left, columns) in across.spans(patch.columns.clone()) {
                // A row is one piece, or pixels with others between.
                let (pieces, length) = match across.step {
                    1 => (1, columns * BLOCK),
                    _ => (columns, BLOCK),
                };
                for line in (0..count * rows).map(|i| (i / rows, top + i % rows * down.step)) {
                    let first = (line.0 * plane + line.1 * width + left) * BLOCK;
                    activate_rows(
                        c.simd,
                        self.epilogue.activation,
                        self.y.add(at + first),
                        pieces,
                        length,
                        across.step * BLOCK,
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::blocked::testing::Case;
    use crate::kernel::testing::{Random, rounds};

    /// Sums of three uniform numbers: about normal.
    fn normal(random: &mut Random, n: usize) -> Vec<f32> {
        (0..n).map(|_| random.float() + random.float() + random.float()).collect()
    }

    /// Runs a convolution twice, which must agree bit for bit, and gives its largest error beside the largest of the
    /// reference's magnitudes.
    fn error(simd: Simd, random: &mut Random, shape: &ConvShape, size: Size, plain: bool) -> f32 {
        let simd = simd.at_most();
        let case = Case::new(random, shape, plain, normal);
        let mut conv = Winograd::new(simd, case.pool.threads(), shape, size);
        if random.below(3) == 0 {
            let (down, across) = conv.share.patch;
            conv.share.patch = (1 + random.below(down), 1 + random.below(across));
            conv.share.points_first = random.below(2) == 0;
        }
        let packed = WinogradWeights::new(simd, shape, size, &|run, out| {
            out.copy_from_slice(&case.weights[run]);
        });
        let (x, want) = (case.input_in_blocks(), &case.want);
        let got = [(); 2].map(|()| {
            case.got(conv.scratch_len(), |out, scratch| {
                conv.run(&packed, &x, out, &case.epilogue(), scratch, &case.pool);
            })
        });
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&got[0]), bits(&got[1]), "two runs differ: {shape:?}");
        let largest = want.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        let mut worst = 0.0f32;
        for (g, w) in got[0].iter().zip(want) {
            assert!(g.is_finite(), "{g} for {w}: {simd:?} {shape:?}");
            worst = worst.max((g - w).abs());
        }
        worst / largest.max(1.0)
    }

    #[test]
    fn random_shapes_match_the_reference() {
        let mut random = Random::new(0x317);
        for simd in Simd::available() {
            let mut done = 0;
            while done < rounds(40) {
                let (channels, filters) = (1 + random.below(67), 1 + random.below(67));
                let input = [1 + random.below(25), 1 + random.below(25)];
                let mut pads = || [random.below(5) as isize - 2, random.below(5) as isize - 2];
                let (begin, end) = (pads(), pads());
                let sizes = (1 + random.below(2), channels, filters, 1);
                let dilation = [1 + random.below(3), 1 + random.below(3)];
                let (taps, one) = ([3, 3], [1, 1]);
                let shape = ConvShape::new(sizes, &input, &taps, &one, &dilation, (&begin, &end));
                let Some(shape) = shape.filter(plan::does) else { continue };
                let size = [Size::Two, Size::Four][random.below(2)];
                let error = error(simd, &mut random, &shape, size, false);
                assert!(error < 1e-5, "{error:e}: {simd:?} {size:?} {shape:?}");
                done += 1;
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes an interpreter too long")]
    fn errors_stay_small_with_many_channels() {
        let mut random = Random::new(0x318);
        for (channels, filters, extent) in [(64, 16, 24), (256, 16, 18), (512, 16, 14)] {
            let (one, pads) = ([1, 1], [1isize, 1]);
            let sizes = (1, channels, filters, 1);
            let extent = [extent, extent];
            let shape = ConvShape::new(sizes, &extent, &[3, 3], &one, &one, (&pads, &pads))
                .expect("a valid layer");
            for size in [Size::Two, Size::Four] {
                let error = error(Simd::detect(), &mut random, &shape, size, true);
                println!("{channels} channels, {size:?}: {error:.1e} of the largest output");
                assert!(error < 5e-6, "{error:e}: {size:?} {shape:?}");
            }
        }
    }
}
