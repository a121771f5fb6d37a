//! Sixteen `f32` lanes in one AVX-512 register.
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
pub(crate) struct Avx512(__m512);

/// The mask whose first `n ≤ 16` bits are set.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as u16
}

// SAFETY of every `unsafe` block in this file: `Avx512` only exists inside `dispatch`, after the CPU's features were checked;
// pointers are covered by the contract of the trait method.
impl Vector for Avx512 {
    const LANES: usize = 16;
    type Mask = __mmask16;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(_mm512_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        _mm512_storeu_ps(p, self.0);
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        Self(_mm512_maskz_loadu_ps(first(n), p))
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        _mm512_mask_storeu_ps(p, first(n), self.0);
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe { _mm512_abs_ps(self.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)
        })
    }
    #[inline(always)]
    fn floor(self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(self.0)
        })
    }
    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        let bit = unsafe { _mm512_set1_ps(-0.0) };
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe { _mm512_or_ps(_mm512_andnot_ps(bit, self.0), _mm512_and_ps(bit, sign.0)) })
    }
    #[inline(always)]
    fn lt(self, other: Self) -> __mmask16 {
        // SAFETY: the CPU has AVX-512, as said above.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0) }
    }
    #[inline(always)]
    fn eq(self, other: Self) -> __mmask16 {
        // SAFETY: the CPU has AVX-512, as said above.
        unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, other.0) }
    }
    #[inline(always)]
    fn select(mask: __mmask16, yes: Self, no: Self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe { _mm512_mask_blend_ps(mask, no.0, yes.0) })
    }
    #[inline(always)]
    fn exp2_integral(self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        let bits = unsafe { _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127)) };
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(bits)) })
    }
    #[inline(always)]
    fn scale_exponent(self, n: Self) -> Self {
        // SAFETY: the CPU has AVX-512, as said above.
        Self(unsafe { _mm512_scalef_ps(self.0, n.0) })
    }
    #[inline(always)]
    fn reciprocal(self) -> Self {
        // An estimate of 14 bits and one step of Newton's method, but where the estimate is that of infinity:
        // a division takes 16 cycles.
        // SAFETY: the CPU has AVX-512, as said above.
        unsafe {
            let estimate = _mm512_rcp14_ps(self.0);
            let error = _mm512_fnmadd_ps(self.0, estimate, _mm512_set1_ps(1.0));
            let finite = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(self.0, _mm512_set1_ps(f32::INFINITY));
            Self(_mm512_mask3_fmadd_ps(error, estimate, estimate, finite))
        }
    }
    #[inline(always)]
    fn divided(self, by: Self) -> Self {
        // An estimate of the reciprocal of 14 bits, and one step of Newton's method: a division takes 16 cycles.
        // SAFETY: the CPU has AVX-512, as said above.
        unsafe {
            let estimate = _mm512_rcp14_ps(by.0);
            let error = _mm512_fnmadd_ps(by.0, estimate, _mm512_set1_ps(1.0));
            let y = _mm512_mul_ps(self.0, estimate);
            Self(_mm512_fmadd_ps(y, error, y))
        }
    }
    #[inline(always)]
    fn split_exponent(self) -> (Self, Self) {
        // SAFETY: the CPU has AVX-512, as said above.
        let mantissa = unsafe { _mm512_getmant_ps::<_MM_MANT_NORM_1_2, _MM_MANT_SIGN_SRC>(self.0) };
        // SAFETY: the CPU has AVX-512, as said above.
        (Self(mantissa), Self(unsafe { _mm512_getexp_ps(self.0) }))
    }
    #[inline(always)]
    fn deinterleave(self, next: Self) -> (Self, Self) {
        // SAFETY: the CPU has AVX-512, as said above.
        unsafe {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            (
                Self(_mm512_permutex2var_ps(self.0, even, next.0)),
                Self(_mm512_permutex2var_ps(self.0, odd, next.0)),
            )
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
        let mut a = [_mm512_setzero_ps(); 16];
        for (i, a) in a.iter_mut().enumerate().take(rows) {
            *a = _mm512_maskz_loadu_ps(first(columns), from.add(i * from_step));
        }
        // Pairs of rows, then fours: quarter `q` of `b[4g + r]` holds column `4q + r` of rows `4g .. 4g + 4`.
        let mut b = a;
        for g in 0..4 {
            let [r0, r1, r2, r3] = [a[4 * g], a[4 * g + 1], a[4 * g + 2], a[4 * g + 3]];
            let low = [_mm512_unpacklo_ps(r0, r1), _mm512_unpacklo_ps(r2, r3)];
            let high = [_mm512_unpackhi_ps(r0, r1), _mm512_unpackhi_ps(r2, r3)];
            b[4 * g] = _mm512_shuffle_ps::<0b01_00_01_00>(low[0], low[1]);
            b[4 * g + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(low[0], low[1]);
            b[4 * g + 2] = _mm512_shuffle_ps::<0b01_00_01_00>(high[0], high[1]);
            b[4 * g + 3] = _mm512_shuffle_ps::<0b11_10_11_10>(high[0], high[1]);
        }
        // Then the quarters change places: column `4q + r` is quarter `q` of each of the four groups.
        for r in 0..4 {
            let x = _mm512_shuffle_f32x4::<0b10_00_10_00>(b[r], b[r + 4]);
            let y = _mm512_shuffle_f32x4::<0b11_01_11_01>(b[r], b[r + 4]);
            let z = _mm512_shuffle_f32x4::<0b10_00_10_00>(b[r + 8], b[r + 12]);
            let w = _mm512_shuffle_f32x4::<0b11_01_11_01>(b[r + 8], b[r + 12]);
            a[r] = _mm512_shuffle_f32x4::<0b10_00_10_00>(x, z);
            a[r + 4] = _mm512_shuffle_f32x4::<0b10_00_10_00>(y, w);
            a[r + 8] = _mm512_shuffle_f32x4::<0b11_01_11_01>(x, z);
            a[r + 12] = _mm512_shuffle_f32x4::<0b11_01_11_01>(y, w);
        }
        for (p, a) in a.iter().enumerate().take(columns) {
            _mm512_mask_storeu_ps(to.add(p * to_step), first(width), *a);
        }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: the CPU has AVX-512, as said above.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        // SAFETY: the CPU has AVX-512, as said above.
        unsafe { _mm512_reduce_max_ps(self.0) }
    }
}
