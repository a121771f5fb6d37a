//! Control flow: If, Loop, Scan.

use std::sync::Arc;

use anychip_ir::{Builder, IrError, Prim, TensorType, ValueId};
use anychip_tensor::{DType, Dim, Tensor};

use super::call::{Call, ImportError};
use super::importer::Bound;
use super::region::Captures;
use super::table::Row;
use crate::proto::GraphProto;

type Results = Result<Vec<ValueId>, ImportError>;

pub(crate) const ROWS: &[Row] = &[
    Row::onnx("If", 1, conditional),
    Row::onnx("Loop", 1, repeat),
    Row::onnx("Scan", 8, scan_batched),
    Row::onnx("Scan", 9, scan),
];

/// As a scalar; the standard lets conditions and counts be vectors of one.
fn scalar(b: &mut Builder, x: ValueId) -> Result<ValueId, ImportError> {
    Ok(b.reshape(x, &[])?)
}

fn named(values: &[ValueId]) -> Vec<(Arc<str>, ValueId)> {
    values.iter().enumerate().map(|(i, &v)| (format!("output_{i}").into(), v)).collect()
}

/// What is certain of a condition or count.
pub(super) fn certain(call: &Call<'_>, input: usize) -> Result<Option<i64>, ImportError> {
    let value = call.input(input)?;
    if let Some(numbers) = call.b.known_integers(value) {
        return Ok(numbers.first().copied());
    }
    Ok(call.constant(input)?.and_then(|tensor| tensor.to_i64().first().copied()))
}

/// A branch that is certain is imported in place; otherwise both become regions.
fn conditional(call: &mut Call<'_>) -> Results {
    let condition = call.input(0)?;
    let (then, otherwise) =
        (call.graph("then_branch")?.clone(), call.graph("else_branch")?.clone());
    if let Some(holds) = certain(call, 0)? {
        return call.inline_graph(if holds != 0 { &then } else { &otherwise }, &[]);
    }
    let condition = scalar(call.b, condition)?;
    let captures = call.captures(&[&then, &otherwise])?;
    let mut regions = Vec::new();
    let mut failed = None;
    for (name, graph) in [("then", &then), ("else", &otherwise)] {
        let (mut region, _) = call.region(name, &[], &captures);
        match call.fill(&mut region, graph, &captures) {
            Ok(outputs) => regions.push(region.finish(&named(&outputs))),
            Err(error) => failed = Some(error),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let mut operands = vec![condition];
    operands.extend(captures.operands());
    match call.b.node(Prim::If, &operands, regions) {
        // Branches of different ranks: the model has to be imported for the one that is taken.
        Err(IrError::Shapes { .. }) => {
            Err(ImportError::NeedsValue { input: 0, what: "the type of the result" })
        }
        other => Ok(other?),
    }
}

/// A body being imported: what its first inputs are called and what type they have.
struct Body<'g> {
    graph: &'g GraphProto,
    /// Types of the values handed from one iteration to the next.
    carried: Vec<TensorType>,
    /// Their dims that were found to change.
    free: Vec<Vec<bool>>,
}

impl<'g> Body<'g> {
    fn new(b: &Builder, graph: &'g GraphProto, initial: &[ValueId]) -> Body<'g> {
        let carried: Vec<TensorType> = initial.iter().map(|&v| b.ty(v).clone()).collect();
        let free = carried.iter().map(|ty| vec![false; ty.rank()]).collect();
        Body { graph, carried, free }
    }

    /// Where a carried value leaves the body with other sizes than it came in, the size is one that only a
    /// run can tell. Whether anything changed.
    fn generalize(&mut self, b: &mut Builder, after: &[TensorType]) -> Result<bool, ImportError> {
        let mut changed = false;
        let carried = self.carried.iter_mut().zip(&mut self.free);
        for ((before, free), after) in carried.zip(after) {
            if before.dtype != after.dtype || before.rank() != after.rank() {
                return Err(ImportError::Unsupported(format!(
                    "a carried value comes in as {before} and leaves as {after}"
                )));
            }
            for ((own, free), other) in before.shape.iter_mut().zip(free).zip(&after.shape) {
                if own != other && !*free {
                    *own = b.fresh_dim();
                    *free = true;
                    changed = true;
                }
            }
        }
        Ok(changed)
    }
}

/// Builds a region with `build` until its carried values leave with the sizes they came in with.
#[expect(clippy::type_complexity, reason = "the closure's signature is said once")]
fn settle<T>(
    call: &mut Call<'_>,
    body: &mut Body<'_>,
    build: &mut dyn FnMut(&mut Call<'_>, &Body<'_>) -> Result<(T, Vec<TensorType>), ImportError>,
) -> Result<T, ImportError> {
    loop {
        let first = call.importer.diagnostics.len();
        let (result, after) = build(call, body)?;
        if !body.generalize(call.b, &after)? {
            return Ok(result);
        }
        call.importer.diagnostics.truncate(first);
    }
}

fn repeat(call: &mut Call<'_>) -> Results {
    let graph = call.graph("body")?.clone();
    let trips = match call.optional(0) {
        Some(trips) => scalar(call.b, trips)?,
        None => call.b.constant(Tensor::scalar(i64::MAX)),
    };
    let condition = match call.optional(1) {
        Some(condition) => scalar(call.b, condition)?,
        None => call.b.constant(Tensor::from_bools(Vec::new(), [true])?),
    };
    let initial: Vec<ValueId> =
        (2..call.inputs.len()).map(|i| call.input(i)).collect::<Result<_, _>>()?;
    let carried = initial.len();
    if graph.input.len() != carried + 2 || graph.output.len() < carried + 1 {
        return Err(call.invalid(format!(
            "the body has {} inputs and {} outputs for {carried} carried values",
            graph.input.len(),
            graph.output.len()
        )));
    }
    let captures = call.captures(&[&graph])?;
    let mut body = Body::new(call.b, &graph, &initial);
    let region = settle(call, &mut body, &mut |call, body| loop_body(call, body, &captures))?;
    let mut operands = vec![trips, condition];
    operands.extend(&initial);
    operands.extend(captures.operands());
    Ok(call.b.node(Prim::Loop { carried }, &operands, vec![region])?)
}

type Built = (anychip_ir::Graph, Vec<TensorType>);

fn loop_body(
    call: &mut Call<'_>,
    body: &Body<'_>,
    captures: &Captures,
) -> Result<Built, ImportError> {
    let graph = body.graph;
    let mut inputs = vec![(graph.input[0].name().to_string(), TensorType::scalar(DType::I64))];
    for (info, ty) in graph.input[2..].iter().zip(&body.carried) {
        inputs.push((info.name().to_string(), ty.clone()));
    }
    let (mut region, own) = call.region("body", &inputs, captures);
    let shapes = region_types(graph);
    // The counter and the condition may be declared as vectors of one.
    let iteration = if shapes[0] == Some(1) { region.b.unsqueeze(own[0], &[0])? } else { own[0] };
    // A body runs only while the condition holds.
    let dims: &[usize] = if shapes[1] == Some(1) { &[1] } else { &[] };
    let holds = region.b.constant(Tensor::from_bools(dims, [true])?);
    let bind = |region: &mut super::region::Region, i: usize, value: ValueId| {
        region.scope.values.insert(graph.input[i].name().to_string(), Bound::Tensor(value));
    };
    bind(&mut region, 0, iteration);
    bind(&mut region, 1, holds);
    for (i, &value) in own[1..].iter().enumerate() {
        bind(&mut region, 2 + i, value);
    }
    let mut outputs = call.fill(&mut region, graph, captures)?;
    outputs[0] = scalar(&mut region.b, outputs[0])?;
    let after = outputs[1..=body.carried.len()].iter().map(|&v| region.b.ty(v).clone()).collect();
    Ok((region.finish(&named(&outputs)), after))
}

/// The declared rank of each input of a sub-graph.
fn region_types(graph: &GraphProto) -> Vec<Option<usize>> {
    use crate::proto::type_proto::Value;
    graph
        .input
        .iter()
        .map(|info| match info.r#type.as_ref()?.value.as_ref()? {
            Value::TensorType(tensor) => tensor.shape.as_ref().map(|shape| shape.dim.len()),
            _ => None,
        })
        .collect()
}

/// Which dim of each scanned value the scan goes along, and whether backwards.
struct Ways {
    axes: Vec<usize>,
    reverse: Vec<bool>,
}

impl Ways {
    fn read(
        call: &Call<'_>,
        axes: &str,
        directions: &str,
        ranks: &[usize],
    ) -> Result<Ways, ImportError> {
        let n = ranks.len();
        let given = call.ints(axes).unwrap_or_else(|| vec![0; n]);
        let directions_given = call.ints(directions).unwrap_or_else(|| vec![0; n]);
        if given.len() != n || directions_given.len() != n {
            return Err(call.bad_attribute(axes, "must have an entry for each scanned value"));
        }
        let axes = given
            .iter()
            .zip(ranks)
            .map(|(&axis, &rank)| call.axis(axis, rank))
            .collect::<Result<_, _>>()?;
        Ok(Ways { axes, reverse: directions_given.iter().map(|&d| d != 0).collect() })
    }
}

/// A scan is a loop over the positions of its inputs.
fn scan(call: &mut Call<'_>) -> Results {
    let graph = call.graph("body")?.clone();
    let inputs = call.all_inputs(0)?;
    let carried = carried_count(call, &graph, inputs.len())?;
    let (initial, sources) = inputs.split_at(carried);
    let ranks: Vec<usize> = sources.iter().map(|&v| call.b.rank(v)).collect();
    let ways = Ways::read(call, "scan_input_axes", "scan_input_directions", &ranks)?;
    let mut results = scan_over(call, &graph, initial, sources, &ways, None)?;
    // Scanned results are stacked along dim 0, in the order of the iterations.
    let ranks: Vec<usize> = results[carried..].iter().map(|&v| call.b.rank(v)).collect();
    let out = Ways::read(call, "scan_output_axes", "scan_output_directions", &ranks)?;
    for (i, result) in results[carried..].iter_mut().enumerate() {
        if out.reverse[i] {
            *result = call.b.reverse(*result, 0)?;
        }
        let mut permutation: Vec<usize> = (1..ranks[i]).collect();
        permutation.insert(out.axes[i], 0);
        *result = call.b.transpose(*result, &permutation)?;
    }
    Ok(results)
}

/// How many of the operands are handed from one iteration to the next; the others are scanned.
fn carried_count(
    call: &Call<'_>,
    graph: &GraphProto,
    operands: usize,
) -> Result<usize, ImportError> {
    let scanned = usize::try_from(call.need_int("num_scan_inputs")?)
        .ok()
        .filter(|&n| n >= 1 && n <= operands)
        .ok_or_else(|| call.bad_attribute("num_scan_inputs", "is not a number of inputs"))?;
    if graph.input.len() != operands || graph.output.len() < operands - scanned {
        return Err(call.invalid(format!(
            "the body has {} inputs and {} outputs for {operands} operands",
            graph.input.len(),
            graph.output.len()
        )));
    }
    Ok(operands - scanned)
}

/// The loop of a scan; all positions of the first scanned value, or as many as `trips` says.
fn scan_over(
    call: &mut Call<'_>,
    graph: &GraphProto,
    initial: &[ValueId],
    sources: &[ValueId],
    ways: &Ways,
    trips: Option<ValueId>,
) -> Results {
    let captures = call.captures(&[graph])?;
    let length = call.b.dims(sources[0])[ways.axes[0]].clone();
    let mut body = Body::new(call.b, graph, initial);
    let region = settle(call, &mut body, &mut |call, body| {
        scan_body(call, body, &captures, sources, ways, &length)
    })?;
    let trips = match trips {
        Some(trips) => trips,
        None => call.b.dim_value(&length)?,
    };
    let condition = call.b.constant(Tensor::from_bools(Vec::new(), [true])?);
    let mut operands = vec![trips, condition];
    operands.extend(initial);
    operands.extend(sources);
    operands.extend(captures.operands());
    Ok(call.b.node(Prim::Loop { carried: initial.len() }, &operands, vec![region])?)
}

fn scan_body(
    call: &mut Call<'_>,
    body: &Body<'_>,
    captures: &Captures,
    sources: &[ValueId],
    ways: &Ways,
    length: &Dim,
) -> Result<Built, ImportError> {
    let graph = body.graph;
    let carried = body.carried.len();
    let mut inputs = vec![("iteration".to_string(), TensorType::scalar(DType::I64))];
    for (info, ty) in graph.input.iter().zip(&body.carried) {
        inputs.push((info.name().to_string(), ty.clone()));
    }
    for (i, &source) in sources.iter().enumerate() {
        inputs.push((format!("scanned_{i}"), call.b.ty(source).clone()));
    }
    let (mut region, own) = call.region("body", &inputs, captures);
    for (info, &value) in graph.input.iter().zip(&own[1..=carried]) {
        region.scope.values.insert(info.name().to_string(), Bound::Tensor(value));
    }
    for (i, info) in graph.input[carried..].iter().enumerate() {
        let index = if ways.reverse[i] {
            let length = region.b.dim_value(length)?;
            let left = region.b.sub(length, own[0])?;
            region.b.offset(left, -1.0)?
        } else {
            own[0]
        };
        let axis = ways.axes[i];
        let slice = region.b.prim(Prim::Take { axis }, &[own[1 + carried + i], index])?;
        region.scope.values.insert(info.name().to_string(), Bound::Tensor(slice));
    }
    let outputs = call.fill(&mut region, graph, captures)?;
    let holds = region.b.constant(Tensor::from_bools(Vec::new(), [true])?);
    let mut all = vec![holds];
    all.extend(&outputs);
    let after = outputs[..carried].iter().map(|&v| region.b.ty(v).clone()).collect();
    Ok((region.finish(&named(&all)), after))
}

/// Opset 8: every operand has a batch dim first, the scan goes along the second, and each batch may have a
/// length of its own; positions behind it are 0 in the results. A loop over batches around a scan.
fn scan_batched(call: &mut Call<'_>) -> Results {
    let graph = call.graph("body")?.clone();
    let lengths = call.optional(0);
    let operands: Vec<ValueId> =
        (1..call.inputs.len()).map(|i| call.input(i)).collect::<Result<_, _>>()?;
    let carried = carried_count(call, &graph, operands.len())?;
    if operands[carried..].iter().any(|&v| call.b.rank(v) < 2)
        || operands.iter().any(|&v| call.b.rank(v) < 1)
    {
        return Err(call.invalid("operands need a batch dim, and scanned ones a second"));
    }
    let captures = call.captures(&[&graph])?;
    let mut inputs = vec![("batch".to_string(), TensorType::scalar(DType::I64))];
    let outside: Vec<ValueId> = operands.iter().copied().chain(lengths).collect();
    for (i, &value) in outside.iter().enumerate() {
        inputs.push((format!("operand_{i}"), call.b.ty(value).clone()));
    }
    let (mut region, own) = call.region("batch", &inputs, &captures);
    let mut rows = Vec::new();
    for &value in &own[1..] {
        rows.push(region.b.prim(Prim::Take { axis: 0 }, &[value, own[0]])?);
    }
    let trips = lengths.and_then(|_| rows.pop());
    let positions = region.b.dims(rows[carried])[0].clone();
    let scanned = rows.len() - carried;
    let directions = call.ints("directions").unwrap_or_else(|| vec![0; scanned]);
    if directions.len() != scanned {
        return Err(call.bad_attribute("directions", "must have an entry for each scanned value"));
    }
    let ways =
        Ways { axes: vec![0; scanned], reverse: directions.iter().map(|&d| d != 0).collect() };
    let scope = std::mem::take(&mut region.scope);
    let mut inner = Call {
        b: &mut region.b,
        opset: call.opset,
        op: call.op,
        inputs: Vec::new(),
        outputs: call.outputs,
        attributes: call.attributes,
        importer: &mut *call.importer,
        scope: &scope,
    };
    let mut results =
        scan_over(&mut inner, &graph, &rows[..carried], &rows[carried..], &ways, trips)?;
    if let Some(trips) = trips {
        for result in &mut results[carried..] {
            let b = &mut region.b;
            let rank = b.rank(*result);
            let length = b.dim_value(&positions)?;
            let missing = b.sub(length, trips)?;
            let one = b.integers(&[1]);
            let missing = b.prim(Prim::Reshape, &[missing, one])?;
            let none = b.integers(&vec![0; rank - 1]);
            let high = b.concat(&[missing, none], 0)?;
            let low = b.integers(&vec![0; rank]);
            let zero = b.scalar_like(*result, 0.0)?;
            *result = b.prim(Prim::Pad, &[*result, low, high, zero])?;
        }
    }
    let holds = region.b.constant(Tensor::from_bools(Vec::new(), [true])?);
    let mut all = vec![holds];
    all.extend(&results);
    let region = region.finish(&named(&all));
    let batches = call.b.dims(operands[0])[0].clone();
    let trips = call.b.dim_value(&batches)?;
    let condition = call.b.constant(Tensor::from_bools(Vec::new(), [true])?);
    let mut all = vec![trips, condition];
    all.extend(&outside);
    all.extend(captures.operands());
    Ok(call.b.node(Prim::Loop { carried: 0 }, &all, vec![region])?)
}
