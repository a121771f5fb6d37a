//! Products and convolutions of `f32` on a matrix unit that multiplies bfloat16.
//!
//! Each number is split into three bfloat16 that add up to it, and six of the nine products of parts are summed in `f32`; the
//! three left out are below the last digit of the result. So it rounds as plain `f32` arithmetic does, at 6 products of which
//! the unit does 16 in the time of one of the vectors'. With two parts it is 3 products, and 16 digits. Intel's oneMKL offers the
//! same scheme as `FLOAT_TO_BF16X3` and `X2` (Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype
//! For Higher-Precision Computations", 2019).
//!
//! A matrix product is a convolution of one tap here, over an image one column wide. A task stages pixels in parts
//! ([`stage`]), a chunk that fits the second-level cache; then, panel by panel of 32 filters, it splits the weights of a few steps and
//! runs the tiles over all positions. Weights are read as the plain kernels pack them, and numbers below 1e-38 count as
//! zero. Infinities have no parts: a run that meets one says so, and the plain kernel takes its place.
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at each function")]

mod parts;
mod plan;
mod stage;
mod tile;
mod write;

use super::conv::ConvShape;
use super::gemm::Epilogue;
use super::{Scratch, SharedMut, split_evenly};
use crate::detect::Simd;
use crate::pool::Pool;
use crate::simd::prefetch_far;
use parts::{Pair, split_weights};
use plan::{MOST_STEPS, Plan, STEP, TILE};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
pub use tile::{Engine, Parts};
use tile::{Operands, Ready, SIDE, Sums, TILE_BYTES};
use write::Written;

/// How the channels of pixels lie in memory: distances in elements.
#[derive(Clone, Copy, Debug)]
pub struct Strides {
    /// From a pixel to the next.
    pub pixel: usize,
    /// From 16 channels to the next.
    pub block: usize,
    /// From an image to the next.
    pub image: usize,
    /// Whether the last 16 channels are all there; else only as many as the convolution has.
    pub padded: bool,
}

/// What multiplies, how exactly, and whether it does where that takes longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The unit.
    pub engine: Engine,
    /// The parts of each number.
    pub parts: Parts,
    /// For tests of small sizes.
    pub always: bool,
}

/// A prepared convolution of one group and two spatial axes.
#[derive(Clone, Debug)]
pub struct Split {
    shape: ConvShape,
    engine: Engine,
    parts: Parts,
    simd: Simd,
    threads: usize,
    input: Strides,
    output: Strides,
    plan: Plan,
}

/// Floats of one tile's sums.
const SUMS: usize = 4 * SIDE * SIDE;

impl Split {
    /// Prepares a convolution for pools of up to `threads` threads; none where it cannot run here, or (unless `always`) the plain
    /// kernel is expected to take less time.
    pub fn new(
        Matrix { engine, parts, always }: Matrix,
        simd: Simd,
        threads: usize,
        shape: &ConvShape,
        (input, output): (Strides, Strides),
    ) -> Option<Split> {
        let simd = simd.at_most();
        let can = shape.groups == 1
            && shape.input_step == [1; 3]
            && (shape.input[0], shape.kernel[0]) == (1, 1)
            && (shape.pads_begin[0], shape.pads_end[0]) == (0, 0)
            && shape.channels > 0
            && shape.filters > 0
            && shape.taps() > 0;
        let plan = can.then(|| Plan::new(parts, shape, threads.max(1))).flatten()?;
        let threads = threads.max(1);
        (always || plan.pays(shape)).then_some(Split {
            shape: *shape,
            engine,
            parts,
            simd,
            threads,
            input,
            output,
            plan,
        })
    }

    /// Prepares the product of `m × k` and `k × n` matrices, the rows of the first and of the result so many elements apart.
    pub fn product(
        how: Matrix,
        simd: Simd,
        threads: usize,
        (m, n, k): (usize, usize, usize),
        (left, result): (usize, usize),
    ) -> Option<Split> {
        let none = &[0isize, 0][..];
        let sizes = (1, k, n, 1);
        let shape = ConvShape::new(sizes, &[m, 1], &[1, 1], &[1, 1], &[1, 1], (none, none))?;
        let rows = |pixel: usize| Strides { pixel, block: SIDE, image: 0, padded: false };
        Split::new(how, simd, threads, &shape, (rows(left), rows(result)))
    }

    /// What was chosen, for `explain`.
    pub fn describe(&self) -> String {
        let p = &self.plan;
        format!(
            "AMX, f32 in {} bfloat16, {} {}, {} channels at a time{}",
            p.parts.count(),
            if p.lines < p.height { p.lines } else { p.images },
            if p.lines < p.height { "lines" } else { "images" },
            (p.slab * STEP).min(self.shape.channels),
            if p.together { ", filters shared" } else { "" }
        )
    }

    /// Floats of a chunk's staged parts.
    fn stage_len(&self) -> usize {
        self.plan.staged_bytes(self.plan.lines, self.plan.images, self.plan.slab) / 4
    }

    /// Floats of a tile's sums and the steps' weights, which every thread's part begins with.
    fn steps_end(&self) -> usize {
        SUMS + MOST_STEPS * self.parts.count() * 2 * TILE_BYTES / 4
    }

    fn tiles(&self) -> usize {
        self.plan.positions(self.plan.lines, self.plan.images).div_ceil(TILE)
    }

    /// Floats of the sums that wait for the next steps: of one panel, or of all where channels come slab by slab.
    fn sums_len(&self) -> usize {
        let p = &self.plan;
        let panels = if p.slab < p.pairs { p.panels } else { 1 };
        panels * self.tiles() * SUMS
    }

    /// Floats that the threads of a chunk share, and those of each.
    fn scratch_parts(&self) -> (usize, usize) {
        let own = self.steps_end();
        let (stage, sums) = (self.stage_len().next_multiple_of(SIDE), self.sums_len());
        match (self.plan.together, self.plan.slab < self.plan.pairs) {
            (false, _) => (0, own + stage + sums),
            (true, false) => (stage, own + sums),
            (true, true) => (stage + sums, own),
        }
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        let (shared, own) = self.scratch_parts();
        SIDE + shared + Scratch::len(own, self.threads)
    }

    /// Computes the convolution, and gives whether all numbers it met are finite: if not, the result is worth nothing.
    ///
    /// `weights` are packed as [`super::blocked::DenseWeights`] or [`super::gemm::PackedB`] does for vectors of 16. The epilogue's
    /// `column_bias` is one value a filter (of all blocks, where the output's are padded), its `residual` is laid out as the
    /// output, and `row_bias` is not used.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says, or the pool has more threads than prepared for.
    pub fn run(
        &self,
        weights: &[f32],
        input: &[f32],
        output: &mut [f32],
        epilogue: &Epilogue<'_>,
        scratch: &mut [f32],
        pool: &Pool,
    ) -> bool {
        let (s, p) = (&self.shape, &self.plan);
        let reach = |strides: &Strides, channels: usize, pixels: usize| {
            let last = (channels - 1) / SIDE;
            let lanes = if strides.padded { SIDE } else { channels - last * SIDE };
            let images = (s.batch - 1) * strides.image;
            if pixels == 0 {
                0
            } else {
                images + (pixels - 1) * strides.pixel + last * strides.block + lanes
            }
        };
        let (ins, outs) = (s.input_pixels(), s.output_pixels());
        assert!(input.len() >= reach(&self.input, s.channels, ins), "input shorter than its shape");
        let result = reach(&self.output, s.filters, outs);
        assert!(output.len() >= result, "output shorter than its shape");
        assert!(
            epilogue.residual.is_none_or(|r| r.len() >= result),
            "residual shorter than the output"
        );
        let filters = if self.output.padded { s.filters.next_multiple_of(SIDE) } else { s.filters };
        assert!(epilogue.column_bias.is_none_or(|b| b.len() >= filters), "bias too short");
        assert!(weights.len() >= self.weights_len(), "weights shorter than their shape");
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        let (shared, own) = self.scratch_parts();
        let offset = scratch.as_ptr().align_offset(64).min(SIDE);
        let (shared, own_parts) = scratch[offset..].split_at_mut(shared);
        let own_parts = Scratch::split(own_parts, own, self.threads);
        let run = Run {
            split: self,
            weights,
            input: input.as_ptr(),
            output: SharedMut::new(output),
            epilogue: *epilogue,
            finite: AtomicBool::new(true),
        };
        if p.together {
            let stage = SharedMut::new(shared);
            for chunk in 0..p.chunks {
                // SAFETY: slices were checked above; the scratch holds what `scratch_parts` says.
                unsafe { run.together(chunk, stage.get(), own_parts, pool) };
            }
        } else {
            pool.parallel_for(p.chunks, |chunk, thread| {
                // SAFETY: as above; chunks write their own pixels.
                unsafe { run.alone(chunk, own_parts.part(thread)) };
            });
        }
        run.finite.into_inner()
    }

    /// Rows of weights of a panel.
    fn depth(&self) -> usize {
        let s = &self.shape;
        // Rows of a matrix are not padded to whole blocks.
        if self.input.padded { s.channels.next_multiple_of(SIDE) * s.taps() } else { s.channels }
    }

    fn weights_len(&self) -> usize {
        self.depth() * self.shape.filters.next_multiple_of(SIDE)
    }

    /// The weights of a step of a panel.
    fn pair(&self, weights: &[f32], panel: usize, step: usize) -> (Pair, usize) {
        let s = &self.shape;
        let (pair, tap) = (step / s.taps(), step % s.taps());
        let width = (s.filters - panel * TILE).next_multiple_of(SIDE).min(TILE);
        let panel = &weights[panel * TILE * self.depth()..];
        let block = |block: usize| {
            let lanes = s.channels.saturating_sub(block * SIDE).min(SIDE);
            let at = (block * s.taps() + tap) * SIDE * width;
            (panel.as_ptr().wrapping_add(if lanes == 0 { 0 } else { at }), lanes)
        };
        let (first, second) = (block(2 * pair), block(2 * pair + 1));
        (Pair { from: [first.0, second.0], lanes: [first.1, second.1] }, width)
    }
}

/// One run.
struct Run<'a> {
    split: &'a Split,
    weights: &'a [f32],
    input: *const f32,
    output: SharedMut<f32>,
    epilogue: Epilogue<'a>,
    finite: AtomicBool,
}

// SAFETY: the input is only read; the output is written as `SharedMut` says.
unsafe impl Sync for Run<'_> {}

/// A slab of a chunk: what has been staged.
struct Staged<'a> {
    images: Range<usize>,
    lines: Range<usize>,
    pairs: Range<usize>,
    from: *const u8,
    part: usize,
    steps: &'a [usize],
}

// SAFETY: staged before it is shared, then only read.
unsafe impl Sync for Staged<'_> {}

impl Run<'_> {
    /// The slabs of a chunk.
    fn slabs(&self, chunk: usize, stage: *const u8) -> impl Iterator<Item = Staged<'_>> + '_ {
        let p = &self.split.plan;
        let (images, lines) = p.chunk(chunk, self.split.shape.batch);
        (0..p.pairs).step_by(p.slab).map(move |first| {
            let pairs = first..(first + p.slab).min(p.pairs);
            let plane = p.plane(lines.len(), images.len());
            Staged {
                images: images.clone(),
                lines: lines.clone(),
                from: stage,
                part: p.staged_bytes(lines.len(), images.len(), pairs.len()) / p.parts.count(),
                steps: p.steps(pairs.len(), plane),
                pairs,
            }
        })
    }

    /// A chunk by one thread.
    ///
    /// # Safety
    /// The input and output are as [`Split::run`] checks them, and `own` is a thread's part of the scratch.
    unsafe fn alone(&self, chunk: usize, own: *mut f32) {
        let s = self.split;
        let stage = own.add(s.steps_end());
        let sums = stage.add(s.stage_len().next_multiple_of(SIDE));
        let ready = s.engine.ready();
        for staged in self.slabs(chunk, stage.cast()) {
            for pair in 0..staged.pairs.len() {
                self.stage(&staged, pair, stage.cast());
            }
            self.panels(&ready, &staged, 0..s.plan.panels, own, sums);
        }
    }

    /// A chunk by all threads.
    ///
    /// # Safety
    /// As [`Run::alone`], `shared` being the shared part.
    unsafe fn together(&self, chunk: usize, shared: *mut f32, own: Scratch, pool: &Pool) {
        let s = self.split;
        let stage = SharedMut::of(shared);
        let all_sums = SharedMut::of(shared.add(s.stage_len().next_multiple_of(SIDE)));
        for staged in self.slabs(chunk, shared.cast()) {
            pool.parallel_for(staged.pairs.len(), |pair, _| {
                // SAFETY: each pair has planes of its own.
                unsafe { self.stage(&staged, pair, stage.get().cast()) };
            });
            let unit = split_evenly(s.plan.panels, 4 * pool.threads(), 1);
            pool.parallel_for(s.plan.panels.div_ceil(unit), |task, thread| {
                let panels = task * unit..((task + 1) * unit).min(s.plan.panels);
                // SAFETY: the scratch is this thread's, the sums are the panels'.
                unsafe {
                    let own = own.part(thread);
                    let sums = if s.plan.slab < s.plan.pairs {
                        all_sums.get()
                    } else {
                        own.add(s.steps_end())
                    };
                    self.panels(&s.engine.ready(), &staged, panels, own, sums);
                }
            });
        }
    }

    /// Stages one pair of blocks of channels.
    ///
    /// # Safety
    /// `to` holds the slab.
    unsafe fn stage(&self, staged: &Staged<'_>, pair: usize, to: *mut u8) {
        let finite = stage::pair(self.split, self.input, staged, pair, to);
        if !finite {
            self.finite.store(false, Ordering::Relaxed);
        }
    }

    /// Multiplies a slab by some panels of filters, and writes them if it is the last.
    ///
    /// # Safety
    /// The slab is staged; `own` holds a tile's sums and the steps' weights, `sums` what [`Split::sums_len`] says, and nobody
    /// else uses either or writes the panels' filters of the chunk.
    unsafe fn panels(
        &self,
        ready: &Ready,
        staged: &Staged<'_>,
        panels: Range<usize>,
        own: *mut f32,
        sums: *mut f32,
    ) {
        let (s, p) = (self.split, &self.split.plan);
        let positions = p.positions(staged.lines.len(), staged.images.len());
        let right: *mut u8 = own.add(SUMS).cast();
        let first_step = staged.pairs.start * p.taps.len();
        let count = staged.steps.len();
        let runs = count.div_ceil(MOST_STEPS);
        let (is_first, is_last) = (staged.pairs.start == 0, staged.pairs.end == p.pairs);
        let run_of = |i: usize| i * count / runs..(i + 1) * count / runs;
        let mut finite = true;
        for panel in panels.clone() {
            let waiting = if p.slab < p.pairs { sums.add(panel * s.tiles() * SUMS) } else { sums };
            for run in 0..runs {
                let steps = run_of(run);
                let mut width = TILE;
                for (i, step) in steps.clone().enumerate() {
                    let (pair, filters) = s.pair(self.weights, panel, first_step + step);
                    width = filters;
                    let to = right.add(i * s.parts.count() * (width / SIDE) * TILE_BYTES);
                    finite &= split_weights((s.engine, s.parts), pair, width, to);
                }
                let next = if run + 1 < runs {
                    Some((panel, run_of(run + 1)))
                } else {
                    (panel + 1 < panels.end).then(|| (panel + 1, run_of(0)))
                };
                let mut soon = Soon::new(self, next, first_step, positions.div_ceil(TILE));
                for tile in 0..positions.div_ceil(TILE) {
                    let first = tile * TILE;
                    let operands = Operands {
                        parts: s.parts,
                        left: staged.from.add(first * tile::ROW_BYTES),
                        part: staged.part,
                        steps: &staged.steps[steps.clone()],
                        right,
                        rows: if positions - first > SIDE { 2 } else { 1 },
                        columns: width / SIDE,
                    };
                    let waits = &mut *waiting.add(tile * SUMS).cast::<Sums>();
                    let own = &mut *own.cast::<Sums>();
                    soon.ask();
                    let is_new = is_first && run == 0;
                    let finishes = is_last && run + 1 == runs;
                    if is_new && finishes {
                        ready.multiply(&operands, own);
                        self.write(staged, panel, first, own);
                    } else if is_new {
                        ready.multiply(&operands, waits);
                    } else {
                        ready.multiply(&operands, own);
                        own.add(s.simd, waits);
                        if finishes {
                            self.write(staged, panel, first, own);
                        } else {
                            std::ptr::copy_nonoverlapping(own, waits, 1);
                        }
                    }
                }
            }
        }
        if !finite {
            self.finite.store(false, Ordering::Relaxed);
        }
    }

    /// # Safety
    /// As [`Run::panels`].
    unsafe fn write(&self, staged: &Staged<'_>, panel: usize, first: usize, sums: &mut Sums) {
        let s = self.split;
        let written = Written {
            split: s,
            epilogue: &self.epilogue,
            output: self.output.get(),
            images: staged.images.clone(),
            lines: staged.lines.clone(),
            panel,
            first,
        };
        written.write(sums);
    }
}

/// The weights that are split next, asked for while others are multiplied.
struct Soon<'a> {
    run: &'a Run<'a>,
    panel: usize,
    steps: Range<usize>,
    /// What is left of the first of these steps: where each block's weights go on, and lines of the cache.
    left: [(*const f32, usize); 2],
    /// Lines asked for at a time.
    each: usize,
}

impl<'a> Soon<'a> {
    fn new(
        run: &'a Run<'a>,
        next: Option<(usize, Range<usize>)>,
        first_step: usize,
        tiles: usize,
    ) -> Soon<'a> {
        let (panel, steps) = next.unwrap_or((0, 0..0));
        let steps = first_step + steps.start..first_step + steps.end;
        // A row of weights is one line of the cache, or two; a block has 16 rows.
        let each = (steps.len() * 2 * STEP).div_ceil(tiles.max(1));
        Soon { run, panel, steps, left: [(std::ptr::null(), 0); 2], each }
    }

    fn ask(&mut self) {
        let mut wanted = self.each;
        while wanted > 0 {
            for (from, lines) in &mut self.left {
                let now = wanted.min(*lines);
                for line in 0..now {
                    prefetch_far(from.wrapping_add(line * SIDE));
                }
                *from = from.wrapping_add(now * SIDE);
                *lines -= now;
                wanted -= now;
            }
            if wanted > 0 {
                let Some(step) = self.steps.next() else { return };
                let (pair, width) = self.run.split.pair(self.run.weights, self.panel, step);
                let lines = |i: usize| (pair.from[i], pair.lanes[i] * width / SIDE);
                self.left = [lines(0), lines(1)];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::activation::Activation;
    use crate::kernel::gemm::{Matrix as View, PackedB, reference};
    use crate::kernel::testing::{Random, assert_close, rounds};

    /// What there is here: the unit, and what stands for it.
    fn engines() -> impl Iterator<Item = Matrix> {
        let engines = Engine::detect().into_iter().chain([Engine::Portable]);
        engines.flat_map(|engine| {
            [Parts::Two, Parts::Three].map(|parts| Matrix { engine, parts, always: true })
        })
    }

    #[test]
    fn products_of_odd_sizes_match_the_reference() {
        let mut random = Random::new(0xA3);
        for how in engines() {
            let engine = how.engine;
            // The packing of the widest vectors, which any processor can read as it is.
            for _ in 0..rounds(if engine == Engine::Portable { 6 } else { 60 }) {
                let most = if engine == Engine::Portable { 50 } else { 150 };
                let (m, n, k) =
                    (1 + random.below(most), 1 + random.below(most), 1 + random.below(3 * most));
                let threads = 1 + random.below(3);
                product(how, &mut random, (m, n, k), threads);
            }
        }
        if let Some(engine) = Engine::detect() {
            // A left side that comes in slabs.
            let how = Matrix { engine, parts: Parts::Three, always: false };
            product(how, &mut random, (500, 70, 3000), 2);
        }
    }

    fn product(how: Matrix, random: &mut Random, (m, n, k): (usize, usize, usize), threads: usize) {
        let simd = Simd::detect();
        let (left, right) = (k + random.below(3), n + random.below(3));
        let a = random.floats(m * left);
        let b = random.floats(k * n);
        let split = Split::product(how, simd, threads, (m, n, k), (left, right));
        let Some(split) = split else { return };
        let weights = packed(&b, n, k);
        let bias = random.floats(n);
        let residual = random.floats(m * right);
        let activation = [Activation::None, Activation::Relu, Activation::GeluErf][random.below(3)];
        let epilogue = Epilogue {
            row_bias: None,
            column_bias: Some(&bias),
            residual: Some(&residual),
            activation,
        };
        let (mut got, mut want) = (vec![f32::NAN; m * right], vec![f32::NAN; m * right]);
        let (a_view, b_view) =
            (View { data: &a, row_stride: left, column_stride: 1 }, View::row_major(&b, n));
        reference((m, n, k), &a_view, &b_view, &mut want, right, &epilogue);
        let mut scratch = vec![f32::NAN; split.scratch_len()];
        let pool = Pool::new(threads);
        assert!(split.run(&weights, &a, &mut got, &epilogue, &mut scratch, &pool));
        for row in 0..m {
            let row = row * right..row * right + n;
            let what = format!("{how:?} {m}×{n}×{k} {}", split.describe());
            // With three parts its sums are as exact as plain ones.
            let digit = if how.parts == Parts::Three { 1e-6 } else { 1e-5 };
            assert_close(&got[row.clone()], &want[row], digit * (k as f32).sqrt().max(2.0), &what);
        }
    }

    /// As [`PackedB`] packs for vectors of 16.
    fn packed(b: &[f32], n: usize, k: usize) -> Vec<f32> {
        let mut out = Vec::new();
        for first in (0..n).step_by(TILE) {
            let width = (n - first).min(TILE);
            for row in 0..k {
                let weights = &b[row * n + first..row * n + first + width];
                out.extend_from_slice(weights);
                out.resize(out.len() + width.next_multiple_of(SIDE) - width, 0.0);
            }
        }
        if Simd::detect() == Simd::Avx512 {
            let same = PackedB::new(Simd::Avx512, k, n, &View::row_major(b, n));
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(bits(&out) == bits(same.panels.as_slice()), "packed {k} × {n}");
        }
        out
    }

    #[test]
    fn an_infinity_is_reported() {
        let (m, n, k) = (40, 40, 40);
        for how in engines() {
            let split = Split::product(how, Simd::detect(), 1, (m, n, k), (k, n));
            let Some(split) = split else { continue };
            let (mut a, mut b) = (vec![1.0; m * k], vec![1.0; k * n]);
            let mut c = vec![0.0; m * n];
            let mut scratch = vec![0.0; split.scratch_len()];
            let mut run = |a: &[f32], b: &[f32]| {
                let weights = packed(b, n, k);
                let epilogue = Epilogue::default();
                split.run(&weights, a, &mut c, &epilogue, &mut scratch, &Pool::new(1))
            };
            assert!(run(&a, &b));
            a[1234] = f32::INFINITY;
            assert!(!run(&a, &b));
            a[1234] = 1.0;
            b[77] = f32::NAN;
            assert!(!run(&a, &b));
        }
    }
}
