//! Channels taken out of a graph: filters, what is added to them, and the weights that read them go together.

use std::collections::BTreeMap;
use std::sync::Arc;

use anychip_ir::{Builder, Graph, IrError, Node, Op, Prim, ValueId};
use anychip_passes::remove_dead_code;
use anychip_tensor::{DType, Dim, Tensor};

use super::axes::Axes;
use crate::site::channel_dim;
use crate::weights::not_finite_weight;
use crate::{Kind, QuantizeError, Site};

/// What was taken out.
#[derive(Debug, Clone)]
pub struct Removed {
    /// The layers whose channels went, by what a person calls them.
    pub layers: Vec<String>,
    /// How many channels they had.
    pub before: usize,
    /// How many they have.
    pub after: usize,
}

/// A graph with fewer channels.
#[derive(Debug, Clone)]
pub struct Narrowed {
    /// It.
    pub graph: Graph,
    /// What was taken out.
    pub removed: Vec<Removed>,
    /// For each layer of the graph before, which of its output channels stayed, ascending; `None` where all did.
    pub rows: Vec<Option<Vec<usize>>>,
}

/// Channels stay in multiples of this, which every register and matrix unit takes.
const MULTIPLE: usize = 8;

/// Channels that go together: which dims, and by how much each channel matters.
struct Set {
    /// The first layer that has them.
    first: usize,
    layers: Vec<String>,
    scores: Vec<f64>,
    read: bool,
}

/// The graph without `share` of the channels of each layer where all that reads them can do without, the least by the size of
/// their weights; and what went. Channels of the model's inputs and outputs stay, as do those that operators mix which are not
/// looked into (concatenation, normalization over channels, attention's heads).
pub fn remove_channels(
    graph: &Graph,
    sites: &[Site],
    share: f64,
) -> Result<Narrowed, QuantizeError> {
    for site in sites {
        let sound = |weight: &Tensor| norms(weight, 0).iter().all(|norm| norm.is_finite());
        if !graph.constant(site.weight).is_none_or(sound) {
            return Err(not_finite_weight(site));
        }
    }
    let mut axes = Axes::of(graph);
    let mut sets: BTreeMap<usize, Set> = BTreeMap::new();
    for (index, site) in sites.iter().enumerate() {
        let Some(weight) = graph.constant(site.weight) else { continue };
        let [into, out] = match site.kind {
            Kind::Convolution => [1, 0],
            Kind::Dot { transposed } => [usize::from(transposed), usize::from(!transposed)],
        };
        for (axis, makes) in [(out, true), (into, false)] {
            let Some(set) = axes.set(site.weight, axis) else { continue };
            let own = norms(weight, axis);
            let total = own.iter().sum::<f64>().max(f64::MIN_POSITIVE);
            let set = sets.entry(set).or_insert_with(|| Set {
                first: index,
                layers: Vec::new(),
                scores: vec![0.0; own.len()],
                read: false,
            });
            set.scores.iter_mut().zip(own).for_each(|(score, norm)| *score += norm / total);
            if makes {
                let result = graph.node(site.node).outputs[0];
                debug_assert!(
                    channel_dim(graph, graph.node(site.node), site.kind) < graph.ty(result).rank()
                );
                set.layers.push(site.name.clone());
            } else {
                set.read = true;
            }
        }
    }
    let mut stay: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut removed = Vec::new();
    let mut sets: Vec<(usize, Set)> = sets.into_iter().collect();
    sets.sort_by_key(|(id, set)| (set.first, *id));
    for (id, set) in sets {
        let before = set.scores.len();
        let wanted = before - (share * before as f64) as usize;
        let multiple = if before >= 2 * MULTIPLE { MULTIPLE } else { 1 };
        let after = wanted.max(1).next_multiple_of(multiple).min(before);
        if set.layers.is_empty() || !set.read || after == before {
            continue;
        }
        let mut order: Vec<usize> = (0..before).collect();
        order.sort_by(|&a, &b| set.scores[b].total_cmp(&set.scores[a]).then(a.cmp(&b)));
        order.truncate(after);
        order.sort_unstable();
        stay.insert(id, order);
        removed.push(Removed { layers: set.layers, before, after });
    }
    let rows = sites
        .iter()
        .map(|site| {
            let axis = match site.kind {
                Kind::Convolution => 0,
                Kind::Dot { transposed } => usize::from(!transposed),
            };
            axes.set(site.weight, axis).and_then(|set| stay.get(&set)).cloned()
        })
        .collect();
    Ok(Narrowed { graph: without(graph, &mut axes, &stay)?, removed, rows })
}

/// The sum of squares at each place along a dim.
fn norms(tensor: &Tensor, axis: usize) -> Vec<f64> {
    let n = tensor.shape()[axis];
    let inner: usize = tensor.shape()[axis + 1..].iter().product();
    let mut sums = vec![0.0; n];
    if let Some(values) = tensor.elements::<f32>() {
        for (i, line) in values.chunks(inner.max(1)).enumerate() {
            sums[i % n] += line.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
        }
    }
    sums
}

/// The graph with what stays of each set of dims.
fn without(
    graph: &Graph,
    axes: &mut Axes<'_>,
    stay: &BTreeMap<usize, Vec<usize>>,
) -> Result<Graph, QuantizeError> {
    let mut b = Builder::new(graph.name());
    b.reserve_symbols(anychip_ir::first_free_symbol(graph));
    let mut map: Vec<Option<ValueId>> = vec![None; graph.value_count()];
    for &input in graph.inputs() {
        let name = graph.value_name(input).unwrap_or_default();
        map[input.index()] = Some(b.input(name, graph.ty(input).clone()));
    }
    for node in graph.nodes() {
        b.set_scope(Arc::clone(&node.name));
        let inputs: Vec<ValueId> = node.inputs.iter().filter_map(|v| map[v.index()]).collect();
        let results = rebuilt(&mut b, graph, node, &inputs, &mut |value, axis| {
            axes.set(value, axis).and_then(|set| stay.get(&set))
        })
        .map_err(|error| match error {
            QuantizeError::Graph(error) => QuantizeError::Graph(error.at(&node.name)),
            other => other,
        })?;
        for (&old, new) in node.outputs.iter().zip(results) {
            if let Some(name) = graph.value_name(old) {
                b.name_value(new, name);
            }
            map[old.index()] = Some(new);
        }
    }
    let outputs: Vec<(Arc<str>, ValueId)> = graph
        .output_names()
        .iter()
        .cloned()
        .zip(graph.outputs().iter().filter_map(|v| map[v.index()]))
        .collect();
    Ok(remove_dead_code(&b.finish_named(&outputs))?)
}

/// A node on operands that lost channels.
fn rebuilt<'s>(
    b: &mut Builder,
    graph: &Graph,
    node: &Node,
    inputs: &[ValueId],
    stays: &mut dyn FnMut(ValueId, usize) -> Option<&'s Vec<usize>>,
) -> Result<Vec<ValueId>, QuantizeError> {
    let result = node.outputs[0];
    match &node.op {
        Op::Prim(Prim::Constant(tensor)) => {
            let mut own = tensor.clone();
            for axis in 0..tensor.rank() {
                if let Some(places) = stays(result, axis) {
                    own = picked(&own, axis, places)?;
                }
            }
            Ok(vec![b.constant(own)])
        }
        Op::Prim(Prim::Convolution(dims, output)) if dims.groups > 1 => {
            let mut dims = dims.clone();
            if let Some(places) = stays(node.inputs[1], 0) {
                dims.groups = places.len();
            }
            Ok(vec![b.prim(Prim::Convolution(dims, *output), inputs)?])
        }
        Op::Prim(Prim::Reshape) => {
            let mut dims = graph.ty(result).shape.clone();
            let mut changed = false;
            for (axis, dim) in dims.iter_mut().enumerate() {
                if let Some(places) = stays(result, axis) {
                    (*dim, changed) = (Dim::Fixed(places.len()), true);
                }
            }
            if changed {
                return Ok(vec![b.reshape(inputs[0], &dims)?]);
            }
            Ok(b.copy(graph, node, inputs)?)
        }
        _ => Ok(b.copy(graph, node, inputs)?),
    }
}

/// The given places along a dim of a tensor.
fn picked(tensor: &Tensor, axis: usize, places: &[usize]) -> Result<Tensor, QuantizeError> {
    let mut shape = tensor.shape().to_vec();
    let n = std::mem::replace(&mut shape[axis], places.len());
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    if tensor.dtype() == DType::F32
        && let Some(values) = tensor.elements::<f32>()
    {
        let mut data = Vec::with_capacity(outer * places.len() * inner);
        for o in 0..outer {
            for &place in places {
                data.extend_from_slice(&values[(o * n + place) * inner..][..inner]);
            }
        }
        return Ok(Tensor::from_vec(shape, data)?);
    }
    let values = tensor.to_f64();
    let mut data = Vec::with_capacity(outer * places.len() * inner);
    for o in 0..outer {
        for &place in places {
            data.extend_from_slice(&values[(o * n + place) * inner..][..inner]);
        }
    }
    Ok(Tensor::from_f64(tensor.dtype(), shape, &data).map_err(IrError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sites;
    use anychip_ir::{ConvolutionDims, TensorType, evaluate};

    fn numbers(shape: &[usize], seed: usize, scale: f32) -> Tensor {
        let count: usize = shape.iter().product();
        let data = (0..count).map(|i| scale * (((i * 37 + seed * 11) % 41) as f32 / 20.0 - 1.0));
        Tensor::from_vec(shape.to_vec(), data.collect::<Vec<f32>>()).unwrap()
    }

    fn convolution(b: &mut Builder, x: ValueId, w: Tensor, groups: usize, pad: i64) -> ValueId {
        let w = b.constant(w);
        let dims = ConvolutionDims {
            strides: vec![1, 1],
            padding: vec![(pad, pad); 2],
            dilation: vec![1, 1],
            input_dilation: vec![1, 1],
            groups,
        };
        b.prim(Prim::Convolution(dims, DType::F32), &[x, w]).unwrap()
    }

    /// A network whose channels of odd place are zeros wherever they are made; the share of weights each layer has left.
    fn network(scale_of_odd: f32) -> Graph {
        let odd_smaller = |mut shape: Vec<usize>, seed: usize| {
            let whole = numbers(&shape, seed, 1.0);
            let inner: usize = shape[1..].iter().product();
            let data: Vec<f32> = whole
                .elements::<f32>()
                .unwrap()
                .iter()
                .enumerate()
                .map(|(i, &v)| if (i / inner) % 2 == 1 { v * scale_of_odd } else { v })
                .collect();
            shape.truncate(4);
            Tensor::from_vec(shape, data).unwrap()
        };
        let mut b = Builder::new("network");
        let x = b
            .input("x", TensorType::new(DType::F32, [Dim::sym("n"), 3.into(), 5.into(), 5.into()]));
        // A branch around a depthwise layer, a bias, a clip, an average, a product.
        let first = convolution(&mut b, x, odd_smaller(vec![16, 3, 3, 3], 1), 1, 1);
        let bias = b.constant(odd_smaller(vec![16, 1, 1], 2));
        let first = b.add(first, bias).unwrap();
        let zero = b.scalar_like(first, 0.0).unwrap();
        let first = b.max(first, zero).unwrap();
        let wide = convolution(&mut b, first, odd_smaller(vec![32, 16, 1, 1], 3), 1, 0);
        let wide = convolution(&mut b, wide, odd_smaller(vec![32, 1, 3, 3], 4), 32, 1);
        let narrow = convolution(&mut b, wide, odd_smaller(vec![16, 32, 1, 1], 5), 1, 0);
        let sum = b.add(first, narrow).unwrap();
        let mean = b.mean(sum, &[2, 3], true).unwrap();
        let dims = [b.dims(mean)[0].clone(), Dim::Fixed(16)];
        let flat = b.reshape(mean, &dims).unwrap();
        let head = b.constant(numbers(&[16, 10], 6, 1.0));
        let result = b.matmul(flat, head, DType::F32).unwrap();
        b.finish(&[result])
    }

    #[test]
    fn channels_of_zeros_leave_and_nothing_changes() {
        let graph = network(0.0);
        let Narrowed { graph: smaller, removed, rows } =
            remove_channels(&graph, &sites(&graph), 0.5).unwrap();
        let even: Vec<usize> = (0..16).step_by(2).collect();
        assert_eq!((&rows[0], &rows[4]), (&Some(even), &None));
        let sizes: Vec<(usize, usize)> = removed.iter().map(|r| (r.before, r.after)).collect();
        assert_eq!(sizes, [(16, 8), (32, 16)]);
        assert_eq!(removed[0].layers.len(), 2, "both branches of a sum go together");
        let x = numbers(&[2, 3, 5, 5], 7, 1.0);
        let expected = evaluate(&graph, std::slice::from_ref(&x)).unwrap();
        let found = evaluate(&smaller, &[x]).unwrap();
        assert_eq!(found[0].shape(), [2, 10]);
        for (a, b) in expected[0].to_f64().iter().zip(found[0].to_f64()) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        let weights = |graph: &Graph| -> usize {
            graph.values().filter_map(|v| graph.constant(v)).map(Tensor::len).sum()
        };
        assert!(weights(&smaller) * 2 < weights(&graph) + 200);
    }

    #[test]
    fn inputs_outputs_and_small_shares_stay() {
        let graph = network(1.0);
        let Narrowed { graph: same, removed, .. } =
            remove_channels(&graph, &sites(&graph), 0.1).unwrap();
        assert!(removed.is_empty(), "{removed:?}");
        assert_eq!(same.ty(same.outputs()[0]).shape[1], Dim::Fixed(10));
    }
}
