//! One way to write a vector loop once and run it with AVX-512, AVX2, NEON or plain scalar code.
//!
//! A kernel is a type that implements [`Task`]: its `run` is generic over a [`Vector`] of `f32` lanes. [`dispatch`] enters it
//! through a function compiled for the wanted instruction set, so everything marked `#[inline(always)]` below it is compiled
//! with those instructions. Loops over other element types use the same entrance and leave the vectors to the compiler.
//!
//! Closures and iterator adaptors do not inherit the instruction set unless they are inlined, so hot loops are plain `for`/`while`.
#![allow(unsafe_code, reason = "vector intrinsics and raw loads are the purpose of this module")]
#![allow(
    clippy::inline_always,
    reason = "vector code must take on the instruction set of the loop it is used in"
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use scalar::Scalar;

use crate::detect::Simd;

/// Asks for the cache line at `p`, which need not be readable.
#[inline(always)]
pub(crate) fn prefetch(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults; SSE is part of the baseline of this architecture.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Asks for the cache line at `p`, which need not be readable, in the second-level cache.
#[inline(always)]
pub(crate) fn prefetch_far(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `prefetch`.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// A register of `LANES` consecutive `f32`.
///
/// Values only come to life inside [`dispatch`], which has checked that the CPU has the instructions; that is what makes the
/// safe methods sound.
pub(crate) trait Vector: Copy {
    /// How many `f32` one register holds.
    const LANES: usize;
    /// One truth value a lane.
    type Mask: Copy;

    /// All lanes equal to `x`.
    fn splat(x: f32) -> Self;
    /// # Safety
    /// `p` is readable for `LANES` elements; any alignment.
    unsafe fn load(p: *const f32) -> Self;
    /// # Safety
    /// `p` is writable for `LANES` elements; any alignment.
    unsafe fn store(self, p: *mut f32);
    /// Loads the first `n ≤ LANES` lanes, the rest are zero.
    ///
    /// # Safety
    /// `p` is readable for `n` elements.
    unsafe fn load_first(p: *const f32, n: usize) -> Self;
    /// Stores the first `n ≤ LANES` lanes.
    ///
    /// # Safety
    /// `p` is writable for `n` elements.
    unsafe fn store_first(self, p: *mut f32, n: usize);

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self * b + c`, fused where the CPU has it.
    fn fma(self, b: Self, c: Self) -> Self;
    /// Larger of the two; when a lane of either is NaN the result is `other`'s lane.
    fn max(self, other: Self) -> Self;
    /// Smaller of the two; when a lane of either is NaN the result is `other`'s lane.
    fn min(self, other: Self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    /// To the nearest integer, ties to even.
    fn round(self) -> Self;
    fn floor(self) -> Self;
    /// The magnitude of `self` with the sign of `sign`.
    fn copysign(self, sign: Self) -> Self;
    fn lt(self, other: Self) -> Self::Mask;
    fn eq(self, other: Self) -> Self::Mask;
    /// Lane of `yes` where the mask is set, of `no` elsewhere.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
    /// `2^self` for integral lanes within −126 … 127.
    fn exp2_integral(self) -> Self;
    /// `self · 2^n` for integral lanes of `n` within −252 … 254.
    #[inline(always)]
    fn scale_exponent(self, n: Self) -> Self {
        // Two steps, because 2^n itself may overflow or be subnormal where the product is not.
        let half = n.mul(Self::splat(0.5)).floor();
        self.mul(half.exp2_integral()).mul(n.sub(half).exp2_integral())
    }
    /// `1 / self` for lanes of at least 1, within 2 ulp (the smallest results may be 0); NaN stays NaN.
    #[inline(always)]
    fn reciprocal(self) -> Self {
        Self::splat(1.0).div(self)
    }
    /// `self / by` for lanes of `by` from 1 to 1e38, within 2 ulp.
    #[inline(always)]
    fn divided(self, by: Self) -> Self {
        self.div(by)
    }
    /// Splits positive normal lanes into `(m, e)` with `self = m · 2^e`, `1 ≤ m < 2`.
    fn split_exponent(self) -> (Self, Self);
    /// The even and the odd elements of `self` followed by `next`.
    fn deinterleave(self, next: Self) -> (Self, Self);
    /// Transposes a block: `to[p·to_step + i] = from[i·from_step + p]` for `i < rows`, zero for `rows ≤ i < width`, `p < columns`.
    ///
    /// # Safety
    /// `rows ≤ width ≤ LANES`, `columns ≤ LANES`; `from` is readable, and `to` writable, as above.
    #[inline(always)]
    unsafe fn transpose(
        from: *const f32,
        from_step: usize,
        (rows, columns): (usize, usize),
        to: *mut f32,
        to_step: usize,
        width: usize,
    ) {
        for p in 0..columns {
            for i in 0..width {
                // SAFETY: within the block, as the caller says.
                unsafe {
                    let x = if i < rows { from.add(i * from_step + p).read() } else { 0.0 };
                    to.add(p * to_step + i).write(x);
                }
            }
        }
    }
    /// Sum of the lanes.
    fn sum(self) -> f32;
    /// Largest lane.
    fn max_lane(self) -> f32;

    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }
    /// Lanes of `self` limited to `low ..= high`; NaN stays NaN.
    #[inline(always)]
    fn clamp(self, low: Self, high: Self) -> Self {
        high.min(low.max(self))
    }
}

/// A vector loop, generic over the instruction set. `run` must be `#[inline(always)]`.
pub(crate) trait Task {
    /// What the loop gives back.
    type Output;
    /// The loop.
    fn run<V: Vector>(self) -> Self::Output;
}

/// Runs `task` with the instruction set `simd` names. `simd` must be one the CPU has, which [`Simd`]'s constructors ensure.
#[inline]
pub(crate) fn dispatch<T: Task>(simd: Simd, task: T) -> T::Output {
    match simd {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Simd` above the baseline only exists when the CPU reports the features the callee enables.
        Simd::Avx512 => unsafe { run_avx512(task) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Simd::Avx2 => unsafe { run_avx2(task) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: NEON is part of the baseline of this architecture.
        Simd::Neon => unsafe { run_neon(task) },
        Simd::Scalar => task.run::<Scalar>(),
        #[cfg(not(target_arch = "x86_64"))]
        Simd::Avx512 | Simd::Avx2 => task.run::<Scalar>(),
        #[cfg(not(target_arch = "aarch64"))]
        Simd::Neon => task.run::<Scalar>(),
    }
}

/// # Safety
/// The CPU has these instructions.
#[cfg(target_arch = "x86_64")]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"
)]
unsafe fn run_avx512<T: Task>(task: T) -> T::Output {
    task.run::<Avx512>()
}

/// # Safety
/// The CPU has these instructions.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn run_avx2<T: Task>(task: T) -> T::Output {
    task.run::<Avx2>()
}

/// # Safety
/// The CPU has these instructions.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn run_neon<T: Task>(task: T) -> T::Output {
    task.run::<Neon>()
}
