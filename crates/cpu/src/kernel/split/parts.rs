//! An `f32` in two or three parts of eight binary digits.
//!
//! The upper part is the number rounded to a bfloat16, the next part what is left rounded the same way, and so on: three parts
//! add up to the number. Two pixels' or two weights' vectors of 16 channels make one row of a tile register, in
//! pairs of channels 16 apart; the order is the same on both sides of a product, which is all that it takes.
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at each function")]

use super::tile::{Engine, Parts, ROW_BYTES, SIDE, TILE_BYTES};

/// Two vectors of up to 16 numbers: the channels of a pixel, in two blocks, or the weights of one for some filters.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    pub(super) from: [*const f32; 2],
    /// How many there are of each; the rest are taken for zeros.
    pub(super) lanes: [usize; 2],
}

/// Splits `count` pairs, each `step` elements after the one before, into rows `ROW_BYTES` apart, the parts `part` bytes apart.
/// Gives whether all numbers are finite.
///
/// # Safety
/// The pairs are readable, and the rows writable; the engine's instruction set is there.
pub(super) unsafe fn split(
    (engine, parts): (Engine, Parts),
    pair: Pair,
    count: usize,
    step: usize,
    to: *mut u8,
    part: usize,
) -> bool {
    match (engine, parts) {
        #[cfg(target_arch = "x86_64")]
        (Engine::Amx, Parts::Two) => avx512::split::<2>(pair, count, step, to, part),
        #[cfg(target_arch = "x86_64")]
        (Engine::Amx, Parts::Three) => avx512::split::<3>(pair, count, step, to, part),
        _ => portable(parts, pair, count, step, to, part),
    }
}

/// Splits the weights of one step, `width` filters a channel, into tile registers: for each part `columns` of them. Gives
/// whether all are finite.
///
/// # Safety
/// The first of `pair` is readable for its lanes (channels) of `width` elements, and so is the second; `to` is writable for the
/// registers.
pub(super) unsafe fn split_weights(
    how: (Engine, Parts),
    pair: Pair,
    width: usize,
    to: *mut u8,
) -> bool {
    let columns = width / SIDE;
    let mut finite = true;
    for column in 0..columns {
        // The rows that both channels of a pair have, then those of the first alone, then none.
        let both = pair.lanes[0].min(pair.lanes[1]);
        for (rows, second) in [(0..both, SIDE), (both..pair.lanes[0], 0)] {
            let at = |from: *const f32| from.wrapping_add(rows.start * width + column * SIDE);
            let part = Pair { from: pair.from.map(at), lanes: [SIDE, second] };
            let to = to.add(column * TILE_BYTES + rows.start * ROW_BYTES);
            finite &= split(how, part, rows.len(), width, to, columns * TILE_BYTES);
        }
        for part in 0..how.1.count() {
            let rows = to.add((part * columns + column) * TILE_BYTES + pair.lanes[0] * ROW_BYTES);
            rows.write_bytes(0, (SIDE - pair.lanes[0]) * ROW_BYTES);
        }
    }
    finite
}

/// Half of the last digit that a bfloat16 has: added before the others are cut off, it rounds.
const HALF: u32 = 1 << 15;

/// Element by element.
///
/// # Safety
/// As [`split`].
unsafe fn portable(
    parts: Parts,
    pair: Pair,
    count: usize,
    step: usize,
    to: *mut u8,
    part: usize,
) -> bool {
    let mut finite = true;
    for i in 0..count {
        for (side, (&from, &lanes)) in pair.from.iter().zip(&pair.lanes).enumerate() {
            for lane in 0..SIDE {
                let x = if lane < lanes { *from.add(i * step + lane) } else { 0.0 };
                let mut rest = x;
                for p in 0..parts.count() {
                    let upper = rest.to_bits().wrapping_add(HALF) >> 16;
                    rest -= f32::from_bits(upper << 16);
                    finite &= rest.is_finite();
                    let at = to.add(i * ROW_BYTES + p * part + lane * 4 + side * 2);
                    at.cast::<u16>().write_unaligned(upper as u16);
                }
            }
        }
    }
    finite
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::Pair;
    use std::arch::x86_64::{
        __m512, __m512i, _CMP_UNORD_Q, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512,
        _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_maskz_loadu_ps,
        _mm512_set1_epi32, _mm512_setzero_ps, _mm512_srli_epi32, _mm512_storeu_si512,
        _mm512_sub_ps, _mm512_ternarylogic_epi32,
    };

    /// The number rounded to a bfloat16.
    ///
    /// # Safety
    /// The processor has AVX-512.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn rounded(x: __m512, upper: __m512i) -> __m512 {
        let half = _mm512_set1_epi32(super::HALF as i32);
        let bits = _mm512_add_epi32(_mm512_castps_si512(x), half);
        _mm512_castsi512_ps(_mm512_and_si512(bits, upper))
    }

    /// The upper halves of both, in turn.
    ///
    /// # Safety
    /// The processor has AVX-512.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn join(first: __m512, second: __m512, upper: __m512i) -> __m512i {
        // first >> 16 | second & upper
        const SELECT: i32 = 0b1111_1000;
        let first = _mm512_srli_epi32::<16>(_mm512_castps_si512(first));
        _mm512_ternarylogic_epi32::<SELECT>(first, _mm512_castps_si512(second), upper)
    }

    /// As [`super::split`].
    ///
    /// # Safety
    /// As there.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn split<const PARTS: usize>(
        pair: Pair,
        count: usize,
        step: usize,
        to: *mut u8,
        part: usize,
    ) -> bool {
        let masks = pair.lanes.map(|lanes| ((1u32 << lanes.min(16)) - 1) as u16);
        let upper = _mm512_set1_epi32(0xFFFF_0000_u32 as i32);
        let mut finite = [_mm512_setzero_ps(); 2];
        for i in 0..count {
            let at = |from: *const f32| from.wrapping_add(i * step);
            let mut first = _mm512_maskz_loadu_ps(masks[0], at(pair.from[0]));
            let mut second = _mm512_maskz_loadu_ps(masks[1], at(pair.from[1]));
            let row = to.add(i * super::ROW_BYTES);
            for p in 0..PARTS {
                let parts = [rounded(first, upper), rounded(second, upper)];
                _mm512_storeu_si512(row.add(p * part).cast(), join(parts[0], parts[1], upper));
                if p + 1 < PARTS {
                    first = _mm512_sub_ps(first, parts[0]);
                    second = _mm512_sub_ps(second, parts[1]);
                }
                if p == 0 {
                    // What is left of an infinity is no number, and stays in the sum.
                    finite = [_mm512_add_ps(finite[0], first), _mm512_add_ps(finite[1], second)];
                }
            }
        }
        let sum = _mm512_add_ps(finite[0], finite[1]);
        _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(sum, sum) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::Random;

    #[test]
    fn parts_add_up_to_the_number() {
        let mut random = Random::new(0x5917);
        let engines = Engine::detect().into_iter().chain([Engine::Portable]);
        for how in engines.flat_map(|e| [(e, Parts::Two), (e, Parts::Three)]) {
            let mut x = random.floats(2 * SIDE);
            x[3] = 3e38;
            x[4] = -1e-20;
            x[5] = 0.0;
            let mut row = [0u16; 3 * 2 * SIDE];
            let (lanes, to) = ([SIDE, 11], row.as_mut_ptr().cast());
            let pair = Pair { from: [x.as_ptr(), x[SIDE..].as_ptr()], lanes };
            // SAFETY: one pair of `x`, one row of three parts.
            assert!(unsafe { split(how, pair, 1, 0, to, ROW_BYTES) });
            for side in 0..2 {
                for lane in 0..SIDE {
                    let part = |p: usize| {
                        let bits = row[p * 2 * SIDE + 2 * lane + side];
                        f64::from(f32::from_bits(u32::from(bits) << 16))
                    };
                    let want = if lane < lanes[side] { x[side * SIDE + lane] } else { 0.0 };
                    let error = (0..how.1.count()).map(part).sum::<f64>() - f64::from(want);
                    let most = if how.1 == Parts::Two { 2f64.powi(-17) } else { 0.0 };
                    assert!(error.abs() <= most * f64::from(want).abs(), "{how:?} {want}");
                }
            }
            for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                x[7] = odd;
                let pair = Pair { from: [x.as_ptr(), x[SIDE..].as_ptr()], lanes };
                // SAFETY: as above.
                assert!(!unsafe { split(how, pair, 1, 0, to, ROW_BYTES) }, "{how:?}");
            }
        }
    }
}
