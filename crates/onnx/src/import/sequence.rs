//! Operators on sequences and optionals, which are followed during the import: the graph has tensors only.

use anychip_ir::ValueId;
use anychip_tensor::Tensor;

use super::call::{Call, ImportError};
use super::importer::Bound;
use super::ops_control::certain;
use crate::proto::NodeProto;
use crate::proto::type_proto::Value;

/// As [`super::table::ImportFn`], with operands and results that may be sequences or absent.
pub(super) type SequenceFn = fn(&mut Call<'_>, &[Option<Bound>]) -> Result<Vec<Bound>, ImportError>;

const ROWS: &[(&str, SequenceFn)] = &[
    ("Identity", identity),
    ("SequenceEmpty", |_, _| Ok(vec![Bound::Sequence(Vec::new())])),
    ("SequenceConstruct", construct),
    ("SequenceAt", at),
    ("SequenceInsert", insert),
    ("SequenceErase", erase),
    ("SequenceLength", length),
    ("ConcatFromSequence", concat),
    ("SplitToSequence", split),
    ("Optional", optional),
    ("OptionalHasElement", has_element),
    ("OptionalGetElement", identity),
    ("SequenceMap", map),
];

/// Control flow that is followed during the import where a sequence passes through it.
const CONTROL: &[(&str, SequenceFn)] = &[("If", conditional), ("Loop", repeat)];

/// The function of an operator on sequences.
pub(super) fn find(op: &str) -> Option<SequenceFn> {
    ROWS.iter().find(|(name, _)| *name == op).map(|(_, import)| *import)
}

/// The function of a control flow node that takes or gives a sequence.
pub(super) fn find_control(node: &NodeProto, inputs: &[Option<Bound>]) -> Option<SequenceFn> {
    let (_, import) = CONTROL.iter().find(|(name, _)| *name == node.op_type())?;
    let taken = inputs.iter().flatten().any(|b| matches!(b, Bound::Sequence(_) | Bound::Absent));
    let given = || {
        let graphs = node.attribute.iter().filter_map(|a| a.g.as_deref());
        graphs.flat_map(|g| &g.output).any(|info| {
            let value = info.r#type.as_ref().and_then(|ty| ty.value.as_ref());
            matches!(value, Some(Value::SequenceType(_) | Value::OptionalType(_)))
        })
    };
    (taken || given()).then_some(*import)
}

fn conditional(call: &mut Call<'_>, _: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    let Some(holds) = certain(call, 0)? else {
        return Err(ImportError::NeedsValue { input: 0, what: "which sequence results" });
    };
    let branch = call.graph(if holds != 0 { "then_branch" } else { "else_branch" })?.clone();
    call.inline_bounds(&branch, &[])
}

/// Iterations of a loop over sequences that are written out at most.
const MOST_ITERATIONS: i64 = 4096;

/// A loop through which a sequence passes is written out: its count must be certain.
fn repeat(call: &mut Call<'_>, inputs: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    let graph = call.graph("body")?.clone();
    let decides = |input| ImportError::NeedsValue { input, what: "how long a sequence gets" };
    let trips = match call.optional(0) {
        Some(_) => certain(call, 0)?.ok_or(decides(0))?,
        None => MOST_ITERATIONS,
    };
    let mut goes_on = match call.optional(1) {
        Some(_) => certain(call, 1)?.ok_or(decides(1))? != 0,
        None => true,
    };
    if trips > MOST_ITERATIONS {
        return Err(call.unsupported(format!("{trips} iterations with a sequence")));
    }
    let mut carried: Vec<Bound> =
        inputs.iter().skip(2).map(|b| b.clone().unwrap_or(Bound::Absent)).collect();
    let mut scanned: Vec<Vec<ValueId>> = Vec::new();
    for iteration in 0..trips {
        if !goes_on {
            break;
        }
        let mut operands = vec![
            Bound::Tensor(call.b.constant(Tensor::scalar(iteration))),
            Bound::Tensor(call.b.constant(Tensor::from_bools(Vec::new(), [true])?)),
        ];
        operands.append(&mut carried);
        let count = operands.len() - 2;
        let mut results = call.inline_bounds(&graph, &operands)?.into_iter();
        let Some(Bound::Tensor(condition)) = results.next() else {
            return Err(call.invalid("the body gives no condition"));
        };
        goes_on = call.b.known_integers(condition).ok_or(decides(1))?.first() != Some(&0);
        carried = results.by_ref().take(count).collect();
        for (i, bound) in results.enumerate() {
            let Bound::Tensor(value) = bound else {
                return Err(call.invalid("a scanned result is a sequence"));
            };
            let row = call.b.unsqueeze(value, &[0])?;
            if scanned.len() <= i {
                scanned.push(Vec::new());
            }
            scanned[i].push(row);
        }
    }
    if call.optional(0).is_none() && goes_on {
        return Err(
            call.unsupported(format!("more than {MOST_ITERATIONS} iterations with a sequence"))
        );
    }
    for rows in scanned {
        carried.push(Bound::Tensor(call.b.concat(&rows, 0)?));
    }
    Ok(carried)
}

/// The body for each element of the sequences; other operands are the same for all.
fn map(call: &mut Call<'_>, inputs: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    let graph = call.graph("body")?.clone();
    let length = sequence(inputs)?.len();
    let mut results = vec![Vec::new(); graph.output.len()];
    for i in 0..length {
        let mut operands = Vec::new();
        for bound in inputs.iter().flatten() {
            operands.push(match bound {
                Bound::Sequence(values) => Bound::Tensor(
                    *values.get(i).ok_or_else(|| call.invalid("sequences of different lengths"))?,
                ),
                other => other.clone(),
            });
        }
        for (all, bound) in results.iter_mut().zip(call.inline_bounds(&graph, &operands)?) {
            match bound {
                Bound::Tensor(value) => all.push(value),
                _ => return Err(call.unsupported("a sequence of sequences")),
            }
        }
    }
    Ok(results.into_iter().map(Bound::Sequence).collect())
}

fn identity(call: &mut Call<'_>, inputs: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    match inputs.first() {
        Some(Some(Bound::Absent)) if call.op == "OptionalGetElement" => {
            Err(call.invalid("the optional has no element"))
        }
        Some(Some(bound)) => Ok(vec![bound.clone()]),
        _ => Err(ImportError::MissingInput(0)),
    }
}

fn sequence(inputs: &[Option<Bound>]) -> Result<Vec<ValueId>, ImportError> {
    match inputs.first() {
        Some(Some(Bound::Sequence(values))) => Ok(values.clone()),
        Some(Some(_)) => Err(ImportError::Invalid("input 0 must be a sequence".into())),
        _ => Err(ImportError::MissingInput(0)),
    }
}

/// A position in a sequence of `length`; negative ones count from the end.
fn position(call: &Call<'_>, input: usize, length: usize) -> Result<usize, ImportError> {
    let index = call.need_integers(input, "which element of the sequence is meant")?;
    let index = index.first().copied().unwrap_or_default();
    let resolved = if index < 0 { index + length as i64 } else { index };
    usize::try_from(resolved).ok().filter(|&i| i < length).ok_or_else(|| {
        call.invalid(format!("element {index} of a sequence of {length} is asked for"))
    })
}

fn construct(call: &mut Call<'_>, _: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    Ok(vec![Bound::Sequence(call.all_inputs(1)?)])
}

fn at(call: &mut Call<'_>, inputs: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    let values = sequence(inputs)?;
    let i = position(call, 1, values.len())?;
    Ok(vec![Bound::Tensor(values[i])])
}

fn insert(call: &mut Call<'_>, inputs: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    let mut values = sequence(inputs)?;
    let value = call.input(1)?;
    let i = match call.optional(2) {
        // One behind the last is allowed, and −1 is before the last.
        Some(_) => {
            let index = call.need_integers(2, "where the sequence grows")?;
            match index.first() {
                Some(&index) if index == values.len() as i64 => values.len(),
                _ => position(call, 2, values.len())?,
            }
        }
        None => values.len(),
    };
    values.insert(i, value);
    Ok(vec![Bound::Sequence(values)])
}

fn erase(call: &mut Call<'_>, inputs: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    let mut values = sequence(inputs)?;
    let i = match call.optional(1) {
        Some(_) => position(call, 1, values.len())?,
        None => values.len().checked_sub(1).ok_or_else(|| call.invalid("the sequence is empty"))?,
    };
    values.remove(i);
    Ok(vec![Bound::Sequence(values)])
}

fn length(call: &mut Call<'_>, inputs: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    let length = sequence(inputs)?.len();
    let value = call.b.constant(Tensor::scalar(length as i64));
    Ok(vec![Bound::Tensor(value)])
}

fn concat(call: &mut Call<'_>, inputs: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    let mut values = sequence(inputs)?;
    let Some(&first) = values.first() else {
        return Err(call.invalid("an empty sequence has no concatenation"));
    };
    let new_axis = call.flag("new_axis", false);
    let rank = call.b.rank(first) + usize::from(new_axis);
    let axis = call.axis(call.need_int("axis")?, rank)?;
    if new_axis {
        for value in &mut values {
            *value = call.b.unsqueeze(*value, &[axis])?;
        }
    }
    Ok(vec![Bound::Tensor(call.b.concat(&values, axis)?)])
}

/// Most parts of a tensor that is split into a sequence.
const MOST_PARTS: usize = 1 << 16;

fn split(call: &mut Call<'_>, _: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    let x = call.input(0)?;
    let rank = call.b.rank(x);
    let axis = call.axis(call.int("axis", 0), rank)?;
    let Some(size) = call.b.dims(x)[axis].fixed() else {
        return Err(call.unsupported("the split dim must be a number"));
    };
    // Each part becomes a few nodes.
    let too_many =
        |parts: usize| format!("a sequence of {parts} parts: at most {MOST_PARTS} are supported");
    let (lengths, squeeze) = match call.optional(1) {
        None if size > MOST_PARTS => return Err(call.unsupported(too_many(size))),
        None => (vec![1i64; size], !call.flag("keepdims", true)),
        Some(split) => {
            let numbers = call.need_integers(1, "how the tensor is split")?;
            if call.b.rank(split) == 0 {
                let step = numbers.first().copied().unwrap_or_default();
                if step <= 0 {
                    return Err(call.invalid("the length of a part must be positive"));
                }
                let full = size as i64 / step;
                if full as usize > MOST_PARTS {
                    return Err(call.unsupported(too_many(full as usize)));
                }
                let mut lengths = vec![step; full as usize];
                if size as i64 % step != 0 {
                    lengths.push(size as i64 % step);
                }
                (lengths, false)
            } else {
                (numbers, false)
            }
        }
    };
    if lengths.iter().any(|&n| n < 0)
        || lengths.iter().try_fold(0i64, |a, &n| a.checked_add(n)) != Some(size as i64)
    {
        return Err(call.invalid(format!("parts {lengths:?} do not add up to a dim of {size}")));
    }
    let mut values = Vec::new();
    let mut start = 0;
    for length in lengths {
        let end = start + length as usize;
        let part = call.b.slice(x, axis, &start.into(), &end.into())?;
        values.push(if squeeze { call.b.squeeze(part, &[axis])? } else { part });
        start = end;
    }
    Ok(vec![Bound::Sequence(values)])
}

#[expect(clippy::unnecessary_wraps, reason = "a row of a table of functions that can fail")]
fn optional(_: &mut Call<'_>, inputs: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    Ok(vec![inputs.first().cloned().flatten().unwrap_or(Bound::Absent)])
}

fn has_element(call: &mut Call<'_>, inputs: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    let has = !matches!(inputs.first(), None | Some(None | Some(Bound::Absent)));
    let tensor = Tensor::from_bools(Vec::new(), [has])?;
    Ok(vec![Bound::Tensor(call.b.constant(tensor))])
}
