//! Movement of data that moves nothing.

use anychip_ir::{Builder, Graph, IrError, Prim, ValueId};
use anychip_tensor::Dim;

use crate::matching::{inverse, is_identity};
use crate::{Outcome, Site, replace};

pass! {
    /// - `reshape(x, shape of x) => x`, `broadcast(x, shape of x) => x`, `transpose(x, identity) => x`
    /// - `slice(x, everything) => x`, `pad(x, 0, 0) => x`, `concat(x) => x`
    /// - `concat(…, empty, …) => concat(…, …)`
    /// - `broadcast(x, 1 × shape of x) => reshape(x, 1 × shape of x)`
    /// - `take(x, [0]) => x` and `take(x, 0) => reshape(x)` where the dim is 1
    pub(crate) const SIMPLIFY_MOVEMENT = "simplify-movement", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    replace(graph, &mut rule)
}

fn rule(b: &mut Builder, site: &Site<'_>) -> Result<Option<ValueId>, IrError> {
    let Some(prim) = site.node.op.prim() else { return Ok(None) };
    let x = |i: usize| site.inputs[i];
    Ok(match prim {
        Prim::Reshape => b.known(x(1)).is_some_and(|s| s == b.ty(x(0)).shape).then(|| x(0)),
        Prim::Broadcast => {
            let Some(target) = b.known(x(1)).map(<[Dim]>::to_vec) else { return Ok(None) };
            let own = b.dims(x(0));
            if target == own {
                return Ok(Some(x(0)));
            }
            let added = target.len().saturating_sub(own.len());
            let only_ones = target[..added].iter().all(|d| d.fixed() == Some(1));
            if only_ones && target[added..] == own[..] {
                return b.prim(Prim::Reshape, &[x(0), x(1)]).map(Some);
            }
            None
        }
        Prim::Transpose { permutation } => is_identity(permutation).then(|| x(0)),
        Prim::Slice { axes } => {
            let steps = b.known_integers(x(3)).unwrap_or_default();
            let whole = steps.len() == axes.len()
                && steps.iter().all(|&s| s == 1)
                && whole_slice(b, site, axes);
            whole.then(|| x(0))
        }
        Prim::Pad => {
            let nothing = |b: &Builder, v: ValueId| {
                b.known_integers(v).is_some_and(|amounts| amounts.iter().all(|&a| a == 0))
            };
            (nothing(b, x(1)) && nothing(b, x(2))).then(|| x(0))
        }
        Prim::Concat { axis } => {
            let full: Vec<ValueId> = site
                .inputs
                .iter()
                .copied()
                .filter(|&v| b.ty(v).shape[*axis] != Dim::Fixed(0))
                .collect();
            match full[..] {
                [] => None,
                [only] => Some(only),
                _ if full.len() < site.inputs.len() => {
                    return b.prim(Prim::Concat { axis: *axis }, &full).map(Some);
                }
                _ => None,
            }
        }
        Prim::Take { axis } => {
            let one = b.ty(x(0)).shape[*axis] == Dim::Fixed(1);
            match b.known_integers(x(1)) {
                Some(indices) if one && matches!(indices[..], [0 | -1]) => {
                    match b.rank(x(1)) {
                        0 => return b.squeeze(x(0), &[*axis]).map(Some),
                        1 => Some(x(0)),
                        _ => None,
                    }
                }
                _ => None,
            }
        }
        Prim::Constant(_)
        | Prim::Iota
        | Prim::Random { .. }
        | Prim::Unary(_)
        | Prim::Binary(_)
        | Prim::Compare(_)
        | Prim::Select
        | Prim::Cast { .. }
        | Prim::BitCast { .. }
        | Prim::DotGeneral(..)
        | Prim::Convolution(..)
        | Prim::Reduce { .. }
        | Prim::ArgReduce { .. }
        | Prim::ReduceWindow { .. }
        | Prim::Cumulative { .. }
        | Prim::TopK { .. }
        | Prim::ShapeOf
        | Prim::TakeAlong { .. }
        | Prim::GatherNd { .. }
        | Prim::ScatterAlong { .. }
        | Prim::ScatterNd { .. }
        | Prim::NonZero
        | Prim::Quantize { .. }
        | Prim::Dequantize { .. }
        | Prim::Requantize { .. }
        | Prim::If
        | Prim::Loop { .. } => None,
    })
}

/// Whether a slice with steps of 1 takes every element: it starts at 0 and ends at the dim or beyond.
fn whole_slice(b: &Builder, site: &Site<'_>, axes: &[usize]) -> bool {
    let (Some(starts), Some(ends)) = (b.known(site.inputs[1]), b.known(site.inputs[2])) else {
        return false;
    };
    let x = b.ty(site.inputs[0]);
    axes.iter().zip(starts).zip(ends).all(|((&axis, start), end)| {
        let dim = &x.shape[axis];
        let reaches = match ((end.clone() - dim.clone()).constant(), end.constant()) {
            (Some(beyond), _) if beyond >= 0 => true,
            // How exporters write "to the end" of a dim that only a run can tell.
            (_, Some(end)) => end >= i64::from(i32::MAX),
            _ => false,
        };
        start.constant() == Some(0) && reaches
    })
}

/// Whether a permutation moves only dims of size 1 past others, so that the elements stay in order.
pub(crate) fn keeps_order(dims: &[Dim], permutation: &[usize]) -> bool {
    let order = inverse(permutation);
    let moved: Vec<usize> =
        (0..dims.len()).filter(|&i| dims[i].fixed() != Some(1)).map(|i| order[i]).collect();
    moved.is_sorted()
}
