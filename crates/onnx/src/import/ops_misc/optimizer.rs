//! One step of an optimizer on a group of tensors.

use anychip_ir::{Builder, IrError, ValueId};
use anychip_tensor::DType;

use crate::import::call::{Call, ImportError};

type Results = Result<Vec<ValueId>, ImportError>;

/// The operands after the rate and the count, in `kinds` runs of equal length: one tensor of each for every
/// variable.
fn variables(call: &Call<'_>, kinds: usize) -> Result<Vec<Vec<ValueId>>, ImportError> {
    let inputs = call.all_inputs(2 + kinds)?;
    let rest = &inputs[2..];
    if rest.len() % kinds != 0 {
        return Err(call.invalid(format!("needs {kinds} operands for every variable")));
    }
    let count = rest.len() / kinds;
    Ok((0..count).map(|i| (0..kinds).map(|k| rest[k * count + i]).collect()).collect())
}

/// The results of all variables, one kind after the other.
fn gather(results: &[Vec<ValueId>]) -> Vec<ValueId> {
    let kinds = results.first().map_or(0, Vec::len);
    (0..kinds).flat_map(|k| results.iter().map(move |r| r[k])).collect()
}

/// The gradient with that of `½ · coefficient · x²`.
fn regularized(
    b: &mut Builder,
    x: ValueId,
    gradient: ValueId,
    coefficient: f32,
) -> Result<ValueId, IrError> {
    let extra = b.scale(x, f64::from(coefficient))?;
    b.add(extra, gradient)
}

/// The rate and the count in the type of the first variable.
fn schedule(call: &mut Call<'_>) -> Result<(ValueId, ValueId, DType), ImportError> {
    let (rate, count, first) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let dtype = call.b.dtype(first);
    Ok((call.b.cast(rate, dtype)?, call.b.cast(count, dtype)?, dtype))
}

pub(super) fn adagrad(call: &mut Call<'_>) -> Results {
    let (rate, count, _) = schedule(call)?;
    let decay = f64::from(call.float("decay_factor", 0.0));
    let epsilon = f64::from(call.float("epsilon", 1e-6));
    let coefficient = call.float("norm_coefficient", 0.0);
    let all = variables(call, 3)?;
    let b = &mut *call.b;
    let slowed = b.scale(count, decay)?;
    let slowed = b.offset(slowed, 1.0)?;
    let rate = b.div(rate, slowed)?;
    let mut results = Vec::new();
    for variable in all {
        let (x, gradient, squares) = (variable[0], variable[1], variable[2]);
        let gradient = regularized(b, x, gradient, coefficient)?;
        let square = b.mul(gradient, gradient)?;
        let squares = b.add(squares, square)?;
        let root = b.sqrt(squares)?;
        let divisor = b.offset(root, epsilon)?;
        let step = b.mul(rate, gradient)?;
        let step = b.div(step, divisor)?;
        results.push(vec![b.sub(x, step)?, squares]);
    }
    Ok(gather(&results))
}

/// `old · keep + new · (1 − keep)`
fn blend(b: &mut Builder, old: ValueId, new: ValueId, keep: f64) -> Result<ValueId, IrError> {
    let kept = b.scale(old, keep)?;
    let added = b.scale(new, 1.0 - keep)?;
    b.add(kept, added)
}

pub(super) fn adam(call: &mut Call<'_>) -> Results {
    let (rate, count, dtype) = schedule(call)?;
    let alpha = f64::from(call.float("alpha", 0.9));
    let beta = f64::from(call.float("beta", 0.999));
    let epsilon = f64::from(call.float("epsilon", 1e-6));
    let coefficient = call.float("norm_coefficient", 0.0);
    let after = f64::from(call.float("norm_coefficient_post", 0.0));
    let all = variables(call, 4)?;
    let b = &mut *call.b;
    // rate · √(1 − βᵗ) / (1 − αᵗ) once t > 0
    let one = b.scalar(dtype, 1.0)?;
    let mut rest = |base: f64| {
        let base = b.scalar(dtype, base)?;
        let power = b.pow(base, count)?;
        b.sub(one, power)
    };
    let (rest_beta, rest_alpha) = (rest(beta)?, rest(alpha)?);
    let root = b.sqrt(rest_beta)?;
    let adjusted = b.mul(rate, root)?;
    let adjusted = b.div(adjusted, rest_alpha)?;
    let zero = b.scalar(dtype, 0.0)?;
    let started = b.gt(count, zero)?;
    let rate = b.select(started, adjusted, rate)?;
    let mut results = Vec::new();
    for variable in all {
        let (x, gradient, mean, squares) = (variable[0], variable[1], variable[2], variable[3]);
        let gradient = regularized(b, x, gradient, coefficient)?;
        let mean = blend(b, mean, gradient, alpha)?;
        let square = b.mul(gradient, gradient)?;
        let squares = blend(b, squares, square, beta)?;
        let root = b.sqrt(squares)?;
        let divisor = b.offset(root, epsilon)?;
        let step = b.mul(rate, mean)?;
        let step = b.div(step, divisor)?;
        let moved = b.sub(x, step)?;
        results.push(vec![b.scale(moved, 1.0 - after)?, mean, squares]);
    }
    Ok(gather(&results))
}

pub(super) fn momentum(call: &mut Call<'_>) -> Results {
    let (rate, count, dtype) = schedule(call)?;
    let alpha = f64::from(call.float("alpha", 0.0));
    let beta = f64::from(call.float("beta", 0.0));
    let coefficient = call.float("norm_coefficient", 0.0);
    let nesterov = match call.string("mode", "").as_str() {
        "nesterov" => true,
        "standard" => false,
        _ => return Err(call.bad_attribute("mode", "is nesterov or standard")),
    };
    let all = variables(call, 3)?;
    let b = &mut *call.b;
    let (zero, one, beta) = (b.scalar(dtype, 0.0)?, b.scalar(dtype, 1.0)?, b.scalar(dtype, beta)?);
    let started = b.gt(count, zero)?;
    let beta = b.select(started, beta, one)?;
    let mut results = Vec::new();
    for variable in all {
        let (x, gradient, momentum) = (variable[0], variable[1], variable[2]);
        let gradient = regularized(b, x, gradient, coefficient)?;
        let kept = b.scale(momentum, alpha)?;
        let added = b.mul(beta, gradient)?;
        let momentum = b.add(kept, added)?;
        let direction = if nesterov {
            let ahead = b.scale(momentum, alpha)?;
            b.add(gradient, ahead)?
        } else {
            momentum
        };
        let step = b.mul(rate, direction)?;
        results.push(vec![b.sub(x, step)?, momentum]);
    }
    Ok(gather(&results))
}
