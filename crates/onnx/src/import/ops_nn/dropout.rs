//! Dropout.

use anychip_ir::{Distribution, Prim, ValueId};
use anychip_tensor::{DType, Tensor};

use crate::import::call::{Call, ImportError};

type Results = Result<Vec<ValueId>, ImportError>;

/// Before version 12 the operator only ever ran as inference does.
pub(super) fn before_12(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    if call.opset < 7 && call.outputs > 1 && !call.flag("is_test", false) {
        return Err(call.unsupported("training with a mask (before version 7)"));
    }
    let mask = if call.opset >= 10 { DType::Bool } else { call.b.dtype(x) };
    kept(call, x, mask)
}

/// Everything is kept.
fn kept(call: &mut Call<'_>, x: ValueId, mask: DType) -> Results {
    if call.outputs < 2 {
        return Ok(vec![x]);
    }
    let one = call.b.constant(Tensor::from_f64(mask, [], &[1.0])?);
    let dims = call.b.dims(x);
    Ok(vec![x, call.b.broadcast(one, &dims)?])
}

pub(super) fn since_12(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let training = match call.optional(2) {
        None => false,
        Some(_) => {
            call.need_constant(2, "whether elements are dropped")?.to_i64().first() == Some(&1)
        }
    };
    let (dtype, dims) = (call.b.dtype(x), call.b.dims(x));
    let zero = call.optional(1).is_some()
        && call.constant(1)?.is_some_and(|ratio| ratio.to_f64().first() == Some(&0.0));
    if !training || zero {
        return kept(call, x, DType::Bool);
    }
    // x · (random ≥ ratio) / (1 − ratio)
    let wide = if dtype == DType::F64 { dtype } else { DType::F32 };
    let ratio = match call.optional(1) {
        Some(ratio) => call.b.cast(ratio, wide)?,
        None => call.b.scalar(wide, 0.5)?,
    };
    let shape = call.b.dims_value(&dims)?;
    let random = Prim::Random {
        distribution: Distribution::Uniform { low: 0.0, high: 1.0 },
        dtype: wide,
        seed: call.int_opt("seed").map(|s| s as u64),
    };
    let random = call.b.prim(random, &[shape])?;
    let mask = call.b.ge(random, ratio)?;
    let one = call.b.scalar(wide, 1.0)?;
    let rest = call.b.sub(one, ratio)?;
    let rest = call.b.cast(rest, dtype)?;
    let scaled = call.b.div(x, rest)?;
    let none = call.b.scalar(dtype, 0.0)?;
    Ok(vec![call.b.select(mask, scaled, none)?, mask])
}
