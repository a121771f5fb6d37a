//! The mean over dims of 8-bit codes, in integers.

use anychip_ir::{Builder, Expand, IrError, ReduceKind, ValueId, composite, operands};
use anychip_tensor::DType;

use crate::quantized::{Output, centered};

composite! {
    /// `x → to` with `axes` kept as 1: `clamp(((sum · multiplier + 2^(shift−1)) >> shift) + y_zero, low, high)` of the 32-bit
    /// sums of `x − x_zero` along `axes`; `x` is `i8` or `u8`.
    pub struct QuantizedMean = "quantized-mean" {
        /// Which dims, ascending.
        pub axes: Vec<usize>,
        /// The code of `x` that stands for 0.
        pub x_zero: i64,
        /// What a step of the sum is worth, in steps of the result over `2^shift`.
        pub multiplier: i64,
        /// Bits dropped.
        pub shift: i64,
        /// `i8` or `u8`.
        pub to: DType,
        /// The code of the result that stands for 0.
        pub y_zero: i64,
        /// The least code of the result.
        pub low: i64,
        /// The largest code of the result.
        pub high: i64,
    }
    example: QuantizedMean {
        axes: vec![2, 3],
        x_zero: 3,
        multiplier: 1_227_133_513,
        shift: 35,
        to: DType::U8,
        y_zero: 1,
        low: 0,
        high: 255,
    }
}

impl Expand for QuantizedMean {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        const OP: &str = "quantized-mean";
        let [x] = operands(OP, x)?;
        let rank = b.rank(x);
        let wide = |n: i64| n.unsigned_abs() < 1 << 31;
        if self.axes.iter().any(|&axis| axis >= rank)
            || !(wide(self.multiplier) && (1..=62).contains(&self.shift))
        {
            return Err(IrError::Setting {
                op: OP,
                reason: "axes must exist, the multiplier have 32 bits, the shift lie in 1..=62",
                found: format!("{:?}, {}, {}", self.axes, self.multiplier, self.shift),
            });
        }
        let x = centered(b, OP, x, self.x_zero)?;
        let sum = b.reduce(ReduceKind::Sum, x, &self.axes, true)?;
        let multiplier = b.scalar(DType::I32, self.multiplier as f64)?;
        let shift = b.scalar(DType::I32, self.shift as f64)?;
        let output = Output {
            op: OP,
            to: self.to,
            zero: self.y_zero,
            low: self.low,
            high: self.high,
        };
        Ok(vec![output.of(b, sum, multiplier, shift)?])
    }
}
