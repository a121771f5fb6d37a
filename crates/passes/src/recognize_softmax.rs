//! Softmax and its logarithm spelled out.

use anychip_ir::{Graph, IrError, Op};
use anychip_ops::{LogSoftmax, Softmax};
use std::sync::Arc;

use crate::Outcome;
use crate::recognize::{Found, first_match, patterns, recognize};

pass! {
    /// - `exp(x - largest(x)) / sum(exp(x - largest(x))) => softmax(x)`, all along one axis
    /// - `x - largest(x) - log(sum(exp(x - largest(x)))) => log-softmax(x)`
    /// - `log(softmax(x)) => log-softmax(x)`, which does not lose small weights
    pub(crate) const RECOGNIZE_SOFTMAX = "recognize-softmax", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    let patterns = patterns(&[
        "exp(x - largest(x)) / sum(exp(x - largest(x)))",
        "x - largest(x) - log(sum(exp(x - largest(x))))",
        "log(weights)",
    ]);
    recognize(graph, run, &mut |graph, value| {
        let (which, found) = first_match(&patterns, graph, value)?;
        if which == 2 {
            let weights = graph.producer(found.value("weights"))?;
            let axis = weights.op.composite::<Softmax>()?.axis;
            let op = Op::Composite(Arc::new(LogSoftmax { axis }));
            return Some(Found { op, inputs: weights.inputs.clone(), interior: vec![value] });
        }
        let [axis] = found.axes.as_deref()?[..] else { return None };
        let op: Op = if which == 0 {
            Op::Composite(Arc::new(Softmax { axis }))
        } else {
            Op::Composite(Arc::new(LogSoftmax { axis }))
        };
        Some(Found { op, inputs: vec![found.value("x")], interior: found.interior })
    })
}

#[cfg(test)]
mod tests {
    use crate::recognize::tests::{ops_after, with_input};
    use anychip_ir::Composite;
    use anychip_ops::{LogSoftmax, Softmax};

    #[test]
    fn its_own_expansion_is_recognized() {
        for axis in [0, 1, 2] {
            let softmax = with_input([2, 3, 4], |b, x| Softmax { axis }.expand(b, &[x]).unwrap()[0]);
            assert_eq!(ops_after(&softmax, super::run), ["softmax"]);
        }
        let log = with_input([2, 3, 4], |b, x| LogSoftmax { axis: 2 }.expand(b, &[x]).unwrap()[0]);
        assert_eq!(ops_after(&log, super::run), ["log-softmax"]);
    }

    #[test]
    fn different_axes_are_not() {
        let mixed = with_input([4, 4], |b, x| {
            let largest = b.reduce(anychip_ir::ReduceKind::Max, x, &[0], true).unwrap();
            let shifted = b.sub(x, largest).unwrap();
            let powers = b.exp(shifted).unwrap();
            let sum = b.reduce(anychip_ir::ReduceKind::Sum, powers, &[1], true).unwrap();
            b.div(powers, sum).unwrap()
        });
        assert!(!ops_after(&mixed, super::run).contains(&"softmax"));
    }
}
