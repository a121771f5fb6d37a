//! Primitives that only move elements: the same for every element type.

use anychip_tensor::Tensor;

use super::strided::{broadcast_to, by_width, copy_strided, offsets, strides};
use crate::IrError;
use crate::known::slice_bounds;

pub(super) fn iota(shape: Vec<usize>) -> Result<Tensor, IrError> {
    let data: Vec<i64> = (0..shape[0] as i64).collect();
    Ok(Tensor::from_vec(shape, data)?)
}

pub(super) fn broadcast(x: &Tensor, shape: &[usize]) -> Result<Tensor, IrError> {
    broadcast_to(x, shape)
}

pub(super) fn transpose(
    permutation: &[usize],
    x: &Tensor,
    shape: &[usize],
) -> Result<Tensor, IrError> {
    let own = strides(x.shape());
    let permuted: Vec<isize> = permutation.iter().map(|&p| own[p] as isize).collect();
    copy_strided(x, shape, &permuted, 0)
}

/// `(x, starts, ends, steps)`: each result dim walks its axis from a first element by a step.
pub(super) fn slice(axes: &[usize], x: &[Tensor], shape: &[usize]) -> Result<Tensor, IrError> {
    let (starts, ends, steps) = (x[1].to_i64(), x[2].to_i64(), x[3].to_i64());
    let x = &x[0];
    let mut walk: Vec<isize> = strides(x.shape()).iter().map(|&s| s as isize).collect();
    let mut first = 0isize;
    for (i, &axis) in axes.iter().enumerate() {
        let bounds = slice_bounds(x.shape()[axis], starts[i], ends[i], steps[i]);
        let (start, count) = bounds.ok_or_else(|| IrError::Setting {
            op: "slice",
            reason: "a step must not be 0",
            found: steps[i].to_string(),
        })?;
        if count > 0 {
            first += start as isize * walk[axis];
        }
        // A step over the end is never taken, so saturating it changes nothing.
        walk[axis] = if count > 1 { walk[axis] * steps[i] as isize } else { 0 };
    }
    copy_strided(x, shape, &walk, first)
}

/// `(x, low, high, value)`: crops what is negative, then places the rest in a result full of `value`.
pub(super) fn pad(x: &[Tensor], shape: Vec<usize>) -> Result<Tensor, IrError> {
    let (low, high, value) = (x[1].to_i64(), x[2].to_i64(), &x[3]);
    let x = &x[0];
    let own = strides(x.shape());
    let result_strides = strides(&shape);
    let (mut kept, mut from, mut to) = (Vec::new(), 0usize, 0usize);
    for (axis, &size) in x.shape().iter().enumerate() {
        let cropped_low = usize::try_from(low[axis].saturating_neg()).unwrap_or(0);
        let cropped_high = usize::try_from(high[axis].saturating_neg()).unwrap_or(0);
        let count = size.saturating_sub(cropped_low).saturating_sub(cropped_high);
        let before = usize::try_from(low[axis]).unwrap_or(0);
        // Cropping past an end also eats padding at the other one.
        let room = shape[axis].saturating_sub(before);
        kept.push(count.min(room));
        if count > 0 && room > 0 {
            from += cropped_low * own[axis];
            to += before * result_strides[axis];
        }
    }
    let read: Vec<isize> = own.iter().map(|&s| s as isize).collect();
    let write: Vec<isize> = result_strides.iter().map(|&s| s as isize).collect();
    let source = copy_strided(x, &kept, &read, from as isize)?;
    // The padding value rides in front of the elements, so that one read of words covers both.
    let n = source.len();
    let with_value = concat(0, &[value.reshaped([1])?, source.reshaped([n])?], vec![n + 1])?;
    let count: usize = if shape.contains(&0) { 0 } else { shape.iter().product() };
    Ok(by_width!(&with_value, shape, |data| {
        let mut words = vec![data[0]; count];
        let mut elements = data[1..].iter();
        offsets(&kept, &write, to as isize, |offset| {
            if let Some(&element) = elements.next() {
                words[offset] = element;
            }
        });
        words
    })?)
}

pub(super) fn concat(axis: usize, x: &[Tensor], shape: Vec<usize>) -> Result<Tensor, IrError> {
    let dtype = x[0].dtype();
    let outer: usize = shape[..axis].iter().product();
    let width = dtype.storage_bits().div_ceil(8);
    // Bytes hold the elements of every type; packed ones are unpacked to a byte each.
    let parts: Vec<_> = x
        .iter()
        .map(|t| if dtype.storage_bits() < 8 { t.codes().into() } else { t.bytes().clone() })
        .collect();
    let runs: Vec<usize> =
        x.iter().map(|t| t.shape()[axis..].iter().product::<usize>() * width).collect();
    let mut bytes = Vec::with_capacity(outer * runs.iter().sum::<usize>());
    for i in 0..outer {
        for (part, &run) in parts.iter().zip(&runs) {
            bytes.extend_from_slice(&part[i * run..(i + 1) * run]);
        }
    }
    Ok(if dtype.storage_bits() < 8 {
        Tensor::from_codes(dtype, shape, &bytes)?
    } else {
        Tensor::from_bytes(dtype, shape, bytes.into())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Prim, evaluate_prim};
    use anychip_tensor::DType;

    fn range(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_vec(shape, (0..n as i32).collect()).unwrap()
    }

    fn run(prim: &Prim, x: &[Tensor]) -> (Vec<usize>, Vec<i64>) {
        let result = evaluate_prim(prim, &[], x).unwrap().remove(0);
        (result.shape().to_vec(), result.to_i64())
    }

    #[test]
    fn transposes() {
        let permutation = vec![1, 2, 0];
        // numpy: arrange(6).reshape(1, 2, 3).transpose(1, 2, 0)
        let (shape, data) = run(&Prim::Transpose { permutation }, &[range(&[1, 2, 3])]);
        assert_eq!((shape, data), (vec![2, 3, 1], vec![0, 1, 2, 3, 4, 5]));
        let (_, data) = run(&Prim::Transpose { permutation: vec![1, 0] }, &[range(&[2, 3])]);
        assert_eq!(data, [0, 3, 1, 4, 2, 5]);
    }

    #[test]
    fn slices_backwards_and_clamped() {
        let i = Tensor::from_i64s;
        let x = [range(&[2, 5]), i(&[-1, 4]), i(&[i64::MIN, 0]), i(&[-1, -2])];
        // numpy: arrange(10).reshape(2, 5)[::-1, 4:0:-2]
        assert_eq!(run(&Prim::Slice { axes: vec![0, 1] }, &x), (vec![2, 2], vec![9, 7, 4, 2]));
        let x = [range(&[5]), i(&[3]), i(&[1]), i(&[1])];
        assert_eq!(run(&Prim::Slice { axes: vec![0] }, &x), (vec![0], vec![]));
        let x = [range(&[5]), i(&[1]), i(&[i64::MAX]), i(&[i64::MAX])];
        assert_eq!(run(&Prim::Slice { axes: vec![0] }, &x), (vec![1], vec![1]));
    }

    #[test]
    fn rows_of_unaligned_bytes_are_sliced() {
        let i = Tensor::from_i64s;
        let mut bytes = vec![7u8];
        bytes.extend((0..12i32).flat_map(i32::to_ne_bytes));
        let bytes = Tensor::from_vec([bytes.len()], bytes).unwrap().bytes().slice(1..);
        let x = Tensor::from_bytes(DType::I32, [4, 3], bytes).unwrap();
        let rows = [x.clone(), i(&[1]), i(&[3]), i(&[1])];
        let result = evaluate_prim(&Prim::Slice { axes: vec![0] }, &[], &rows).unwrap().remove(0);
        assert_eq!((result.shape(), result.to_i64()), (&[2, 3][..], vec![3, 4, 5, 6, 7, 8]));
        assert_eq!(result.bytes().as_ptr(), x.bytes()[12..].as_ptr(), "no copy");
        let columns = [x, i(&[1]), i(&[3]), i(&[1])];
        let found = run(&Prim::Slice { axes: vec![1] }, &columns);
        assert_eq!(found, (vec![4, 2], vec![1, 2, 4, 5, 7, 8, 10, 11]));
    }

    #[test]
    fn pads_and_crops() {
        let i = Tensor::from_i64s;
        let x = [range(&[2, 2]), i(&[0, 1]), i(&[1, -1]), Tensor::scalar(9i32)];
        assert_eq!(run(&Prim::Pad, &x), (vec![3, 2], vec![9, 0, 9, 2, 9, 9]));
        // Cropping more than there is: only padding is left, and less of it.
        let x = [range(&[2]), i(&[3]), i(&[-4]), Tensor::scalar(9i32)];
        assert_eq!(run(&Prim::Pad, &x), (vec![1], vec![9]));
        let x = [range(&[2]), i(&[-4]), i(&[3]), Tensor::scalar(9i32)];
        assert_eq!(run(&Prim::Pad, &x), (vec![1], vec![9]));
    }

    #[test]
    fn packed_types_move_too() {
        let a = Tensor::from_integers(DType::I4, [3], &[1, -2, 3]).unwrap();
        let (_, data) = run(&Prim::Concat { axis: 0 }, &[a.clone(), a]);
        assert_eq!(data, [1, -2, 3, 1, -2, 3]);
    }

    #[test]
    fn broadcasts() {
        let shape = Tensor::from_i64s(&[2, 2, 3]);
        let x = Tensor::from_vec([2, 1], vec![1i32, 2]).unwrap();
        let (_, data) = run(&Prim::Broadcast, &[x, shape]);
        assert_eq!(data, [1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2]);
    }
}
