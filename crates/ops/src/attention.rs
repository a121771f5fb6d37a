//! Scaled dot-product attention with grouped key and value heads.

use anychip_ir::{Builder, DotDims, Expand, IrError, Prim, ReduceKind, ValueId, composite};
use anychip_tensor::{DType, Dim};

use crate::Softmax;

composite! {
    /// `(q [b, h, s, d], k [b, g, t, d], v [b, g, t, e][, mask]) → softmax(scale · q kᵀ + mask) v`, `[b, h, s, e]`
    /// (arXiv:1706.03762). `g` divides `h`; each key head serves `h/g` neighboring query heads. `mask` is
    /// added and broadcasts to `[b, h, s, t]`; a query that it lets see no key gives zeros. With `scores`
    /// there is a second result, `[b, h, s, t]`.
    pub struct Attention = "attention" {
        /// Factor of the scores.
        pub scale: f32,
        /// Query `i` sees only keys up to `i`.
        pub causal: bool,
        /// Scores become `softcap · tanh(score / softcap)` before the mask; 0 leaves them.
        pub softcap: f32,
        /// The type that softmax is computed in, where it is not that of `q`.
        pub softmax_type: Option<DType>,
        /// Which scores are a second result: `raw`, `capped`, `masked` or `weights`.
        pub scores: Option<String>,
    }
    example: Attention {
        scale: 0.125,
        causal: false,
        softcap: 0.0,
        softmax_type: None,
        scores: None,
    }
}

impl Attention {
    /// The plain form: a factor, and whether queries see later keys.
    pub fn new(scale: f32, causal: bool) -> Attention {
        Attention { scale, causal, softcap: 0.0, softmax_type: None, scores: None }
    }
}

impl Expand for Attention {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let ranks: Vec<usize> = x.iter().map(|&v| b.rank(v)).collect();
        if !matches!(ranks[..], [4, 4, 4] | [4, 4, 4, _]) || ranks.last() == Some(&0) {
            return Err(IrError::Shapes {
                op: "attention",
                reason: "needs queries, keys and values of four dims, and at most a mask of one or more",
                types: x.iter().map(|&v| b.ty(v).clone()).collect(),
            });
        }
        let (q, k, v) = (x[0], x[1], x[2]);
        let dtype = b.dtype(q);
        let heads = b.dims(q)[1].clone();
        let (k, v) = (repeat_heads(b, k, &heads)?, repeat_heads(b, v, &heads)?);
        let dims = |contract| DotDims {
            lhs_batch: vec![0, 1],
            rhs_batch: vec![0, 1],
            lhs_contract: vec![3],
            rhs_contract: vec![contract],
        };
        // In 16 bits both sides carry half of the factor, as the standard has it, so that products do not overflow;
        // in wider floats one multiplication of the queries does.
        let (q, k) = if matches!(dtype, DType::F16 | DType::BF16) {
            let root = f64::from(self.scale).sqrt();
            (b.scale(q, root)?, b.scale(k, root)?)
        } else {
            (b.scale(q, f64::from(self.scale))?, k)
        };
        let raw = b.prim(Prim::DotGeneral(dims(3), dtype), &[q, k])?;
        let capped = if self.softcap == 0.0 {
            raw
        } else {
            let scaled = b.scale(raw, 1.0 / f64::from(self.softcap))?;
            let curve = b.tanh(scaled)?;
            b.scale(curve, f64::from(self.softcap))?
        };
        let mut masked = capped;
        let never = b.scalar(dtype, f64::NEG_INFINITY)?;
        if let Some(&mask) = x.get(3) {
            masked = b.add(masked, mask)?;
        }
        if self.causal {
            let (rows, columns) = (b.dims(raw)[2].clone(), b.dims(raw)[3].clone());
            let rows = b.iota(&rows)?;
            let rows = b.unsqueeze(rows, &[1])?;
            let columns = b.iota(&columns)?;
            let seen = b.le(columns, rows)?;
            masked = b.select(seen, masked, never)?;
        }
        let wide = b.cast(masked, self.softmax_type.unwrap_or(dtype))?;
        let weights = b.composite(Softmax { axis: 3 }, &[wide])?;
        let mut weights = b.cast(weights, dtype)?;
        if let Some(&mask) = x.get(3) {
            // Together with `causal` a mask can hide keys that neither hides alone.
            let hidden = if self.causal { masked } else { mask };
            let last = b.rank(hidden) - 1;
            let most = b.reduce(ReduceKind::Max, hidden, &[last], true)?;
            let unseen = b.eq(most, never)?;
            let zero = b.scalar(dtype, 0.0)?;
            weights = b.select(unseen, zero, weights)?;
        }
        let result = b.prim(Prim::DotGeneral(dims(2), dtype), &[weights, v])?;
        let scores = match self.scores.as_deref() {
            None => return Ok(vec![result]),
            Some("raw") => raw,
            Some("capped") => capped,
            Some("masked") => masked,
            Some("weights") => weights,
            Some(other) => {
                return Err(IrError::Setting {
                    op: "attention",
                    reason: "scores are raw, capped, masked or weights",
                    found: other.to_string(),
                });
            }
        };
        Ok(vec![result, scores])
    }
}

/// `[b, g, t, d] → [b, heads, t, d]`, each head repeated for its neighbors.
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
    use anychip_tensor::Tensor;

    /// The mask hides the first key, and causality all but that from the first query.
    #[test]
    fn a_query_that_sees_no_key_gives_zeros() {
        let tensor = |dims: [usize; 4], x: &[f32]| Tensor::from_vec(dims, x.to_vec()).unwrap();
        let q = tensor([1, 1, 2, 1], &[1.0, 2.0]);
        let v = tensor([1, 1, 2, 1], &[5.0, 7.0]);
        let mask = tensor([1, 1, 1, 2], &[f32::NEG_INFINITY, 0.0]);
        let operands = [q.clone(), q, v, mask];
        let mut b = Builder::new("attention");
        let x = operands.each_ref().map(|t| b.input("", TensorType::of(t)));
        let out = b.composite(Attention::new(1.0, true), &x).unwrap();
        let results = anychip_ir::evaluate(&b.finish(&[out]), &operands).unwrap();
        assert_eq!(results[0].to_f64(), [0.0, 7.0]);
    }

    #[test]
    fn grouped_heads_type() {
        let mut b = Builder::new("attention");
        let q = b.input("q", TensorType::new(DType::F32, [Dim::sym("n"), 8.into(), 5.into(), 16.into()]));
        let k = b.input("k", TensorType::new(DType::F32, [Dim::sym("n"), 2.into(), 7.into(), 16.into()]));
        let out = b.composite(Attention::new(0.25, true), &[q, k, k]).unwrap();
        assert_eq!(b.ty(out).to_string(), "f32[n, 8, 5, 16]");
    }
}
