//! Scaled dot-product attention with grouped key and value heads.

use anychip_ir::{Builder, DotDims, Expand, IrError, Prim, ValueId, composite};
use anychip_tensor::Dim;

use crate::Softmax;

composite! {
    /// `(q [b, h, s, d], k [b, g, t, d], v [b, g, t, e][, mask]) → softmax(scale · q kᵀ + mask) v`, `[b, h, s, e]`
    /// (arXiv:1706.03762). `g` divides `h`; each key head serves `h/g` neighbouring query heads. `mask` is
    /// added and broadcasts to `[b, h, s, t]`.
    pub struct Attention = "attention" {
        /// Factor of the scores.
        pub scale: f32,
        /// Query `i` sees only keys up to `i`.
        pub causal: bool,
    }
    example: Attention { scale: 0.125, causal: false }
}

impl Expand for Attention {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let (q, k, v) = (x[0], x[1], x[2]);
        let dtype = b.dtype(q);
        let heads = b.dims(q)[1].clone();
        let (k, v) = (repeat_heads(b, k, &heads)?, repeat_heads(b, v, &heads)?);
        let scores = DotDims {
            lhs_batch: vec![0, 1],
            rhs_batch: vec![0, 1],
            lhs_contract: vec![3],
            rhs_contract: vec![3],
        };
        let scores = b.prim(Prim::DotGeneral(scores, dtype), &[q, k])?;
        let mut scores = b.scale(scores, f64::from(self.scale))?;
        if let Some(&mask) = x.get(3) {
            scores = b.add(scores, mask)?;
        }
        if self.causal {
            let (rows, columns) = (b.dims(scores)[2].clone(), b.dims(scores)[3].clone());
            let rows = b.iota(&rows)?;
            let rows = b.unsqueeze(rows, &[1])?;
            let columns = b.iota(&columns)?;
            let seen = b.le(columns, rows)?;
            let never = b.scalar(dtype, f64::NEG_INFINITY)?;
            scores = b.select(seen, scores, never)?;
        }
        let weights = b.composite(Softmax { axis: 3 }, &[scores])?;
        let values = DotDims {
            lhs_batch: vec![0, 1],
            rhs_batch: vec![0, 1],
            lhs_contract: vec![3],
            rhs_contract: vec![2],
        };
        Ok(vec![b.prim(Prim::DotGeneral(values, dtype), &[weights, v])?])
    }
}

/// `[b, g, t, d] → [b, heads, t, d]`, each head repeated for its neighbours.
fn repeat_heads(b: &mut Builder, x: ValueId, heads: &Dim) -> Result<ValueId, IrError> {
    let dims = b.dims(x);
    if dims[1] == *heads {
        return Ok(x);
    }
    let group = heads.floor_div(&dims[1]);
    let split = b.unsqueeze(x, &[2])?;
    let wide = [dims[0].clone(), dims[1].clone(), group, dims[2].clone(), dims[3].clone()];
    let repeated = b.broadcast(split, &wide)?;
    b.reshape(repeated, &[dims[0].clone(), heads.clone(), dims[2].clone(), dims[3].clone()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::TensorType;
    use anychip_tensor::DType;

    #[test]
    fn grouped_heads_type() {
        let mut b = Builder::new("attention");
        let q = b.input("q", TensorType::new(DType::F32, [Dim::sym("n"), 8.into(), 5.into(), 16.into()]));
        let k = b.input("k", TensorType::new(DType::F32, [Dim::sym("n"), 2.into(), 7.into(), 16.into()]));
        let out = b.composite(Attention { scale: 0.25, causal: true }, &[q, k, k]).unwrap();
        assert_eq!(b.ty(out).to_string(), "f32[n, 8, 5, 16]");
    }
}
