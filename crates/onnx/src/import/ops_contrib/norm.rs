//! Normalizations with a residual or an embedding built in.

use anychip_ir::{Prim, ReduceKind, ValueId};
use anychip_ops::{LayerNorm, RmsNorm};
use anychip_tensor::{DType, Dim};

use crate::import::call::{Call, ImportError};

type Results = Result<Vec<ValueId>, ImportError>;

/// At least 32 bits.
fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { dtype } else { DType::F32 }
}

/// Normalizes the last dim of `sum`; the result, the mean (of a centered norm), and one over the deviation.
fn normalize(
    call: &mut Call<'_>,
    sum: ValueId,
    scale: ValueId,
    bias: Option<ValueId>,
    centered: bool,
) -> Result<[ValueId; 3], ImportError> {
    let epsilon = call.float("epsilon", if centered { 1e-12 } else { 1e-6 });
    let Some(axis) = call.b.rank(sum).checked_sub(1) else {
        return Err(call.invalid("needs a dim to normalize"));
    };
    let dtype = call.b.dtype(sum);
    let b = &mut *call.b;
    let to = wide(dtype);
    let x = b.cast(sum, to)?;
    let mut operands = vec![x, b.cast(scale, to)?];
    if let Some(bias) = bias {
        operands.push(b.cast(bias, to)?);
    }
    let y = if centered {
        b.composite(LayerNorm { axis, epsilon }, &operands)?
    } else {
        b.composite(RmsNorm { axis, epsilon }, &operands)?
    };
    let y = b.cast(y, dtype)?;
    if call.outputs < 2 {
        return Ok([y, y, y]);
    }
    let b = &mut *call.b;
    let mean = b.mean(x, &[axis], true)?;
    let apart = if centered { b.sub(x, mean)? } else { x };
    let square = b.mul(apart, apart)?;
    let variance = b.mean(square, &[axis], true)?;
    let shifted = b.offset(variance, f64::from(epsilon))?;
    let deviation = b.sqrt(shifted)?;
    Ok([y, mean, b.reciprocal(deviation)?])
}

/// `input + skip (+ bias)`
fn residual(call: &mut Call<'_>, bias: usize) -> Result<ValueId, ImportError> {
    let (x, skip) = (call.input(0)?, call.input(1)?);
    let sum = call.b.add(x, skip)?;
    match call.optional(bias) {
        Some(bias) => Ok(call.b.add(sum, bias)?),
        None => Ok(sum),
    }
}

pub(super) fn skip(call: &mut Call<'_>) -> Results {
    let sum = residual(call, 4)?;
    let (scale, bias) = (call.input(2)?, call.optional(3));
    let [y, mean, inverse] = normalize(call, sum, scale, bias, true)?;
    Ok(vec![y, mean, inverse, sum])
}

pub(super) fn skip_simplified(call: &mut Call<'_>) -> Results {
    let sum = residual(call, 3)?;
    let scale = call.input(2)?;
    let [y, mean, inverse] = normalize(call, sum, scale, None, false)?;
    Ok(vec![y, mean, inverse, sum])
}

pub(super) fn simplified(call: &mut Call<'_>) -> Results {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let epsilon = call.float("epsilon", 1e-5);
    let axis = call.axis(call.int("axis", -1), call.b.rank(x))?;
    let (own, dtype) = (call.b.dtype(x), call.b.dtype(scale));
    let b = &mut *call.b;
    let x = b.cast(x, wide(own))?;
    let scale = b.cast(scale, wide(own))?;
    let y = b.composite(RmsNorm { axis, epsilon }, &[x, scale])?;
    let mut results = vec![b.cast(y, dtype)?];
    if call.outputs > 1 {
        let b = &mut *call.b;
        let axes: Vec<usize> = (axis..b.rank(x)).collect();
        let square = b.mul(x, x)?;
        let mean = b.mean(square, &axes, true)?;
        let shifted = b.offset(mean, f64::from(epsilon))?;
        let root = b.sqrt(shifted)?;
        results.push(b.reciprocal(root)?);
    }
    Ok(results)
}

/// The sum of word, position and segment embeddings, normalized.
pub(super) fn embed(call: &mut Call<'_>) -> Results {
    let words = call.input(0)?;
    let dims = call.b.dims(words);
    if dims.len() != 2 {
        return Err(call.invalid("the words need [batch, sequence]"));
    }
    let (word_table, place_table) = (call.input(2)?, call.input(3)?);
    let (scale, bias) = (call.input(5)?, call.input(6)?);
    let take = Prim::Take { axis: 0 };
    let word = call.b.prim(take.clone(), &[word_table, words])?;
    let place = match call.optional(8) {
        Some(places) => call.b.prim(take.clone(), &[place_table, places])?,
        None => call.b.slice(place_table, 0, &Dim::Fixed(0), &dims[1])?,
    };
    let mut sum = call.b.add(word, place)?;
    if let (Some(segments), Some(table)) = (call.optional(1), call.optional(4)) {
        let segment = call.b.prim(take, &[table, segments])?;
        sum = call.b.add(sum, segment)?;
    }
    let epsilon = call.float("epsilon", 1e-12);
    let y = call.b.composite(LayerNorm { axis: 2, epsilon }, &[sum, scale, bias])?;
    // How many words each entry has.
    let count = if let Some(mask) = call.optional(7) {
        let mask = call.b.cast(mask, DType::I32)?;
        call.b.reduce(ReduceKind::Sum, mask, &[1], false)?
    } else {
        let zero = call.b.scalar(DType::I32, 0.0)?;
        call.b.broadcast(zero, &dims[..1])?
    };
    Ok(vec![y, count, sum])
}
