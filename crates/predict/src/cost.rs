//! What a model costs, group by group, apart from any chip.

use crate::estimate::Sizes;
use anychip_ir::{Graph, IrError, Prim, ValueId, node_works};
use anychip_ops::ExpertProduct;
use anychip_tensor::DType;

/// The work of one group of operators that run as one kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupCost {
    /// The node that gives the group its name.
    pub name: String,
    /// Its operator.
    pub op: &'static str,
    /// Multiply-accumulates in matrix products and convolutions.
    pub macs: f64,
    /// All other arithmetic.
    pub operations: f64,
    /// Bytes of floating-point values that cross the group's edge, weights included.
    pub float_bytes: f64,
    /// Those of them that are weights of linear layers, which can be kept in fewer bits than activations.
    pub quantizable_bytes: f64,
    /// Bytes of all other values that cross it.
    pub other_bytes: f64,
}

impl GroupCost {
    /// Bytes that cross its edge on each of `tensor` chips that share its weights.
    pub(crate) fn bytes(&self, sizes: &Sizes, tensor: f64) -> f64 {
        (self.float_bytes - self.quantizable_bytes) * sizes.activations
            + self.quantizable_bytes * sizes.weights / tensor
            + self.other_bytes
    }
}

/// The work of a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelCost {
    /// The kernels, in order.
    pub groups: Vec<GroupCost>,
    /// Bytes of all constants.
    pub weight_bytes: f64,
    /// Those of them that are weights of linear layers, but for the one that makes the model's result.
    pub quantizable_bytes: f64,
    /// The most bytes of activations alive at once.
    pub peak_activation_bytes: f64,
    /// The bits of one floating-point value as counted.
    pub float_bits: u32,
}

impl ModelCost {
    /// Operations of one run: two a multiply-accumulate, and the others.
    pub fn operations(&self) -> f64 {
        self.groups.iter().map(|g| 2.0 * g.macs + g.operations).sum()
    }
}

/// Counts the work of an optimized graph whose sizes are numbers.
pub fn cost(graph: &Graph, float_bits: u32) -> Result<ModelCost, IrError> {
    let groups = anychip_passes::fuse::groups(graph);
    let mut model = ModelCost { float_bits, ..ModelCost::default() };
    for v in graph.values() {
        if let Some(tensor) = graph.constant(v) {
            model.weight_bytes += tensor.byte_len() as f64;
        }
    }
    let works = node_works(graph)?;
    let quantizable = quantizable(graph);
    for (v, _) in graph.values().zip(&quantizable).filter(|(_, yes)| **yes) {
        model.quantizable_bytes += value_bytes(graph, v);
    }
    for group in groups.iter() {
        let root = graph.node(group.nodes[0]);
        if group.nodes.len() == 1 && moves_nothing(root) {
            continue;
        }
        let mut cost = GroupCost {
            name: root.label().to_string(),
            op: root.op.name(),
            macs: 0.0,
            operations: 0.0,
            float_bytes: 0.0,
            quantizable_bytes: 0.0,
            other_bytes: 0.0,
        };
        for &id in &group.nodes {
            let work = works[id.index()];
            cost.macs += work.macs;
            cost.operations += work.operations;
        }
        for &v in group.inputs.iter().chain(&group.outputs) {
            let ty = graph.ty(v);
            let bytes = value_bytes(graph, v);
            if matches!(ty.dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
                cost.float_bytes += bytes;
                if quantizable[v.index()] {
                    cost.quantizable_bytes += bytes;
                }
            } else {
                cost.other_bytes += bytes;
            }
        }
        // A gather reads the rows it takes, not the table.
        if let Some(Prim::Take { .. } | Prim::TakeAlong { .. } | Prim::GatherNd { .. }) =
            root.op.prim()
        {
            let written: f64 = group.outputs.iter().map(|&v| value_bytes(graph, v)).sum();
            cost.float_bytes = cost.float_bytes.min(2.0 * written);
        }
        // A mixture reads the matrices of the experts that are chosen, at most one a row.
        if root.op.composite::<ExpertProduct>().is_some()
            && let (Some(&[rows, ..]), Some(&[experts, ..])) = (
                graph.ty(root.inputs[0]).fixed_shape().as_deref(),
                graph.ty(root.inputs[1]).fixed_shape().as_deref(),
            )
        {
            let read = (rows as f64 / experts.max(1) as f64).min(1.0);
            cost.float_bytes -= (1.0 - read) * value_bytes(graph, root.inputs[1]);
            cost.quantizable_bytes *= read;
        }
        model.groups.push(cost);
    }
    model.peak_activation_bytes = peak_activations(graph);
    Ok(model)
}

/// By value: whether it is a weight that nothing but linear layers read, none of which makes a result of the model. What
/// makes scores is kept in full precision by those who quantize weights, and often is the table of an embedding too.
fn quantizable(graph: &Graph) -> Vec<bool> {
    let users = graph.users();
    let linear = |id: &anychip_ir::NodeId| {
        let node = graph.node(*id);
        let product = matches!(node.op.prim(), Some(Prim::DotGeneral(..)))
            || node.op.composite::<ExpertProduct>().is_some();
        product && !node.outputs.iter().any(|v| graph.outputs().contains(v))
    };
    let mut found = vec![false; graph.value_count()];
    for v in graph.values() {
        let users = &users[v.index()];
        let weight = graph.constant(v).is_some_and(|t| t.dtype().is_float() && t.shape().len() > 1);
        found[v.index()] = weight && !users.is_empty() && users.iter().all(linear);
    }
    found
}

/// Nodes that are sources or only rename memory.
pub(crate) fn moves_nothing(node: &anychip_ir::Node) -> bool {
    matches!(
        node.op.prim(),
        Some(Prim::Constant(_) | Prim::Reshape | Prim::ShapeOf | Prim::BitCast { .. } | Prim::Iota)
    )
}

/// Bytes of a value; 0 where only a run can tell its size.
pub(crate) fn value_bytes(graph: &Graph, value: ValueId) -> f64 {
    let ty = graph.ty(value);
    ty.fixed_shape().and_then(|shape| ty.dtype.bytes_for(shape.iter().product())).unwrap_or(0)
        as f64
}

/// The most bytes alive at once when nodes run in order and values die after their last use.
fn peak_activations(graph: &Graph) -> f64 {
    let mut last_use = vec![0usize; graph.value_count()];
    for (id, node) in graph.iter() {
        for v in &node.inputs {
            last_use[v.index()] = id.index();
        }
    }
    for v in graph.outputs() {
        last_use[v.index()] = usize::MAX;
    }
    let bytes = |v: ValueId| value_bytes(graph, v);
    let mut alive: f64 = graph.inputs().iter().map(|&v| bytes(v)).sum();
    let mut peak = alive;
    for (id, node) in graph.iter() {
        if matches!(node.op.prim(), Some(Prim::Constant(_))) {
            continue;
        }
        alive += node.outputs.iter().map(|&v| bytes(v)).sum::<f64>();
        peak = peak.max(alive);
        let mut dead: Vec<ValueId> = node.inputs.clone();
        dead.sort_unstable();
        dead.dedup();
        for v in dead {
            if last_use[v.index()] == id.index() && graph.constant(v).is_none() {
                alive -= bytes(v);
            }
        }
    }
    peak
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{Builder, TensorType};
    use anychip_tensor::Tensor;

    #[test]
    fn a_mixture_reads_the_experts_that_are_chosen() {
        for (rows, read) in [(1usize, 1.0), (3, 3.0), (100, 8.0)] {
            let mut b = Builder::new("mixture");
            let x = b.input("x", TensorType::new(DType::F32, [rows, 16]));
            let chosen = b.input("chosen", TensorType::new(DType::I64, [rows]));
            let w = b.constant(Tensor::zeros(DType::F32, [8, 16, 32]).unwrap());
            let y = b.composite(ExpertProduct {}, &[x, w, chosen]).unwrap();
            let cost = cost(&b.finish(&[y]), 32).unwrap();
            let rows = rows as f64;
            let expected = 4.0 * (read * 16.0 * 32.0 + rows * 16.0 + rows * 32.0);
            assert_eq!(cost.groups.iter().map(|g| g.float_bytes).sum::<f64>(), expected);
            assert_eq!(cost.groups.iter().map(|g| g.macs).sum::<f64>(), rows * 16.0 * 32.0);
        }
    }
}
