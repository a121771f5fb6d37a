//! The Gaussian error linear unit, exact and by tanh.

use anychip_ir::{Builder, Expand, IrError, ValueId, composite, operands};

composite! {
    /// `(x) → x · Φ(x)`, with Φ the standard normal distribution (arXiv:1606.08415).
    pub struct Gelu = "gelu" {
        /// `½x(1 + tanh(√(2/π)(x + 0.044715x³)))` instead of `½x(1 + erf(x/√2))`.
        pub tanh: bool,
    }
    example: Gelu { tanh: false }
}

impl Expand for Gelu {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x] = operands("gelu", x)?;
        let inner = if self.tanh {
            let square = b.mul(x, x)?;
            let cube = b.mul(square, x)?;
            let term = b.scale(cube, 0.044_715)?;
            let sum = b.add(x, term)?;
            let scaled = b.scale(sum, (2.0 / std::f64::consts::PI).sqrt())?;
            b.tanh(scaled)?
        } else {
            let scaled = b.scale(x, std::f64::consts::FRAC_1_SQRT_2)?;
            b.erf(scaled)?
        };
        let gate = b.offset(inner, 1.0)?;
        let half = b.scale(x, 0.5)?;
        Ok(vec![b.mul(half, gate)?])
    }
}
