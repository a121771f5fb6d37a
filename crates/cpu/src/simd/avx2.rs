//! Eight `f32` lanes in one AVX register, with AVX2 integers and FMA.
#![allow(
    clippy::inline_always,
    reason = "the methods must take on the instruction set of the loop they are used in"
)]
#![allow(clippy::wildcard_imports, reason = "intrinsics have names of their own")]
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract of each method is the trait's")]

use super::Vector;
use std::arch::x86_64::*;

/// See [`Vector`].
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

/// Eight set and eight clear lanes; a load from position `8 - n` gives the mask of the first `n`.
static FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// # Safety
/// AVX is there; `n ≤ 8`.
#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    _mm256_loadu_si256(FIRST.as_ptr().add(8 - n).cast())
}

// SAFETY of every `unsafe` block in this file: `Avx2` only exists inside `dispatch`, after the CPU's features were checked;
// pointers are covered by the contract of the trait method.
impl Vector for Avx2 {
    const LANES: usize = 8;
    type Mask = __m256;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(_mm256_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        _mm256_storeu_ps(p, self.0);
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        Self(_mm256_maskload_ps(p, first(n)))
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        // Not the instruction with a mask, which AMD's processors take dozens of steps for.
        if n == 8 {
            return self.store(p);
        }
        let (mut p, mut rest) = (p, _mm256_castps256_ps128(self.0));
        if n & 4 != 0 {
            _mm_storeu_ps(p, rest);
            (p, rest) = (p.add(4), _mm256_extractf128_ps::<1>(self.0));
        }
        if n & 2 != 0 {
            _mm_storel_pd(p.cast(), _mm_castps_pd(rest));
            (p, rest) = (p.add(2), _mm_movehl_ps(rest, rest));
        }
        if n & 1 != 0 {
            _mm_store_ss(p, rest);
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe { _mm256_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe {
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)
        })
    }
    #[inline(always)]
    fn floor(self) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe { _mm256_floor_ps(self.0) })
    }
    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        let bit = unsafe { _mm256_set1_ps(-0.0) };
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe { _mm256_or_ps(_mm256_andnot_ps(bit, self.0), _mm256_and_ps(bit, sign.0)) })
    }
    #[inline(always)]
    fn lt(self, other: Self) -> __m256 {
        // SAFETY: the CPU has AVX2, as said above.
        unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0) }
    }
    #[inline(always)]
    fn eq(self, other: Self) -> __m256 {
        // SAFETY: the CPU has AVX2, as said above.
        unsafe { _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0) }
    }
    #[inline(always)]
    fn select(mask: __m256, yes: Self, no: Self) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe { _mm256_blendv_ps(no.0, yes.0, mask) })
    }
    #[inline(always)]
    fn exp2_integral(self) -> Self {
        // SAFETY: the CPU has AVX2, as said above.
        let bits = unsafe { _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127)) };
        // SAFETY: the CPU has AVX2, as said above.
        Self(unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(bits)) })
    }
    #[inline(always)]
    fn split_exponent(self) -> (Self, Self) {
        // SAFETY: the CPU has AVX2, as said above.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let exponent = _mm256_sub_epi32(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(127));
            let mantissa = _mm256_or_si256(
                _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff)),
                _mm256_set1_epi32(0x3f80_0000),
            );
            (Self(_mm256_castsi256_ps(mantissa)), Self(_mm256_cvtepi32_ps(exponent)))
        }
    }
    #[inline(always)]
    fn deinterleave(self, next: Self) -> (Self, Self) {
        // SAFETY: the CPU has AVX2, as said above.
        unsafe {
            // Within each half: a0 a2 b0 b2 | a4 a6 b4 b6; then the middle quarters change places.
            let even = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(self.0, next.0));
            let odd = _mm256_castps_pd(_mm256_shuffle_ps::<0b11_01_11_01>(self.0, next.0));
            let even = _mm256_permute4x64_pd::<0b11_01_10_00>(even);
            let odd = _mm256_permute4x64_pd::<0b11_01_10_00>(odd);
            (Self(_mm256_castpd_ps(even)), Self(_mm256_castpd_ps(odd)))
        }
    }
    #[inline(always)]
    unsafe fn transpose(
        from: *const f32,
        from_step: usize,
        (rows, columns): (usize, usize),
        to: *mut f32,
        to_step: usize,
        width: usize,
    ) {
        let mut a = [_mm256_setzero_ps(); 8];
        for (i, a) in a.iter_mut().enumerate().take(rows) {
            *a = Self::load_first(from.add(i * from_step), columns).0;
        }
        // Fours of rows: half `h` of `b[4g + r]` holds column `4h + r` of rows `4g .. 4g + 4`; then the halves change places.
        let mut b = a;
        for g in 0..2 {
            let [r0, r1, r2, r3] = [a[4 * g], a[4 * g + 1], a[4 * g + 2], a[4 * g + 3]];
            let low = [_mm256_unpacklo_ps(r0, r1), _mm256_unpacklo_ps(r2, r3)];
            let high = [_mm256_unpackhi_ps(r0, r1), _mm256_unpackhi_ps(r2, r3)];
            b[4 * g] = _mm256_shuffle_ps::<0b01_00_01_00>(low[0], low[1]);
            b[4 * g + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(low[0], low[1]);
            b[4 * g + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(high[0], high[1]);
            b[4 * g + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(high[0], high[1]);
        }
        for r in 0..4 {
            a[r] = _mm256_permute2f128_ps::<0x20>(b[r], b[r + 4]);
            a[r + 4] = _mm256_permute2f128_ps::<0x31>(b[r], b[r + 4]);
        }
        for (p, a) in a.iter().enumerate().take(columns) {
            // Lanes that the next line overwrites may be stored with this one.
            if width == 8 || (to_step == width && p + 1 < columns && 8 - width <= width) {
                Self(*a).store(to.add(p * to_step));
            } else {
                Self(*a).store_first(to.add(p * to_step), width);
            }
        }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: the CPU has AVX2, as said above.
        unsafe {
            let four =
                _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        // SAFETY: the CPU has AVX2, as said above.
        unsafe {
            let four =
                _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
}
