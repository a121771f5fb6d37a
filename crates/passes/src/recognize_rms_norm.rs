//! Root-mean-square normalization spelled out.

use std::sync::Arc;

use anychip_ir::{Graph, IrError, Op};
use anychip_ops::RmsNorm;

use crate::Outcome;
use crate::matching::Pattern;
use crate::recognize::{Found, recognize};
use crate::recognize_layer_norm::last_axes;

pass! {
    /// `x / √(mean(x²) + ε) · scale => rms-norm(x, scale)`, over the last dims; the root may be a reciprocal
    /// that multiplies
    pub(crate) const RECOGNIZE_RMS_NORM = "recognize-rms-norm", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    let pattern = Pattern::new("x / sqrt(mean(x * x) + EPSILON) * scale");
    recognize(graph, run, &mut |graph, value| {
        let found = pattern.matches(graph, value)?;
        let axis = last_axes(graph, &found)?;
        let (x, scale) = (found.value("x"), found.value("scale"));
        if graph.ty(scale).rank() + axis > graph.ty(x).rank() {
            return None;
        }
        let epsilon = found.number("EPSILON") as f32;
        let op = Op::Composite(Arc::new(RmsNorm { axis, epsilon }));
        Some(Found { op, inputs: vec![x, scale], interior: found.interior })
    })
}

#[cfg(test)]
mod tests {
    use crate::recognize::tests::{ops_after, with_input};
    use anychip_ir::Composite;
    use anychip_ops::RmsNorm;
    use anychip_tensor::{DType, Tensor};

    #[test]
    fn its_own_expansion_is_recognized() {
        let g = with_input([2, 8], |b, x| {
            let scale = b.constant(Tensor::from_f64(DType::F32, [8], &[2.0; 8]).unwrap());
            RmsNorm { axis: 1, epsilon: 1e-6 }.expand(b, &[x, scale]).unwrap()[0]
        });
        assert_eq!(ops_after(&g, super::run), ["rms-norm"]);
    }

    #[test]
    fn llama_multiplies_by_the_reciprocal_root_first() {
        let g = with_input([2, 8], |b, x| {
            let scale = b.constant(Tensor::from_f64(DType::F32, [8], &[2.0; 8]).unwrap());
            let square = b.mul(x, x).unwrap();
            let mean = b.mean(square, &[1], true).unwrap();
            let shifted = b.offset(mean, 1e-6).unwrap();
            let root = b.sqrt(shifted).unwrap();
            let reciprocal = b.reciprocal(root).unwrap();
            let normal = b.mul(x, reciprocal).unwrap();
            b.mul(scale, normal).unwrap()
        });
        assert_eq!(ops_after(&g, super::run), ["rms-norm"]);
    }
}
