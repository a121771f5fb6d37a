//! Four `f32` lanes in one NEON register (AArch64, where it is part of the baseline).
#![allow(
    clippy::inline_always,
    reason = "the methods must take on the instruction set of the loop they are used in"
)]
#![allow(clippy::wildcard_imports, reason = "intrinsics have names of their own")]
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract of each method is the trait's")]

use super::Vector;
use std::arch::aarch64::*;

/// See [`Vector`].
#[derive(Clone, Copy)]
pub(crate) struct Neon(float32x4_t);

// SAFETY of every `unsafe` block in this file: NEON is in the baseline; pointers are covered by the trait method's contract.
impl Vector for Neon {
    const LANES: usize = 4;
    type Mask = uint32x4_t;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vdupq_n_f32(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(vld1q_f32(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        vst1q_f32(p, self.0);
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        let mut lanes = [0.0f32; 4];
        std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
        Self(vld1q_f32(lanes.as_ptr()))
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        let mut lanes = [0.0f32; 4];
        vst1q_f32(lanes.as_mut_ptr(), self.0);
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vaddq_f32(self.0, other.0) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vsubq_f32(self.0, other.0) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vmulq_f32(self.0, other.0) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vdivq_f32(self.0, other.0) })
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vfmaq_f32(c.0, self.0, b.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vbslq_f32(vcgtq_f32(self.0, other.0), self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vbslq_f32(vcltq_f32(self.0, other.0), self.0, other.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vsqrtq_f32(self.0) })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vabsq_f32(self.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vrndnq_f32(self.0) })
    }
    #[inline(always)]
    fn floor(self) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vrndmq_f32(self.0) })
    }
    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vbslq_f32(vdupq_n_u32(0x8000_0000), sign.0, self.0) })
    }
    #[inline(always)]
    fn lt(self, other: Self) -> uint32x4_t {
        // SAFETY: NEON is part of the baseline of this architecture.
        unsafe { vcltq_f32(self.0, other.0) }
    }
    #[inline(always)]
    fn eq(self, other: Self) -> uint32x4_t {
        // SAFETY: NEON is part of the baseline of this architecture.
        unsafe { vceqq_f32(self.0, other.0) }
    }
    #[inline(always)]
    fn select(mask: uint32x4_t, yes: Self, no: Self) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vbslq_f32(mask, yes.0, no.0) })
    }
    #[inline(always)]
    fn exp2_integral(self) -> Self {
        // SAFETY: NEON is part of the baseline of this architecture.
        let bits = unsafe { vaddq_s32(vcvtnq_s32_f32(self.0), vdupq_n_s32(127)) };
        // SAFETY: NEON is part of the baseline of this architecture.
        Self(unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(bits)) })
    }
    #[inline(always)]
    fn split_exponent(self) -> (Self, Self) {
        // SAFETY: NEON is part of the baseline of this architecture.
        unsafe {
            let bits = vreinterpretq_u32_f32(self.0);
            let exponent =
                vsubq_s32(vreinterpretq_s32_u32(vshrq_n_u32::<23>(bits)), vdupq_n_s32(127));
            let mantissa =
                vorrq_u32(vandq_u32(bits, vdupq_n_u32(0x007f_ffff)), vdupq_n_u32(0x3f80_0000));
            (Self(vreinterpretq_f32_u32(mantissa)), Self(vcvtq_f32_s32(exponent)))
        }
    }
    #[inline(always)]
    fn deinterleave(self, next: Self) -> (Self, Self) {
        // SAFETY: NEON is part of the baseline of this architecture.
        unsafe { (Self(vuzp1q_f32(self.0, next.0)), Self(vuzp2q_f32(self.0, next.0))) }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: NEON is part of the baseline of this architecture.
        unsafe { vaddvq_f32(self.0) }
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        // SAFETY: NEON is part of the baseline of this architecture.
        unsafe { vmaxvq_f32(self.0) }
    }
}
