//! Consecutive transposes are one.

use anychip_ir::{Builder, Graph, IrError, Op, Prim, ValueId};

use crate::rebuild::{contains, unchanged};
use crate::{Outcome, Site, matching, replace};

pass! {
    /// `transpose(transpose(x, p), q) => transpose(x, p∘q)`, and `x` where that is the identity
    pub(crate) const MERGE_TRANSPOSES = "merge-transposes", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    if !contains(graph, &|op| matches!(op, Op::Prim(Prim::Transpose { .. }))) {
        return Ok(unchanged(graph));
    }
    replace(graph, &mut rule)
}

/// Also what [`crate::pipeline::sink_transposes`] applies between its rounds.
pub(crate) fn rule(b: &mut Builder, site: &Site<'_>) -> Result<Option<ValueId>, IrError> {
    let Some(Prim::Transpose { permutation }) = site.node.op.prim() else { return Ok(None) };
    let Some((x, inner)) = matching::transpose(b.graph(), site.inputs[0]) else { return Ok(None) };
    let merged: Vec<usize> = permutation.iter().map(|&p| inner[p]).collect();
    b.transpose(x, &merged).map(Some)
}
