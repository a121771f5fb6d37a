//! From one element type to another.
//!
//! Floats to floats round to nearest even, once. Integers to integers keep their low bits. Floats to
//! integers truncate towards zero and saturate, NaN becoming 0; ONNX leaves what is out of range open,
//! but its tests hold that 2- and 4-bit integers keep the low bits of the truncated value, as here.

use anychip_tensor::{DType, Tensor, encode_small_float, round_to_odd};

use super::strided::flags;
use super::values::wrapped;
use crate::{IrError, Rounding};

pub(super) fn cast(
    x: &Tensor,
    to: DType,
    saturate: bool,
    rounding: Rounding,
) -> Result<Tensor, IrError> {
    let (from, shape) = (x.dtype(), x.shape().to_vec());
    if from == to {
        return Ok(x.clone());
    }
    if to == DType::Bool {
        let nonzero = if from.is_float() {
            x.to_f64().iter().map(|&v| u8::from(v != 0.0)).collect()
        } else {
            x.to_integers().iter().map(|&v| u8::from(v != 0)).collect()
        };
        return flags(shape, nonzero);
    }
    if !from.is_float() && !to.is_float() {
        return wrapped(to, shape, &x.to_integers());
    }
    if !to.is_float() {
        let values = x.to_f64();
        if to.storage_bits() < 8 {
            let whole: Vec<i128> = values.iter().map(|&v| i128::from(v as i64)).collect();
            return wrapped(to, shape, &whole);
        }
        return Ok(Tensor::from_f64(to, shape, &values)?);
    }
    if to == DType::F32 && !from.is_float() {
        // Straight from the integer, which `f64` might already have rounded.
        let data: Vec<f32> = x.to_integers().into_iter().map(|v| v as f32).collect();
        return Ok(Tensor::from_vec(shape, data)?);
    }
    let values: Vec<f64> = if from.is_float() {
        x.to_f64()
    } else if to == DType::F64 {
        x.to_integers().into_iter().map(|v| v as f64).collect()
    } else {
        x.to_integers().into_iter().map(integer_to_odd).collect()
    };
    if !to.is_small_float() {
        return Ok(Tensor::from_f64(to, shape, &values)?);
    }
    let codes: Vec<u8> = if to == DType::F8E8M0 {
        values.iter().map(|&v| power_of_two(v, saturate, rounding)).collect()
    } else {
        values.iter().map(|&v| encode_small_float(to, round_to_odd(v), saturate)).collect()
    };
    Ok(Tensor::from_codes(to, shape, &codes)?)
}

/// An integer as an `f64` that rounds on to narrower types as the integer itself would.
fn integer_to_odd(value: i128) -> f64 {
    let magnitude = value.unsigned_abs();
    let excess = (128 - magnitude.leading_zeros()).saturating_sub(53);
    let kept = magnitude >> excess;
    let inexact = u128::from(kept << excess != magnitude);
    let odd = ((kept | inexact) << excess) as f64;
    if value < 0 { -odd } else { odd }
}

/// The code of `value` in `f8e8m0`, whose values are the powers of two from 2^−127 (code 0) to 2^127 (code 254)
/// and NaN (255). Negative values are NaN. What is too small becomes 2^−127, or NaN when not saturating, and so
/// does zero, as the table in ONNX's Cast says.
fn power_of_two(value: f64, saturate: bool, rounding: Rounding) -> u8 {
    const NAN: u8 = 255;
    if value.is_nan() || value < 0.0 {
        return NAN;
    }
    if value.is_infinite() {
        return if saturate { 254 } else { NAN };
    }
    if value < f64::MIN_POSITIVE {
        return if saturate { 0 } else { NAN };
    }
    let bits = value.to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let fraction = bits & ((1 << 52) - 1);
    let half = 1u64 << 51;
    let up = match rounding {
        Rounding::Up => fraction > 0,
        Rounding::Down => false,
        Rounding::NearestUp => fraction >= half,
        Rounding::NearestEven => fraction > half || (fraction == half && exponent & 1 == 0),
    };
    let code = exponent + 127 + i32::from(up);
    match code {
        0..=254 => code as u8,
        _ if !saturate => NAN,
        ..0 => 0,
        _ => 254,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_round_each_way() {
        let code = |v, rounding| power_of_two(v, true, rounding);
        assert_eq!(code(1.0, Rounding::Up), 127);
        assert_eq!(code(1.1, Rounding::Up), 128);
        assert_eq!(code(1.9, Rounding::Down), 127);
        assert_eq!(code(1.5, Rounding::NearestUp), 128);
        // Code 127 is odd, so the tie between 127 and 128 goes to 128; between 128 and 129 it stays.
        assert_eq!(code(1.5, Rounding::NearestEven), 128);
        assert_eq!(code(3.0, Rounding::NearestEven), 128);
        assert_eq!(code(0.0, Rounding::Up), 0);
        assert_eq!(power_of_two(f64::INFINITY, false, Rounding::Up), 255);
        assert_eq!(power_of_two(1e300, true, Rounding::Down), 254);
        assert_eq!(power_of_two(-1.0, true, Rounding::Down), 255);
    }

    #[test]
    fn integers_round_once() {
        // Just above a tie of bf16, whose step here is 2^53; rounded to f64 first it would be the tie.
        let value = (1i64 << 60) + (1 << 52) + 1;
        let x = Tensor::from_i64s(&[value]);
        let y = cast(&x, DType::BF16, true, Rounding::NearestEven).unwrap();
        assert_eq!(y.to_f64(), [((1i64 << 60) + (1 << 53)) as f64]);
    }

    #[test]
    fn floats_to_integers() {
        let x = Tensor::from_vec([5], vec![-9.9f32, 15.0, 300.0, f32::NAN, f32::INFINITY]).unwrap();
        let to = |dtype| cast(&x, dtype, true, Rounding::NearestEven).unwrap().to_i64();
        assert_eq!(to(DType::I4), [7, -1, -4, 0, -1]);
        assert_eq!(to(DType::I8), [-9, 15, 127, 0, 127]);
        assert_eq!(to(DType::U8), [0, 15, 255, 0, 255]);
        assert_eq!(to(DType::Bool), [1, 1, 1, 1, 1]);
    }

    #[test]
    fn integers_keep_low_bits() {
        let x = Tensor::from_i64s(&[200, -1, 256]);
        let to = |dtype| cast(&x, dtype, true, Rounding::NearestEven).unwrap().to_i64();
        assert_eq!(to(DType::I8), [-56, -1, 0]);
        assert_eq!(to(DType::U4), [8, 15, 0]);
    }
}
