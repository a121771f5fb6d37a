//! Importers of quantization and of integer arithmetic.

use anychip_ir::{Prim, ValueId};
use anychip_ops::dynamic_range;
use anychip_tensor::{DType, Dim, Tensor};

use super::call::{Call, ImportError};
use super::ops_nn::convolve;
use super::table::Row;

type Results = Result<Vec<ValueId>, ImportError>;

pub(crate) const ROWS: &[Row] = &[
    Row::onnx("ConvInteger", 10, conv_integer),
    Row::onnx("DequantizeLinear", 10, dequantize_linear),
    Row::onnx("DynamicQuantizeLinear", 11, dynamic_quantize_linear),
    Row::onnx("MatMulInteger", 10, matmul_integer),
    Row::onnx("QLinearConv", 10, qlinear_conv),
    Row::onnx("QLinearMatMul", 10, qlinear_matmul),
    Row::onnx("QuantizeLinear", 10, quantize_linear),
];

/// A zero of a type that may have no arithmetic.
pub(super) fn zero_of(call: &mut Call<'_>, dtype: DType) -> Result<ValueId, ImportError> {
    Ok(call.b.constant(Tensor::zeros(dtype, [])?))
}

/// A scale or zero point in a shape that broadcasts against `x`: a scalar, one entry a place along `axis`, or one
/// a block of `block` places along it.
fn spread(
    call: &mut Call<'_>,
    x: ValueId,
    parameter: ValueId,
    axis: i64,
    block: i64,
) -> Result<ValueId, ImportError> {
    let (dims, own) = (call.b.dims(x), call.b.dims(parameter));
    if own.is_empty() || own == [Dim::Fixed(1)] {
        return Ok(call.b.reshape(parameter, &[])?);
    }
    if own.len() == 1 && (dims.len() != 1 || block == 0) {
        let axis = call.axis(axis, dims.len())?;
        let mut shape = vec![Dim::Fixed(1); dims.len()];
        shape[axis] = own[0].clone();
        return Ok(call.b.reshape(parameter, &shape)?);
    }
    if own.len() != dims.len() {
        return Err(call.invalid("a scale has no dim, one, or those of the operand"));
    }
    let axis = call.axis(axis, dims.len())?;
    let Some(block) = u32::try_from(block).ok().filter(|&n| n > 0) else {
        // Without blocks the shapes broadcast as they are.
        return Ok(parameter);
    };
    // Each entry for every place of its block; the last block may be cut short.
    let places = call.b.iota(&dims[axis])?;
    let block = call.b.scalar(DType::I64, f64::from(block))?;
    let index = call.b.div(places, block)?;
    Ok(call.b.prim(Prim::Take { axis }, &[parameter, index])?)
}

pub(super) fn quantize_linear(call: &mut Call<'_>) -> Results {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let axis = call.int("axis", 1);
    let block = call.int("block_size", 0);
    let to = match call.optional(2) {
        Some(zero) => call.b.dtype(zero),
        None => call.dtype("output_dtype")?.unwrap_or(DType::U8),
    };
    let zero = match call.optional(2) {
        Some(zero) => spread(call, x, zero, axis, block)?,
        None => zero_of(call, to)?,
    };
    let mut scale = spread(call, x, scale, axis, block)?;
    if let Some(precision) = call.dtype("precision")? {
        scale = call.b.cast(scale, precision)?;
    }
    // A power-of-two scale divides in the operand's type.
    if call.b.dtype(scale).is_small_float() {
        let own = call.b.dtype(x);
        scale = call.b.cast(scale, own)?;
    }
    let saturate = call.flag("saturate", true);
    Ok(vec![call.b.prim(Prim::Quantize { to, saturate }, &[x, scale, zero])?])
}

/// A dim of blocks as two, with scale and zero point one for each block: `None` where sizes are not numbers that divide.
fn in_blocks(
    call: &mut Call<'_>,
    x: ValueId,
    parameters: &[ValueId],
    axis: i64,
    block: i64,
) -> Result<Option<(ValueId, Vec<ValueId>)>, ImportError> {
    let dims = call.b.dims(x);
    let axis = call.axis(axis, dims.len())?;
    let (Some(size), Ok(block)) = (dims[axis].fixed(), usize::try_from(block)) else {
        return Ok(None);
    };
    if block == 0 || size % block != 0 {
        return Ok(None);
    }
    let mut whole = dims;
    whole[axis] = Dim::Fixed(size / block);
    let per_block = whole.clone();
    whole.insert(axis + 1, Dim::Fixed(block));
    let mut moved = Vec::new();
    for &parameter in parameters {
        if call.b.dims(parameter) != per_block {
            return Ok(None);
        }
        moved.push(call.b.unsqueeze(parameter, &[axis + 1])?);
    }
    Ok(Some((call.b.reshape(x, &whole)?, moved)))
}

pub(super) fn dequantize_linear(call: &mut Call<'_>) -> Results {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let axis = call.int("axis", 1);
    let block = call.int("block_size", 0);
    if block > 0 {
        let parameters: Vec<ValueId> =
            [Some(scale), call.optional(2)].into_iter().flatten().collect();
        if let Some((codes, parameters)) = in_blocks(call, x, &parameters, axis, block)? {
            let own = call.b.dtype(scale);
            let to = call.dtype("output_dtype")?.unwrap_or(own);
            let zero = if let Some(&zero) = parameters.get(1) {
                zero
            } else {
                let dtype = call.b.dtype(x);
                zero_of(call, dtype)?
            };
            let scale = call.b.cast(parameters[0], to)?;
            let restored = call.b.prim(Prim::Dequantize { to }, &[codes, scale, zero])?;
            let dims = call.b.dims(x);
            return Ok(vec![call.b.reshape(restored, &dims)?]);
        }
    }
    let own = call.b.dtype(scale);
    let to = call.dtype("output_dtype")?.unwrap_or(own);
    let zero = if let Some(zero) = call.optional(2) {
        spread(call, x, zero, axis, block)?
    } else {
        let dtype = call.b.dtype(x);
        zero_of(call, dtype)?
    };
    let scale = spread(call, x, scale, axis, block)?;
    let scale = call.b.cast(scale, to)?;
    Ok(vec![call.b.prim(Prim::Dequantize { to }, &[x, scale, zero])?])
}

fn dynamic_quantize_linear(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    Ok(dynamic_range(call.b, x)?.to_vec())
}

/// `x − zero point` as i32; without a zero point `x` itself, which products widen.
pub(super) fn centered(
    call: &mut Call<'_>,
    x: ValueId,
    zero: Option<ValueId>,
    shape: impl FnOnce(&mut Call<'_>, ValueId) -> Result<ValueId, ImportError>,
) -> Result<ValueId, ImportError> {
    let Some(zero) = zero else { return Ok(x) };
    let wide = call.b.cast(x, DType::I32)?;
    let zero = call.b.cast(zero, DType::I32)?;
    let zero = shape(call, zero)?;
    Ok(call.b.sub(wide, zero)?)
}

/// A scalar or one entry a row (`[m]` against `[…, m, k]`).
pub(super) fn per_row(call: &mut Call<'_>, v: ValueId) -> Result<ValueId, ImportError> {
    match call.b.rank(v) {
        1 if call.b.dims(v) == [Dim::Fixed(1)] => Ok(call.b.reshape(v, &[])?),
        1 => Ok(call.b.unsqueeze(v, &[1])?),
        _ => Ok(v),
    }
}

/// A scalar or one entry a column (`[n]` against `[…, k, n]`).
pub(super) fn per_column(call: &mut Call<'_>, v: ValueId) -> Result<ValueId, ImportError> {
    if call.b.dims(v) == [Dim::Fixed(1)] { Ok(call.b.reshape(v, &[])?) } else { Ok(v) }
}

/// One entry an output channel, against a kernel of `rank` dims.
fn per_kernel(call: &mut Call<'_>, v: ValueId, rank: usize) -> Result<ValueId, ImportError> {
    if call.b.rank(v) == 0 || call.b.dims(v) == [Dim::Fixed(1)] {
        return Ok(call.b.reshape(v, &[])?);
    }
    let axes: Vec<usize> = (1..rank).collect();
    Ok(call.b.unsqueeze(v, &axes)?)
}

fn matmul_integer(call: &mut Call<'_>) -> Results {
    let (x, w) = (call.input(0)?, call.input(1)?);
    let (zero_x, zero_w) = (call.optional(2), call.optional(3));
    let x = centered(call, x, zero_x, per_row)?;
    let w = centered(call, w, zero_w, per_column)?;
    Ok(vec![call.b.matmul(x, w, DType::I32)?])
}

/// `scale_x · scale_w / scale_y`-fold of an i32 accumulator, rounded and shifted by the zero point.
fn requantize(
    call: &mut Call<'_>,
    accumulator: ValueId,
    scales: [ValueId; 3],
    zero: ValueId,
) -> Result<ValueId, ImportError> {
    let b = &mut *call.b;
    let mut wide = Vec::new();
    for scale in scales {
        wide.push(b.cast(scale, DType::F32)?);
    }
    let product = b.mul(wide[0], wide[1])?;
    let divisor = b.div(wide[2], product)?;
    let to = b.dtype(zero);
    Ok(b.prim(Prim::Quantize { to, saturate: true }, &[accumulator, divisor, zero])?)
}

fn qlinear_matmul(call: &mut Call<'_>) -> Results {
    let inputs = call.all_inputs(8)?;
    let x = centered(call, inputs[0], Some(inputs[2]), per_row)?;
    let w = centered(call, inputs[3], Some(inputs[5]), per_column)?;
    let product = call.b.matmul(x, w, DType::I32)?;
    let scale_x = per_row(call, inputs[1])?;
    let scale_w = per_column(call, inputs[4])?;
    let (scale_y, zero_y) = (per_column(call, inputs[6])?, per_column(call, inputs[7])?);
    Ok(vec![requantize(call, product, [scale_x, scale_w, scale_y], zero_y)?])
}

fn conv_integer(call: &mut Call<'_>) -> Results {
    let (x, w) = (call.input(0)?, call.input(1)?);
    let rank = call.b.rank(w);
    let (zero_x, zero_w) = (call.optional(2), call.optional(3));
    let x = centered(call, x, zero_x, per_column)?;
    let w = centered(call, w, zero_w, |call, v| per_kernel(call, v, rank))?;
    Ok(vec![convolve(call, x, w, 1, DType::I32)?])
}

fn qlinear_conv(call: &mut Call<'_>) -> Results {
    let mut inputs = Vec::new();
    for i in 0..8 {
        inputs.push(call.input(i)?);
    }
    let rank = call.b.rank(inputs[3]);
    let x = centered(call, inputs[0], Some(inputs[2]), per_column)?;
    let w = centered(call, inputs[3], Some(inputs[5]), |call, v| per_kernel(call, v, rank))?;
    let mut sum = convolve(call, x, w, 3, DType::I32)?;
    // Channels lie before the spatial dims of the result.
    let channel_axes: Vec<usize> = (1..rank - 1).collect();
    if let Some(bias) = call.optional(8) {
        let bias = call.b.unsqueeze(bias, &channel_axes)?;
        sum = call.b.add(sum, bias)?;
    }
    let scale_x = per_column(call, inputs[1])?;
    let mut scale_w = per_column(call, inputs[4])?;
    if call.b.rank(scale_w) == 1 {
        scale_w = call.b.unsqueeze(scale_w, &channel_axes)?;
    }
    let (scale_y, zero_y) = (per_column(call, inputs[6])?, per_column(call, inputs[7])?);
    Ok(vec![requantize(call, sum, [scale_x, scale_w, scale_y], zero_y)?])
}
