//! Builds graphs node by node, typing each as it is added.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anychip_tensor::{DType, Dim, Symbol, Tensor};

use crate::graph::Value;
use crate::infer::{self, Operand};
use crate::{
    Composite, Definition, Graph, IrError, Node, NodeId, Op, Prim, TensorType, ValueId, known,
};

/// Something a node can do: a primitive, a composite, or an [`Op`] taken from another graph.
pub trait OpSpec {
    /// As an operation.
    fn into_op(self) -> Op;
}

impl OpSpec for Op {
    fn into_op(self) -> Op {
        self
    }
}

impl OpSpec for Prim {
    fn into_op(self) -> Op {
        Op::Prim(self)
    }
}

impl<C: Composite> OpSpec for C {
    fn into_op(self) -> Op {
        Op::Composite(Arc::new(self))
    }
}

/// Builds a [`Graph`]. Values belong to the builder that made them.
#[derive(Debug)]
pub struct Builder {
    graph: Graph,
    /// Small integer tensors whose elements are known as dims, by value.
    known: BTreeMap<ValueId, Vec<Dim>>,
    /// A value and the place in its shape where each named size, or formula of names, can be read.
    dim_homes: BTreeMap<Dim, (ValueId, usize)>,
    /// Numbers names for sizes that only a run can tell; shared with regions so that they differ.
    fresh: Arc<AtomicUsize>,
    /// The name that nodes get.
    scope: Arc<str>,
}

impl Builder {
    /// An empty graph of the given name.
    pub fn new(name: &str) -> Builder {
        Builder {
            graph: Graph { name: name.to_string(), ..Graph::default() },
            known: BTreeMap::new(),
            dim_homes: BTreeMap::new(),
            fresh: Arc::new(AtomicUsize::new(0)),
            scope: "".into(),
        }
    }

    /// A builder for a region of this graph: fresh names for sizes do not collide with this one's.
    #[must_use]
    pub fn region(&self, name: &str) -> Builder {
        Builder {
            fresh: Arc::clone(&self.fresh),
            scope: Arc::clone(&self.scope),
            ..Builder::new(name)
        }
    }

    /// Names of the form `?n` below `first` are taken: sizes invented from now on come after.
    pub fn reserve_symbols(&mut self, first: usize) {
        self.fresh.fetch_max(first, Ordering::Relaxed);
    }

    /// Sets the name that the nodes added from now on carry; returns the one before.
    pub fn set_scope(&mut self, name: impl Into<Arc<str>>) -> Arc<str> {
        std::mem::replace(&mut self.scope, name.into())
    }

    /// A size that only a run can tell.
    pub fn fresh_dim(&mut self) -> Dim {
        Dim::sym(&format!("?{}", self.fresh.fetch_add(1, Ordering::Relaxed)))
    }

    /// Adds an input.
    pub fn input(&mut self, name: &str, ty: TensorType) -> ValueId {
        let definition = Definition::Input(self.graph.inputs.len());
        let value = self.value(ty, definition);
        self.value_mut(value).name = Some(name.into());
        self.graph.inputs.push(value);
        value
    }

    /// Adds a constant.
    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.node(Op::Prim(Prim::Constant(tensor)), &[], Vec::new())
            .expect("a constant has no operand to be wrong")[0]
    }

    /// Adds a node; returns its results. Composites are typed by their expansion.
    pub fn node(
        &mut self,
        op: impl OpSpec,
        inputs: &[ValueId],
        regions: Vec<Graph>,
    ) -> Result<Vec<ValueId>, IrError> {
        let op = op.into_op();
        let types = self.infer(&op, inputs, &regions)?;
        Ok(self.add_typed(op, inputs, regions, types))
    }

    /// Adds a node of `graph` as it is, on `inputs` in place of its operands; returns its results. Where the operands
    /// have the types that they had there, so have the results, which saves finding them out again.
    pub fn copy(
        &mut self,
        graph: &Graph,
        node: &Node,
        inputs: &[ValueId],
    ) -> Result<Vec<ValueId>, IrError> {
        let types = if self.types_stay(graph, node, inputs) {
            node.outputs.iter().map(|&v| graph.ty(v).clone()).collect()
        } else {
            let first = self.fresh.load(Ordering::Relaxed);
            let mut types = self.infer(&node.op, inputs, &node.regions)?;
            self.keep_names(graph, node, &mut types, first);
            types
        };
        Ok(self.add_typed(node.op.clone(), inputs, node.regions.clone(), types))
    }

    /// Whether inference would give the results of `node` the types that they have in `graph`.
    fn types_stay(&self, graph: &Graph, node: &Node, inputs: &[ValueId]) -> bool {
        let alike = |(&new, &old): (&ValueId, &ValueId)| *self.graph.ty(new) == *graph.ty(old);
        let follows_from_types = match &node.op {
            Op::Prim(prim) => infer::follows_from_types(prim),
            // Their expansions may look at what is known of their operands.
            Op::Composite(_) => inputs.iter().all(|v| self.known(*v).is_none()),
        };
        if !follows_from_types
            || !node.regions.is_empty()
            || inputs.len() != node.inputs.len()
            || !inputs.iter().zip(&node.inputs).all(alike)
        {
            return false;
        }
        let mut named = node.outputs.iter().flat_map(|&v| &graph.ty(v).shape);
        named.all(|dim| {
            let mut given = node.inputs.iter().flat_map(|&v| &graph.ty(v).shape);
            dim.fixed().is_some() || given.any(|g| g == dim) || self.keeps_name(dim)
        })
    }

    /// Whether a dim of another graph is a name that was invented there and stands for nothing here yet. In the first
    /// copy of a node it may stay, so that what follows from it keeps its types too; a second copy has another size.
    fn keeps_name(&self, dim: &Dim) -> bool {
        let Dim::Sym(name) = dim else { return false };
        let taken = self.fresh.load(Ordering::Relaxed);
        name.strip_prefix('?').and_then(crate::rewrite::number_after).is_some_and(|n| n <= taken)
            && !self.dim_homes.contains_key(dim)
    }

    /// Puts the names that the results of `node` have in `graph` in the place of those just invented for them.
    fn keep_names(&self, graph: &Graph, node: &Node, types: &mut [TensorType], first: usize) {
        let invented = |dim: &Dim| match dim {
            Dim::Sym(name) => name
                .strip_prefix('?')
                .and_then(crate::rewrite::number_after)
                .is_some_and(|n| n > first),
            Dim::Fixed(_) | Dim::Expr(_) => false,
        };
        let mut renamed: Vec<(Dim, Dim)> = Vec::new();
        for (ty, &old) in types.iter_mut().zip(&node.outputs) {
            let old = graph.ty(old);
            if old.rank() != ty.rank() {
                return;
            }
            for (dim, was) in ty.shape.iter_mut().zip(&old.shape).filter(|(dim, _)| invented(dim)) {
                if let Some((_, name)) = renamed.iter().find(|(new, _)| new == dim) {
                    *dim = name.clone();
                } else if self.keeps_name(was) && renamed.iter().all(|(_, name)| name != was) {
                    renamed.push((std::mem::replace(dim, was.clone()), was.clone()));
                }
            }
        }
    }

    /// Adds a node whose types are known.
    fn add_typed(
        &mut self,
        op: Op,
        inputs: &[ValueId],
        regions: Vec<Graph>,
        types: Vec<TensorType>,
    ) -> Vec<ValueId> {
        let id = NodeId(self.graph.nodes.len() as u32);
        let outputs: Vec<ValueId> = types
            .into_iter()
            .enumerate()
            .map(|(i, ty)| self.value(ty, Definition::Output(id, i)))
            .collect();
        if let Op::Prim(prim) = &op
            && let [output] = outputs[..]
            && let Some(values) = known::propagate(prim, inputs, output, self)
        {
            self.known.insert(output, values);
        }
        let name = Arc::clone(&self.scope);
        Arc::make_mut(&mut self.graph.nodes).push(Node {
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
            regions,
            name,
        });
        outputs
    }

    /// Adds a primitive with one result.
    pub fn prim(&mut self, prim: Prim, inputs: &[ValueId]) -> Result<ValueId, IrError> {
        Ok(self.node(Op::Prim(prim), inputs, Vec::new())?[0])
    }

    /// Adds a composite; its first result. See [`Builder::node`] for several.
    pub fn composite(
        &mut self,
        composite: impl Composite,
        inputs: &[ValueId],
    ) -> Result<ValueId, IrError> {
        Ok(self.node(composite, inputs, Vec::new())?[0])
    }

    /// Finishes with the given outputs, named as their values are, or `output_i`.
    pub fn finish(mut self, outputs: &[ValueId]) -> Graph {
        self.graph.output_names = outputs
            .iter()
            .enumerate()
            .map(|(i, v)| {
                self.graph.values[v.index()]
                    .name
                    .clone()
                    .unwrap_or_else(|| format!("output_{i}").into())
            })
            .collect();
        self.graph.outputs = outputs.to_vec();
        self.graph
    }

    /// Finishes with named outputs.
    pub fn finish_named(mut self, outputs: &[(Arc<str>, ValueId)]) -> Graph {
        self.graph.output_names = outputs.iter().map(|(name, _)| Arc::clone(name)).collect();
        self.graph.outputs = outputs.iter().map(|(_, value)| *value).collect();
        self.graph
    }

    /// Renames the graph being built.
    pub(crate) fn rename(&mut self, name: &str) {
        self.graph.name = name.to_string();
    }

    /// Writes down a result's type as it was in another builder, whose invented names and knowledge may differ;
    /// `false` where the two types contradict each other.
    pub(crate) fn retype(&mut self, value: ValueId, ty: &TensorType) -> bool {
        if !crate::verify::agree(ty, self.ty(value)) {
            return false;
        }
        self.read_from(value, ty);
        self.value_mut(value).ty = ty.clone();
        true
    }

    /// What has been built so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Names a value; a name that it already has stays.
    pub fn name_value(&mut self, value: ValueId, name: &str) {
        self.value_mut(value).name.get_or_insert_with(|| name.into());
    }

    /// The type of a value.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        self.graph.ty(value)
    }

    /// The element type of a value.
    pub fn dtype(&self, value: ValueId) -> DType {
        self.graph.ty(value).dtype
    }

    /// The number of dims of a value.
    pub fn rank(&self, value: ValueId) -> usize {
        self.graph.ty(value).rank()
    }

    /// The dims of a value.
    pub fn dims(&self, value: ValueId) -> Vec<Dim> {
        self.graph.ty(value).shape.clone()
    }

    /// The elements of a small integer value (of at most one dim), where they are known as dims: numbers
    /// or formulas of named sizes.
    pub fn known(&self, value: ValueId) -> Option<&[Dim]> {
        self.known.get(&value).map(Vec::as_slice)
    }

    /// The elements of a small integer value as numbers.
    pub fn known_integers(&self, value: ValueId) -> Option<Vec<i64>> {
        match self.known(value) {
            Some(dims) => dims.iter().map(Dim::constant).collect(),
            None => {
                self.graph.constant(value).filter(|t| !t.dtype().is_float()).map(Tensor::to_i64)
            }
        }
    }

    /// [`Builder::known_integers`], or the error that says which operand of which operator decides what.
    pub fn need_integers(
        &self,
        value: ValueId,
        op: &'static str,
        operand: usize,
        what: &'static str,
    ) -> Result<Vec<i64>, IrError> {
        self.known_integers(value).ok_or(IrError::NeedsValue { op, operand, what })
    }

    /// An `i64[]` value that holds a size: a constant, or computed from a shape that has it.
    pub fn dim_value(&mut self, dim: &Dim) -> Result<ValueId, IrError> {
        if let Some(number) = dim.constant() {
            return Ok(self.constant(Tensor::scalar(number)));
        }
        let value = self.compute_dim(dim)?;
        debug_assert_eq!(self.rank(value), 0);
        self.known.insert(value, vec![dim.clone()]);
        Ok(value)
    }

    /// An `i64[n]` value that holds sizes.
    pub fn dims_value(&mut self, dims: &[Dim]) -> Result<ValueId, IrError> {
        let numbers: Option<Vec<i64>> = dims.iter().map(Dim::constant).collect();
        if let Some(numbers) = numbers {
            return Ok(self.constant(Tensor::from_i64s(&numbers)));
        }
        let mut parts = Vec::new();
        let one = self.constant(Tensor::from_i64s(&[1]));
        for dim in dims {
            let part = if let Some(number) = dim.constant() {
                self.constant(Tensor::from_i64s(&[number]))
            } else {
                let scalar = self.dim_value(dim)?;
                self.prim(Prim::Reshape, &[scalar, one])?
            };
            parts.push(part);
        }
        let value = self.prim(Prim::Concat { axis: 0 }, &parts)?;
        self.known.insert(value, dims.to_vec());
        Ok(value)
    }

    fn compute_dim(&mut self, dim: &Dim) -> Result<ValueId, IrError> {
        use anychip_tensor::Atom;
        if let Some(&(home, axis)) = self.dim_homes.get(dim) {
            let shape = self.prim(Prim::ShapeOf, &[home])?;
            let index = self.constant(Tensor::scalar(axis as i64));
            return self.prim(Prim::Take { axis: 0 }, &[shape, index]);
        }
        match dim {
            Dim::Fixed(n) => Ok(self.constant(Tensor::scalar(*n as i64))),
            Dim::Sym(symbol) => match self.relative_dim(dim)? {
                Some(value) => Ok(value),
                None => Err(IrError::UnboundSymbol(symbol.to_string())),
            },
            Dim::Expr(_) if !self.readable(dim) => match self.relative_dim(dim)? {
                Some(value) => Ok(value),
                None => Err(IrError::UnboundSymbol(dim.to_string())),
            },
            Dim::Expr(polynomial) => {
                let mut sum: Option<ValueId> = None;
                for (coefficient, atoms) in polynomial.terms() {
                    let coefficient =
                        coefficient.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
                    let mut product = self.constant(Tensor::scalar(coefficient));
                    for atom in atoms {
                        let factor = match atom {
                            Atom::Sym(s) => self.compute_dim(&Dim::Sym(s.clone()))?,
                            Atom::FloorDiv(a, b) => {
                                let sizes = known::is_size(a) && known::is_size(b);
                                let (a, b) = (self.compute_dim(a)?, self.compute_dim(b)?);
                                // Of sizes the truncated quotient is the floor, and `known` follows it.
                                if sizes { self.div(a, b)? } else { self.floor_div(a, b)? }
                            }
                            Atom::Max(a, b) => {
                                let (a, b) = (self.compute_dim(a)?, self.compute_dim(b)?);
                                self.max(a, b)?
                            }
                            Atom::Min(a, b) => {
                                let (a, b) = (self.compute_dim(a)?, self.compute_dim(b)?);
                                self.min(a, b)?
                            }
                        };
                        product = self.mul(product, factor)?;
                    }
                    sum = Some(match sum {
                        Some(sum) => self.add(sum, product)?,
                        None => product,
                    });
                }
                Ok(match sum {
                    Some(sum) => sum,
                    None => self.constant(Tensor::scalar(0i64)),
                })
            }
        }
    }

    /// Whether every name in a dim can be read from a value by itself.
    fn readable(&self, dim: &Dim) -> bool {
        dim.symbols().into_iter().all(|s| self.dim_homes.contains_key(&Dim::Sym(s)))
    }

    /// A size computed from one that can be read and differs from it by a constant term or factor: inside the
    /// expansion of a composite only the dims of its operands can be read, and `n` may occur only as `2*n`.
    fn relative_dim(&mut self, dim: &Dim) -> Result<Option<ValueId>, IrError> {
        let homes: Vec<Dim> = self.dim_homes.keys().cloned().collect();
        for home in homes {
            if let Some(term) = (dim.clone() - home.clone()).constant() {
                let (home, term) = (self.compute_dim(&home)?, self.constant(Tensor::scalar(term)));
                return self.add(home, term).map(Some);
            }
            if let Some(factor) = dim.floor_div(&home).constant()
                && home.clone() * Dim::from_i64(factor) == *dim
            {
                let factor = self.constant(Tensor::scalar(factor));
                let home = self.compute_dim(&home)?;
                return self.mul(home, factor).map(Some);
            }
            if let Some(divisor) = home.floor_div(dim).constant()
                && dim.clone() * Dim::from_i64(divisor) == home
            {
                let divisor = self.constant(Tensor::scalar(divisor));
                let home = self.compute_dim(&home)?;
                return self.div(home, divisor).map(Some);
            }
        }
        Ok(None)
    }

    /// Records what is known of a value from outside the graph's own rules: its elements as dims.
    pub fn assume_known(&mut self, value: ValueId, dims: Vec<Dim>) {
        self.known.insert(value, dims);
    }

    fn value(&mut self, ty: TensorType, definition: Definition) -> ValueId {
        let value = ValueId(self.graph.values.len() as u32);
        self.read_from(value, &ty);
        Arc::make_mut(&mut self.graph.values).push(Value { ty, name: None, definition });
        value
    }

    fn value_mut(&mut self, value: ValueId) -> &mut Value {
        &mut Arc::make_mut(&mut self.graph.values)[value.index()]
    }

    /// Sizes in the type of a value can be read from it from now on.
    fn read_from(&mut self, value: ValueId, ty: &TensorType) {
        for (axis, dim) in ty.shape.iter().enumerate() {
            if dim.fixed().is_none() {
                self.dim_homes.entry(dim.clone()).or_insert((value, axis));
            }
        }
    }

    fn infer(
        &mut self,
        op: &Op,
        inputs: &[ValueId],
        regions: &[Graph],
    ) -> Result<Vec<TensorType>, IrError> {
        match op {
            Op::Prim(prim) => {
                let operands: Vec<Operand<'_>> = inputs
                    .iter()
                    .map(|&v| Operand { ty: self.graph.ty(v), known: self.known(v) })
                    .collect();
                let fresh = Arc::clone(&self.fresh);
                let mut fresh_dim =
                    || Dim::sym(&format!("?{}", fresh.fetch_add(1, Ordering::Relaxed)));
                infer::infer(prim, &operands, regions, &mut fresh_dim)
            }
            Op::Composite(composite) => {
                let expansion = self.expansion(composite.as_ref(), inputs)?;
                let types: Vec<TensorType> =
                    expansion.outputs.iter().map(|&v| expansion.ty(v).clone()).collect();
                // A name invented inside the expansion and one invented for the node's result are the same
                // size, so the result may keep it; but every name must be readable from a value out here.
                let own: BTreeSet<Symbol> = types
                    .iter()
                    .flat_map(|t| &t.shape)
                    .filter_map(|d| match d {
                        Dim::Sym(s) => Some(s.clone()),
                        Dim::Fixed(_) | Dim::Expr(_) => None,
                    })
                    .collect();
                // Names of the operands are known out here even where only a formula of them can be read.
                let given: BTreeSet<Symbol> =
                    inputs.iter().flat_map(|&v| &self.ty(v).shape).flat_map(Dim::symbols).collect();
                let readable = |s: &Symbol| {
                    own.contains(s)
                        || given.contains(s)
                        || self.dim_homes.contains_key(&Dim::Sym(s.clone()))
                };
                let shapes: Vec<Vec<Option<Dim>>> = types
                    .iter()
                    .map(|ty| {
                        let outside = |d: &Dim| d.symbols().iter().all(readable).then(|| d.clone());
                        ty.shape.iter().map(outside).collect()
                    })
                    .collect();
                Ok(types
                    .into_iter()
                    .zip(shapes)
                    .map(|(ty, shape)| {
                        let shape =
                            shape.into_iter().map(|d| d.unwrap_or_else(|| self.fresh_dim()));
                        TensorType { dtype: ty.dtype, shape: shape.collect() }
                    })
                    .collect())
            }
        }
    }

    /// The expansion of a composite on values of this graph, as a graph of its own whose inputs are those values.
    pub fn expansion(
        &self,
        composite: &dyn Composite,
        inputs: &[ValueId],
    ) -> Result<Graph, IrError> {
        let mut inner = self.region(composite.name());
        let mut operands = Vec::new();
        for &value in inputs {
            let operand = inner.input("", self.ty(value).clone());
            if let Some(known) = self.known(value) {
                inner.known.insert(operand, known.to_vec());
            }
            operands.push(operand);
        }
        let outputs = composite.expand(&mut inner, &operands)?;
        Ok(inner.finish(&outputs))
    }
}
