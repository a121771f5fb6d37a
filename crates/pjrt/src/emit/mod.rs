//! From a graph whose sizes are numbers to StableHLO: one file a group of primitives, one row a primitive.
//!
//! Sizes that operands hold are constants by now (`anychip_passes::specialize`), so they become attributes. Small constants stand in the
//! text, large ones are arguments of the program, so that a session uploads each weight once and the text stays small.

mod cast;
mod contraction;
mod control;
mod elementwise;
mod index;
mod movement;
mod ops;
mod quantize;
mod reduce;
mod small_float;
mod sort;
mod writer;

use std::collections::BTreeMap;

use anychip_ir::{Graph, IrError, Node, Op, Prim, ValueId, evaluate_prim};
use anychip_tensor::{DType, Tensor};

use crate::element::Element;
use writer::{Value, Writer, list, type_of};

/// Constants of no more elements than this stand in the text.
const INLINE: usize = 64;

/// A program.
#[derive(Debug, Clone)]
pub(crate) struct Module {
    /// StableHLO.
    pub(crate) text: String,
    /// What its arguments are, in order.
    pub(crate) parameters: Vec<Parameter>,
    /// Element types and shapes of its results, in order.
    pub(crate) outputs: Vec<(DType, Vec<usize>)>,
}

/// Where an argument of a program comes from.
#[derive(Debug, Clone)]
pub(crate) enum Parameter {
    /// The graph's input of this number.
    Input(usize),
    /// A constant.
    Weight(Tensor),
    /// Random numbers that every run draws anew.
    Drawn {
        /// `Prim::Random`.
        prim: Prim,
        /// Their type.
        dtype: DType,
        /// How many, as a shape.
        shape: Vec<usize>,
    },
}

/// Why a graph cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmitError {
    /// StableHLO, or the form of it that plugins take, has no words for a node.
    #[error("{node} ({op}): {reason}\n  help: {help}")]
    Refused {
        /// The node.
        node: String,
        /// The operator.
        op: &'static str,
        /// Why.
        reason: String,
        /// The way out.
        help: String,
    },
    /// The graph itself is at fault.
    #[error(transparent)]
    Graph(#[from] IrError),
}

/// Choices that change results by rounding only, and what a kind of device has to be told in full.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    /// Lets matrix units round operands of products as they like best.
    pub(crate) relaxed: bool,
    /// Says of the larger and the smaller of two that one that is no number is it: compilers for CPUs have let it get lost.
    pub(crate) keeps_nan: bool,
}

/// Writes a graph whose every live value has a fixed shape.
pub(crate) fn module(graph: &Graph, style: Style) -> Result<Module, EmitError> {
    let mut writer = Writer::default();
    let mut parameters = Parameters::default();
    let mut scope = Scope::new(graph, None);
    for (i, &input) in graph.inputs().iter().enumerate() {
        if scope.live[input.index()] {
            let shape = fixed(graph, input)?;
            let element = Element::of(graph.ty(input).dtype);
            let value = parameters.push(Parameter::Input(i), element, shape);
            scope.values[input.index()] = Some(value);
        }
    }
    let mut cx = Cx { w: &mut writer, parameters: &mut parameters, scope, style };
    let results = cx.graph_body()?;
    writer.finish("func.return", &results);
    let outputs = graph
        .outputs()
        .iter()
        .map(|&v| Ok((graph.ty(v).dtype, fixed(graph, v)?)))
        .collect::<Result<_, EmitError>>()?;
    let types = list(results.iter().map(|v| type_of(v.element, &v.shape)));
    let text = format!(
        "module @model {{\n  func.func public @main({}) -> ({types}) {{\n{}  }}\n}}\n",
        list(&parameters.declared),
        writer.into_text(),
    );
    Ok(Module { text, parameters: parameters.all, outputs })
}

fn fixed(graph: &Graph, value: ValueId) -> Result<Vec<usize>, EmitError> {
    graph.ty(value).fixed_shape().ok_or_else(|| {
        let (node, op) =
            graph.producer(value).map_or(("input", "graph"), |node| (node.label(), node.op.name()));
        EmitError::Refused {
            node: node.to_string(),
            op,
            reason: format!("its result {} has a size that only a run can tell", graph.ty(value)),
            help: "run the model on `cpu`, which sizes such results as it goes".to_string(),
        }
    })
}

/// The arguments of the program.
#[derive(Default)]
struct Parameters {
    all: Vec<Parameter>,
    declared: Vec<String>,
    /// Weights by what tells them apart.
    known: BTreeMap<(usize, usize, DType, Vec<usize>), Value>,
}

impl Parameters {
    fn push(&mut self, parameter: Parameter, element: Element, shape: Vec<usize>) -> Value {
        let name = format!("%arg{}", self.all.len());
        self.declared.push(format!("{name}: {}", type_of(element, &shape)));
        self.all.push(parameter);
        Value::named(name, element, shape)
    }

    fn weight(&mut self, tensor: &Tensor) -> Value {
        let shape = tensor.shape().to_vec();
        let key = (tensor.storage_id(), tensor.byte_len(), tensor.dtype(), shape.clone());
        if let Some(value) = self.known.get(&key) {
            return value.clone();
        }
        let parameter = Parameter::Weight(tensor.clone());
        let value = self.push(parameter, Element::of(tensor.dtype()), shape);
        self.known.insert(key, value.clone());
        value
    }
}

/// The values of one graph.
struct Scope<'a> {
    graph: &'a Graph,
    values: Vec<Option<Value>>,
    live: Vec<bool>,
    /// The node of the loop that this is the body of.
    loop_node: Option<&'a str>,
}

impl<'a> Scope<'a> {
    fn new(graph: &'a Graph, loop_node: Option<&'a str>) -> Scope<'a> {
        let mut live = vec![false; graph.value_count()];
        graph.outputs().iter().for_each(|v| live[v.index()] = true);
        for node in graph.nodes().iter().rev() {
            if node.outputs.iter().any(|v| live[v.index()]) {
                node.inputs.iter().for_each(|v| live[v.index()] = true);
            }
        }
        Scope { graph, values: vec![None; graph.value_count()], live, loop_node }
    }
}

/// What a row may look at and write to.
struct Cx<'a, 's> {
    w: &'s mut Writer,
    parameters: &'s mut Parameters,
    scope: Scope<'a>,
    style: Style,
}

impl<'a> Cx<'a, '_> {
    /// Writes the scope's live nodes; its outputs.
    fn graph_body(&mut self) -> Result<Vec<Value>, EmitError> {
        let graph = self.scope.graph;
        for node in graph.nodes() {
            let live = node.outputs.iter().any(|v| self.scope.live[v.index()]);
            if !live || matches!(node.op, Op::Prim(Prim::Constant(_))) {
                continue;
            }
            self.w.set_location(&node.name);
            for &output in &node.outputs {
                fixed(graph, output)?;
            }
            let results = row(self, node)?;
            for (&output, value) in node.outputs.iter().zip(results) {
                debug_assert_eq!(Some(&value.shape), graph.ty(output).fixed_shape().as_ref());
                debug_assert_eq!(value.element, Element::of(graph.ty(output).dtype));
                self.scope.values[output.index()] = Some(value);
            }
        }
        self.w.set_location("");
        graph.outputs().iter().map(|&v| self.value(v)).collect()
    }

    fn graph(&self) -> &'a Graph {
        self.scope.graph
    }

    /// A value of the scope; a constant is written when it is first used.
    fn value(&mut self, v: ValueId) -> Result<Value, EmitError> {
        if let Some(value) = &self.scope.values[v.index()] {
            return Ok(value.clone());
        }
        let value = match self.scope.graph.constant(v) {
            Some(tensor) if tensor.len() <= INLINE => self.w.constant(tensor),
            Some(tensor) => self.parameters.weight(tensor),
            None => return Err(IrError::UnboundSymbol(format!("value {}", v.index())).into()),
        };
        self.scope.values[v.index()] = Some(value.clone());
        Ok(value)
    }

    fn operand(&mut self, node: &Node, i: usize) -> Result<Value, EmitError> {
        self.value(node.inputs[i])
    }

    /// An operand that the compiler must not know the value of, constant or not: it would compute with it ahead of time,
    /// and round otherwise than the device does.
    fn opaque(&mut self, node: &Node, i: usize) -> Result<Value, EmitError> {
        match self.scope.graph.constant(node.inputs[i]) {
            Some(tensor) => Ok(self.parameters.weight(tensor)),
            None => self.operand(node, i),
        }
    }

    /// An operand repeated to `shape`, as NumPy does.
    fn spread(&mut self, node: &Node, i: usize, shape: &[usize]) -> Result<Value, EmitError> {
        let value = self.operand(node, i)?;
        Ok(self.w.broadcast(&value, shape))
    }

    fn dtype(&self, node: &Node, i: usize) -> DType {
        self.scope.graph.ty(node.inputs[i]).dtype
    }

    /// The shape of a result.
    fn shape(&self, node: &Node, i: usize) -> Result<Vec<usize>, EmitError> {
        fixed(self.scope.graph, node.outputs[i])
    }

    /// The contents of an operand that holds sizes.
    fn integers(&self, node: &Node, i: usize) -> Result<Vec<i64>, EmitError> {
        self.scope.graph.constant_integers(node.inputs[i]).ok_or_else(|| {
            refused(node, "a size depends on the contents of its operands", CPU_SIZES)
        })
    }
}

const CPU_SIZES: &str = "run the model on `cpu`, which sizes such results as it goes";

fn refused(node: &Node, reason: impl Into<String>, help: impl Into<String>) -> EmitError {
    EmitError::Refused {
        node: node.label().to_string(),
        op: node.op.name(),
        reason: reason.into(),
        help: help.into(),
    }
}

/// The row of each primitive.
fn row(cx: &mut Cx<'_, '_>, node: &Node) -> Result<Vec<Value>, EmitError> {
    let prim = match &node.op {
        Op::Prim(prim) => prim,
        Op::Composite(_) => {
            return Err(refused(
                node,
                "a composite is left over",
                "report this: it is a fault of anychip",
            ));
        }
    };
    let one = match prim {
        Prim::Constant(_) => cx.value(node.outputs[0])?,
        Prim::Iota => {
            let shape = cx.shape(node, 0)?;
            cx.w.iota(Element::I64, &shape, 0)
        }
        Prim::Random { dtype, seed, .. } => {
            let shape = cx.shape(node, 0)?;
            random(cx, node, prim, *dtype, seed.is_some(), &shape)?
        }
        Prim::Unary(unary) => elementwise::unary(cx, node, *unary)?,
        Prim::Binary(binary) => elementwise::binary(cx, node, *binary)?,
        Prim::Compare(compare) => elementwise::compare(cx, node, *compare)?,
        Prim::Select => elementwise::select(cx, node)?,
        Prim::Cast { to, saturate, rounding } => cast::cast(cx, node, *to, *saturate, *rounding)?,
        Prim::BitCast { to } => cast::bit_cast(cx, node, *to)?,
        Prim::DotGeneral(dims, output) => contraction::dot(cx, node, dims, *output)?,
        Prim::Convolution(dims, output) => contraction::convolution(cx, node, dims, *output)?,
        Prim::Reduce { kind, axes } => reduce::reduce(cx, node, *kind, axes)?,
        Prim::ArgReduce { kind, axis, last } => reduce::arg_reduce(cx, node, *kind, *axis, *last)?,
        Prim::ReduceWindow { kind, window } => reduce::reduce_window(cx, node, *kind, window)?,
        Prim::Cumulative { kind, axis, exclusive, reverse } => {
            reduce::cumulative(cx, node, *kind, *axis, *exclusive, *reverse)?
        }
        Prim::TopK { axis, largest } => return sort::top_k(cx, node, *axis, *largest),
        Prim::ShapeOf => {
            let ty = cx.graph().ty(node.inputs[0]);
            let shape = ty.fixed_shape().unwrap_or_default();
            cx.w.constant(&Tensor::from_i64s(&shape.iter().map(|&n| n as i64).collect::<Vec<_>>()))
        }
        Prim::Reshape => {
            let (x, shape) = (cx.operand(node, 0)?, cx.shape(node, 0)?);
            cx.w.reshape(&x, &shape)
        }
        Prim::Broadcast => {
            let shape = cx.shape(node, 0)?;
            cx.spread(node, 0, &shape)?
        }
        Prim::Transpose { permutation } => movement::transpose(cx, node, permutation)?,
        Prim::Slice { axes } => movement::slice(cx, node, axes)?,
        Prim::Pad => movement::pad(cx, node)?,
        Prim::Concat { axis } => movement::concat(cx, node, *axis)?,
        Prim::Take { axis } => index::take(cx, node, *axis)?,
        Prim::TakeAlong { axis } => index::take_along(cx, node, *axis)?,
        Prim::GatherNd { batch } => index::gather_nd(cx, node, *batch)?,
        Prim::ScatterAlong { axis, combine } => index::scatter_along(cx, node, *axis, *combine)?,
        Prim::ScatterNd { combine } => index::scatter_nd(cx, node, *combine)?,
        Prim::NonZero => {
            return Err(refused(
                node,
                "how many elements are not zero only a run can tell",
                CPU_SIZES,
            ));
        }
        Prim::Quantize { to, saturate } => quantize::quantize(cx, node, *to, *saturate)?,
        Prim::Dequantize { to } => quantize::dequantize(cx, node, *to)?,
        Prim::Requantize { to } => quantize::requantize(cx, node, *to)?,
        Prim::If => return control::conditional(cx, node),
        Prim::Loop { carried } => return control::repeat(cx, node, *carried),
    };
    Ok(vec![one])
}

/// Numbers of a seed are the same every time, so they are a weight; others are drawn for each run, by the host, as the
/// reference draws them.
fn random(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    prim: &Prim,
    dtype: DType,
    has_seed: bool,
    shape: &[usize],
) -> Result<Value, EmitError> {
    if has_seed {
        return Ok(cx.parameters.weight(&draw(prim, shape)?));
    }
    if cx.scope.loop_node.is_some() {
        return Err(refused(
            node,
            "each iteration of a loop would draw new numbers, and only the host draws them",
            "give the operator a seed, or run the model on `cpu`",
        ));
    }
    let parameter = Parameter::Drawn { prim: prim.clone(), dtype, shape: shape.to_vec() };
    Ok(cx.parameters.push(parameter, Element::of(dtype), shape.to_vec()))
}

/// The numbers of a `Prim::Random`.
pub(crate) fn draw(prim: &Prim, shape: &[usize]) -> Result<Tensor, IrError> {
    let sizes = Tensor::from_i64s(&shape.iter().map(|&n| n as i64).collect::<Vec<_>>());
    Ok(evaluate_prim(prim, &[], &[sizes])?.remove(0))
}
