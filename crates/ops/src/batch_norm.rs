//! Batch normalization with stored statistics.

use anychip_ir::{Builder, Expand, IrError, ValueId, composite, operands};
use anychip_tensor::Dim;

composite! {
    /// `(x [n, c, …], scale [c], bias [c], mean [c], variance [c]) → (x − mean) / √(variance + ε) · scale + bias`
    /// (arXiv:1502.03167, inference form).
    pub struct BatchNorm = "batch-norm" {
        /// Added to the variance.
        pub epsilon: f32,
    }
    example: BatchNorm { epsilon: 1e-5 }
}

impl Expand for BatchNorm {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x, scale, bias, mean, variance] = operands("batch-norm", x)?;
        let trailing = b.rank(x).saturating_sub(2);
        let channels = |b: &mut Builder, v: ValueId| {
            let mut dims = b.dims(v);
            dims.extend(std::iter::repeat_n(Dim::Fixed(1), trailing));
            b.reshape(v, &dims)
        };
        let shifted = b.offset(variance, f64::from(self.epsilon))?;
        let deviation = b.sqrt(shifted)?;
        let factor = b.div(scale, deviation)?;
        let (mean, factor, bias) = (channels(b, mean)?, channels(b, factor)?, channels(b, bias)?);
        let dtype = b.dtype(x);
        let wide = b.cast(x, b.dtype(mean))?;
        let centered = b.sub(wide, mean)?;
        let scaled = b.mul(centered, factor)?;
        let result = b.add(scaled, bias)?;
        Ok(vec![b.cast(result, dtype)?])
    }
}
