//! Numbers that a value's channels are divided by, and where a division can go instead: into constants before it.

use std::collections::BTreeMap;

use anychip_ir::{Binary, Graph, Node, NodeId, Op, Prim, ReduceKind, Unary, ValueId};
use anychip_ops::{Attention, AveragePool, LayerNorm, RmsNorm};
use anychip_passes::matching::uniform;
use anychip_tensor::{Dim, Tensor, TensorError};

use crate::{Kind, Site};

/// Numbers above zero, one an element of `shape`; dims that they do not differ along have size 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Factors {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

impl Factors {
    /// Numbers along one of `rank` dims.
    pub(super) fn along(rank: usize, dim: usize, values: Vec<f32>) -> Factors {
        let mut shape = vec![1; rank];
        shape[dim] = values.len();
        Factors { shape, values }
    }

    /// One over each.
    pub(super) fn inverse(&self) -> Factors {
        Factors {
            shape: self.shape.clone(),
            values: self.values.iter().map(|f| f.recip()).collect(),
        }
    }

    fn has(&self, dim: usize) -> bool {
        self.shape[dim] != 1
    }

    /// The only dim that they differ along.
    fn only_dim(&self) -> Option<usize> {
        let mut dims = (0..self.shape.len()).filter(|&d| self.has(d));
        dims.next().filter(|_| dims.next().is_none())
    }

    /// The same for a value before a transpose, whose dim `permutation[i]` becomes the result's dim `i`.
    fn before_transpose(&self, permutation: &[usize]) -> Factors {
        let rank = permutation.len();
        let mut shape = vec![1; rank];
        permutation.iter().zip(&self.shape).for_each(|(&from, &n)| shape[from] = n);
        let count: usize = shape.iter().product();
        let mut index = vec![0usize; rank];
        let values = (0..count)
            .map(|mut at| {
                for dim in (0..rank).rev() {
                    (index[dim], at) = (at % shape[dim], at / shape[dim]);
                }
                let place = permutation
                    .iter()
                    .zip(&self.shape)
                    .fold(0, |place, (&from, &n)| place * n + index[from]);
                self.values[place]
            })
            .collect();
        Factors { shape, values }
    }

    /// The same for a value before a reshape: dims that follow each other in both and have as many elements belong together,
    /// and are all numbers where they differ.
    fn before_reshape(&self, from: &[Dim], to: &[Dim]) -> Option<Factors> {
        let mut shape = Vec::with_capacity(from.len());
        let (mut i, mut j) = (0, 0);
        while i < from.len() && j < to.len() {
            if !self.has(j) && from[i] == to[j] {
                shape.push(1);
                (i, j) = (i + 1, j + 1);
                continue;
            }
            // As few of both as hold the same number of elements.
            let (mut m, mut n) = (i + 1, j + 1);
            let mut sizes = (from[i].fixed()?, to[j].fixed()?);
            while sizes.0 != sizes.1 {
                if sizes.0 < sizes.1 {
                    sizes.0 *= from.get(m)?.fixed()?;
                    m += 1;
                } else {
                    sizes.1 *= to.get(n)?.fixed()?;
                    n += 1;
                }
            }
            let differing = (j..n).filter(|&d| self.has(d)).count();
            let all = (j..n).all(|d| self.has(d) || to[d] == Dim::Fixed(1));
            match differing {
                0 => shape.resize(shape.len() + m - i, 1),
                _ if all => {
                    for dim in &from[i..m] {
                        shape.push(dim.fixed()?);
                    }
                }
                _ => return None,
            }
            (i, j) = (m, n);
        }
        let ones = |dims: &[Dim]| dims.iter().all(|d| *d == Dim::Fixed(1));
        if !ones(&from[i..]) || !ones(&to[j..]) {
            return None;
        }
        shape.resize(from.len(), 1);
        Some(Factors { shape, values: self.values.clone() })
    }
}

/// Constants to be multiplied, by the node and the operand that reads them.
#[derive(Debug, Clone, Default)]
pub(super) struct Edits(BTreeMap<(NodeId, usize), Vec<Factors>>);

impl Edits {
    pub(super) fn add(&mut self, node: NodeId, operand: usize, by: Factors) {
        self.0.entry((node, operand)).or_default().push(by);
    }

    /// What an operand becomes, where it changes.
    pub(super) fn applied(
        &self,
        graph: &Graph,
        node: NodeId,
        operand: usize,
    ) -> Result<Option<Tensor>, TensorError> {
        let Some(all) = self.0.get(&(node, operand)) else { return Ok(None) };
        let Some(constant) = graph.constant(graph.node(node).inputs[operand]) else {
            return Ok(None);
        };
        let mut result = constant.clone();
        for factors in all {
            result = times(&result, factors)?;
        }
        anychip_tensor::release_mapped(constant.bytes());
        Ok(Some(result))
    }
}

/// A tensor by factors that lie as its dims do from the end on.
fn times(tensor: &Tensor, by: &Factors) -> Result<Tensor, TensorError> {
    let rank = tensor.rank().max(by.shape.len());
    let padded = |shape: &[usize]| [vec![1; rank - shape.len()], shape.to_vec()].concat();
    let (own, other) = (padded(tensor.shape()), padded(&by.shape));
    let mut shape: Vec<usize> = own.iter().zip(&other).map(|(a, b)| (*a).max(*b)).collect();
    let values = match tensor.elements::<f32>() {
        Some(values) => values.into_owned(),
        None => tensor.to_f64().into_iter().map(|v| v as f32).collect(),
    };
    let count: usize = shape.iter().product();
    let mut out = Vec::with_capacity(count);
    let mut index = vec![0usize; rank];
    let offset = |dims: &[usize], index: &[usize]| {
        dims.iter().zip(index).fold(0, |at, (&n, &i)| at * n + if n == 1 { 0 } else { i })
    };
    for _ in 0..count {
        out.push(values[offset(&own, &index)] * by.values[offset(&other, &index)]);
        for dim in (0..rank).rev() {
            index[dim] += 1;
            if index[dim] < shape[dim] {
                break;
            }
            index[dim] = 0;
        }
    }
    // Leading dims of 1 that the tensor did not have are nothing of it.
    while shape.len() > tensor.rank() && shape[0] == 1 {
        shape.remove(0);
    }
    Tensor::from_vec(shape, out)
}

/// Looks for constants that take a division of a value.
pub(super) struct Search<'g> {
    pub(super) graph: &'g Graph,
    pub(super) users: &'g [Vec<NodeId>],
    pub(super) layers: &'g BTreeMap<NodeId, &'g Site>,
}

impl Search<'_> {
    /// Edits by which `value` comes out divided by `by`, where the operators that make it let a factor through (sums, clips at
    /// 0, what moves elements) as far as constants: weights, biases, the scale of a normalization. `false` where one does not, or
    /// is read elsewhere too; then the edits are of no use.
    pub(super) fn divide(&self, value: ValueId, by: &Factors, edits: &mut Edits) -> bool {
        let anychip_ir::Definition::Output(id, 0) = self.graph.definition(value) else {
            return false;
        };
        let node = self.graph.node(id);
        if node.outputs.len() != 1 {
            return false;
        }
        match &node.op {
            Op::Prim(Prim::Convolution(..) | Prim::DotGeneral(..)) => self.layer(id, by, edits),
            Op::Prim(Prim::Unary(Unary::Neg | Unary::Abs)) => self.before(node, 0, by, edits),
            Op::Prim(Prim::Binary(binary)) => self.binary((id, node), *binary, by, edits),
            Op::Prim(Prim::Reshape) => {
                let [from, to] = [node.inputs[0], value].map(|v| &self.graph.ty(v).shape);
                by.before_reshape(from, to).is_some_and(|by| self.before(node, 0, &by, edits))
            }
            Op::Prim(Prim::Transpose { permutation }) => {
                self.before(node, 0, &by.before_transpose(permutation), edits)
            }
            Op::Prim(Prim::ReduceWindow { kind: ReduceKind::Max | ReduceKind::Sum, window }) => {
                let apart = by.shape.len() - window.size.len();
                by.only_dim().is_some_and(|d| d < apart) && self.before(node, 0, by, edits)
            }
            Op::Prim(Prim::Reduce { kind: ReduceKind::Max | ReduceKind::Sum, axes }) => {
                let mut shape = by.shape.clone();
                for &axis in axes {
                    shape.insert(axis, 1);
                }
                self.before(node, 0, &Factors { shape, values: by.values.clone() }, edits)
            }
            Op::Prim(_) => false,
            Op::Composite(_) => self.composite((id, node), by, edits),
        }
    }

    /// [`Search::divide`] of an operand that is read here alone.
    fn before(&self, node: &Node, operand: usize, by: &Factors, edits: &mut Edits) -> bool {
        let value = node.inputs[operand];
        let alone = self.users[value.index()].len() == 1 && !self.graph.outputs().contains(&value);
        let shape = &self.graph.ty(value).shape;
        // What is read for all of a dim cannot differ along it.
        let fits = shape.len() == by.shape.len()
            && shape.iter().zip(&by.shape).all(|(d, &n)| n == 1 || *d == Dim::Fixed(n));
        alone && fits && self.divide(value, by, edits)
    }

    fn constant(&self, node: &Node, operand: usize) -> bool {
        self.graph.constant(node.inputs[operand]).is_some()
    }

    fn layer(&self, id: NodeId, by: &Factors, edits: &mut Edits) -> bool {
        let (Some(site), Some(dim)) = (self.layers.get(&id), by.only_dim()) else { return false };
        let node = self.graph.node(id);
        if dim != crate::site::channel_dim(self.graph, node, site.kind) {
            return false;
        }
        let place = match site.kind {
            Kind::Convolution => 0,
            Kind::Dot { transposed } => usize::from(!transposed),
        };
        let rank = self.graph.ty(site.weight).rank();
        edits.add(id, 1, Factors::along(rank, place, by.inverse().values));
        true
    }

    fn binary(
        &self,
        (id, node): (NodeId, &Node),
        binary: Binary,
        by: &Factors,
        edits: &mut Edits,
    ) -> bool {
        match binary {
            Binary::Add | Binary::Sub => (0..2).all(|operand| {
                if self.constant(node, operand) {
                    edits.add(id, operand, by.inverse());
                    return true;
                }
                self.before(node, operand, by, edits)
            }),
            // Further on first: a constant of one element that becomes one a channel is no longer what kernels look for.
            Binary::Mul => {
                let further = (0..2).filter(|&o| !self.constant(node, o)).any(|operand| {
                    let mut own = edits.clone();
                    let done = self.before(node, operand, by, &mut own);
                    if done {
                        *edits = own;
                    }
                    done
                });
                let here = (0..2).find(|&o| self.constant(node, o)).filter(|_| !further);
                if let Some(operand) = here {
                    edits.add(id, operand, by.inverse());
                }
                further || here.is_some()
            }
            Binary::Div => {
                let mut own = edits.clone();
                if self.before(node, 0, by, &mut own) {
                    *edits = own;
                    return true;
                }
                let here = self.constant(node, 1);
                if here {
                    edits.add(id, 1, by.clone());
                }
                here
            }
            Binary::Max | Binary::Min => (0..2).any(|operand| {
                uniform(self.graph, node.inputs[1 - operand]) == Some(0.0)
                    && self.before(node, operand, by, edits)
            }),
            _ => false,
        }
    }

    fn composite(&self, (id, node): (NodeId, &Node), by: &Factors, edits: &mut Edits) -> bool {
        let op = &node.op;
        if op.composite::<LayerNorm>().is_some() || op.composite::<RmsNorm>().is_some() {
            let constants = (1..node.inputs.len()).all(|operand| self.constant(node, operand));
            if constants {
                (1..node.inputs.len()).for_each(|operand| edits.add(id, operand, by.inverse()));
            }
            return constants;
        }
        if let Some(pool) = op.composite::<AveragePool>() {
            let apart = by.shape.len() - pool.size.len();
            return by.only_dim().is_some_and(|d| d < apart) && self.before(node, 0, by, edits);
        }
        // What comes out of attention is a mean of its values, head by head.
        op.composite::<Attention>().is_some() && self.before(node, 2, by, edits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_go_through_reshapes_that_keep_their_dims() {
        let dims = |sizes: &[usize]| -> Vec<Dim> { sizes.iter().map(|&n| n.into()).collect() };
        let own = Factors::along(3, 2, (1..=6).map(|v| v as f32).collect());
        let heads = own.before_reshape(&dims(&[2, 5, 2, 3]), &dims(&[2, 5, 6])).unwrap();
        assert_eq!(heads.shape, [1, 1, 2, 3]);
        assert_eq!(heads.before_reshape(&dims(&[2, 5, 6]), &dims(&[2, 5, 2, 3])).unwrap(), own);
        let turned = heads.before_transpose(&[0, 1, 3, 2]);
        assert_eq!((turned.shape, turned.values[1]), (vec![1, 1, 3, 2], 4.0));
        let moved = heads.before_transpose(&[0, 2, 1, 3]);
        assert_eq!((moved.shape, moved.values), (vec![1, 2, 1, 3], heads.values.clone()));
        let flat = own.before_reshape(&dims(&[10, 6]), &dims(&[2, 5, 6])).unwrap();
        assert_eq!(flat.shape, [1, 6]);
        let squeezed = own.before_reshape(&dims(&[2, 5, 6, 1, 1]), &dims(&[2, 5, 6])).unwrap();
        assert_eq!(squeezed.shape, [1, 1, 6, 1, 1]);
        // Channels that are mixed with others differ otherwise.
        assert!(own.before_reshape(&dims(&[2, 3, 10]), &dims(&[2, 5, 6])).is_none());
        assert!(own.before_reshape(&dims(&[2, 30]), &dims(&[2, 5, 6])).is_none());
    }

    #[test]
    fn a_constant_spreads_as_far_as_its_factors() {
        let one = Tensor::scalar(2f32);
        let by = Factors::along(3, 1, vec![1.0, 3.0]);
        let many = times(&one, &by).unwrap();
        assert_eq!((many.shape(), many.to_f64()), (&[2usize, 1][..], vec![2.0, 6.0]));
        let matrix = Tensor::from_vec([2, 2], vec![1f32, 2.0, 3.0, 4.0]).unwrap();
        let rows = times(&matrix, &Factors::along(2, 0, vec![1.0, 10.0])).unwrap();
        assert_eq!(rows.to_f64(), [1.0, 2.0, 30.0, 40.0]);
    }
}
