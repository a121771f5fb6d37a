//! The sigmoid linear unit spelled out.

use std::sync::Arc;

use anychip_ir::{Graph, IrError, Op};
use anychip_ops::Silu;

use crate::Outcome;
use crate::matching::Pattern;
use crate::recognize::{Found, recognize};

pass! {
    /// `x · sigmoid(x) => silu(x)`
    pub(crate) const RECOGNIZE_SILU = "recognize-silu", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    let pattern = Pattern::new("x * sigmoid(x)");
    recognize(graph, run, &mut |graph, value| {
        let found = pattern.matches(graph, value)?;
        let op = Op::Composite(Arc::new(Silu {}));
        Some(Found { op, inputs: vec![found.value("x")], interior: found.interior })
    })
}

#[cfg(test)]
mod tests {
    use crate::recognize::tests::{ops_after, with_input};
    use anychip_ir::Composite;
    use anychip_ops::Silu;

    #[test]
    fn its_own_expansion_is_recognized() {
        let g = with_input([3, 3], |b, x| Silu {}.expand(b, &[x]).unwrap()[0]);
        assert_eq!(ops_after(&g, super::run), ["silu"]);
    }

    #[test]
    fn the_gate_of_another_value_is_not() {
        let g = with_input([3, 3], |b, x| {
            let other = b.exp(x).unwrap();
            let gate = b.sigmoid(other).unwrap();
            b.mul(x, gate).unwrap()
        });
        assert!(!ops_after(&g, super::run).contains(&"silu"));
    }
}
