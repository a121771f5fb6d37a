//! `SiLU`, also called swish.

use anychip_ir::{Builder, Expand, IrError, ValueId, composite, operands};

composite! {
    /// `(x) → x · sigmoid(x)`
    pub struct Silu = "silu" {}
    example: Silu {}
}

impl Expand for Silu {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x] = operands("silu", x)?;
        let gate = b.sigmoid(x)?;
        Ok(vec![b.mul(x, gate)?])
    }
}
