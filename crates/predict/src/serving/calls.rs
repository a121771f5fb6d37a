//! The kernels that serving software for language models launches for a graph.
//!
//! Such software (vLLM, `SGLang`, `TensorRT-LLM`) writes the layers of a decoder by hand, so what it launches is known from the
//! layer: products with the same activations are one, changes of layout are none, elementwise arithmetic is part of what
//! follows it, attention appends to the cache itself.

use anychip_ir::{Graph, IrError, Node, NodeId, Op, Prim, ValueId, node_works};
use anychip_ops::{Attention, CachedAttention, ExpertProduct};
use anychip_passes::Elementwise;

use super::attention::AttentionCall;
use crate::cost::{moves_nothing, value_bytes};

/// One sort of kernel with its sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// Activations `m × k` by weights `k × n`; `experts` matrices of a mixture count side by side in `n`.
    Product {
        /// Rows.
        m: f64,
        /// Columns.
        n: f64,
        /// The dimension summed over.
        k: f64,
        /// Quantized with the other weights: all but the one that makes the scores of words.
        quantized: bool,
    },
    /// Attention.
    Attention(AttentionCall),
    /// Anything bound by memory, with bytes in the graph's own format.
    Moving {
        /// Bytes read and written.
        bytes: f64,
    },
}

/// A kernel, and how often it is launched in one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Call {
    /// What it does.
    pub work: Work,
    /// How often.
    pub count: f64,
}

/// The kernels of an optimized graph whose sizes are numbers; `None` where it is not what such software serves: a decoder of
/// linear layers, mixtures and attention to earlier positions.
///
/// # Errors
/// When a size is no number.
pub fn serving_calls(graph: &Graph) -> Result<Option<Vec<Call>>, IrError> {
    let works = node_works(graph)?;
    let mut reader = Reader {
        graph,
        users: graph.users(),
        elementwise: Elementwise::default(),
        open: Vec::new(),
        calls: Vec::new(),
        turning: false,
    };
    let mut attends = false;
    for (id, node) in graph.iter() {
        match reader.read(id, node, works[id.index()].macs) {
            Read::Attention => attends = true,
            Read::Other => {}
            Read::Unserved => return Ok(None),
        }
    }
    Ok(attends.then(|| reader.finish()))
}

enum Read {
    Attention,
    Other,
    Unserved,
}

struct Reader<'a> {
    graph: &'a Graph,
    users: Vec<Vec<NodeId>>,
    elementwise: Elementwise,
    /// Products that another of the same activations would join: the activations (and for mixtures the choice of experts),
    /// and the place of the call.
    open: Vec<(Vec<ValueId>, usize)>,
    calls: Vec<Work>,
    /// The last call is the rotation of queries, which that of keys joins.
    turning: bool,
}

impl Reader<'_> {
    fn read(&mut self, id: NodeId, node: &Node, macs: f64) -> Read {
        if moves_nothing(node) {
            return Read::Other;
        }
        match &node.op {
            Op::Prim(Prim::DotGeneral(dims, _)) => return self.linear(node, dims, macs),
            Op::Prim(Prim::Transpose { .. } | Prim::Broadcast) => return Read::Other,
            Op::Prim(_) | Op::Composite(_) => {}
        }
        if let Some(attention) = node.op.composite::<Attention>() {
            let plain = attention.causal
                && attention.softcap == 0.0
                && attention.scores.is_none()
                && node.inputs.len() == 3;
            return if plain { self.attention(node, 1) } else { Read::Unserved };
        }
        if node.op.composite::<CachedAttention>().is_some() {
            return if node.inputs.len() == 5 { self.cached(node) } else { Read::Unserved };
        }
        if node.op.composite::<ExpertProduct>().is_some() {
            return self.experts(node);
        }
        if macs > 0.0 {
            return Read::Unserved;
        }
        // Queries and keys are turned by one kernel.
        if node.op.name() == "rotary-embedding" {
            let turned = self.bytes(&node.inputs) + self.bytes(&node.outputs);
            match self.calls.last_mut() {
                Some(Work::Moving { bytes }) if self.turning => *bytes += turned,
                _ => self.calls.push(Work::Moving { bytes: turned }),
            }
            self.turning = true;
            return Read::Other;
        }
        if self.absorbed(id, node) {
            return Read::Other;
        }
        let bytes = self.moved(node);
        self.calls.push(Work::Moving { bytes });
        self.turning = false;
        Read::Other
    }

    /// Whether an elementwise node becomes part of what follows it: more of its kind, or a norm.
    fn absorbed(&mut self, id: NodeId, node: &Node) -> bool {
        if !self.elementwise.node(self.graph, node) {
            return false;
        }
        // A bias is added by the product.
        if node.inputs.iter().any(|&v| self.graph.constant(v).is_some()) {
            return true;
        }
        let users = self.users_of(id);
        !users.is_empty()
            && users.iter().all(|&user| {
                let user = self.graph.node(user);
                is_norm(user) || self.elementwise.node(self.graph, user)
            })
    }

    /// The nodes that use a node's results, seen through changes of shape.
    fn users_of(&self, id: NodeId) -> Vec<NodeId> {
        let mut found = Vec::new();
        let mut seen: Vec<ValueId> = self.graph.node(id).outputs.clone();
        while let Some(value) = seen.pop() {
            for &user in &self.users[value.index()] {
                let node = self.graph.node(user);
                if matches!(node.op.prim(), Some(Prim::Reshape | Prim::Transpose { .. })) {
                    seen.extend(&node.outputs);
                } else {
                    found.push(user);
                }
            }
        }
        found
    }

    fn bytes(&self, values: &[ValueId]) -> f64 {
        values.iter().map(|&v| value_bytes(self.graph, v)).sum()
    }

    /// Bytes of a kernel with the elementwise nodes that it absorbed: their other operands are read with it.
    fn moved(&mut self, node: &Node) -> f64 {
        let written = self.bytes(&node.outputs);
        if let Some(
            Prim::Take { .. } | Prim::TakeAlong { .. } | Prim::GatherNd { .. } | Prim::Slice { .. },
        ) = node.op.prim()
        {
            return 2.0 * written;
        }
        let mut read = 0.0;
        for &input in &node.inputs {
            let absorbed = self
                .graph
                .producer(input)
                .cloned()
                .filter(|p| p.inputs.len() > 1 && self.elementwise.node(self.graph, p));
            read += match absorbed {
                // A sum that goes on beside the norm is written too.
                Some(sum) => self.bytes(&sum.inputs) + self.bytes(&[input]),
                None => self.bytes(&[input]),
            };
        }
        read + written
    }

    fn shape(&self, value: ValueId) -> Vec<f64> {
        let shape = self.graph.ty(value).fixed_shape().unwrap_or_default();
        shape.into_iter().map(|d| d as f64).collect()
    }

    fn linear(&mut self, node: &Node, dims: &anychip_ir::DotDims, macs: f64) -> Read {
        let weight = node.inputs.iter().position(|&v| self.graph.constant(v).is_some());
        let Some(weight) = weight.filter(|_| dims.lhs_batch.is_empty()) else {
            return Read::Unserved;
        };
        let activations = node.inputs[1 - weight];
        let contracted = if weight == 1 { &dims.lhs_contract } else { &dims.rhs_contract };
        let shape = self.shape(activations);
        let k: f64 = contracted.iter().map(|&d| shape[d]).product();
        let m = shape.iter().product::<f64>() / k.max(1.0);
        let n = macs / (m * k).max(1.0);
        let scores = node.outputs.iter().any(|v| self.graph.outputs().contains(v));
        self.product(vec![activations], m, n, k, !scores);
        Read::Other
    }

    /// A mixture: rows spread evenly over the experts that are chosen at all.
    fn experts(&mut self, node: &Node) -> Read {
        let (&[rows, k], &[experts, _, n]) =
            (&self.shape(node.inputs[0])[..], &self.shape(node.inputs[1])[..])
        else {
            return Read::Unserved;
        };
        let experts = experts.max(1.0);
        // The expected number of different ones among `rows` independent, even choices.
        let active = (experts * (1.0 - (1.0 - 1.0 / experts).powf(rows))).max(1.0);
        let key = vec![node.inputs[0], node.inputs[2]];
        self.product(key, rows / active, n * active, k, true);
        Read::Other
    }

    fn product(&mut self, key: Vec<ValueId>, m: f64, n: f64, k: f64, quantized: bool) {
        if let Some((_, at)) = self.open.iter().find(|(open, _)| *open == key)
            && let Some(Work::Product { n: joined, quantized: same, .. }) = self.calls.get_mut(*at)
            && *same == quantized
        {
            *joined += n;
            return;
        }
        self.turning = false;
        self.open.push((key, self.calls.len()));
        self.calls.push(Work::Product { m, n, k, quantized });
    }

    fn cached(&mut self, node: &Node) -> Read {
        let kept = self.shape(node.inputs[1]);
        let new = self.shape(node.inputs[0]);
        // Pieces of a prompt behind others were not measured.
        match (new.get(2), kept.get(2)) {
            (Some(1.0), Some(&kept)) => self.attention(node, 1 + kept as usize),
            _ => Read::Unserved,
        }
    }

    /// `keys` positions where they are not all in the operand.
    fn attention(&mut self, node: &Node, keys: usize) -> Read {
        let (&[batch, heads, queries, depth], &[_, key_heads, positions, _]) =
            (&self.shape(node.inputs[0])[..], &self.shape(node.inputs[1])[..])
        else {
            return Read::Unserved;
        };
        let keys = positions.max(keys as f64);
        self.calls.push(Work::Attention(AttentionCall {
            batch,
            queries,
            keys,
            heads,
            key_heads,
            depth,
            window: f64::INFINITY,
            cache_bytes: 2.0,
        }));
        self.open.clear();
        self.turning = false;
        Read::Attention
    }

    /// Equal kernels counted together, in the order in which each first comes.
    fn finish(self) -> Vec<Call> {
        let mut found: Vec<Call> = Vec::new();
        for work in self.calls {
            match found.iter_mut().find(|call| call.work == work) {
                Some(call) => call.count += 1.0,
                None => found.push(Call { work, count: 1.0 }),
            }
        }
        found
    }
}

fn is_norm(node: &Node) -> bool {
    matches!(node.op.name(), "rms-norm" | "layer-norm")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{Binary, Builder, DotDims, TensorType};
    use anychip_tensor::{DType, Tensor};

    fn linear(b: &mut Builder, x: ValueId, k: usize, n: usize) -> ValueId {
        let w = b.constant(Tensor::zeros(DType::F16, vec![k, n]).expect("fits"));
        let last = b.rank(x) - 1;
        let dims = DotDims {
            lhs_batch: vec![],
            rhs_batch: vec![],
            lhs_contract: vec![last],
            rhs_contract: vec![0],
        };
        b.prim(Prim::DotGeneral(dims, DType::F16), &[x, w]).expect("types agree")
    }

    fn value(b: &mut Builder, name: &str, shape: &[usize]) -> ValueId {
        b.input(name, TensorType::new(DType::F16, shape.to_vec()))
    }

    #[test]
    fn a_layer_joins_products_and_absorbs_what_is_elementwise() {
        let mut b = Builder::new("layer");
        let x = value(&mut b, "x", &[4, 64]);
        let (gate, up) = (linear(&mut b, x, 64, 96), linear(&mut b, x, 64, 96));
        let gate = b.prim(Prim::Unary(anychip_ir::Unary::Tanh), &[gate]).expect("types");
        let product = b.prim(Prim::Binary(Binary::Mul), &[gate, up]).expect("types");
        let down = linear(&mut b, product, 96, 64);
        let q = value(&mut b, "q", &[4, 8, 1, 16]);
        let past = value(&mut b, "past", &[4, 2, 31, 16]);
        let new = value(&mut b, "new", &[4, 2, 1, 16]);
        let y = b
            .composite(CachedAttention { scale: 0.25 }, &[q, past, past, new, new])
            .expect("types");
        let calls = serving_calls(&b.finish(&[down, y])).expect("counts").expect("served");
        let products: Vec<&Call> =
            calls.iter().filter(|c| matches!(c.work, Work::Product { .. })).collect();
        assert_eq!(
            products[0].work,
            Work::Product { m: 4.0, n: 192.0, k: 64.0, quantized: true },
            "gate and up are one"
        );
        assert_eq!(products[1].work, Work::Product { m: 4.0, n: 64.0, k: 96.0, quantized: false });
        let attention = calls.iter().find_map(|c| match c.work {
            Work::Attention(call) => Some(call),
            Work::Product { .. } | Work::Moving { .. } => None,
        });
        let attention = attention.expect("there is one");
        assert_eq!((attention.keys, attention.queries, attention.key_heads), (32.0, 1.0, 2.0));
        let moving: Vec<&Call> =
            calls.iter().filter(|c| matches!(c.work, Work::Moving { .. })).collect();
        assert_eq!(moving.len(), 1, "the activation is part of the multiplication: {calls:?}");
    }

    #[test]
    fn mixtures_read_the_experts_that_are_chosen() {
        let mut b = Builder::new("mixture");
        let x = value(&mut b, "x", &[1, 16]);
        let chosen = b.input("chosen", TensorType::new(DType::I64, [1usize]));
        let w = b.constant(Tensor::zeros(DType::F16, [8, 16, 32]).expect("fits"));
        let y = b.composite(ExpertProduct {}, &[x, w, chosen]).expect("types");
        let q = value(&mut b, "q", &[1, 2, 5, 16]);
        let z = b.composite(Attention::new(0.25, true), &[q, q, q]).expect("types");
        let calls = serving_calls(&b.finish(&[y, z])).expect("counts").expect("served");
        assert_eq!(calls[0].work, Work::Product { m: 1.0, n: 32.0, k: 16.0, quantized: true });
    }

    #[test]
    fn what_is_no_decoder_is_not_served() {
        let mut b = Builder::new("encoder");
        let q = value(&mut b, "q", &[1, 2, 5, 16]);
        let z = b.composite(Attention::new(0.25, false), &[q, q, q]).expect("types");
        assert_eq!(serving_calls(&b.finish(&[z])).expect("counts"), None);
        let mut b = Builder::new("linear");
        let x = value(&mut b, "x", &[4, 64]);
        let y = linear(&mut b, x, 64, 96);
        assert_eq!(serving_calls(&b.finish(&[y])).expect("counts"), None, "nothing attends");
    }
}
