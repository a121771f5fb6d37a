//! Reading and writing at indices.

use anychip_tensor::Tensor;

use super::strided::{copy_blocks, strides};
use super::values::{Values, float_max, float_min};
use crate::{Combine, IrError, TensorType};

/// An index as a place in a dim; negative ones count from the end.
fn place(op: &'static str, index: i64, size: usize) -> Result<usize, IrError> {
    let wrapped = if index < 0 { index.checked_add_unsigned(size as u64) } else { Some(index) };
    wrapped
        .and_then(|i| usize::try_from(i).ok())
        .filter(|&i| i < size)
        .ok_or(IrError::IndexOutOfRange { op, index, size })
}

pub(super) fn take(
    axis: usize,
    x: &Tensor,
    indices: &Tensor,
    shape: Vec<usize>,
) -> Result<Tensor, IrError> {
    let size = x.shape()[axis];
    let outer: usize = x.shape()[..axis].iter().product();
    let block: usize = x.shape()[axis + 1..].iter().product();
    let places: Vec<usize> =
        indices.to_i64().into_iter().map(|i| place("take", i, size)).collect::<Result<_, _>>()?;
    let mut starts = Vec::with_capacity(outer * places.len());
    for i in 0..outer {
        starts.extend(places.iter().map(|p| (i * size + p) * block));
    }
    copy_blocks(x, shape, block, &starts)
}

/// For each index of an along-axis operand, the element of `data` it stands at: its own place with `axis`
/// replaced by the index.
fn along(
    op: &'static str,
    axis: usize,
    data: &[usize],
    indices: &Tensor,
) -> Result<Vec<usize>, IrError> {
    let own = strides(data);
    let shape = indices.shape();
    let fits = shape.iter().zip(data).enumerate().all(|(d, (a, b))| d == axis || a <= b);
    if !fits && !indices.is_empty() {
        return Err(IrError::Shapes {
            op,
            reason: "indices must lie within the data off the axis",
            types: vec![TensorType::of(indices)],
        });
    }
    let index_strides = strides(shape);
    indices
        .to_i64()
        .into_iter()
        .enumerate()
        .map(|(i, index)| {
            let mut element = place(op, index, data[axis])? * own[axis];
            for d in (0..shape.len()).filter(|&d| d != axis) {
                element += i / index_strides[d] % shape[d] * own[d];
            }
            Ok(element)
        })
        .collect()
}

pub(super) fn take_along(
    axis: usize,
    x: &Tensor,
    indices: &Tensor,
    shape: Vec<usize>,
) -> Result<Tensor, IrError> {
    let elements = along("take-along", axis, x.shape(), indices)?;
    copy_blocks(x, shape, 1, &elements)
}

/// For each row of `indices`, the first element of the slice of `data` it addresses, counted from the
/// batch it belongs to; the number of elements in such a slice.
fn rows(
    op: &'static str,
    batch: usize,
    data: &[usize],
    indices: &Tensor,
) -> Result<(Vec<usize>, usize), IrError> {
    let shape = indices.shape();
    let depth = shape[shape.len() - 1];
    let own = strides(data);
    let block: usize = data[batch + depth..].iter().product();
    let batch_size: usize = data[batch..].iter().product();
    let count: usize = shape[..shape.len() - 1].iter().product();
    let rows_a_batch: usize = shape[batch..shape.len() - 1].iter().product();
    let values = indices.to_i64();
    let starts = (0..count)
        .map(|row| {
            let mut start = row / rows_a_batch.max(1) * batch_size;
            if batch == 0 {
                start = 0;
            }
            for (d, &index) in values[row * depth..(row + 1) * depth].iter().enumerate() {
                start += place(op, index, data[batch + d])? * own[batch + d];
            }
            Ok(start)
        })
        .collect::<Result<_, IrError>>()?;
    Ok((starts, block))
}

pub(super) fn gather_nd(
    batch: usize,
    x: &Tensor,
    indices: &Tensor,
    shape: Vec<usize>,
) -> Result<Tensor, IrError> {
    let (starts, block) = rows("gather-nd", batch, x.shape(), indices)?;
    copy_blocks(x, shape, block, &starts)
}

pub(super) fn scatter_along(
    axis: usize,
    combine: Combine,
    x: &Tensor,
    indices: &Tensor,
    updates: &Tensor,
) -> Result<Tensor, IrError> {
    let op = "scatter-along";
    if indices.shape() != updates.shape() {
        return Err(IrError::Shapes {
            op,
            reason: "indices and updates must have the same shape",
            types: vec![TensorType::of(indices), TensorType::of(updates)],
        });
    }
    let elements = along(op, axis, x.shape(), indices)?;
    scatter(combine, x, updates, &elements, 1)
}

pub(super) fn scatter_nd(
    combine: Combine,
    x: &Tensor,
    indices: &Tensor,
    updates: &Tensor,
) -> Result<Tensor, IrError> {
    let op = "scatter-nd";
    let depth = indices.shape()[indices.rank() - 1];
    let expected: Vec<usize> =
        [&indices.shape()[..indices.rank() - 1], &x.shape()[depth..]].concat();
    if updates.shape() != expected {
        return Err(IrError::Shapes {
            op,
            reason: "updates must be the indices' rows by the dims not addressed",
            types: [x, indices, updates].map(TensorType::of).to_vec(),
        });
    }
    let (starts, block) = rows(op, 0, x.shape(), indices)?;
    scatter(combine, x, updates, &starts, block)
}

/// Writes blocks of `updates`, in order, into `x` at the given elements.
fn scatter(
    combine: Combine,
    x: &Tensor,
    updates: &Tensor,
    starts: &[usize],
    block: usize,
) -> Result<Tensor, IrError> {
    let targets = starts.iter().flat_map(|&start| start..start + block);
    if combine == Combine::Set {
        // Which element comes last at each place: from the data, or from the updates behind them.
        let offset = x.len();
        let mut source: Vec<usize> = (0..offset).collect();
        for (i, target) in targets.enumerate() {
            source[target] = offset + i;
        }
        let both = super::movement::concat(
            0,
            &[x.reshaped([x.len()])?, updates.reshaped([updates.len()])?],
            vec![x.len() + updates.len()],
        )?;
        return copy_blocks(&both, x.shape().to_vec(), 1, &source);
    }
    // Floats gather in f64 and are rounded once at the end.
    let result = match (Values::of(x), Values::of(updates)) {
        (Values::Float(mut data), Values::Float(updates)) => {
            for (target, update) in targets.zip(updates) {
                let own = &mut data[target];
                *own = match combine {
                    Combine::Set => update,
                    Combine::Add => *own + update,
                    Combine::Mul => *own * update,
                    Combine::Max => float_max(*own, update),
                    Combine::Min => float_min(*own, update),
                };
            }
            Values::Float(data)
        }
        (Values::Integer(mut data), Values::Integer(updates)) => {
            for (target, update) in targets.zip(updates) {
                let own = &mut data[target];
                *own = match combine {
                    Combine::Set => update,
                    Combine::Add => own.wrapping_add(update),
                    Combine::Mul => own.wrapping_mul(update),
                    Combine::Max => update.max(*own),
                    Combine::Min => update.min(*own),
                };
            }
            Values::Integer(data)
        }
        // The type rule has both of one type.
        (Values::Float(_), Values::Integer(_)) | (Values::Integer(_), Values::Float(_)) => {
            return Ok(x.clone());
        }
    };
    result.store(x.dtype(), x.shape().to_vec())
}

pub(super) fn non_zero(x: &Tensor) -> Result<Tensor, IrError> {
    let nonzero: Vec<usize> = match Values::of(x) {
        Values::Float(v) => (0..v.len()).filter(|&i| v[i] != 0.0).collect(),
        Values::Integer(v) => (0..v.len()).filter(|&i| v[i] != 0).collect(),
    };
    let own = strides(x.shape());
    let mut data = Vec::with_capacity(nonzero.len() * x.rank());
    for (stride, size) in own.iter().zip(x.shape()) {
        data.extend(nonzero.iter().map(|i| (i / stride % size) as i64));
    }
    Ok(Tensor::from_vec([x.rank(), nonzero.len()], data)?)
}
