//! Groups of primitives for which the standard has one operator: `max(x, 0)` is written as `Relu`.
//!
//! What other tools recognize in a file, they recognize by these operators. Each is found from its last primitive; the
//! others of the group must have no other use.

mod dynamic;
mod weighted;

use std::collections::{BTreeMap, BTreeSet};

use anychip_ir::{Binary, Graph, Node, NodeId, Op, Prim, ReduceKind, ValueId};
use anychip_tensor::{DType, Dim, Tensor};

use super::emit::{Emitter, Frame};
use super::prims::{Emitted, Operands};
use super::{contract, quantize, reduce};
use dynamic::Dynamic;
use weighted::{Bias, Blocks};

/// Larger constants than this are not looked through for being the same number everywhere.
const MOST_ELEMENTS: usize = 1024;

/// What a group of primitives is.
#[derive(Debug, Clone)]
enum Idiom {
    /// `max(x, 0)`
    Relu(ValueId),
    /// `min(max(x, low), high)` for `low ≤ high`, in either order
    Clip { x: ValueId, low: f64, high: f64 },
    /// `convolution(x, w) + bias`, a constant for each channel
    Convolution { node: NodeId, bias: Bias },
    /// `dot(x, w) + bias` of a matrix and a constant one, `[k, n]`; the bias an entry a column
    Gemm { node: NodeId, bias: Bias },
    /// `reshape(dequantize(x, scale, zero_point))` of which scale and zero point are one for each block
    Blocks(Blocks),
    /// `sum(x) / count`, or times `1 / count`
    Mean { x: ValueId, axes: Vec<usize>, keep: bool },
    /// `quantize(x)` to `u8` with the range that it has
    Dynamic(Dynamic),
    /// `dot(x − zero, w)` of bytes
    IntegerDot([ValueId; 3]),
}

/// The idioms of a graph by their last node, and the nodes that need not be written.
pub(super) struct Idioms {
    found: BTreeMap<NodeId, Idiom>,
    covered: BTreeSet<NodeId>,
}

impl Idioms {
    /// Looks at every node of a graph, not into its regions.
    pub(super) fn of(graph: &Graph, opset: i64) -> Idioms {
        let finder = Finder { graph, users: graph.users(), opset };
        let mut idioms = Idioms { found: BTreeMap::new(), covered: BTreeSet::new() };
        let nodes: Vec<NodeId> = graph.iter().map(|(id, _)| id).collect();
        // From the end, so that a clip is found before the `Relu` that may be in it.
        for &id in nodes.iter().rev() {
            if idioms.covered.contains(&id) {
                continue;
            }
            if let Some((idiom, inner)) = finder.find(id, graph.node(id)) {
                idioms.found.insert(id, idiom);
                idioms.covered.extend(inner);
            }
        }
        // Constants that only the groups read.
        let mut read: BTreeSet<ValueId> = graph.outputs().iter().copied().collect();
        for (id, node) in graph.iter().filter(|(id, _)| !idioms.covered.contains(id)) {
            match idioms.found.get(&id) {
                Some(Idiom::Relu(x) | Idiom::Clip { x, .. } | Idiom::Mean { x, .. }) => {
                    read.insert(*x);
                }
                Some(Idiom::Convolution { node, .. } | Idiom::Gemm { node, .. }) => {
                    read.extend(&graph.node(*node).inputs);
                }
                Some(Idiom::Blocks(blocks)) => read.extend(blocks.read(graph)),
                Some(Idiom::Dynamic(dynamic)) => {
                    read.insert(dynamic.x);
                }
                Some(Idiom::IntegerDot(operands)) => read.extend(operands),
                None => read.extend(quantize::operands_read(graph, node, opset)),
            }
        }
        for (id, node) in graph.iter() {
            let constant = matches!(node.op, Op::Prim(Prim::Constant(_)));
            if constant && node.outputs.iter().all(|v| !read.contains(v)) {
                idioms.covered.insert(id);
            }
        }
        idioms
    }

    /// Whether the node is part of a group that ends later, or a constant that no other node reads.
    pub(super) fn covers(&self, id: NodeId) -> bool {
        self.covered.contains(&id)
    }

    /// Writes the group that ends at the node, when one does.
    pub(super) fn emit(
        &self,
        e: &mut Emitter,
        frame: &mut Frame<'_>,
        id: NodeId,
    ) -> Option<Emitted> {
        let idiom = self.found.get(&id)?;
        Some(emit(e, frame, idiom).map(|name| vec![name]))
    }
}

fn emit(e: &mut Emitter, frame: &mut Frame<'_>, idiom: &Idiom) -> Result<String, String> {
    Ok(match idiom {
        Idiom::Relu(x) => {
            let x = frame.name(*x);
            e.add(frame, "Relu", &[&x], vec![])
        }
        Idiom::Clip { x, low, high } => {
            let dtype = frame.graph.ty(*x).dtype;
            let (low, high) = (e.scalar(dtype, *low), e.scalar(dtype, *high));
            let x = frame.name(*x);
            e.add(frame, "Clip", &[&x, &low, &high], vec![])
        }
        Idiom::Convolution { node, bias } => {
            let node = frame.graph.node(*node);
            let Op::Prim(Prim::Convolution(dims, output)) = &node.op else {
                return Err("it should have been a convolution".into());
            };
            let operands = Operands::of(frame, node);
            let bias = bias.emit(e, frame);
            contract::convolution(e, frame, &operands, dims, *output, Some(&bias))?
        }
        Idiom::Gemm { node, bias } => {
            let operands = Operands::of(frame, frame.graph.node(*node));
            let bias = bias.emit(e, frame);
            e.add(frame, "Gemm", &[operands.name(0), operands.name(1), &bias], vec![])
        }
        Idiom::Blocks(blocks) => blocks.emit(e, frame)?,
        Idiom::Dynamic(dynamic) => {
            let x = frame.name(dynamic.x);
            let mut names = e.results(frame, "DynamicQuantizeLinear", &[x], vec![], 3);
            frame.names[dynamic.point.index()] = names.pop();
            frame.names[dynamic.scale.index()] = names.pop();
            names.pop().ok_or("it should have three results")?
        }
        Idiom::IntegerDot(operands) => {
            let names = operands.map(|v| frame.name(v));
            e.add(frame, "MatMulInteger", &[&names[0], &names[1], &names[2]], vec![])
        }
        Idiom::Mean { x, axes, keep } => {
            let x = frame.name(*x);
            reduce::operator(e, frame, &x, ("ReduceMean", 18), axes, *keep)
        }
    })
}

/// The types that `Relu`, `Clip`, `Conv` and `ReduceMean` take at every opset.
fn is_plain_float(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::F32 | DType::F64)
}

struct Finder<'g> {
    graph: &'g Graph,
    users: Vec<Vec<NodeId>>,
    opset: i64,
}

impl<'g> Finder<'g> {
    /// The idiom that ends at a node, and the other nodes of its group.
    fn find(&self, id: NodeId, node: &Node) -> Option<(Idiom, Vec<NodeId>)> {
        if matches!(node.op, Op::Prim(Prim::Reshape)) {
            return self.blocks(node);
        }
        if let Some(found) = self.dynamic(id, node).or_else(|| self.integer_dot(node)) {
            return Some(found);
        }
        let Op::Prim(Prim::Binary(op)) = node.op else { return None };
        let (result, sides) = (node.outputs[0], [node.inputs[0], node.inputs[1]]);
        if !is_plain_float(self.graph.ty(result).dtype) {
            return None;
        }
        let swapped = [sides[1], sides[0]];
        match op {
            Binary::Max | Binary::Min => [sides, swapped]
                .into_iter()
                .find_map(|[x, limit]| self.clip(op, result, x, limit))
                .or_else(|| [sides, swapped].into_iter().find_map(|s| self.relu(op, result, s))),
            Binary::Add => [sides, swapped]
                .into_iter()
                .find_map(|s| self.bias(result, s).or_else(|| self.gemm(result, s))),
            Binary::Div => self.mean(result, sides, true),
            Binary::Mul => {
                [sides, swapped].into_iter().find_map(|sides| self.mean(result, sides, false))
            }
            Binary::Sub
            | Binary::Rem
            | Binary::Pow
            | Binary::And
            | Binary::Or
            | Binary::Xor
            | Binary::ShiftLeft
            | Binary::ShiftRight => None,
        }
    }

    fn relu(
        &self,
        op: Binary,
        result: ValueId,
        [x, zero]: [ValueId; 2],
    ) -> Option<(Idiom, Vec<NodeId>)> {
        let found = op == Binary::Max && self.same_shape(result, x) && self.uniform(zero)? == 0.0;
        found.then(|| (Idiom::Relu(x), Vec::new()))
    }

    fn clip(
        &self,
        op: Binary,
        result: ValueId,
        inner: ValueId,
        limit: ValueId,
    ) -> Option<(Idiom, Vec<NodeId>)> {
        let outer_limit = self.uniform(limit)?;
        let (id, node) = self.only_here(inner)?;
        let Op::Prim(Prim::Binary(other)) = node.op else { return None };
        let opposite = if op == Binary::Max { Binary::Min } else { Binary::Max };
        if other != opposite {
            return None;
        }
        let sides = [node.inputs[0], node.inputs[1]];
        [sides, [sides[1], sides[0]]].into_iter().find_map(|[x, limit]| {
            let inner_limit = self.uniform(limit)?;
            let (low, high) = match op {
                Binary::Max => (outer_limit, inner_limit),
                _ => (inner_limit, outer_limit),
            };
            let fits = low <= high && self.same_shape(result, x);
            fits.then(|| (Idiom::Clip { x, low, high }, vec![id]))
        })
    }

    fn bias(&self, result: ValueId, [sum, bias]: [ValueId; 2]) -> Option<(Idiom, Vec<NodeId>)> {
        let (id, node) = self.only_here(sum)?;
        let Op::Prim(Prim::Convolution(dims, output)) = &node.op else { return None };
        let types = [node.inputs[0], node.inputs[1], bias].map(|v| self.graph.ty(v));
        let plain = types.iter().all(|ty| ty.dtype == *output);
        if !plain || dims.input_dilation.iter().any(|&d| d != 1) || !self.same_shape(result, sum) {
            return None;
        }
        let channels = types[1].shape.first()?.fixed()?;
        // The constant lies with its channels on dim 1 of the result; all its other dims are 1.
        let shape = types[2].fixed_shape()?;
        let trailing = dims.strides.len();
        let place = shape.len().checked_sub(trailing + 1);
        let elsewhere = shape.iter().enumerate().any(|(i, &n)| Some(i) != place && n != 1);
        if elsewhere || place.is_some_and(|i| shape[i] != channels && shape[i] != 1) {
            return None;
        }
        let mut inner = vec![id];
        let bias = self.channel_bias(bias, channels, *output, &mut inner)?;
        Some((Idiom::Convolution { node: id, bias }, inner))
    }

    fn mean(
        &self,
        result: ValueId,
        [sum, factor]: [ValueId; 2],
        divides: bool,
    ) -> Option<(Idiom, Vec<NodeId>)> {
        let factor = self.uniform(factor)?;
        let (mut id, mut node) = self.only_here(sum)?;
        let mut inner = vec![id];
        if matches!(node.op, Op::Prim(Prim::Reshape)) {
            (id, node) = self.only_here(node.inputs[0])?;
            inner.push(id);
        }
        let Op::Prim(Prim::Reduce { kind: ReduceKind::Sum, axes }) = &node.op else { return None };
        let x = node.inputs[0];
        let ty = self.graph.ty(x);
        let mut count = 1.0;
        for &axis in axes {
            count *= ty.shape[axis].fixed()? as f64;
        }
        // As the element type holds it.
        let exact = if divides { count } else { 1.0 / count };
        let rounded = Tensor::from_f64(ty.dtype, [], &[exact]).ok()?.to_f64();
        if axes.is_empty() || rounded != [factor] {
            return None;
        }
        let kept: Vec<Dim> = (0..ty.rank())
            .map(|i| if axes.contains(&i) { Dim::Fixed(1) } else { ty.shape[i].clone() })
            .collect();
        let dropped: Vec<Dim> =
            (0..ty.rank()).filter(|i| !axes.contains(i)).map(|i| ty.shape[i].clone()).collect();
        let shape = &self.graph.ty(result).shape;
        let keep = *shape == kept;
        let fits = keep || *shape == dropped;
        fits.then(|| (Idiom::Mean { x, axes: axes.clone(), keep }, inner))
    }

    /// The node that makes a value of which only one operand of one node is this value.
    fn only_here(&self, value: ValueId) -> Option<(NodeId, &'g Node)> {
        let anychip_ir::Definition::Output(id, _) = self.graph.definition(value) else {
            return None;
        };
        let once = self.users[value.index()].len() == 1 && !self.graph.outputs().contains(&value);
        once.then(|| (id, self.graph.node(id)))
    }

    fn same_shape(&self, a: ValueId, b: ValueId) -> bool {
        self.graph.ty(a).shape == self.graph.ty(b).shape
    }

    /// The number that every element of a constant is.
    fn uniform(&self, value: ValueId) -> Option<f64> {
        let tensor = self.graph.constant(value).filter(|t| t.len() <= MOST_ELEMENTS)?;
        let values = tensor.to_f64();
        let first = *values.first()?;
        values.iter().all(|&v| v == first).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExportOptions, ImportOptions, export, from_bytes};
    use anychip_ir::{Builder, ConvolutionDims, TensorType, evaluate};

    /// The operators of a graph's file, once what it reads back as has given the same results.
    fn written(
        opset: i64,
        shape: &[usize],
        build: impl FnOnce(&mut Builder, ValueId) -> Vec<ValueId>,
    ) -> Vec<String> {
        let mut b = Builder::new("idiom");
        let dims: Vec<Dim> = shape.iter().map(|&n| n.into()).collect();
        let x = b.input("x", TensorType::new(DType::F32, dims));
        let outputs = build(&mut b, x);
        let graph = b.finish(&outputs);
        let options = ExportOptions { opset, ..ExportOptions::default() };
        let proto = crate::export::model(&graph, &options).unwrap().graph.unwrap();
        let data = export(&graph, &options).unwrap();
        let read = from_bytes(data.into(), None, &ImportOptions::default()).unwrap().graph;
        let count: usize = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|i| ((i * 37) % 101) as f64 / 7.0 - 6.0).collect();
        let input = Tensor::from_f64(DType::F32, shape, &values).unwrap();
        let expected = evaluate(&graph, std::slice::from_ref(&input)).unwrap();
        let found = evaluate(&read, &[input]).unwrap();
        assert_eq!(expected.len(), found.len());
        for (e, f) in expected.iter().zip(&found) {
            assert_eq!((e.dtype(), e.shape()), (f.dtype(), f.shape()));
            for (e, f) in e.to_f64().into_iter().zip(f.to_f64()) {
                assert!((e - f).abs() <= 1e-5 * (1.0 + e.abs()), "{e} and {f}");
            }
        }
        for weight in &proto.initializer {
            let read = proto.node.iter().any(|n| n.input.contains(weight.name.as_ref().unwrap()));
            assert!(read, "{:?} is in the file and not used", weight.name);
        }
        proto.node.iter().map(|n| n.op_type.clone().unwrap()).collect()
    }

    #[test]
    fn the_larger_of_a_value_and_zero() {
        let relu = |b: &mut Builder, x| {
            let zero = b.scalar_like(x, 0.0).unwrap();
            vec![b.max(zero, x).unwrap()]
        };
        assert_eq!(written(13, &[3, 4], relu), ["Relu"]);
        let other = |b: &mut Builder, x| {
            let one = b.scalar_like(x, 1.0).unwrap();
            vec![b.max(x, one).unwrap()]
        };
        assert_eq!(written(13, &[3, 4], other), ["Max"]);
        // Of a scalar and zeros of a larger shape.
        let wider = |b: &mut Builder, x| {
            let zeros = b.constant(Tensor::zeros(DType::F32, [5]).unwrap());
            vec![b.max(x, zeros).unwrap()]
        };
        assert_eq!(written(13, &[], wider), ["Max"]);
    }

    #[test]
    fn between_two_limits() {
        let clip = |low: f64, high: f64, low_first: bool| {
            move |b: &mut Builder, x| {
                let (low, high) = (b.scalar_like(x, low).unwrap(), b.scalar_like(x, high).unwrap());
                vec![if low_first {
                    let above = b.max(x, low).unwrap();
                    b.min(high, above).unwrap()
                } else {
                    let below = b.min(x, high).unwrap();
                    b.max(below, low).unwrap()
                }]
            }
        };
        assert_eq!(written(13, &[3, 40], clip(0.0, 6.0, true)), ["Clip"]);
        assert_eq!(written(13, &[3, 40], clip(-1.0, 2.0, false)), ["Clip"]);
        // Limits the wrong way round are no clip.
        assert_eq!(written(13, &[3, 40], clip(2.0, -1.0, false)), ["Min", "Max"]);
        // Nor is one whose middle is wanted too.
        let middle = |b: &mut Builder, x| {
            let (low, high) = (b.scalar_like(x, 0.0).unwrap(), b.scalar_like(x, 6.0).unwrap());
            let above = b.max(x, low).unwrap();
            vec![b.min(above, high).unwrap(), above]
        };
        assert_eq!(written(13, &[3, 40], middle), ["Relu", "Min"]);
    }

    fn convolution(b: &mut Builder, x: ValueId) -> ValueId {
        let values: Vec<f64> = (0..4 * 3 * 9).map(|i| f64::from(i % 11) / 11.0 - 0.4).collect();
        let w = b.constant(Tensor::from_f64(DType::F32, [4, 3, 3, 3], &values).unwrap());
        let dims = ConvolutionDims {
            strides: vec![1, 2],
            padding: vec![(1, 1), (0, 1)],
            dilation: vec![1, 1],
            input_dilation: vec![1, 1],
            groups: 1,
        };
        b.prim(Prim::Convolution(dims, DType::F32), &[x, w]).unwrap()
    }

    #[test]
    fn a_constant_for_each_channel_of_a_convolution() {
        let biased = |shape: &'static [usize]| {
            move |b: &mut Builder, x| {
                let sum = convolution(b, x);
                let count = shape.iter().product::<usize>();
                let values: Vec<f64> = (0..count).map(|i| i as f64 - 1.5).collect();
                let bias = b.constant(Tensor::from_f64(DType::F32, shape, &values).unwrap());
                vec![b.add(bias, sum).unwrap()]
            }
        };
        for shape in [&[1usize, 4, 1, 1][..], &[4, 1, 1], &[1, 1], &[]] {
            assert_eq!(written(13, &[2, 3, 6, 7], biased(shape)), ["Conv"], "{shape:?}");
        }
        for shape in [&[4usize][..], &[6, 1], &[2, 4, 1, 1]] {
            assert_eq!(written(13, &[2, 3, 6, 8], biased(shape)), ["Conv", "Add"], "{shape:?}");
        }
        let reshaped = |b: &mut Builder, x| {
            let sum = convolution(b, x);
            let bias = Tensor::from_vec([4], vec![0.5f32, 1.0, -1.0, 2.0]).unwrap();
            let bias = b.constant(bias);
            let bias = b.unsqueeze(bias, &[1, 2]).unwrap();
            vec![b.add(sum, bias).unwrap()]
        };
        assert_eq!(written(13, &[2, 3, 6, 7], reshaped), ["Conv"]);
        let used_twice = |b: &mut Builder, x| {
            let sum = convolution(b, x);
            let bias = b.scalar_like(sum, 0.5).unwrap();
            let moved = b.add(sum, bias).unwrap();
            vec![b.mul(moved, sum).unwrap()]
        };
        assert_eq!(written(13, &[2, 3, 6, 7], used_twice), ["Conv", "Add", "Mul"]);
    }

    #[test]
    fn a_product_whose_grid_is_found_at_run_time() {
        let whole = |b: &mut Builder, x| {
            let dynamic = dynamic(b, x);
            let w =
                b.constant(Tensor::from_vec([4, 2], vec![1i8, -2, 3, 4, -5, 6, 7, -8]).unwrap());
            let [codes, scale, point] = dynamic;
            let (wide, zero) =
                (b.cast(codes, DType::I32).unwrap(), b.cast(point, DType::I32).unwrap());
            let centered = b.sub(wide, zero).unwrap();
            let sums = b.matmul(centered, w, DType::I32).unwrap();
            let sums = b.cast(sums, DType::F32).unwrap();
            vec![b.mul(sums, scale).unwrap()]
        };
        let expected = ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul"];
        assert_eq!(written(13, &[3, 4], whole), expected);
        // What its scale is found from cannot be another result.
        let shown = |b: &mut Builder, x| {
            let [codes, scale, _] = dynamic(b, x);
            vec![codes, scale]
        };
        assert!(!written(13, &[3, 4], shown).contains(&"DynamicQuantizeLinear".to_string()));
    }

    /// As the standard defines it: codes, scale and zero point.
    fn dynamic(b: &mut Builder, x: ValueId) -> [ValueId; 3] {
        let axes: Vec<usize> = (0..b.rank(x)).collect();
        let zero = b.scalar_like(x, 0.0).unwrap();
        let most = b.reduce(ReduceKind::Max, x, &axes, false).unwrap();
        let most = b.max(most, zero).unwrap();
        let least = b.reduce(ReduceKind::Min, x, &axes, false).unwrap();
        let least = b.min(least, zero).unwrap();
        let range = b.sub(most, least).unwrap();
        let steps = b.scalar_like(x, 255.0).unwrap();
        let ratio = b.div(range, steps).unwrap();
        let flat = b.eq(ratio, zero).unwrap();
        let one = b.scalar_like(x, 1.0).unwrap();
        let scale = b.select(flat, one, ratio).unwrap();
        let below = b.neg(least).unwrap();
        let none = b.constant(Tensor::zeros(DType::U8, []).unwrap());
        let quantize = Prim::Quantize { to: DType::U8, saturate: true };
        let point = b.prim(quantize.clone(), &[below, scale, none]).unwrap();
        [b.prim(quantize, &[x, scale, point]).unwrap(), scale, point]
    }

    #[test]
    fn a_sum_by_its_count() {
        for keep in [true, false] {
            let mean = |b: &mut Builder, x| vec![b.mean(x, &[1, 2], keep).unwrap()];
            assert_eq!(written(13, &[2, 3, 4, 5], mean), ["ReduceMean"]);
            assert_eq!(written(18, &[2, 3, 4, 5], mean), ["ReduceMean"]);
        }
        let times = |b: &mut Builder, x| {
            let sum = b.reduce(ReduceKind::Sum, x, &[1], false).unwrap();
            vec![b.scale(sum, 1.0 / 3.0).unwrap()]
        };
        assert_eq!(written(13, &[2, 3], times), ["ReduceMean"]);
        let half = |b: &mut Builder, x| {
            let sum = b.reduce(ReduceKind::Sum, x, &[1], false).unwrap();
            vec![b.scale(sum, 0.5).unwrap()]
        };
        assert_eq!(written(13, &[2, 3], half), ["ReduceSum", "Mul"]);
    }
}
