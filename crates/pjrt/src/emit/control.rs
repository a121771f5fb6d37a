//! Branches and loops.
//!
//! Regions are written for the shapes of their operands, constants among these included. A branch reads what it uses from around it;
//! a loop hands its state on, with the stacked results as arrays that each iteration writes a row of.

use anychip_ir::{Graph, Node, ValueId};
use anychip_passes::specialize::{Binding, specialize};

use super::writer::Value;
use super::{CPU_SIZES, Cx, EmitError, Scope, fixed, refused};
use crate::element::Element;

/// A region for the operands `node.inputs[i]` named in `operands`; `None` stands for a value that changes.
fn specialized(
    cx: &Cx<'_, '_>,
    region: &Graph,
    operands: &[Result<ValueId, Vec<usize>>],
) -> Result<Graph, EmitError> {
    let bindings: Vec<Binding> = operands
        .iter()
        .map(|operand| {
            Ok(match operand {
                Ok(v) => Binding {
                    shape: fixed(cx.graph(), *v)?,
                    value: cx.graph().constant(*v).cloned(),
                },
                Err(shape) => Binding { shape: shape.clone(), value: None },
            })
        })
        .collect::<Result<_, EmitError>>()?;
    Ok(specialize(region, &bindings)?)
}

/// Writes a region's nodes on `arguments`, one an input.
fn inside(
    cx: &mut Cx<'_, '_>,
    region: &Graph,
    loop_node: Option<&str>,
    arguments: &[Option<Value>],
) -> Result<Vec<Value>, EmitError> {
    let mut scope = Scope::new(region, loop_node.or(cx.scope.loop_node));
    for (&input, argument) in region.inputs().iter().zip(arguments) {
        scope.values[input.index()].clone_from(argument);
    }
    let mut inner = Cx { w: &mut *cx.w, parameters: &mut *cx.parameters, scope, style: cx.style };
    inner.graph_body()
}

pub(super) fn conditional(cx: &mut Cx<'_, '_>, node: &Node) -> Result<Vec<Value>, EmitError> {
    let captures: Vec<Result<ValueId, Vec<usize>>> =
        node.inputs[1..].iter().map(|&v| Ok(v)).collect();
    let values: Vec<Option<Value>> =
        (1..node.inputs.len()).map(|i| cx.operand(node, i).map(Some)).collect::<Result<_, _>>()?;
    let known = cx.graph().constant(node.inputs[0]).map(|c| c.codes() != [0]);
    if let Some(condition) = known {
        let taken = specialized(cx, &node.regions[usize::from(!condition)], &captures)?;
        return inside(cx, &taken, None, &values);
    }
    let condition = cx.operand(node, 0)?;
    let types = result_types(cx, node)?;
    let mut regions = Vec::new();
    for region in &node.regions {
        let region = specialized(cx, region, &captures)?;
        for (&v, (_, shape)) in region.outputs().iter().zip(&types) {
            if fixed(&region, v)? != *shape {
                return Err(refused(
                    node,
                    "its branches give results of different sizes",
                    CPU_SIZES,
                ));
            }
        }
        regions.push(nested(cx, &[], |cx, _| inside(cx, &region, None, &values))?);
    }
    Ok(cx.w.ops("stablehlo.if", &[&condition], &regions, "", &types))
}

/// A region of the text whose body is written with the whole context.
fn nested(
    cx: &mut Cx<'_, '_>,
    arguments: &[(Element, Vec<usize>)],
    write: impl FnOnce(&mut Cx<'_, '_>, &[Value]) -> Result<Vec<Value>, EmitError>,
) -> Result<String, EmitError> {
    let Cx { w, parameters, scope, style } = cx;
    let graph = scope.graph;
    w.region(arguments, |w, values| {
        // What is written inside must not be taken for written outside, so the scope there is a new one.
        let scope = Scope::new(graph, scope.loop_node);
        let mut cx = Cx { w, parameters, scope, style: *style };
        write(&mut cx, values)
    })
}

fn result_types(cx: &Cx<'_, '_>, node: &Node) -> Result<Vec<(Element, Vec<usize>)>, EmitError> {
    let of = |&v: &ValueId| -> Result<_, EmitError> {
        Ok((Element::of(cx.graph().ty(v).dtype), fixed(cx.graph(), v)?))
    };
    node.outputs.iter().map(of).collect()
}

pub(super) fn repeat(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    carried: usize,
) -> Result<Vec<Value>, EmitError> {
    let types = result_types(cx, node)?;
    // Carried values change; what is captured stays, and may be known.
    let mut operands: Vec<Result<ValueId, Vec<usize>>> = vec![Err(Vec::new())];
    for (i, &v) in node.inputs[2..].iter().enumerate() {
        operands.push(if i < carried { Err(fixed(cx.graph(), v)?) } else { Ok(v) });
    }
    let body = specialized(cx, &node.regions[0], &operands)?;
    for (&v, (_, shape)) in body.outputs()[1..].iter().zip(&types[..carried]) {
        if fixed(&body, v)? != *shape {
            return Err(refused(
                node,
                "a carried value changes its size between iterations",
                CPU_SIZES,
            ));
        }
    }
    let captures: Vec<Option<Value>> = (2 + carried..node.inputs.len())
        .map(|i| cx.operand(node, i).map(Some))
        .collect::<Result<_, _>>()?;
    // The state: iteration, whether to go on, carried values, stacked results.
    let trips = cx.operand(node, 0)?;
    let mut state = vec![cx.w.splat_integer(Element::I64, &[], 0), cx.operand(node, 1)?];
    for i in 0..carried {
        state.push(cx.operand(node, 2 + i)?);
    }
    for (element, shape) in &types[carried..] {
        state.push(cx.w.splat_integer(*element, shape, 0));
    }
    let state_types: Vec<(Element, Vec<usize>)> =
        state.iter().map(|v| (v.element, v.shape.clone())).collect();
    let goes_on = nested(cx, &state_types, |cx, state| {
        let below = cx.w.compare("LT", &state[0], &trips);
        Ok(vec![cx.w.and(&state[1], &below)])
    })?;
    let step = nested(cx, &state_types, |cx, state| {
        let mut arguments: Vec<Option<Value>> = vec![Some(state[0].clone())];
        arguments.extend(state[2..2 + carried].iter().cloned().map(Some));
        arguments.extend(captures.iter().cloned());
        let results = inside(cx, &body, Some(node.label()), &arguments)?;
        let one = cx.w.splat_integer(Element::I64, &[], 1);
        let mut next = vec![cx.w.add(&state[0], &one), results[0].clone()];
        next.extend(results[1..=carried].iter().cloned());
        for (rows, row) in state[2 + carried..].iter().zip(&results[1 + carried..]) {
            next.push(with_row(cx, rows, row, &state[0]));
        }
        Ok(next)
    })?;
    let operands: Vec<&Value> = state.iter().collect();
    let results = cx.w.ops("stablehlo.while", &operands, &[goes_on, step], "", &state_types);
    Ok(results[2..].to_vec())
}

/// `rows` with one of them replaced.
fn with_row(cx: &mut Cx<'_, '_>, rows: &Value, row: &Value, place: &Value) -> Value {
    if rows.len() == 0 {
        return rows.clone();
    }
    let row = cx.w.reshape(row, &[&[1], &row.shape[..]].concat());
    let zero = cx.w.splat_integer(Element::I64, &[], 0);
    let mut operands = vec![rows, &row, place];
    operands.extend(std::iter::repeat_n(&zero, rows.rank() - 1));
    cx.w.op("stablehlo.dynamic_update_slice", &operands, "", rows.element, &rows.shape)
}
