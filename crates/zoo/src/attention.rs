//! Heads, rotary angles and masks: what all transformers share.

use anychip_ir::ValueId;
use anychip_ops::{Attention, CachedAttention, RotaryEmbedding};
use anychip_tensor::{DType, Dim, Tensor};

use crate::net::{Made, Net};

/// The cosines and sines of the angles by which positions turn pairs of elements (arXiv:2104.09864).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotary {
    cos: ValueId,
    sin: ValueId,
    turned: usize,
    interleaved: bool,
}

impl Net {
    /// `[n, s, heads · d] → [n, heads, s, d]`
    pub(crate) fn split_heads(&mut self, x: ValueId, heads: usize) -> Made {
        let dims = self.b.dims(x);
        let width = self.width(x)?;
        let split = [dims[0].clone(), dims[1].clone(), heads.into(), (width / heads.max(1)).into()];
        let split = self.b.reshape(x, &split)?;
        self.b.transpose(split, &[0, 2, 1, 3])
    }

    /// `[n, heads, s, d] → [n, s, heads · d]`
    pub(crate) fn merge_heads(&mut self, x: ValueId) -> Made {
        let turned = self.b.transpose(x, &[0, 2, 1, 3])?;
        let dims = self.b.dims(turned);
        let width = self.size(turned, 2)? * self.size(turned, 3)?;
        self.b.reshape(turned, &[dims[0].clone(), dims[1].clone(), width.into()])
    }

    /// Attention of split heads; `mask` is added to the scores.
    pub(crate) fn attend(
        &mut self,
        [q, k, v]: [ValueId; 3],
        scale: f64,
        causal: bool,
        mask: Option<ValueId>,
    ) -> Made {
        let operands: Vec<ValueId> = [q, k, v].into_iter().chain(mask).collect();
        self.b.composite(Attention::new(scale as f32, causal), &operands)
    }

    /// Attention of new positions to kept keys and values and to themselves.
    pub(crate) fn attend_kept(
        &mut self,
        q: ValueId,
        past: [ValueId; 2],
        new: [ValueId; 2],
        scale: f64,
    ) -> Made {
        let operands = [q, past[0], past[1], new[0], new[1]];
        self.b.composite(CachedAttention { scale: scale as f32 }, &operands)
    }

    /// Plain attention of a sequence to itself: projections, heads, and the projection of the result.
    pub(crate) fn self_attention(
        &mut self,
        name: &str,
        x: ValueId,
        heads: usize,
        mask: Option<ValueId>,
    ) -> Made {
        self.within(name, |net| {
            let width = net.width(x)?;
            let q = net.linear("query", x, width, true)?;
            let k = net.linear("key", x, width, true)?;
            let v = net.linear("value", x, width, true)?;
            let y = net.attend_heads([q, k, v], heads, mask)?;
            net.linear("output", y, width, true)
        })
    }

    /// Splits projections into heads, attends, and merges the heads.
    pub(crate) fn attend_heads(
        &mut self,
        [q, k, v]: [ValueId; 3],
        heads: usize,
        mask: Option<ValueId>,
    ) -> Made {
        let scale = 1.0 / ((self.width(q)? / heads.max(1)) as f64).sqrt();
        let q = self.split_heads(q, heads)?;
        let k = self.split_heads(k, heads)?;
        let v = self.split_heads(v, heads)?;
        let y = self.attend([q, k, v], scale, false, mask)?;
        self.merge_heads(y)
    }

    /// What is added to scores so that positions whose `i64[n, s]` mask is 0 are not seen: `[n, 1, 1, s]`.
    pub(crate) fn padding_mask(&mut self, mask: ValueId) -> Made {
        let (dtype, b) = (self.dtype, &mut self.b);
        let seen = b.cast(mask, dtype)?;
        let wide = b.unsqueeze(seen, &[1, 2])?;
        let one = b.scalar(dtype, 1.0)?;
        let hidden = b.sub(one, wide)?;
        let least = match dtype {
            DType::F16 => -65_504.0,
            _ => f64::from(f32::MIN),
        };
        b.scale(hidden, least)
    }

    /// Angles for `count` positions from `first` on: element pair `i` of `turned / 2` turns by `position · theta^(−2i/turned)`.
    pub(crate) fn rotary(
        &mut self,
        first: &Dim,
        count: &Dim,
        turned: usize,
        theta: f64,
        interleaved: bool,
    ) -> Made<Rotary> {
        let (dtype, b) = (self.dtype, &mut self.b);
        let half = turned / 2;
        let frequencies: Vec<f32> =
            (0..half).map(|i| theta.powf(-2.0 * i as f64 / turned as f64) as f32).collect();
        let frequencies = b.constant(Tensor::from_vec([half], frequencies)?);
        let mut positions = b.iota(count)?;
        if first.constant() != Some(0) {
            let first = b.dim_value(first)?;
            positions = b.add(positions, first)?;
        }
        let positions = b.cast(positions, DType::F32)?;
        let positions = b.unsqueeze(positions, &[1])?;
        let angles = b.mul(positions, frequencies)?;
        let (cos, sin) = (b.cos(angles)?, b.sin(angles)?);
        Ok(Rotary { cos: b.cast(cos, dtype)?, sin: b.cast(sin, dtype)?, turned, interleaved })
    }

    /// `[n, h, s, d]` with the pairs of each position turned by its angle.
    pub(crate) fn turn(&mut self, x: ValueId, rotary: &Rotary) -> Made {
        let op = RotaryEmbedding { interleaved: rotary.interleaved, turned: rotary.turned };
        self.b.composite(op, &[x, rotary.cos, rotary.sin])
    }
}
