//! Type rules of reading and writing at indices.

use anychip_tensor::{DType, Dim};

use super::{Rule, Types, one};
use crate::IrError;

impl Rule<'_, '_> {
    pub(super) fn take(&mut self, axis: usize) -> Types {
        self.count(2)?;
        self.integer(1)?;
        let (x, indices) = (self.ty(0), self.ty(1));
        self.axis(axis, x.rank())?;
        let mut shape = x.shape[..axis].to_vec();
        shape.extend_from_slice(&indices.shape);
        shape.extend_from_slice(&x.shape[axis + 1..]);
        one(x.dtype, shape)
    }

    pub(super) fn take_along(&mut self, axis: usize) -> Types {
        self.count(2)?;
        self.integer(1)?;
        self.axis(axis, self.ty(0).rank())?;
        if self.ty(1).rank() != self.ty(0).rank() {
            return Err(self.shapes("indices must have the rank of the data"));
        }
        one(self.ty(0).dtype, self.ty(1).shape.clone())
    }

    pub(super) fn gather_nd(&mut self, batch: usize) -> Types {
        self.count(2)?;
        self.integer(1)?;
        let (x, indices) = (self.ty(0), self.ty(1));
        let depth = self.index_depth(1)?;
        if batch >= indices.rank() || batch + depth > x.rank() {
            return Err(self.shapes("indices address more dims than there are"));
        }
        for (a, b) in x.shape.iter().zip(&indices.shape).take(batch) {
            self.equal_dims(a, b, "batch dims must be equal")?;
        }
        let mut shape = indices.shape[..indices.rank() - 1].to_vec();
        shape.extend_from_slice(&x.shape[batch + depth..]);
        one(x.dtype, shape)
    }

    pub(super) fn scatter_along(&mut self, axis: usize) -> Types {
        self.count(3)?;
        self.integer(1)?;
        self.same_dtype(0, 2)?;
        self.axis(axis, self.ty(0).rank())?;
        if self.ty(1).rank() != self.ty(0).rank() || self.ty(2).rank() != self.ty(0).rank() {
            return Err(self.shapes("indices and updates must have the rank of the data"));
        }
        Ok(vec![self.ty(0).clone()])
    }

    pub(super) fn scatter_nd(&mut self) -> Types {
        self.count(3)?;
        self.integer(1)?;
        self.same_dtype(0, 2)?;
        let depth = self.index_depth(1)?;
        let (x, indices, updates) = (self.ty(0), self.ty(1), self.ty(2));
        if depth > x.rank() || updates.rank() != indices.rank() - 1 + x.rank() - depth {
            return Err(self.shapes("updates must be the indices' rows by the dims not addressed"));
        }
        Ok(vec![x.clone()])
    }

    pub(super) fn non_zero(&mut self) -> Types {
        self.count(1)?;
        let count = (self.fresh)();
        one(DType::I64, vec![Dim::Fixed(self.ty(0).rank()), count])
    }

    fn index_depth(&self, i: usize) -> Result<usize, IrError> {
        match self.ty(i).shape.last() {
            Some(Dim::Fixed(n)) => Ok(*n),
            Some(_) => Err(IrError::NeedsValue {
                op: self.op,
                operand: i,
                what: "how many dims are addressed",
            }),
            None => Err(self.shapes("indices need a dim")),
        }
    }
}
