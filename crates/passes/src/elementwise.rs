//! Which operations act on each element alone: what may be moved past a transpose and fused into a kernel's write-back.

use std::collections::BTreeMap;

use anychip_ir::{Builder, Graph, Node, Op, Prim, TensorType};
use anychip_tensor::Dim;

/// Answers whether nodes are elementwise; composites are asked once for their settings.
#[derive(Debug, Default)]
pub struct Elementwise {
    composites: BTreeMap<String, bool>,
}

impl Elementwise {
    /// Whether each element of the one result depends only on the elements of the operands that
    /// broadcast to it. A composite does when its expansion on vectors does.
    pub fn node(&mut self, graph: &Graph, node: &Node) -> bool {
        match &node.op {
            Op::Prim(prim) => Elementwise::prim(prim),
            Op::Composite(composite) => {
                let [input] = node.inputs[..] else { return false };
                if node.outputs.len() != 1 {
                    return false;
                }
                let dtype = graph.ty(input).dtype;
                let key = format!("{} {dtype} {:?}", composite.name(), composite.attributes());
                if let Some(&known) = self.composites.get(&key) {
                    return known;
                }
                let mut b = Builder::new("elementwise");
                let x = b.input("x", TensorType::new(dtype, [Dim::sym("n")]));
                let answer = b.expansion(composite.as_ref(), &[x]).is_ok_and(|expansion| {
                    expansion.nodes().iter().all(|inner| self.inner(&expansion, inner))
                });
                self.composites.insert(key, answer);
                answer
            }
        }
    }

    fn inner(&mut self, expansion: &Graph, node: &Node) -> bool {
        let scalar = node.outputs.iter().all(|&v| expansion.ty(v).rank() == 0);
        matches!(node.op, Op::Prim(Prim::Constant(_))) && scalar || self.node(expansion, node)
    }

    /// Whether a primitive is elementwise.
    pub fn prim(prim: &Prim) -> bool {
        match prim {
            Prim::Unary(_)
            | Prim::Binary(_)
            | Prim::Compare(_)
            | Prim::Select
            | Prim::Cast { .. }
            | Prim::BitCast { .. }
            | Prim::Quantize { .. }
            | Prim::Dequantize { .. }
            | Prim::Requantize { .. } => true,
            Prim::Constant(_)
            | Prim::Iota
            | Prim::Random { .. }
            | Prim::DotGeneral(..)
            | Prim::Convolution(..)
            | Prim::Reduce { .. }
            | Prim::ArgReduce { .. }
            | Prim::ReduceWindow { .. }
            | Prim::Cumulative { .. }
            | Prim::TopK { .. }
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
            | Prim::ScatterAlong { .. }
            | Prim::ScatterNd { .. }
            | Prim::NonZero
            | Prim::If
            | Prim::Loop { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ops::{Gelu, Softmax};
    use anychip_tensor::DType;

    #[test]
    fn composites_are_judged_by_their_expansion() {
        let mut b = Builder::new("g");
        let x = b.input("x", TensorType::new(DType::F32, [2usize, 3]));
        let gelu = b.composite(Gelu { tanh: true }, &[x]).unwrap();
        let softmax = b.composite(Softmax { axis: 0 }, &[gelu]).unwrap();
        let g = b.finish(&[softmax]);
        let mut elementwise = Elementwise::default();
        let answers: Vec<bool> = g.nodes().iter().map(|n| elementwise.node(&g, n)).collect();
        assert_eq!(answers, [true, false]);
    }
}
