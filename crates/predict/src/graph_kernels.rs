//! The kernels of a graph, as software would launch them: the same alphabet that the tables are fitted on.

use anychip_ir::{Graph, IrError, Node, Op, Prim, ValueId, node_works};
use anychip_passes::Elementwise;
use anychip_tensor::DType;
use serde::{Deserialize, Serialize};

use crate::kernel::{Class, Kernel};

/// How software turns operators into kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Launching {
    /// Each operator is a kernel.
    Eager,
    /// Elementwise operators join; products stay kernels of their own, which is what compilers do by default.
    Compiled,
}

/// What a kernel is called in tables of layers, and the arithmetic it does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Label {
    /// The node, or the first of several.
    pub(crate) name: String,
    /// Operations of one; a multiply-accumulate is two.
    pub(crate) operations: f64,
}

/// The kernels of an optimized graph whose sizes are numbers; floating-point values count `scale` times the bytes
/// they have in the graph.
pub fn graph_kernels(
    graph: &Graph,
    launching: Launching,
    scale: f64,
) -> Result<Vec<Kernel>, IrError> {
    Ok(labeled_kernels(graph, launching, scale)?.0)
}

/// [`graph_kernels`], and the label of each.
pub(crate) fn labeled_kernels(
    graph: &Graph,
    launching: Launching,
    scale: f64,
) -> Result<(Vec<Kernel>, Vec<Label>), IrError> {
    let works = node_works(graph)?;
    let mut elementwise = Elementwise::default();
    let (mut kernels, mut labels) = (Vec::new(), Vec::new());
    for group in anychip_passes::fuse::groups(graph).iter() {
        let mut tail: Option<Class> = None;
        let mut tail_label: Option<Label> = None;
        for &id in &group.nodes {
            let node = graph.node(id);
            if crate::cost::moves_nothing(node) {
                continue;
            }
            let work = works[id.index()];
            let class = class_of(graph, node, work.macs, &mut elementwise);
            let operations = 2.0 * work.macs + work.operations;
            let label = || Label { name: node.label().to_string(), operations };
            let alone =
                launching == Launching::Eager || class.is_product() || group.nodes.len() == 1;
            if alone {
                kernels.push(kernel(graph, node, class, work.macs, scale));
                labels.push(label());
            } else {
                match &mut tail_label {
                    Some(first) => first.operations += operations,
                    None => tail_label = Some(label()),
                }
                // What follows a product, or a run of elementwise operators, is one kernel.
                let heavier = tail == Some(Class::Transcendental) || class == Class::Transcendental;
                tail = Some(if heavier { Class::Transcendental } else { class });
            }
        }
        labels.extend(tail_label);
        if let Some(class) = tail {
            let constants = group
                .inputs
                .iter()
                .filter(|&&v| graph.constant(v).is_some())
                .map(|&v| bytes(graph, v, scale));
            let weight_bytes: f64 = constants.sum();
            let product = works[group.nodes[0].index()].macs > 0.0;
            // The product's result is read again by the kernel after it.
            let mut moved: f64 = if product {
                graph.node(group.nodes[0]).outputs.iter().map(|&v| bytes(graph, v, scale)).sum()
            } else {
                group
                    .inputs
                    .iter()
                    .filter(|&&v| graph.constant(v).is_none())
                    .map(|&v| bytes(graph, v, scale))
                    .sum()
            };
            moved += group.outputs.iter().map(|&v| bytes(graph, v, scale)).sum::<f64>();
            let weight_bytes = if product { 0.0 } else { weight_bytes };
            kernels.push(Kernel { weight_bytes, ..Kernel::moving(class, moved) });
        }
    }
    debug_assert_eq!(kernels.len(), labels.len());
    Ok((kernels, labels))
}

/// Bytes of a value; 0 where only a run can tell its size.
fn bytes(graph: &Graph, value: ValueId, scale: f64) -> f64 {
    let ty = graph.ty(value);
    let float = matches!(ty.dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
    crate::cost::value_bytes(graph, value) * if float { scale } else { 1.0 }
}

fn class_of(graph: &Graph, node: &Node, macs: f64, elementwise: &mut Elementwise) -> Class {
    match &node.op {
        Op::Prim(Prim::Convolution(dims, _)) => {
            let weight = graph.ty(node.inputs[1]).fixed_shape().unwrap_or_default();
            if dims.groups > 1 {
                let one = weight.get(1) == Some(&1);
                return if one { Class::Depthwise } else { Class::Grouped };
            }
            let area: usize = weight.iter().skip(2).product();
            return if area == 1 { Class::Pointwise } else { Class::Convolution };
        }
        Op::Prim(Prim::DotGeneral(..)) => {
            let weighed = node.inputs.iter().any(|&v| graph.constant(v).is_some());
            return if weighed { Class::Linear } else { Class::Matmul };
        }
        Op::Prim(_) | Op::Composite(_) => {}
    }
    match node.op.name() {
        "attention" => Class::Attention,
        "batch-norm" => Class::BatchNorm,
        "layer-norm" | "group-norm" | "rms-norm" | "local-response-norm" => Class::Norm,
        "softmax" | "log-softmax" => Class::Softmax,
        "reduce" | "arg-reduce" | "cumulative" | "top-k" | "sort" => Class::Reduction,
        "reduce-window" | "average-pool" | "max-pool-indices" | "resize" | "grid-sample"
        | "roi-align" => Class::Pool,
        "cast" => Class::Cast,
        "gelu" | "silu" | "exp" | "log" | "tanh" | "erf" | "sigmoid" | "sqrt" | "sin" | "cos"
        | "power" | "pow" => Class::Transcendental,
        _ if elementwise.node(graph, node) => Class::Elementwise,
        // A recurrence is its matrix products.
        _ if macs > 0.0 => Class::Matmul,
        _ => Class::Copy,
    }
}

fn kernel(graph: &Graph, node: &Node, class: Class, macs: f64, scale: f64) -> Kernel {
    let sum = |values: &[ValueId], constants: bool| -> f64 {
        let wanted = values.iter().filter(|&&v| graph.constant(v).is_some() == constants);
        wanted.map(|&v| bytes(graph, v, scale)).sum()
    };
    let written = sum(&node.outputs, false);
    let mut moved = sum(&node.inputs, false) + written;
    let mut weight_bytes = sum(&node.inputs, true);
    // A gather reads the rows it takes, not the table.
    if let Some(Prim::Take { .. } | Prim::TakeAlong { .. } | Prim::GatherNd { .. }) = node.op.prim()
    {
        moved = moved.min(2.0 * written);
        weight_bytes = weight_bytes.min(written);
    }
    let mut kernel = Kernel { macs, weight_bytes, ..Kernel::moving(class, moved) };
    let shape = |v: ValueId| graph.ty(v).fixed_shape().unwrap_or_default();
    match &node.op {
        Op::Prim(Prim::Convolution(dims, _)) => {
            let (result, weight) = (shape(node.outputs[0]), shape(node.inputs[1]));
            let positions: usize = result.iter().skip(2).product();
            kernel.groups = dims.groups as f64;
            kernel.rows = (result.first().copied().unwrap_or(1) * positions) as f64;
            kernel.columns =
                weight.first().copied().unwrap_or(1) as f64 / dims.groups.max(1) as f64;
            kernel.area = weight.iter().skip(2).product::<usize>().max(1) as f64;
            kernel.depth = weight.iter().skip(1).product::<usize>() as f64;
        }
        Op::Prim(Prim::DotGeneral(dims, _)) => {
            let (left, right) = (shape(node.inputs[0]), shape(node.inputs[1]));
            let over = |s: &[usize], at: &[usize]| {
                at.iter().map(|&d| s[d]).product::<usize>().max(1) as f64
            };
            let side = over(&left, &dims.lhs_batch);
            let depth = over(&left, &dims.lhs_contract);
            let all = |s: &[usize]| s.iter().product::<usize>().max(1) as f64;
            let (rows, columns) = (all(&left) / side / depth, all(&right) / side / depth);
            // The weight has the columns, on whichever side it stands.
            let swapped = graph.constant(node.inputs[0]).is_some();
            (kernel.rows, kernel.columns) = if swapped { (columns, rows) } else { (rows, columns) };
            kernel.depth = depth;
            kernel.groups = side;
        }
        Op::Prim(_) | Op::Composite(_) if class.is_product() => {
            // Attention as one kernel: queries by keys over the depth of a head, the heads side by side.
            let (query, key) =
                (shape(node.inputs[0]), shape(*node.inputs.get(1).unwrap_or(&node.inputs[0])));
            let last =
                |s: &[usize], back: usize| s.iter().rev().nth(back).copied().unwrap_or(1) as f64;
            kernel.rows = last(&query, 1);
            kernel.columns = last(&key, 1);
            kernel.depth = last(&query, 0);
            kernel.groups = (query.iter().rev().skip(2).product::<usize>()).max(1) as f64;
        }
        Op::Prim(_) | Op::Composite(_) => {}
    }
    kernel
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{Builder, DotDims, TensorType, Unary};

    fn linear_and_relu() -> Graph {
        let mut b = Builder::new("linear");
        let x = b.input("x", TensorType::new(DType::F32, [12usize, 64]));
        let w = b.constant(anychip_tensor::Tensor::zeros(DType::F32, vec![32, 64]).expect("fits"));
        let dims = DotDims {
            lhs_batch: vec![],
            rhs_batch: vec![],
            lhs_contract: vec![1],
            rhs_contract: vec![1],
        };
        let y = b.prim(Prim::DotGeneral(dims, DType::F32), &[x, w]).expect("types agree");
        let z = b.prim(Prim::Unary(Unary::Exp), &[y]).expect("types agree");
        b.finish(&[z])
    }

    #[test]
    fn a_product_and_what_follows_it_are_two_kernels() {
        let graph = linear_and_relu();
        for launching in [Launching::Eager, Launching::Compiled] {
            let kernels = graph_kernels(&graph, launching, 0.5).expect("counts");
            assert_eq!(kernels.len(), 2, "{kernels:?}");
            let product = kernels[0];
            assert_eq!(product.class, Class::Linear);
            assert_eq!((product.rows, product.columns, product.depth), (12.0, 32.0, 64.0));
            assert_eq!(product.macs, 12.0 * 32.0 * 64.0);
            assert_eq!(product.weight_bytes, 2.0 * 32.0 * 64.0);
            assert_eq!(product.bytes, 2.0 * (12.0 * 64.0 + 12.0 * 32.0));
            assert_eq!(kernels[1].class, Class::Transcendental);
            assert_eq!(kernels[1].bytes, 2.0 * 2.0 * 12.0 * 32.0);
        }
    }
}
