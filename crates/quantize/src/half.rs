//! A graph in 16-bit floats, with what needs more range or more digits left in 32.

use std::sync::Arc;

use anychip_ir::{
    Builder, Graph, IrError, Node, Op, Prim, ReduceKind, Unary, ValueId, first_free_symbol, rewrite,
};
use anychip_ops::{Attention, AveragePool, Gelu, Silu};
use anychip_passes::remove_dead_code;
use anychip_tensor::{DType, Tensor};

use crate::QuantizeError;

/// `graph` with `f32` arithmetic in `to` (`f16` or `bf16`); its inputs and outputs keep their types.
///
/// Sums over many elements, normalization, softmax and functions that overflow (exponentials, powers) stay in 32 bits, and so
/// does a node with a constant that `to` cannot hold. The second result says how many nodes changed and how many stayed.
pub fn to_half(graph: &Graph, to: DType) -> Result<(Graph, [usize; 2]), QuantizeError> {
    // Softmax inside attention is to stay wide, so attention is taken apart.
    let graph = &rewrite(graph, &mut |b, node, inputs| match &node.op {
        Op::Composite(composite) if node.op.composite::<Attention>().is_some() => {
            composite.expand(b, inputs).map(Some)
        }
        _ => Ok(None),
    })?;
    let mut b = Builder::new(graph.name());
    b.reserve_symbols(first_free_symbol(graph));
    let mut values = Values { wide: vec![None; graph.value_count()], half: Vec::new(), to };
    values.half = values.wide.clone();
    for &input in graph.inputs() {
        let name = graph.value_name(input).unwrap_or_default();
        values.wide[input.index()] = Some(b.input(name, graph.ty(input).clone()));
    }
    let mut counts = [0, 0];
    for node in graph.nodes() {
        b.set_scope(Arc::clone(&node.name));
        let narrow = narrows(graph, node, to);
        if let Op::Prim(Prim::Constant(_)) = node.op {
            let inputs: [ValueId; 0] = [];
            let results = b.copy(graph, node, &inputs)?;
            values.wide[node.outputs[0].index()] = Some(results[0]);
            continue;
        }
        let floats = node.inputs.iter().any(|&v| graph.ty(v).dtype == DType::F32);
        if floats {
            counts[usize::from(narrow.is_none())] += 1;
        }
        let mut inputs = Vec::new();
        for &input in &node.inputs {
            let half = narrow.is_some() && graph.ty(input).dtype == DType::F32;
            inputs.push(values.get(&mut b, graph, input, half)?);
        }
        let results = match narrow {
            Some(op) => b.node(op, &inputs, Vec::new()),
            None => b.copy(graph, node, &inputs),
        };
        let results = results.map_err(|error| error.at(&node.name))?;
        for (&old, new) in node.outputs.iter().zip(results) {
            if let Some(name) = graph.value_name(old) {
                b.name_value(new, name);
            }
            let changed = b.dtype(new) != graph.ty(old).dtype;
            let table = if changed { &mut values.half } else { &mut values.wide };
            table[old.index()] = Some(new);
        }
    }
    let mut outputs = Vec::new();
    for (name, &value) in graph.output_names().iter().zip(graph.outputs()) {
        outputs.push((Arc::clone(name), values.get(&mut b, graph, value, false)?));
    }
    Ok((remove_dead_code(&b.finish_named(&outputs))?, counts))
}

/// The new values that stand for the old, in 32 bits and in 16, each made when first asked for.
struct Values {
    wide: Vec<Option<ValueId>>,
    half: Vec<Option<ValueId>>,
    to: DType,
}

impl Values {
    fn get(
        &mut self,
        b: &mut Builder,
        graph: &Graph,
        old: ValueId,
        half: bool,
    ) -> Result<ValueId, IrError> {
        let i = old.index();
        let (own, other) =
            if half { (self.half[i], self.wide[i]) } else { (self.wide[i], self.half[i]) };
        if let Some(value) = own {
            return Ok(value);
        }
        let Some(other) = other else {
            return Err(IrError::UnboundSymbol("a value is used before it is made".into()));
        };
        let to = if half { self.to } else { DType::F32 };
        let made = match graph.constant(old) {
            Some(tensor) => {
                let narrowed = narrowed(tensor, to)?;
                b.constant(narrowed)
            }
            None => b.cast(other, to)?,
        };
        let table = if half { &mut self.half } else { &mut self.wide };
        table[i] = Some(made);
        Ok(made)
    }
}

fn narrowed(tensor: &Tensor, to: DType) -> Result<Tensor, IrError> {
    Ok(Tensor::from_f64(to, tensor.shape(), &tensor.to_f64())?)
}

/// Whether every element of a constant is within the range of the type. Infinities are meant as such.
fn held(tensor: &Tensor, to: DType) -> bool {
    let most = if to == DType::F16 { 65504.0 } else { f64::from(f32::MAX) };
    tensor.dtype() != DType::F32
        || tensor.to_f64().iter().all(|v| v.abs() <= most || v.is_infinite())
}

/// The node's operation in 16 bits; `None` where it stays as it is.
fn narrows(graph: &Graph, node: &Node, to: DType) -> Option<Op> {
    let float = node.inputs.iter().any(|&v| graph.ty(v).dtype == DType::F32);
    let fits = node.inputs.iter().filter_map(|&v| graph.constant(v)).all(|t| held(t, to));
    if !float || !fits || !node.regions.is_empty() {
        return None;
    }
    let prim = match &node.op {
        Op::Composite(_) => {
            let same = node.op.composite::<Gelu>().is_some()
                || node.op.composite::<Silu>().is_some()
                || node.op.composite::<AveragePool>().is_some();
            return same.then(|| node.op.clone());
        }
        Op::Prim(prim) => prim,
    };
    let prim = match prim {
        Prim::Convolution(dims, DType::F32) => Prim::Convolution(dims.clone(), to),
        Prim::DotGeneral(dims, DType::F32) => Prim::DotGeneral(dims.clone(), to),
        Prim::Unary(
            Unary::Neg
            | Unary::Abs
            | Unary::Sign
            | Unary::Floor
            | Unary::Ceil
            | Unary::Round
            | Unary::Tanh
            | Unary::Erf
            | Unary::Sigmoid,
        )
        | Prim::Binary(
            anychip_ir::Binary::Add
            | anychip_ir::Binary::Sub
            | anychip_ir::Binary::Mul
            | anychip_ir::Binary::Max
            | anychip_ir::Binary::Min,
        )
        | Prim::Compare(_)
        | Prim::Select
        | Prim::ReduceWindow { kind: ReduceKind::Max | ReduceKind::Min, .. }
        | Prim::Reduce { kind: ReduceKind::Max | ReduceKind::Min, .. }
        | Prim::Reshape
        | Prim::Broadcast
        | Prim::Transpose { .. }
        | Prim::Slice { .. }
        | Prim::Pad
        | Prim::Concat { .. }
        | Prim::Take { .. } => prim.clone(),
        Prim::Constant(_)
        | Prim::Iota
        | Prim::Random { .. }
        | Prim::Unary(_)
        | Prim::Binary(_)
        | Prim::Cast { .. }
        | Prim::BitCast { .. }
        | Prim::DotGeneral(..)
        | Prim::Convolution(..)
        | Prim::Reduce { .. }
        | Prim::ArgReduce { .. }
        | Prim::ReduceWindow { .. }
        | Prim::Cumulative { .. }
        | Prim::TopK { .. }
        | Prim::ShapeOf
        | Prim::TakeAlong { .. }
        | Prim::GatherNd { .. }
        | Prim::ScatterAlong { .. }
        | Prim::ScatterNd { .. }
        | Prim::NonZero
        | Prim::Quantize { .. }
        | Prim::Dequantize { .. }
        | Prim::Requantize { .. }
        | Prim::If
        | Prim::Loop { .. } => return None,
    };
    Some(Op::Prim(prim))
}
