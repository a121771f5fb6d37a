//! Operators with an activation, a bias or a transpose built in.

use anychip_ir::{DotDims, Prim, ValueId, broadcast_shapes};
use anychip_ops::Gelu;
use anychip_tensor::Dim;

use crate::import::call::{Call, ImportError};
use crate::import::ops_nn::{self, convolve};

type Results = Result<Vec<ValueId>, ImportError>;

pub(super) fn gelu(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    Ok(vec![call.b.composite(Gelu { tanh: false }, &[x])?])
}

pub(super) fn fast_gelu(call: &mut Call<'_>) -> Results {
    let mut x = call.input(0)?;
    if let Some(bias) = call.optional(1) {
        x = call.b.add(x, bias)?;
    }
    Ok(vec![call.b.composite(Gelu { tanh: true }, &[x])?])
}

pub(super) fn bias_gelu(call: &mut Call<'_>) -> Results {
    let (x, bias) = (call.input(0)?, call.input(1)?);
    let sum = call.b.add(x, bias)?;
    Ok(vec![call.b.composite(Gelu { tanh: false }, &[sum])?])
}

/// `x · sigmoid(alpha · x)`
pub(super) fn quick_gelu(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let scaled = call.b.scale(x, f64::from(call.float("alpha", 1.702)))?;
    let gate = call.b.sigmoid(scaled)?;
    Ok(vec![call.b.mul(x, gate)?])
}

/// The first half times the second's GELU.
pub(super) fn bias_split_gelu(call: &mut Call<'_>) -> Results {
    let (x, bias) = (call.input(0)?, call.input(1)?);
    let sum = call.b.add(x, bias)?;
    let dims = call.b.dims(sum);
    let Some(axis) = dims.len().checked_sub(1) else { return Err(call.invalid("needs a dim")) };
    let half = dims[axis].floor_div(&Dim::Fixed(2));
    let left = call.b.slice(sum, axis, &Dim::Fixed(0), &half)?;
    let right = call.b.slice(sum, axis, &half, &dims[axis])?;
    let gate = call.b.composite(Gelu { tanh: false }, &[right])?;
    Ok(vec![call.b.mul(left, gate)?])
}

/// `x + bias + skip`
pub(super) fn bias_add(call: &mut Call<'_>) -> Results {
    let (x, bias, skip) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let sum = call.b.add(x, bias)?;
    Ok(vec![call.b.add(sum, skip)?])
}

/// The activation that attribute `activation` names, with its numbers.
fn activate(call: &mut Call<'_>, x: ValueId, numbers: &[f32]) -> Result<ValueId, ImportError> {
    let name = call.string("activation", "");
    let number = |i: usize, default: f64| numbers.get(i).map_or(default, |&n| f64::from(n));
    let b = &mut *call.b;
    let zero = b.scalar_like(x, 0.0)?;
    Ok(match name.as_str() {
        "" => x,
        "Relu" => b.max(x, zero)?,
        "Tanh" => b.tanh(x)?,
        "Sigmoid" => b.sigmoid(x)?,
        "LeakyRelu" => {
            let positive = b.ge(x, zero)?;
            let scaled = b.scale(x, number(0, 0.01))?;
            b.select(positive, x, scaled)?
        }
        "Clip" => {
            let low = b.scalar_like(x, number(0, f64::NEG_INFINITY))?;
            let high = b.scalar_like(x, number(1, f64::INFINITY))?;
            let above = b.max(x, low)?;
            b.min(above, high)?
        }
        "HardSigmoid" => {
            let scaled = b.scale(x, number(0, 0.2))?;
            let line = b.offset(scaled, number(1, 0.5))?;
            let one = b.scalar_like(x, 1.0)?;
            let above = b.max(line, zero)?;
            b.min(above, one)?
        }
        _ => return Err(call.bad_attribute("activation", "is not an activation that is fused")),
    })
}

pub(super) fn conv(call: &mut Call<'_>) -> Results {
    let (x, w) = (call.input(0)?, call.input(1)?);
    let dtype = call.b.dtype(x);
    let mut y = convolve(call, x, w, 1, dtype)?;
    if let Some(bias) = call.optional(2) {
        let axes: Vec<usize> = (1..call.b.rank(y) - 1).collect();
        let bias = call.b.unsqueeze(bias, &axes)?;
        y = call.b.add(y, bias)?;
    }
    if let Some(sum) = call.optional(3) {
        y = call.b.add(y, sum)?;
    }
    let numbers = call.floats("activation_params").unwrap_or_default();
    Ok(vec![activate(call, y, &numbers)?])
}

pub(super) fn gemm(call: &mut Call<'_>) -> Results {
    let y = ops_nn::gemm(call)?[0];
    let numbers: Vec<f32> = ["activation_alpha", "activation_beta"]
        .iter()
        .map_while(|name| call.float_opt(name))
        .collect();
    Ok(vec![activate(call, y, &numbers)?])
}

/// `NumPy`'s `matmul` of operands that may be transposed, times `alpha`.
pub(super) fn matmul(call: &mut Call<'_>) -> Results {
    let (mut x, mut w) = (call.input(0)?, call.input(1)?);
    for (operand, name) in [(&mut x, "transBatchA"), (&mut w, "transBatchB")] {
        let rank = call.b.rank(*operand);
        if call.flag(name, false) && rank > 2 {
            // The first dim goes behind the other batch dims and the rows.
            let mut order: Vec<usize> = (1..rank - 1).collect();
            order.extend([0, rank - 1]);
            *operand = call.b.transpose(*operand, &order)?;
        }
    }
    let (rank_x, rank_w) = (call.b.rank(x), call.b.rank(w));
    let across_x = call.flag("transA", false) && rank_x > 1;
    let across_w = call.flag("transB", false) && rank_w > 1;
    let dtype = call.b.dtype(x);
    let mut y = if rank_x < 2 || rank_w < 2 {
        call.b.matmul(x, w, dtype)?
    } else {
        let (dims_x, dims_w) = (call.b.dims(x), call.b.dims(w));
        let (batch_x, matrix_x) = dims_x.split_at(rank_x - 2);
        let (batch_w, matrix_w) = dims_w.split_at(rank_w - 2);
        let mut dims = DotDims::default();
        if rank_w > 2 {
            let batch = broadcast_shapes("FusedMatMul", &[batch_x, batch_w])?;
            x = call.b.broadcast(x, &[&batch, matrix_x].concat())?;
            w = call.b.broadcast(w, &[&batch, matrix_w].concat())?;
            dims.lhs_batch = (0..batch.len()).collect();
            dims.rhs_batch.clone_from(&dims.lhs_batch);
        }
        // The dims that are summed: columns on the left and rows on the right, unless transposed.
        dims.lhs_contract = vec![call.b.rank(x) - 1 - usize::from(across_x)];
        dims.rhs_contract = vec![call.b.rank(w) - 2 + usize::from(across_w)];
        call.b.prim(Prim::DotGeneral(dims, dtype), &[x, w])?
    };
    let alpha = call.float("alpha", 1.0);
    if alpha != 1.0 {
        y = call.b.scale(y, f64::from(alpha))?;
    }
    Ok(vec![y])
}
