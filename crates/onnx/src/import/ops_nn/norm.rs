//! Normalizations.

use anychip_ir::{ReduceKind, ValueId};
use anychip_ops::{BatchNorm, GroupNorm, LayerNorm, LocalResponseNorm, RmsNorm};
use anychip_tensor::{DType, Dim};

use crate::import::call::{Call, ImportError};

type Results = Result<Vec<ValueId>, ImportError>;

/// At least 32 bits: statistics of narrower floats are computed wider.
fn at_least_f32(dtype: DType) -> DType {
    if dtype == DType::F64 { dtype } else { DType::F32 }
}

/// The type that stage one of a normalization is computed in.
fn stash_type(call: &Call<'_>) -> Result<DType, ImportError> {
    Ok(call.dtype("stash_type")?.unwrap_or(DType::F32))
}

pub(super) fn batch_normalization(call: &mut Call<'_>) -> Results {
    let inputs = call.all_inputs(5)?;
    let &[x, scale, bias, mean, variance] = inputs.as_slice() else {
        return Err(call.invalid("takes five operands"));
    };
    if call.int("spatial", 1) == 0 {
        return Err(
            call.unsupported("statistics for every element (spatial = 0, before version 9)")
        );
    }
    let epsilon = call.float("epsilon", 1e-5);
    let training = if call.opset >= 14 {
        call.flag("training_mode", false)
    } else if call.opset >= 7 {
        call.outputs > 1
    } else {
        !call.flag("is_test", false) && call.outputs > 1
    };
    if !training {
        return Ok(vec![
            call.b.composite(BatchNorm { epsilon }, &[x, scale, bias, mean, variance])?,
        ]);
    }
    let wide = at_least_f32(call.b.dtype(x));
    let axes: Vec<usize> = (0..call.b.rank(x)).filter(|&a| a != 1).collect();
    let wide_x = call.b.cast(x, wide)?;
    let center = call.b.mean(wide_x, &axes, true)?;
    let apart = call.b.sub(wide_x, center)?;
    let square = call.b.mul(apart, apart)?;
    let spread = call.b.mean(square, &axes, false)?;
    let center = call.b.squeeze(center, &axes)?;
    let scale_wide = call.b.cast(scale, wide)?;
    let bias_wide = call.b.cast(bias, wide)?;
    let y = call.b.composite(BatchNorm { epsilon }, &[x, scale_wide, bias_wide, center, spread])?;
    let momentum = f64::from(call.float("momentum", 0.9));
    let mut running = |old: ValueId, now: ValueId| -> Result<ValueId, ImportError> {
        let now = call.b.cast(now, call.b.dtype(old))?;
        let kept = call.b.scale(old, momentum)?;
        let added = call.b.scale(now, 1.0 - momentum)?;
        Ok(call.b.add(kept, added)?)
    };
    Ok(vec![y, running(mean, center)?, running(variance, spread)?])
}

pub(super) fn instance_normalization(call: &mut Call<'_>) -> Results {
    let (x, scale, bias) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let norm = GroupNorm {
        groups: 0,
        epsilon: call.float("epsilon", 1e-5),
        precision: at_least_f32(call.b.dtype(x)),
    };
    Ok(vec![call.b.composite(norm, &[x, scale, bias])?])
}

pub(super) fn group_normalization(call: &mut Call<'_>) -> Results {
    let (x, mut scale, mut bias) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let groups = usize::try_from(call.need_int("num_groups")?)
        .ok()
        .filter(|&g| g > 0)
        .ok_or_else(|| call.bad_attribute("num_groups", "must be positive"))?;
    let dims = call.b.dims(x);
    if dims.len() < 2 {
        return Err(call.invalid("needs a batch and a channel dim"));
    }
    if call.opset < 21 {
        // One number a group, for each of its channels.
        let size = dims[1].floor_div(&Dim::Fixed(groups));
        for v in [&mut scale, &mut bias] {
            let column = call.b.unsqueeze(*v, &[1])?;
            let wide = call.b.broadcast(column, &[Dim::Fixed(groups), size.clone()])?;
            *v = call.b.reshape(wide, std::slice::from_ref(&dims[1]))?;
        }
    }
    let precision = if call.opset < 21 { at_least_f32(call.b.dtype(x)) } else { stash_type(call)? };
    let norm = GroupNorm { groups, epsilon: call.float("epsilon", 1e-5), precision };
    Ok(vec![call.b.composite(norm, &[x, scale, bias])?])
}

pub(super) fn layer_normalization(call: &mut Call<'_>) -> Results {
    let (x, scale, bias) = (call.input(0)?, call.input(1)?, call.optional(2));
    let epsilon = call.float("epsilon", 1e-5);
    let axis = call.axis(call.int("axis", -1), call.b.rank(x))?;
    let (dtype, stash) = (call.b.dtype(x), stash_type(call)?);
    let wide = call.b.cast(x, stash)?;
    let mut operands = vec![wide, call.b.cast(scale, stash)?];
    if let Some(bias) = bias {
        operands.push(call.b.cast(bias, stash)?);
    }
    let y = call.b.composite(LayerNorm { axis, epsilon }, &operands)?;
    let mut results = vec![call.b.cast(y, dtype)?];
    if call.outputs > 1 {
        let axes: Vec<usize> = (axis..call.b.rank(x)).collect();
        let mean = call.b.mean(wide, &axes, true)?;
        let apart = call.b.sub(wide, mean)?;
        let square = call.b.mul(apart, apart)?;
        let variance = call.b.mean(square, &axes, true)?;
        let shifted = call.b.offset(variance, f64::from(epsilon))?;
        let deviation = call.b.sqrt(shifted)?;
        results.extend([mean, call.b.reciprocal(deviation)?]);
    }
    Ok(results)
}

pub(super) fn rms_normalization(call: &mut Call<'_>) -> Results {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let epsilon = call.float("epsilon", 1e-5);
    let axis = call.axis(call.int("axis", -1), call.b.rank(x))?;
    let (dtype, stash) = (call.b.dtype(scale), stash_type(call)?);
    let (wide, wide_scale) = (call.b.cast(x, stash)?, call.b.cast(scale, stash)?);
    let y = call.b.composite(RmsNorm { axis, epsilon }, &[wide, wide_scale])?;
    Ok(vec![call.b.cast(y, dtype)?])
}

pub(super) fn lp_normalization(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let axis = call.axis(call.int("axis", -1), call.b.rank(x))?;
    let norm = match call.int("p", 2) {
        1 => {
            let magnitude = call.b.abs(x)?;
            call.b.reduce(ReduceKind::Sum, magnitude, &[axis], true)?
        }
        2 => {
            let square = call.b.mul(x, x)?;
            let sum = call.b.reduce(ReduceKind::Sum, square, &[axis], true)?;
            call.b.sqrt(sum)?
        }
        _ => return Err(call.bad_attribute("p", "is 1 or 2")),
    };
    // A vector of zeros stays one.
    let zero = call.b.scalar_like(x, 0.0)?;
    let empty = call.b.eq(norm, zero)?;
    let quotient = call.b.div(x, norm)?;
    Ok(vec![call.b.select(empty, zero, quotient)?])
}

pub(super) fn mean_variance_normalization(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let axes = call.ints("axes").unwrap_or_else(|| vec![0, 2, 3]);
    let axes = call.axes(&axes, call.b.rank(x))?;
    let mean = call.b.mean(x, &axes, true)?;
    let apart = call.b.sub(x, mean)?;
    let square = call.b.mul(apart, apart)?;
    let variance = call.b.mean(square, &axes, true)?;
    let deviation = call.b.sqrt(variance)?;
    let divisor = call.b.offset(deviation, 1e-9)?;
    Ok(vec![call.b.div(apart, divisor)?])
}

pub(super) fn lrn(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let size = usize::try_from(call.need_int("size")?)
        .map_err(|_| call.bad_attribute("size", "must be positive"))?;
    let norm = LocalResponseNorm {
        size,
        alpha: call.float("alpha", 1e-4),
        beta: call.float("beta", 0.75),
        bias: call.float("bias", 1.0),
    };
    Ok(vec![call.b.composite(norm, &[x])?])
}
