//! `SiLU`, also called swish.

use anychip_ir::{Builder, Expand, IrError, ValueId, composite};

composite! {
    /// `(x) → x · sigmoid(x)`
    pub struct Silu = "silu" {}
    example: Silu {}
}

impl Expand for Silu {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let gate = b.sigmoid(x[0])?;
        Ok(vec![b.mul(x[0], gate)?])
    }
}
