//! Convolutions.

use anychip_ir::{ConvolutionDims, Prim, ValueId};
use anychip_ops::{ConvTranspose, DeformableConv, Silu};
use anychip_tensor::{DType, Dim};

use super::spatial::{LARGEST, Windows, kernel_size, positive};
use crate::import::call::{Call, ImportError};

type Results = Result<Vec<ValueId>, ImportError>;

/// The number of independent groups of channels.
fn groups(call: &Call<'_>) -> Result<usize, ImportError> {
    usize::try_from(call.int("group", 1))
        .ok()
        .filter(|&g| g > 0)
        .ok_or_else(|| call.bad_attribute("group", "must be positive"))
}

/// `[channels]` as `[channels, 1…]`, to broadcast over spatial dims.
pub(super) fn per_channel(
    call: &mut Call<'_>,
    v: ValueId,
    spatial: usize,
) -> Result<ValueId, ImportError> {
    let axes: Vec<usize> = (1..=spatial).collect();
    Ok(call.b.unsqueeze(v, &axes)?)
}

/// The convolution that the node's attributes describe, of `x` (operand 0) and `w` (operand `kernel`).
pub(in crate::import) fn convolve(
    call: &mut Call<'_>,
    x: ValueId,
    w: ValueId,
    kernel: usize,
    output: DType,
) -> Result<ValueId, ImportError> {
    let size = kernel_size(call, w, kernel)?;
    let windows = Windows::new(call, x, size)?;
    let zero = call.b.scalar_like(x, 0.0)?;
    let x = windows.pad(call, x, zero)?;
    let spatial = windows.size.len();
    let dims = ConvolutionDims {
        strides: windows.strides,
        padding: windows.padding,
        dilation: windows.dilation,
        input_dilation: vec![1; spatial],
        groups: groups(call)?,
    };
    Ok(call.b.prim(Prim::Convolution(dims, output), &[x, w])?)
}

fn add_bias(call: &mut Call<'_>, y: ValueId, bias: Option<ValueId>) -> Results {
    let Some(bias) = bias else { return Ok(vec![y]) };
    let spatial = call.b.rank(y) - 2;
    let bias = per_channel(call, bias, spatial)?;
    Ok(vec![call.b.add(y, bias)?])
}

pub(super) fn conv(call: &mut Call<'_>) -> Results {
    let (x, w) = (call.input(0)?, call.input(1)?);
    let dtype = call.b.dtype(x);
    let y = convolve(call, x, w, 1, dtype)?;
    add_bias(call, y, call.optional(2))
}

pub(super) fn conv_transpose(call: &mut Call<'_>) -> Results {
    let (x, w) = (call.input(0)?, call.input(1)?);
    let size = kernel_size(call, w, 1)?;
    let spatial = size.len();
    let dims = call.b.dims(x);
    if dims.len() != spatial + 2 {
        return Err(call.invalid("the operand and the kernel need the same number of dims"));
    }
    let strides = positive(call, "strides", spatial)?;
    let dilation = positive(call, "dilations", spatial)?;
    let extra = call.ints("output_padding").unwrap_or_else(|| vec![0; spatial]);
    let pads = call.ints("pads").unwrap_or_else(|| vec![0; 2 * spatial]);
    let auto = call.string("auto_pad", "NOTSET");
    let wanted = call.ints("output_shape");
    let given = extra.iter().chain(&pads).chain(wanted.iter().flatten());
    if given.into_iter().any(|n| !(-LARGEST..=LARGEST).contains(n)) {
        return Err(call.invalid("a padding or a wanted size is out of range"));
    }
    if extra.len() != spatial || pads.len() != 2 * spatial {
        return Err(call.bad_attribute("pads", "needs two numbers for each spatial dim"));
    }
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for i in 0..spatial {
        let span = (size[i] as i64 - 1) * dilation[i] as i64 + 1;
        // What is dropped in all so that the result has the wanted size.
        let total = match (&wanted, auto.as_str()) {
            (Some(shape), _) => {
                let Some(&size) = shape.get(i + shape.len().saturating_sub(spatial)) else {
                    return Err(
                        call.bad_attribute("output_shape", "needs a size for each spatial dim")
                    );
                };
                let n = dims[2 + i].constant().ok_or(ImportError::NeedsSizes {
                    input: 0,
                    what: "the padding that gives the wanted size",
                })?;
                Some((n - 1) * strides[i] as i64 + span + extra[i] - size)
            }
            // The result is to have size · stride elements, whatever the size is.
            (None, "SAME_UPPER" | "SAME_LOWER") => Some(span + extra[i] - strides[i] as i64),
            (None, "VALID") => Some(0),
            (None, "NOTSET" | "") => None,
            (None, _) => return Err(call.bad_attribute("auto_pad", "is not a way to pad")),
        };
        let (before, after) = match total {
            None => (pads[i], pads[spatial + i]),
            Some(total) => {
                let half = total.div_euclid(2);
                if auto == "SAME_UPPER" { (half, total - half) } else { (total - half, half) }
            }
        };
        low.push(before);
        high.push(after - extra[i]);
    }
    let composite = ConvTranspose {
        strides,
        padding_low: low,
        padding_high: high,
        dilation,
        groups: groups(call)?,
    };
    let y = call.b.composite(composite, &[x, w])?;
    add_bias(call, y, call.optional(2))
}

pub(super) fn deform_conv(call: &mut Call<'_>) -> Results {
    let (x, w, offset) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let size = kernel_size(call, w, 1)?;
    let windows = Windows::new(call, x, size)?;
    let composite = DeformableConv {
        strides: windows.strides,
        padding_low: windows.padding.iter().map(|&(low, _)| low).collect(),
        dilation: windows.dilation,
        groups: groups(call)?,
        offset_groups: usize::try_from(call.int("offset_group", 1))
            .ok()
            .filter(|&g| g > 0)
            .ok_or_else(|| call.bad_attribute("offset_group", "must be positive"))?,
    };
    let mut operands = vec![x, w, offset];
    operands.extend(call.optional(4));
    let y = call.b.composite(composite, &operands)?;
    add_bias(call, y, call.optional(3))
}

/// A depthwise convolution of what came before (`past_state`) and the operand; the end is the next state.
pub(super) fn causal_conv_with_state(call: &mut Call<'_>) -> Results {
    let (x, w) = (call.input(0)?, call.input(1)?);
    let dims = call.b.dims(x);
    let size = kernel_size(call, w, 1)?;
    let (&[kernel], 3) = (size.as_slice(), dims.len()) else {
        return Err(
            call.invalid("needs [batch, channels, length] and a kernel [channels, 1, size]")
        );
    };
    let Some(channels) = dims[1].fixed() else {
        return Err(ImportError::NeedsSizes { input: 0, what: "the number of channels" });
    };
    let before = if let Some(state) = call.optional(3) {
        state
    } else {
        let zero = call.b.scalar_like(x, 0.0)?;
        let shape = [dims[0].clone(), dims[1].clone(), Dim::Fixed(kernel.max(1) - 1)];
        call.b.broadcast(zero, &shape)?
    };
    let all = call.b.concat(&[before, x], 2)?;
    let dtype = call.b.dtype(x);
    let convolution = ConvolutionDims {
        strides: vec![1],
        padding: vec![(0, 0)],
        dilation: vec![1],
        input_dilation: vec![1],
        groups: channels,
    };
    let y = call.b.prim(Prim::Convolution(convolution, dtype), &[all, w])?;
    let mut y = add_bias(call, y, call.optional(2))?[0];
    match call.string("activation", "none").as_str() {
        "none" => {}
        "silu" | "swish" => {
            let wide = call.b.cast(y, if dtype == DType::F64 { dtype } else { DType::F32 })?;
            let curve = call.b.composite(Silu {}, &[wide])?;
            y = call.b.cast(curve, dtype)?;
        }
        _ => return Err(call.bad_attribute("activation", "is none, silu or swish")),
    }
    let end = call.b.dims(all)[2].clone();
    let start = end.clone() - Dim::Fixed(kernel.max(1) - 1);
    let state = call.b.slice(all, 2, &start, &end)?;
    Ok(vec![y, state])
}
