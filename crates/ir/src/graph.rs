//! The graph: values in single assignment, nodes in the order they run.

use std::fmt;
use std::sync::Arc;

use anychip_tensor::{DType, Dim, Tensor};

use crate::{Composite, Prim};

/// Element type and shape of a value, and nothing more: analyses live in side tables.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first. The number of dims is always known.
    pub shape: Vec<Dim>,
}

impl TensorType {
    /// A type from its parts.
    pub fn new(dtype: DType, shape: impl IntoIterator<Item = impl Into<Dim>>) -> TensorType {
        TensorType { dtype, shape: shape.into_iter().map(Into::into).collect() }
    }

    /// A type without dims.
    pub fn scalar(dtype: DType) -> TensorType {
        TensorType { dtype, shape: Vec::new() }
    }

    /// The type of a tensor.
    pub fn of(tensor: &Tensor) -> TensorType {
        TensorType::new(tensor.dtype(), tensor.shape().iter().copied())
    }

    /// Number of dims.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The shape in numbers, when every dim is known.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(Dim::fixed).collect()
    }

    /// The number of elements as a dim.
    pub fn elements(&self) -> Dim {
        self.shape.iter().cloned().fold(Dim::Fixed(1), |product, dim| product * dim)
    }
}

impl fmt::Display for TensorType {
    /// `f32[batch, 3, 224, 224]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, dim) in self.shape.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A value of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) u32);

/// A node of one graph: its place in the order of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) u32);

impl ValueId {
    /// Position in side tables, below [`Graph::value_count`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl NodeId {
    /// Position in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a node does: the whole taxonomy.
#[derive(Clone, Debug)]
pub enum Op {
    /// One of the closed set.
    Prim(Prim),
    /// Anything that expands into others.
    Composite(Arc<dyn Composite>),
}

impl Op {
    /// The name in the text form and in every table.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Prim(prim) => prim.name(),
            Op::Composite(composite) => composite.name(),
        }
    }

    /// The primitive, when it is one.
    pub fn prim(&self) -> Option<&Prim> {
        match self {
            Op::Prim(prim) => Some(prim),
            Op::Composite(_) => None,
        }
    }

    /// The composite as its concrete type, when it is one of that type.
    pub fn composite<C: Composite>(&self) -> Option<&C> {
        match self {
            Op::Prim(_) => None,
            Op::Composite(composite) => composite.downcast_ref::<C>(),
        }
    }
}

impl PartialEq for Op {
    /// Composites are equal when their names and settings are.
    fn eq(&self, other: &Op) -> bool {
        match (self, other) {
            (Op::Prim(a), Op::Prim(b)) => a == b,
            (Op::Composite(a), Op::Composite(b)) => {
                a.name() == b.name() && a.attributes() == b.attributes()
            }
            (Op::Prim(_), Op::Composite(_)) | (Op::Composite(_), Op::Prim(_)) => false,
        }
    }
}

/// One operation with its operands and results.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// Operands.
    pub inputs: Vec<ValueId>,
    /// Results.
    pub outputs: Vec<ValueId>,
    /// Sub-graphs of control flow; closed, so what they use from outside is passed as operands.
    pub regions: Vec<Graph>,
    /// Where it came from, as the model's author would know it; may be empty or repeat.
    pub name: Arc<str>,
}

impl Node {
    /// What to call it before a person: its name, or its operator's where it has none.
    pub fn label(&self) -> &str {
        if self.name.is_empty() { self.op.name() } else { &self.name }
    }
}

/// Where a value is defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Definition {
    /// The graph's n-th input.
    Input(usize),
    /// A result of a node.
    Output(NodeId, usize),
}

/// What is recorded of a value.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) ty: TensorType,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) definition: Definition,
}

/// A computation: inputs, nodes in an order in which they can run, outputs.
///
/// Only a [`crate::Builder`] makes one, so its types always follow from its operands.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub(crate) name: String,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) outputs: Vec<ValueId>,
    pub(crate) output_names: Vec<Arc<str>>,
    // Shared by clones until one of them is built on: a pass that changes nothing gives the graph back.
    pub(crate) nodes: Arc<Vec<Node>>,
    pub(crate) values: Arc<Vec<Value>>,
}

impl Graph {
    /// The model's own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Values given from outside, in order.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Results, in order; a value may appear twice.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// The name of each result: an output keeps its name even where two outputs are one value.
    pub fn output_names(&self) -> &[Arc<str>] {
        &self.output_names
    }

    /// Nodes in an order in which they can run.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Nodes with their ids, in order.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(i, node)| (NodeId(i as u32), node))
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// Every value, in the order of definition.
    pub fn values(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.values.len() as u32).map(ValueId)
    }

    /// How many values there are: the length of a side table.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// The types of the inputs with numbers for the names that `size` knows: what [`crate::specialize`] takes.
    /// See [`crate::Bindings::of_shapes`] for the numbers that given shapes imply.
    pub fn bind_dims(&self, size: &dyn Fn(&str) -> Option<usize>) -> Vec<TensorType> {
        let bound = |dim: &Dim| dim.substitute(&|name| size(name).map(Dim::Fixed));
        self.inputs
            .iter()
            .map(|&v| TensorType::new(self.ty(v).dtype, self.ty(v).shape.iter().map(bound)))
            .collect()
    }

    /// The type of a value.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        &self.values[value.index()].ty
    }

    /// The name of a value, where the model gave one.
    pub fn value_name(&self, value: ValueId) -> Option<&str> {
        self.values[value.index()].name.as_deref()
    }

    /// Where a value comes from.
    pub fn definition(&self, value: ValueId) -> Definition {
        self.values[value.index()].definition
    }

    /// The node that makes a value, when one does.
    pub fn producer(&self, value: ValueId) -> Option<&Node> {
        match self.definition(value) {
            Definition::Input(_) => None,
            Definition::Output(node, _) => Some(self.node(node)),
        }
    }

    /// The tensor behind a value, when it is a constant.
    pub fn constant(&self, value: ValueId) -> Option<&Tensor> {
        match &self.producer(value)?.op {
            Op::Prim(Prim::Constant(tensor)) => Some(tensor),
            _ => None,
        }
    }

    /// The integers behind a value, when it is a constant.
    pub fn constant_integers(&self, value: ValueId) -> Option<Vec<i64>> {
        self.constant(value).map(Tensor::to_i64)
    }

    /// For each value, the nodes that use it, in order (a node once for each operand).
    pub fn users(&self) -> Vec<Vec<NodeId>> {
        let mut users = vec![Vec::new(); self.values.len()];
        for (id, node) in self.iter() {
            for input in &node.inputs {
                users[input.index()].push(id);
            }
        }
        users
    }
}
