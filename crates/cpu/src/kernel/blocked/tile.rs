//! The register tile of a convolution on blocks: some neighboring output pixels by one or two blocks of filters.
//!
//! One description for every instruction set: the tile is generic over the vector, the number of pixels, the vectors of
//! filters and the distance of two pixels in the input (a constant, so that every read is one instruction). It fills
//! the registers: 14 × 2 vectors of 32 (AVX-512), 6 × 2 of 16 (AVX2), 5 × 4 of 32 (NEON).
#![allow(unsafe_op_in_unsafe_fn, reason = "one contract for the whole tile, stated at `Tile`")]

use super::BLOCK;
use crate::detect::Simd;
use crate::kernel::activation::{Activation, activate_rows};
use crate::simd::{Scalar, Vector, prefetch, prefetch_far};

/// What one tile reads: blocks of input channels, and the taps of each.
pub(super) struct Reach<'a> {
    /// Blocks of input channels.
    pub(super) blocks: usize,
    /// Channels of the last of them.
    pub(super) last: usize,
    /// Channels of the others.
    pub(super) block: usize,
    /// Elements from one block of the input to the next.
    pub(super) x_block: usize,
    /// Elements from the weights of one block to the next's.
    pub(super) w_block: usize,
    /// For each tap its offset in the input and in the weights.
    pub(super) taps: &'a [(usize, usize)],
}

/// `(reach, x, w, target)`: `x` is the first pixel's first channel at tap 0, `w` the weights of the tile.
///
/// # Safety
/// Everything `reach` spans from `x` and `w` is readable, the target is writable as it says, and the CPU has the instruction
/// set the function was compiled for.
pub(super) type Tile = unsafe fn(&Reach<'_>, *const f32, *const f32, &Target);

/// Where a tile goes, and what happens to it on the way. Pointers may be null but `y`.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// Leave the sums at `y` as `[pixel][block][filter]`; nothing else applies.
    pub(super) raw: bool,
    /// First pixel of the first block of filters; pixels follow each other.
    pub(super) y: *mut f32,
    /// Elements from one block of filters to the next, for the result and the residual.
    pub(super) y_block: usize,
    /// Add what `y` holds.
    pub(super) accumulate: bool,
    /// These are the last input channels: bias, residual and activation apply.
    pub(super) finish: bool,
    /// One value a filter of the tile.
    pub(super) bias: *const f32,
    /// Same place and layout as `y`.
    pub(super) residual: *const f32,
    /// Applied last.
    pub(super) activation: Activation,
    pub(super) simd: Simd,
    /// Weights that are read next: asked for on the way, `soon_step` elements a channel of a tap.
    pub(super) soon: *const f32,
    /// See `soon`.
    pub(super) soon_step: usize,
}

impl Target {
    /// All there is goes to `y`, without bias, residual and activation.
    pub(super) fn blocks(y: *mut f32, y_block: usize, simd: Simd) -> Target {
        Target { raw: false, y_block, ..Target::sums(y, simd, (std::ptr::null(), 0)) }
    }

    /// The bare sums go to `y`: for each pixel all filters of the tile.
    pub(super) fn sums(y: *mut f32, simd: Simd, soon: (*const f32, usize)) -> Target {
        Target {
            raw: true,
            y,
            y_block: 0,
            accumulate: false,
            finish: false,
            bias: std::ptr::null(),
            residual: std::ptr::null(),
            activation: Activation::None,
            simd,
            soon: soon.0,
            soon_step: soon.1,
        }
    }
}

/// The tiles of one instruction set.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    /// Most pixels of a tile.
    pub(super) pixels: usize,
    /// Most blocks of filters.
    pub(super) blocks: usize,
    /// `[distance of pixels][blocks - 1][pixels - 1]`
    table: &'static [[&'static [Tile]; 2]; 4],
}

/// Distances of two pixels in elements that there are tiles for.
const STEPS: [usize; 4] = [4, 8, 16, 32];

impl Tiles {
    pub(super) fn of(simd: Simd) -> Tiles {
        match simd {
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => Tiles { pixels: 14, blocks: 2, table: &AVX512 },
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => Tiles { pixels: 6, blocks: 1, table: &AVX2 },
            #[cfg(target_arch = "aarch64")]
            Simd::Neon => Tiles { pixels: 5, blocks: 1, table: &NEON },
            _ => Tiles { pixels: 2, blocks: 1, table: &SCALAR },
        }
    }

    /// Whether there are tiles for pixels `step` elements apart.
    pub(super) fn has_step(step: usize) -> bool {
        STEPS.contains(&step)
    }

    /// The tile of `pixels` by `blocks` blocks of filters.
    pub(super) fn get(&self, step: usize, pixels: usize, blocks: usize) -> Tile {
        let step = STEPS.iter().position(|&s| s == step).unwrap_or(STEPS.len());
        self.table[step][blocks - 1][pixels - 1]
    }

    /// Lengths that make up `n` pixels, as even as they can be.
    pub(super) fn split(&self, n: usize) -> impl Iterator<Item = usize> + use<> {
        let count = n.div_ceil(self.pixels);
        (0..count).map(move |i| n / count + usize::from(i < n % count))
    }
}

/// Products added in one register before their sum is put by: rounding errors grow with the square root of it.
const LONGEST_SUM: usize = 128;

/// How many taps ahead weights are asked for: they come from the second level in a stream that the hardware follows only to
/// the end of a page, and not over the taps that are left out. A tenth of the time of ResNet-50 and MobileNet-V2.
const AHEAD: usize = 2;

/// # Safety
/// As [`Tile`]; `out` is writable for `P * NV` vectors.
#[inline(always)]
unsafe fn tile<V: Vector, const P: usize, const NV: usize, const STEP: usize>(
    reach: &Reach<'_>,
    x: *const f32,
    w: *const f32,
    sums: *mut f32,
    (mut soon, soon_step): (*const f32, usize),
) {
    let mut acc = [[V::zero(); NV]; P];
    let (mut steps, mut is_first) = (0, true);
    let (mut later, mut later_tap) = (w, 0);
    let mut next_tap = || {
        later_tap += 1;
        if later_tap >= reach.taps.len() {
            later_tap = 0;
            later = later.wrapping_add(reach.w_block);
        }
        later.wrapping_add(reach.taps.get(later_tap).map_or(0, |tap| tap.1))
    };
    for _ in 1..AHEAD {
        next_tap();
    }
    for b in 0..reach.blocks {
        let n = if b + 1 == reach.blocks { reach.last } else { reach.block };
        let (x, w) = (x.add(b * reach.x_block), w.add(b * reach.w_block));
        for &(x_tap, w_tap) in reach.taps {
            let (mut a, mut w) = (x.add(x_tap), w.add(w_tap));
            let mut next_block = a.wrapping_add(reach.x_block);
            let mut ahead = next_tap();
            for _ in 0..n {
                let mut row = [V::zero(); NV];
                for (j, r) in row.iter_mut().enumerate() {
                    *r = V::load(w.add(j * V::LANES));
                }
                for (p, sums) in acc.iter_mut().enumerate() {
                    let s = V::splat(*a.add(p * STEP));
                    for j in 0..NV {
                        sums[j] = s.fma(row[j], sums[j]);
                    }
                }
                for j in 0..NV * V::LANES / 16 {
                    prefetch(ahead.wrapping_add(j * 16));
                }
                ahead = ahead.wrapping_add(NV * V::LANES);
                // A pixel of the next block for each channel of this one: the pixels of a block are a stream too short for
                // the hardware to follow.
                prefetch(next_block);
                next_block = next_block.wrapping_add(STEP);
                prefetch_far(soon);
                soon = soon.wrapping_add(soon_step);
                a = a.add(1);
                w = w.add(NV * V::LANES);
            }
        }
        steps += n * reach.taps.len();
        if steps < LONGEST_SUM && b + 1 < reach.blocks {
            continue;
        }
        for (p, sums_of) in acc.iter_mut().enumerate() {
            for (j, sum) in sums_of.iter_mut().enumerate() {
                let to = sums.add((p * NV + j) * V::LANES);
                if is_first { *sum } else { V::load(to).add(*sum) }.store(to);
                *sum = V::zero();
            }
        }
        (steps, is_first) = (0, false);
    }
}

/// Writes `pixels` pixels of `filters` sums to their target. Apart from the tiles, so that each of these stays small.
///
/// # Safety
/// `sums` is readable for `pixels * filters` elements; the target's pointers cover the tile, which nobody else touches.
#[inline(always)]
unsafe fn write<V: Vector>(sums: *const f32, pixels: usize, filters: usize, t: &Target) {
    let clamp = t.activation.as_clamp();
    let (low, high) = clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
    let (low, high) = (V::splat(low), V::splat(high));
    let mut lane = 0;
    while lane < filters {
        let offset = lane / BLOCK * t.y_block + lane % BLOCK;
        let bias =
            if t.finish && !t.bias.is_null() { V::load(t.bias.add(lane)) } else { V::zero() };
        for p in 0..pixels {
            let at = offset + p * BLOCK;
            let mut x = V::load(sums.add(p * filters + lane));
            if t.accumulate {
                x = x.add(V::load(t.y.add(at)));
            }
            if t.finish {
                x = x.add(bias);
                if !t.residual.is_null() {
                    x = x.add(V::load(t.residual.add(at)));
                }
                x = x.clamp(low, high);
            }
            x.store(t.y.add(at));
        }
        lane += V::LANES;
    }
    if t.finish && clamp.is_none() {
        activate_rows(t.simd, t.activation, t.y, filters / BLOCK, pixels * BLOCK, t.y_block);
    }
}

/// Asks for the lines that a tile will write, and for what it will add to them.
#[inline(never)]
fn ask_for(t: &Target, pixels: usize, blocks: usize) {
    for b in 0..blocks {
        for p in 0..pixels {
            let at = b * t.y_block + p * BLOCK;
            prefetch(t.y.wrapping_add(at));
            if t.finish && !t.residual.is_null() {
                prefetch(t.residual.wrapping_add(at));
            }
        }
    }
}

/// The largest tile, on its own cache lines.
#[repr(align(64))]
struct Sums(std::mem::MaybeUninit<[f32; 14 * 32]>);

/// The table of one instruction set: vectors of one block and of two (the same where there is but one), pixels as listed.
macro_rules! tiles {
    (
        $name:ident, $function:ident, $write:ident, $vector:ty, $($features:literal)?,
        $one:literal, $two:literal, $pixels:tt
    ) => {
        /// # Safety
        /// See [`Tile`].
        $(#[target_feature(enable = $features)])?
        unsafe fn $function<const P: usize, const NV: usize, const STEP: usize>(
            reach: &Reach<'_>, x: *const f32, w: *const f32, t: &Target,
        ) {
            let mut sums = Sums(std::mem::MaybeUninit::uninit());
            let sums = if t.raw { t.y } else { sums.0.as_mut_ptr().cast() };
            if !t.raw {
                ask_for(t, P, NV * <$vector>::LANES / BLOCK);
            }
            tile::<$vector, P, NV, STEP>(reach, x, w, sums, (t.soon, t.soon_step));
            if !t.raw {
                $write(sums, P, NV * <$vector>::LANES, t);
            }
        }
        /// # Safety
        /// As `write`, on a CPU with these instructions.
        $(#[target_feature(enable = $features)])?
        #[inline(never)]
        unsafe fn $write(sums: *const f32, pixels: usize, filters: usize, t: &Target) {
            write::<$vector>(sums, pixels, filters, t);
        }
        static $name: [[&[Tile]; 2]; 4] = [
            tiles!(@step $function, 4, $one, $two, $pixels),
            tiles!(@step $function, 8, $one, $two, $pixels),
            tiles!(@step $function, 16, $one, $two, $pixels),
            tiles!(@step $function, 32, $one, $two, $pixels),
        ];
    };
    (@step $function:ident, $step:literal, $one:literal, $two:literal, [$($pixels:literal)*]) => {
        [&[$($function::<$pixels, $one, $step>),*], &[$($function::<$pixels, $two, $step>),*]]
    };
}

#[cfg(target_arch = "x86_64")]
tiles!(AVX512, tile_avx512, write_avx512, crate::simd::Avx512,
    "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma", 1, 2, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
#[cfg(target_arch = "x86_64")]
tiles!(AVX2, tile_avx2, write_avx2, crate::simd::Avx2, "avx2,fma", 2, 2, [1 2 3 4 5 6]);
#[cfg(target_arch = "aarch64")]
tiles!(NEON, tile_neon, write_neon, crate::simd::Neon, "neon", 4, 4, [1 2 3 4 5]);
tiles!(SCALAR, tile_scalar, write_scalar, Scalar, , 4, 4, [1 2]);
