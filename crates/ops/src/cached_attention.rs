//! Attention of a few new positions to those kept in a cache and to themselves.

use anychip_ir::{Builder, Expand, IrError, ValueId, composite};
use anychip_tensor::Dim;

use crate::Attention;

composite! {
    /// `(q [b, h, s, d], past_k [b, g, c, d], past_v [b, g, c, e], k [b, g, s, d], v [b, g, s, e][, mask]) →
    /// [b, h, s, e]`: [`Attention`] to the kept keys and values followed by the new ones. New queries see all that is
    /// kept, and of the new keys those up to their own position. `mask` is added and broadcasts to `[b, h, s, c + s]`.
    ///
    /// A node of its own, because whoever serves a language model appends to the cache in place: what crosses its boundary is the cache,
    /// read once, where the concatenation in its expansion reads and writes it again.
    pub struct CachedAttention = "cached-attention" {
        /// Factor of the scores.
        pub scale: f32,
    }
    example: CachedAttention { scale: 0.125 }
}

impl Expand for CachedAttention {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let (&[q, past_k, past_v, k, v], mask) = (match x {
            [operands @ .., mask] if operands.len() == 5 => (operands, Some(*mask)),
            operands => (operands, None),
        }) else {
            return Err(IrError::OperandCount { op: "cached-attention", expected: 5, found: x.len() });
        };
        if [q, past_k, past_v, k, v].iter().any(|&v| b.rank(v) != 4) {
            return Err(IrError::Shapes {
                op: "cached-attention",
                reason: "needs queries, keys and values of four dims",
                types: x.iter().map(|&v| b.ty(v).clone()).collect(),
            });
        }
        let (new, kept) = (b.dims(q)[2].clone(), b.dims(past_k)[2].clone());
        let keys = b.concat(&[past_k, k], 2)?;
        let values = b.concat(&[past_v, v], 2)?;
        let mut operands = vec![q, keys, values];
        // One new position sees everything there is; of several each sees those before it.
        let alone = new == Dim::Fixed(1);
        let order = if alone { None } else { Some(later(b, q, &new, &kept)?) };
        match (order, mask) {
            (None, None) => {}
            (Some(only), None) | (None, Some(only)) => operands.push(only),
            (Some(order), Some(mask)) => operands.push(b.add(order, mask)?),
        }
        Ok(vec![b.composite(Attention::new(self.scale, false), &operands)?])
    }
}

/// `[s, c + s]`: 0 where query `i` sees key `j`, `j ≤ c + i`, else −∞.
fn later(b: &mut Builder, q: ValueId, new: &Dim, kept: &Dim) -> Result<ValueId, IrError> {
    let rows = b.iota(new)?;
    let rows = b.unsqueeze(rows, &[1])?;
    let first = b.dim_value(kept)?;
    let rows = b.add(rows, first)?;
    let columns = b.iota(&(kept.clone() + new.clone()))?;
    let seen = b.le(columns, rows)?;
    let (zero, never) = (b.scalar_like(q, 0.0)?, b.scalar_like(q, f64::NEG_INFINITY)?);
    b.select(seen, zero, never)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::TensorType;
    use anychip_tensor::{DType, Tensor};

    fn values(dims: [usize; 4], seed: usize) -> Tensor {
        let n: usize = dims.iter().product();
        let data = (0..n).map(|i| (((i * 7 + seed * 13) % 11) as f32 - 5.0) / 4.0).collect();
        Tensor::from_vec(dims, data).unwrap()
    }

    fn run(op: impl anychip_ir::Composite, operands: &[Tensor]) -> Vec<f64> {
        let mut b = Builder::new("g");
        let x: Vec<ValueId> = operands.iter().map(|t| b.input("", TensorType::of(t))).collect();
        let out = b.composite(op, &x).unwrap();
        anychip_ir::evaluate(&b.finish(&[out]), operands).unwrap()[0].to_f64()
    }

    /// The last positions of causal attention over everything are what the cache gives, with fewer key heads too.
    #[test]
    fn equals_the_end_of_causal_attention() {
        for (kept, new) in [(3, 1), (2, 2), (0, 4)] {
            let all = kept + new;
            let (q, k, v) = (values([2, 4, all, 3], 1), values([2, 2, all, 3], 2), values([2, 2, all, 5], 3));
            let whole = run(Attention::new(0.5, true), &[q.clone(), k.clone(), v.clone()]);
            // `[b, heads, all, d]` cut along the positions.
            let cut = |t: &Tensor, from: usize, to: usize| {
                let [b, h, s, d] = t.shape()[..] else { unreachable!("made with four dims") };
                let data = t.elements::<f32>().unwrap();
                let rows = (0..b * h).flat_map(|i| (from..to).map(move |j| i * s + j));
                let data: Vec<f32> = rows.flat_map(|r| data[r * d..(r + 1) * d].to_vec()).collect();
                Tensor::from_vec([b, h, to - from, d], data).unwrap()
            };
            let operands = [
                cut(&q, kept, all),
                cut(&k, 0, kept),
                cut(&v, 0, kept),
                cut(&k, kept, all),
                cut(&v, kept, all),
            ];
            let found = run(CachedAttention { scale: 0.5 }, &operands);
            let expected: Vec<f64> =
                whole.chunks(all * 5).flat_map(|head| head[kept * 5..].to_vec()).collect();
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-6, "{kept} kept: {a} {b}");
            }
        }
    }

    #[test]
    fn named_sizes_type() {
        let mut b = Builder::new("g");
        let ty = |h: usize, s: Dim| TensorType::new(DType::F32, [Dim::sym("n"), h.into(), s, 8.into()]);
        let q = b.input("q", ty(4, 1.into()));
        let past = b.input("past", ty(2, Dim::sym("context")));
        let k = b.input("k", ty(2, 1.into()));
        let out = b.composite(CachedAttention { scale: 1.0 }, &[q, past, past, k, k]).unwrap();
        assert_eq!(b.ty(out).to_string(), "f32[n, 4, 1, 8]");
    }
}
