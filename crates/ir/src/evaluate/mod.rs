//! The reference evaluator: what each primitive means, element by element.
//!
//! It is the definition that every target is held to, so it is written to be read, not to be fast. Floats
//! are computed in `f64` and rounded once to the result's type; integers wrap. A composite is its
//! expansion. Types and shapes of results come from the same rules as when a graph is built, applied to
//! concrete shapes, so a value can never disagree with its type.

mod cast;
mod control;
mod convolution;
mod dot;
mod elementwise;
mod index;
mod limits;
mod movement;
mod product;
mod quantize;
mod random;
mod reduce;
mod sort;
mod strided;
mod values;

use anychip_tensor::{Dim, Tensor};

use crate::bindings::Bindings;
use crate::infer::{self, Operand};
use crate::{Builder, Graph, IrError, Op, Prim, TensorType, ValueId};

pub use limits::Limits;

/// Longer integer vectors than this do not decide shapes and are not offered to type rules.
const LONGEST_KNOWN: usize = 128;

/// The graph's outputs for the given inputs.
///
/// Inputs must have the element types and dims of the graph's inputs; a named dim must be the same size
/// everywhere. Every value is freed after its last use.
pub fn evaluate(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, IrError> {
    evaluate_within(graph, inputs, &mut Limits::default())
}

/// As [`evaluate`], within the given limits, from which it takes the operations that it does.
pub fn evaluate_within(
    graph: &Graph,
    inputs: &[Tensor],
    limits: &mut Limits,
) -> Result<Vec<Tensor>, IrError> {
    let mut bindings = Bindings::of_inputs(graph, inputs)?;
    let last_use = last_uses(graph);
    let mut values: Vec<Option<Tensor>> = vec![None; graph.value_count()];
    for (&value, tensor) in graph.inputs().iter().zip(inputs) {
        values[value.index()] = Some(tensor.clone());
    }
    for (id, node) in graph.iter() {
        let named = |error: IrError| error.at(&node.name);
        let operands: Vec<Tensor> =
            node.inputs.iter().map(|v| held(&values, *v)).collect::<Result<_, _>>()?;
        for &input in &node.inputs {
            if last_use[input.index()] == Some(id.index()) {
                values[input.index()] = None;
            }
        }
        let results =
            evaluate_node_within(&node.op, &node.regions, &operands, limits).map_err(named)?;
        for (&output, tensor) in node.outputs.iter().zip(results) {
            bindings.bind_result(node.op.name(), graph.ty(output), &tensor).map_err(named)?;
            if last_use[output.index()].is_some() {
                values[output.index()] = Some(tensor);
            }
        }
    }
    graph.outputs().iter().map(|&v| held(&values, v)).collect()
}

/// The results of one node for the given operands.
pub fn evaluate_node(
    op: &Op,
    regions: &[Graph],
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, IrError> {
    evaluate_node_within(op, regions, inputs, &mut Limits::default())
}

/// As [`evaluate_node`], within the given limits.
pub fn evaluate_node_within(
    op: &Op,
    regions: &[Graph],
    inputs: &[Tensor],
    limits: &mut Limits,
) -> Result<Vec<Tensor>, IrError> {
    match op {
        Op::Prim(prim) => evaluate_prim_within(prim, regions, inputs, limits),
        Op::Composite(composite) => {
            let mut b = Builder::new(composite.name());
            let values: Vec<ValueId> = inputs
                .iter()
                .map(|tensor| {
                    let value = b.input("", TensorType::of(tensor));
                    if let Some(known) = known(tensor) {
                        b.assume_known(value, known);
                    }
                    value
                })
                .collect();
            let outputs = composite.expand(&mut b, &values)?;
            evaluate_within(&b.finish(&outputs), inputs, limits)
        }
    }
}

/// The results of one primitive for the given operands.
pub fn evaluate_prim(
    prim: &Prim,
    regions: &[Graph],
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, IrError> {
    evaluate_prim_within(prim, regions, inputs, &mut Limits::default())
}

/// As [`evaluate_prim`], within the given limits.
pub fn evaluate_prim_within(
    prim: &Prim,
    regions: &[Graph],
    inputs: &[Tensor],
    limits: &mut Limits,
) -> Result<Vec<Tensor>, IrError> {
    let types: Vec<TensorType> = inputs.iter().map(TensorType::of).collect();
    let known: Vec<Option<Vec<Dim>>> = inputs.iter().map(known).collect();
    let operands: Vec<Operand<'_>> = types
        .iter()
        .zip(&known)
        .map(|(ty, known)| Operand { ty, known: known.as_deref() })
        .collect();
    // A size that only the contents tell stays a name here; the rule of such a primitive ignores it.
    let results = infer::infer(prim, &operands, regions, &mut || Dim::sym("?"))?;
    let only_contents_tell = matches!(prim, Prim::NonZero | Prim::If | Prim::Loop { .. });
    for ty in &results {
        match ty.fixed_shape() {
            Some(shape) => limits.check_size(ty.dtype, &shape)?,
            None if only_contents_tell => {}
            // A size operand longer than any rank: refused rather than guessed.
            None => {
                return Err(IrError::NeedsValue {
                    op: prim.name(),
                    operand: 1,
                    what: "the shape of the result",
                });
            }
        }
    }
    limits.spend(limits::operations(prim, inputs, &results))?;
    dispatch(prim, regions, inputs, &results, limits)
}

fn dispatch(
    prim: &Prim,
    regions: &[Graph],
    x: &[Tensor],
    types: &[TensorType],
    limits: &mut Limits,
) -> Result<Vec<Tensor>, IrError> {
    // The first result's type; every dim of it is a number but for the primitives that do not use it.
    let shape =
        || -> Vec<usize> { types[0].shape.iter().map(|dim| dim.fixed().unwrap_or(0)).collect() };
    let one = match prim {
        Prim::Constant(tensor) => tensor.clone(),
        Prim::Iota => movement::iota(shape())?,
        Prim::Random { distribution, dtype, seed } => {
            random::random(*distribution, *dtype, *seed, shape())?
        }
        Prim::Unary(unary) => elementwise::unary(*unary, &x[0])?,
        Prim::Binary(binary) => elementwise::binary(*binary, &x[0], &x[1], shape())?,
        Prim::Compare(compare) => elementwise::compare(*compare, &x[0], &x[1], shape())?,
        Prim::Select => elementwise::select(&x[0], &x[1], &x[2], shape())?,
        Prim::Cast { to, saturate, rounding } => cast::cast(&x[0], *to, *saturate, *rounding)?,
        Prim::BitCast { to } => x[0].bit_cast(*to)?,
        Prim::DotGeneral(dims, output) => dot::dot(dims, *output, &x[0], &x[1], shape())?,
        Prim::Convolution(dims, output) => {
            convolution::convolution(dims, *output, &x[0], &x[1], shape())?
        }
        Prim::Reduce { kind, axes } => reduce::reduce(*kind, axes, &x[0], shape())?,
        Prim::ArgReduce { kind, axis, last } => {
            reduce::arg_reduce(*kind, *axis, *last, &x[0], shape())?
        }
        Prim::ReduceWindow { kind, window } => {
            reduce::reduce_window(*kind, window, &x[0], shape())?
        }
        Prim::Cumulative { kind, axis, exclusive, reverse } => {
            reduce::cumulative(*kind, *axis, *exclusive, *reverse, &x[0])?
        }
        Prim::TopK { axis, largest } => return sort::top_k(*axis, *largest, &x[0], shape()),
        Prim::ShapeOf => {
            Tensor::from_i64s(&x[0].shape().iter().map(|&n| n as i64).collect::<Vec<_>>())
        }
        Prim::Reshape => x[0].reshaped(shape())?,
        Prim::Broadcast => movement::broadcast(&x[0], &shape())?,
        Prim::Transpose { permutation } => movement::transpose(permutation, &x[0], &shape())?,
        Prim::Slice { axes } => movement::slice(axes, x, &shape())?,
        Prim::Pad => movement::pad(x, shape())?,
        Prim::Concat { axis } => movement::concat(*axis, x, shape())?,
        Prim::Take { axis } => index::take(*axis, &x[0], &x[1], shape())?,
        Prim::TakeAlong { axis } => index::take_along(*axis, &x[0], &x[1], shape())?,
        Prim::GatherNd { batch } => index::gather_nd(*batch, &x[0], &x[1], shape())?,
        Prim::ScatterAlong { axis, combine } => {
            index::scatter_along(*axis, *combine, &x[0], &x[1], &x[2])?
        }
        Prim::ScatterNd { combine } => index::scatter_nd(*combine, &x[0], &x[1], &x[2])?,
        Prim::NonZero => index::non_zero(&x[0])?,
        Prim::Quantize { to, saturate } => quantize::quantize(*to, *saturate, x, shape())?,
        Prim::Dequantize { to } => quantize::dequantize(*to, x, shape())?,
        Prim::Requantize { to } => quantize::requantize(*to, x, shape())?,
        Prim::If => return control::conditional(regions, x, limits),
        Prim::Loop { carried } => return control::repeat(*carried, &regions[0], x, limits),
    };
    Ok(vec![one])
}

/// The elements of a small integer tensor, as type rules look at them.
fn known(tensor: &Tensor) -> Option<Vec<Dim>> {
    let small = tensor.rank() <= 1 && tensor.len() <= LONGEST_KNOWN && !tensor.dtype().is_float();
    small.then(|| tensor.to_i64().into_iter().map(Dim::from_i64).collect())
}

/// For each value, the last node that uses it; outputs are used after all nodes.
fn last_uses(graph: &Graph) -> Vec<Option<usize>> {
    let mut last = vec![None; graph.value_count()];
    for (id, node) in graph.iter() {
        for input in &node.inputs {
            last[input.index()] = Some(id.index());
        }
    }
    for output in graph.outputs() {
        last[output.index()] = Some(usize::MAX);
    }
    last
}

fn held(values: &[Option<Tensor>], value: ValueId) -> Result<Tensor, IrError> {
    values[value.index()]
        .clone()
        .ok_or_else(|| IrError::UnboundSymbol(format!("value {}", value.index())))
}
