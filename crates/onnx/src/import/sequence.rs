//! Operators on sequences and optionals, which are followed during the import: the graph has tensors only.

use anychip_ir::ValueId;

use super::call::{Call, ImportError};
use super::importer::Bound;

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
];

/// The function of an operator on sequences.
pub(super) fn find(op: &str) -> Option<SequenceFn> {
    ROWS.iter().find(|(name, _)| *name == op).map(|(_, import)| *import)
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
    let value = call.b.constant(anychip_tensor::Tensor::scalar(length as i64));
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

fn split(call: &mut Call<'_>, _: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    let x = call.input(0)?;
    let rank = call.b.rank(x);
    let axis = call.axis(call.int("axis", 0), rank)?;
    let Some(size) = call.b.dims(x)[axis].fixed() else {
        return Err(call.unsupported("the split dim must be a number"));
    };
    let (lengths, squeeze) = match call.optional(1) {
        None => (vec![1i64; size], !call.flag("keepdims", true)),
        Some(split) => {
            let numbers = call.need_integers(1, "how the tensor is split")?;
            if call.b.rank(split) == 0 {
                let step = numbers.first().copied().unwrap_or_default();
                if step <= 0 {
                    return Err(call.invalid("the length of a part must be positive"));
                }
                let full = size as i64 / step;
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

fn optional(_: &mut Call<'_>, inputs: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    Ok(vec![inputs.first().cloned().flatten().unwrap_or(Bound::Absent)])
}

fn has_element(call: &mut Call<'_>, inputs: &[Option<Bound>]) -> Result<Vec<Bound>, ImportError> {
    let has = !matches!(inputs.first(), None | Some(None | Some(Bound::Absent)));
    let tensor = anychip_tensor::Tensor::from_bools(Vec::new(), [has])?;
    Ok(vec![Bound::Tensor(call.b.constant(tensor))])
}
