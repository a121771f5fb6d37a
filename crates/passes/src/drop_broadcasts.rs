//! Elementwise operations broadcast by themselves.

use anychip_ir::{Builder, Graph, IrError, Op, Prim, ValueId};

use crate::rebuild::{contains, unchanged};
use crate::{Elementwise, Outcome, Site, matching, replace};

pass! {
    /// - `f(broadcast(x), y) => f(x, y)` for elementwise `f`, where the shape of the result stays
    /// - `broadcast(broadcast(x, a), b) => broadcast(x, b)`
    pub(crate) const DROP_BROADCASTS = "drop-broadcasts", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    if !contains(graph, &|op| matches!(op, Op::Prim(Prim::Broadcast))) {
        return Ok(unchanged(graph));
    }
    replace(graph, &mut rule)
}

fn rule(b: &mut Builder, site: &Site<'_>) -> Result<Option<ValueId>, IrError> {
    let Some(prim) = site.node.op.prim() else { return Ok(None) };
    let unbroadcast = |b: &Builder, v: ValueId| match matching::prim(b.graph(), v) {
        Some((Prim::Broadcast, node)) => Some(node.inputs[0]),
        _ => None,
    };
    if matches!(prim, Prim::Broadcast) {
        return match unbroadcast(b, site.inputs[0]) {
            Some(x) => b.prim(Prim::Broadcast, &[x, site.inputs[1]]).map(Some),
            None => Ok(None),
        };
    }
    if site.inputs.len() < 2 || !Elementwise::prim(prim) {
        return Ok(None);
    }
    let mut operands = site.inputs.to_vec();
    let mut changed = false;
    for i in 0..operands.len() {
        let Some(x) = unbroadcast(b, operands[i]) else { continue };
        let (wide, narrow) = (b.ty(operands[i]), b.ty(x));
        // Each dim that loses its breadth must have it from another operand, by the very same name.
        let fits = (0..wide.rank()).all(|from_end| {
            let at = |rank: usize, shape: &[anychip_tensor::Dim]| {
                rank.checked_sub(from_end + 1).map(|d| shape[d].clone())
            };
            let dim = at(wide.rank(), &wide.shape);
            dim == at(narrow.rank(), &narrow.shape)
                || operands.iter().enumerate().any(|(j, &other)| {
                    let other = b.ty(other);
                    j != i && at(other.rank(), &other.shape) == dim
                })
        });
        if fits {
            operands[i] = x;
            changed = true;
        }
    }
    if changed { b.prim(prim.clone(), &operands).map(Some) } else { Ok(None) }
}
