//! Operators that make tensors: constants, shapes, ranges, masks.

use anychip_ir::{Compare, Prim, ValueId};
use anychip_tensor::{DType, Dim, Tensor};

use super::call::{Call, ImportError};
use super::table::Row;

type Results = Result<Vec<ValueId>, ImportError>;

pub(crate) const ROWS: &[Row] = &[
    Row::onnx("Constant", 1, constant),
    Row::onnx("ConstantOfShape", 9, constant_of_shape),
    Row::onnx("Shape", 1, shape),
    Row::onnx("Size", 1, size),
    Row::onnx("Range", 11, range),
    Row::onnx("EyeLike", 9, eye_like),
    Row::onnx("Trilu", 14, trilu),
    Row::onnx("OneHot", 9, one_hot),
];

fn constant(call: &mut Call<'_>) -> Results {
    let given = |name: &str| call.has(name);
    let tensor = if given("value") {
        call.tensor("value")?
    } else if given("sparse_value") {
        call.tensor("sparse_value")?
    } else if let Some(value) = call.float_opt("value_float") {
        Some(Tensor::scalar(value))
    } else if let Some(values) = call.floats("value_floats") {
        Some(Tensor::from_vec([values.len()], values)?)
    } else if let Some(value) = call.int_opt("value_int") {
        Some(Tensor::scalar(value))
    } else if let Some(values) = call.ints("value_ints") {
        Some(Tensor::from_i64s(&values))
    } else if given("value_string") || given("value_strings") {
        return Err(call.unsupported("strings cannot be computed with"));
    } else {
        None
    };
    let tensor = tensor.ok_or_else(|| ImportError::MissingAttribute("value".into()))?;
    Ok(vec![call.b.constant(tensor)])
}

fn constant_of_shape(call: &mut Call<'_>) -> Results {
    let shape = call.input(0)?;
    let value = match call.tensor("value")? {
        Some(value) if value.len() == 1 => value.reshaped(Vec::new())?,
        Some(_) => return Err(call.bad_attribute("value", "must have one element")),
        None => Tensor::scalar(0f32),
    };
    let value = call.b.constant(value);
    Ok(vec![call.b.prim(Prim::Broadcast, &[value, shape])?])
}

fn shape(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let rank = call.b.rank(x) as i64;
    let bound = |value: i64| {
        (if value < 0 { value.saturating_add(rank) } else { value }).clamp(0, rank) as usize
    };
    let (start, end) = (bound(call.int("start", 0)), bound(call.int("end", rank)));
    let shape = call.b.prim(Prim::ShapeOf, &[x])?;
    if (start, end) == (0, rank as usize) {
        return Ok(vec![shape]);
    }
    Ok(vec![call.b.slice(shape, 0, &Dim::Fixed(start), &Dim::Fixed(end.max(start)))?])
}

fn size(call: &mut Call<'_>) -> Results {
    let elements = call.b.ty(call.input(0)?).elements();
    Ok(vec![call.b.dim_value(&elements)?])
}

fn range(call: &mut Call<'_>) -> Results {
    let mut bounds = Vec::new();
    for i in 0..3 {
        let bound = call.input(i)?;
        bounds.push(call.b.reshape(bound, &[])?);
    }
    let &[start, limit, delta] = &bounds[..] else { return Err(ImportError::MissingInput(2)) };
    let dtype = call.b.dtype(start);
    let b = &mut *call.b;
    let sizes = |b: &anychip_ir::Builder, v: ValueId| b.known(v).and_then(|k| k.first().cloned());
    #[expect(clippy::single_match_else, reason = "the two ways to count are of one rank")]
    let length = match (sizes(b, start), sizes(b, limit), sizes(b, delta)) {
        // Up to a size in steps of 1, which is not negative.
        (Some(from), Some(to), Some(Dim::Fixed(1))) => {
            let length = to - from;
            let length =
                if length.constant().is_some_and(|n| n < 0) { Dim::Fixed(0) } else { length };
            b.dim_value(&length)?
        }
        _ => {
            let span = b.sub(limit, start)?;
            let steps = if dtype.is_float() {
                let (span, delta) = (b.cast(span, DType::F64)?, b.cast(delta, DType::F64)?);
                let ratio = b.div(span, delta)?;
                let steps = b.ceil(ratio)?;
                b.cast(steps, DType::I64)?
            } else {
                // ⌈span ÷ delta⌉
                let (span, delta) = (b.cast(span, DType::I64)?, b.cast(delta, DType::I64)?);
                let sign = b.prim(Prim::Unary(anychip_ir::Unary::Sign), &[delta])?;
                let raised = b.add(span, delta)?;
                let raised = b.sub(raised, sign)?;
                b.floor_div(raised, delta)?
            };
            let zero = b.constant(Tensor::scalar(0i64));
            b.max(steps, zero)?
        }
    };
    let count = b.prim(Prim::Iota, &[length])?;
    let count = b.cast(count, dtype)?;
    let steps = b.mul(count, delta)?;
    Ok(vec![b.add(start, steps)?])
}

/// Row and column numbers of a matrix, `[rows, 1]` and `[1, columns]`.
fn coordinates(
    call: &mut Call<'_>,
    rows: &Dim,
    columns: &Dim,
) -> Result<(ValueId, ValueId), ImportError> {
    let (down, across) = (call.b.iota(rows)?, call.b.iota(columns)?);
    Ok((call.b.unsqueeze(down, &[1])?, call.b.unsqueeze(across, &[0])?))
}

fn eye_like(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let dims = call.b.dims(x);
    let [rows, columns] = &dims[..] else {
        return Err(call.invalid(format!("input 0 is {}, expected 2 dims", call.b.ty(x))));
    };
    let dtype = call.dtype("dtype")?.unwrap_or(call.b.dtype(x));
    let k = call.int("k", 0);
    let (down, across) = coordinates(call, rows, columns)?;
    let diagonal = call.b.offset(down, k as f64)?;
    let here = call.b.eq(diagonal, across)?;
    Ok(vec![call.b.cast(here, dtype)?])
}

fn trilu(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let dims = call.b.dims(x);
    let [.., rows, columns] = &dims[..] else {
        return Err(call.invalid(format!("input 0 is {}, expected 2 dims or more", call.b.ty(x))));
    };
    let k = match call.optional(1) {
        Some(k) => call.b.reshape(k, &[])?,
        None => call.b.constant(Tensor::scalar(0i64)),
    };
    let (down, across) = coordinates(call, rows, columns)?;
    let diagonal = call.b.add(down, k)?;
    let compare = if call.flag("upper", true) { Compare::Ge } else { Compare::Le };
    let keep = call.b.prim(Prim::Compare(compare), &[across, diagonal])?;
    let dtype = call.b.dtype(x);
    let zero = call.b.scalar(dtype, 0.0)?;
    Ok(vec![call.b.select(keep, x, zero)?])
}

fn one_hot(call: &mut Call<'_>) -> Results {
    let (indices, depth, values) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let rank = call.b.rank(indices) + 1;
    let axis = call.axis(call.int("axis", -1), rank)?;
    let b = &mut *call.b;
    let indices = b.cast(indices, DType::I64)?;
    let depth = b.cast(depth, DType::I64)?;
    let depth = b.reshape(depth, &[])?;
    let (off, on) = (b.index(values, 0, 0)?, b.index(values, 0, 1)?);
    // Negative indices count from the end; those still outside are never met.
    let zero = b.constant(Tensor::scalar(0i64));
    let negative = b.lt(indices, zero)?;
    let wrapped = b.add(indices, depth)?;
    let indices = b.select(negative, wrapped, indices)?;
    let indices = b.unsqueeze(indices, &[axis])?;
    let positions = b.prim(Prim::Iota, &[depth])?;
    let mut shape = vec![Dim::Fixed(1); rank];
    shape[axis] = b.dims(positions)[0].clone();
    let positions = b.reshape(positions, &shape)?;
    let here = b.eq(indices, positions)?;
    Ok(vec![b.select(here, on, off)?])
}
