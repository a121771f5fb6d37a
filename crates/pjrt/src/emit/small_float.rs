//! Floats of 8 bits or fewer, which devices keep as their codes: a table decodes them, and as every rounding is a staircase,
//! counting the steps below a number encodes it.

use anychip_ir::{IrError, Prim, Rounding, evaluate_prim};
use anychip_tensor::{DType, Tensor, decode_small_float};

use super::index::rows_of_table;
use super::writer::Value;
use super::{Cx, EmitError};
use crate::element::Element;

/// The values of codes, in `f32`, which holds all of them.
pub(super) fn decode(cx: &mut Cx<'_, '_>, codes: &Value, dtype: DType) -> Value {
    let count = 1usize << dtype.storage_bits().min(8);
    let values: Vec<f32> = (0..count).map(|code| decode_small_float(dtype, code as u8)).collect();
    let table = Tensor::from_vec([count], values);
    let Ok(table) = table else { return codes.clone() };
    let table = cx.parameters.weight(&table);
    rows_of_table(cx, &table, codes)
}

/// The codes of numbers.
pub(super) fn encode(
    cx: &mut Cx<'_, '_>,
    x: &Value,
    to: DType,
    saturate: bool,
    rounding: Rounding,
) -> Result<Value, EmitError> {
    // `f32` tells every step from the number before it, but of wider numbers it would have rounded already.
    let wide = match x.element {
        Element::F16 | Element::BF16 | Element::F32 => Element::F32,
        _ => Element::F64,
    };
    let x = cx.w.convert(x, wide);
    let stairs = Stairs { wide, prim: Prim::Cast { to, saturate, rounding } };
    let (edges, up, down) = stairs.all()?;
    // How many steps lie at or below the number, counted on bit patterns: the first steps of `f8e8m0` are among subnormal numbers,
    // which devices may take for 0 when they compare floats.
    let shape = x.shape.clone();
    let (bits, most) = match wide {
        Element::F32 => (Element::I32, i128::from(i32::MAX)),
        _ => (Element::I64, i128::from(i64::MAX)),
    };
    let pattern = cx.w.op("stablehlo.bitcast_convert", &[&x], "", bits, &shape);
    let unsigned = cx.w.splat_integer(bits, &shape, most);
    let magnitude = cx.w.and(&pattern, &unsigned);
    let dims: Vec<usize> = (0..shape.len()).collect();
    let spread = [&shape[..], &[edges.len()]].concat();
    let numbers = cx.w.broadcast_in(&magnitude, &spread, &dims);
    let edges: Vec<i128> = edges.into_iter().map(i128::from).collect();
    let edges =
        Tensor::from_integers(bits.dtype(), [edges.len()], &edges).map_err(IrError::from)?;
    let edges = cx.parameters.weight(&edges);
    let edges = cx.w.broadcast(&edges, &spread);
    let above = cx.w.compare("GE", &numbers, &edges);
    let above = cx.w.convert(&above, Element::I32);
    let zero = cx.w.splat_integer(Element::I32, &[], 0);
    let count = cx.w.reduce("stablehlo.add", &above, &zero, &[shape.len()]);
    let mut codes = |codes: Vec<u8>| -> Result<Value, EmitError> {
        let table = Tensor::from_vec([codes.len()], codes).map_err(IrError::from)?;
        let table = cx.parameters.weight(&table);
        Ok(rows_of_table(cx, &table, &count))
    };
    let (up, down) = (codes(up)?, codes(down)?);
    // The sign bit tells −0 from 0, which a comparison does not.
    let nothing = cx.w.splat_integer(bits, &shape, 0);
    let negative = cx.w.compare("LT", &pattern, &nothing);
    let code = cx.w.select(&negative, &down, &up);
    let nan = cx.w.is_nan(&x);
    let nan_code = i128::from(stairs.code(f64::NAN)?);
    let nan_code = cx.w.splat_integer(Element::U8, &shape, nan_code);
    Ok(cx.w.select(&nan, &nan_code, &code))
}

/// Where a staircase steps, as bit patterns of positive numbers, and the codes of positive and of negative numbers.
type Steps = (Vec<u64>, Vec<u8>, Vec<u8>);

/// A cast as the staircase it is.
struct Stairs {
    wide: Element,
    prim: Prim,
}

impl Stairs {
    /// The code of a number of the type `wide`.
    fn code(&self, value: f64) -> Result<u8, EmitError> {
        let value = Tensor::from_f64(self.wide.dtype(), [], &[value]).map_err(IrError::from)?;
        Ok(evaluate_prim(&self.prim, &[], &[value])?.remove(0).codes()[0])
    }

    /// The numbers, from 0 up, at which the code of it or of its negative changes; the codes before, between and after them; and
    /// those of the negative numbers of the same size.
    fn all(&self) -> Result<Steps, EmitError> {
        let both = |pattern: u64| -> Result<(u8, u8), EmitError> {
            let value = self.value(pattern);
            Ok((self.code(value)?, self.code(-value)?))
        };
        // Non-negative numbers are ordered as their bit patterns, so an edge is found by halving. Between 0 and 1, and
        // between 1 and infinity, no code comes twice.
        let mut open =
            vec![(self.pattern(1.0), self.pattern(f64::INFINITY)), (0, self.pattern(1.0))];
        let (mut edges, mut codes) = (Vec::new(), vec![both(0)?]);
        while let Some((low, high)) = open.pop() {
            let after = both(high)?;
            if both(low)? == after {
                continue;
            }
            if high - low == 1 {
                edges.push(high);
                codes.push(after);
                continue;
            }
            let middle = low + (high - low) / 2;
            // The lower half is on top, so that edges come in order.
            open.extend([(middle, high), (low, middle)]);
        }
        let (up, down) = codes.into_iter().unzip();
        Ok((edges, up, down))
    }

    fn pattern(&self, value: f64) -> u64 {
        match self.wide {
            Element::F32 => u64::from((value as f32).to_bits()),
            _ => value.to_bits(),
        }
    }

    fn value(&self, pattern: u64) -> f64 {
        match self.wide {
            Element::F32 => f64::from(f32::from_bits(pattern as u32)),
            _ => f64::from_bits(pattern),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stairs_of_four_bits() {
        let prim =
            Prim::Cast { to: DType::F4E2M1, saturate: true, rounding: Rounding::NearestEven };
        let (edges, up, down) = Stairs { wide: Element::F64, prim }.all().expect("it is a cast");
        assert_eq!(up, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(down, [8, 9, 10, 11, 12, 13, 14, 15]);
        // Halves of the way from 0, 0.5, 1 … 6; a tie goes to the even code, so every second edge lies just above its tie.
        let ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0];
        for (i, (edge, tie)) in edges.into_iter().map(f64::from_bits).zip(ties).enumerate() {
            assert_eq!(edge == tie, i % 2 == 1, "{edge} at {tie}");
            assert!((edge - tie).abs() < 1e-12);
        }
    }

    #[test]
    fn stairs_without_a_sign_tell_zero_from_the_least_negative_number() {
        let (to, saturate, rounding) = (DType::F8E8M0, true, Rounding::NearestEven);
        let prim = Prim::Cast { to, saturate, rounding };
        let stairs = Stairs { wide: Element::F32, prim };
        let (edges, up, down) = stairs.all().expect("it is a cast");
        let least = f64::from(f32::from_bits(1));
        for value in [0.0, least, 5.9e-39, 8.9e-39, 1.2e-38, 1.0, 1.5, 3.0, f64::from(f32::MAX)] {
            for value in [value, -value] {
                let pattern = stairs.pattern(value.abs());
                let count = edges.iter().filter(|edge| pattern >= **edge).count();
                let codes = if value.is_sign_negative() { &down } else { &up };
                assert_eq!(codes[count], stairs.code(value).expect("a cast"), "{value:e}");
            }
        }
        // Zero has the least code under either sign; any number below it is NaN.
        assert_eq!((up[0], down[0], down[1]), (0, 0, 255));
    }
}
