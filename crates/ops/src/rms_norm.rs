//! Root-mean-square normalization.

use anychip_ir::{Builder, Expand, IrError, ValueId, composite, operands};

composite! {
    /// `(x, scale) → x / √(mean(x²) + ε) · scale` over the dims from `axis` on (arXiv:1910.07467).
    pub struct RmsNorm = "rms-norm" {
        /// First dim that is normalized over.
        pub axis: usize,
        /// Added to the mean square.
        pub epsilon: f32,
    }
    example: RmsNorm { axis: 1, epsilon: 1e-6 }
}

impl Expand for RmsNorm {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x, scale] = operands("rms-norm", x)?;
        let axes: Vec<usize> = (self.axis..b.rank(x)).collect();
        let square = b.mul(x, x)?;
        let mean = b.mean(square, &axes, true)?;
        let shifted = b.offset(mean, f64::from(self.epsilon))?;
        let root = b.sqrt(shifted)?;
        let normal = b.div(x, root)?;
        Ok(vec![b.mul(normal, scale)?])
    }
}
