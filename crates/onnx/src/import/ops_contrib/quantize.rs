//! Operators on quantized tensors.

use anychip_ir::{DotDims, Prim, ValueId};
use anychip_ops::{Softmax, dynamic_range};
use anychip_tensor::DType;

use crate::import::call::{Call, ImportError};
use crate::import::ops_nn::average_pool_of;
use crate::import::ops_quantize::{centered, per_column, per_row, zero_of};

type Results = Result<Vec<ValueId>, ImportError>;

/// Operand `i` with its scale (`i + 1`) and zero point (`i + 2`) as floats.
fn real(call: &mut Call<'_>, i: usize) -> Result<ValueId, ImportError> {
    let (x, scale) = (call.input(i)?, call.input(i + 1)?);
    let zero = zero_point(call, i + 2, call.b.dtype(x))?;
    let scale = per_column(call, scale)?;
    Ok(call.b.prim(Prim::Dequantize { to: DType::F32 }, &[x, scale, zero])?)
}

/// A zero point, or 0.
fn zero_point(call: &mut Call<'_>, i: usize, dtype: DType) -> Result<ValueId, ImportError> {
    match call.optional(i) {
        Some(zero) => per_column(call, zero),
        None => zero_of(call, dtype),
    }
}

/// Floats as integers of type `to`, with scale `i` and zero point `i + 1`.
fn quantized(call: &mut Call<'_>, y: ValueId, i: usize, to: DType) -> Results {
    let scale = call.input(i)?;
    let scale = per_column(call, scale)?;
    let zero = zero_point(call, i + 1, to)?;
    Ok(vec![call.b.prim(Prim::Quantize { to, saturate: true }, &[y, scale, zero])?])
}

fn binary(
    call: &mut Call<'_>,
    f: fn(&mut anychip_ir::Builder, ValueId, ValueId) -> Result<ValueId, anychip_ir::IrError>,
) -> Results {
    let to = call.b.dtype(call.input(0)?);
    let (x, y) = (real(call, 0)?, real(call, 3)?);
    let z = f(call.b, x, y)?;
    quantized(call, z, 6, to)
}

pub(super) fn add(call: &mut Call<'_>) -> Results {
    binary(call, anychip_ir::Builder::add)
}

pub(super) fn mul(call: &mut Call<'_>) -> Results {
    binary(call, anychip_ir::Builder::mul)
}

pub(super) fn sigmoid(call: &mut Call<'_>) -> Results {
    let to = call.b.dtype(call.input(0)?);
    let x = real(call, 0)?;
    let y = call.b.sigmoid(x)?;
    quantized(call, y, 3, to)
}

pub(super) fn leaky_relu(call: &mut Call<'_>) -> Results {
    let to = call.b.dtype(call.input(0)?);
    let x = real(call, 0)?;
    let zero = call.b.scalar_like(x, 0.0)?;
    let positive = call.b.ge(x, zero)?;
    let scaled = call.b.scale(x, f64::from(call.float("alpha", 0.01)))?;
    let y = call.b.select(positive, x, scaled)?;
    quantized(call, y, 3, to)
}

pub(super) fn softmax(call: &mut Call<'_>) -> Results {
    let to = call.b.dtype(call.input(0)?);
    let x = real(call, 0)?;
    let dims = call.b.dims(x);
    let axis = call.axis(call.int("axis", -1), dims.len())?;
    let y = if call.int("opset", 13) < 13 {
        // Before version 13 all dims from the axis on count as one.
        let product = |dims: &[anychip_tensor::Dim]| {
            dims.iter().fold(anychip_tensor::Dim::Fixed(1), |a, d| a * d.clone())
        };
        let flat = call.b.reshape(x, &[product(&dims[..axis]), product(&dims[axis..])])?;
        let y = call.b.composite(Softmax { axis: 1 }, &[flat])?;
        call.b.reshape(y, &dims)?
    } else {
        call.b.composite(Softmax { axis }, &[x])?
    };
    quantized(call, y, 3, to)
}

/// Channels before spatial dims, where the attribute says that they come last.
fn channels_first(call: &mut Call<'_>, x: ValueId, back: bool) -> Result<ValueId, ImportError> {
    let rank = call.b.rank(x);
    if !call.flag("channels_last", false) || rank < 3 {
        return Ok(x);
    }
    let order: Vec<usize> = if back {
        [0].into_iter().chain(2..rank).chain([1]).collect()
    } else {
        [0, rank - 1].into_iter().chain(1..rank - 1).collect()
    };
    Ok(call.b.transpose(x, &order)?)
}

pub(super) fn average_pool(call: &mut Call<'_>) -> Results {
    let to = call.b.dtype(call.input(0)?);
    let x = real(call, 0)?;
    let x = channels_first(call, x, false)?;
    let y = average_pool_of(call, x)?;
    let y = channels_first(call, y, true)?;
    quantized(call, y, 3, to)
}

pub(super) fn global_average_pool(call: &mut Call<'_>) -> Results {
    let to = call.b.dtype(call.input(0)?);
    let x = real(call, 0)?;
    let x = channels_first(call, x, false)?;
    let axes: Vec<usize> = (2..call.b.rank(x)).collect();
    let y = call.b.mean(x, &axes, true)?;
    let y = channels_first(call, y, true)?;
    quantized(call, y, 3, to)
}

pub(super) fn concat(call: &mut Call<'_>) -> Results {
    let to = call.b.dtype(call.input(2)?);
    let mut parts = Vec::new();
    for i in (2..call.inputs.len()).step_by(3) {
        parts.push(real(call, i)?);
    }
    let Some(&first) = parts.first() else { return Err(ImportError::MissingInput(2)) };
    let axis = call.axis(call.need_int("axis")?, call.b.rank(first))?;
    let y = call.b.concat(&parts, axis)?;
    quantized(call, y, 0, to)
}

/// An i32 product as floats: times both scales, plus the bias.
fn to_float(
    call: &mut Call<'_>,
    product: ValueId,
    scale_x: ValueId,
    scale_w: ValueId,
    bias: Option<ValueId>,
) -> Results {
    let dtype = call.b.dtype(scale_w);
    let y = call.b.cast(product, dtype)?;
    let scale_x = call.b.cast(scale_x, dtype)?;
    let scale_w = per_column(call, scale_w)?;
    let scale = call.b.mul(scale_x, scale_w)?;
    let y = call.b.mul(y, scale)?;
    match bias {
        Some(bias) => Ok(vec![call.b.add(y, bias)?]),
        None => Ok(vec![y]),
    }
}

pub(super) fn matmul_integer_to_float(call: &mut Call<'_>) -> Results {
    let (x, w) = (call.input(0)?, call.input(1)?);
    let (scale_x, scale_w) = (call.input(2)?, call.input(3)?);
    let (zero_x, zero_w) = (call.optional(4), call.optional(5));
    let x = centered(call, x, zero_x, per_row)?;
    let w = centered(call, w, zero_w, per_column)?;
    let product = call.b.matmul(x, w, DType::I32)?;
    let scale_x = per_row(call, scale_x)?;
    to_float(call, product, scale_x, scale_w, call.optional(6))
}

pub(super) fn dynamic_quantize_matmul(call: &mut Call<'_>) -> Results {
    let (x, w, scale_w) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let zero_w = call.optional(3);
    let [x, scale_x, zero_x] = dynamic_range(call.b, x)?;
    let x = centered(call, x, Some(zero_x), per_row)?;
    let w = centered(call, w, zero_w, per_column)?;
    let product = call.b.matmul(x, w, DType::I32)?;
    to_float(call, product, scale_x, scale_w, call.optional(4))
}

/// `alpha · a b + c` of integers; without an output scale the result is in floats.
pub(super) fn gemm(call: &mut Call<'_>) -> Results {
    let (x, w) = (call.input(0)?, call.input(3)?);
    let (zero_x, zero_w) = (call.optional(2), call.optional(5));
    let across = call.flag("transB", false);
    let x = centered(call, x, zero_x, per_column)?;
    // Columns of the product are rows of a transposed operand.
    let w = centered(call, w, zero_w, if across { per_row } else { per_column })?;
    let dims = DotDims {
        lhs_contract: vec![usize::from(!call.flag("transA", false))],
        rhs_contract: vec![usize::from(across)],
        ..DotDims::default()
    };
    let mut product = call.b.prim(Prim::DotGeneral(dims, DType::I32), &[x, w])?;
    if let Some(c) = call.optional(6) {
        product = call.b.add(product, c)?;
    }
    let (scale_x, scale_w) = (call.input(1)?, call.input(4)?);
    let scale_x = per_column(call, scale_x)?;
    let mut y = to_float(call, product, scale_x, scale_w, None)?[0];
    let alpha = call.float("alpha", 1.0);
    if alpha != 1.0 {
        y = call.b.scale(y, f64::from(alpha))?;
    }
    match (call.optional(7), call.optional(8)) {
        (Some(_), Some(zero)) => {
            let to = call.b.dtype(zero);
            quantized(call, y, 7, to)
        }
        _ => Ok(vec![y]),
    }
}
