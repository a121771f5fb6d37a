//! Between floats and quantized integers (or small floats), and the one integer requantisation.

use anychip_tensor::{DType, Tensor, encode_small_float, round_to_odd};

use super::strided::operand;
use super::values::round_to;
use crate::IrError;

/// The element of an operand that is whole or one element.
fn at<T: Copy>(values: &[T], i: usize) -> T {
    if values.len() == 1 { values[0] } else { values[i] }
}

fn places(shape: &[usize]) -> usize {
    shape.iter().product()
}

pub(super) fn quantize(
    to: DType,
    saturate: bool,
    x: &[Tensor],
    shape: Vec<usize>,
) -> Result<Tensor, IrError> {
    // Division by an integer scale is that of `f64`; by a small float that of `f32`, which holds it exactly.
    let precision = match x[1].dtype() {
        float @ (DType::F16 | DType::BF16 | DType::F32) => float,
        small if small.is_small_float() => DType::F32,
        _ => DType::F64,
    };
    let wide = |i: usize| -> Result<Vec<f64>, IrError> { Ok(operand(&x[i], &shape)?.to_f64()) };
    let (values, scales, zero_points) = (wide(0)?, wide(1)?, wide(2)?);
    let quotients = (0..places(&shape)).map(|i| {
        let value = round_to(precision, at(&values, i));
        (round_to(precision, value / at(&scales, i)), at(&zero_points, i))
    });
    if to.is_small_float() {
        let codes: Vec<u8> = quotients
            .map(|(q, zero)| encode_small_float(to, round_to_odd(q + zero), saturate))
            .collect();
        return Ok(Tensor::from_codes(to, shape, &codes)?);
    }
    if to.is_float() {
        let data: Vec<f64> = quotients.map(|(q, zero)| q + zero).collect();
        return Ok(Tensor::from_f64(to, shape, &data)?);
    }
    // Infinities saturate; NaN counts as 0.
    let data: Vec<i128> = quotients
        .map(|(q, zero)| (q.round_ties_even() as i128).saturating_add(zero as i128))
        .collect();
    Ok(Tensor::from_integers(to, shape, &data)?)
}

pub(super) fn dequantize(to: DType, x: &[Tensor], shape: Vec<usize>) -> Result<Tensor, IrError> {
    let wide = |i: usize| -> Result<Vec<f64>, IrError> { Ok(operand(&x[i], &shape)?.to_f64()) };
    let (values, scales, zero_points) = (wide(0)?, wide(1)?, wide(2)?);
    let data: Vec<f64> = (0..places(&shape))
        .map(|i| (at(&values, i) - at(&zero_points, i)) * at(&scales, i))
        .collect();
    if to.is_float() || to == DType::Bool {
        return Ok(Tensor::from_f64(to, shape, &data)?);
    }
    let rounded: Vec<f64> = data.into_iter().map(f64::round_ties_even).collect();
    Ok(Tensor::from_f64(to, shape, &rounded)?)
}

pub(super) fn requantize(to: DType, x: &[Tensor], shape: Vec<usize>) -> Result<Tensor, IrError> {
    let whole = |i: usize| -> Result<Vec<i64>, IrError> { Ok(operand(&x[i], &shape)?.to_i64()) };
    let (accumulators, multipliers, shifts, zero_points) =
        (whole(0)?, whole(1)?, whole(2)?, whole(3)?);
    let data: Vec<i128> = (0..places(&shape))
        .map(|i| {
            let shift = at(&shifts, i);
            if !(1..=62).contains(&shift) {
                return Err(IrError::Setting {
                    op: "requantize",
                    reason: "a shift must lie in 1..=62",
                    found: shift.to_string(),
                });
            }
            // Products of 32-bit numbers stay within 2^62 and the rounding term within 2^61: no overflow.
            let product = at(&accumulators, i) * at(&multipliers, i);
            let rounded = (product + (1i64 << (shift - 1))) >> shift;
            Ok(i128::from(rounded + at(&zero_points, i)))
        })
        .collect::<Result<_, _>>()?;
    Ok(Tensor::from_integers(to, shape, &data)?)
}
