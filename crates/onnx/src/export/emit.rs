//! The file under construction: names, nodes, weights, and the vocabulary that operators are written with.

use std::collections::{BTreeMap, BTreeSet};

use anychip_ir::{Graph, Node, NodeId, TensorType, ValueId};
use anychip_tensor::{DType, Dim, Tensor};

use super::idioms::Idioms;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::type_proto;
use crate::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
};
use crate::tensor::dtype_to_onnx;

/// What an attribute holds.
#[expect(clippy::large_enum_variant, reason = "a node has few attributes, and they live briefly")]
pub(super) enum Value {
    Int(i64),
    Float(f32),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<String>),
    Graph(GraphProto),
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Value {
        Value::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.into())
    }
}

impl From<Vec<i64>> for Value {
    fn from(value: Vec<i64>) -> Value {
        Value::Ints(value)
    }
}

impl From<Vec<usize>> for Value {
    fn from(value: Vec<usize>) -> Value {
        Value::Ints(value.into_iter().map(|n| n as i64).collect())
    }
}

impl From<Vec<f32>> for Value {
    fn from(value: Vec<f32>) -> Value {
        Value::Floats(value)
    }
}

impl From<Vec<String>> for Value {
    fn from(value: Vec<String>) -> Value {
        Value::Texts(value)
    }
}

impl From<GraphProto> for Value {
    fn from(value: GraphProto) -> Value {
        Value::Graph(value)
    }
}

fn attribute(name: &str, value: Value) -> AttributeProto {
    let mut proto = AttributeProto { name: Some(name.into()), ..AttributeProto::default() };
    let kind = match value {
        Value::Int(i) => {
            proto.i = Some(i);
            AttributeType::Int
        }
        Value::Float(f) => {
            proto.f = Some(f);
            AttributeType::Float
        }
        Value::Text(text) => {
            proto.s = Some(text.into_bytes().into());
            AttributeType::String
        }
        Value::Ints(ints) => {
            proto.ints = ints;
            AttributeType::Ints
        }
        Value::Floats(floats) => {
            proto.floats = floats;
            AttributeType::Floats
        }
        Value::Texts(texts) => {
            proto.strings = texts.into_iter().map(|t| t.into_bytes().into()).collect();
            AttributeType::Strings
        }
        Value::Graph(graph) => {
            proto.g = Some(Box::new(graph));
            AttributeType::Graph
        }
    };
    proto.r#type = Some(kind as i32);
    proto
}

/// A graph or region being written.
pub(super) struct Frame<'g> {
    pub(super) graph: &'g Graph,
    /// The name of each value, once it has one.
    pub(super) names: Vec<Option<String>>,
    nodes: Vec<NodeProto>,
    /// What nodes of the operator at hand are called.
    scope: String,
}

impl Frame<'_> {
    /// The name of a value that is defined.
    pub(super) fn name(&self, value: ValueId) -> String {
        self.names[value.index()].clone().unwrap_or_default()
    }
}

/// A file being written.
pub(super) struct Emitter {
    pub(super) opset: i64,
    pub(super) problems: Vec<String>,
    names: BTreeSet<String>,
    node_names: BTreeSet<String>,
    weights: Vec<TensorProto>,
    /// Small constants by type, shape and bytes: each is written once.
    shared: BTreeMap<(DType, Vec<usize>, Vec<u8>), String>,
    fresh: usize,
}

impl Emitter {
    pub(super) fn new(opset: i64) -> Emitter {
        Emitter {
            opset,
            problems: Vec::new(),
            names: BTreeSet::new(),
            node_names: BTreeSet::new(),
            weights: Vec::new(),
            shared: BTreeMap::new(),
            fresh: 0,
        }
    }

    /// The whole graph. Its inputs and outputs keep their names.
    pub(super) fn model_graph(&mut self, graph: &Graph) -> GraphProto {
        let mut frame = Frame {
            graph,
            names: vec![None; graph.value_count()],
            nodes: Vec::new(),
            scope: String::new(),
        };
        self.names.extend(graph.output_names().iter().map(ToString::to_string));
        let mut inputs = Vec::new();
        for (i, &value) in graph.inputs().iter().enumerate() {
            let given = graph.value_name(value).filter(|n| !n.is_empty());
            let wanted = given.map_or_else(|| format!("input_{i}"), ToString::to_string);
            // An input that is an output of the same name cannot keep it; the output does.
            let name = self.unique(&wanted);
            inputs.push(value_info(&name, graph.ty(value)));
            frame.names[value.index()] = Some(name);
        }
        let outputs = self.body(&mut frame, graph.output_names().iter().map(ToString::to_string));
        let name = if graph.name().is_empty() { "graph" } else { graph.name() };
        GraphProto {
            name: Some(name.into()),
            node: frame.nodes,
            initializer: std::mem::take(&mut self.weights),
            input: inputs,
            output: outputs,
            ..GraphProto::default()
        }
    }

    /// A region as a sub-graph. Its first inputs are its own, under the given names; the others are what
    /// values outside are called.
    pub(super) fn region(
        &mut self,
        graph: &Graph,
        own: &[String],
        captures: &[String],
        before: impl FnOnce(&mut Emitter, &mut Frame<'_>),
    ) -> (Vec<NodeProto>, Vec<ValueInfoProto>, Vec<ValueInfoProto>) {
        let mut frame = Frame {
            graph,
            names: vec![None; graph.value_count()],
            nodes: Vec::new(),
            scope: String::new(),
        };
        let all = own.iter().chain(captures);
        for (&value, name) in graph.inputs().iter().zip(all) {
            frame.names[value.index()] = Some(name.clone());
        }
        before(self, &mut frame);
        let inputs = own
            .iter()
            .zip(graph.inputs())
            .map(|(name, &value)| value_info(name, graph.ty(value)))
            .collect();
        let wanted: Vec<String> =
            graph.outputs().iter().map(|_| self.unique("region_output")).collect();
        let outputs = self.body(&mut frame, wanted);
        (frame.nodes, inputs, outputs)
    }

    /// Writes all nodes of a frame, and gives its outputs the given names, which are taken already.
    fn body(
        &mut self,
        frame: &mut Frame<'_>,
        output_names: impl IntoIterator<Item = String>,
    ) -> Vec<ValueInfoProto> {
        let graph = frame.graph;
        let outputs: Vec<(String, ValueId)> =
            output_names.into_iter().zip(graph.outputs().iter().copied()).collect();
        // An output's name is that of the value itself, where a node of this graph makes it.
        let mut wanted: BTreeMap<ValueId, String> = BTreeMap::new();
        for (name, value) in &outputs {
            let made = graph.producer(*value).is_some() && graph.constant(*value).is_none();
            if made {
                wanted.entry(*value).or_insert_with(|| name.clone());
            }
        }
        let idioms = Idioms::of(graph, self.opset);
        for (id, node) in graph.iter().filter(|(id, _)| !idioms.covers(*id)) {
            self.node(frame, id, node, &idioms, &wanted);
        }
        frame.scope = "output".into();
        let mut infos = Vec::new();
        for (name, value) in outputs {
            let own = frame.name(value);
            if own != name {
                self.node_into(frame, "Identity", &[own], Vec::new(), vec![name.clone()]);
            }
            infos.push(value_info(&name, graph.ty(value)));
        }
        infos
    }

    fn node(
        &mut self,
        frame: &mut Frame<'_>,
        id: NodeId,
        node: &Node,
        idioms: &Idioms,
        wanted: &BTreeMap<ValueId, String>,
    ) {
        let graph = frame.graph;
        frame.scope = node.label().to_string();
        if let Some(value) = node.outputs.first()
            && let Some(tensor) = graph.constant(*value)
        {
            let name = self.weight(graph.value_name(*value), tensor);
            frame.names[value.index()] = Some(name);
            return;
        }
        let first = frame.nodes.len();
        let made =
            idioms.emit(self, frame, id).unwrap_or_else(|| super::prims::emit(self, frame, node));
        let made = match made {
            Ok(made) => made,
            Err(reason) => {
                self.problems.push(format!("{}: {}: {reason}", node.label(), node.op.name()));
                node.outputs.iter().map(|_| self.fresh()).collect()
            }
        };
        for (&value, made) in node.outputs.iter().zip(made) {
            let name = match (wanted.get(&value), graph.value_name(value)) {
                (Some(name), _) => Some(name.clone()),
                (None, Some(name)) if !name.is_empty() => Some(self.unique(name)),
                _ => None,
            };
            // Only what this node made can be renamed; what it passes on has a name.
            let here = frame.nodes[first..].iter().any(|n| n.output.contains(&made));
            let name = match name {
                Some(name) if here => {
                    rename(&mut frame.nodes[first..], &made, &name);
                    name
                }
                _ => made,
            };
            frame.names[value.index()] = Some(name);
        }
    }

    /// A name that nothing has, as close to `wanted` as it gets.
    pub(super) fn unique(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_string();
        let mut n = 1;
        while !self.names.insert(name.clone()) {
            name = format!("{wanted}_{n}");
            n += 1;
        }
        name
    }

    fn fresh(&mut self) -> String {
        let n = self.fresh;
        self.fresh += 1;
        self.unique(&format!("t{n}"))
    }

    /// Adds a node with the given results.
    pub(super) fn node_into(
        &mut self,
        frame: &mut Frame<'_>,
        op: &str,
        inputs: &[String],
        attributes: Vec<(&str, Value)>,
        outputs: Vec<String>,
    ) {
        let base = if frame.scope.is_empty() { op } else { &frame.scope };
        let mut name = base.to_string();
        let mut n = 1;
        while !self.node_names.insert(name.clone()) {
            name = format!("{base}/{op}_{n}");
            n += 1;
        }
        frame.nodes.push(NodeProto {
            name: Some(name),
            op_type: Some(op.into()),
            input: inputs.to_vec(),
            output: outputs,
            attribute: attributes.into_iter().map(|(n, value)| attribute(n, value)).collect(),
            ..NodeProto::default()
        });
    }

    /// Adds a node with `count` results.
    pub(super) fn results(
        &mut self,
        frame: &mut Frame<'_>,
        op: &str,
        inputs: &[String],
        attributes: Vec<(&str, Value)>,
        count: usize,
    ) -> Vec<String> {
        let outputs: Vec<String> = (0..count).map(|_| self.fresh()).collect();
        self.node_into(frame, op, inputs, attributes, outputs.clone());
        outputs
    }

    /// Adds a node with one result.
    pub(super) fn add(
        &mut self,
        frame: &mut Frame<'_>,
        op: &str,
        inputs: &[&str],
        attributes: Vec<(&str, Value)>,
    ) -> String {
        let inputs: Vec<String> = inputs.iter().map(ToString::to_string).collect();
        self.results(frame, op, &inputs, attributes, 1).swap_remove(0)
    }

    /// A weight of the whole file; what sub-graphs use they find there too.
    fn weight(&mut self, name: Option<&str>, tensor: &Tensor) -> String {
        let small = tensor.bytes().len() <= 128;
        let key = (tensor.dtype(), tensor.shape().to_vec(), tensor.bytes().to_vec());
        let unnamed = name.is_none_or(str::is_empty);
        if small
            && unnamed
            && let Some(name) = self.shared.get(&key)
        {
            return name.clone();
        }
        let name = match name {
            Some(name) if !name.is_empty() => self.unique(name),
            _ => {
                let n = self.weights.len();
                self.unique(&format!("c{n}"))
            }
        };
        self.weights.push(TensorProto {
            name: Some(name.clone()),
            data_type: Some(dtype_to_onnx(tensor.dtype())),
            dims: tensor.shape().iter().map(|&n| n as i64).collect(),
            raw_data: Some(tensor.bytes().clone()),
            ..TensorProto::default()
        });
        if small && unnamed {
            self.shared.insert(key, name.clone());
        }
        name
    }

    /// A constant.
    pub(super) fn constant(&mut self, tensor: &Tensor) -> String {
        self.weight(None, tensor)
    }

    /// A vector of integers.
    pub(super) fn ints(&mut self, values: &[i64]) -> String {
        self.weight(None, &Tensor::from_i64s(values))
    }

    /// A scalar of any type.
    pub(super) fn scalar(&mut self, dtype: DType, value: f64) -> String {
        match Tensor::from_f64(dtype, Vec::new(), &[value]) {
            Ok(tensor) => self.weight(None, &tensor),
            Err(error) => {
                self.problems.push(error.to_string());
                String::new()
            }
        }
    }

    /// `x` as another type.
    pub(super) fn cast(
        &mut self,
        frame: &mut Frame<'_>,
        x: &str,
        from: DType,
        to: DType,
    ) -> String {
        if from == to {
            return x.into();
        }
        self.add(frame, "Cast", &[x], vec![("to", i64::from(dtype_to_onnx(to)).into())])
    }

    /// `x` under a shape given by numbers.
    pub(super) fn reshape(&mut self, frame: &mut Frame<'_>, x: &str, shape: &[i64]) -> String {
        let shape = self.ints(shape);
        self.add(frame, "Reshape", &[x, &shape], Vec::new())
    }
}

fn rename(nodes: &mut [NodeProto], from: &str, to: &str) {
    for node in nodes {
        for name in node.input.iter_mut().chain(&mut node.output) {
            if name == from {
                *name = to.into();
            }
        }
        for graph in node.attribute.iter_mut().filter_map(|a| a.g.as_deref_mut()) {
            rename(&mut graph.node, from, to);
        }
    }
}

/// A name with its type. Sizes that nobody named stay open.
fn value_info(name: &str, ty: &TensorType) -> ValueInfoProto {
    let dim = ty
        .shape
        .iter()
        .map(|dim| {
            let value = match dim {
                Dim::Fixed(n) => Some(dimension::Value::DimValue(*n as i64)),
                Dim::Sym(name) if !name.starts_with('?') => {
                    Some(dimension::Value::DimParam(name.to_string()))
                }
                Dim::Sym(_) | Dim::Expr(_) => None,
            };
            Dimension { value, denotation: None }
        })
        .collect();
    let tensor = type_proto::Tensor {
        elem_type: Some(dtype_to_onnx(ty.dtype)),
        shape: Some(TensorShapeProto { dim }),
    };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            denotation: None,
        }),
        ..ValueInfoProto::default()
    }
}
