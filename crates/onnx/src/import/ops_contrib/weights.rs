//! Weights quantized in blocks to a few bits.

use anychip_ir::{DotDims, Prim, ValueId};
use anychip_tensor::{DType, Dim, Tensor};

use crate::import::call::{Call, ImportError};

type Results = Result<Vec<ValueId>, ImportError>;

/// The unsigned type of that many bits.
fn unsigned(call: &Call<'_>, bits: i64) -> Result<DType, ImportError> {
    match bits {
        2 => Ok(DType::U2),
        4 => Ok(DType::U4),
        8 => Ok(DType::U8),
        _ => Err(call.bad_attribute("bits", "is 2, 4 or 8")),
    }
}

/// A constant of bytes read as elements of `to`, the first in the lowest bits; each row of the last dim has
/// `bytes · 8 / bits` of them, of which the first `keep` stay.
fn unpacked(
    packed: &Tensor,
    to: DType,
    shape: &[usize],
    keep: usize,
) -> Result<Tensor, ImportError> {
    let invalid = || ImportError::Invalid("packed weights do not have the size they should".into());
    let bits = to.storage_bits();
    let rows: usize =
        shape.iter().product::<usize>().checked_div(keep.max(1)).ok_or_else(invalid)?;
    let bytes = packed.bytes();
    if packed.dtype() != DType::U8 || rows == 0 || !bytes.len().is_multiple_of(rows) {
        return Err(invalid());
    }
    let row = bytes.len() / rows;
    if row * 8 < keep * bits {
        return Err(invalid());
    }
    if row * 8 == keep * bits {
        return Ok(Tensor::from_bytes(to, shape.to_vec(), bytes.clone())?);
    }
    let per_byte = 8 / bits;
    let mask = ((1u16 << bits) - 1) as u8;
    let codes: Vec<u8> = (0..rows)
        .flat_map(|r| (0..keep).map(move |i| (r, i)))
        .map(|(r, i)| (bytes[r * row + i / per_byte] >> (bits * (i % per_byte))) & mask)
        .collect();
    Ok(Tensor::from_codes(to, shape.to_vec(), &codes)?)
}

/// `(x […, k], weights u8 [n, blocks, bytes], scales [n, blocks]) → […, n]`
pub(super) fn matmul_bits(call: &mut Call<'_>) -> Results {
    let (x, scales) = (call.input(0)?, call.input(2)?);
    if call.optional(4).is_some() {
        return Err(call.unsupported("weights whose groups are reordered (g_idx)"));
    }
    if call.int("weight_prepacked", 0) != 0 {
        return Err(call.unsupported("weights in the layout of one accelerator"));
    }
    let to = unsigned(call, call.int("bits", 4))?;
    let size = |name: &str| {
        usize::try_from(call.need_int(name)?)
            .ok()
            .filter(|v| (1..=1 << 28).contains(v))
            .ok_or_else(|| call.bad_attribute(name, "is no size of a matrix"))
    };
    let (rows, inner, block) = (size("N")?, size("K")?, size("block_size")?);
    let blocks = inner.div_ceil(block);
    let packed = call.need_constant(1, "what the packed bytes stand for")?;
    let weights = unpacked(&packed, to, &[rows, blocks, block], block)?;
    let weights = call.b.constant(weights);
    let column = [Dim::Fixed(rows), Dim::Fixed(blocks), Dim::Fixed(1)];
    let scales = call.b.reshape(scales, &column)?;
    let dtype = call.b.dtype(x);
    let middle = 1i128 << (to.storage_bits() - 1);
    let real = match call.optional(3) {
        // A zero point in floats is subtracted after the weights are widened.
        Some(zero) if call.b.dtype(zero).is_float() => {
            let zero = call.b.reshape(zero, &column)?;
            let wide = call.b.cast(weights, dtype)?;
            let shifted = call.b.sub(wide, zero)?;
            call.b.mul(shifted, scales)?
        }
        zero => {
            let zero = match zero {
                Some(_) => {
                    let packed = call.need_constant(3, "what the packed bytes stand for")?;
                    unpacked(&packed, to, &[rows, blocks], blocks)?.reshaped([rows, blocks, 1])?
                }
                None => Tensor::from_integers(to, [], &[middle])?,
            };
            let zero = call.b.constant(zero);
            call.b.prim(Prim::Dequantize { to: dtype }, &[weights, scales, zero])?
        }
    };
    let padded = Dim::Fixed(blocks * block);
    let mut matrix = call.b.reshape(real, &[Dim::Fixed(rows), padded])?;
    if blocks * block != inner {
        matrix = call.b.slice(matrix, 1, &Dim::Fixed(0), &Dim::Fixed(inner))?;
    }
    let Some(last) = call.b.rank(x).checked_sub(1) else { return Err(call.invalid("needs a dim")) };
    let dims = DotDims { lhs_contract: vec![last], rhs_contract: vec![1], ..DotDims::default() };
    let y = call.b.prim(Prim::DotGeneral(dims, dtype), &[x, matrix])?;
    match call.optional(5) {
        Some(bias) => Ok(vec![call.b.add(y, bias)?]),
        None => Ok(vec![y]),
    }
}

/// Rows of a table that is quantized in blocks.
pub(super) fn gather_blocks(call: &mut Call<'_>) -> Results {
    let (mut table, places, scales) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let rank = call.b.rank(table);
    let along = call.axis(call.int("quantize_axis", 1), rank)?;
    let axis = call.axis(call.int("gather_axis", 0), rank)?;
    let block = call.int("block_size", 128);
    if block < 1 || along == axis {
        return Err(call.unsupported("blocks along the dim that is gathered, or one block a row"));
    }
    let mut to = call.b.dtype(table);
    let mut zero = call.optional(3);
    let mut middle = 0;
    if to == DType::U8 {
        // Bytes hold several elements of the last dim.
        to = unsigned(call, call.int("bits", 4))?;
        middle = 1i128 << (to.storage_bits() - 1);
        let shape = |tensor: &Tensor, dims: Vec<Dim>| -> Vec<usize> {
            let mut shape = tensor.shape().to_vec();
            if let (Some(own), Some(wanted)) = (shape.last_mut(), dims.last().and_then(Dim::fixed))
            {
                *own = wanted;
            }
            shape
        };
        let packed = call.need_constant(0, "what the packed bytes stand for")?;
        let mut full = packed.shape().to_vec();
        let per_byte = 8 / to.storage_bits();
        let keep = full.last().map_or(1, |n| n * per_byte);
        if let Some(last) = full.last_mut() {
            *last = keep;
        }
        table = call.b.constant(unpacked(&packed, to, &full, keep)?);
        if zero.is_some() {
            let packed = call.need_constant(3, "what the packed bytes stand for")?;
            let shape = shape(&packed, call.b.dims(scales));
            let keep = shape.last().copied().unwrap_or(1);
            zero = Some(call.b.constant(unpacked(&packed, to, &shape, keep)?));
        }
    }
    let take = Prim::Take { axis };
    let rows = call.b.prim(take.clone(), &[table, places])?;
    let mut scales = call.b.prim(take.clone(), &[scales, places])?;
    let mut zeros = match zero {
        Some(zero) => call.b.prim(take, &[zero, places])?,
        None => call.b.constant(Tensor::from_integers(to, [], &[middle])?),
    };
    // Each block's numbers for every element of it.
    let along = if along > axis { along + call.b.rank(places) - 1 } else { along };
    let count = call.b.dims(rows)[along].clone();
    let order = call.b.iota(&count)?;
    let block = call.b.scalar(DType::I64, block as f64)?;
    let index = call.b.div(order, block)?;
    scales = call.b.prim(Prim::Take { axis: along }, &[scales, index])?;
    if call.b.rank(zeros) > 0 {
        zeros = call.b.prim(Prim::Take { axis: along }, &[zeros, index])?;
    }
    let dtype = call.b.dtype(scales);
    Ok(vec![call.b.prim(Prim::Dequantize { to: dtype }, &[rows, scales, zeros])?])
}
