//! What lies between dequantizing and quantizing becomes an integer operator, whose rounding is defined once, in the IR.
//!
//! Not one of [`crate::PIPELINE`]: its results may differ from the float form's by a step of the result where that lies at
//! the border between two codes, so it belongs to the way to targets that compute in integers, not to the files that
//! `optimize` writes.

mod parameters;

use anychip_ir::{Binary, Builder, Graph, IrError, Node, Op, Prim, ReduceKind, ValueId};
use anychip_ops::{QuantizedAdd, QuantizedConvolution, QuantizedDot, QuantizedMean};
use anychip_tensor::{DType, Dim, Tensor};

use crate::matching::{prim, uniform};
use crate::{Outcome, Site, replace};
use parameters::{Affine, PerChannel, affine, constant_numbers, fixed_point, per_channel};

pass! {
    /// With `q` for quantize and `d` for dequantize, scales and zero points constant, `clip` a rectifier, a clip or nothing:
    ///
    /// - `q(clip(conv(d(x), d(w)) + b)) => quantized-convolution(x, w, b)`, `q(clip(dot(d(x), d(w)) + b)) => quantized-dot(x, w, b)`
    ///   for constant `w` and `b`
    /// - `q(clip(d(a) + d(b))) => quantized-add(a, b)`
    /// - `q(mean(d(x))) => quantized-mean(x)`
    /// - `q(f(d(x))) => f(x)` where both have the same scale and zero point, and `f` moves or takes the largest
    pub(crate) const FORM_INTEGER_OPERATORS = "form-integer-operators", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    replace(graph, &mut rule)
}

/// The codes that a result is quantized to, and the part of them that a clip before leaves.
#[derive(Clone, Copy)]
struct Result8 {
    to: DType,
    scale: f64,
    zero: i64,
    low: i64,
    high: i64,
}

fn rule(b: &mut Builder, site: &Site<'_>) -> Result<Option<ValueId>, IrError> {
    let Some(Prim::Quantize { to: to @ (DType::I8 | DType::U8), .. }) = site.node.op.prim() else {
        return Ok(None);
    };
    let graph = site.graph;
    let &[x, scale, zero] = &site.node.inputs[..] else { return Ok(None) };
    let (Some(scale), Some(zero)) = (uniform(graph, scale), uniform(graph, zero)) else {
        return Ok(None);
    };
    if graph.ty(x).dtype != DType::F32 || !(scale > 0.0 && scale.is_finite()) {
        return Ok(None);
    }
    let (low, high) = if *to == DType::U8 { (0, 255) } else { (-128, 127) };
    let mut y = Result8 { to: *to, scale, zero: zero as i64, low, high };
    if let Some(moved) = passes_through(b, site, x, &y)? {
        return Ok(Some(moved));
    }
    let Some(inner) = strip_clip(site, x, &mut y) else { return Ok(None) };
    let Some(node) = graph.producer(inner) else { return Ok(None) };
    if !site.uses.single(inner) {
        return Ok(None);
    }
    match &node.op {
        Op::Prim(Prim::Binary(Binary::Add)) => {
            let &[p, q] = &node.inputs[..] else { return Ok(None) };
            for (sum, bias) in [(p, q), (q, p)] {
                if site.uses.single(sum)
                    && let Some(weighted) = weighted(b, site, sum, Some(bias), &y)?
                {
                    return Ok(Some(weighted));
                }
            }
            add(b, site, p, q, &y)
        }
        Op::Prim(Prim::Convolution(..) | Prim::DotGeneral(..)) => {
            weighted(b, site, inner, None, &y)
        }
        Op::Prim(Prim::Binary(Binary::Div | Binary::Mul)) => mean(b, site, node, &y),
        _ => Ok(None),
    }
}

/// What a rectifier or clip is of; its limits become limits of the codes.
fn strip_clip(site: &Site<'_>, mut x: ValueId, y: &mut Result8) -> Option<ValueId> {
    while let Some((Prim::Binary(op @ (Binary::Max | Binary::Min)), node)) = prim(site.graph, x) {
        let &[p, q] = &node.inputs[..] else { return None };
        let (inner, limit) = match (uniform(site.graph, p), uniform(site.graph, q)) {
            (None, Some(limit)) => (p, limit),
            (Some(limit), None) => (q, limit),
            _ => return None,
        };
        if limit.is_nan() || !site.uses.single(x) || site.graph.ty(inner) != site.graph.ty(x) {
            return None;
        }
        // Rounding is monotone: the code of the clipped value is the clipped code.
        let code = (limit / y.scale).round_ties_even().clamp(-1e9, 1e9) as i64 + y.zero;
        if *op == Binary::Max {
            y.low = y.low.max(code.min(y.high));
            y.high = y.high.max(y.low);
        } else {
            y.high = y.high.min(code.max(y.low));
        }
        x = inner;
    }
    Some(x)
}

/// `q(f(d(x))) => f(x)` for one scale.
fn passes_through(
    b: &mut Builder,
    site: &Site<'_>,
    x: ValueId,
    y: &Result8,
) -> Result<Option<ValueId>, IrError> {
    let same = |v: ValueId| {
        affine(site.graph, v)
            .filter(|a| a.dtype == y.to && (a.scale, a.zero) == (y.scale, y.zero))
            .map(|a| a.codes)
    };
    if let Some(codes) = same(x) {
        return Ok(Some(site.new_value(codes)));
    }
    let Some(node) = site.graph.producer(x) else { return Ok(None) };
    if !site.uses.single(x) {
        return Ok(None);
    }
    let operands = match &node.op {
        Op::Prim(
            Prim::Reshape
            | Prim::Transpose { .. }
            | Prim::Slice { .. }
            | Prim::Broadcast
            | Prim::ReduceWindow { kind: ReduceKind::Max, .. },
        ) => {
            let Some(codes) = node.inputs.first().and_then(|&v| same(v)) else {
                return Ok(None);
            };
            let rest = node.inputs[1..].iter().map(|&v| site.new_value(v));
            std::iter::once(site.new_value(codes)).chain(rest).collect::<Vec<_>>()
        }
        Op::Prim(Prim::Concat { .. }) => {
            let codes: Option<Vec<ValueId>> = node.inputs.iter().map(|&v| same(v)).collect();
            let Some(codes) = codes else { return Ok(None) };
            codes.into_iter().map(|v| site.new_value(v)).collect()
        }
        _ => return Ok(None),
    };
    Ok(b.node(node.op.clone(), &operands, Vec::new())?.first().copied())
}

/// `q(clip(f(d(x), d(w)) + bias))` for a convolution or dot product `f`.
fn weighted(
    b: &mut Builder,
    site: &Site<'_>,
    sum: ValueId,
    bias: Option<ValueId>,
    y: &Result8,
) -> Result<Option<ValueId>, IrError> {
    let graph = site.graph;
    let Some((found, node)) = prim(graph, sum) else { return Ok(None) };
    let rank = graph.ty(sum).rank();
    let (channel_axis, own_axis, flipped) = match &node.op {
        Op::Prim(Prim::Convolution(dims, DType::F32))
            if dims.input_dilation.iter().all(|&d| d == 1) =>
        {
            (1, 0, false)
        }
        Op::Prim(Prim::DotGeneral(dims, DType::F32)) => {
            let plain = dims.lhs_batch.is_empty()
                && dims.rhs_batch.is_empty()
                && graph.ty(node.inputs[1]).rank() == 2
                && dims.lhs_contract == [graph.ty(node.inputs[0]).rank() - 1];
            match dims.rhs_contract[..] {
                [0] if plain => (rank - 1, 1, false),
                [1] if plain => (rank - 1, 0, true),
                _ => return Ok(None),
            }
        }
        _ => return Ok(None),
    };
    let Some(x) = affine(graph, node.inputs[0]) else { return Ok(None) };
    // Weights may stand transposed.
    let (mut weights, mut own_axis, mut flipped) = (node.inputs[1], own_axis, flipped);
    if let Some((Prim::Transpose { permutation }, turned)) = prim(graph, weights)
        && matches!(found, Prim::DotGeneral(..))
        && permutation == &[1, 0]
    {
        (weights, own_axis, flipped) = (turned.inputs[0], 1 - own_axis, !flipped);
    }
    let Some(w) = per_channel(graph, weights, own_axis) else { return Ok(None) };
    let PerChannel { codes, tensor, zero: w_zero, scales } = w;
    let channels = scales.len();
    let bias = match bias {
        None => vec![0.0; channels],
        Some(bias) => match constant_numbers(graph, bias, rank, channel_axis, channels) {
            Some(numbers) => numbers,
            None => return Ok(None),
        },
    };
    let (mut biases, mut multipliers, mut shifts) = (Vec::new(), Vec::new(), Vec::new());
    for (bias, scale) in bias.iter().zip(&scales) {
        let step = x.scale * scale;
        let code = (bias / step).round_ties_even();
        if code.is_nan() || code.abs() >= 2f64.powi(31) {
            return Ok(None);
        }
        let Some((multiplier, shift)) = fixed_point(step / y.scale, 31) else { return Ok(None) };
        biases.push(code as i32);
        multipliers.push(multiplier as i32);
        shifts.push(shift as i32);
    }
    let mut w =
        if graph.constant(codes).is_some() { site.new_value(codes) } else { b.constant(tensor) };
    if flipped {
        w = b.transpose(w, &[1, 0])?;
    }
    let mut operands = vec![site.new_value(x.codes), w];
    for list in [biases, multipliers, shifts] {
        operands.push(b.constant(Tensor::from_vec([channels], list)?));
    }
    let Result8 { to, zero: y_zero, low, high, .. } = *y;
    let x_zero = x.zero;
    if let Prim::Convolution(dims, _) = found {
        let op = QuantizedConvolution {
            strides: dims.strides.clone(),
            padding_low: dims.padding.iter().map(|p| p.0).collect(),
            padding_high: dims.padding.iter().map(|p| p.1).collect(),
            dilation: dims.dilation.clone(),
            groups: dims.groups,
            x_zero,
            w_zero,
            to,
            y_zero,
            low,
            high,
        };
        return b.composite(op, &operands).map(Some);
    }
    let op = QuantizedDot { x_zero, w_zero, to, y_zero, low, high };
    b.composite(op, &operands).map(Some)
}

/// `q(clip(d(a) + d(b)))`
fn add(
    b: &mut Builder,
    site: &Site<'_>,
    p: ValueId,
    q: ValueId,
    y: &Result8,
) -> Result<Option<ValueId>, IrError> {
    let (Some(p), Some(q)) = (affine(site.graph, p), affine(site.graph, q)) else {
        return Ok(None);
    };
    let (a, c) = (p.scale / y.scale, q.scale / y.scale);
    // One shift for both; the larger has all the bits that 32-bit sums allow.
    let Some((_, shift)) = fixed_point(a.max(c), 22) else { return Ok(None) };
    if !(1..=31).contains(&shift) {
        return Ok(None);
    }
    let whole = |ratio: f64| ((ratio * 2f64.powi(shift as i32)).round() as i64).min((1 << 22) - 1);
    let op = QuantizedAdd {
        a_zero: p.zero,
        b_zero: q.zero,
        a_multiplier: whole(a),
        b_multiplier: whole(c),
        shift,
        to: y.to,
        y_zero: y.zero,
        low: y.low,
        high: y.high,
    };
    let operands = [p, q].map(|Affine { codes, .. }| site.new_value(codes));
    b.composite(op, &operands).map(Some)
}

/// `q(mean(d(x)))`: a sum times or over one number.
fn mean(
    b: &mut Builder,
    site: &Site<'_>,
    node: &Node,
    y: &Result8,
) -> Result<Option<ValueId>, IrError> {
    let graph = site.graph;
    let &[sum, factor] = &node.inputs[..] else { return Ok(None) };
    let Some(factor) = uniform(graph, factor) else { return Ok(None) };
    let factor = if node.op == Op::Prim(Prim::Binary(Binary::Div)) { 1.0 / factor } else { factor };
    if !site.uses.single(sum) || graph.ty(sum) != graph.ty(node.outputs[0]) {
        return Ok(None);
    }
    let mut reduced = sum;
    if let Some((Prim::Reshape, shaped)) = prim(graph, sum) {
        reduced = shaped.inputs[0];
        if !site.uses.single(reduced) {
            return Ok(None);
        }
    }
    let Some((Prim::Reduce { kind: ReduceKind::Sum, axes }, reduce)) = prim(graph, reduced) else {
        return Ok(None);
    };
    let Some(x) = affine(graph, reduce.inputs[0]) else { return Ok(None) };
    let fits = axes.iter().try_fold(1usize, |n, &axis| {
        graph.ty(reduce.inputs[0]).shape[axis].fixed().and_then(|d| n.checked_mul(d))
    });
    // Sums of 9-bit numbers stay within 32 bits.
    if fits.is_none_or(|n| n >= 1 << 22) {
        return Ok(None);
    }
    let Some((multiplier, shift)) = fixed_point(x.scale * factor / y.scale, 31) else {
        return Ok(None);
    };
    let Result8 { to, zero: y_zero, low, high, .. } = *y;
    let axes = axes.clone();
    let op = QuantizedMean { axes, x_zero: x.zero, multiplier, shift, to, y_zero, low, high };
    let kept = b.composite(op, &[site.new_value(x.codes)])?;
    let dims: Vec<Dim> = graph.ty(sum).shape.clone();
    if b.dims(kept) == dims {
        return Ok(Some(kept));
    }
    b.reshape(kept, &dims).map(Some)
}
