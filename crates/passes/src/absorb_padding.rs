//! A convolution pads its input itself.

use anychip_ir::{Builder, Graph, IrError, Op, Prim, ValueId};

use crate::rebuild::{contains, unchanged};
use crate::{Outcome, Site, matching, replace};

pass! {
    /// `convolution(pad(x, low, high, 0)) => convolution(x)` with the padding added to its own, where only spatial
    /// dims are padded
    pub(crate) const ABSORB_PADDING = "absorb-padding", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    if !contains(graph, &|op| matches!(op, Op::Prim(Prim::Pad))) {
        return Ok(unchanged(graph));
    }
    replace(graph, &mut rule)
}

fn rule(b: &mut Builder, site: &Site<'_>) -> Result<Option<ValueId>, IrError> {
    let Some(Prim::Convolution(dims, output)) = site.node.op.prim() else { return Ok(None) };
    let Some((Prim::Pad, pad)) = matching::prim(b.graph(), site.inputs[0]) else {
        return Ok(None);
    };
    let &[x, low, high, value] = pad.inputs.as_slice() else { return Ok(None) };
    let (Some(low), Some(high)) =
        (b.graph().constant_integers(low), b.graph().constant_integers(high))
    else {
        return Ok(None);
    };
    let zero = matching::uniform(b.graph(), value) == Some(0.0);
    // Cropping what was stretched is not what the convolution's own padding does.
    let spatial_only = low.iter().chain(&high).all(|&p| p >= 0)
        && [low[0], low[1], high[0], high[1]] == [0; 4]
        && dims.padding.iter().all(|&(low, high)| low >= 0 && high >= 0)
        && dims.input_dilation.iter().all(|&d| d == 1);
    if !zero || !spatial_only {
        return Ok(None);
    }
    let mut dims = dims.clone();
    for (own, (more_low, more_high)) in
        dims.padding.iter_mut().zip(low[2..].iter().zip(&high[2..]))
    {
        *own = (own.0 + more_low, own.1 + more_high);
    }
    let mut operands = site.inputs.to_vec();
    operands[0] = x;
    b.prim(Prim::Convolution(dims, *output), &operands).map(Some)
}
