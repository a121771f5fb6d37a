//! The sum of two tensors of 8-bit codes with different scales, in integers.

use anychip_ir::{Builder, Expand, IrError, ValueId, composite, operands};
use anychip_tensor::DType;

use crate::quantized::{Output, centered};

composite! {
    /// `(a, b) → to`: `clamp(((sum + 2^(shift−1)) >> shift) + y_zero, low, high)` of the 32-bit sums
    /// `(a − a_zero) · a_multiplier + (b − b_zero) · b_multiplier`. Operands are `i8` or `u8` and broadcast.
    pub struct QuantizedAdd = "quantized-add" {
        /// The code of `a` that stands for 0.
        pub a_zero: i64,
        /// The code of `b` that stands for 0.
        pub b_zero: i64,
        /// What a step of `a` is worth, in steps of the result over `2^shift`.
        pub a_multiplier: i64,
        /// What a step of `b` is worth.
        pub b_multiplier: i64,
        /// Bits dropped.
        pub shift: i64,
        /// `i8` or `u8`.
        pub to: DType,
        /// The code of the result that stands for 0.
        pub y_zero: i64,
        /// The least code of the result: a rectifier is `y_zero` here.
        pub low: i64,
        /// The largest code of the result.
        pub high: i64,
    }
    example: QuantizedAdd {
        a_zero: 3,
        b_zero: 120,
        a_multiplier: 3_000_001,
        b_multiplier: 2_000_003,
        shift: 22,
        to: DType::U8,
        y_zero: 5,
        low: 5,
        high: 250,
    }
}

/// Multipliers up to this keep the sum of two products with 9-bit numbers within 32 bits.
const MOST: u64 = (1 << 22) - 1;

impl Expand for QuantizedAdd {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        const OP: &str = "quantized-add";
        let [p, q] = operands(OP, x)?;
        if [self.a_multiplier, self.b_multiplier].iter().any(|m| m.unsigned_abs() > MOST)
            || !(1..=31).contains(&self.shift)
        {
            return Err(IrError::Setting {
                op: OP,
                reason: "multipliers lie within 2^22, the shift in 1..=31",
                found: format!(
                    "{} and {}, {}",
                    self.a_multiplier, self.b_multiplier, self.shift
                ),
            });
        }
        let mut term = |x, zero, multiplier: i64| {
            let x = centered(b, OP, x, zero)?;
            b.scale(x, multiplier as f64)
        };
        let p = term(p, self.a_zero, self.a_multiplier)?;
        let q = term(q, self.b_zero, self.b_multiplier)?;
        let sum = b.add(p, q)?;
        let one = b.scalar(DType::I32, 1.0)?;
        let shift = b.scalar(DType::I32, self.shift as f64)?;
        let output = Output {
            op: OP,
            to: self.to,
            zero: self.y_zero,
            low: self.low,
            high: self.high,
        };
        Ok(vec![output.of(b, sum, one, shift)?])
    }
}
