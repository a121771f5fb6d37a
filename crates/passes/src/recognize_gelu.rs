//! GELU spelled out, exact or by tanh.

use std::sync::Arc;

use anychip_ir::{Graph, IrError, Op};
use anychip_ops::Gelu;

use crate::Outcome;
use crate::recognize::{Found, first_match, patterns, recognize};

pass! {
    /// - `½ · x · (1 + erf(x / √2)) => gelu(x)`
    /// - `½ · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))) => gelu(x)` by tanh
    pub(crate) const RECOGNIZE_GELU = "recognize-gelu", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    // x³ is a product by now: `simplify-arithmetic` has replaced small powers.
    let patterns = patterns(&[
        "0.5 * x * (1 + erf(x * 0.70710678))",
        "0.5 * x * (1 + tanh(0.79788456 * (x + 0.044715 * x * x * x)))",
        "0.5 * x * (1 + tanh(0.79788456 * x * (1 + 0.044715 * x * x)))",
        "0.5 * x * (1 + tanh(0.79788456 * x + 0.035677408 * x * x * x))",
    ]);
    recognize(graph, run, &mut |graph, value| {
        let (which, found) = first_match(&patterns, graph, value)?;
        let op = Op::Composite(Arc::new(Gelu { tanh: which > 0 }));
        Some(Found { op, inputs: vec![found.value("x")], interior: found.interior })
    })
}

#[cfg(test)]
mod tests {
    use crate::recognize::tests::{ops_after, with_input};
    use anychip_ir::{Builder, Composite, ValueId};
    use anychip_ops::Gelu;

    #[test]
    fn its_own_expansion_is_recognized() {
        for tanh in [false, true] {
            let g = with_input([2, 8, 8], |b, x| Gelu { tanh }.expand(b, &[x]).unwrap()[0]);
            assert_eq!(ops_after(&g, super::run), ["gelu"]);
        }
    }

    #[test]
    fn exporters_divide_by_the_root_of_two() {
        let g = with_input([2, 8, 8], |b: &mut Builder, x: ValueId| {
            let root = b.scalar_like(x, std::f64::consts::SQRT_2).unwrap();
            let ratio = b.div(x, root).unwrap();
            let erf = b.erf(ratio).unwrap();
            let gate = b.offset(erf, 1.0).unwrap();
            let product = b.mul(x, gate).unwrap();
            b.scale(product, 0.5).unwrap()
        });
        assert_eq!(ops_after(&g, super::run), ["gelu"]);
    }

    #[test]
    fn gpt2_raises_to_the_third_power() {
        let g = with_input([2, 8, 8], |b: &mut Builder, x: ValueId| {
            let three = b.scalar_like(x, 3.0).unwrap();
            let cube = b.pow(x, three).unwrap();
            let term = b.scale(cube, 0.044_715).unwrap();
            let sum = b.add(x, term).unwrap();
            let scaled = b.scale(sum, 0.797_884_56).unwrap();
            let curve = b.tanh(scaled).unwrap();
            let gate = b.offset(curve, 1.0).unwrap();
            let half = b.scale(x, 0.5).unwrap();
            b.mul(half, gate).unwrap()
        });
        let g = crate::optimize(&g, &mut |_| {}).unwrap();
        assert_eq!(g.nodes().iter().map(|n| n.op.name()).collect::<Vec<_>>(), ["gelu"]);
    }

    #[test]
    fn another_constant_is_another_function() {
        let g = with_input([2, 8, 8], |b: &mut Builder, x: ValueId| {
            let scaled = b.scale(x, 0.8).unwrap();
            let erf = b.erf(scaled).unwrap();
            let gate = b.offset(erf, 1.0).unwrap();
            let half = b.scale(x, 0.5).unwrap();
            b.mul(half, gate).unwrap()
        });
        assert!(!ops_after(&g, super::run).contains(&"gelu"));
    }
}
