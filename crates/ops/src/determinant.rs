//! The determinant, by elimination.

use anychip_ir::{Builder, Expand, IrError, Prim, ReduceKind, ValueId, composite, operands};
use anychip_tensor::Dim;

use crate::repeat::counted_loop;

composite! {
    /// `(x […, n, n]) → […]`: the determinant, by Gaussian elimination with partial pivoting.
    pub struct Determinant = "determinant" {}
    example: Determinant {}
}

impl Expand for Determinant {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x] = operands("determinant", x)?;
        let dims = b.dims(x);
        let Some(batch) = dims.len().checked_sub(2).map(|n| dims[..n].to_vec()) else {
            return Err(IrError::Shapes {
                op: "determinant",
                reason: "needs a matrix",
                types: vec![b.ty(x).clone()],
            });
        };
        let n = dims[dims.len() - 1].clone();
        let matrices = batch.iter().fold(Dim::Fixed(1), |a, d| a * d.clone());
        let flat = b.reshape(x, &[matrices.clone(), n.clone(), n.clone()])?;
        let one = b.scalar_like(x, 1.0)?;
        let start = b.broadcast(one, &[matrices])?;
        let trips = b.dim_value(&n)?;
        let results = counted_loop(b, trips, &[flat, start], &[], |b, k, state, _| {
            let (matrix, determinant) = (state[0], state[1]);
            let dims = b.dims(matrix);
            let n = dims[2].clone();
            let rows = b.iota(&n)?;
            // The largest element of column k in the rows not done yet becomes the pivot.
            let column = b.prim(Prim::Take { axis: 2 }, &[matrix, k])?;
            let magnitude = b.abs(column)?;
            let open = b.ge(rows, k)?;
            let never = b.scalar_like(column, -1.0)?;
            let candidates = b.select(open, magnitude, never)?;
            let place = Prim::ArgReduce { kind: ReduceKind::Max, axis: 1, last: false };
            let place = b.prim(place, &[candidates])?;
            let place = b.unsqueeze(place, &[1])?;
            let pivot = b.prim(Prim::TakeAlong { axis: 1 }, &[column, place])?;
            // The row k and the pivot's row change places.
            let pivot_row = b.prim(Prim::GatherNd { batch: 1 }, &[matrix, place])?;
            let pivot_row = b.unsqueeze(pivot_row, &[1])?;
            let top = b.prim(Prim::Take { axis: 1 }, &[matrix, k])?;
            let top = b.unsqueeze(top, &[1])?;
            let is_pivot = b.eq(rows, place)?;
            let is_pivot = b.unsqueeze(is_pivot, &[2])?;
            let is_top = b.eq(rows, k)?;
            let is_top = b.unsqueeze(is_top, &[1])?;
            let moved = b.select(is_pivot, top, matrix)?;
            let moved = b.select(is_top, pivot_row, moved)?;
            // Rows below lose their multiple of it.
            let column = b.prim(Prim::Take { axis: 2 }, &[moved, k])?;
            let zero = b.scalar_like(column, 0.0)?;
            let singular = b.eq(pivot, zero)?;
            let quotient = b.div(column, pivot)?;
            let quotient = b.select(singular, zero, quotient)?;
            let below = b.gt(rows, k)?;
            let factor = b.select(below, quotient, zero)?;
            let factor = b.unsqueeze(factor, &[2])?;
            let loss = b.mul(factor, pivot_row)?;
            let next = b.sub(moved, loss)?;
            let (one, minus) = (b.scalar_like(column, 1.0)?, b.scalar_like(column, -1.0)?);
            let same = b.eq(place, k)?;
            let sign = b.select(same, one, minus)?;
            let term = b.mul(sign, pivot)?;
            let term = b.squeeze(term, &[1])?;
            Ok((vec![next, b.mul(determinant, term)?], Vec::new()))
        })?;
        Ok(vec![b.reshape(results[1], &batch)?])
    }
}
