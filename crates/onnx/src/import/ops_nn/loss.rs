//! Losses of classifiers.

use anychip_ir::{Prim, ReduceKind, ValueId};
use anychip_ops::LogSoftmax;
use anychip_tensor::{DType, Tensor};

use crate::import::call::{Call, ImportError};

type Results = Result<Vec<ValueId>, ImportError>;

/// `−weight[target] · x[target]` along dim 1, reduced as the attribute says; ignored targets count nothing.
fn loss(call: &mut Call<'_>, x: ValueId) -> Result<ValueId, ImportError> {
    let (target, weight) = (call.input(1)?, call.optional(2));
    let ignored = call.int_opt("ignore_index");
    let b = &mut *call.b;
    let dtype = b.dtype(x);
    let all = b.rank(target);
    let index = b.cast(target, DType::I64)?;
    let zero = b.scalar(dtype, 0.0)?;
    let counts = match ignored {
        Some(ignored) => {
            let ignored = b.constant(Tensor::scalar(ignored));
            Some(b.ne(index, ignored)?)
        }
        None => None,
    };
    let index = match counts {
        Some(counts) => {
            let first = b.constant(Tensor::scalar(0i64));
            b.select(counts, index, first)?
        }
        None => index,
    };
    let place = b.unsqueeze(index, &[1])?;
    let picked = b.prim(Prim::TakeAlong { axis: 1 }, &[x, place])?;
    let picked = b.squeeze(picked, &[1])?;
    let picked = b.neg(picked)?;
    let mut weights = if let Some(weight) = weight {
        b.prim(Prim::Take { axis: 0 }, &[weight, index])?
    } else {
        let one = b.scalar(dtype, 1.0)?;
        let dims = b.dims(index);
        b.broadcast(one, &dims)?
    };
    if let Some(counts) = counts {
        weights = b.select(counts, weights, zero)?;
    }
    let losses = b.mul(picked, weights)?;
    let axes: Vec<usize> = (0..all).collect();
    match call.string("reduction", "mean").as_str() {
        "none" => Ok(losses),
        "sum" => Ok(call.b.reduce(ReduceKind::Sum, losses, &axes, false)?),
        "mean" => {
            let total = call.b.reduce(ReduceKind::Sum, losses, &axes, false)?;
            let count = call.b.reduce(ReduceKind::Sum, weights, &axes, false)?;
            Ok(call.b.div(total, count)?)
        }
        _ => Err(call.bad_attribute("reduction", "is none, sum or mean")),
    }
}

pub(super) fn negative_log_likelihood(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    Ok(vec![loss(call, x)?])
}

pub(super) fn softmax_cross_entropy(call: &mut Call<'_>) -> Results {
    let scores = call.input(0)?;
    let logarithms = call.b.composite(LogSoftmax { axis: 1 }, &[scores])?;
    Ok(vec![loss(call, logarithms)?, logarithms])
}
