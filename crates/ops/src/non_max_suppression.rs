//! Greedy selection of boxes that overlap little.

use anychip_ir::{Builder, Expand, IrError, Prim, ReduceKind, ValueId, composite, operands};
use anychip_tensor::{DType, Dim, Tensor};

use crate::repeat::{Step, loop_while};
use crate::sample::lowest;

composite! {
    /// `(boxes [n, m, 4], scores [n, k, m], most i64[], overlap f32[], least f32[]) → i64 [selected, 3]`: for each image
    /// and class the best-scored box is taken, and boxes that it overlaps by more than `overlap` (area of the
    /// intersection over that of the union) are dropped, until `most` are taken or none is left that scores
    /// more than `least`. Rows are (image, class, box), the best first.
    pub struct NonMaxSuppression = "non-max-suppression" {
        /// Boxes are (x, y of the center, width, height) instead of (y, x) of two opposite corners.
        pub centered: bool,
    }
    example: NonMaxSuppression { centered: false }
}

impl Expand for NonMaxSuppression {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [boxes, scores, most, overlap, least] = operands("non-max-suppression", x)?;
        if b.rank(boxes) != 3 || b.rank(scores) != 3 {
            return Err(IrError::Shapes {
                op: "non-max-suppression",
                reason: "needs boxes [n, m, 4] and scores [n, k, m]",
                types: vec![b.ty(boxes).clone(), b.ty(scores).clone()],
            });
        }
        let dtype = b.dtype(scores);
        // [n, 1, m] each
        let corners = self.corners(b, boxes)?;
        let areas = area(b, &corners)?;
        let never = lowest(b, dtype)?;
        let good = b.gt(scores, least)?;
        let left = b.select(good, scores, never)?;

        let count = b.dims(boxes)[1].clone();
        let boxes_left = b.dim_value(&count)?;
        let trips = b.min(most, boxes_left)?;
        let zero = b.constant(Tensor::scalar(0i64));
        let trips = b.max(trips, zero)?;
        let captures: Vec<ValueId> = corners.iter().copied().chain([areas, overlap]).collect();
        let results = loop_while(b, trips, &[left], &captures, |b, _, state, captures| {
            let (left, overlap) = (state[0], captures[5]);
            let never = lowest(b, dtype)?;
            let place = Prim::ArgReduce { kind: ReduceKind::Max, axis: 2, last: false };
            let best = b.prim(place, &[left])?;
            let place = b.unsqueeze(best, &[2])?;
            let score = b.prim(Prim::TakeAlong { axis: 2 }, &[left, place])?;
            let found = b.gt(score, never)?;
            let mut own = Vec::new();
            for &corner in &captures[..5] {
                // The best box of every class, [n, k, 1].
                let flat = b.squeeze(corner, &[1])?;
                let picked = b.prim(Prim::GatherNd { batch: 1 }, &[flat, place])?;
                own.push(b.unsqueeze(picked, &[2])?);
            }
            let low = [b.max(own[0], captures[0])?, b.max(own[1], captures[1])?];
            let high = [b.min(own[2], captures[2])?, b.min(own[3], captures[3])?];
            let shared = area(b, &[low[0], low[1], high[0], high[1]])?;
            let both = b.add(own[4], captures[4])?;
            let union = b.sub(both, shared)?;
            let zero = b.scalar_like(union, 0.0)?;
            let has_area = b.gt(union, zero)?;
            let ratio = b.div(shared, union)?;
            let ratio = b.select(has_area, ratio, zero)?;
            let limit = b.cast(overlap, b.dtype(ratio))?;
            let covered = b.gt(ratio, limit)?;
            let m = b.dims(left)[2].clone();
            let order = b.iota(&m)?;
            let itself = b.eq(order, place)?;
            let dropped = b.or(covered, itself)?;
            let next = b.select(dropped, never, left)?;
            let found = b.squeeze(found, &[2])?;
            let any = b.cast(found, DType::I64)?;
            let any = b.reduce(ReduceKind::Max, any, &[0, 1], false)?;
            let none = b.constant(Tensor::scalar(0i64));
            let again = b.gt(any, none)?;
            let step: Step = (vec![next], vec![best, found]);
            Ok((again, step))
        })?;
        // [steps, n, k] → [n, k, steps]; those found, in row-major order.
        let best = b.transpose(results[1], &[1, 2, 0])?;
        let found = b.transpose(results[2], &[1, 2, 0])?;
        let places = b.prim(Prim::NonZero, &[found])?;
        let places = b.transpose(places, &[1, 0])?;
        let chosen = b.prim(Prim::GatherNd { batch: 0 }, &[best, places])?;
        let chosen = b.unsqueeze(chosen, &[1])?;
        let class = b.slice(places, 1, &Dim::Fixed(0), &Dim::Fixed(2))?;
        Ok(vec![b.concat(&[class, chosen], 1)?])
    }
}

impl NonMaxSuppression {
    /// Low y, low x, high y, high x, `[n, 1, m]` each.
    fn corners(&self, b: &mut Builder, boxes: ValueId) -> Result<[ValueId; 4], IrError> {
        let mut parts = Vec::new();
        for i in 0..4 {
            let part = b.index(boxes, 2, i)?;
            parts.push(b.unsqueeze(part, &[1])?);
        }
        let (p, q, r, s) = (parts[0], parts[1], parts[2], parts[3]);
        if self.centered {
            let (half_width, half_height) = (b.scale(r, 0.5)?, b.scale(s, 0.5)?);
            Ok([
                b.sub(q, half_height)?,
                b.sub(p, half_width)?,
                b.add(q, half_height)?,
                b.add(p, half_width)?,
            ])
        } else {
            Ok([b.min(p, r)?, b.min(q, s)?, b.max(p, r)?, b.max(q, s)?])
        }
    }
}

/// The area between low and high corners, 0 where they have changed places.
fn area(b: &mut Builder, corners: &[ValueId; 4]) -> Result<ValueId, IrError> {
    let zero = b.scalar_like(corners[0], 0.0)?;
    let height = b.sub(corners[2], corners[0])?;
    let height = b.max(height, zero)?;
    let width = b.sub(corners[3], corners[1])?;
    let width = b.max(width, zero)?;
    b.mul(height, width)
}
