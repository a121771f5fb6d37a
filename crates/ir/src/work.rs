//! What a graph costs apart from any chip: multiply-accumulates, other operations, bytes.
//!
//! A multiply-accumulate of a dot product or convolution counts once in [`Work::macs`]; whoever reports operations
//! counts it as two. Every other arithmetic primitive counts one operation an element of its result (a reduction one an
//! element of its operand, a sort `n·log2 n`); moving data counts none. Composites count by their expansion, with only
//! their own operands and results as traffic. A loop counts its body times its trip count where that is known and once
//! otherwise; a branch counts the dearer of its two ways.

use anychip_tensor::Tensor;

use crate::{Builder, Graph, IrError, Node, Op, Prim, TensorType, ValueId};

/// The cost of a node or of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// Multiply-accumulates of dot products and convolutions.
    pub macs: f64,
    /// All other arithmetic operations.
    pub operations: f64,
    /// Bytes of operands.
    pub bytes_read: f64,
    /// Bytes of results.
    pub bytes_written: f64,
    /// The part of [`Work::bytes_read`] that is constants.
    pub weight_bytes: f64,
}

impl Work {
    fn add(&mut self, other: Work, times: f64) {
        self.macs += other.macs * times;
        self.operations += other.operations * times;
        self.bytes_read += other.bytes_read * times;
        self.bytes_written += other.bytes_written * times;
        self.weight_bytes += other.weight_bytes * times;
    }
}

/// The cost of a graph, whose input sizes must be numbers. Sizes that only a run can tell count as 1.
pub fn graph_work(graph: &Graph) -> Result<Work, IrError> {
    let mut total = Work::default();
    for node in graph.nodes() {
        total.add(node_work(graph, node)?, 1.0);
    }
    Ok(total)
}

/// The cost of one node of `graph`.
pub fn node_work(graph: &Graph, node: &Node) -> Result<Work, IrError> {
    let mut work = Work::default();
    if let Op::Prim(Prim::Constant(_)) = node.op {
        return Ok(work);
    }
    for &v in &node.inputs {
        let bytes = bytes(graph.ty(v));
        work.bytes_read += bytes;
        if graph.constant(v).is_some() {
            work.weight_bytes += bytes;
        }
    }
    work.bytes_written = node.outputs.iter().map(|&v| bytes(graph.ty(v))).sum();
    match &node.op {
        Op::Prim(prim) => {
            let (macs, operations) = arithmetic(graph, node, prim)?;
            work.macs = macs;
            work.operations = operations;
        }
        Op::Composite(composite) => {
            let mut b = Builder::new(composite.name());
            let inputs: Vec<ValueId> = node
                .inputs
                .iter()
                .map(|&v| match graph.constant(v) {
                    // A small constant may decide the form of the expansion; a large one is only data.
                    Some(tensor) if !tensor.dtype().is_float() && tensor.len() <= 128 => {
                        b.constant(Tensor::clone(tensor))
                    }
                    _ => b.input("", graph.ty(v).clone()),
                })
                .collect();
            let inner = graph_work(&b.expansion(composite.as_ref(), &inputs)?)?;
            work.macs = inner.macs;
            work.operations = inner.operations;
        }
    }
    Ok(work)
}

/// The number of elements; a size that is not a number counts as 1.
fn elements(ty: &TensorType) -> f64 {
    ty.shape.iter().map(|dim| dim.fixed().unwrap_or(1) as f64).product()
}

fn bytes(ty: &TensorType) -> f64 {
    (elements(ty) * ty.dtype.storage_bits() as f64 / 8.0).ceil()
}

fn arithmetic(graph: &Graph, node: &Node, prim: &Prim) -> Result<(f64, f64), IrError> {
    let operand = |i: usize| graph.ty(node.inputs[i]);
    let result = || node.outputs.first().map_or(0.0, |&v| elements(graph.ty(v)));
    let size = |ty: &TensorType, axis: usize| ty.shape[axis].fixed().unwrap_or(1) as f64;
    Ok(match prim {
        Prim::DotGeneral(dims, _) => {
            let summed: f64 = dims.lhs_contract.iter().map(|&axis| size(operand(0), axis)).product();
            (result() * summed, 0.0)
        }
        Prim::Convolution(dims, _) => {
            let kernel = operand(1);
            let window: f64 = (1..kernel.rank()).map(|axis| size(kernel, axis)).product();
            // A transposed convolution multiplies only where its stretched input has an element.
            let stretched: f64 = dims.input_dilation.iter().map(|&d| d as f64).product();
            (result() * window / stretched, 0.0)
        }
        Prim::Unary(_)
        | Prim::Binary(_)
        | Prim::Compare(_)
        | Prim::Select
        | Prim::Cast { .. }
        | Prim::Random { .. } => (0.0, result()),
        Prim::Quantize { .. } | Prim::Dequantize { .. } | Prim::Requantize { .. } => (0.0, 2.0 * result()),
        Prim::Reduce { .. } | Prim::ArgReduce { .. } | Prim::Cumulative { .. } => (0.0, elements(operand(0))),
        Prim::ReduceWindow { window, .. } => {
            (0.0, result() * window.size.iter().map(|&n| n as f64).product::<f64>())
        }
        Prim::TopK { axis, .. } => {
            let n = size(operand(0), *axis);
            (0.0, elements(operand(0)) * n.max(2.0).log2())
        }
        Prim::ScatterAlong { .. } | Prim::ScatterNd { .. } => (0.0, elements(operand(2))),
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
        | Prim::NonZero => (0.0, 0.0),
        Prim::If => {
            let mut dearest = Work::default();
            for region in &node.regions {
                let work = graph_work(region)?;
                if work.macs * 2.0 + work.operations >= dearest.macs * 2.0 + dearest.operations {
                    dearest = work;
                }
            }
            (dearest.macs, dearest.operations)
        }
        Prim::Loop { .. } => {
            let trips = graph
                .constant_integers(node.inputs[0])
                .and_then(|n| n.first().copied())
                .filter(|&n| n < i64::from(i32::MAX))
                .map_or(1.0, |n| n.max(0) as f64);
            let mut total = Work::default();
            for region in &node.regions {
                total.add(graph_work(region)?, trips);
            }
            (total.macs, total.operations)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConvolutionDims, ReduceKind};
    use anychip_tensor::DType;

    #[test]
    fn a_convolution_counts_its_windows() {
        // ResNet-50's first layer: 64 × 112 × 112 results of 3 × 7 × 7 products.
        let mut b = Builder::new("conv");
        let x = b.input("x", TensorType::new(DType::F32, [1, 3, 224, 224]));
        let w = b.constant(Tensor::zeros(DType::F32, [64, 3, 7, 7]).unwrap());
        let dims = ConvolutionDims {
            strides: vec![2, 2],
            padding: vec![(3, 3), (3, 3)],
            dilation: vec![1, 1],
            input_dilation: vec![1, 1],
            groups: 1,
        };
        let y = b.prim(Prim::Convolution(dims, DType::F32), &[x, w]).unwrap();
        let sum = b.reduce(ReduceKind::Sum, y, &[2, 3], false).unwrap();
        let graph = b.finish(&[sum]);
        let work = graph_work(&graph).unwrap();
        assert_eq!(work.macs, 118_013_952.0);
        assert_eq!(work.operations, 64.0 * 112.0 * 112.0);
        assert_eq!(work.weight_bytes, 64.0 * 3.0 * 49.0 * 4.0);
    }

    #[test]
    fn a_loop_counts_each_round() {
        let mut b = Builder::new("loop");
        let x = b.input("x", TensorType::new(DType::F32, [8, 8]));
        let mut body = b.region("body");
        body.input("i", TensorType::scalar(DType::I64));
        let state = body.input("state", TensorType::new(DType::F32, [8, 8]));
        let next = body.matmul(state, state, DType::F32).unwrap();
        let go = body.constant(Tensor::from_bools([], [true]).unwrap());
        let body = body.finish(&[go, next]);
        let trips = b.constant(Tensor::scalar(5i64));
        let start = b.constant(Tensor::from_bools([], [true]).unwrap());
        let y = b.node(Prim::Loop { carried: 1 }, &[trips, start, x], vec![body]).unwrap();
        let graph = b.finish(&y);
        assert_eq!(graph_work(&graph).unwrap().macs, 5.0 * 512.0);
    }
}
