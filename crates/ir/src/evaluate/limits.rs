//! What an evaluation may use, so that a hostile graph can neither hang nor fill the memory.

use anychip_tensor::{DType, Tensor};

use crate::{IrError, Prim, TensorType};

/// What calling a primitive costs in operations, whatever it does: about as long as so many elements take.
pub(super) const OVERHEAD: u64 = 64;

/// What an evaluation may use. The defaults suit a whole model; constant folding sets smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that one result may take.
    pub bytes: usize,
    /// The most iterations that one loop may run.
    pub iterations: u64,
    /// How many operations are left. Every evaluation takes what it does from here, so that several can share: one
    /// for each element read or made and each term of a contraction's or a window's sum, and 64 besides for
    /// each primitive and each iteration of a loop.
    pub operations: u64,
}

impl Default for Limits {
    /// 16 GiB a result; loops as long as they ask for, which ONNX allows to be for ever.
    fn default() -> Limits {
        Limits { bytes: 1 << 34, iterations: u64::MAX, operations: u64::MAX }
    }
}

impl Limits {
    /// Takes operations from those left; an error where there are fewer.
    pub(super) fn spend(&mut self, operations: u64) -> Result<(), IrError> {
        match self.operations.checked_sub(operations) {
            Some(left) => {
                self.operations = left;
                Ok(())
            }
            None => Err(IrError::Operations { left: self.operations }),
        }
    }

    /// Whether a result of this shape may be made.
    pub(super) fn check_size(&self, dtype: DType, shape: &[usize]) -> Result<(), IrError> {
        let elements = if shape.contains(&0) {
            Some(0)
        } else {
            shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
        };
        match elements.and_then(|n| dtype.bytes_for(n)) {
            Some(bytes) if bytes <= self.bytes => Ok(()),
            _ => Err(IrError::TooLarge { dtype, shape: shape.to_vec(), limit: self.bytes }),
        }
    }
}

/// The operations that a primitive takes, its regions apart.
pub(super) fn operations(prim: &Prim, x: &[Tensor], results: &[TensorType]) -> u64 {
    let elements = |ty: &TensorType| product(ty.shape.iter().map(|dim| dim.fixed().unwrap_or(0)));
    let made = results.iter().map(elements).fold(0, u64::saturating_add);
    let terms = match prim {
        Prim::DotGeneral(dims, _) => {
            product(dims.lhs_contract.iter().map(|&axis| x[0].shape()[axis]))
        }
        Prim::Convolution(..) => product(x[1].shape().iter().skip(1).copied()),
        Prim::ReduceWindow { window, .. } => {
            // Places of the window over padding are passed over.
            let windowed = &x[0].shape()[x[0].rank() - window.size.len()..];
            product(window.size.iter().zip(windowed).map(|(&size, &dim)| size.min(dim)))
        }
        // A tensor that only gets another type or shape is not read.
        Prim::Constant(_) | Prim::ShapeOf | Prim::Reshape | Prim::BitCast { .. } => {
            return OVERHEAD;
        }
        Prim::Iota
        | Prim::Random { .. }
        | Prim::Unary(_)
        | Prim::Binary(_)
        | Prim::Compare(_)
        | Prim::Select
        | Prim::Cast { .. }
        | Prim::Reduce { .. }
        | Prim::ArgReduce { .. }
        | Prim::Cumulative { .. }
        | Prim::TopK { .. }
        | Prim::Broadcast
        | Prim::Transpose { .. }
        | Prim::Slice { .. }
        | Prim::Pad
        | Prim::Concat { .. }
        | Prim::Take { .. }
        | Prim::TakeAlong { .. }
        | Prim::GatherNd { .. }
        | Prim::ScatterAlong { .. }
        | Prim::ScatterNd { .. }
        | Prim::NonZero
        | Prim::Quantize { .. }
        | Prim::Dequantize { .. }
        | Prim::Requantize { .. }
        | Prim::If
        | Prim::Loop { .. } => 1,
    };
    let read = x.iter().map(|tensor| tensor.len() as u64).fold(0, u64::saturating_add);
    made.saturating_mul(terms).saturating_add(read).saturating_add(OVERHEAD)
}

fn product(sizes: impl Iterator<Item = usize>) -> u64 {
    sizes.fold(1, |n, size| n.saturating_mul(size as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DotDims, ReduceKind, Window};
    use anychip_tensor::Dim;

    #[test]
    fn a_product_counts_its_terms() {
        let dims = DotDims { lhs_contract: vec![1], rhs_contract: vec![0], ..DotDims::default() };
        let (a, b) = (Tensor::zeros(DType::F32, [2, 5]), Tensor::zeros(DType::F32, [5, 3]));
        let result = TensorType::new(DType::F32, [Dim::Fixed(2), Dim::Fixed(3)]);
        let operands = [a.unwrap(), b.unwrap()];
        assert_eq!(
            operations(&Prim::DotGeneral(dims, DType::F32), &operands, &[result]),
            30 + 25 + OVERHEAD
        );
    }

    #[test]
    fn a_window_counts_what_it_covers() {
        let window = Window {
            size: vec![1 << 40],
            strides: vec![1],
            dilation: vec![1],
            padding: vec![(1 << 40, 0)],
        };
        let prim = Prim::ReduceWindow { kind: ReduceKind::Sum, window };
        let x = Tensor::from_vec([2], vec![1f32, 2.0]).unwrap();
        let result = TensorType::new(DType::F32, [Dim::Fixed(3)]);
        assert_eq!(operations(&prim, &[x], &[result]), 3 * 2 + 2 + OVERHEAD);
    }

    #[test]
    fn what_is_spent_is_gone() {
        let mut limits = Limits { operations: 10, ..Limits::default() };
        assert_eq!(limits.spend(7), Ok(()));
        assert_eq!(limits.spend(4), Err(IrError::Operations { left: 3 }));
        assert_eq!(limits.spend(3), Ok(()));
    }
}
