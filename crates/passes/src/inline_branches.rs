//! A branch that is always taken takes the place of the choice.

use anychip_ir::{Graph, IrError, Op, Prim, inline};

use crate::rebuild::{contains, unchanged};
use crate::{Outcome, Verdict, rebuild};

pass! {
    /// `if(true, then, else) => then`, `if(false, then, else) => else`
    pub(crate) const INLINE_BRANCHES = "inline-branches", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    if !contains(graph, &|op| matches!(op, Op::Prim(Prim::If))) {
        return Ok(unchanged(graph));
    }
    rebuild(graph, &mut |b, site| {
        let Some(Prim::If) = site.node.op.prim() else { return Ok(Verdict::Keep) };
        let Some(condition) = b.known_integers(site.inputs[0]) else { return Ok(Verdict::Keep) };
        let [condition] = condition[..] else { return Ok(Verdict::Keep) };
        let taken = &site.node.regions[usize::from(condition == 0)];
        inline(b, taken, &site.inputs[1..]).map(Verdict::Replace)
    })
}
