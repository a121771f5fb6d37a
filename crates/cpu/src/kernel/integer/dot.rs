//! The register tiles of the 8-bit integer product: each step multiplies groups of neighboring k and adds them in 32 bits.
//!
//! v1: groups of 4 bytes with AVX-512 VNNI (`vpdpbusd`, unsigned by signed), groups of 2 sixteen-bit values with AVX2
//! (`vpmaddwd`, whose sums cannot saturate as `vpmaddubsw` would), plain Rust elsewhere. All are exact modulo 2³².
#![allow(clippy::wildcard_imports, reason = "intrinsics have names of their own")]
#![allow(unsafe_op_in_unsafe_fn, reason = "one contract for the whole tile, stated at `IntTile`")]

use crate::detect::{Simd, has_avx512_vnni};

/// `(groups, a, a_step, b, b_step, c, c_step)`: adds nothing, overwrites `rows × width` of C (steps in 4-byte groups).
///
/// # Safety
/// `a` is readable for `rows` groups at each of `groups` steps of `a_step`, `b` for `width` groups at each of `groups` steps of
/// `b_step`, `c` writable for `rows` rows `c_step` apart of `width` sums; the CPU has the instructions of the form.
pub(crate) type IntTile = unsafe fn(usize, *const i32, usize, *const i32, usize, *mut i32, usize);

/// How a group of four bytes is filled, and with it which instruction multiplies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Four bytes, A unsigned, B signed.
    Vnni,
    /// Two 16-bit values, AVX2.
    PairsAvx2,
    /// Two 16-bit values, plain Rust.
    Pairs,
}

impl Form {
    pub(crate) fn of(simd: Simd) -> Self {
        match simd {
            Simd::Avx512 if has_avx512_vnni() => Self::Vnni,
            Simd::Avx512 | Simd::Avx2 => Self::PairsAvx2,
            Simd::Neon | Simd::Scalar => Self::Pairs,
        }
    }

    /// Values of k in a group.
    pub(crate) fn group(self) -> usize {
        if self == Self::Vnni { 4 } else { 2 }
    }

    /// Rows of the largest tile.
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Vnni => 8,
            Self::PairsAvx2 | Self::Pairs => 4,
        }
    }

    /// Columns of a tile.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Vnni => 32,
            Self::PairsAvx2 => 16,
            Self::Pairs => 8,
        }
    }

    /// The tile of `rows` rows.
    pub(crate) fn tile(self, rows: usize) -> IntTile {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => x86::VNNI[rows - 1],
            #[cfg(target_arch = "x86_64")]
            Self::PairsAvx2 => x86::PAIRS[rows - 1],
            #[cfg(not(target_arch = "x86_64"))]
            Self::Vnni | Self::PairsAvx2 => PLAIN[rows - 1],
            Self::Pairs => PLAIN[rows - 1],
        }
    }
}

static PLAIN: [IntTile; 4] = [plain::<1>, plain::<2>, plain::<3>, plain::<4>];

/// # Safety
/// See [`IntTile`].
unsafe fn plain<const MR: usize>(
    groups: usize,
    mut a: *const i32,
    a_step: usize,
    mut b: *const i32,
    b_step: usize,
    c: *mut i32,
    c_step: usize,
) {
    let mut acc = [[0i32; 8]; MR];
    for _ in 0..groups {
        for (i, row) in acc.iter_mut().enumerate() {
            let x = *a.add(i);
            let (x0, x1) = (i32::from(x as i16), x >> 16);
            for (j, sum) in row.iter_mut().enumerate() {
                let y = *b.add(j);
                *sum = sum.wrapping_add(x0 * i32::from(y as i16) + x1 * (y >> 16));
            }
        }
        a = a.wrapping_add(a_step);
        b = b.wrapping_add(b_step);
    }
    for (i, row) in acc.iter().enumerate() {
        c.add(i * c_step).cast::<[i32; 8]>().write_unaligned(*row);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::IntTile;
    use std::arch::x86_64::*;

    pub(super) static VNNI: [IntTile; 8] =
        [vnni::<1>, vnni::<2>, vnni::<3>, vnni::<4>, vnni::<5>, vnni::<6>, vnni::<7>, vnni::<8>];
    pub(super) static PAIRS: [IntTile; 4] = [pairs::<1>, pairs::<2>, pairs::<3>, pairs::<4>];

    /// # Safety
    /// See [`IntTile`].
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn vnni<const MR: usize>(
        groups: usize,
        mut a: *const i32,
        a_step: usize,
        mut b: *const i32,
        b_step: usize,
        c: *mut i32,
        c_step: usize,
    ) {
        let mut acc = [[_mm512_setzero_si512(); 2]; MR];
        for _ in 0..groups {
            let (b0, b1) = (_mm512_loadu_si512(b.cast()), _mm512_loadu_si512(b.add(16).cast()));
            for i in 0..MR {
                let x = _mm512_set1_epi32(*a.add(i));
                acc[i][0] = _mm512_dpbusd_epi32(acc[i][0], x, b0);
                acc[i][1] = _mm512_dpbusd_epi32(acc[i][1], x, b1);
            }
            a = a.wrapping_add(a_step);
            b = b.wrapping_add(b_step);
        }
        for (i, row) in acc.iter().enumerate() {
            _mm512_storeu_si512(c.add(i * c_step).cast(), row[0]);
            _mm512_storeu_si512(c.add(i * c_step + 16).cast(), row[1]);
        }
    }

    /// # Safety
    /// See [`IntTile`].
    #[target_feature(enable = "avx2")]
    unsafe fn pairs<const MR: usize>(
        groups: usize,
        mut a: *const i32,
        a_step: usize,
        mut b: *const i32,
        b_step: usize,
        c: *mut i32,
        c_step: usize,
    ) {
        let mut acc = [[_mm256_setzero_si256(); 2]; MR];
        for _ in 0..groups {
            let (b0, b1) = (_mm256_loadu_si256(b.cast()), _mm256_loadu_si256(b.add(8).cast()));
            for i in 0..MR {
                let x = _mm256_set1_epi32(*a.add(i));
                acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(x, b0));
                acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(x, b1));
            }
            a = a.wrapping_add(a_step);
            b = b.wrapping_add(b_step);
        }
        for (i, row) in acc.iter().enumerate() {
            _mm256_storeu_si256(c.add(i * c_step).cast(), row[0]);
            _mm256_storeu_si256(c.add(i * c_step + 8).cast(), row[1]);
        }
    }
}
