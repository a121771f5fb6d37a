//! The same numbers with float arithmetic alone: what a quantized graph computes, for machines whose float kernels are
//! the fast ones and for questions asked hundreds of times.

use anychip_ir::{Builder, Graph, IrError, Prim, ValueId};
use anychip_passes::{Verdict, matching, rebuild, remove_dead_code};
use anychip_tensor::{DType, Tensor};

use crate::QuantizeError;

/// `graph` with constant weights restored to floats and every rounding of a value to a grid as arithmetic. Each element
/// comes out as the graph's own operators would give it.
pub fn simulate(graph: &Graph) -> Result<Graph, QuantizeError> {
    let outcome = rebuild(graph, &mut |b, site| {
        let Some(Prim::Dequantize { to: DType::F32 }) = site.node.op.prim() else {
            return Ok(Verdict::Keep);
        };
        let &[x, scale, zero] = &site.node.inputs[..] else { return Ok(Verdict::Keep) };
        let (Some(scales), Some(zeros)) = (site.graph.constant(scale), site.graph.constant(zero))
        else {
            return Ok(Verdict::Keep);
        };
        if let Some(codes) = site.graph.constant(x) {
            let restored = restore(codes, scales, zeros)?;
            return Ok(Verdict::Replace(vec![b.constant(restored)]));
        }
        let Some((Prim::Quantize { .. }, quantize)) = matching::prim(site.graph, x) else {
            return Ok(Verdict::Keep);
        };
        let alike = |i: usize, t: &Tensor| site.graph.constant(quantize.inputs[i]) == Some(t);
        let stored = site.graph.ty(x).dtype;
        let Some((least, most)) = stored.integer_range() else { return Ok(Verdict::Keep) };
        if !alike(1, scales) || !alike(2, zeros) || scales.len() != 1 || zeros.len() != 1 {
            return Ok(Verdict::Keep);
        }
        let original = site.new_value(quantize.inputs[0]);
        if b.dtype(original) != DType::F32 {
            return Ok(Verdict::Keep);
        }
        let zero = zeros.to_f64()[0];
        let ends = (least as f64 - zero, most as f64 - zero);
        Ok(Verdict::Replace(vec![rounded(b, original, scales.to_f64()[0], ends)?]))
    })?;
    Ok(remove_dead_code(&outcome.graph)?)
}

/// `clamp(round(x / scale), ends) · scale`
fn rounded(
    b: &mut Builder,
    x: ValueId,
    scale: f64,
    (least, most): (f64, f64),
) -> Result<ValueId, IrError> {
    let scale = b.scalar_like(x, scale)?;
    let (least, most) = (b.scalar_like(x, least)?, b.scalar_like(x, most)?);
    let ratio = b.div(x, scale)?;
    let whole = b.round(ratio)?;
    let above = b.max(whole, least)?;
    let within = b.min(above, most)?;
    b.mul(within, scale)
}

/// Constant integers as the floats they stand for; scale and zero point broadcast.
pub fn restore(codes: &Tensor, scales: &Tensor, zeros: &Tensor) -> Result<Tensor, IrError> {
    let shape = codes.shape().to_vec();
    let values: Vec<f32> = match codes.elements::<i8>() {
        Some(bytes) => bytes.iter().map(|&q| f32::from(q)).collect(),
        None => codes.to_f64().into_iter().map(|q| q as f32).collect(),
    };
    let (scales, zeros) = (Spread::of(scales, &shape), Spread::of(zeros, &shape));
    let mut index = vec![0usize; shape.len()];
    let mut out = Vec::with_capacity(values.len());
    let last = shape.last().copied().unwrap_or(1).max(1);
    for line in values.chunks(last) {
        let (s, z) = (scales.offset(&index), zeros.offset(&index));
        for (i, &q) in line.iter().enumerate() {
            // In f64 and rounded once, as the evaluator does.
            let value = (f64::from(q) - zeros.at(z, i)) * scales.at(s, i);
            out.push(value as f32);
        }
        for axis in (0..shape.len().saturating_sub(1)).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Ok(Tensor::from_vec(shape, out)?)
}

/// Numbers that broadcast to a shape.
struct Spread {
    values: Vec<f64>,
    strides: Vec<usize>,
}

impl Spread {
    fn of(tensor: &Tensor, shape: &[usize]) -> Spread {
        let mut strides = vec![0; shape.len()];
        let before = shape.len() - tensor.rank().min(shape.len());
        let mut stride = 1;
        for (axis, &n) in tensor.shape().iter().enumerate().rev() {
            if n != 1 {
                strides[before + axis] = stride;
            }
            stride *= n;
        }
        Spread { values: tensor.to_f64(), strides }
    }

    fn offset(&self, index: &[usize]) -> usize {
        let dims = index.len().saturating_sub(1);
        index.iter().zip(&self.strides).take(dims).map(|(i, s)| i * s).sum()
    }

    fn at(&self, offset: usize, last: usize) -> f64 {
        self.values[offset + last * self.strides.last().copied().unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{TensorType, evaluate};

    #[test]
    fn gives_what_the_operators_give() {
        let mut b = Builder::new("grid");
        let x = b.input("x", TensorType::new(DType::F32, [2usize, 3]));
        let scale = b.constant(Tensor::scalar(0.037f32));
        let zero = b.constant(Tensor::scalar(-5i8));
        let codes = b.prim(Prim::Quantize { to: DType::I8, saturate: true }, &[x, scale, zero]);
        let y = b.prim(Prim::Dequantize { to: DType::F32 }, &[codes.unwrap(), scale, zero]);
        let weights = b.constant(Tensor::from_vec([3, 2], vec![1i8, -2, 3, 40, 5, -128]).unwrap());
        let scales = b.constant(Tensor::from_vec([1, 2], vec![0.1f32, 0.3]).unwrap());
        let zeros = b.constant(Tensor::from_vec([1, 2], vec![0i8, 3]).unwrap());
        let w = b.prim(Prim::Dequantize { to: DType::F32 }, &[weights, scales, zeros]).unwrap();
        let product = b.matmul(y.unwrap(), w, DType::F32).unwrap();
        let graph = b.finish(&[product]);
        let input = Tensor::from_vec([2, 3], vec![0.1f32, -9.0, 9.0, 0.0185, 1.0, -0.3]).unwrap();
        let expected = evaluate(&graph, std::slice::from_ref(&input)).unwrap();
        let simulated = simulate(&graph).unwrap();
        assert!(simulated.nodes().iter().all(|n| n.op.name() != "dequantize"));
        assert_eq!(evaluate(&simulated, &[input]).unwrap(), expected);
    }
}
