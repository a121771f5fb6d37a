//! Attention in exported graphs.
//!
//! The computation is found from its end, the product of weights and values, backwards: softmax, masks and
//! factors on the scores, the product of queries and keys, and factors on those. Reshapes and transposes
//! that split and join heads stay around it.

use anychip_ir::{Binary, Builder, Graph, IrError, Node, Op, Prim, Unary, ValueId};
use anychip_ops::{Attention, Softmax};
use anychip_tensor::Tensor;

use crate::matching::{self, binary, uniform};
use crate::rebuild::{apply_to_regions, contains, unchanged};
use crate::{Outcome, Site, Uses, Verdict, rebuild};

pass! {
    /// `softmax(q kᵀ · c + mask) v => attention(q, k, v, mask)` with scale `c`
    ///
    /// - `c` may stand on the scores, the queries or the keys, as a factor or a divisor, and be split among them
    /// - `mask` may be added, or chosen by `select(seen, scores, -∞)`; one that is constant and hides just the
    ///   later keys becomes the setting `causal`
    /// - `c₂ · tanh(scores / c₂)` becomes the setting `softcap`
    /// - `select(is-nan(weights), 0, weights)` is dropped: rows that see nothing give zeros by definition
    /// - keys and values that are repeated for neighboring heads are taken before they are
    pub(crate) const RECOGNIZE_ATTENTION = "recognize-attention", run;
}

/// A value that hides scores where it is chosen or added: this or less.
const HIDDEN: f64 = -1e4;

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    if !contains(graph, &|op| op.composite::<Softmax>().is_some()) {
        return Ok(unchanged(graph));
    }
    rebuild(graph, &mut |b, site| {
        if !site.node.regions.is_empty() {
            return apply_to_regions(b, site, run);
        }
        let Some(found) = find(site) else { return Ok(Verdict::Keep) };
        Ok(match found.build(b, site)? {
            Some(value) => Verdict::Replace(vec![value]),
            None => Verdict::Keep,
        })
    })
}

/// An operand of one of the two products, as another value with its dims permuted.
struct Operand {
    value: ValueId,
    permutation: Vec<usize>,
}

enum Mask {
    /// The value, times the factor that applies to the masked scores.
    Added(ValueId, f64),
    /// Scores stay where the condition is true (or, when not `keep`, false) and become the number elsewhere.
    Chosen { condition: ValueId, keep: bool, hidden: f64 },
    Causal,
}

/// Attention in the old graph.
struct Found {
    q: Operand,
    k: Operand,
    v: Operand,
    masks: Vec<Mask>,
    scale: f64,
    softcap: f64,
    /// Dims of the products that are not summed over: batch and heads, or both in one.
    batch: usize,
}

/// The scores on the way from softmax back to the product of queries and keys.
struct Scores<'g> {
    graph: &'g Graph,
    uses: &'g Uses,
    scale: f64,
    softcap: f64,
    masks: Vec<Mask>,
}

fn find(site: &Site<'_>) -> Option<Found> {
    let graph = site.graph;
    let Op::Prim(Prim::DotGeneral(dims, _)) = &site.node.op else { return None };
    let batch = dims.lhs_batch.len();
    let (weights, values) = (site.node.inputs[0], site.node.inputs[1]);
    let rank = batch + 2;
    let plain = matches!(batch, 1 | 2)
        && graph.ty(weights).rank() == rank
        && graph.ty(values).rank() == rank
        && dims.lhs_batch.iter().copied().eq(0..batch)
        && dims.lhs_contract == [batch + 1];
    if !plain {
        return None;
    }
    let softmax = softmax_of(graph, site.uses, weights)?;
    if softmax.op.composite::<Softmax>()?.axis != batch + 1 {
        return None;
    }
    let mut scores = Scores {
        graph,
        uses: site.uses,
        scale: 1.0,
        softcap: 0.0,
        masks: Vec::new(),
    };
    let product = scores.walk(softmax.inputs[0])?;
    let Op::Prim(Prim::DotGeneral(qk, _)) = &product.op else { return None };
    let (lhs, rhs) = (product.inputs[0], product.inputs[1]);
    let fits = qk.lhs_batch.len() == batch
        && qk.lhs_contract.len() == 1
        && graph.ty(lhs).rank() == rank
        && graph.ty(rhs).rank() == rank
        && graph.ty(product.outputs[0]).shape == graph.ty(softmax.inputs[0]).shape;
    if !fits {
        return None;
    }
    let mut scale = scores.scale;
    let q = operand(graph, lhs, order(&qk.lhs_batch, &qk.lhs_contract, false, rank), &mut scale);
    let k = operand(graph, rhs, order(&qk.rhs_batch, &qk.rhs_contract, false, rank), &mut scale);
    // A factor on the values is the whole result's, which attention does not have.
    let mut none = 1.0;
    let v = operand(graph, values, order(&dims.rhs_batch, &dims.rhs_contract, true, rank), &mut none);
    if none != 1.0 {
        return None;
    }
    Some(Found { q, k, v, masks: scores.masks, scale, softcap: scores.softcap, batch })
}

/// The order of dims that puts an operand of a product as batch, rows, columns: what is summed over is the
/// columns, or the rows.
fn order(batch: &[usize], contract: &[usize], contract_first: bool, rank: usize) -> Vec<usize> {
    let free = (0..rank).filter(|d| !batch.contains(d) && !contract.contains(d));
    let mut order = batch.to_vec();
    if contract_first {
        order.extend_from_slice(contract);
        order.extend(free);
    } else {
        order.extend(free);
        order.extend_from_slice(contract);
    }
    order
}

/// The softmax that makes the weights, behind what replaces NaN by zero.
fn softmax_of<'g>(graph: &'g Graph, uses: &Uses, weights: ValueId) -> Option<&'g Node> {
    if !uses.single(weights) {
        return None;
    }
    let node = graph.producer(weights)?;
    if node.op.composite::<Softmax>().is_some() {
        return Some(node);
    }
    let Op::Prim(Prim::Select) = node.op else { return None };
    let (condition, zero, kept) = (node.inputs[0], node.inputs[1], node.inputs[2]);
    let guards = matching::unary(graph, condition, Unary::IsNan) == Some(kept)
        && uniform(graph, zero) == Some(0.0)
        && uses.single(condition)
        && uses.count(kept) == 2;
    let softmax = graph.producer(kept)?;
    (guards && softmax.op.composite::<Softmax>().is_some()).then_some(softmax)
}

impl<'g> Scores<'g> {
    /// Follows the scores back to their product, noting what happens to them on the way.
    fn walk(&mut self, mut value: ValueId) -> Option<&'g Node> {
        loop {
            if !self.uses.single(value) {
                return None;
            }
            let node = self.graph.producer(value)?;
            let prim = node.op.prim()?;
            if let Prim::DotGeneral(..) = prim {
                return Some(node);
            }
            value = if let Prim::Binary(Binary::Mul | Binary::Div) = prim {
                    let (inner, factor) = scaled(self.graph, value)?;
                    self.scale *= factor;
                    inner
            } else if let Prim::Binary(Binary::Add) = prim {
                    if self.softcap != 0.0 {
                        return None;
                    }
                    let (a, b) = (node.inputs[0], node.inputs[1]);
                    let (scores, mask) =
                        if self.leads_to_product(a) { (a, b) } else { (b, a) };
                    if self.graph.ty(mask).rank() == 0 {
                        return None;
                    }
                    self.masks.push(Mask::Added(mask, self.scale));
                    scores
            } else if let Prim::Select = prim {
                    if self.softcap != 0.0 {
                        return None;
                    }
                    let &[condition, on_true, on_false] = &node.inputs[..] else { return None };
                    let (scores, hidden, keep) = match uniform(self.graph, on_false) {
                        Some(hidden) => (on_true, hidden, true),
                        None => (on_false, uniform(self.graph, on_true)?, false),
                    };
                    let hidden = hidden * self.scale;
                    if hidden > HIDDEN || self.graph.ty(condition).rank() == 0 {
                        return None;
                    }
                    self.masks.push(Mask::Chosen { condition, keep, hidden });
                    scores
            } else if let Prim::Unary(Unary::Tanh) = prim {
                    // c · tanh(s / c): the factor so far is the cap, and what comes below divides by it.
                    if self.softcap != 0.0 || self.scale <= 0.0 {
                        return None;
                    }
                    self.softcap = self.scale;
                    node.inputs[0]
            } else {
                return None;
            };
        }
    }

    /// Whether a value is made by the kind of nodes that lie between a product and softmax.
    fn leads_to_product(&self, value: ValueId) -> bool {
        let mut value = value;
        for _ in 0..8 {
            let Some(node) = self.graph.producer(value) else { return false };
            value = match node.op.prim() {
                Some(Prim::DotGeneral(..)) => return true,
                Some(Prim::Binary(Binary::Mul | Binary::Div)) => match scaled(self.graph, value) {
                    Some((inner, _)) => inner,
                    None => return false,
                },
                Some(Prim::Select) => {
                    let constant = uniform(self.graph, node.inputs[2]).is_some();
                    node.inputs[if constant { 1 } else { 2 }]
                }
                Some(Prim::Binary(Binary::Add)) => {
                    if self.leads_to_product(node.inputs[0]) {
                        return true;
                    }
                    node.inputs[1]
                }
                Some(Prim::Unary(Unary::Tanh)) => node.inputs[0],
                _ => return false,
            };
        }
        false
    }
}

/// `value = inner · factor`, for one number.
fn scaled(graph: &Graph, value: ValueId) -> Option<(ValueId, f64)> {
    if let Some((x, c)) = binary(graph, value, Binary::Div) {
        return Some((x, 1.0 / uniform(graph, c)?)).filter(|(x, _)| same_rank(graph, *x, value));
    }
    let (a, b) = binary(graph, value, Binary::Mul)?;
    match (uniform(graph, a), uniform(graph, b)) {
        (_, Some(factor)) => Some((a, factor)),
        (Some(factor), None) => Some((b, factor)),
        (None, None) => None,
    }
    .filter(|(x, _)| same_rank(graph, *x, value))
}

fn same_rank(graph: &Graph, a: ValueId, b: ValueId) -> bool {
    graph.ty(a).shape == graph.ty(b).shape
}

/// The value behind transposes, factors and repeated heads of an operand of a product.
fn operand(graph: &Graph, value: ValueId, order: Vec<usize>, scale: &mut f64) -> Operand {
    let mut found = Operand { value, permutation: order };
    loop {
        if let Some((x, inner)) = matching::transpose(graph, found.value) {
            found.permutation = found.permutation.iter().map(|&p| inner[p]).collect();
            found.value = x;
        } else if let Some((x, factor)) = scaled(graph, found.value) {
            *scale *= factor;
            found.value = x;
        } else {
            break;
        }
    }
    if found.permutation.get(1) == Some(&1)
        && found.permutation.len() == 4
        && let Some(x) = before_repeat(graph, found.value)
    {
        found.value = x;
    }
    found
}

/// `x [b, g, t, d]` where `value [b, g·r, t, d]` repeats each of its heads `r` times.
fn before_repeat(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let wide = matching::reshape(graph, value)?;
    let (Prim::Broadcast, node) = matching::prim(graph, wide)? else { return None };
    let split = node.inputs[0];
    let x = matching::reshape(graph, split)?;
    let (x_dims, wide_dims, dims) =
        (&graph.ty(x).shape, &graph.ty(wide).shape, &graph.ty(value).shape);
    let shapes = x_dims.len() == 4
        && wide_dims.len() == 5
        && dims.len() == 4
        && graph.ty(split).rank() == 5
        && graph.ty(split).shape[2].fixed() == Some(1)
        && wide_dims[..2] == x_dims[..2]
        && wide_dims[3..] == x_dims[2..]
        && dims[1] == wide_dims[1].clone() * wide_dims[2].clone()
        && dims[2..] == wide_dims[3..]
        && dims[0] == wide_dims[0];
    shapes.then_some(x)
}

impl Found {
    fn build(mut self, b: &mut Builder, site: &Site<'_>) -> Result<Option<ValueId>, IrError> {
        let mut causal = false;
        self.masks = std::mem::take(&mut self.masks)
            .into_iter()
            .map(|mask| if is_causal(site.graph, &mask) { Mask::Causal } else { mask })
            .collect();
        let mut total: Option<ValueId> = None;
        let dtype = b.dtype(site.inputs[1]);
        for mask in &self.masks {
            let value = match mask {
                Mask::Causal => {
                    causal = true;
                    continue;
                }
                Mask::Added(value, factor) => {
                    let value = site.new_value(*value);
                    if *factor == 1.0 { value } else { b.scale(value, *factor)? }
                }
                Mask::Chosen { condition, keep, hidden } => {
                    let condition = site.new_value(*condition);
                    let (zero, hidden) = (b.scalar(dtype, 0.0)?, b.scalar(dtype, *hidden)?);
                    let (seen, unseen) = if *keep { (zero, hidden) } else { (hidden, zero) };
                    b.select(condition, seen, unseen)?
                }
            };
            total = Some(match total {
                Some(sum) => b.add(sum, value)?,
                None => value,
            });
        }
        let mut inputs = Vec::new();
        for operand in [&self.q, &self.k, &self.v] {
            let value = b.transpose(site.new_value(operand.value), &operand.permutation)?;
            inputs.push(if self.batch == 1 { b.unsqueeze(value, &[1])? } else { value });
        }
        if let Some(mask) = total {
            let apart = self.batch == 1 && b.rank(mask) == 3;
            inputs.push(if apart { b.unsqueeze(mask, &[1])? } else { mask });
        }
        let attention = Attention {
            softcap: self.softcap as f32,
            ..Attention::new(self.scale as f32, causal)
        };
        let result = b.composite(attention, &inputs)?;
        let result = if self.batch == 1 { b.squeeze(result, &[1])? } else { result };
        let old = site.graph.ty(site.node.outputs[0]);
        Ok((b.ty(result).shape == old.shape).then_some(result))
    }
}

/// Whether a mask is constant, hides from each query just the keys after it, and leaves the others.
fn is_causal(graph: &Graph, mask: &Mask) -> bool {
    let (value, seen): (ValueId, Box<dyn Fn(f64) -> Option<bool>>) = match mask {
        Mask::Added(value, factor) => {
            let factor = *factor;
            let seen = move |m: f64| match m * factor {
                m if m <= HIDDEN => Some(false),
                0.0 => Some(true),
                _ => None,
            };
            (*value, Box::new(seen))
        }
        Mask::Chosen { condition, keep, .. } => {
            let keep = *keep;
            (*condition, Box::new(move |c: f64| Some((c != 0.0) == keep)))
        }
        Mask::Causal => return true,
    };
    graph.constant(value).is_some_and(|tensor| hides_later_keys(tensor, &*seen))
}

fn hides_later_keys(tensor: &Tensor, seen: &dyn Fn(f64) -> Option<bool>) -> bool {
    let [leading @ .., rows, columns] = tensor.shape() else { return false };
    // One row sees everything or nothing, whatever the mask is meant to be.
    if rows != columns || *rows < 2 || leading.iter().any(|&n| n != 1) {
        return false;
    }
    let elements = tensor.to_f64();
    elements
        .iter()
        .enumerate()
        .all(|(i, &e)| seen(e) == Some(i % columns <= i / columns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recognize::tests::ops_after;
    use anychip_ir::TensorType;
    use anychip_tensor::{DType, Dim};

    struct Parts {
        b: Builder,
        q: ValueId,
        k: ValueId,
        v: ValueId,
    }

    fn parts(heads: usize, key_heads: usize) -> Parts {
        let mut b = Builder::new("g");
        let ty = |h: usize, s: usize| TensorType::new(DType::F32, [Dim::sym("n"), s.into(), h.into(), 8.into()]);
        let (q, k, v) = (
            b.input("q", ty(heads, 5)),
            b.input("k", ty(key_heads, 5)),
            b.input("v", ty(key_heads, 5)),
        );
        Parts { b, q, k, v }
    }

    fn only_attention(g: &Graph) -> Attention {
        let g = crate::optimize(g, &mut |_| {}).unwrap();
        let found: Vec<_> =
            g.nodes().iter().filter_map(|n| n.op.composite::<Attention>()).collect();
        assert_eq!(found.len(), 1, "{:?}", g.nodes().iter().map(|n| n.op.name()).collect::<Vec<_>>());
        found[0].clone()
    }

    #[test]
    fn pytorch_scales_queries_and_keys_and_guards_against_nan() {
        let Parts { mut b, q, k, v } = parts(2, 2);
        let mask = b.input("mask", TensorType::new(DType::Bool, [Dim::sym("n"), 1.into(), 1.into(), 5.into()]));
        let b = &mut b;
        let q = b.transpose(q, &[0, 2, 1, 3]).unwrap();
        let k = b.transpose(k, &[0, 2, 3, 1]).unwrap();
        let v = b.transpose(v, &[0, 2, 1, 3]).unwrap();
        let q = b.scale(q, 0.5).unwrap();
        let k = b.scale(k, 0.5).unwrap();
        let scores = b.matmul(q, k, DType::F32).unwrap();
        let (zero, never) = (b.scalar_like(q, 0.0).unwrap(), b.scalar_like(q, f64::NEG_INFINITY).unwrap());
        let added = b.select(mask, zero, never).unwrap();
        let masked = b.add(scores, added).unwrap();
        let weights = b.composite(Softmax { axis: 3 }, &[masked]).unwrap();
        let nan = b.is_nan(weights).unwrap();
        let weights = b.select(nan, zero, weights).unwrap();
        let result = b.matmul(weights, v, DType::F32).unwrap();
        let g = std::mem::replace(b, Builder::new("")).finish(&[result]);
        let attention = only_attention(&g);
        assert!((attention.scale - 0.25).abs() < 1e-6);
        assert!(!attention.causal);
    }

    #[test]
    fn a_constant_triangle_is_causal() {
        for chosen in [false, true] {
            let Parts { mut b, q, k, v } = parts(2, 2);
            let b = &mut b;
            let q = b.transpose(q, &[0, 2, 1, 3]).unwrap();
            let k = b.transpose(k, &[0, 2, 3, 1]).unwrap();
            let v = b.transpose(v, &[0, 2, 1, 3]).unwrap();
            let scores = b.matmul(q, k, DType::F32).unwrap();
            let divisor = b.scalar_like(q, 8f64.sqrt()).unwrap();
            let scores = b.div(scores, divisor).unwrap();
            let triangle = (0..25).map(|i| i % 5 <= i / 5);
            let masked = if chosen {
                let seen = Tensor::from_bools([1, 1, 5, 5], triangle).unwrap();
                let seen = b.constant(seen);
                let low = b.scalar_like(q, f64::from(f32::MIN)).unwrap();
                b.select(seen, scores, low).unwrap()
            } else {
                let values: Vec<f64> = triangle.map(|s| if s { 0.0 } else { f64::NEG_INFINITY }).collect();
                let mask = b.constant(Tensor::from_f64(DType::F32, [5, 5], &values).unwrap());
                b.add(mask, scores).unwrap()
            };
            let weights = b.composite(Softmax { axis: 3 }, &[masked]).unwrap();
            let result = b.matmul(weights, v, DType::F32).unwrap();
            let g = std::mem::replace(b, Builder::new("")).finish(&[result]);
            assert!(only_attention(&g).causal);
        }
    }

    #[test]
    fn its_own_expansion_with_grouped_heads_is_recognized() {
        let Parts { mut b, q, k, v } = parts(4, 2);
        let q = b.transpose(q, &[0, 2, 1, 3]).unwrap();
        let k = b.transpose(k, &[0, 2, 1, 3]).unwrap();
        let v = b.transpose(v, &[0, 2, 1, 3]).unwrap();
        let node = Attention { softcap: 30.0, ..Attention::new(0.25, false) };
        let expansion = b.expansion(&node, &[q, k, v]).unwrap();
        let result = anychip_ir::inline(&mut b, &expansion, &[q, k, v]).unwrap();
        let g = b.finish(&result);
        let found = only_attention(&g);
        assert!((found.softcap - 30.0).abs() < 1e-4 && (found.scale - 0.25).abs() < 1e-5);
        let g = crate::optimize(&g, &mut |_| {}).unwrap();
        assert!(!g.nodes().iter().any(|n| matches!(n.op, Op::Prim(Prim::Broadcast))));
    }

    #[test]
    fn weights_that_are_returned_stay_spelled_out() {
        let Parts { mut b, q, k, v } = parts(2, 2);
        let q = b.transpose(q, &[0, 2, 1, 3]).unwrap();
        let k = b.transpose(k, &[0, 2, 3, 1]).unwrap();
        let v = b.transpose(v, &[0, 2, 1, 3]).unwrap();
        let scores = b.matmul(q, k, DType::F32).unwrap();
        let weights = b.composite(Softmax { axis: 3 }, &[scores]).unwrap();
        let result = b.matmul(weights, v, DType::F32).unwrap();
        let g = b.finish(&[result, weights]);
        assert!(!ops_after(&g, run).contains(&"attention"));
    }
}
