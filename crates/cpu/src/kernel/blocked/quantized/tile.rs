//! The register tile: some neighboring output pixels by a block of filters, all channels and taps of them.
//!
//! v1: groups of two 16-bit values, 6 pixels × 16 filters on AVX2 (12 sums of 16 registers). Each step loads the filters of a
//! group once for all pixels; sums begin with the bias.
#![allow(clippy::wildcard_imports, reason = "intrinsics have names of their own")]
#![allow(unsafe_op_in_unsafe_fn, reason = "one contract for the whole tile, stated at `Tile`")]

use super::form::Form;
use crate::kernel::blocked::BLOCK;

/// What one tile reads, in 32-bit groups.
pub(super) struct Reach<'a> {
    /// Blocks of input channels.
    pub(super) blocks: usize,
    /// Groups of the last of them.
    pub(super) last: usize,
    /// Groups of the others.
    pub(super) block: usize,
    /// From one block of the input to the next.
    pub(super) x_block: usize,
    /// From the weights of one block to the next's.
    pub(super) w_block: usize,
    /// For each tap its offset in the input and in the weights.
    pub(super) taps: &'a [(usize, usize)],
    /// Groups from a pixel to the next.
    pub(super) step: usize,
}

/// `(reach, x, w, bias, sums)`: `x` is the first pixel's first group at tap 0, `w` the weights of the block of filters, `bias` what
/// their sums begin with; the sums of each pixel are written to `sums`.
///
/// # Safety
/// Everything `reach` spans from `x` and `w` is readable, `bias` for 16 elements, `sums` is writable for 16 a pixel, and the CPU
/// has the instructions that the function was compiled for.
pub(super) type Tile = unsafe fn(&Reach<'_>, *const i32, *const i32, *const i32, *mut i32);

/// The most pixels of a tile of any form.
pub(super) const MOST_PIXELS: usize = 6;

impl Form {
    /// Most pixels of a tile.
    pub(super) fn pixels(self) -> usize {
        match self {
            Form::Pairs => 2,
            Form::PairsAvx2 => 6,
        }
    }

    /// The tile of so many pixels.
    pub(super) fn tile(self, pixels: usize) -> Tile {
        match self {
            #[cfg(target_arch = "x86_64")]
            Form::PairsAvx2 => AVX2[pixels - 1],
            #[cfg(not(target_arch = "x86_64"))]
            Form::PairsAvx2 => PLAIN[pixels - 1],
            Form::Pairs => PLAIN[pixels - 1],
        }
    }
}

static PLAIN: [Tile; 2] = [plain::<1>, plain::<2>];

/// # Safety
/// See [`Tile`].
unsafe fn plain<const P: usize>(
    reach: &Reach<'_>,
    x: *const i32,
    w: *const i32,
    bias: *const i32,
    sums: *mut i32,
) {
    let mut acc = [*bias.cast::<[i32; BLOCK]>(); P];
    for b in 0..reach.blocks {
        let groups = if b + 1 == reach.blocks { reach.last } else { reach.block };
        for &(x_tap, w_tap) in reach.taps {
            let x = x.add(b * reach.x_block + x_tap);
            let w = w.add(b * reach.w_block + w_tap);
            for g in 0..groups {
                let filters = &*w.add(g * BLOCK).cast::<[i32; BLOCK]>();
                for (p, sums) in acc.iter_mut().enumerate() {
                    let pair = *x.add(p * reach.step + g);
                    let (first, second) = (i32::from(pair as i16), pair >> 16);
                    for (sum, filter) in sums.iter_mut().zip(filters) {
                        let products = first * i32::from(*filter as i16) + second * (filter >> 16);
                        *sum = sum.wrapping_add(products);
                    }
                }
            }
        }
    }
    for (p, row) in acc.iter().enumerate() {
        sums.add(p * BLOCK).cast::<[i32; BLOCK]>().write_unaligned(*row);
    }
}

#[cfg(target_arch = "x86_64")]
static AVX2: [Tile; 6] = [avx2::<1>, avx2::<2>, avx2::<3>, avx2::<4>, avx2::<5>, avx2::<6>];

/// # Safety
/// See [`Tile`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2<const P: usize>(
    reach: &Reach<'_>,
    x: *const i32,
    w: *const i32,
    bias: *const i32,
    sums: *mut i32,
) {
    // A distance that is known while compiling makes each read one instruction.
    match reach.step {
        2 => avx2_step::<P, 2>(reach, x, w, bias, sums),
        4 => avx2_step::<P, 4>(reach, x, w, bias, sums),
        8 => avx2_step::<P, 8>(reach, x, w, bias, sums),
        16 => avx2_step::<P, 16>(reach, x, w, bias, sums),
        _ => avx2_step::<P, 0>(reach, x, w, bias, sums),
    }
}

/// # Safety
/// See [`Tile`]; `STEP` is the reach's, or 0.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn avx2_step<const P: usize, const STEP: usize>(
    reach: &Reach<'_>,
    x: *const i32,
    w: *const i32,
    bias: *const i32,
    sums: *mut i32,
) {
    use std::arch::x86_64::*;
    let step = if STEP == 0 { reach.step } else { STEP };
    let first = [_mm256_loadu_si256(bias.cast()), _mm256_loadu_si256(bias.add(8).cast())];
    let mut acc = [first; P];
    for b in 0..reach.blocks {
        let groups = if b + 1 == reach.blocks { reach.last } else { reach.block };
        for &(x_tap, w_tap) in reach.taps {
            let mut x = x.add(b * reach.x_block + x_tap);
            let mut w = w.add(b * reach.w_block + w_tap);
            // Two groups a turn: counting costs a tenth of the loop.
            for _ in 0..groups / 2 {
                for g in 0..2 {
                    let w0 = _mm256_loadu_si256(w.add(g * BLOCK).cast());
                    let w1 = _mm256_loadu_si256(w.add(g * BLOCK + 8).cast());
                    for p in 0..P {
                        let s = _mm256_set1_epi32(*x.add(p * step + g));
                        acc[p][0] = _mm256_add_epi32(acc[p][0], _mm256_madd_epi16(s, w0));
                        acc[p][1] = _mm256_add_epi32(acc[p][1], _mm256_madd_epi16(s, w1));
                    }
                    _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add((AHEAD + g) * BLOCK).cast());
                }
                x = x.add(2);
                w = w.add(2 * BLOCK);
            }
            if groups % 2 == 1 {
                let w0 = _mm256_loadu_si256(w.cast());
                let w1 = _mm256_loadu_si256(w.add(8).cast());
                for p in 0..P {
                    let s = _mm256_set1_epi32(*x.add(p * step));
                    acc[p][0] = _mm256_add_epi32(acc[p][0], _mm256_madd_epi16(s, w0));
                    acc[p][1] = _mm256_add_epi32(acc[p][1], _mm256_madd_epi16(s, w1));
                }
            }
        }
    }
    for (p, row) in acc.iter().enumerate() {
        _mm256_storeu_si256(sums.add(p * BLOCK).cast(), row[0]);
        _mm256_storeu_si256(sums.add(p * BLOCK + 8).cast(), row[1]);
    }
}

/// How many groups ahead weights are asked for, a line each.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 16;
