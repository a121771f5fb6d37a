//! Ranges moved from activations into weights: a value whose channels differ in size wastes most of a grid on a few of them, while
//! weights have a scale a channel. So what layers read is divided by a number a channel and their weights multiplied by it.
//!
//! For products this is `SmoothQuant` (arXiv:2211.10438), for convolutions cross-layer equalization (arXiv:1906.04721). In floats
//! nothing changes but rounding.

mod choose;
mod factors;

pub use choose::{ChannelRanges, choose_factors};

use std::collections::BTreeMap;

use anychip_ir::{Graph, NodeId, Op, Prim, ValueId};
use anychip_passes::{Verdict, rebuild, remove_dead_code};
use anychip_tensor::{DType, Dim, Tensor};

use crate::{Kind, QuantizeError, Site};
use factors::{Edits, Factors, Search};

/// A value of which each channel can be divided by a number of its own.
#[derive(Debug, Clone)]
pub struct Movable {
    /// The value.
    pub value: ValueId,
    /// The dim of its channels.
    pub dim: usize,
    /// How many channels it has.
    pub channels: usize,
    /// The layers that read it, by their place among the sites.
    pub readers: Vec<usize>,
    /// Whether constants before the value take the division; else it costs a multiplication at each run.
    pub folds: bool,
}

/// The values that layers read and that can be divided channel by channel: those that nothing but layers reads and constants
/// before can take the division; and inputs of products, by a multiplication. In the order of the layers.
pub fn movable(graph: &Graph, sites: &[Site]) -> Vec<Movable> {
    let users = graph.users();
    let layers = by_node(sites);
    let search = Search { graph, users: &users, layers: &layers };
    let mut readers: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
    for (place, site) in sites.iter().enumerate() {
        readers.entry(site.input).or_default().push(place);
    }
    let mut found = Vec::new();
    for (value, readers) in readers {
        let ty = graph.ty(value);
        let convolutions = readers.iter().any(|&r| sites[r].kind == Kind::Convolution);
        let products = readers.iter().any(|&r| sites[r].kind != Kind::Convolution);
        if ty.dtype != DType::F32 || (convolutions && products) || ty.rank() == 0 {
            continue;
        }
        let dim = if convolutions { 1 } else { ty.rank() - 1 };
        let Some(channels) = ty.shape.get(dim).and_then(Dim::fixed).filter(|&n| n > 1) else {
            continue;
        };
        let alone =
            users[value.index()].len() == readers.len() && !graph.outputs().contains(&value);
        let ones = Factors::along(ty.rank(), dim, vec![1.0; channels]);
        let folds = alone && search.divide(value, &ones, &mut Edits::default());
        if folds || products {
            found.push(Movable { value, dim, channels, readers, folds });
        }
    }
    found.sort_by_key(|m| m.readers[0]);
    found
}

fn by_node(sites: &[Site]) -> BTreeMap<NodeId, &Site> {
    sites.iter().map(|site| (site.node, site)).collect()
}

/// `graph` with the channels of each value divided by the given numbers and the weights of its readers multiplied by them.
pub fn equalized(
    graph: &Graph,
    sites: &[Site],
    values: &[(&Movable, Vec<f32>)],
) -> Result<Graph, QuantizeError> {
    let users = graph.users();
    let layers = by_node(sites);
    let search = Search { graph, users: &users, layers: &layers };
    let mut edits = Edits::default();
    let mut products: BTreeMap<NodeId, Vec<f32>> = BTreeMap::new();
    for (movable, factors) in values {
        let rank = graph.ty(movable.value).rank();
        let by = Factors::along(rank, movable.dim, factors.clone());
        let mut own = edits.clone();
        if movable.folds && search.divide(movable.value, &by, &mut own) {
            edits = own;
        } else {
            for &reader in &movable.readers {
                products.insert(sites[reader].node, by.inverse().values);
            }
        }
        for &reader in &movable.readers {
            edits.add(sites[reader].node, 1, of_weight(graph, &sites[reader], factors));
        }
    }
    let outcome = rebuild(graph, &mut |b, site| {
        if !std::ptr::eq(site.graph, graph) {
            return Ok(Verdict::Keep);
        }
        let mut inputs = site.inputs.to_vec();
        let mut changed = false;
        for (operand, input) in inputs.iter_mut().enumerate() {
            if let Some(tensor) = edits.applied(graph, site.id, operand)? {
                *input = b.constant(tensor);
                changed = true;
            }
        }
        if let Some(factors) = products.get(&site.id) {
            let factors = b.constant(Tensor::from_vec([factors.len()], factors.clone())?);
            inputs[0] = b.mul(inputs[0], factors)?;
            changed = true;
        }
        if !changed {
            return Ok(Verdict::Keep);
        }
        Ok(Verdict::Replace(b.copy(graph, site.node, &inputs)?))
    })?;
    Ok(remove_dead_code(&outcome.graph)?)
}

/// Factors of a layer's inputs as those of its weights.
fn of_weight(graph: &Graph, site: &Site, factors: &[f32]) -> Factors {
    let shape = graph.ty(site.weight).fixed_shape().unwrap_or_default();
    match site.kind {
        Kind::Dot { transposed } => Factors::along(2, usize::from(transposed), factors.to_vec()),
        Kind::Convolution => {
            let groups = groups(graph, site);
            let (rows, columns) = (shape[0], shape[1]);
            let of_row = |r: usize| &factors[r / (rows / groups) * columns..][..columns];
            let mut own = Factors { shape: vec![1; shape.len()], values: Vec::new() };
            own.shape[..2].copy_from_slice(&[rows, columns]);
            own.values = (0..rows).flat_map(of_row).copied().collect();
            own
        }
    }
}

fn groups(graph: &Graph, site: &Site) -> usize {
    match &graph.node(site.node).op {
        Op::Prim(Prim::Convolution(dims, _)) => dims.groups,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sites;
    use anychip_ir::{Builder, ConvolutionDims, ReduceKind, TensorType, evaluate};
    use anychip_ops::{Attention, Gelu, LayerNorm};

    fn numbers(shape: &[usize], seed: usize) -> Tensor {
        let count: usize = shape.iter().product();
        let data: Vec<f32> =
            (0..count).map(|i| ((i * 37 + seed * 11) % 41) as f32 / 20.0 - 1.0).collect();
        Tensor::from_vec(shape.to_vec(), data).unwrap()
    }

    fn weight(b: &mut Builder, shape: &[usize], seed: usize) -> ValueId {
        b.constant(numbers(shape, seed))
    }

    /// A convolution with a bias, clipped at 0.
    fn convolution(b: &mut Builder, x: ValueId, shape: [usize; 4], groups: usize) -> ValueId {
        let w = weight(b, &shape, shape[0]);
        let pad = (shape[2] / 2) as i64;
        let dims = ConvolutionDims {
            strides: vec![1; 2],
            padding: vec![(pad, pad); 2],
            dilation: vec![1; 2],
            input_dilation: vec![1; 2],
            groups,
        };
        let y = b.prim(Prim::Convolution(dims, DType::F32), &[x, w]).unwrap();
        let bias = weight(b, &[shape[0], 1, 1], 3);
        let y = b.add(y, bias).unwrap();
        let zero = b.scalar_like(y, 0.0).unwrap();
        b.max(y, zero).unwrap()
    }

    fn images() -> Graph {
        let mut b = Builder::new("images");
        let x = b
            .input("x", TensorType::new(DType::F32, [Dim::sym("n"), 3.into(), 6.into(), 6.into()]));
        let x = convolution(&mut b, x, [8, 3, 3, 3], 1);
        let x = convolution(&mut b, x, [8, 1, 3, 3], 8);
        let x = convolution(&mut b, x, [12, 4, 1, 1], 2);
        let x = convolution(&mut b, x, [6, 12, 3, 3], 1);
        let x = b.reduce(ReduceKind::Sum, x, &[2, 3], false).unwrap();
        let head = weight(&mut b, &[6, 5], 4);
        let y = b.matmul(x, head, DType::F32).unwrap();
        b.finish(&[y])
    }

    fn transformer() -> Graph {
        let mut b = Builder::new("transformer");
        let x = b.input("x", TensorType::new(DType::F32, [2usize, 5, 8]));
        let gains: Vec<f32> = (0..8).map(|i| if i == 3 { 40.0 } else { 1.0 }).collect();
        let scale = b.constant(Tensor::from_vec([8], gains).unwrap());
        let bias = weight(&mut b, &[8], 5);
        let norm = LayerNorm { axis: 2, epsilon: 1e-5 };
        let normal = b.composite(norm, &[x, scale, bias]).unwrap();
        let [q, k, v] = [6, 7, 8].map(|seed| {
            let w = weight(&mut b, &[8, 8], seed);
            let y = b.matmul(normal, w, DType::F32).unwrap();
            let bias = weight(&mut b, &[8], seed);
            let y = b.add(y, bias).unwrap();
            let heads = b.reshape(y, &[2.into(), 5.into(), 2.into(), 4.into()]).unwrap();
            b.transpose(heads, &[0, 2, 1, 3]).unwrap()
        });
        let mixed = b.composite(Attention::new(0.5, false), &[q, k, v]).unwrap();
        let mixed = b.transpose(mixed, &[0, 2, 1, 3]).unwrap();
        let mixed = b.reshape(mixed, &[2.into(), 5.into(), 8.into()]).unwrap();
        let w = weight(&mut b, &[8, 8], 9);
        let projected = b.matmul(mixed, w, DType::F32).unwrap();
        let sum = b.add(projected, x).unwrap();
        let curved = b.composite(Gelu { tanh: false }, &[sum]).unwrap();
        let w = weight(&mut b, &[8, 3], 10);
        let y = b.matmul(curved, w, DType::F32).unwrap();
        b.finish(&[y])
    }

    fn input(graph: &Graph) -> Tensor {
        let sizes = &graph.ty(graph.inputs()[0]).shape;
        let shape: Vec<usize> = sizes.iter().map(|d| d.fixed().unwrap_or(2)).collect();
        numbers(&shape, 12)
    }

    /// Factors from a thirtieth to thirty, other ones for each value.
    fn uneven(movable: &Movable) -> Vec<f32> {
        (0..movable.channels)
            .map(|c| 30f32.powf(((c * 7 + movable.dim) % 5) as f32 / 2.0 - 1.0))
            .collect()
    }

    #[test]
    fn in_floats_nothing_changes_but_rounding() {
        for (graph, folds) in [(images(), vec![true; 4]), (transformer(), vec![true, true, false])]
        {
            let sites = sites(&graph);
            let found = movable(&graph, &sites);
            assert_eq!(found.iter().map(|m| m.folds).collect::<Vec<_>>(), folds);
            let factors: Vec<_> = found.iter().map(|m| (m, uneven(m))).collect();
            let other = equalized(&graph, &sites, &factors).unwrap();
            let products =
                |graph: &Graph| graph.nodes().iter().filter(|n| n.op.name() == "mul").count();
            let added = folds.iter().filter(|folds| !**folds).count();
            assert_eq!(products(&other), products(&graph) + added, "{}", graph.name());
            let x = input(&graph);
            let want = evaluate(&graph, std::slice::from_ref(&x)).unwrap()[0].to_f64();
            let got = evaluate(&other, &[x]).unwrap()[0].to_f64();
            let largest = want.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            for (w, g) in want.iter().zip(got) {
                assert!((w - g).abs() < 1e-5 * largest, "{}: {w} {g}", graph.name());
            }
        }
    }

    #[test]
    fn a_channel_forty_times_the_others_is_brought_down() {
        let graph = transformer();
        let sites = sites(&graph);
        let found = movable(&graph, &sites);
        let probe = crate::expose(&graph, &[], &[found[0].value]).unwrap();
        let seen = evaluate(&probe.graph, &[input(&graph)]).unwrap()[0].to_f64();
        let mut ranges =
            ChannelRanges { low: vec![0.0; 8], high: vec![0.0; 8], square: vec![0.0; 8] };
        for (i, v) in seen.iter().enumerate() {
            ranges.low[i % 8] = v.min(ranges.low[i % 8]);
            ranges.high[i % 8] = v.max(ranges.high[i % 8]);
            ranges.square[i % 8] += v * v / (seen.len() / 8) as f64;
        }
        let (factors, left) =
            choose_factors(&graph, &sites, &found[0], &ranges, false).unwrap().unwrap();
        assert!(factors[3] > 4.0 * factors[0], "{factors:?}");
        assert!(left < 0.3, "{left}");
        let still = ChannelRanges { low: vec![0.0; 8], high: vec![0.0; 8], square: vec![0.0; 8] };
        assert!(choose_factors(&graph, &sites, &found[0], &still, false).unwrap().is_none());
    }
}
