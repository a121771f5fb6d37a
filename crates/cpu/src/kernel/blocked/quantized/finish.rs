//! From 32-bit sums to codes: `clamp(((sum · multiplier + 2^(shift−1)) >> shift) + zero, low, high)`.
#![allow(clippy::wildcard_imports, reason = "intrinsics have names of their own")]
#![allow(unsafe_op_in_unsafe_fn, reason = "one contract for the whole function, stated there")]

use super::form::Form;
use crate::kernel::blocked::{BLOCK, blocks};

/// What makes codes of the sums of a convolution, one entry a filter.
#[derive(Clone, Copy, Debug)]
pub struct Requantize<'a> {
    /// Added to the sums.
    pub bias: &'a [i32],
    /// What a step of a sum is worth, in steps of the result over `2^shift`.
    pub multiplier: &'a [i32],
    /// Bits dropped, 1 to 62.
    pub shift: &'a [i32],
    /// The code of 0.
    pub zero: i32,
    /// The least code.
    pub low: i32,
    /// The largest code.
    pub high: i32,
    /// Codes are `i8`.
    pub signed: bool,
}

/// The same in the order of a tile's sums, padded to whole blocks.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) bias: Vec<i32>,
    multiplier: Vec<i32>,
    shift: Vec<i32>,
    zero: i32,
    low: i32,
    high: i32,
    signed: bool,
    form: Form,
    /// All shifts are of 32 or more: the result is in the upper half of the product.
    upper: bool,
    /// For each 8 entries half a step of those at even places, of those at odd ones, and how far their upper halves are shifted.
    halves: Vec<Halves>,
}

/// What rounds and shifts 8 products, made once: to be read as vectors.
#[derive(Debug)]
#[repr(C)]
struct Halves {
    even: [i64; 4],
    odd: [i64; 4],
    shift: [i32; 8],
}

impl Halves {
    fn of(shifts: &[i32]) -> Halves {
        let half = |i: usize| 1i64 << (shifts[i] - 1);
        Halves {
            even: std::array::from_fn(|i| half(2 * i)),
            odd: std::array::from_fn(|i| half(2 * i + 1)),
            shift: std::array::from_fn(|i| shifts[i] - 32),
        }
    }
}

impl Packed {
    pub(super) fn new(form: Form, filters: usize, r: &Requantize<'_>) -> Packed {
        let lists = [r.bias, r.multiplier, r.shift];
        assert!(lists.iter().all(|list| list.len() == filters), "one entry a filter");
        assert!(r.shift.iter().all(|s| (1..=62).contains(s)), "shifts lie in 1..=62");
        let order = form.order();
        let packed = |list: &[i32], fill: i32| -> Vec<i32> {
            (0..blocks(filters) * BLOCK)
                .map(|i| list.get(i / BLOCK * BLOCK + order[i % BLOCK]).copied().unwrap_or(fill))
                .collect()
        };
        let shift = packed(r.shift, 32);
        Packed {
            bias: packed(r.bias, 0),
            multiplier: packed(r.multiplier, 0),
            halves: shift.chunks_exact(8).map(Halves::of).collect(),
            shift,
            zero: r.zero,
            low: r.low,
            high: r.high,
            signed: r.signed,
            form,
            upper: r.shift.iter().all(|s| *s >= 32),
        }
    }

    /// Makes codes of `pixels` times 16 sums of filters `first` and on.
    ///
    /// # Safety
    /// `sums` is readable for `pixels * 16` elements in the form's order, `y` writable for as many bytes; the CPU has the
    /// instructions of the form.
    #[inline(always)]
    pub(super) unsafe fn write(&self, first: usize, sums: *const i32, pixels: usize, y: *mut u8) {
        match self.form {
            #[cfg(target_arch = "x86_64")]
            Form::PairsAvx2 if self.upper => avx2(self, first, sums, pixels, y),
            Form::PairsAvx2 | Form::Pairs => self.plain(first, sums, pixels, y),
        }
    }

    /// # Safety
    /// As [`Packed::write`].
    unsafe fn plain(&self, first: usize, sums: *const i32, pixels: usize, y: *mut u8) {
        let order = self.form.order();
        for i in 0..pixels * BLOCK {
            let lane = i % BLOCK;
            let (multiplier, shift) = (self.multiplier[first + lane], self.shift[first + lane]);
            let product = i64::from(*sums.add(i)) * i64::from(multiplier);
            let rounded = (product + (1i64 << (shift - 1))) >> shift;
            let code = (rounded + i64::from(self.zero)).clamp(self.low.into(), self.high.into());
            *y.add(i / BLOCK * BLOCK + order[lane]) = code as u8;
        }
    }
}

/// # Safety
/// As [`Packed::write`], all shifts being 32 or more.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(p: &Packed, first: usize, sums: *const i32, pixels: usize, y: *mut u8) {
    use std::arch::x86_64::*;
    let zero = _mm256_set1_epi16(p.zero as i16);
    let (low, high) = (_mm256_set1_epi16(p.low as i16), _mm256_set1_epi16(p.high as i16));
    // For each vector: multipliers of even and odd lanes, half a step of each, and the shift of the upper halves.
    let half = |v: usize| {
        let at = first + v * 8;
        let m = _mm256_loadu_si256(p.multiplier[at..at + 8].as_ptr().cast());
        let halves = &p.halves[at / 8];
        let even = _mm256_loadu_si256(halves.even.as_ptr().cast());
        let odd = _mm256_loadu_si256(halves.odd.as_ptr().cast());
        let shift = _mm256_loadu_si256(halves.shift.as_ptr().cast());
        (m, _mm256_srli_epi64::<32>(m), even, odd, shift)
    };
    let (a, b) = (half(0), half(1));
    for i in 0..pixels {
        let scaled = |v: usize, h: &(__m256i, __m256i, __m256i, __m256i, __m256i)| {
            let sum = _mm256_loadu_si256(sums.add(i * BLOCK + v * 8).cast());
            let even = _mm256_add_epi64(_mm256_mul_epi32(sum, h.0), h.2);
            let odd = _mm256_mul_epi32(_mm256_srli_epi64::<32>(sum), h.1);
            let odd = _mm256_add_epi64(odd, h.3);
            let upper = _mm256_blend_epi32::<0b1010_1010>(_mm256_srli_epi64::<32>(even), odd);
            _mm256_srav_epi32(upper, h.4)
        };
        let codes = _mm256_packs_epi32(scaled(0, &a), scaled(1, &b));
        let codes = _mm256_adds_epi16(codes, zero);
        let codes = _mm256_min_epi16(_mm256_max_epi16(codes, low), high);
        let (lower, upper) = (_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes));
        let bytes =
            if p.signed { _mm_packs_epi16(lower, upper) } else { _mm_packus_epi16(lower, upper) };
        _mm_storeu_si128(y.add(i * BLOCK).cast(), bytes);
    }
}
