//! A product of 8-bit codes with its bias and requantization, in integers from end to end.

use anychip_ir::{Builder, DotDims, Expand, IrError, Prim, ValueId, composite, operands};
use anychip_tensor::DType;

use crate::quantized::{Output, centered};

composite! {
    /// `(x […, k], w [k, m], bias i32[m], multiplier i32[m], shift i32[m]) → to[…, m]`:
    /// `clamp(((sum · multiplier + 2^(shift−1)) >> shift) + y_zero, low, high)` of the 32-bit sums
    /// `(x − x_zero)·(w − w_zero) + bias`. `x` and `w` are `i8` or `u8`.
    pub struct QuantizedDot = "quantized-dot" {
        /// The code of `x` that stands for 0.
        pub x_zero: i64,
        /// The code of `w` that stands for 0.
        pub w_zero: i64,
        /// `i8` or `u8`.
        pub to: DType,
        /// The code of the result that stands for 0.
        pub y_zero: i64,
        /// The least code of the result: a rectifier is `y_zero` here.
        pub low: i64,
        /// The largest code of the result.
        pub high: i64,
    }
    example: QuantizedDot { x_zero: 3, w_zero: 0, to: DType::I8, y_zero: -7, low: -7, high: 100 }
}

impl Expand for QuantizedDot {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        const OP: &str = "quantized-dot";
        let [x, w, bias, multiplier, shift] = operands(OP, x)?;
        if b.rank(x) == 0 || b.rank(w) != 2 {
            return Err(IrError::Shapes {
                op: OP,
                reason: "needs rows and a matrix",
                types: [x, w].iter().map(|&v| b.ty(v).clone()).collect(),
            });
        }
        let dims = DotDims {
            lhs_contract: vec![b.rank(x) - 1],
            rhs_contract: vec![0],
            ..DotDims::default()
        };
        let x = centered(b, OP, x, self.x_zero)?;
        let w = centered(b, OP, w, self.w_zero)?;
        let sum = b.prim(Prim::DotGeneral(dims, DType::I32), &[x, w])?;
        let sum = b.add(sum, bias)?;
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
