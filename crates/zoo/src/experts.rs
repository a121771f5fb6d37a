//! Mixtures of experts: a router picks a few of many feed-forward networks for each token (arXiv:1701.06538).

use anychip_ir::{Prim, ReduceKind, ValueId};
use anychip_ops::{ExpertProduct, Softmax};
use anychip_tensor::{Dim, Tensor};

use crate::activation::Activation;
use crate::net::{Made, Net};

/// How many experts there are and how they are mixed.
#[derive(Debug, Clone)]
pub(crate) struct Experts {
    pub(crate) count: usize,
    /// How many serve one token.
    pub(crate) chosen: usize,
    /// Width inside one.
    pub(crate) inner: usize,
    /// Whether the shares of the chosen ones sum to 1.
    pub(crate) normalized: bool,
    /// Width inside one that serves every token, with a gate of its own (Qwen).
    pub(crate) shared: Option<usize>,
}

impl Net {
    /// `down(activation(gate(x)) · up(x))`, the gated feed-forward network of Llama (arXiv:2002.05202).
    pub(crate) fn gated(&mut self, x: ValueId, inner: usize, activation: Activation) -> Made {
        let width = self.width(x)?;
        let gate = self.linear("gate", x, inner, false)?;
        let gate = self.activate(gate, activation)?;
        let up = self.linear("up", x, inner, false)?;
        let product = self.b.mul(gate, up)?;
        self.linear("down", product, width, false)
    }

    /// The mixture for `[n, s, d]`. Every token goes to its experts, however unevenly they are chosen.
    pub(crate) fn mixture(
        &mut self,
        x: ValueId,
        experts: &Experts,
        activation: Activation,
    ) -> Made {
        let dims = self.b.dims(x);
        let width = self.width(x)?;
        let (count, chosen, inner) = (experts.count, experts.chosen, experts.inner);
        let tokens = dims[0].clone() * dims[1].clone();
        let rows = self.b.reshape(x, &[tokens.clone(), width.into()])?;

        let scores = self.linear("router", rows, count, false)?;
        let b = &mut self.b;
        let shares = b.composite(Softmax { axis: 1 }, &[scores])?;
        let k = b.constant(Tensor::scalar(chosen as i64));
        let top = b.node(Prim::TopK { axis: 1, largest: true }, &[shares, k], Vec::new())?;
        let (mut shares, which) = (top[0], top[1]);
        if experts.normalized {
            let sum = b.reduce(ReduceKind::Sum, shares, &[1], true)?;
            shares = b.div(shares, sum)?;
        }
        // One row for each pair of a token and an expert that serves it.
        let pairs = tokens.clone() * Dim::Fixed(chosen);
        let which = b.reshape(which, std::slice::from_ref(&pairs))?;
        let wide = b.unsqueeze(rows, &[1])?;
        let wide = b.broadcast(wide, &[tokens.clone(), chosen.into(), width.into()])?;
        let wide = b.reshape(wide, &[pairs, width.into()])?;

        let gate = self.expert("gate", wide, which, [count, width, inner])?;
        let gate = self.activate(gate, activation)?;
        let up = self.expert("up", wide, which, [count, width, inner])?;
        let product = self.b.mul(gate, up)?;
        let down = self.expert("down", product, which, [count, inner, width])?;

        let b = &mut self.b;
        let down = b.reshape(down, &[tokens, chosen.into(), width.into()])?;
        let shares = b.unsqueeze(shares, &[2])?;
        let weighted = b.mul(down, shares)?;
        let mut sum = b.reduce(ReduceKind::Sum, weighted, &[1], false)?;
        if let Some(inner) = experts.shared {
            let shared = self.within("shared", |net| net.gated(rows, inner, activation))?;
            let gate = self.linear("shared_gate", rows, 1, false)?;
            let gate = self.activate(gate, Activation::Sigmoid)?;
            let shared = self.b.mul(shared, gate)?;
            sum = self.b.add(sum, shared)?;
        }
        self.b.reshape(sum, &dims)
    }

    fn expert(&mut self, name: &str, x: ValueId, which: ValueId, shape: [usize; 3]) -> Made {
        self.within(name, |net| {
            let w = net.weights(&shape, shape[1])?;
            net.b.composite(ExpertProduct {}, &[x, w, which])
        })
    }
}
