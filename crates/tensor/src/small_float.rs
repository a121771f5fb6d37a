//! Floats of 8 bits and fewer: decoding to `f32` and rounding from it.
//!
//! Formats: OCP 8-bit floating point (E4M3, E5M2), the FNUZ variants of arXiv:2206.02915, and the OCP
//! microscaling formats (E8M0, E2M3, E3M2, E2M1). Rounding is to nearest, ties to even.

use crate::DType;

struct Format {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i32,
    kind: Kind,
}

#[derive(PartialEq, Clone, Copy)]
enum Kind {
    /// Infinity and NaN as in IEEE 754.
    Ieee,
    /// No infinity; all ones is NaN.
    FiniteNan,
    /// No infinity, no negative zero; the sign bit alone is NaN.
    UnsignedZero,
    /// Every pattern is a number.
    Finite,
}

const fn format(dtype: DType) -> Option<Format> {
    let (exponent_bits, mantissa_bits, bias, kind) = match dtype {
        DType::F8E4M3FN => (4, 3, 7, Kind::FiniteNan),
        DType::F8E4M3FNUZ => (4, 3, 8, Kind::UnsignedZero),
        DType::F8E5M2 => (5, 2, 15, Kind::Ieee),
        DType::F8E5M2FNUZ => (5, 2, 16, Kind::UnsignedZero),
        DType::F6E2M3 => (2, 3, 1, Kind::Finite),
        DType::F6E3M2 => (3, 2, 3, Kind::Finite),
        DType::F4E2M1 => (2, 1, 1, Kind::Finite),
        _ => return None,
    };
    Some(Format { exponent_bits, mantissa_bits, bias, kind })
}

/// The value of the bit pattern `bits` of a small float type; NaN for a type that is none.
pub fn decode_small_float(dtype: DType, bits: u8) -> f32 {
    if dtype == DType::F8E8M0 {
        return if bits == 255 { f32::NAN } else { 2f64.powi(i32::from(bits) - 127) as f32 };
    }
    let Some(f) = format(dtype) else { return f32::NAN };
    let sign_bit = 1u8 << (f.exponent_bits + f.mantissa_bits);
    let sign = if bits & sign_bit == 0 { 1.0 } else { -1.0 };
    let magnitude = u32::from(bits & (sign_bit - 1));
    let exponent = magnitude >> f.mantissa_bits;
    let mantissa = magnitude & ((1 << f.mantissa_bits) - 1);
    let all_ones = (1 << f.exponent_bits) - 1;
    match f.kind {
        Kind::Ieee if exponent == all_ones => {
            return if mantissa == 0 { sign * f32::INFINITY } else { f32::NAN };
        }
        Kind::FiniteNan if magnitude == u32::from(sign_bit - 1) => return f32::NAN,
        Kind::UnsignedZero if bits == sign_bit => return f32::NAN,
        _ => {}
    }
    let fraction = f64::from(mantissa) / f64::from(1u32 << f.mantissa_bits);
    let value = if exponent == 0 {
        fraction * 2f64.powi(1 - f.bias)
    } else {
        (1.0 + fraction) * 2f64.powi(exponent as i32 - f.bias)
    };
    sign * value as f32
}

/// The bit pattern of `value` in a small float type, to nearest, ties to even.
///
/// Out of range, `saturate` gives the largest finite value; otherwise infinity where the format has
/// one, else NaN, else (formats with neither) the largest finite value.
pub fn encode_small_float(dtype: DType, value: f32, saturate: bool) -> u8 {
    if dtype == DType::F8E8M0 {
        return encode_e8m0(value, saturate);
    }
    let Some(f) = format(dtype) else { return 0 };
    let sign_bit = 1u8 << (f.exponent_bits + f.mantissa_bits);
    let sign = if value.is_sign_negative() { sign_bit } else { 0 };
    let nan = match f.kind {
        Kind::Ieee | Kind::FiniteNan => sign | (sign_bit - 1),
        Kind::UnsignedZero => sign_bit,
        Kind::Finite => return encode_finite(&f, sign, value),
    };
    if value.is_nan() {
        return nan;
    }
    let largest = match f.kind {
        Kind::Ieee => (((1u8 << f.exponent_bits) - 1) << f.mantissa_bits) - 1,
        Kind::FiniteNan => sign_bit - 2,
        Kind::UnsignedZero | Kind::Finite => sign_bit - 1,
    };
    let magnitude = round_magnitude(&f, f64::from(value.abs()));
    if magnitude > u32::from(largest) {
        return if saturate {
            sign | largest
        } else if f.kind == Kind::Ieee {
            sign | (largest + 1)
        } else {
            nan
        };
    }
    if magnitude == 0 && f.kind == Kind::UnsignedZero {
        return 0;
    }
    sign | magnitude as u8
}

/// `value` as the `f32` from which every narrower float is rounded as if from `value` itself: an inexact
/// result has its last bit set, so that no tie arises that was none (Boldo and Melquiond, 2008).
pub fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    if !value.is_finite() || f64::from(nearest) == value {
        return nearest;
    }
    if nearest.is_infinite() {
        return f32::MAX.copysign(nearest);
    }
    let bits = nearest.to_bits();
    // Of the two neighbors, the one towards zero, with its last bit set where the other is even.
    let truncated = if f64::from(nearest).abs() > value.abs() { bits - 1 } else { bits };
    f32::from_bits(truncated | 1)
}

fn encode_finite(f: &Format, sign: u8, value: f32) -> u8 {
    let sign_bit = 1u8 << (f.exponent_bits + f.mantissa_bits);
    let largest = u32::from(sign_bit - 1);
    // The formats without NaN have no answer for one: a zero of the other sign is what ml_dtypes gives,
    // with which ONNX's tests are generated.
    if value.is_nan() {
        return sign ^ sign_bit;
    }
    let magnitude = round_magnitude(f, f64::from(value.abs()));
    sign | magnitude.min(largest) as u8
}

/// Exponent and mantissa bits of a non-negative value as one integer, which is monotonic in it.
fn round_magnitude(f: &Format, value: f64) -> u32 {
    if value == 0.0 {
        return 0;
    }
    if value.is_infinite() {
        return u32::MAX;
    }
    let smallest_exponent = 1 - f.bias;
    // Exact for every f32, subnormal ones included, because f64 has the wider exponent.
    let exponent = (((value.to_bits() >> 52) & 0x7ff) as i32 - 1023).max(smallest_exponent);
    let steps = value * 2f64.powi(f.mantissa_bits as i32 - exponent);
    let rounded = steps.round_ties_even() as u64;
    // A mantissa that rounds up to the next power of two carries into the exponent by itself.
    let base = ((exponent - smallest_exponent) as u64) << f.mantissa_bits;
    u32::try_from(base + rounded).unwrap_or(u32::MAX)
}

fn encode_e8m0(value: f32, saturate: bool) -> u8 {
    if value.is_nan() || value < 0.0 {
        return 255;
    }
    if value == 0.0 {
        return 0;
    }
    if value.is_infinite() {
        return if saturate { 254 } else { 255 };
    }
    let bits = f64::from(value).to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let fraction = bits & ((1 << 52) - 1);
    let half = 1u64 << 51;
    // The code is the exponent plus 127, so the even code of a tie is above an even exponent.
    let up = fraction > half || (fraction == half && exponent & 1 == 0);
    let code = exponent + 127 + i32::from(up);
    if code > 254 { if saturate { 254 } else { 255 } } else { code.max(0) as u8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_survives_a_round_trip() {
        for dtype in [
            DType::F8E4M3FN,
            DType::F8E4M3FNUZ,
            DType::F8E5M2,
            DType::F8E5M2FNUZ,
            DType::F8E8M0,
            DType::F6E2M3,
            DType::F6E3M2,
            DType::F4E2M1,
        ] {
            let patterns = match dtype {
                DType::F4E2M1 => 16,
                DType::F6E2M3 | DType::F6E3M2 => 64,
                _ => 256u32,
            };
            for bits in 0..patterns {
                let bits = bits as u8;
                let value = decode_small_float(dtype, bits);
                let back = encode_small_float(dtype, value, false);
                if value.is_nan() {
                    assert!(decode_small_float(dtype, back).is_nan(), "{dtype} {bits:#x}");
                } else {
                    assert_eq!(back, bits, "{dtype} {bits:#x} = {value}");
                }
            }
        }
    }

    #[test]
    fn rounding_to_odd_leaves_no_false_tie() {
        // Half a step of f16 above 1, and a little more than f32 can tell: rounds up, not to even.
        let above = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
        assert_eq!(half::f16::from_f32(above as f32).to_f64(), 1.0);
        assert_eq!(half::f16::from_f32(round_to_odd(above)).to_f64(), 1.0 + 2f64.powi(-10));
        assert_eq!(round_to_odd(-1.5), -1.5);
        assert_eq!(round_to_odd(1e300), f32::MAX);
        assert_eq!(round_to_odd(f64::INFINITY), f32::INFINITY);
        assert_eq!(round_to_odd(1e-300), f32::from_bits(1));
        assert!(round_to_odd(f64::NAN).is_nan());
    }

    #[test]
    fn formats_without_nan_answer_zero() {
        assert_eq!(encode_small_float(DType::F4E2M1, f32::NAN, true), 0x8);
        assert_eq!(encode_small_float(DType::F6E3M2, f32::INFINITY, true), 0x1f);
    }

    #[test]
    fn known_values() {
        assert_eq!(decode_small_float(DType::F8E4M3FN, 0x7e), 448.0);
        assert_eq!(decode_small_float(DType::F8E5M2, 0x7b), 57344.0);
        assert_eq!(decode_small_float(DType::F4E2M1, 0x7), 6.0);
        assert_eq!(encode_small_float(DType::F8E4M3FN, 1e6, true), 0x7e);
        assert_eq!(encode_small_float(DType::F8E4M3FN, 1e6, false), 0x7f);
        assert_eq!(encode_small_float(DType::F8E5M2, 1e6, false), 0x7c);
        assert_eq!(encode_small_float(DType::F4E2M1, 2.5, true), 0x4);
    }
}
