//! Four `f32` lanes in plain Rust: the fallback on every other CPU, and the reference the others are tested against.
#![allow(clippy::inline_always, reason = "same contract as the intrinsic versions")]

use super::Vector;

/// See [`Vector`].
#[derive(Clone, Copy)]
pub(crate) struct Scalar([f32; 4]);

macro_rules! lanes {
    ($i:ident => $e:expr) => {{
        let mut out = [0.0f32; 4];
        let mut $i = 0;
        while $i < 4 {
            out[$i] = $e;
            $i += 1;
        }
        Self(out)
    }};
}

impl Vector for Scalar {
    const LANES: usize = 4;
    type Mask = [bool; 4];

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller's contract: four elements are readable.
        Self(unsafe { p.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller's contract: four elements are writable.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        // SAFETY: the caller's contract: `n` elements are readable.
        lanes!(i => if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        for (i, x) in self.0.into_iter().enumerate().take(n) {
            // SAFETY: the caller's contract: `n` elements are writable.
            unsafe { *p.add(i) = x };
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        lanes!(i => self.0[i] + other.0[i])
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        lanes!(i => self.0[i] - other.0[i])
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        lanes!(i => self.0[i] * other.0[i])
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        lanes!(i => self.0[i] / other.0[i])
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // Not `f32::mul_add`: without the instruction that is a slow library call.
        lanes!(i => self.0[i] * b.0[i] + c.0[i])
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        lanes!(i => if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        lanes!(i => if self.0[i] < other.0[i] { self.0[i] } else { other.0[i] })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        lanes!(i => self.0[i].sqrt())
    }
    #[inline(always)]
    fn abs(self) -> Self {
        lanes!(i => self.0[i].abs())
    }
    #[inline(always)]
    fn round(self) -> Self {
        lanes!(i => self.0[i].round_ties_even())
    }
    #[inline(always)]
    fn floor(self) -> Self {
        lanes!(i => self.0[i].floor())
    }
    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        lanes!(i => self.0[i].copysign(sign.0[i]))
    }
    #[inline(always)]
    fn lt(self, other: Self) -> [bool; 4] {
        let (a, b) = (self.0, other.0);
        [a[0] < b[0], a[1] < b[1], a[2] < b[2], a[3] < b[3]]
    }
    #[inline(always)]
    fn eq(self, other: Self) -> [bool; 4] {
        let (a, b) = (self.0, other.0);
        [a[0] == b[0], a[1] == b[1], a[2] == b[2], a[3] == b[3]]
    }
    #[inline(always)]
    fn select(mask: [bool; 4], yes: Self, no: Self) -> Self {
        lanes!(i => if mask[i] { yes.0[i] } else { no.0[i] })
    }
    #[inline(always)]
    fn exp2_integral(self) -> Self {
        lanes!(i => f32::from_bits((((self.0[i] as i32) + 127) << 23) as u32))
    }
    #[inline(always)]
    fn split_exponent(self) -> (Self, Self) {
        let mantissa =
            lanes!(i => f32::from_bits((self.0[i].to_bits() & 0x007f_ffff) | 0x3f80_0000));
        (mantissa, lanes!(i => ((self.0[i].to_bits() >> 23) as i32 - 127) as f32))
    }
    #[inline(always)]
    fn deinterleave(self, next: Self) -> (Self, Self) {
        let (a, b) = (self.0, next.0);
        (Self([a[0], a[2], b[0], b[2]]), Self([a[1], a[3], b[1], b[3]]))
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        (self.0[0] + self.0[2]) + (self.0[1] + self.0[3])
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        self.0[0].max(self.0[1]).max(self.0[2].max(self.0[3]))
    }
}
