//! Sums on their way to the output: bias, residual and activation, and where each position's filters go.
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at `Written::write`")]

use super::plan::TILE;
use super::tile::{SIDE, Sums};
use super::{Epilogue, Split};
use crate::detect::Simd;
use crate::kernel::activation::activate_rows;
use crate::simd::{Task, Vector, dispatch};
use std::ops::Range;

/// Where a tile goes.
pub(super) struct Written<'a> {
    pub(super) split: &'a Split,
    pub(super) epilogue: &'a Epilogue<'a>,
    pub(super) output: *mut f32,
    /// What its chunk covers.
    pub(super) images: Range<usize>,
    pub(super) lines: Range<usize>,
    pub(super) panel: usize,
    /// The tile's first position.
    pub(super) first: usize,
}

impl Written<'_> {
    /// # Safety
    /// The output and the residual are as [`Split::run`] checks them, and nobody else touches the tile's elements.
    pub(super) unsafe fn write(&self, sums: &mut Sums) {
        let simd = self.split.simd;
        let clamp = self.epilogue.activation.as_clamp();
        dispatch(simd, Pass { to: self, sums, add: true, clamp });
        if clamp.is_none() {
            let all: *mut f32 = sums.0.as_mut_ptr().cast();
            activate_rows(simd, self.epilogue.activation, all, 1, 4 * SIDE * SIDE, 0);
            let clamp = Some((f32::NEG_INFINITY, f32::INFINITY));
            dispatch(simd, Pass { to: self, sums, add: false, clamp });
        }
    }
}

/// One pass over a tile's pixels.
struct Pass<'a> {
    to: &'a Written<'a>,
    sums: &'a mut Sums,
    /// Adds bias and residual.
    add: bool,
    /// Clamps and writes to the output; else the sums stay where they are.
    clamp: Option<(f32, f32)>,
}

impl Task for Pass<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (to, split) = (self.to, self.to.split);
        let (p, out) = (&split.plan, &split.output);
        let filters = split.shape.filters;
        let padded = if out.padded { filters.next_multiple_of(SIDE) } else { filters };
        let staged_lines = to.lines.len() + p.extra;
        let (mut line, mut column) = (to.first / p.pitch, to.first % p.pitch);
        let mut image = line / staged_lines;
        line %= staged_lines;
        for row in 0..TILE {
            if image >= to.images.len() {
                return;
            }
            if line < to.lines.len() && column < p.width {
                let pixel = (to.lines.start + line) * p.width + column;
                let base = (to.images.start + image) * out.image + pixel * out.pixel;
                for half in 0..2 {
                    let block = 2 * to.panel + half;
                    let lanes = padded.saturating_sub(block * SIDE).min(SIDE);
                    let sums = self.sums.0[2 * (row / SIDE) + half][row % SIDE].as_mut_ptr();
                    // SAFETY: a pixel's filters, as many as there are.
                    unsafe { self.block::<V>(sums, base + block * out.block, block, lanes) };
                }
            }
            column += 1;
            if column == p.pitch {
                column = 0;
                line += 1;
                if line == staged_lines {
                    line = 0;
                    image += 1;
                }
            }
        }
    }
}

impl Pass<'_> {
    /// Sixteen filters of a pixel, `lanes` of them in the output.
    ///
    /// # Safety
    /// `sums` are sixteen; the output and the residual hold the lanes at `at`.
    #[inline(always)]
    unsafe fn block<V: Vector>(&self, sums: *mut f32, at: usize, block: usize, lanes: usize) {
        let mut lane = 0;
        while lane < lanes {
            let n = (lanes - lane).min(V::LANES);
            let mut y = V::load(sums.add(lane));
            let read = |from: *const f32| {
                // SAFETY: `n` lanes are left of the block.
                unsafe { if n == V::LANES { V::load(from) } else { V::load_first(from, n) } }
            };
            if self.add {
                if let Some(bias) = self.to.epilogue.column_bias {
                    y = y.add(read(bias.as_ptr().add(block * SIDE + lane)));
                }
                if let Some(residual) = self.to.epilogue.residual {
                    y = y.add(read(residual.as_ptr().add(at + lane)));
                }
            }
            match self.clamp {
                Some((low, high)) => {
                    let y = y.clamp(V::splat(low), V::splat(high));
                    let to = self.to.output.add(at + lane);
                    if n == V::LANES { y.store(to) } else { y.store_first(to, n) }
                }
                None => y.store(sums.add(lane)),
            }
            lane += V::LANES;
        }
    }
}

impl Sums {
    /// Adds other sums.
    pub(super) fn add(&mut self, simd: Simd, other: &Sums) {
        dispatch(simd, Add(self, other));
    }
}

struct Add<'a>(&'a mut Sums, &'a Sums);

impl Task for Add<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (to, from): (*mut f32, *const f32) =
            (self.0.0.as_mut_ptr().cast(), self.1.0.as_ptr().cast());
        let mut i = 0;
        while i < 4 * SIDE * SIDE {
            // SAFETY: both hold four registers of whole vectors.
            unsafe { V::load(to.add(i)).add(V::load(from.add(i))).store(to.add(i)) };
            i += V::LANES;
        }
    }
}
