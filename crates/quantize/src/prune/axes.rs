//! Which dims of which values hold the same channels: what has to go together when one goes.

use std::collections::BTreeMap;

use anychip_ir::{DotDims, Graph, Node, Op, Prim, ValueId};
use anychip_ops::{AveragePool, Gelu, Silu};
use anychip_tensor::Dim;

/// A dim of a value.
type Axis = (ValueId, usize);

/// Sets of dims that are the same channels, and whether each may lose some.
pub(super) struct Axes<'g> {
    graph: &'g Graph,
    places: BTreeMap<Axis, usize>,
    parents: Vec<usize>,
    fixed: Vec<bool>,
}

impl<'g> Axes<'g> {
    /// Looks at every node of a graph. What an operator does to its dims is written down for those that keep channels apart; the
    /// dims of all others, of the graph's inputs and of its outputs stay as they are.
    pub(super) fn of(graph: &'g Graph) -> Axes<'g> {
        let mut axes =
            Axes { graph, places: BTreeMap::new(), parents: Vec::new(), fixed: Vec::new() };
        for &value in graph.inputs().iter().chain(graph.outputs()) {
            axes.keep_all(value);
        }
        for node in graph.nodes() {
            axes.visit(node);
        }
        axes
    }

    /// The set that a dim belongs to, where it may lose channels.
    pub(super) fn set(&mut self, value: ValueId, axis: usize) -> Option<usize> {
        self.size(value, axis)?;
        let place = self.place((value, axis));
        let root = self.root(place);
        (!self.fixed[root]).then_some(root)
    }

    /// The size of a dim, where it is a number above 1.
    fn size(&self, value: ValueId, axis: usize) -> Option<usize> {
        self.graph.ty(value).shape.get(axis)?.fixed().filter(|&n| n > 1)
    }

    fn place(&mut self, axis: Axis) -> usize {
        let next = self.parents.len();
        let place = *self.places.entry(axis).or_insert(next);
        if place == next {
            self.parents.push(next);
            self.fixed.push(false);
        }
        place
    }

    fn root(&self, mut at: usize) -> usize {
        while self.parents[at] != at {
            at = self.parents[at];
        }
        at
    }

    fn join(&mut self, a: Axis, b: Axis) {
        let sizes = [self.size(a.0, a.1), self.size(b.0, b.1)];
        let (a, b) = (self.place(a), self.place(b));
        let (a, b) = (self.root(a), self.root(b));
        // A dim of 1 that is read for all of another says nothing of its channels.
        if a != b && sizes[0].is_some() && sizes[0] == sizes[1] {
            self.parents[b] = a;
            self.fixed[a] |= self.fixed[b];
        }
    }

    fn keep(&mut self, axis: Axis) {
        let place = self.place(axis);
        let root = self.root(place);
        self.fixed[root] = true;
    }

    fn keep_all(&mut self, value: ValueId) {
        (0..self.rank(value)).for_each(|axis| self.keep((value, axis)));
    }

    fn rank(&self, value: ValueId) -> usize {
        self.graph.ty(value).rank()
    }

    fn keep_node(&mut self, node: &Node) {
        for &value in node.inputs.iter().chain(&node.outputs) {
            self.keep_all(value);
        }
    }

    /// Dims of operand and result that lie alike from the end.
    fn elementwise(&mut self, node: &Node) {
        let y = node.outputs[0];
        let rank = self.rank(y);
        for &x in &node.inputs {
            let before = rank - self.rank(x);
            (0..self.rank(x)).for_each(|axis| self.join((y, before + axis), (x, axis)));
        }
    }

    /// The leading dims stay apart, the others are kept.
    fn leading(&mut self, x: ValueId, y: ValueId, count: usize) {
        for axis in 0..self.rank(x) {
            if axis < count {
                self.join((x, axis), (y, axis));
            } else {
                self.keep((x, axis));
                self.keep((y, axis));
            }
        }
    }

    fn visit(&mut self, node: &Node) {
        let Op::Prim(prim) = &node.op else {
            let alike =
                node.op.composite::<Silu>().is_some() || node.op.composite::<Gelu>().is_some();
            match node.op.composite::<AveragePool>() {
                Some(pool) => {
                    let apart = self.rank(node.inputs[0]) - pool.size.len();
                    self.leading(node.inputs[0], node.outputs[0], apart);
                }
                None if alike => self.elementwise(node),
                None => self.keep_node(node),
            }
            return;
        };
        match prim {
            Prim::Constant(_) => {}
            Prim::Unary(_)
            | Prim::Binary(_)
            | Prim::Compare(_)
            | Prim::Select
            | Prim::Cast { .. } => self.elementwise(node),
            Prim::DotGeneral(dims, _) => self.dot(node, dims),
            Prim::Convolution(dims, _) => {
                let (x, w, y) = (node.inputs[0], node.inputs[1], node.outputs[0]);
                self.keep((x, 0));
                self.keep((y, 0));
                for axis in 2..self.rank(w) {
                    for v in [x, w, y] {
                        self.keep((v, axis));
                    }
                }
                self.convolution((x, w, y), dims.groups);
            }
            Prim::Reduce { axes, .. } => self.reduce(node, axes),
            Prim::ReduceWindow { window, .. } => {
                let apart = self.rank(node.inputs[0]) - window.size.len();
                self.leading(node.inputs[0], node.outputs[0], apart);
            }
            Prim::Transpose { permutation } => {
                for (axis, &from) in permutation.iter().enumerate() {
                    self.join((node.outputs[0], axis), (node.inputs[0], from));
                }
            }
            Prim::Reshape => self.reshape(node.inputs[0], node.outputs[0]),
            Prim::Pad => self.pad(node),
            Prim::Slice { axes } => {
                let (x, y) = (node.inputs[0], node.outputs[0]);
                for axis in 0..self.rank(x) {
                    if axes.contains(&axis) {
                        self.keep((x, axis));
                        self.keep((y, axis));
                    } else {
                        self.join((x, axis), (y, axis));
                    }
                }
            }
            Prim::Iota
            | Prim::Random { .. }
            | Prim::BitCast { .. }
            | Prim::ArgReduce { .. }
            | Prim::Cumulative { .. }
            | Prim::TopK { .. }
            | Prim::ShapeOf
            | Prim::Broadcast
            | Prim::Concat { .. }
            | Prim::Take { .. }
            | Prim::TakeAlong { .. }
            | Prim::GatherNd { .. }
            | Prim::ScatterAlong { .. }
            | Prim::ScatterNd { .. }
            | Prim::NonZero
            | Prim::Quantize { .. }
            | Prim::Dequantize { .. }
            | Prim::Requantize { .. }
            | Prim::If
            | Prim::Loop { .. } => self.keep_node(node),
        }
    }

    fn convolution(&mut self, (x, w, y): (ValueId, ValueId, ValueId), groups: usize) {
        let channels = self.size(x, 1).unwrap_or(1);
        if groups == 1 {
            self.join((x, 1), (w, 1));
            self.join((w, 0), (y, 1));
        } else if groups == channels && self.size(w, 0) == Some(channels) {
            // One filter a channel.
            self.join((x, 1), (w, 0));
            self.join((w, 0), (y, 1));
        } else {
            for axis in [(x, 1), (w, 0), (w, 1), (y, 1)] {
                self.keep(axis);
            }
        }
    }

    fn dot(&mut self, node: &Node, dims: &DotDims) {
        let (lhs, rhs, y) = (node.inputs[0], node.inputs[1], node.outputs[0]);
        let mut at = 0;
        for (&l, &r) in dims.lhs_batch.iter().zip(&dims.rhs_batch) {
            self.join((lhs, l), (rhs, r));
            self.join((lhs, l), (y, at));
            at += 1;
        }
        for (&l, &r) in dims.lhs_contract.iter().zip(&dims.rhs_contract) {
            self.join((lhs, l), (rhs, r));
        }
        for (x, batch, contract) in
            [(lhs, &dims.lhs_batch, &dims.lhs_contract), (rhs, &dims.rhs_batch, &dims.rhs_contract)]
        {
            for axis in (0..self.rank(x)).filter(|a| !batch.contains(a) && !contract.contains(a)) {
                self.join((x, axis), (y, at));
                at += 1;
            }
        }
    }

    fn reduce(&mut self, node: &Node, axes: &[usize]) {
        let (x, y) = (node.inputs[0], node.outputs[0]);
        let mut at = 0;
        for axis in 0..self.rank(x) {
            if axes.contains(&axis) {
                // Fewer channels would make another sum.
                self.keep((x, axis));
            } else {
                self.join((x, axis), (y, at));
                at += 1;
            }
        }
    }

    fn pad(&mut self, node: &Node) {
        let (x, y) = (node.inputs[0], node.outputs[0]);
        let amounts = |v: ValueId| self.graph.constant(v).map(anychip_tensor::Tensor::to_i64);
        let (low, high) = (amounts(node.inputs[1]), amounts(node.inputs[2]));
        for axis in 0..self.rank(x) {
            let none = |of: &Option<Vec<i64>>| of.as_ref().is_some_and(|a| a.get(axis) == Some(&0));
            if none(&low) && none(&high) {
                self.join((x, axis), (y, axis));
            } else {
                self.keep((x, axis));
                self.keep((y, axis));
            }
        }
    }

    /// Dims other than 1 that follow each other in both are the same; where several become one or one several, all stay.
    fn reshape(&mut self, x: ValueId, y: ValueId) {
        let dims = |v: ValueId| -> Vec<(usize, Dim)> {
            let shape = self.graph.ty(v).shape.iter().cloned().enumerate();
            shape.filter(|(_, d)| *d != Dim::Fixed(1)).collect()
        };
        let (from, to) = (dims(x), dims(y));
        let (mut i, mut j) = (0, 0);
        while i < from.len() && j < to.len() && from[i].1 == to[j].1 {
            self.join((x, from[i].0), (y, to[j].0));
            (i, j) = (i + 1, j + 1);
        }
        let (mut m, mut n) = (from.len(), to.len());
        while m > i && n > j && from[m - 1].1 == to[n - 1].1 {
            (m, n) = (m - 1, n - 1);
            self.join((x, from[m].0), (y, to[n].0));
        }
        from[i..m].iter().for_each(|(axis, _)| self.keep((x, *axis)));
        to[j..n].iter().for_each(|(axis, _)| self.keep((y, *axis)));
    }
}
