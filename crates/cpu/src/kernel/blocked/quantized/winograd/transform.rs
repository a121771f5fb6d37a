//! The transforms of tiles of 2×2 results: of filters, of the input, and of products back to sums.
#![allow(clippy::wildcard_imports, reason = "intrinsics have names of their own")]
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at each function")]

use super::{POSITIONS, SIDE};
use crate::kernel::blocked::BLOCK;
use crate::kernel::blocked::quantized::tile::MOST_PIXELS;

/// `2G · g · (2G)ᵀ`, row by row.
pub(super) fn transformed_filter(g: [i32; 9]) -> [i32; POSITIONS] {
    let line = |a: i32, b: i32, c: i32| [2 * a, a + b + c, a - b + c, 2 * c];
    let columns: [[i32; SIDE]; 3] = std::array::from_fn(|j| line(g[j], g[3 + j], g[6 + j]));
    let mut all = [0; POSITIONS];
    for i in 0..SIDE {
        let row = line(columns[0][i], columns[1][i], columns[2][i]);
        all[i * SIDE..(i + 1) * SIDE].copy_from_slice(&row);
    }
    all
}

/// `Bᵀ · d · B` of 16 channels: lines `line` elements apart, results `position` elements apart.
///
/// # Safety
/// `from` is readable for four lines of four pixels, `to` writable for 16 results.
pub(super) unsafe fn transform_plain(from: *const i16, line: usize, to: *mut i16, position: usize) {
    for c in 0..BLOCK {
        let at = |i: usize, j: usize| *from.add(i * line + j * BLOCK + c);
        let once = |d: [i16; SIDE]| [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]];
        let rows: [[i16; SIDE]; SIDE] =
            std::array::from_fn(|j| once(std::array::from_fn(|i| at(i, j))));
        for i in 0..SIDE {
            let row = once(std::array::from_fn(|j| rows[j][i]));
            for (j, value) in row.into_iter().enumerate() {
                *to.add((i * SIDE + j) * position + c) = value;
            }
        }
    }
}

/// # Safety
/// As [`transform_plain`]; the CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn transform_avx2(from: *const i16, line: usize, to: *mut i16, position: usize) {
    use std::arch::x86_64::*;
    let once = |d: [__m256i; SIDE]| {
        [
            _mm256_sub_epi16(d[0], d[2]),
            _mm256_add_epi16(d[1], d[2]),
            _mm256_sub_epi16(d[2], d[1]),
            _mm256_sub_epi16(d[1], d[3]),
        ]
    };
    let mut columns = [[_mm256_setzero_si256(); SIDE]; SIDE];
    for (j, column) in columns.iter_mut().enumerate() {
        let mut d = [_mm256_setzero_si256(); SIDE];
        for (i, d) in d.iter_mut().enumerate() {
            *d = _mm256_loadu_si256(from.add(i * line + j * BLOCK).cast());
        }
        *column = once(d);
    }
    for i in 0..SIDE {
        let row = once([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
        for (j, value) in row.into_iter().enumerate() {
            _mm256_storeu_si256(to.add((i * SIDE + j) * position).cast(), value);
        }
    }
}

/// `Aᵀ · m · A / 4 + bias` of each tile: two lines of sums, pixel by pixel.
///
/// # Safety
/// `products` is readable for 16 positions of `tiles` times 16 filters, `bias` for 16.
#[inline(always)]
pub(super) unsafe fn gather_any(
    products: *const i32,
    tiles: usize,
    bias: *const i32,
    sums: &mut [[i32; 2 * MOST_PIXELS * BLOCK]; 2],
) {
    for tile in 0..tiles {
        let at = |position: usize| {
            &*products.add((position * tiles + tile) * BLOCK).cast::<[i32; BLOCK]>()
        };
        let bias = &*bias.cast::<[i32; BLOCK]>();
        for (i, sums) in sums.iter_mut().enumerate() {
            let mut columns = [[0i32; BLOCK]; SIDE];
            for (j, column) in columns.iter_mut().enumerate() {
                let m = [at(j), at(SIDE + j), at(2 * SIDE + j), at(3 * SIDE + j)];
                for (f, sum) in column.iter_mut().enumerate() {
                    *sum = if i == 0 {
                        m[0][f].wrapping_add(m[1][f]).wrapping_add(m[2][f])
                    } else {
                        m[1][f].wrapping_sub(m[2][f]).wrapping_sub(m[3][f])
                    };
                }
            }
            let (left, right) = sums[2 * tile * BLOCK..2 * (tile + 1) * BLOCK].split_at_mut(BLOCK);
            for f in 0..BLOCK {
                let [a, b, c, d] = [columns[0][f], columns[1][f], columns[2][f], columns[3][f]];
                left[f] = (a.wrapping_add(b).wrapping_add(c) >> 2).wrapping_add(bias[f]);
                right[f] = (b.wrapping_sub(c).wrapping_sub(d) >> 2).wrapping_add(bias[f]);
            }
        }
    }
}

/// # Safety
/// As [`gather_any`]; the CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn gather_avx2(
    products: *const i32,
    tiles: usize,
    bias: *const i32,
    sums: &mut [[i32; 2 * MOST_PIXELS * BLOCK]; 2],
) {
    gather_any(products, tiles, bias, sums);
}
