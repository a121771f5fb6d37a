//! Layer normalization.

use anychip_ir::{Builder, Expand, IrError, ValueId, composite};

composite! {
    /// `(x, scale[, bias]) → (x − mean) / √(variance + ε) · scale + bias` over the dims from `axis` on
    /// (arXiv:1607.06450). `scale` and `bias` broadcast.
    pub struct LayerNorm = "layer-norm" {
        /// First dim that is normalized over.
        pub axis: usize,
        /// Added to the variance.
        pub epsilon: f32,
    }
    example: LayerNorm { axis: 1, epsilon: 1e-5 }
}

impl Expand for LayerNorm {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let (x, scale, bias) = match *x {
            [x, scale] => (x, scale, None),
            [x, scale, bias] => (x, scale, Some(bias)),
            _ => {
                return Err(IrError::OperandCount {
                    op: "layer-norm",
                    expected: 2,
                    found: x.len(),
                });
            }
        };
        let axes: Vec<usize> = (self.axis..b.rank(x)).collect();
        let mean = b.mean(x, &axes, true)?;
        let centered = b.sub(x, mean)?;
        let square = b.mul(centered, centered)?;
        let variance = b.mean(square, &axes, true)?;
        let shifted = b.offset(variance, f64::from(self.epsilon))?;
        let deviation = b.sqrt(shifted)?;
        let normal = b.div(centered, deviation)?;
        let scaled = b.mul(normal, scale)?;
        Ok(vec![match bias {
            Some(bias) => b.add(scaled, bias)?,
            None => scaled,
        }])
    }
}
