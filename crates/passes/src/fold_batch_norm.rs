//! Batch normalization with constant statistics is one product and one sum.

use anychip_ir::{Builder, Graph, IrError, ValueId};
use anychip_ops::BatchNorm;
use anychip_tensor::Dim;

use crate::rebuild::{contains, unchanged};
use crate::{Outcome, Site, matching::is_constant, replace};

pass! {
    /// `batch-norm(x, scale, bias, mean, variance) => x · f + (bias - mean · f)` with `f = scale / √(variance + ε)`, where
    /// all but `x` are constant; `fold-scale-and-bias` then moves both into the convolution before it
    pub(crate) const FOLD_BATCH_NORM = "fold-batch-norm", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    if !contains(graph, &|op| op.composite::<BatchNorm>().is_some()) {
        return Ok(unchanged(graph));
    }
    replace(graph, &mut rule)
}

fn rule(b: &mut Builder, site: &Site<'_>) -> Result<Option<ValueId>, IrError> {
    let Some(norm) = site.node.op.composite::<BatchNorm>() else { return Ok(None) };
    let &[x, scale, bias, mean, variance] = site.inputs else { return Ok(None) };
    let parameters = [scale, bias, mean, variance];
    let dtype = b.dtype(x);
    if !parameters.iter().all(|&v| is_constant(b.graph(), v) && b.dtype(v) == dtype) {
        return Ok(None);
    }
    let shifted = b.offset(variance, f64::from(norm.epsilon))?;
    let deviation = b.sqrt(shifted)?;
    let factor = b.div(scale, deviation)?;
    let removed = b.mul(mean, factor)?;
    let term = b.sub(bias, removed)?;
    // [c] as [c, 1, …, 1], so that it broadcasts over the dims after the channels.
    let trailing = b.rank(x).saturating_sub(2);
    let mut per_channel = |v: ValueId| {
        let mut dims = b.dims(v);
        dims.extend(std::iter::repeat_n(Dim::Fixed(1), trailing));
        b.reshape(v, &dims)
    };
    let (factor, term) = (per_channel(factor)?, per_channel(term)?);
    let scaled = b.mul(x, factor)?;
    b.add(scaled, term).map(Some)
}
