//! Only the last of consecutive reshapes counts.

use anychip_ir::{Builder, Graph, IrError, Op, Prim, ValueId};

use crate::simplify_movement::keeps_order;
use crate::rebuild::{contains, unchanged};
use crate::{Outcome, Site, matching, replace};

pass! {
    /// - `reshape(reshape(x, a), b) => reshape(x, b)`
    /// - `transpose(x, p) => reshape(x, p of its shape)` where only dims of size 1 move
    pub(crate) const MERGE_RESHAPES = "merge-reshapes", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    if !contains(graph, &|op| matches!(op, Op::Prim(Prim::Reshape | Prim::Transpose { .. }))) {
        return Ok(unchanged(graph));
    }
    replace(graph, &mut rule)
}

fn rule(b: &mut Builder, site: &Site<'_>) -> Result<Option<ValueId>, IrError> {
    match site.node.op.prim() {
        Some(Prim::Reshape) => match matching::reshape(b.graph(), site.inputs[0]) {
            Some(x) => b.prim(Prim::Reshape, &[x, site.inputs[1]]).map(Some),
            None => Ok(None),
        },
        Some(Prim::Transpose { permutation }) => {
            let dims = b.dims(site.inputs[0]);
            if !keeps_order(&dims, permutation) {
                return Ok(None);
            }
            let moved: Vec<_> = permutation.iter().map(|&p| dims[p].clone()).collect();
            b.reshape(site.inputs[0], &moved).map(Some)
        }
        _ => Ok(None),
    }
}
