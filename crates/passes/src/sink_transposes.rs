//! Moves transposes towards the outputs until they meet their inverses.
//!
//! TensorFlow keeps channels last and ONNX's convolutions want them first, so its exports wrap each
//! convolution in two transposes. Between two convolutions lie operations that do not care about the order
//! of dims: moved past them, the second transpose of one meets the first of the next, and both vanish.

use anychip_ir::{Builder, Graph, IrError, Op, Prim, ValueId};
use anychip_tensor::Dim;

use crate::matching::{self, inverse, is_constant, is_identity};
use crate::rebuild::{apply_to_regions, contains, unchanged};
use crate::simplify_movement::keeps_order;
use crate::{Elementwise, Outcome, PIPELINE, Site, Verdict, merge_transposes, rebuild};

pass! {
    /// `f(transpose(x, p), …) => transpose(f(x, …), p)` for elementwise `f`, concat, slice, pad, reduce and reshape with their
    /// dims renumbered, where the graph as a whole then transposes less data
    pub(crate) const SINK_TRANSPOSES = "sink-transposes", run;
}

/// What stands for a dim that only a run can tell when data is weighed.
const UNKNOWN_DIM: usize = 16;

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    if !contains(graph, &|op| matches!(op, Op::Prim(Prim::Transpose { .. }))) {
        return Ok(unchanged(graph));
    }
    let regions = graph.nodes().iter().any(|n| !n.regions.is_empty());
    let before = weight(graph);
    // A transpose that something else needs too would stay and its twin move on: first try without a care
    // for that, as both often cancel in the end.
    for duplicate in [true, false] {
        let outcome = sink(graph, duplicate)?;
        if outcome.changes == 0 {
            break;
        }
        let cleaned = clean(&outcome.graph)?;
        if weight(&cleaned) < before {
            return Ok(Outcome { graph: cleaned, changes: outcome.changes });
        }
    }
    if regions {
        return rebuild(graph, &mut |b, site| {
            if site.node.regions.is_empty() {
                Ok(Verdict::Keep)
            } else {
                apply_to_regions(b, site, run)
            }
        });
    }
    Ok(unchanged(graph))
}

fn clean(graph: &Graph) -> Result<Graph, IrError> {
    let mut graph = graph.clone();
    for name in ["merge-common-subexpressions", "remove-dead-code"] {
        for pass in PIPELINE.iter().filter(|p| p.name == name) {
            graph = (pass.run)(&graph)?.graph;
        }
    }
    Ok(graph)
}

/// Elements that transposes move when the graph runs.
fn weight(graph: &Graph) -> usize {
    graph
        .nodes()
        .iter()
        .map(|node| {
            let own = match &node.op {
                Op::Prim(Prim::Transpose { permutation })
                    if !is_constant(graph, node.inputs[0])
                        && !is_reshaped_constant(graph, node.inputs[0])
                        && !keeps_order(&graph.ty(node.inputs[0]).shape, permutation) =>
                {
                    graph.ty(node.inputs[0]).shape.iter().fold(1usize, |n, d| {
                        n.saturating_mul(d.fixed().unwrap_or(UNKNOWN_DIM))
                    })
                }
                _ => 0,
            };
            own + node.regions.iter().map(weight).sum::<usize>()
        })
        .fold(0, usize::saturating_add)
}

fn is_reshaped_constant(graph: &Graph, value: ValueId) -> bool {
    matching::reshape(graph, value).is_some_and(|x| is_constant(graph, x))
}

fn sink(graph: &Graph, duplicate: bool) -> Result<Outcome, IrError> {
    let mut elementwise = Elementwise::default();
    rebuild(graph, &mut |b, site| {
        if !site.node.regions.is_empty() {
            return apply_to_regions(b, site, run);
        }
        let moved = match merge_transposes::rule(b, site)? {
            Some(merged) => Some(merged),
            None if duplicate || operands_single(site) => past(b, site, &mut elementwise)?,
            None => None,
        };
        Ok(moved.map_or(Verdict::Keep, |value| Verdict::Replace(vec![value])))
    })
}

/// Whether no operand has another user.
fn operands_single(site: &Site<'_>) -> bool {
    site.node
        .inputs
        .iter()
        .all(|&v| site.uses.single(v) || is_constant(site.graph, v))
}

/// The node moved before the transposes of its operands.
fn past(
    b: &mut Builder,
    site: &Site<'_>,
    elementwise: &mut Elementwise,
) -> Result<Option<ValueId>, IrError> {
    let transposed =
        site.inputs.iter().find_map(|&v| Some(matching::transpose(b.graph(), v)?.1.to_vec()));
    let Some(permutation) = transposed else { return Ok(None) };
    match &site.node.op {
        Op::Prim(Prim::Concat { axis }) => {
            let mut operands = Vec::new();
            for &v in site.inputs {
                let Some(x) = before(b, v, &permutation, false)? else { return Ok(None) };
                operands.push(x);
            }
            let joined = b.prim(Prim::Concat { axis: permutation[*axis] }, &operands)?;
            b.transpose(joined, &permutation).map(Some)
        }
        Op::Prim(Prim::Reduce { kind, axes }) => {
            let Some((x, _)) = matching::transpose(b.graph(), site.inputs[0]) else {
                return Ok(None);
            };
            let mut moved: Vec<usize> = axes.iter().map(|&a| permutation[a]).collect();
            moved.sort_unstable();
            let reduced = b.prim(Prim::Reduce { kind: *kind, axes: moved.clone() }, &[x])?;
            // What is left of the permutation, with the reduced dims closed up.
            let left: Vec<usize> = (0..permutation.len())
                .filter(|i| !axes.contains(i))
                .map(|i| permutation[i] - moved.iter().filter(|&&m| m < permutation[i]).count())
                .collect();
            b.transpose(reduced, &left).map(Some)
        }
        Op::Prim(Prim::Slice { axes }) => {
            let Some((x, _)) = matching::transpose(b.graph(), site.inputs[0]) else {
                return Ok(None);
            };
            let axes = axes.iter().map(|&a| permutation[a]).collect();
            let mut operands = site.inputs.to_vec();
            operands[0] = x;
            let sliced = b.prim(Prim::Slice { axes }, &operands)?;
            b.transpose(sliced, &permutation).map(Some)
        }
        Op::Prim(Prim::Pad) => {
            let amounts = (b.known_integers(site.inputs[1]), b.known_integers(site.inputs[2]));
            let Some((x, _)) = matching::transpose(b.graph(), site.inputs[0]) else {
                return Ok(None);
            };
            let (Some(low), Some(high)) = amounts else { return Ok(None) };
            let order = inverse(&permutation);
            let (low, high): (Vec<i64>, Vec<i64>) =
                order.iter().map(|&i| (low[i], high[i])).unzip();
            let (low, high) = (b.integers(&low), b.integers(&high));
            let padded = b.prim(Prim::Pad, &[x, low, high, site.inputs[3]])?;
            b.transpose(padded, &permutation).map(Some)
        }
        Op::Prim(Prim::Reshape) => {
            let Some((x, _)) = matching::transpose(b.graph(), site.inputs[0]) else {
                return Ok(None);
            };
            let Some(target) = b.known(site.inputs[1]).map(<[Dim]>::to_vec) else {
                return Ok(None);
            };
            let from = b.dims(site.inputs[0]);
            let Some((dims, order)) = reshape_first(&from, &target, &permutation) else {
                return Ok(None);
            };
            // Two reshapes in a row are one, and often none.
            let x = matching::reshape(b.graph(), x).unwrap_or(x);
            let reshaped = b.reshape(x, &dims)?;
            b.transpose(reshaped, &order).map(Some)
        }
        op if elementwise.node(site.graph, site.node) => {
            if site.graph.ty(site.node.outputs[0]).rank() != permutation.len() {
                return Ok(None);
            }
            let mut operands = Vec::new();
            for &v in site.inputs {
                let Some(x) = before(b, v, &permutation, true)? else { return Ok(None) };
                operands.push(x);
            }
            let result = b.node(op.clone(), &operands, Vec::new())?[0];
            b.transpose(result, &permutation).map(Some)
        }
        Op::Prim(_) | Op::Composite(_) => Ok(None),
    }
}

/// A reshape from `from` to `to` after a transpose, as one before: its dims and the permutation that then
/// gives `to`. Each dim must be split or merged by itself, and what is merged must lie together before the
/// transpose.
fn reshape_first(from: &[Dim], to: &[Dim], permutation: &[usize]) -> Option<(Vec<Dim>, Vec<usize>)> {
    let mut segments = segments(from, to)?;
    for (inside, _) in &segments {
        let run = &permutation[inside.clone()];
        if !run.windows(2).all(|w| w[1] == w[0] + 1) {
            return None;
        }
    }
    // The segments in the order of the dims before the transpose.
    let mut starts = vec![0; to.len()];
    let mut dims = Vec::new();
    segments.sort_by_key(|(inside, _)| permutation[inside.start]);
    for (_, outside) in &segments {
        for axis in outside.clone() {
            starts[axis] = dims.len();
            dims.push(to[axis].clone());
        }
    }
    Some((dims, starts))
}

type Ranges = Vec<(std::ops::Range<usize>, std::ops::Range<usize>)>;

/// Pairs runs of dims with the same product, as short as they can be; every run on the left has a dim.
fn segments(from: &[Dim], to: &[Dim]) -> Option<Ranges> {
    let mut found: Ranges = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < from.len() && j < to.len() {
        let (start, begin) = (i, j);
        let (mut left, mut right) = (from[i].clone(), to[j].clone());
        (i, j) = (i + 1, j + 1);
        while left != right {
            if divides(&left, &right) && i < from.len() {
                left = left * from[i].clone();
                i += 1;
            } else if divides(&right, &left) && j < to.len() {
                right = right * to[j].clone();
                j += 1;
            } else {
                return None;
            }
        }
        found.push((start..i, begin..j));
    }
    // Dims of size 1 may be left over at the end.
    let ones = from[i..].iter().chain(&to[j..]).all(|d| d.fixed() == Some(1));
    let (last_from, last_to) = found.last_mut()?;
    last_from.end = from.len();
    last_to.end = to.len();
    ones.then_some(found)
}

fn divides(divisor: &Dim, product: &Dim) -> bool {
    *divisor != Dim::Fixed(0) && product.floor_div(divisor) * divisor.clone() == *product
}

/// The value that `v` is the transpose of: its operand, or `v` transposed backwards where that costs nothing
/// (constants, and values whose elements stay in order). A value with fewer dims broadcasts where allowed.
fn before(
    b: &mut Builder,
    v: ValueId,
    permutation: &[usize],
    broadcasts: bool,
) -> Result<Option<ValueId>, IrError> {
    if let Some((x, own)) = matching::transpose(b.graph(), v) {
        return Ok((own == permutation).then_some(x));
    }
    let dims = b.dims(v);
    let rank = permutation.len();
    if broadcasts && dims.iter().all(|d| d.fixed() == Some(1)) && dims.len() <= rank {
        return Ok(Some(v));
    }
    let mut wide = vec![Dim::Fixed(1); rank.saturating_sub(dims.len())];
    if !broadcasts && !wide.is_empty() {
        return Ok(None);
    }
    wide.extend(dims);
    let back = inverse(permutation);
    if is_identity(&back) || !(is_constant(b.graph(), v) || keeps_order(&wide, &back)) {
        return Ok(None);
    }
    let v = b.reshape(v, &wide)?;
    b.transpose(v, &back).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recognize::tests::{ops_after, with_input};
    use anychip_ir::ReduceKind;
    use anychip_tensor::{DType, Tensor};

    const FIRST: [usize; 4] = [0, 3, 1, 2];
    const LAST: [usize; 4] = [0, 2, 3, 1];

    #[test]
    fn a_pair_around_elementwise_work_vanishes() {
        let g = with_input([1, 8, 4, 4], |b, x| {
            let last = b.transpose(x, &LAST).unwrap();
            let bias = b.constant(Tensor::from_f64(DType::F32, [8], &[0.5; 8]).unwrap());
            let shifted = b.add(last, bias).unwrap();
            let zero = b.scalar_like(shifted, 0.0).unwrap();
            let relu = b.max(shifted, zero).unwrap();
            let first = b.transpose(relu, &FIRST).unwrap();
            b.exp(first).unwrap()
        });
        let ops = ops_after(&g, run);
        // The transpose that is left is that of the constant.
        assert_eq!(ops.iter().filter(|op| **op == "transpose").count(), 1);
        assert_eq!(weight(&run(&g).unwrap().graph), 0);
    }

    #[test]
    fn squeeze_and_excite_with_channels_last() {
        let g = with_input([1, 8, 4, 4], |b, x| {
            let last = b.transpose(x, &LAST).unwrap();
            let pooled = b.reduce(ReduceKind::Sum, last, &[1, 2], true).unwrap();
            let gate = b.sigmoid(pooled).unwrap();
            let gated = b.mul(last, gate).unwrap();
            b.transpose(gated, &FIRST).unwrap()
        });
        let after = run(&g).unwrap();
        assert!(after.changes > 0);
        assert_eq!(weight(&after.graph), 0);
    }

    #[test]
    fn axes_are_renumbered() {
        let g = with_input([1, 8, 4, 4], |b, x| {
            let last = b.transpose(x, &LAST).unwrap();
            let joined = b.concat(&[last, last], 3).unwrap();
            let sliced = b.slice(joined, 1, &Dim::Fixed(1), &Dim::Fixed(3)).unwrap();
            b.transpose(sliced, &FIRST).unwrap()
        });
        let after = run(&g).unwrap().graph;
        assert_eq!(after.ty(after.outputs()[0]).to_string(), "f32[1, 16, 2, 4]");
        assert_eq!(weight(&after), 0);
    }

    #[test]
    fn a_transpose_moves_past_split_and_merged_dims() {
        // How PyTorch transposes keys: batch and heads merged, transposed, split, transposed again.
        let mut b = Builder::new("keys");
        let n = Dim::sym("n");
        let dims = [n.clone(), 4.into(), 8.into(), 12.into()];
        let x = b.input("x", anychip_ir::TensorType::new(DType::F32, dims));
        let merged = b.reshape(x, &[n.clone() * 4.into(), 8.into(), 12.into()]).unwrap();
        let turned = b.transpose(merged, &[0, 2, 1]).unwrap();
        let split = b.reshape(turned, &[n, 4.into(), 12.into(), 8.into()]).unwrap();
        let back = b.transpose(split, &[0, 1, 3, 2]).unwrap();
        let y = b.exp(back).unwrap();
        let after = run(&b.finish(&[y])).unwrap().graph;
        let names: Vec<_> = after.nodes().iter().map(|n| n.op.name()).collect();
        assert_eq!(names, ["exp"]);
    }

    #[test]
    fn runs_of_dims_are_paired_by_their_products() {
        let dims = |d: &[usize]| d.iter().map(|&n| Dim::Fixed(n)).collect::<Vec<_>>();
        let pairs = |a: &[usize], b: &[usize]| segments(&dims(a), &dims(b));
        assert_eq!(pairs(&[6, 4], &[2, 3, 4]), Some(vec![(0..1, 0..2), (1..2, 2..3)]));
        assert_eq!(pairs(&[2, 3, 4], &[2, 12, 1]), Some(vec![(0..1, 0..1), (1..3, 1..3)]));
        assert_eq!(pairs(&[2, 3], &[3, 2]), None);
    }

    #[test]
    fn nothing_moves_without_gain() {
        let g = with_input([2, 3], |b, x| {
            let t = b.transpose(x, &[1, 0]).unwrap();
            b.exp(t).unwrap()
        });
        assert_eq!(run(&g).unwrap().changes, 0);
    }
}
