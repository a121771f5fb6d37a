//! Branches and loops.

use anychip_tensor::{DType, Tensor};

use super::limits::OVERHEAD;
use super::{Limits, evaluate_within};
use crate::bindings::Bindings;
use crate::{Graph, IrError};

fn truth(condition: &Tensor) -> bool {
    condition.codes().first().is_some_and(|&byte| byte != 0)
}

pub(super) fn conditional(
    regions: &[Graph],
    x: &[Tensor],
    limits: &mut Limits,
) -> Result<Vec<Tensor>, IrError> {
    let taken = if truth(&x[0]) { &regions[0] } else { &regions[1] };
    evaluate_within(taken, &x[1..], limits)
}

pub(super) fn repeat(
    carried: usize,
    body: &Graph,
    x: &[Tensor],
    limits: &mut Limits,
) -> Result<Vec<Tensor>, IrError> {
    let trips = x[0].to_i64()[0];
    let mut goes_on = truth(&x[1]);
    let mut state = x[2..2 + carried].to_vec();
    let captures = &x[2 + carried..];
    let mut scanned: Vec<Vec<Tensor>> = vec![Vec::new(); body.outputs().len() - 1 - carried];
    let mut iteration = 0i64;
    while goes_on && iteration < trips {
        if iteration as u64 >= limits.iterations {
            return Err(IrError::Iterations { limit: limits.iterations });
        }
        limits.spend(OVERHEAD)?;
        let mut inputs = vec![Tensor::scalar(iteration)];
        inputs.append(&mut state);
        inputs.extend_from_slice(captures);
        let mut results = evaluate_within(body, &inputs, limits)?;
        let mut rows = results.split_off(1 + carried);
        state = results.split_off(1);
        goes_on = truth(&results[0]);
        for (rows, row) in scanned.iter_mut().zip(rows.drain(..)) {
            if let Some(first) = rows.first()
                && (first.shape() != row.shape())
            {
                return Err(IrError::Result {
                    op: "loop",
                    found: crate::TensorType::of(&row).to_string(),
                    expected: crate::TensorType::of(first).to_string(),
                });
            }
            // Checked as it grows, so that a loop cannot fill the memory before its end.
            let stacked: Vec<usize> =
                [rows.len() + 1].into_iter().chain(row.shape().iter().copied()).collect();
            limits.check_size(row.dtype(), &stacked)?;
            rows.push(row);
        }
        iteration += 1;
    }
    let mut outputs = state;
    // Where nothing ran, rows have the shape of the body's type as far as its names are known.
    let mut inputs = vec![Tensor::scalar(0i64)];
    inputs.extend_from_slice(&x[2..]);
    let bindings = Bindings::of_inputs(body, &inputs)?;
    for (rows, &output) in scanned.iter().zip(&body.outputs()[1 + carried..]) {
        let ty = body.ty(output);
        let row: Vec<usize> = match rows.first() {
            Some(first) => first.shape().to_vec(),
            None => ty.shape.iter().map(|dim| bindings.size(dim).unwrap_or(0)).collect(),
        };
        let shape: Vec<usize> = [rows.len()].into_iter().chain(row).collect();
        outputs.push(stack(ty.dtype, rows, shape)?);
    }
    Ok(outputs)
}

/// Equal tensors one after the other along a new first dim.
fn stack(dtype: DType, rows: &[Tensor], shape: Vec<usize>) -> Result<Tensor, IrError> {
    if rows.is_empty() {
        return Ok(Tensor::zeros(dtype, shape)?);
    }
    let flat: Vec<Tensor> =
        rows.iter().map(|row| row.reshaped([row.len()])).collect::<Result<_, _>>()?;
    let count = flat.iter().map(Tensor::len).sum();
    Ok(super::movement::concat(0, &flat, vec![count])?.reshaped(shape)?)
}
