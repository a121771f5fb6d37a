//! Layer normalization spelled out.

use std::sync::Arc;

use anychip_ir::{Graph, IrError, Op, ValueId};
use anychip_ops::LayerNorm;

use crate::Outcome;
use crate::matching::Bindings;
use crate::recognize::{Found, first_match, patterns, recognize};

pass! {
    /// `(x - mean(x)) / √(mean((x - mean(x))²) + ε) · scale + bias => layer-norm(x, scale, bias)`, over the last
    /// dims; the root may be a reciprocal that multiplies, the bias may be absent, and TensorFlow's
    /// `x · r + (bias - mean(x) · r)` with `r = scale / √…` is another spelling
    pub(crate) const RECOGNIZE_LAYER_NORM = "recognize-layer-norm", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    let deviation = "sqrt(mean((x - mean(x)) * (x - mean(x))) + EPSILON)";
    let patterns = patterns(&[
        &format!("(x - mean(x)) / {deviation} * scale + bias"),
        &format!("x * (scale / {deviation}) + (bias - mean(x) * (scale / {deviation}))"),
        &format!("(x - mean(x)) / {deviation} * scale"),
    ]);
    recognize(graph, run, &mut |graph, value| {
        let (which, found) = first_match(&patterns, graph, value)?;
        let axis = last_axes(graph, &found)?;
        let mut inputs = vec![found.value("x"), found.value("scale")];
        if which < 2 {
            inputs.push(found.value("bias"));
        }
        // What scales and shifts must belong to the normalized dims alone: a value with more dims is no
        // parameter but data.
        let fits = |v: &ValueId| graph.ty(*v).rank() + axis <= graph.ty(inputs[0]).rank();
        if !inputs[1..].iter().all(fits) {
            return None;
        }
        let epsilon = found.number("EPSILON") as f32;
        let op = Op::Composite(Arc::new(LayerNorm { axis, epsilon }));
        Some(Found { op, inputs, interior: found.interior })
    })
}

/// The first of the reduced dims, when they are all dims from it on.
pub(crate) fn last_axes(graph: &Graph, found: &Bindings) -> Option<usize> {
    let axes = found.axes.as_ref()?;
    let rank = graph.ty(found.value("x")).rank();
    let first = *axes.first()?;
    axes.iter().copied().eq(first..rank).then_some(first)
}

#[cfg(test)]
mod tests {
    use crate::recognize::tests::{ops_after, with_input};
    use anychip_ir::{Builder, Composite, ValueId};
    use anychip_ops::LayerNorm;
    use anychip_tensor::{DType, Tensor};

    fn parameter(b: &mut Builder, n: usize) -> ValueId {
        let values: Vec<f64> = (0..n).map(|i| 1.0 + i as f64).collect();
        b.constant(Tensor::from_f64(DType::F32, [n], &values).unwrap())
    }

    #[test]
    fn its_own_expansion_is_recognized() {
        for operands in [2, 3] {
            let g = with_input([2, 3, 8], |b, x| {
                let inputs = [x, parameter(b, 8), parameter(b, 8)];
                LayerNorm { axis: 2, epsilon: 1e-5 }.expand(b, &inputs[..operands]).unwrap()[0]
            });
            assert_eq!(ops_after(&g, super::run), ["layer-norm"]);
        }
    }

    #[test]
    fn tensorflow_scales_the_reciprocal_root() {
        let g = with_input([2, 3, 8], |b, x| {
            let (scale, bias) = (parameter(b, 8), parameter(b, 8));
            let mean = b.mean(x, &[2], true).unwrap();
            let centered = b.sub(x, mean).unwrap();
            let square = b.mul(centered, centered).unwrap();
            let variance = b.mean(square, &[2], true).unwrap();
            let shifted = b.offset(variance, 1e-6).unwrap();
            let root = b.sqrt(shifted).unwrap();
            let reciprocal = b.reciprocal(root).unwrap();
            let factor = b.mul(reciprocal, scale).unwrap();
            let left = b.mul(x, factor).unwrap();
            let product = b.mul(mean, factor).unwrap();
            let right = b.sub(bias, product).unwrap();
            b.add(left, right).unwrap()
        });
        assert_eq!(ops_after(&g, super::run), ["layer-norm"]);
    }

    #[test]
    fn a_middle_axis_is_not() {
        let g = with_input([2, 3, 8], |b, x| {
            let scale = parameter(b, 1);
            let mean = b.mean(x, &[1], true).unwrap();
            let centered = b.sub(x, mean).unwrap();
            let square = b.mul(centered, centered).unwrap();
            let variance = b.mean(square, &[1], true).unwrap();
            let shifted = b.offset(variance, 1e-5).unwrap();
            let root = b.sqrt(shifted).unwrap();
            let normal = b.div(centered, root).unwrap();
            b.mul(normal, scale).unwrap()
        });
        assert!(!ops_after(&g, super::run).contains(&"layer-norm"));
    }
}
