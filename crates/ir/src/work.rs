//! What a graph costs: multiplications, other operations and bytes, counted from types alone.
//!
//! Counts are of the mathematics, not of an implementation: a convolution multiplies every kernel element at
//! every place of the result, padding included. Multiply-accumulates are counted apart from all other arithmetic;
//! **one multiply-accumulate is two operations** ([`Work::all_operations`]). A primitive that only moves data
//! has no operations, only bytes.

use std::collections::BTreeMap;

use anychip_tensor::{Dim, Symbol};

use crate::{Builder, Graph, IrError, Node, Op, Prim, TensorType, ValueId};

/// What one node, or a whole graph, costs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// Multiply-accumulates of dot products and convolutions.
    pub macs: f64,
    /// All other arithmetic, multiply-accumulates apart: one operation for each element of an elementwise
    /// function however complicated, one for each element that a reduction takes in.
    pub operations: f64,
    /// Bytes of operands, constants apart.
    pub bytes_read: f64,
    /// Bytes of results.
    pub bytes_written: f64,
    /// Bytes of operands that are constants: weights and tables.
    pub weight_bytes: f64,
    /// Whether a size in it is one that only a run can tell, so that the figures are bounds or guesses.
    pub data_dependent: bool,
}

impl Work {
    /// All bytes that cross the boundary.
    pub fn bytes(&self) -> f64 {
        self.bytes_read + self.bytes_written + self.weight_bytes
    }

    /// Every operation: two for each multiply-accumulate, and the others.
    pub fn all_operations(&self) -> f64 {
        2.0 * self.macs + self.operations
    }

    fn arithmetic(macs: f64, operations: f64) -> Work {
        Work { macs, operations, ..Work::default() }
    }

    /// Every figure times `factor`: so many runs.
    #[must_use]
    pub fn times(self, factor: f64) -> Work {
        Work {
            macs: self.macs * factor,
            operations: self.operations * factor,
            bytes_read: self.bytes_read * factor,
            bytes_written: self.bytes_written * factor,
            weight_bytes: self.weight_bytes * factor,
            ..self
        }
    }

    /// The larger of each figure: either of two branches may run.
    #[must_use]
    pub fn larger(self, other: Work) -> Work {
        Work {
            macs: self.macs.max(other.macs),
            operations: self.operations.max(other.operations),
            bytes_read: self.bytes_read.max(other.bytes_read),
            bytes_written: self.bytes_written.max(other.bytes_written),
            weight_bytes: self.weight_bytes.max(other.weight_bytes),
            data_dependent: self.data_dependent || other.data_dependent,
        }
    }
}

impl std::ops::Add for Work {
    type Output = Work;
    fn add(self, other: Work) -> Work {
        Work {
            macs: self.macs + other.macs,
            operations: self.operations + other.operations,
            bytes_read: self.bytes_read + other.bytes_read,
            bytes_written: self.bytes_written + other.bytes_written,
            weight_bytes: self.weight_bytes + other.weight_bytes,
            data_dependent: self.data_dependent || other.data_dependent,
        }
    }
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Work>>(works: I) -> Work {
        works.fold(Work::default(), |a, b| a + b)
    }
}

/// What a node costs, its constants counted as weights. A composite costs the arithmetic of its expansion and
/// the bytes of its boundary. An `If` costs the larger of its branches; a `Loop` its body times the trip count
/// where that is a constant, and once where it is not.
///
/// Named dims are an error: specialize the graph first. Sizes that only a run can tell (`?n`) count as their
/// largest where the operands bound them (the places of non-zero elements, the rows of a counted loop) and as 1
/// elsewhere; such work is marked [`Work::data_dependent`]. For every node of a graph use [`node_works`].
pub fn node_work(graph: &Graph, node: &Node) -> Result<Work, IrError> {
    Counter::of(graph).node(node)
}

/// What each node costs, in order.
pub fn node_works(graph: &Graph) -> Result<Vec<Work>, IrError> {
    each_node_work(graph).collect()
}

/// The same where some nodes may have sizes that are not known yet: an error for each of those.
pub fn each_node_work(graph: &Graph) -> impl Iterator<Item = Result<Work, IrError>> {
    let counter = Counter::of(graph);
    graph.nodes().iter().map(move |node| counter.node(node))
}

/// What all nodes of a graph cost together.
///
/// Bytes are summed node by node, as if nothing were fused or kept in a cache.
pub fn graph_work(graph: &Graph) -> Result<Work, IrError> {
    Ok(node_works(graph)?.into_iter().sum())
}

/// A graph with the largest sizes that its invented names can stand for.
struct Counter<'a> {
    graph: &'a Graph,
    bounds: BTreeMap<Symbol, usize>,
}

impl Counter<'_> {
    fn of(graph: &Graph) -> Counter<'_> {
        let mut counter = Counter { graph, bounds: BTreeMap::new() };
        for node in graph.nodes() {
            let bound = match &node.op {
                Op::Prim(Prim::NonZero) => {
                    let mut open = false;
                    counter.elements(graph.ty(node.inputs[0]), "non-zero", &mut open).ok()
                }
                Op::Prim(Prim::Loop { .. }) => counter.trips(node).map(|n| n as f64),
                Op::Prim(_) | Op::Composite(_) => None,
            };
            let Some(bound) = bound else { continue };
            for dim in node.outputs.iter().flat_map(|&v| &graph.ty(v).shape) {
                if let Dim::Sym(name) = dim
                    && name.starts_with('?')
                {
                    counter.bounds.entry(name.clone()).or_insert(bound as usize);
                }
            }
        }
        counter
    }

    fn node(&self, node: &Node) -> Result<Work, IrError> {
        self.count(node).map_err(|error| error.at(&node.name))
    }

    fn count(&self, node: &Node) -> Result<Work, IrError> {
        let op = node.op.name();
        let mut open = false;
        let mut work = self.arithmetic(node, &mut open)?;
        // The bytes of a constant are counted where it is used.
        if !matches!(node.op, Op::Prim(Prim::Constant(_))) {
            for (i, &input) in node.inputs.iter().enumerate() {
                // The same value twice is read once.
                if node.inputs[..i].contains(&input) {
                    continue;
                }
                let bytes = self.bytes(input, op, &mut open)?;
                if self.graph.constant(input).is_some() {
                    work.weight_bytes += bytes;
                } else {
                    work.bytes_read += bytes;
                }
            }
            for &output in &node.outputs {
                work.bytes_written += self.bytes(output, op, &mut open)?;
            }
            // What happens inside comes on top of what crosses the boundary.
            work = work + self.regions(node)?;
        }
        work.data_dependent |= open;
        Ok(work)
    }

    /// Operations alone, no bytes.
    fn arithmetic(&self, node: &Node, open: &mut bool) -> Result<Work, IrError> {
        let composite = match &node.op {
            Op::Prim(prim) => return self.prim(prim, node, open),
            Op::Composite(composite) => composite,
        };
        let mut b = Builder::new(composite.name());
        let operands: Vec<ValueId> = node
            .inputs
            .iter()
            .map(|&v| match self.graph.constant(v) {
                // What decides shapes inside is a constant there too.
                Some(tensor) if !tensor.dtype().is_float() => b.constant(tensor.clone()),
                _ => b.input("", self.bounded(self.graph.ty(v), open)),
            })
            .collect();
        let outputs = composite.expand(&mut b, &operands)?;
        let inner = graph_work(&b.finish(&outputs))?;
        Ok(Work { bytes_read: 0.0, bytes_written: 0.0, weight_bytes: 0.0, ..inner })
    }

    fn prim(&self, prim: &Prim, node: &Node, open: &mut bool) -> Result<Work, IrError> {
        let op = prim.name();
        let ty = |i: usize| self.graph.ty(node.inputs[i]);
        let result = self.elements(self.graph.ty(node.outputs[0]), op, open)?;
        let others = |count: f64| Ok(Work::arithmetic(0.0, count));
        match prim {
            Prim::Constant(_)
            | Prim::Iota
            | Prim::BitCast { .. }
            | Prim::ShapeOf
            | Prim::Reshape
            | Prim::Broadcast
            | Prim::Transpose { .. }
            | Prim::Slice { .. }
            | Prim::Pad
            | Prim::Concat { .. }
            | Prim::Take { .. }
            | Prim::TakeAlong { .. }
            | Prim::GatherNd { .. }
            | Prim::If
            | Prim::Loop { .. } => Ok(Work::default()),
            Prim::Unary(_)
            | Prim::Binary(_)
            | Prim::Compare(_)
            | Prim::Select
            | Prim::Cast { .. }
            | Prim::Random { .. } => others(result),
            Prim::DotGeneral(dims, _) => {
                let mut depth = 1.0;
                for &axis in &dims.lhs_contract {
                    depth *= self.size(ty(0), axis, op, open)?;
                }
                Ok(Work::arithmetic(result * depth, 0.0))
            }
            Prim::Convolution(..) => {
                // Each result element sums over one kernel: its channels a group times its taps.
                let mut depth = 1.0;
                for axis in 1..ty(1).rank() {
                    depth *= self.size(ty(1), axis, op, open)?;
                }
                Ok(Work::arithmetic(result * depth, 0.0))
            }
            Prim::Reduce { .. }
            | Prim::ArgReduce { .. }
            | Prim::Cumulative { .. }
            | Prim::NonZero => others(self.elements(ty(0), op, open)?),
            Prim::ReduceWindow { window, .. } => {
                others(result * window.size.iter().map(|&n| n as f64).product::<f64>())
            }
            Prim::TopK { axis, .. } => {
                // A comparison sort of each line.
                let line = self.size(ty(0), *axis, op, open)?;
                others(self.elements(ty(0), op, open)? * line.max(2.0).log2())
            }
            Prim::ScatterAlong { .. } | Prim::ScatterNd { .. } => {
                others(self.elements(ty(2), op, open)?)
            }
            // Divide, round, add.
            Prim::Quantize { .. } => others(3.0 * result),
            // Subtract, multiply.
            Prim::Dequantize { .. } => others(2.0 * result),
            // Multiply, add, shift, add.
            Prim::Requantize { .. } => others(4.0 * result),
        }
    }

    fn regions(&self, node: &Node) -> Result<Work, IrError> {
        let mut either = Work::default();
        for region in &node.regions {
            either = either.larger(graph_work(region)?);
        }
        let Op::Prim(Prim::Loop { .. }) = &node.op else { return Ok(either) };
        Ok(match self.trips(node) {
            Some(trips) => either.times(trips as f64),
            None => Work { data_dependent: true, ..either },
        })
    }

    /// How often a loop runs at most, where a constant says so; a number that no one means ("as long as the
    /// condition holds") says nothing.
    fn trips(&self, node: &Node) -> Option<usize> {
        let trips = *self.graph.constant_integers(node.inputs[0])?.first()?;
        (trips < i64::from(i32::MAX)).then_some(usize::try_from(trips).unwrap_or(0))
    }

    fn size(
        &self,
        ty: &TensorType,
        axis: usize,
        op: &'static str,
        open: &mut bool,
    ) -> Result<f64, IrError> {
        let found = match &ty.shape[axis] {
            Dim::Fixed(n) => Some(*n),
            Dim::Sym(_) | Dim::Expr(_) => self.bound(&ty.shape[axis], open),
        };
        found.map(|n| n as f64).ok_or_else(|| IrError::Shapes {
            op,
            reason: "work is counted of numbers, not of named sizes",
            types: vec![ty.clone()],
        })
    }

    /// The largest that a dim of invented names can be, or 1; `None` when other names are in it.
    fn bound(&self, dim: &Dim, open: &mut bool) -> Option<usize> {
        *open = true;
        let symbols = dim.symbols();
        if !symbols.iter().all(|s| s.starts_with('?')) {
            return None;
        }
        let largest =
            dim.evaluate_signed(&|name| Some(self.bounds.get(name).copied().unwrap_or(1)))?;
        Some(usize::try_from(largest).unwrap_or(0))
    }

    fn bounded(&self, ty: &TensorType, open: &mut bool) -> TensorType {
        let dims = ty.shape.iter().map(|dim| match dim {
            Dim::Fixed(_) => dim.clone(),
            Dim::Sym(_) | Dim::Expr(_) => {
                self.bound(dim, open).map_or_else(|| dim.clone(), Dim::Fixed)
            }
        });
        TensorType::new(ty.dtype, dims)
    }

    fn elements(&self, ty: &TensorType, op: &'static str, open: &mut bool) -> Result<f64, IrError> {
        let mut product = 1.0;
        for axis in 0..ty.rank() {
            product *= self.size(ty, axis, op, open)?;
        }
        Ok(product)
    }

    fn bytes(&self, value: ValueId, op: &'static str, open: &mut bool) -> Result<f64, IrError> {
        let ty = self.graph.ty(value);
        let bits = self.elements(ty, op, open)? * ty.dtype.storage_bits() as f64;
        Ok((bits / 8.0).ceil())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConvolutionDims, DotDims};
    use anychip_tensor::{DType, Tensor};

    fn f32s(shape: &[usize]) -> TensorType {
        TensorType::new(DType::F32, shape.iter().copied())
    }

    #[test]
    fn a_convolution_by_hand() {
        // ResNet-50's first layer: 64·112·112 results of 3·7·7 products, 118 013 952 in all.
        let mut b = Builder::new("stem");
        let x = b.input("x", f32s(&[1, 3, 224, 224]));
        let w = b.constant(Tensor::zeros(DType::F32, [64, 3, 7, 7]).unwrap());
        let dims = ConvolutionDims {
            strides: vec![2, 2],
            padding: vec![(3, 3), (3, 3)],
            dilation: vec![1, 1],
            input_dilation: vec![1, 1],
            groups: 1,
        };
        let y = b.prim(Prim::Convolution(dims, DType::F32), &[x, w]).unwrap();
        let y = b.tanh(y).unwrap();
        let graph = b.finish(&[y]);
        let works = node_works(&graph).unwrap();
        assert_eq!(works[1].macs, 118_013_952.0);
        assert_eq!(works[1].operations, 0.0);
        assert_eq!(works[1].all_operations(), 2.0 * 118_013_952.0);
        assert_eq!(works[1].weight_bytes, (64 * 3 * 49 * 4) as f64);
        assert_eq!(works[1].bytes_read, (3 * 224 * 224 * 4) as f64);
        assert_eq!(works[1].bytes_written, (64 * 112 * 112 * 4) as f64);
        assert_eq!(works[2].operations, (64 * 112 * 112) as f64);
        let total = graph_work(&graph).unwrap();
        assert_eq!(total, works.into_iter().sum());
        assert!(!total.data_dependent);
    }

    #[test]
    fn named_sizes_are_an_error() {
        let mut b = Builder::new("named");
        let x = b.input("x", TensorType::new(DType::F32, [Dim::sym("n")]));
        let y = b.exp(x).unwrap();
        let graph = b.finish(&[y]);
        assert!(matches!(graph_work(&graph), Err(IrError::Shapes { op: "exp", .. })));
    }

    #[test]
    fn sizes_of_a_run_count_at_their_bound() {
        let mut b = Builder::new("places");
        let x = b.input("x", f32s(&[10]));
        let places = b.prim(Prim::NonZero, &[x]).unwrap();
        let sum = b.add(places, places).unwrap();
        let graph = b.finish(&[sum]);
        let work = node_works(&graph).unwrap()[1];
        assert_eq!((work.operations, work.bytes_read, work.bytes_written), (10.0, 80.0, 80.0));
        assert!(work.data_dependent);
    }

    #[test]
    fn control_flow_counts_branches_and_trips() {
        let mut b = Builder::new("control");
        let x = b.input("x", f32s(&[4, 4]));
        let truth = b.constant(Tensor::from_bools([], [true]).unwrap());
        let branch = |b: &Builder, product: bool| {
            let mut region = b.region("branch");
            let x = region.input("x", f32s(&[4, 4]));
            let dims =
                DotDims { lhs_contract: vec![1], rhs_contract: vec![0], ..DotDims::default() };
            let y = if product {
                region.prim(Prim::DotGeneral(dims, DType::F32), &[x, x]).unwrap()
            } else {
                region.exp(x).unwrap()
            };
            region.finish(&[y])
        };
        let regions = vec![branch(&b, true), branch(&b, false)];
        let y = b.node(Prim::If, &[truth, x], regions).unwrap()[0];
        let mut body = b.region("body");
        body.input("i", TensorType::scalar(DType::I64));
        let state = body.input("state", f32s(&[4, 4]));
        let go_on = body.constant(Tensor::from_bools([], [true]).unwrap());
        let next = body.exp(state).unwrap();
        let body = body.finish(&[go_on, next]);
        let trips = b.constant(Tensor::scalar(5i64));
        let z = b.node(Prim::Loop { carried: 1 }, &[trips, truth, y], vec![body]).unwrap()[0];
        let works = node_works(&b.finish(&[z])).unwrap();
        // The larger of each figure: the product of one branch, the 16 exponentials of the other.
        assert_eq!((works[1].macs, works[1].operations), (64.0, 16.0));
        assert_eq!(works[3].operations, 5.0 * 16.0);
    }
}
