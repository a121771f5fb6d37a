//! Rotary position embedding.

use anychip_ir::{Builder, Expand, IrError, Prim, ValueId, composite, operands};
use anychip_tensor::Dim;

composite! {
    /// `(x […, d], cos […, r/2], sin […, r/2]) → x` with pairs of its first `r` elements turned by an angle
    /// (arXiv:2104.09864): `(a cos − b sin, a sin + b cos)`. `cos` and `sin` broadcast.
    pub struct RotaryEmbedding = "rotary-embedding" {
        /// Pairs are neighbors instead of elements of the first and the second half.
        pub interleaved: bool,
        /// How many elements are turned, `r`; the rest stays.
        pub turned: usize,
    }
    example: RotaryEmbedding { interleaved: false, turned: 8 }
}

impl Expand for RotaryEmbedding {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x, cos, sin] = operands("rotary-embedding", x)?;
        let dims = b.dims(x);
        let Some(axis) = dims.len().checked_sub(1) else {
            return Err(IrError::Shapes {
                op: "rotary-embedding",
                reason: "needs a dim",
                types: vec![b.ty(x).clone()],
            });
        };
        let (zero, half, whole) = (0.into(), Dim::Fixed(self.turned / 2), Dim::Fixed(self.turned));
        let (first, second) = if self.interleaved {
            let mut every_other = |start: i64| {
                let starts = b.integers(&[start]);
                let ends = b.integers(&[self.turned as i64]);
                let steps = b.integers(&[2]);
                b.prim(Prim::Slice { axes: vec![axis] }, &[x, starts, ends, steps])
            };
            (every_other(0)?, every_other(1)?)
        } else {
            (b.slice(x, axis, &zero, &half)?, b.slice(x, axis, &half, &whole)?)
        };
        let (first_cos, first_sin) = (b.mul(first, cos)?, b.mul(first, sin)?);
        let (second_cos, second_sin) = (b.mul(second, cos)?, b.mul(second, sin)?);
        let real = b.sub(first_cos, second_sin)?;
        let imaginary = b.add(first_sin, second_cos)?;
        let turned = if self.interleaved {
            let pair = [b.unsqueeze(real, &[axis + 1])?, b.unsqueeze(imaginary, &[axis + 1])?];
            let pairs = b.concat(&pair, axis + 1)?;
            let mut flat = dims[..axis].to_vec();
            flat.push(whole.clone());
            b.reshape(pairs, &flat)?
        } else {
            b.concat(&[real, imaginary], axis)?
        };
        if dims[axis] == whole {
            return Ok(vec![turned]);
        }
        let rest = b.slice(x, axis, &whole, &dims[axis])?;
        Ok(vec![b.concat(&[turned, rest], axis)?])
    }
}
