//! The transforms of Winograd's convolution: of filters once, of input tiles and of their products as they run.
//!
//! Along one axis `OUT` outputs of a filter of three taps need `OUT + 2` products instead of `3 · OUT`: polynomials are
//! multiplied at that many points (Winograd 1980; Lavin and Gray 2015, arXiv:1509.09308, give the two-dimensional form
//! `Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A`). The matrices follow from the points. Channels stand in blocks, so every operation
//! is one of whole vectors.
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at `Input` and `Output`")]

use std::ops::Range;

use crate::detect::Simd;
use crate::kernel::blocked::BLOCK;
use crate::simd::{Task, Vector, dispatch};

/// Outputs of a tile along each axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Tiles of 4 × 4 inputs, 16 products for 4 outputs.
    Two,
    /// Tiles of 6 × 6 inputs, 36 products for 16 outputs.
    Four,
}

impl Size {
    /// What it is called where kernels are chosen between.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Size::Two => "winograd 2",
            Size::Four => "winograd 4",
        }
    }

    /// Outputs along an axis.
    pub(crate) fn outputs(self) -> usize {
        match self {
            Size::Two => Two::OUT,
            Size::Four => Four::OUT,
        }
    }

    /// Inputs along an axis, and points at which polynomials are multiplied.
    pub(super) fn points(self) -> usize {
        self.outputs() + 2
    }

    /// Products of a tile.
    pub(super) fn products(self) -> usize {
        self.points() * self.points()
    }

    /// `G`, one row a point.
    pub(super) fn filter_matrix(self) -> &'static [[f64; 3]] {
        match self {
            Size::Two => &Two::FILTER,
            Size::Four => &Four::FILTER,
        }
    }
}

/// The most points and outputs along an axis; arrays are this long, and what a smaller size leaves unused costs nothing.
const POINTS: usize = 6;
const OUTPUTS: usize = 4;

trait Transform {
    /// Outputs along an axis.
    const OUT: usize;
    /// Points, and inputs, along an axis.
    const IN: usize = Self::OUT + 2;
    /// `Bᵀ d`
    fn input<V: Vector>(d: [V; POINTS]) -> [V; POINTS];
    /// `Aᵀ m`
    fn output<V: Vector>(m: [V; POINTS]) -> [V; OUTPUTS];
}

/// Points 0, 1, −1 and infinity.
struct Two;

impl Two {
    const FILTER: [[f64; 3]; 4] =
        [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
}

impl Transform for Two {
    const OUT: usize = 2;

    #[inline(always)]
    fn input<V: Vector>(d: [V; POINTS]) -> [V; POINTS] {
        let zero = V::zero();
        [d[0].sub(d[2]), d[2].add(d[1]), d[2].sub(d[1]), d[3].sub(d[1]), zero, zero]
    }

    #[inline(always)]
    fn output<V: Vector>(m: [V; POINTS]) -> [V; OUTPUTS] {
        let zero = V::zero();
        [m[0].add(m[1]).add(m[2]), m[1].sub(m[2]).add(m[3]), zero, zero]
    }
}

/// Points 0, ±`NEAR`, ±`FAR` and infinity.
struct Four;

/// The points of [`Four`]. Of the pairs tried these round least: rms error 0.43 of what the usual ±1 and ±2 give
/// (random normal inputs and filters of 64 channels), and their powers are exact in `f32`.
const NEAR: f64 = 0.625;
const FAR: f64 = 1.5;

impl Four {
    const FILTER: [[f64; 3]; 6] = {
        let (near, far) = (NEAR * NEAR, FAR * FAR);
        let a = 1.0 / (2.0 * near * (near - far));
        let b = 1.0 / (2.0 * far * (far - near));
        [
            [1.0 / (near * far), 0.0, 0.0],
            [a, a * NEAR, a * near],
            [a, -a * NEAR, a * near],
            [b, b * FAR, b * far],
            [b, -b * FAR, b * far],
            [0.0, 0.0, 1.0],
        ]
    };
}

impl Transform for Four {
    const OUT: usize = 4;

    #[inline(always)]
    fn input<V: Vector>(d: [V; POINTS]) -> [V; POINTS] {
        let c = |x: f64| V::splat(x as f32);
        let (near, far) = (NEAR * NEAR, FAR * FAR);
        let (product, minus_sum) = (c(near * far), c(-near - far));
        let near_even = d[2].fma(c(-far), d[4]);
        let near_odd = d[1].fma(c(-far), d[3]);
        let far_even = d[2].fma(c(-near), d[4]);
        let far_odd = d[1].fma(c(-near), d[3]);
        [
            d[2].fma(minus_sum, d[0].fma(product, d[4])),
            near_odd.fma(c(NEAR), near_even),
            near_odd.fma(c(-NEAR), near_even),
            far_odd.fma(c(FAR), far_even),
            far_odd.fma(c(-FAR), far_even),
            d[3].fma(minus_sum, d[1].fma(product, d[5])),
        ]
    }

    #[inline(always)]
    fn output<V: Vector>(m: [V; POINTS]) -> [V; OUTPUTS] {
        let c = |x: f64| V::splat(x as f32);
        let (near, far) = (NEAR * NEAR, FAR * FAR);
        let (near_sum, near_difference) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (far_sum, far_difference) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(near_sum).add(far_sum),
            near_difference.fma(c(NEAR), far_difference.mul(c(FAR))),
            near_sum.fma(c(near), far_sum.mul(c(far))),
            near_difference.fma(c(NEAR * near), far_difference.fma(c(FAR * far), m[5])),
        ]
    }
}

/// The tiles along one axis of an image.
///
/// Under a dilation, outputs `step` apart read inputs `step` apart and nothing else: along the axis the image is `step` images, interleaved,
/// with a convolution of taps next to each other in each. Their tiles are counted one image after the other, as many of each as the
/// longest has, so that the last of an image may have no outputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    /// Inputs.
    pub(super) inputs: usize,
    /// Outputs.
    pub(super) outputs: usize,
    /// Zeros before the inputs.
    pub(super) pad: isize,
    /// The dilation.
    pub(super) step: usize,
    /// Outputs of a whole tile.
    pub(super) tile: usize,
}

/// Tiles of one of the interleaved images.
struct Run {
    /// Which image: its first output.
    image: usize,
    /// Which tiles of it.
    tiles: Range<usize>,
}

impl Axis {
    /// Tiles of each of the images.
    fn each(&self) -> usize {
        self.outputs.div_ceil(self.step).div_ceil(self.tile).max(1)
    }

    /// Tiles of all images.
    pub(super) fn tiles(&self) -> usize {
        self.step.min(self.outputs) * self.each()
    }

    /// Some tiles, image by image.
    fn runs(self, tiles: Range<usize>) -> impl Iterator<Item = Run> {
        let each = self.each();
        (tiles.start / each..tiles.end.div_ceil(each)).map(move |image| {
            let of = |tile: usize| tile.saturating_sub(image * each).min(each);
            Run { image, tiles: of(tiles.start)..of(tiles.end) }
        })
    }

    /// The first output of a run, and how many there are, `step` apart.
    fn span(&self, run: &Run) -> (usize, usize) {
        let length = (self.outputs - run.image).div_ceil(self.step);
        let first = run.tiles.start * self.tile;
        let count = length.min(run.tiles.end * self.tile).saturating_sub(first);
        (run.image + first * self.step, count)
    }

    /// The outputs of one tile: the first and how many.
    fn one(&self, tile: usize) -> (usize, usize) {
        let (image, tile) = (tile / self.each(), tile % self.each());
        self.span(&Run { image, tiles: tile..tile + 1 })
    }

    /// The outputs of some tiles: the first and how many, image by image.
    pub(super) fn spans(self, tiles: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
        self.runs(tiles).map(move |run| self.span(&run))
    }

    /// Which of `n` inputs that stand `step` apart, beginning with the one that an output's first tap reads, lie in the image.
    fn inside(&self, output: usize, n: usize) -> (isize, Range<usize>) {
        let start = output as isize - self.pad;
        let step = self.step as isize;
        let before = |position: isize| {
            (position - start + step - 1).div_euclid(step).clamp(0, n as isize) as usize
        };
        let first = before(0);
        (start, first..before(self.inputs as isize).max(first))
    }
}

/// Some tiles of an image: rows and columns of tiles.
#[derive(Clone, Debug)]
pub(super) struct Patch {
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

impl Patch {
    pub(super) fn tiles(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}

/// Elements that the transform of a patch of `columns` tiles a row needs: the patch's columns, transformed along the other
/// axis, and a block of zeros.
pub(super) fn lines_len(size: Size, columns: usize) -> usize {
    ((columns * size.outputs() + 2) * size.points() + 1) * BLOCK
}

/// The tiles of a patch of the input, transformed.
///
/// `x` is an image of `blocks` blocks, with the inputs of the two `axes`, `lines` as long as [`lines_len`] says; the products' factors go
/// to `v`: for each point, `position` elements apart, `[block][tile][channel]`.
pub(super) struct Input<'a> {
    pub(super) x: *const f32,
    pub(super) blocks: usize,
    /// Rows and columns.
    pub(super) axes: [Axis; 2],
    pub(super) patch: &'a Patch,
    pub(super) lines: *mut f32,
    pub(super) v: *mut f32,
    pub(super) position: usize,
}

impl Input<'_> {
    /// # Safety
    /// What the type's description says is there, and nobody else touches `lines` and `v`.
    pub(super) unsafe fn transform(self, simd: Simd, size: Size) {
        match size {
            Size::Two => dispatch(simd, InputTask { input: self, size: Two }),
            Size::Four => dispatch(simd, InputTask { input: self, size: Four }),
        }
    }
}

struct InputTask<'a, A> {
    input: Input<'a>,
    size: A,
}

impl<A: Transform> Task for InputTask<'_, A> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        // SAFETY: the contract of `Input::transform`.
        unsafe { transform_input::<V, A>(&self.input, &self.size) }
    }
}

/// # Safety
/// As `Input::transform`; the CPU has the instructions of `V`.
#[inline(always)]
unsafe fn transform_input<V: Vector, A: Transform>(i: &Input<'_>, _size: &A) {
    let mut done = 0;
    for run in i.axes[1].runs(i.patch.columns.clone()) {
        transform_columns::<V, A>(i, &run, done);
        done += run.tiles.len();
    }
}

/// The tiles of a patch in the columns of one image; `done` columns of tiles come before them.
///
/// # Safety
/// As `Input::transform`; the CPU has the instructions of `V`.
#[inline(always)]
unsafe fn transform_columns<V: Vector, A: Transform>(i: &Input<'_>, run: &Run, done: usize) {
    let [down_axis, across_axis] = i.axes;
    let (height, width) = (down_axis.inputs, across_axis.inputs);
    let (tiles, across) = (i.patch.tiles(), run.tiles.len());
    let columns = across * A::OUT + 2;
    // Columns `first .. last` of these tiles lie within the image.
    let step = across_axis.step;
    let leftmost = run.image + run.tiles.start * A::OUT * step;
    let (left, Range { start: first, end: last }) = across_axis.inside(leftmost, columns);
    let column = (left + (first * step) as isize).clamp(0, width as isize) as usize;
    let zeros = i.lines.add(columns * A::IN * BLOCK);
    std::ptr::write_bytes(zeros, 0, BLOCK);
    std::ptr::write_bytes(i.lines, 0, first * A::IN * BLOCK);
    std::ptr::write_bytes(i.lines.add(last * A::IN * BLOCK), 0, (columns - last) * A::IN * BLOCK);
    let rows = down_axis.runs(i.patch.rows.clone());
    let rows = rows.flat_map(|run| run.tiles.map(move |tile| (run.image, tile)));
    for (down, (image, row)) in rows.enumerate() {
        let (top, lines) = down_axis.inside(image + row * A::OUT * down_axis.step, A::IN);
        for b in 0..i.blocks {
            // Lines outside of the image read the same zeros for every column.
            let mut from = [(zeros.cast_const(), 0); POINTS];
            for r in lines.clone() {
                let line = (top + (r * down_axis.step) as isize) as usize;
                let at = i.x.add(((b * height + line) * width + column) * BLOCK);
                from[r] = (at, step * BLOCK);
            }
            let to = i.lines.add(first * A::IN * BLOCK);
            for j in 0..last - first {
                let mut lane = 0;
                while lane < BLOCK {
                    let mut d = [V::zero(); POINTS];
                    for r in 0..A::IN {
                        let (from, step) = from[r];
                        d[r] = V::load(from.add(j * step + lane));
                    }
                    let d = A::input(d);
                    for r in 0..A::IN {
                        d[r].store(to.add((j * A::IN + r) * BLOCK + lane));
                    }
                    lane += V::LANES;
                }
            }
            let to = i.v.add((b * tiles + down * i.patch.columns.len() + done) * BLOCK);
            for r in 0..A::IN {
                let (from, to) = (i.lines.add(r * BLOCK), to.add(r * A::IN * i.position));
                for tile in 0..across {
                    let mut lane = 0;
                    while lane < BLOCK {
                        let mut d = [V::zero(); POINTS];
                        for c in 0..A::IN {
                            let at = (tile * A::OUT + c) * A::IN * BLOCK;
                            d[c] = V::load(from.add(at + lane));
                        }
                        let d = A::input(d);
                        for c in 0..A::IN {
                            d[c].store(to.add(c * i.position + tile * BLOCK + lane));
                        }
                        lane += V::LANES;
                    }
                }
            }
        }
    }
}

/// The outputs of a patch, from its products.
///
/// The products `m` are, for each point, `position` elements apart, `[tile][block][filter]`; `y` is the first block's plane
/// of the outputs of the two `axes`, the next ones `plane` elements apart. Pointers but `m` and `y` may be null.
pub(super) struct Output<'a> {
    pub(super) m: *const f32,
    pub(super) position: usize,
    /// Blocks of filters.
    pub(super) blocks: usize,
    pub(super) patch: &'a Patch,
    pub(super) y: *mut f32,
    pub(super) plane: usize,
    /// Rows and columns.
    pub(super) axes: [Axis; 2],
    /// One value a filter.
    pub(super) bias: *const f32,
    /// Same place and layout as `y`.
    pub(super) residual: *const f32,
    /// The results' limits.
    pub(super) clamp: (f32, f32),
}

impl Output<'_> {
    /// # Safety
    /// What the type's description says is there, and nobody else touches the patch of `y`.
    pub(super) unsafe fn transform(self, simd: Simd, size: Size) {
        match size {
            Size::Two => dispatch(simd, OutputTask { output: self, size: Two }),
            Size::Four => dispatch(simd, OutputTask { output: self, size: Four }),
        }
    }
}

struct OutputTask<'a, A> {
    output: Output<'a>,
    size: A,
}

impl<A: Transform> Task for OutputTask<'_, A> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        // SAFETY: the contract of `Output::transform`.
        unsafe { transform_output::<V, A>(&self.output, &self.size) }
    }
}

/// # Safety
/// As `Output::transform`; the CPU has the instructions of `V`.
#[inline(always)]
unsafe fn transform_output<V: Vector, A: Transform>(o: &Output<'_>, _size: &A) {
    let (low, high) = (V::splat(o.clamp.0), V::splat(o.clamp.1));
    let mut from = o.m;
    let [down, across] = o.axes;
    let width = across.outputs;
    for row in o.patch.rows.clone() {
        let (top, rows) = down.one(row);
        for column in o.patch.columns.clone() {
            let (left, columns) = across.one(column);
            let first = (top * width + left) * BLOCK;
            for block in 0..o.blocks {
                let mut lane = 0;
                while lane < BLOCK {
                    let mut half = [[V::zero(); POINTS]; OUTPUTS];
                    for c in 0..A::IN {
                        let mut d = [V::zero(); POINTS];
                        for r in 0..A::IN {
                            d[r] = V::load(from.add((r * A::IN + c) * o.position + lane));
                        }
                        let d = A::output(d);
                        for r in 0..A::OUT {
                            half[r][c] = d[r];
                        }
                    }
                    let bias = if o.bias.is_null() {
                        V::zero()
                    } else {
                        V::load(o.bias.add(block * BLOCK + lane))
                    };
                    let at = block * o.plane + first + lane;
                    for r in 0..A::OUT {
                        if r < rows {
                            let d = A::output(half[r]);
                            for c in 0..A::OUT {
                                if c < columns {
                                    let at = at + (r * down.step * width + c * across.step) * BLOCK;
                                    let mut x = d[c].add(bias);
                                    if !o.residual.is_null() {
                                        x = x.add(V::load(o.residual.add(at)));
                                    }
                                    x.clamp(low, high).store(o.y.add(at));
                                }
                            }
                        }
                    }
                    lane += V::LANES;
                }
                from = from.add(BLOCK);
            }
        }
    }
}
