//! Group normalization, of which instance normalization is the case of one channel a group.

use anychip_ir::{Builder, Expand, IrError, ValueId, composite, operands};
use anychip_tensor::{DType, Dim};

composite! {
    /// `(x [n, c, spatial…], scale [c], bias [c]) → (x − mean) / √(variance + ε) · scale + bias`, the statistics
    /// over each group of neighboring channels and all spatial dims (arXiv:1803.08494).
    pub struct GroupNorm = "group-norm" {
        /// How many groups; 0 gives each channel its own (instance normalization, arXiv:1607.08022).
        pub groups: usize,
        /// Added to the variance.
        pub epsilon: f32,
        /// The type that statistics are computed in.
        pub precision: DType,
    }
    example: GroupNorm { groups: 2, epsilon: 1e-5, precision: DType::F32 }
}

impl Expand for GroupNorm {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x, scale, bias] = operands("group-norm", x)?;
        let dims = b.dims(x);
        if dims.len() < 2 {
            return Err(IrError::Shapes {
                op: "group-norm",
                reason: "needs a batch and a channel dim",
                types: vec![b.ty(x).clone()],
            });
        }
        let dtype = b.dtype(x);
        let wide = b.cast(x, self.precision)?;
        let normal = if self.groups == 0 {
            let axes: Vec<usize> = (2..dims.len()).collect();
            normalize(b, wide, &axes, self.epsilon)?
        } else {
            let groups = Dim::Fixed(self.groups);
            let mut grouped = vec![dims[0].clone(), groups.clone(), dims[1].floor_div(&groups)];
            grouped.extend_from_slice(&dims[2..]);
            let axes: Vec<usize> = (2..grouped.len()).collect();
            let split = b.reshape(wide, &grouped)?;
            let normal = normalize(b, split, &axes, self.epsilon)?;
            b.reshape(normal, &dims)?
        };
        let mut per_channel = |v: ValueId| {
            let wide = b.cast(v, self.precision)?;
            let mut shape = vec![dims[1].clone()];
            shape.extend(std::iter::repeat_n(Dim::Fixed(1), dims.len() - 2));
            b.reshape(wide, &shape)
        };
        let (scale, bias) = (per_channel(scale)?, per_channel(bias)?);
        let scaled = b.mul(normal, scale)?;
        let result = b.add(scaled, bias)?;
        Ok(vec![b.cast(result, dtype)?])
    }
}

/// `(x − mean) / √(variance + ε)` over `axes`.
fn normalize(b: &mut Builder, x: ValueId, axes: &[usize], epsilon: f32) -> Result<ValueId, IrError> {
    let mean = b.mean(x, axes, true)?;
    let centered = b.sub(x, mean)?;
    let square = b.mul(centered, centered)?;
    let variance = b.mean(square, axes, true)?;
    let shifted = b.offset(variance, f64::from(epsilon))?;
    let deviation = b.sqrt(shifted)?;
    b.div(centered, deviation)
}
