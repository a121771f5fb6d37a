//! Scales and zero points as the pass reads them, and real factors as whole ones.

use anychip_ir::{Graph, Op, Prim, ValueId, evaluate_node};
use anychip_tensor::{DType, Dim, Tensor};

use crate::matching::{prim, uniform};

/// 8-bit codes of one scale.
pub(super) struct Affine {
    pub(super) codes: ValueId,
    pub(super) dtype: DType,
    pub(super) scale: f64,
    pub(super) zero: i64,
}

/// What is dequantized here with one scale and zero point, if it is 8 bits wide.
pub(super) fn affine(graph: &Graph, v: ValueId) -> Option<Affine> {
    let (Prim::Dequantize { to: DType::F32 }, node) = prim(graph, v)? else { return None };
    let &[codes, scale, zero] = &node.inputs[..] else { return None };
    let dtype = graph.ty(codes).dtype;
    let scale = uniform(graph, scale).filter(|s| *s > 0.0 && s.is_finite())?;
    let zero = uniform(graph, zero)? as i64;
    matches!(dtype, DType::I8 | DType::U8).then_some(Affine { codes, dtype, scale, zero })
}

/// A constant, or what quantizing one gives.
fn stored(graph: &Graph, v: ValueId) -> Option<Tensor> {
    if let Some(tensor) = graph.constant(v) {
        return Some(tensor.clone());
    }
    let (Prim::Quantize { .. }, node) = prim(graph, v)? else { return None };
    let operands: Option<Vec<Tensor>> =
        node.inputs.iter().map(|&v| graph.constant(v).cloned()).collect();
    evaluate_node(&node.op, &[], &operands?).ok()?.into_iter().next()
}

/// Constant 8-bit codes with one scale, or one a place along an axis, and one zero point.
pub(super) struct PerChannel {
    /// Taken from a constant where the graph has it so.
    pub(super) codes: ValueId,
    pub(super) tensor: Tensor,
    pub(super) zero: i64,
    /// One a channel.
    pub(super) scales: Vec<f64>,
}

/// Constant weights that are dequantized here, their channels along `axis`.
pub(super) fn per_channel(graph: &Graph, v: ValueId, axis: usize) -> Option<PerChannel> {
    let (Prim::Dequantize { to: DType::F32 }, node) = prim(graph, v)? else { return None };
    let &[codes, scale, zero] = &node.inputs[..] else { return None };
    let weights = &stored(graph, codes)?;
    if !matches!(weights.dtype(), DType::I8 | DType::U8) {
        return None;
    }
    let channels = *weights.shape().get(axis)?;
    let scales = along(graph.constant(scale)?, weights.rank(), axis, channels)?;
    let zeros = along(graph.constant(zero)?, weights.rank(), axis, channels)?;
    let zero = zeros.first().copied().unwrap_or(0.0);
    let usable = scales.iter().all(|s| *s > 0.0 && s.is_finite());
    (usable && zeros.iter().all(|z| *z == zero)).then_some(PerChannel {
        codes,
        tensor: weights.clone(),
        zero: zero as i64,
        scales,
    })
}

/// The elements of a tensor that is one number or varies along one of `rank` dims only: one a place there.
fn along(tensor: &Tensor, rank: usize, axis: usize, channels: usize) -> Option<Vec<f64>> {
    let values = tensor.to_f64();
    if let [value] = values[..] {
        return Some(vec![value; channels]);
    }
    let skip = rank.checked_sub(tensor.rank())?;
    let place = axis.checked_sub(skip)?;
    (values.len() == channels && tensor.shape().get(place) == Some(&channels)).then_some(values)
}

/// The numbers of a constant, dequantized and in another shape as it may be, that varies along `axis` of `rank` dims only.
pub(super) fn constant_numbers(
    graph: &Graph,
    v: ValueId,
    rank: usize,
    axis: usize,
    channels: usize,
) -> Option<Vec<f64>> {
    let ty = graph.ty(v);
    let skip = rank.checked_sub(ty.rank())?;
    let fits = ty.shape.iter().enumerate().all(|(i, dim)| {
        *dim == Dim::Fixed(1) || (i + skip == axis && *dim == Dim::Fixed(channels))
    });
    if !fits || ty.dtype != DType::F32 {
        return None;
    }
    let values = numbers(graph, v)?;
    match values.len() {
        1 => Some(vec![values[0]; channels]),
        n => (n == channels && values.iter().all(|b| b.is_finite())).then_some(values),
    }
}

fn numbers(graph: &Graph, v: ValueId) -> Option<Vec<f64>> {
    if let Some(tensor) = graph.constant(v) {
        return Some(tensor.to_f64());
    }
    let node = graph.producer(v)?;
    match &node.op {
        // Of one dim that varies the order stays.
        Op::Prim(Prim::Reshape) => numbers(graph, node.inputs[0]),
        Op::Prim(Prim::Dequantize { .. }) => {
            let operands: Option<Vec<Tensor>> =
                node.inputs.iter().map(|&v| graph.constant(v).cloned()).collect();
            Some(evaluate_node(&node.op, &[], &operands?).ok()?.first()?.to_f64())
        }
        _ => None,
    }
}

/// `ratio ≈ multiplier / 2^shift`, the multiplier below `2^bits` and with as many bits as that allows, the shift in 1..=62;
/// `None` where there is none.
pub(super) fn fixed_point(ratio: f64, bits: i32) -> Option<(i64, i64)> {
    if !(ratio > 0.0 && ratio.is_finite()) {
        return None;
    }
    let mut shift = (f64::from(bits) - 1.0 - ratio.log2().floor()).clamp(-100.0, 62.0) as i32;
    let mut multiplier = (ratio * 2f64.powi(shift)).round();
    if multiplier >= 2f64.powi(bits) {
        shift -= 1;
        multiplier = (ratio * 2f64.powi(shift)).round();
    }
    ((1..=62).contains(&shift)).then_some((multiplier as i64, i64::from(shift)))
}

#[cfg(test)]
mod tests {
    use super::fixed_point;

    #[test]
    fn ratios_keep_their_bits() {
        assert_eq!(fixed_point(0.25, 31), Some((1 << 30, 32)));
        // Just below a power of two the multiplier would round up to 32 bits.
        assert_eq!(fixed_point(0.25 - 1e-12, 31), Some((1 << 30, 32)));
        assert_eq!(fixed_point(3.0, 31), Some((3 << 29, 29)));
        assert_eq!(fixed_point(f64::MIN_POSITIVE, 31), Some((0, 62)));
        assert_eq!(fixed_point(1e300, 31), None);
        assert_eq!(fixed_point(f64::NAN, 31), None);
        for ratio in [1e-6, 0.013, 0.49, 0.51, 7.3] {
            let (multiplier, shift) = fixed_point(ratio, 31).unwrap();
            let found = multiplier as f64 / 2f64.powi(shift as i32);
            assert!((found / ratio - 1.0).abs() < 1e-9, "{ratio} {multiplier} {shift}");
        }
    }
}
