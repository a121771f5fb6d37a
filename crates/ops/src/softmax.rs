//! Softmax along one axis.

use anychip_ir::{Builder, Expand, IrError, ReduceKind, ValueId, composite, operands};

composite! {
    /// `(x) → e^(x − max) / Σ e^(x − max)` along `axis`
    pub struct Softmax = "softmax" {
        /// Which dim.
        pub axis: usize,
    }
    example: Softmax { axis: 1 }
}

impl Expand for Softmax {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x] = operands("softmax", x)?;
        let largest = b.reduce(ReduceKind::Max, x, &[self.axis], true)?;
        let shifted = b.sub(x, largest)?;
        let powers = b.exp(shifted)?;
        let sum = b.reduce(ReduceKind::Sum, powers, &[self.axis], true)?;
        Ok(vec![b.div(powers, sum)?])
    }
}
