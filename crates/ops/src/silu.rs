//! `SiLU`, also called swish.

use anychip_ir::{Builder, Expand, IrError, ValueId, composite};

composite! {
    /// `(x) → x · sigmoid(x)`
    pub struct Silu = "silu" {}
    example: Silu {}
}

impl Expand for Silu {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let &[x] = x else {
            return Err(IrError::OperandCount { op: "silu", expected: 1, found: x.len() });
        };
        let gate = b.sigmoid(x)?;
        Ok(vec![b.mul(x, gate)?])
    }
}
