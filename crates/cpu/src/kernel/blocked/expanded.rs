//! A convolution of one tap and the depthwise one that alone reads its result: what lies between is never whole.
//!
//! A task computes the first for a tile of filters and the lines that its output lines see, in the scratch of its thread, where
//! the second reads them from the second-level cache. Lines that two tasks see are computed twice.

#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at `Work::strip`")]

use super::cut::longest_run;
use super::depthwise::Plane;
use super::tile::{Reach, Target, Tiles};
use super::{BLOCK, Dense, DenseWeights, Depthwise, Sizes, blocks};
use crate::detect::{Caches, Simd};
use crate::kernel::conv::ConvShape;
use crate::kernel::gemm::Epilogue;
use crate::kernel::{Scratch, SharedMut};
use crate::pool::Pool;
use std::ops::Range;

/// Two prepared convolutions.
#[derive(Clone, Debug)]
pub struct Expanded {
    first: ConvShape,
    second: ConvShape,
    simd: Simd,
    threads: usize,
    /// Output lines of a task.
    strip: usize,
    /// Lines of the first that they see at the most.
    seen: usize,
}

impl Expanded {
    /// Whether two convolutions can run here.
    pub fn does(first: &ConvShape, second: &ConvShape) -> bool {
        Dense::does(first, false)
            && first.taps() == 1
            && first.stride[1..] == [1, 1]
            && !first.is_padded()
            && Depthwise::does(second)
            && second.channels == first.filters
            && second.batch == first.batch
            && second.input == first.output()
    }

    /// Whether that takes less time than one after the other: what lies between has to be more than the cache keeps, and
    /// the first convolution so small that its weights and pixels are little beside it.
    pub fn pays(first: &ConvShape, second: &ConvShape) -> bool {
        let (_, l2) = Caches::detect_once().for_blocking();
        let between = blocks(first.filters) * BLOCK * first.output_pixels() * 4;
        Self::does(first, second) && between > l2 / 4 && first.channels * 2 <= first.filters
    }

    /// Prepares them for pools of up to `threads` threads.
    ///
    /// # Panics
    /// When they are none that [`Expanded::does`].
    pub fn new(simd: Simd, threads: usize, first: &ConvShape, second: &ConvShape) -> Expanded {
        assert!(Self::does(first, second), "convolutions for other kernels");
        let simd = simd.at_most();
        let [_, height, _] = second.output();
        let (_, l2) = Caches::detect_once().for_blocking();
        let line = Tiles::of(simd).blocks * BLOCK * first.output()[2] * 4;
        let lines = |strip: usize| {
            ((strip - 1) * second.stride[1] + second.window(1)).min(first.output()[1])
        };
        let mut strip = height.max(1);
        while strip > 1 && lines(strip) * line > l2 / 4 {
            strip -= 1;
        }
        let strips = height.max(1).div_ceil(strip);
        // Or in more strips, if that loads the threads more evenly: they compute the lines between them twice.
        let tiles = blocks(second.channels).div_ceil(Tiles::of(simd).blocks);
        let cut = |strips: usize| height.max(1).div_ceil(strips);
        let time = |strips: usize| {
            let strip = cut(strips);
            let tasks = second.batch * height.max(1).div_ceil(strip) * tiles;
            longest_run(threads.max(1), tasks, |task| {
                let first = task / tiles % height.max(1).div_ceil(strip) * strip;
                lines(strip.min(height.max(1) - first))
            })
        };
        let most = if threads > 1 { strips + 4 * threads } else { strips };
        let strips = (strips..=most.min(height.max(1))).min_by_key(|&n| time(n)).unwrap_or(strips);
        // As even as they can be.
        strip = cut(strips);
        let seen = lines(strip);
        let (first, second) = (*first, *second);
        Expanded { first, second, simd, threads: threads.max(1), strip, seen }
    }

    fn per_thread(&self) -> usize {
        self.seen * self.first.output()[2] * Tiles::of(self.simd).blocks * BLOCK
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        Scratch::len(self.per_thread(), self.threads)
    }

    /// What was chosen, for `explain`.
    pub fn describe(&self) -> String {
        format!("{} lines a task", self.strip)
    }

    /// Computes both. The epilogues' `column_bias` is one value a channel, padded to whole blocks; the first's `residual` is not
    /// used, the second's is laid out as the output.
    ///
    /// # Panics
    /// When a slice is shorter than the shapes say, the weights are another convolution's, or the pool has more threads than
    /// prepared for.
    pub fn run(
        &self,
        (weights, depthwise): (&DenseWeights, &[f32]),
        input: &[f32],
        output: &mut [f32],
        (before, after): (&Epilogue<'_>, &Epilogue<'_>),
        scratch: &mut [f32],
        pool: &Pool,
    ) {
        let (f, s) = (&self.first, &self.second);
        assert!(weights.are_for(self.simd, BLOCK, f), "weights of another convolution");
        let per_image = blocks(s.channels);
        assert!(
            depthwise.len() >= per_image * s.taps() * BLOCK,
            "weights shorter than their shape"
        );
        let image = blocks(f.channels) * BLOCK * f.input_pixels();
        let result = per_image * BLOCK * s.output_pixels();
        let sizes = Sizes { images: s.batch, image, result, channels: s.channels };
        sizes.check(input, output, &Epilogue { residual: None, ..*before });
        sizes.check(input, output, after);
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        let [_, height, _] = s.output();
        if result == 0 || s.batch == 0 {
            return;
        }
        let scratch = Scratch::split(scratch, self.per_thread(), self.threads);
        let out = SharedMut::new(output);
        let strips = height.div_ceil(self.strip);
        let tiles = per_image.div_ceil(Tiles::of(self.simd).blocks);
        pool.parallel_for(s.batch * strips * tiles, |task, thread| {
            let (index, strip, tile) =
                (task / (strips * tiles), task / tiles % strips, task % tiles);
            let work = Work {
                of: self,
                weights: weights.as_slice(),
                depthwise,
                x: &input[index * image..][..image],
                // SAFETY: images are within the slice (checked above); a task writes its own lines and channels.
                y: unsafe { out.get().add(index * result) },
                before,
                after: &Epilogue {
                    residual: after.residual.map(|r| &r[index * result..][..result]),
                    ..*after
                },
                between: scratch.part(thread),
            };
            let lines = strip * self.strip..((strip + 1) * self.strip).min(height);
            // SAFETY: slices were checked above, and the scratch part is this thread's.
            unsafe { work.strip(lines, tile) };
        });
    }
}

/// One task.
struct Work<'a> {
    of: &'a Expanded,
    weights: &'a [f32],
    depthwise: &'a [f32],
    x: &'a [f32],
    y: *mut f32,
    before: &'a Epilogue<'a>,
    after: &'a Epilogue<'a>,
    between: *mut f32,
}

impl Work<'_> {
    /// Output lines `lines` of the channels of `tile`.
    ///
    /// # Safety
    /// The result holds an image, `between` what [`Expanded::scratch_len`] asks for, and nobody else writes either's part.
    unsafe fn strip(&self, lines: Range<usize>, tile: usize) {
        let (f, s) = (&self.of.first, &self.of.second);
        let table = Tiles::of(self.of.simd);
        let [_, height, width] = f.output();
        // The lines between that these see.
        let first = (lines.start * s.stride[1]) as isize - s.pads_begin[1];
        let end = ((lines.end - 1) * s.stride[1] + s.window(1)) as isize - s.pads_begin[1];
        let seen = first.clamp(0, height as isize) as usize..end.clamp(0, height as isize) as usize;
        let pixels = seen.len() * width;
        let block = tile * table.blocks;
        let count = table.blocks.min(blocks(f.filters) - block);
        let input_blocks = blocks(f.channels);
        let reach = Reach {
            blocks: input_blocks,
            last: f.channels - (input_blocks - 1) * BLOCK,
            block: BLOCK,
            x_block: f.input_pixels() * BLOCK,
            w_block: BLOCK * count * BLOCK,
            taps: &[(0, 0)],
        };
        let w = self.weights.as_ptr().add(block * BLOCK * input_blocks * BLOCK);
        let x = self.x.as_ptr().add(seen.start * width * BLOCK);
        let bias =
            self.before.column_bias.map_or(std::ptr::null(), |b| b[block * BLOCK..].as_ptr());
        let mut pixel = 0;
        for n in table.split(pixels) {
            let target = Target {
                finish: true,
                bias,
                activation: self.before.activation,
                ..Target::blocks(self.between.add(pixel * BLOCK), pixels * BLOCK, self.of.simd)
            };
            table.get(BLOCK, n, count)(&reach, x.add(pixel * BLOCK), w, &target);
            pixel += n;
        }
        // The second convolution's image is these lines: its padding begins where they do.
        let mut part = *s;
        part.input[1] = seen.len();
        part.pads_begin[1] += seen.start as isize;
        let (own, result) = (s.taps() * BLOCK, s.output_pixels() * BLOCK);
        for i in 0..count {
            let between = self.between.add(i * pixels * BLOCK).cast_const();
            let block = block + i;
            let plane = Plane {
                x: std::slice::from_raw_parts(between, pixels * BLOCK),
                weights: &self.depthwise[block * own..][..own],
                y: self.y.add(block * result),
                residual: self.after.residual.map(|r| &r[block * result..][..result]),
                bias: self.after.column_bias.map(|b| &b[block * BLOCK..][..BLOCK]),
                activation: self.after.activation,
                width: s.output()[2],
            };
            plane.lines(self.of.simd, &part, lines.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::activation::Activation;
    use crate::kernel::blocked::{depthwise_weights, from_blocked, to_blocked};
    use crate::kernel::conv::reference;
    use crate::kernel::testing::{Random, assert_close, rounds};

    #[test]
    fn random_shapes_match_the_reference_of_both() {
        let mut random = Random::new(0xE7);
        for simd in Simd::available() {
            let mut done = 0;
            while done < rounds(60) {
                let (batch, channels, filters) =
                    (1 + random.below(2), 1 + random.below(40), 1 + random.below(70));
                let image = [1 + random.below(20), 1 + random.below(20)];
                let none = &[0isize, 0][..];
                let sizes = (batch, channels, filters, 1);
                let first = ConvShape::new(sizes, &image, &[1, 1], &[1, 1], &[1, 1], (none, none));
                let mut axis = |low: usize, range: usize| {
                    (0..2).map(|_| low + random.below(range)).collect::<Vec<_>>()
                };
                let (kernel, stride, dilation) = (axis(1, 5), axis(1, 2), axis(1, 2));
                let pads: Vec<isize> = axis(0, 4).iter().map(|&p| p as isize - 1).collect();
                let ends: Vec<isize> = axis(0, 4).iter().map(|&p| p as isize - 1).collect();
                let sizes = (batch, filters, filters, filters);
                let second =
                    ConvShape::new(sizes, &image, &kernel, &stride, &dilation, (&pads, &ends));
                let (Some(first), Some(second)) = (first, second) else { continue };
                if !Expanded::does(&first, &second) {
                    continue;
                }
                done += 1;
                compare(simd, &mut random, &first, &second);
            }
        }
    }

    fn compare(simd: Simd, random: &mut Random, first: &ConvShape, second: &ConvShape) {
        let threads = 1 + random.below(2);
        let pool = Pool::new(threads);
        let (batch, pixels) = (first.batch, second.output_pixels());
        let x = random.floats(batch * first.channels * first.input_pixels());
        let (w, dw) = (random.floats(first.weights_len()), random.floats(second.weights_len()));
        let biases = [random.floats(first.filters), random.floats(second.filters)];
        let residual = random.floats(batch * second.filters * pixels);
        let activations = [0, 1].map(|_| [Activation::Relu, Activation::Silu][random.below(2)]);
        let with = |i: usize, residual| Epilogue {
            row_bias: Some(&biases[i]),
            column_bias: None,
            residual,
            activation: activations[i],
        };
        let mut between = vec![f32::NAN; batch * first.filters * first.output_pixels()];
        reference(first, &x, &w, &mut between, &with(0, None));
        let mut want = vec![f32::NAN; residual.len()];
        reference(second, &between, &dw, &mut want, &with(1, Some(&residual)));

        let side = |channels: usize, pixels: usize, rows: &[f32]| {
            let mut out = vec![f32::NAN; batch * blocks(channels) * BLOCK * pixels];
            to_blocked((batch, channels, pixels), rows, &mut out, &pool);
            out
        };
        let padded = biases.clone().map(|mut bias| {
            bias.resize(blocks(first.filters) * BLOCK, 0.0);
            bias
        });
        let residual = side(second.filters, pixels, &residual);
        let with = |i: usize, residual| Epilogue {
            row_bias: None,
            column_bias: Some(&padded[i]),
            residual,
            activation: activations[i],
        };
        let mut conv = Expanded::new(simd, threads, first, second);
        // As if the cache were small.
        conv.strip = 1 + random.below(conv.strip);
        let read = |run: Range<usize>, out: &mut [f32]| out.copy_from_slice(&w[run]);
        let weights = DenseWeights::new(simd, first, false, &read);
        let depthwise = depthwise_weights(second.channels, second.taps(), &dw);
        let mut out = vec![f32::NAN; residual.len()];
        let mut scratch = vec![f32::NAN; conv.scratch_len()];
        let x = side(first.channels, first.input_pixels(), &x);
        let epilogues = (&with(0, None), &with(1, Some(residual.as_slice())));
        conv.run((&weights, &depthwise), &x, &mut out, epilogues, &mut scratch, &pool);
        let mut got = vec![f32::NAN; want.len()];
        from_blocked((batch, second.filters, pixels), &out, &mut got, &pool);
        assert_close(&got, &want, 1e-5, &format!("{simd:?} {first:?} {second:?}"));
    }
}
