//! Type rules of what makes or moves elements.

use anychip_tensor::{DType, Dim};

use super::{Rule, Types, one};
use crate::known::slice_bounds;
use crate::{IrError, TensorType};

impl Rule<'_, '_> {
    pub(super) fn iota(&mut self) -> Types {
        self.count(1)?;
        self.expect(0, self.ty(0).dtype == DType::I64, "i64")?;
        if self.ty(0).rank() != 0 {
            return Err(self.shapes("the length must be a scalar"));
        }
        let length = match self.operands[0].known {
            Some([dim]) => match dim.constant() {
                Some(n) => Dim::Fixed(usize::try_from(n).unwrap_or(0)),
                None => dim.clone(),
            },
            _ => (self.fresh)(),
        };
        one(DType::I64, vec![length])
    }

    pub(super) fn random(&mut self, dtype: DType) -> Types {
        self.count(1)?;
        if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
            return Err(self.setting("random numbers are floats", dtype));
        }
        let shape = self.sizes(0)?;
        one(dtype, shape)
    }

    pub(super) fn reshape(&mut self) -> Types {
        self.count(2)?;
        let shape = self.sizes(1)?;
        let result = TensorType { dtype: self.ty(0).dtype, shape };
        if let (Some(a), Some(b)) = (fixed_elements(self.ty(0)), fixed_elements(&result))
            && a != b
        {
            return Err(IrError::Shapes {
                op: self.op,
                reason: "the number of elements must stay",
                types: vec![self.ty(0).clone(), result],
            });
        }
        Ok(vec![result])
    }

    pub(super) fn broadcast_to(&mut self) -> Types {
        self.count(2)?;
        let shape = self.sizes(1)?;
        let x = self.ty(0);
        if x.rank() > shape.len() {
            return Err(self.shapes("broadcasting cannot remove dims"));
        }
        for (from, to) in x.shape.iter().rev().zip(shape.iter().rev()) {
            if from != &Dim::Fixed(1) {
                self.equal_dims(from, to, "dims must be 1 or stay to broadcast")?;
            }
        }
        one(x.dtype, shape)
    }

    pub(super) fn transpose(&mut self, permutation: &[usize]) -> Types {
        self.count(1)?;
        let x = self.ty(0);
        let mut sorted = permutation.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..x.rank()) {
            return Err(self.setting("must be a permutation of the dims", permutation));
        }
        one(x.dtype, permutation.iter().map(|&p| x.shape[p].clone()).collect())
    }

    pub(super) fn pad(&mut self) -> Types {
        self.count(4)?;
        self.same_dtype(0, 3)?;
        if self.ty(3).rank() != 0 {
            return Err(self.shapes("the padding value must be a scalar"));
        }
        let x = self.ty(0).clone();
        if self.vector(1)? != x.rank() || self.vector(2)? != x.rank() {
            return Err(self.shapes("amounts must have an entry a dim"));
        }
        let amount = |i: usize, j: usize| self.operands[i].known.and_then(|k| k.get(j)).cloned();
        let amounts: Vec<_> = (0..x.rank()).map(|j| amount(1, j).zip(amount(2, j))).collect();
        let shape = x
            .shape
            .iter()
            .zip(amounts)
            .map(|(dim, amounts)| match amounts {
                Some((low, high)) => {
                    let change = low + high;
                    let crops = change.constant().is_some_and(|n| n < 0);
                    let dim = dim.clone() + change;
                    // Cropping more than there is leaves nothing.
                    if crops { dim.maximum(&Dim::Fixed(0)) } else { dim }
                }
                None => (self.fresh)(),
            })
            .collect();
        one(x.dtype, shape)
    }

    pub(super) fn concat(&mut self, axis: usize) -> Types {
        let Some(first) = self.operands.first() else {
            return Err(IrError::OperandCount { op: self.op, expected: 1, found: 0 });
        };
        let mut shape = first.ty.shape.clone();
        self.axis(axis, shape.len())?;
        let mut lengths = vec![&first.ty.shape[axis]];
        for (i, operand) in self.operands.iter().enumerate().skip(1) {
            self.same_dtype(0, i)?;
            if operand.ty.rank() != shape.len() {
                return Err(self.shapes("operands must have the same rank"));
            }
            for (d, dim) in operand.ty.shape.iter().enumerate() {
                if d == axis {
                    lengths.push(dim);
                } else {
                    self.equal_dims(&shape[d], dim, "dims off the axis must be equal")?;
                    if dim.fixed().is_some() {
                        shape[d] = dim.clone();
                    }
                }
            }
        }
        shape[axis] = Dim::sum(lengths);
        one(self.ty(0).dtype, shape)
    }

    pub(super) fn slice(&mut self, axes: &[usize]) -> Types {
        self.count(4)?;
        let x = self.ty(0).clone();
        for i in 1..4 {
            if self.vector(i)? != axes.len() {
                return Err(self.shapes("bounds and steps must have an entry an axis"));
            }
        }
        let mut shape = x.shape.clone();
        for (j, &axis) in axes.iter().enumerate() {
            self.axis(axis, x.rank())?;
            if axes[..j].contains(&axis) {
                return Err(self.setting("an axis must not be sliced twice", axes));
            }
            let bound = |i: usize| self.operands[i].known.and_then(|k| k.get(j)).cloned();
            let (start, end, step) = (bound(1), bound(2), bound(3).and_then(|d| d.constant()));
            if step == Some(0) {
                return Err(self.setting("a step must not be 0", 0));
            }
            let dim = &x.shape[axis];
            let constants = || {
                Some((dim.fixed()?, start.as_ref()?.constant()?, end.as_ref()?.constant()?, step?))
            };
            let sliced = constants()
                .and_then(|(n, s, e, step)| slice_bounds(n, s, e, step))
                .map(|(_, n)| Dim::Fixed(n));
            shape[axis] = match sliced {
                Some(n) => n,
                None => symbolic_slice(dim, start.as_ref(), end.as_ref(), step)
                    .unwrap_or_else(|| (self.fresh)()),
            };
        }
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }
}

/// The number of elements where every dim is a number, or one is 0.
fn fixed_elements(ty: &TensorType) -> Option<u128> {
    if ty.shape.contains(&Dim::Fixed(0)) {
        return Some(0);
    }
    let sizes = ty.fixed_shape()?;
    Some(sizes.iter().fold(1, |n: u128, &size| n.saturating_mul(size as u128)))
}

/// The length of a slice with step 1 of a named dim, where the bounds lie within it for certain.
fn symbolic_slice(
    dim: &Dim,
    start: Option<&Dim>,
    end: Option<&Dim>,
    step: Option<i64>,
) -> Option<Dim> {
    let (start, end) = (start?, end?);
    if step? == -1 && start.constant()? == -1 && end.constant()? <= -i64::from(i32::MAX) {
        return Some(dim.clone());
    }
    if step? != 1 {
        return None;
    }
    // Far beyond any size means "to the end", as exporters write it.
    let unbounded = end.constant().is_some_and(|e| e >= i64::from(i32::MAX));
    let end = if unbounded {
        dim.clone()
    } else if end.constant().is_some_and(|e| e < 0) {
        dim.clone() + end.clone()
    } else if end == dim {
        end.clone()
    } else {
        return (start.constant() == Some(0)).then(|| dim.minimum(end));
    };
    match start.constant() {
        Some(s) if s >= 0 => {
            let length = end - start.clone();
            // A named dim smaller than the start would leave nothing; that is checked when it runs.
            Some(if s == 0 { length } else { length.maximum(&Dim::Fixed(0)) })
        }
        Some(_) => {
            Some(end - dim.clone() - start.clone()).filter(|_| unbounded).map(|n| dim.minimum(&n))
        }
        None => None,
    }
}
