//! Logarithm of softmax along one axis.

use anychip_ir::{Builder, Expand, IrError, ReduceKind, ValueId, composite, operands};

composite! {
    /// `(x) → (x − max) − log Σ e^(x − max)` along `axis`
    pub struct LogSoftmax = "log-softmax" {
        /// Which dim.
        pub axis: usize,
    }
    example: LogSoftmax { axis: 1 }
}

impl Expand for LogSoftmax {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x] = operands("log-softmax", x)?;
        let largest = b.reduce(ReduceKind::Max, x, &[self.axis], true)?;
        let shifted = b.sub(x, largest)?;
        let powers = b.exp(shifted)?;
        let sum = b.reduce(ReduceKind::Sum, powers, &[self.axis], true)?;
        let log = b.log(sum)?;
        Ok(vec![b.sub(shifted, log)?])
    }
}
