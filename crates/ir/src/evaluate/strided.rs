//! Walking elements in row-major order through strides, and copying them whatever their type.

use anychip_tensor::{DType, Tensor};

use crate::IrError;

/// Row-major strides of a shape, in elements.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(shape[i].max(1));
    }
    strides
}

/// Strides with which `from` is read as if it were broadcast to `to`.
pub(super) fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<isize> {
    let own = strides(from);
    let missing = to.len() - from.len();
    (0..to.len())
        .map(|i| if i < missing || from[i - missing] == 1 { 0 } else { own[i - missing] as isize })
        .collect()
}

/// Calls `visit` with the offset of each element of `shape` in row-major order, where a step along dim `i`
/// moves by `strides[i]`.
pub(super) fn offsets(
    shape: &[usize],
    strides: &[isize],
    start: isize,
    mut visit: impl FnMut(usize),
) {
    if shape.contains(&0) {
        return;
    }
    let Some((&inner, outer)) = shape.split_last() else {
        visit(start as usize);
        return;
    };
    let inner_stride = strides[outer.len()];
    let mut position = vec![0usize; outer.len()];
    let mut base = start;
    loop {
        let mut offset = base;
        for _ in 0..inner {
            visit(offset as usize);
            offset += inner_stride;
        }
        let mut dim = outer.len();
        loop {
            if dim == 0 {
                return;
            }
            dim -= 1;
            position[dim] += 1;
            base += strides[dim];
            if position[dim] < outer[dim] {
                break;
            }
            base -= strides[dim] * outer[dim] as isize;
            position[dim] = 0;
        }
    }
}

/// Runs `$make` with the elements of a tensor as words of their width (packed types one a byte) and makes a
/// tensor of the same element type from the words it gives.
macro_rules! by_width {
    ($tensor:expr, $shape:expr, |$data:ident| $make:expr) => {{
        let tensor: &anychip_tensor::Tensor = $tensor;
        let dtype = tensor.dtype();
        match dtype.storage_bits() {
            16 => by_width!(@word u16, U16, tensor, dtype, $shape, $data, $make),
            32 => by_width!(@word u32, U32, tensor, dtype, $shape, $data, $make),
            64 => by_width!(@word u64, U64, tensor, dtype, $shape, $data, $make),
            _ => {
                let $data = &tensor.codes()[..];
                let words: Vec<u8> = $make;
                anychip_tensor::Tensor::from_codes(dtype, $shape, &words)
            }
        }
    }};
    (@word $t:ty, $as:ident, $tensor:expr, $dtype:expr, $shape:expr, $data:ident, $make:expr) => {{
        let same = $tensor.bit_cast(anychip_tensor::DType::$as)?;
        let elements = same.elements::<$t>().unwrap_or_default();
        let $data = &elements[..];
        let words: Vec<$t> = $make;
        anychip_tensor::Tensor::from_vec($shape, words).and_then(|t| t.bit_cast($dtype))
    }};
}
pub(super) use by_width;

/// A part that is at least this fraction of a tensor shares its memory.
const KEPT_ALIVE: usize = 16;

/// The tensor of `shape` whose elements are read from `x` with the given strides from `start` on.
pub(super) fn copy_strided(
    x: &Tensor,
    shape: &[usize],
    strides: &[isize],
    start: isize,
) -> Result<Tensor, IrError> {
    let count: usize = if shape.contains(&0) { 0 } else { shape.iter().product() };
    // The trailing dims that lie in a line are copied as bytes, aligned or not, and not at all where they are the result.
    let (mut outer, mut run) = (shape.len(), 1usize);
    while outer > 0 && (shape[outer - 1] == 1 || strides[outer - 1] == run as isize) {
        outer -= 1;
        run *= shape[outer];
    }
    if count > 0 && x.dtype().storage_bits() >= 8 && (outer == 0 || run > 1) {
        let (data, width) = (x.bytes(), x.dtype().storage_bits() / 8);
        let bytes_at = |first: usize| first * width..(first + run) * width;
        // A small part would keep all of the whole alive.
        if outer == 0 && count * KEPT_ALIVE >= x.len() {
            return Ok(Tensor::from_bytes(x.dtype(), shape, data.slice(bytes_at(start as usize)))?);
        }
        let mut bytes = Vec::with_capacity(count * width);
        offsets(&shape[..outer], &strides[..outer], start, |first| {
            bytes.extend_from_slice(&data[bytes_at(first)]);
        });
        return Ok(Tensor::from_bytes(x.dtype(), shape, bytes.into())?);
    }
    Ok(by_width!(x, shape, |data| {
        let mut words = Vec::with_capacity(count);
        offsets(shape, strides, start, |offset| words.push(data[offset]));
        words
    })?)
}

/// The tensor of `shape` made of blocks of `block` neighboring elements of `x`, each from the given element on.
pub(super) fn copy_blocks(
    x: &Tensor,
    shape: Vec<usize>,
    block: usize,
    starts: &[usize],
) -> Result<Tensor, IrError> {
    Ok(by_width!(x, shape, |data| {
        let mut words = Vec::with_capacity(starts.len() * block);
        // Blocks of nothing start nowhere.
        for &start in starts.iter().filter(|_| block > 0) {
            words.extend_from_slice(&data[start..start + block]);
        }
        words
    })?)
}

/// `x` broadcast to `shape`.
pub(super) fn broadcast_to(x: &Tensor, shape: &[usize]) -> Result<Tensor, IrError> {
    if x.shape() == shape {
        return Ok(x.clone());
    }
    copy_strided(x, shape, &broadcast_strides(x.shape(), shape), 0)
}

/// `x` as elementwise operators read it: whole, or one element that serves every place.
pub(super) fn operand(x: &Tensor, shape: &[usize]) -> Result<Tensor, IrError> {
    if x.len() == 1 { Ok(x.clone()) } else { broadcast_to(x, shape) }
}

/// A tensor of `bool` from flags.
pub(super) fn flags(shape: Vec<usize>, flags: Vec<u8>) -> Result<Tensor, IrError> {
    Ok(Tensor::from_bytes(DType::Bool, shape, flags.into())?)
}
