//! Attention with a recurrent state instead of a softmax over all keys.

use anychip_ir::{Builder, DotDims, Expand, IrError, Prim, ValueId, composite};
use anychip_tensor::Dim;

use crate::repeat::counted_loop;

composite! {
    /// `(q [t, b, h, d], k [t, b, g, d], v [t, b, g, e], state [b, g, d, e][, decay [t, b, g, d or 1]][, rate [t, b,
    /// g or 1, 1]]) → (y [t, b, h, e], state)`. At every step `S ← e^decay S`, `S ← S + k ⊗ u` and `y = scale · qᵀ S`,
    /// where `u` is `v`, or with a rate (the delta rule, arXiv:2412.06464) `rate · (v − Sᵀ k)`. `g` divides `h`.
    pub struct LinearAttention = "linear-attention" {
        /// Factor of the result.
        pub scale: f32,
        /// There is an operand with the logarithm of the state's decay.
        pub decay: bool,
        /// There is an operand with the rate of the delta rule.
        pub rate: bool,
    }
    example: LinearAttention { scale: 0.5, decay: true, rate: true }
}

impl Expand for LinearAttention {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let expected = 4 + usize::from(self.decay) + usize::from(self.rate);
        if x.len() != expected {
            return Err(IrError::OperandCount { op: "linear-attention", expected, found: x.len() });
        }
        if x.iter().any(|&v| b.rank(v) != 4) {
            return Err(IrError::Shapes {
                op: "linear-attention",
                reason: "needs operands of four dims",
                types: x.iter().map(|&v| b.ty(v).clone()).collect(),
            });
        }
        let (heads, groups) = (b.dims(x[0])[2].clone(), b.dims(x[1])[2].clone());
        let trips = b.dims(x[0])[0].clone();
        let trips = b.dim_value(&trips)?;
        let mut captures = vec![x[0], x[1], x[2]];
        captures.extend_from_slice(&x[4..]);
        let results = counted_loop(b, trips, &[x[3]], &captures, |b, i, state, captures| {
            let mut now = Vec::new();
            for &sequence in captures {
                now.push(b.prim(Prim::Take { axis: 0 }, &[sequence, i])?);
            }
            let (q, k, mut update, mut state) = (now[0], now[1], now[2], state[0]);
            let dtype = b.dtype(state);
            if self.decay {
                let factor = b.exp(now[3])?;
                let factor = b.unsqueeze(factor, &[3])?;
                state = b.mul(state, factor)?;
            }
            if self.rate {
                // Sᵀ k: [b, g, d] · [b, g, d, e] over d
                let dims = per_head(2, 2);
                let held = b.prim(Prim::DotGeneral(dims, dtype), &[k, state])?;
                let missing = b.sub(update, held)?;
                update = b.mul(now[captures.len() - 1], missing)?;
            }
            let column = b.unsqueeze(k, &[3])?;
            let row = b.unsqueeze(update, &[2])?;
            let outer = b.mul(column, row)?;
            state = b.add(state, outer)?;
            // [b, h, d] → [b, g, h/g, d], so that a group's queries read one state.
            let dims = b.dims(q);
            let shape =
                [dims[0].clone(), groups.clone(), heads.floor_div(&groups), dims[2].clone()];
            let grouped = b.reshape(q, &shape)?;
            let read = b.prim(Prim::DotGeneral(per_head(3, 2), dtype), &[grouped, state])?;
            let last: Dim = b.dims(state)[3].clone();
            let output = b.reshape(read, &[dims[0].clone(), dims[1].clone(), last])?;
            let output = b.scale(output, f64::from(self.scale))?;
            Ok((vec![state], vec![output]))
        })?;
        Ok(vec![results[1], results[0]])
    }
}

/// A product over one dim of each operand, batch and head shared.
fn per_head(lhs: usize, rhs: usize) -> DotDims {
    DotDims {
        lhs_batch: vec![0, 1],
        rhs_batch: vec![0, 1],
        lhs_contract: vec![lhs],
        rhs_contract: vec![rhs],
    }
}
