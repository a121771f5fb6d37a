//! A graph for concrete inputs: sizes become numbers, and what was computed of them becomes constants.

use anychip_ir::{
    Builder, Graph, IrError, Limits, Node, Op, Prim, TensorType, ValueId, evaluate_node_within,
    inline_with,
};
use anychip_tensor::{DType, Tensor};

/// Larger results than this are computed when the model runs, not when it is prepared for a shape.
const LARGEST_FOLDED: usize = 1 << 20;

/// Operations that computing a node of constants may take, and those for each byte of its operands.
const OPERATIONS_FOLDED: u64 = 1 << 24;
const OPERATIONS_PER_BYTE: u64 = 16;

/// What is known of one input.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its value, where sizes depend on it.
    pub value: Option<Tensor>,
}

/// `graph` with its inputs' shapes (and some values) filled in, types re-derived, and what follows from
/// shapes alone folded. Folded nodes stay behind unused.
pub fn specialize(graph: &Graph, bindings: &[Binding]) -> Result<Graph, IrError> {
    let mut b = Builder::new(graph.name());
    b.reserve_symbols(1 << 32);
    let mut inputs = Vec::with_capacity(bindings.len());
    for (&v, binding) in graph.inputs().iter().zip(bindings) {
        let ty = TensorType::new(graph.ty(v).dtype, binding.shape.iter().copied());
        let input = b.input(graph.value_name(v).unwrap_or_default(), ty);
        inputs.push(match &binding.value {
            Some(value) => b.constant(value.clone()),
            None => input,
        });
    }
    let outputs = inline_with(&mut b, graph, &inputs, &mut |b, node, operands| {
        fold(b, graph, node, operands, LARGEST_FOLDED)
    })?;
    let named: Vec<_> = graph.output_names().iter().cloned().zip(outputs).collect();
    Ok(b.finish_named(&named))
}

/// `graph` with everything that depends on constants alone computed, whatever its size: what legalizing has
/// expanded of weights (the factor of a batch norm, say) is computed once, not once a shape.
pub fn fold_constants(graph: &Graph) -> Result<Graph, IrError> {
    anychip_ir::rewrite(graph, &mut |b, node, operands| fold(b, graph, node, operands, usize::MAX))
}

fn fold(
    b: &mut Builder,
    graph: &Graph,
    node: &Node,
    operands: &[ValueId],
    largest: usize,
) -> Result<Option<Vec<ValueId>>, IrError> {
    let results = b.copy(graph, node, operands)?;
    if matches!(&node.op, Op::Prim(Prim::Constant(_) | Prim::Random { .. })) {
        return Ok(Some(results));
    }
    if let [result] = results[..]
        && let Some(shape) = b.ty(result).fixed_shape()
        && is_small_integer(b.ty(result))
        && let Some(values) = b.known_integers(result)
    {
        let values: Vec<i128> = values.into_iter().map(i128::from).collect();
        return Ok(Some(vec![b.constant(Tensor::from_integers(b.dtype(result), shape, &values)?)]));
    }
    let small = results.iter().all(|&v| {
        b.ty(v)
            .fixed_shape()
            .is_some_and(|s| s.iter().fold(1usize, |n, &d| n.saturating_mul(d)) <= largest)
    });
    if !small || operands.is_empty() || !node.regions.is_empty() {
        return Ok(Some(results));
    }
    let Some(constants) =
        operands.iter().map(|&v| b.graph().constant(v).cloned()).collect::<Option<Vec<Tensor>>>()
    else {
        return Ok(Some(results));
    };
    // Something tiny made huge (a broadcast zero) is better made again each time than kept.
    let bytes: usize = constants.iter().map(|t| t.bytes().len()).sum();
    let grown = results.iter().any(|&v| {
        let elements = b.ty(v).fixed_shape().map_or(usize::MAX, |s| s.iter().product());
        elements > LARGEST_FOLDED && elements > 8 * bytes
    });
    if grown {
        return Ok(Some(results));
    }
    // A loop hidden in a composite may go on for ever; and what fails here fails the same way when the model runs.
    let operations = OPERATIONS_FOLDED + OPERATIONS_PER_BYTE * bytes as u64;
    let mut limits = Limits { operations, ..Limits::default() };
    let values = evaluate_node_within(&node.op, &node.regions, &constants, &mut limits);
    let Ok(values) = values else { return Ok(Some(results)) };
    Ok(Some(values.into_iter().map(|value| b.constant(value)).collect()))
}

/// An integer vector or scalar: something that may hold sizes.
pub fn is_small_integer(ty: &TensorType) -> bool {
    ty.rank() <= 1 && (ty.dtype.is_integer() || ty.dtype == DType::Bool)
}

/// Which operands of a primitive decide the sizes of its results by their contents.
pub fn size_operands(prim: &Prim) -> &'static [usize] {
    match prim {
        Prim::Reshape | Prim::Broadcast | Prim::TopK { .. } => &[1],
        Prim::Slice { .. } => &[1, 2, 3],
        Prim::Pad => &[1, 2],
        Prim::Iota | Prim::Random { .. } => &[0],
        Prim::Constant(_)
        | Prim::Unary(_)
        | Prim::Binary(_)
        | Prim::Compare(_)
        | Prim::Select
        | Prim::Cast { .. }
        | Prim::BitCast { .. }
        | Prim::DotGeneral(..)
        | Prim::Convolution(..)
        | Prim::Reduce { .. }
        | Prim::ArgReduce { .. }
        | Prim::ReduceWindow { .. }
        | Prim::Cumulative { .. }
        | Prim::ShapeOf
        | Prim::Transpose { .. }
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
        | Prim::Loop { .. } => &[],
    }
}

/// For each input of `graph`, whether sizes of it depend on the input's contents: it is a small integer
/// value that reaches an operand that holds sizes through other such values. Which operands of a node do, the
/// target says: [`size_operands`], and more where it wants loops counted.
pub fn inputs_that_hold_sizes(
    graph: &Graph,
    size_operands: &dyn Fn(&Node) -> &'static [usize],
) -> Vec<bool> {
    let mut decides = vec![false; graph.value_count()];
    for node in graph.nodes().iter().rev() {
        for &i in size_operands(node) {
            if let Some(v) = node.inputs.get(i) {
                decides[v.index()] = true;
            }
        }
        let spreads = node.outputs.iter().any(|v| decides[v.index()])
            && !matches!(node.op, Op::Prim(Prim::ShapeOf));
        if spreads {
            for &v in &node.inputs {
                if is_small_integer(graph.ty(v)) {
                    decides[v.index()] = true;
                }
            }
        }
    }
    graph.inputs().iter().map(|&v| decides[v.index()] && is_small_integer(graph.ty(v))).collect()
}
