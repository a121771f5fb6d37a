//! Idioms of products whose inputs get their grid at run time.

use anychip_ir::{
    Binary, Compare, Definition, Graph, Node, NodeId, Op, Prim, ReduceKind, Unary, ValueId,
};
use anychip_tensor::DType;

use super::{Finder, Idiom};

/// `x` as `u8` with the range that it has: the values of its scale and zero point, which are results too.
#[derive(Debug, Clone)]
pub(super) struct Dynamic {
    pub(super) x: ValueId,
    pub(super) scale: ValueId,
    pub(super) point: ValueId,
}

impl<'g> Finder<'g> {
    fn made(&self, value: ValueId) -> Option<(NodeId, &'g Node)> {
        match self.graph.definition(value) {
            Definition::Output(id, _) => Some((id, self.graph.node(id))),
            Definition::Input(_) => None,
        }
    }

    fn binary(&self, value: ValueId, wanted: Binary) -> Option<(NodeId, [ValueId; 2])> {
        let (id, node) = self.made(value)?;
        let found = matches!(node.op, Op::Prim(Prim::Binary(op)) if op == wanted);
        found.then(|| (id, [node.inputs[0], node.inputs[1]]))
    }

    /// The larger or smaller of 0 and what a whole value is reduced to; the value.
    fn end(
        &self,
        value: ValueId,
        side: Binary,
        wanted: ReduceKind,
        inner: &mut Vec<NodeId>,
    ) -> Option<ValueId> {
        let (id, [a, zero]) = self.binary(value, side)?;
        let (reduce, node) = self.made(a)?;
        let Op::Prim(Prim::Reduce { kind, axes }) = &node.op else { return None };
        let all = axes.len() == self.graph.ty(node.inputs[0]).rank();
        if !all || *kind != wanted || self.uniform(zero)? != 0.0 {
            return None;
        }
        inner.extend([id, reduce]);
        Some(node.inputs[0])
    }

    /// What `DynamicQuantizeLinear` is defined as, found from its codes.
    pub(super) fn dynamic(&self, id: NodeId, node: &Node) -> Option<(Idiom, Vec<NodeId>)> {
        let Op::Prim(Prim::Quantize { to: DType::U8, .. }) = node.op else { return None };
        let &[x, scale, point] = &node.inputs[..] else { return None };
        let (point_id, pointed) = self.made(point)?;
        let Op::Prim(Prim::Quantize { to: DType::U8, .. }) = pointed.op else { return None };
        let &[below, same, none] = &pointed.inputs[..] else { return None };
        let (negated, negation) = self.made(below)?;
        let (selected, selection) = self.made(scale)?;
        let (Op::Prim(Prim::Unary(Unary::Neg)), Op::Prim(Prim::Select)) =
            (&negation.op, &selection.op)
        else {
            return None;
        };
        let &[flat, one, ratio] = &selection.inputs[..] else { return None };
        let (compared, comparison) = self.made(flat)?;
        let (divided, [range, steps]) = self.binary(ratio, Binary::Div)?;
        let (subtracted, [most, least]) = self.binary(range, Binary::Sub)?;
        let mut inner = vec![point_id, negated, selected, compared, divided, subtracted];
        let of_most = self.end(most, Binary::Max, ReduceKind::Max, &mut inner)?;
        let of_least = self.end(least, Binary::Min, ReduceKind::Min, &mut inner)?;
        let fits = matches!(comparison.op, Op::Prim(Prim::Compare(Compare::Eq)))
            && comparison.inputs[0] == ratio
            && self.uniform(comparison.inputs[1])? == 0.0
            && (of_most, of_least) == (x, x)
            && same == scale
            && negation.inputs[0] == least
            && self.uniform(none)? == 0.0
            && self.uniform(one)? == 1.0
            && self.uniform(steps)? == 255.0
            && self.graph.ty(x).dtype == DType::F32;
        // Scale and zero point may be read by others, that come later; what leads to them by none.
        let own = |user: &NodeId| *user == id || inner.contains(user);
        let apart = inner.iter().all(|inner| {
            self.graph.node(*inner).outputs.iter().all(|v| {
                let users = &self.users[v.index()];
                let later = [scale, point].contains(v) && users.iter().all(|u| own(u) || *u > id);
                !self.graph.outputs().contains(v) && (later || users.iter().all(own))
            })
        });
        (fits && apart).then(|| (Idiom::Dynamic(Dynamic { x, scale, point }), inner))
    }

    /// A product of integers of which the first lost its zero point before: `MatMulInteger` takes that off itself.
    pub(super) fn integer_dot(&self, node: &Node) -> Option<(Idiom, Vec<NodeId>)> {
        let Op::Prim(Prim::DotGeneral(dims, DType::I32)) = &node.op else { return None };
        let [lhs, w] = [node.inputs[0], node.inputs[1]];
        let last = self.graph.ty(lhs).rank().checked_sub(1)?;
        let plain = dims.lhs_batch.is_empty()
            && dims.lhs_contract == [last]
            && dims.rhs_contract == [0]
            && last > 0
            && self.graph.ty(w).rank() == 2
            && is_byte(self.graph, w);
        let (id, sub) = self.only_here(lhs).filter(|_| plain)?;
        if !matches!(sub.op, Op::Prim(Prim::Binary(Binary::Sub))) {
            return None;
        }
        let mut inner = vec![id];
        let mut narrow = |value: ValueId| {
            let (id, cast) = self.only_here(value)?;
            let x = *cast.inputs.first()?;
            let widens = matches!(cast.op, Op::Prim(Prim::Cast { to: DType::I32, .. }));
            inner.push(id);
            (widens && is_byte(self.graph, x)).then_some(x)
        };
        let (x, zero) = (narrow(sub.inputs[0])?, narrow(sub.inputs[1])?);
        let alike = self.graph.ty(x).dtype == self.graph.ty(zero).dtype;
        (alike && self.graph.ty(zero).rank() == 0).then(|| (Idiom::IntegerDot([x, w, zero]), inner))
    }
}

fn is_byte(graph: &Graph, value: ValueId) -> bool {
    matches!(graph.ty(value).dtype, DType::I8 | DType::U8)
}
