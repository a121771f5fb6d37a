//! How neighboring channels stand together in 32 bits, and with it which instruction multiplies them.

use super::Codes;
use super::weights::FEW;
use crate::detect::Simd;
use crate::kernel::blocked::BLOCK;

/// How a 32-bit group is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Two 16-bit values less their zero points, plain Rust.
    Pairs,
    /// The same, `vpmaddwd` of AVX2: its sums of two products of 9-bit numbers stay within 32 bits, where those of
    /// `vpmaddubsw` would saturate.
    PairsAvx2,
}

impl Form {
    pub(super) fn of(simd: Simd) -> Form {
        match simd {
            Simd::Avx512 | Simd::Avx2 => Form::PairsAvx2,
            Simd::Neon | Simd::Scalar => Form::Pairs,
        }
    }

    /// Channels of a group.
    pub(super) const GROUP: usize = 2;

    /// Where filter `i` of a block stands among the 16 sums of a tile: so that packing two vectors of 32-bit sums into one of
    /// 16 bits, which AVX2 does by halves, leaves the filters in their order.
    pub(super) fn order(self) -> [usize; BLOCK] {
        match self {
            Form::Pairs => std::array::from_fn(|i| i),
            Form::PairsAvx2 => [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15],
        }
    }
}

/// A group of two.
#[inline(always)]
pub(super) fn pair(first: i32, second: i32) -> i32 {
    (first & 0xffff) | (second << 16)
}

/// Codes from `from` on as 16-bit numbers less their zero point.
pub(super) fn widen(simd: Simd, x: Codes<'_>, from: usize, to: &mut [i16]) {
    let bytes = &x.bytes[from..from + to.len()];
    match simd {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: such a value is only handed out when the CPU has the instructions.
        Simd::Avx2 | Simd::Avx512 => unsafe { widen_avx2(bytes, x.signed, x.zero as i16, to) },
        _ => widen_any(bytes, x.signed, x.zero as i16, to),
    }
}

/// # Safety
/// The CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn widen_avx2(bytes: &[u8], signed: bool, zero: i16, to: &mut [i16]) {
    widen_any(bytes, signed, zero, to);
}

#[inline(always)]
fn widen_any(bytes: &[u8], signed: bool, zero: i16, to: &mut [i16]) {
    if signed {
        for (to, &byte) in to.iter_mut().zip(bytes) {
            *to = i16::from(byte as i8) - zero;
        }
    } else {
        for (to, &byte) in to.iter_mut().zip(bytes) {
            *to = i16::from(byte) - zero;
        }
    }
}

/// Up to four planes of codes as 16-bit numbers less their zero point, those of a pixel together; 0 for a plane without codes.
pub(super) fn interleave(simd: Simd, x: Codes<'_>, planes: [&[u8]; FEW], to: &mut [[i16; FEW]]) {
    match simd {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: such a value is only handed out when the CPU has the instructions.
        Simd::Avx2 | Simd::Avx512 => unsafe { interleave_avx2(x, planes, to) },
        _ => interleave_any(x, planes, to),
    }
}

/// # Safety
/// The CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn interleave_avx2(x: Codes<'_>, planes: [&[u8]; FEW], to: &mut [[i16; FEW]]) {
    interleave_any(x, planes, to);
}

#[inline(always)]
fn interleave_any(x: Codes<'_>, planes: [&[u8]; FEW], to: &mut [[i16; FEW]]) {
    if let [a, b, c, []] = planes
        && a.len() == to.len()
        && b.len() == to.len()
        && c.len() == to.len()
    {
        // Colors: a loop for the compiler to vectorize.
        for (((to, &a), &b), &c) in to.iter_mut().zip(a).zip(b).zip(c) {
            *to = [x.centered(a) as i16, x.centered(b) as i16, x.centered(c) as i16, 0];
        }
        return;
    }
    for (channel, plane) in planes.into_iter().enumerate() {
        if plane.is_empty() {
            for pixel in to.iter_mut() {
                pixel[channel] = 0;
            }
        }
        for (to, &byte) in to.iter_mut().zip(plane) {
            to[channel] = x.centered(byte) as i16;
        }
    }
}
