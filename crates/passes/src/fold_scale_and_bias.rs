//! Constants that scale or shift a convolution or dot product become part of its weights.

use anychip_ir::{Binary, Builder, Graph, IrError, Prim, ValueId};
use anychip_tensor::Dim;

use crate::matching::{self, is_constant};
use crate::{Outcome, Site, replace};

pass! {
    /// - `conv(x, w) · c => conv(x, w · c)`, `dot(x, w) · c => dot(x, w · c)` for constant `w` and `c`, `c` one number or one
    ///   an output channel
    /// - `(y + c) · d => y · d + c · d` where `y` is such a convolution or dot product, so that the first applies
    /// - `(y + c) + d => y + (c + d)` likewise, and `y - c => y + (-c)`
    pub(crate) const FOLD_SCALE_AND_BIAS = "fold-scale-and-bias", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    replace(graph, &mut rule)
}

fn rule(b: &mut Builder, site: &Site<'_>) -> Result<Option<ValueId>, IrError> {
    let Some(Prim::Binary(binary)) = site.node.op.prim() else { return Ok(None) };
    let &[left, right] = &site.node.inputs[..] else { return Ok(None) };
    let constant = |v: ValueId| is_constant(site.graph, v);
    let (y, c) = match (constant(left), constant(right)) {
        (false, true) => (0, 1),
        (true, false) if matches!(binary, Binary::Add | Binary::Mul) => (1, 0),
        _ => return Ok(None),
    };
    let ty = site.graph.ty(site.node.outputs[0]);
    // A constant that widens the result is no scale of what is there. A result that has other users must
    // stay as it is for them.
    if site.graph.ty(site.node.inputs[y]) != ty
        || !ty.dtype.is_float()
        || !site.uses.single(site.node.inputs[y])
    {
        return Ok(None);
    }
    let old = site.node.inputs[y];
    let (y, c) = (site.inputs[y], site.inputs[c]);
    match binary {
        Binary::Mul | Binary::Div => {
            let c = if *binary == Binary::Div { b.reciprocal(c)? } else { c };
            if let Some((sum, term)) = weighted_sum(site, b, old, y) {
                let Some(scaled) = scale_weights(b, sum, c)? else { return Ok(None) };
                let term = b.mul(term, c)?;
                return b.add(scaled, term).map(Some);
            }
            scale_weights(b, y, c)
        }
        Binary::Add | Binary::Sub => {
            if weights(b, y).is_some() {
                // A difference becomes a sum, the one form that the other rules and kernels look for.
                if *binary == Binary::Sub {
                    let c = b.neg(c)?;
                    return b.add(y, c).map(Some);
                }
                return Ok(None);
            }
            let Some((sum, term)) = weighted_sum(site, b, old, y) else { return Ok(None) };
            let term = if *binary == Binary::Sub { b.sub(term, c)? } else { b.add(term, c)? };
            b.add(sum, term).map(Some)
        }
        Binary::Rem
        | Binary::Pow
        | Binary::Max
        | Binary::Min
        | Binary::And
        | Binary::Or
        | Binary::Xor
        | Binary::ShiftLeft
        | Binary::ShiftRight => Ok(None),
    }
}

/// `y = sum + term`, where `sum` is a weighted sum with constant weights that nothing else uses, and `term`
/// is constant.
fn weighted_sum(
    site: &Site<'_>,
    b: &Builder,
    old: ValueId,
    y: ValueId,
) -> Option<(ValueId, ValueId)> {
    let (l, r) = matching::binary(b.graph(), y, Binary::Add)?;
    let (old_l, old_r) = matching::binary(site.graph, old, Binary::Add)?;
    let (sum, term, old_sum) =
        if is_constant(b.graph(), r) { (l, r, old_l) } else { (r, l, old_r) };
    (is_constant(b.graph(), term)
        && weights(b, sum).is_some()
        && site.uses.single(old_sum)
        && b.ty(sum) == b.ty(y))
    .then_some((sum, term))
}

/// The primitive, operands and weights of a weighted sum with constant weights on the right.
fn weights(b: &Builder, y: ValueId) -> Option<(Prim, ValueId, ValueId)> {
    let (prim, node) = matching::prim(b.graph(), y)?;
    let (Prim::Convolution(_, dtype) | Prim::DotGeneral(_, dtype)) = prim else { return None };
    let (x, w) = (node.inputs[0], node.inputs[1]);
    (is_constant_value(b, w) && b.dtype(w) == *dtype).then(|| (prim.clone(), x, w))
}

/// Whether a value is constant or will be once constants are folded.
fn is_constant_value(b: &Builder, v: ValueId) -> bool {
    is_constant(b.graph(), v)
        || b.graph().producer(v).is_some_and(|n| {
            n.op.prim().is_some_and(|p| {
                matches!(p, Prim::Binary(_) | Prim::Reshape | Prim::Transpose { .. })
            }) && n.inputs.iter().all(|&i| is_constant_value(b, i))
        })
}

/// `y · c` by scaling the weights of `y`, where `c` is one number or varies along output channels only.
fn scale_weights(b: &mut Builder, y: ValueId, c: ValueId) -> Result<Option<ValueId>, IrError> {
    let Some((prim, x, w)) = weights(b, y) else { return Ok(None) };
    let (rank, shape) = (b.rank(y), b.dims(c));
    if shape.len() > rank {
        return Ok(None);
    }
    // The dims of the result along which `c` varies.
    let first = rank - shape.len();
    let varies: Vec<usize> =
        (0..shape.len()).filter(|&i| shape[i].fixed() != Some(1)).map(|i| first + i).collect();
    let w_rank = b.rank(w);
    let mut dims = vec![Dim::Fixed(1); w_rank];
    if let Prim::DotGeneral(dot, _) = &prim {
        let free: Vec<usize> = (0..w_rank)
            .filter(|d| !dot.rhs_batch.contains(d) && !dot.rhs_contract.contains(d))
            .collect();
        for &dim in &varies {
            // The free dims of the weights are the last of the result.
            let Some(i) = (dim + free.len()).checked_sub(rank) else { return Ok(None) };
            dims[free[i]] = shape[dim - first].clone();
        }
    } else if let Prim::Convolution(..) = &prim {
        match varies[..] {
            [] => {}
            [1] => dims[0] = shape[1 - first].clone(),
            _ => return Ok(None),
        }
    } else {
        return Ok(None);
    }
    let c = b.reshape(c, &dims)?;
    let scaled = b.mul(w, c)?;
    b.prim(prim, &[x, scaled]).map(Some)
}
