//! Local response normalization across channels.

use anychip_ir::{Builder, Expand, IrError, Prim, ReduceKind, ValueId, Window, composite, operands};

composite! {
    /// `(x [n, c, spatial…]) → x / (bias + alpha / size · Σ x²)^beta`, the sum over `size` neighboring channels
    /// (Krizhevsky, Sutskever and Hinton 2012, section 3.3).
    pub struct LocalResponseNorm = "local-response-norm" {
        /// Channels summed over: `⌊(size − 1) / 2⌋` before, the rest after.
        pub size: usize,
        /// Factor of the sum.
        pub alpha: f32,
        /// Exponent.
        pub beta: f32,
        /// Added to the sum.
        pub bias: f32,
    }
    example: LocalResponseNorm { size: 5, alpha: 1e-4, beta: 0.75, bias: 1.0 }
}

impl Expand for LocalResponseNorm {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x] = operands("local-response-norm", x)?;
        if self.size == 0 || b.rank(x) < 2 {
            return Err(IrError::Setting {
                op: "local-response-norm",
                reason: "needs a batch and a channel dim and a size above 0",
                found: format!("{} of {}", self.size, b.ty(x)),
            });
        }
        let windowed = b.rank(x) - 1;
        let before = (self.size as i64 - 1) / 2;
        let mut window = Window {
            size: vec![1; windowed],
            strides: vec![1; windowed],
            dilation: vec![1; windowed],
            padding: vec![(0, 0); windowed],
        };
        window.size[0] = self.size;
        window.padding[0] = (before, self.size as i64 - 1 - before);
        let square = b.mul(x, x)?;
        let sum = b.prim(Prim::ReduceWindow { kind: ReduceKind::Sum, window }, &[square])?;
        let scaled = b.scale(sum, f64::from(self.alpha) / self.size as f64)?;
        let shifted = b.offset(scaled, f64::from(self.bias))?;
        let exponent = b.scalar_like(x, f64::from(self.beta))?;
        let divisor = b.pow(shifted, exponent)?;
        Ok(vec![b.div(x, divisor)?])
    }
}
