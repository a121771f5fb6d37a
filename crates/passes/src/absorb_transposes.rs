//! A dot product reads its operands in any order of dims.

use anychip_ir::{Builder, DotDims, Graph, IrError, Op, Prim, ValueId};

use crate::rebuild::{contains, unchanged};
use crate::{Outcome, Site, matching, replace};

pass! {
    /// `dot(transpose(x, p), y) => dot(x, y)` with the dims renumbered, where the free dims keep their order
    pub(crate) const ABSORB_TRANSPOSES = "absorb-transposes", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    if !contains(graph, &|op| matches!(op, Op::Prim(Prim::Transpose { .. }))) {
        return Ok(unchanged(graph));
    }
    replace(graph, &mut rule)
}

fn rule(b: &mut Builder, site: &Site<'_>) -> Result<Option<ValueId>, IrError> {
    let Some(Prim::DotGeneral(dims, output)) = site.node.op.prim() else { return Ok(None) };
    let mut dims: DotDims = dims.clone();
    let mut operands = [site.inputs[0], site.inputs[1]];
    let mut changed = false;
    for (side, operand) in operands.iter_mut().enumerate() {
        let Some((x, permutation)) = matching::transpose(b.graph(), *operand) else {
            continue;
        };
        let (batch, contract) = if side == 0 {
            (&mut dims.lhs_batch, &mut dims.lhs_contract)
        } else {
            (&mut dims.rhs_batch, &mut dims.rhs_contract)
        };
        let free = (0..permutation.len())
            .filter(|d| !batch.contains(d) && !contract.contains(d))
            .map(|d| permutation[d]);
        if !free.is_sorted() {
            continue;
        }
        for dim in batch.iter_mut().chain(contract.iter_mut()) {
            *dim = permutation[*dim];
        }
        *operand = x;
        changed = true;
    }
    if changed { b.prim(Prim::DotGeneral(dims, *output), &operands).map(Some) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use crate::recognize::tests::{ops_after, with_input};
    use anychip_tensor::DType;

    #[test]
    fn transposed_keys_are_read_as_they_lie() {
        let g = with_input([2, 5, 4, 8], |b, x| {
            let heads = b.transpose(x, &[0, 2, 1, 3]).unwrap();
            let keys = b.transpose(x, &[0, 2, 3, 1]).unwrap();
            b.matmul(heads, keys, DType::F32).unwrap()
        });
        assert_eq!(ops_after(&g, super::run), ["dot-general"]);
    }

    #[test]
    fn free_dims_that_change_places_stay_transposed() {
        let g = with_input([4, 5, 8], |b, x| {
            let t = b.transpose(x, &[1, 0, 2]).unwrap();
            let w = b.input("w", anychip_ir::TensorType::new(DType::F32, [8usize, 3]));
            b.matmul(t, w, DType::F32).unwrap()
        });
        assert_eq!(ops_after(&g, super::run), ["transpose", "dot-general"]);
    }
}
