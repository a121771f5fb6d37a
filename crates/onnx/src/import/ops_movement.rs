//! Operators that move elements: reshape, transpose, slice, split, concatenate, expand, tile, pad.

use anychip_ir::{Binary, Prim, ValueId, broadcast_shapes};
use anychip_tensor::{DType, Dim, Tensor};

use super::call::{Call, ImportError};
use super::table::Row;

type Results = Result<Vec<ValueId>, ImportError>;

pub(crate) const ROWS: &[Row] = &[
    Row::onnx("Reshape", 1, reshape),
    Row::onnx("Flatten", 1, flatten),
    Row::onnx("Squeeze", 1, squeeze),
    Row::onnx("Unsqueeze", 1, unsqueeze),
    Row::onnx("Transpose", 1, transpose),
    Row::onnx("Slice", 1, slice),
    Row::onnx("Split", 1, split),
    Row::onnx("Concat", 1, concat),
    Row::onnx("Expand", 8, expand),
    Row::onnx("Tile", 1, tile),
    Row::onnx("Pad", 1, pad),
    Row::onnx("DepthToSpace", 1, depth_to_space),
    Row::onnx("SpaceToDepth", 1, space_to_depth),
];

/// Longer size operands are none: two for each of `NumPy`'s 64 dims.
const MOST_SIZES: usize = 128;

/// The sizes in a shape operand as `i64`, and how many there are.
fn shape_operand(
    call: &mut Call<'_>,
    input: usize,
    what: &'static str,
) -> Result<(ValueId, usize), ImportError> {
    let shape = call.input(input)?;
    let ty = call.b.ty(shape);
    if ty.rank() != 1 || !ty.dtype.is_integer() {
        return Err(call.invalid(format!("input {input} is {ty}, expected a vector of integers")));
    }
    match ty.shape[0].fixed() {
        Some(n) if n > MOST_SIZES => {
            Err(call.invalid(format!("{n} sizes in input {input}, more than any tensor has")))
        }
        Some(n) => Ok((call.b.cast(shape, DType::I64)?, n)),
        None => Err(ImportError::NeedsValue { input, what }),
    }
}

/// One element of a vector as a vector of one.
fn part(call: &mut Call<'_>, vector: ValueId, i: usize) -> Result<ValueId, ImportError> {
    Ok(call.b.slice(vector, 0, &Dim::Fixed(i), &Dim::Fixed(i + 1))?)
}

fn reshape(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let allow_zero = call.flag("allowzero", false);
    let shape = if call.opset < 5 {
        call.b.integers(&call.need_ints("shape")?)
    } else {
        shape_operand(call, 1, "the rank of the result")?.0
    };
    if let Some(asked) = call.b.known(shape).map(<[Dim]>::to_vec) {
        let dims = target(call, x, &asked, allow_zero)?;
        return Ok(vec![call.b.reshape(x, &dims)?]);
    }
    let n = call.b.dims(shape)[0].fixed().unwrap_or_default();
    let b = &mut *call.b;
    // Zeros copy the dim at their place, and one −1 takes what is left.
    let mut own = b.dims(x);
    own.resize(n, Dim::Fixed(0));
    let (zero, minus_one, one) = (b.integers(&[0]), b.integers(&[-1]), b.integers(&[1]));
    let copied = if allow_zero {
        shape
    } else {
        let own = b.dims_value(&own)?;
        let copies = b.eq(shape, zero)?;
        b.select(copies, own, shape)?
    };
    let infer = b.eq(copied, minus_one)?;
    let counted = b.select(infer, one, copied)?;
    let product = b.reduce(anychip_ir::ReduceKind::Prod, counted, &[0], false)?;
    let elements = b.ty(x).elements();
    let elements = b.dim_value(&elements)?;
    let rest = b.div(elements, product)?;
    let sizes = b.select(infer, rest, copied)?;
    Ok(vec![b.prim(Prim::Reshape, &[x, sizes])?])
}

/// The dims that a reshape asks for, with 0 and −1 resolved.
fn target(
    call: &Call<'_>,
    x: ValueId,
    asked: &[Dim],
    allow_zero: bool,
) -> Result<Vec<Dim>, ImportError> {
    let own = call.b.dims(x);
    let mut dims = Vec::with_capacity(asked.len());
    let mut inferred = None;
    for (i, dim) in asked.iter().enumerate() {
        dims.push(match dim.constant() {
            Some(0) if !allow_zero => own.get(i).cloned().ok_or_else(|| {
                call.invalid(format!("size {i} is 0 and there is no dim {i} to copy"))
            })?,
            Some(-1) if inferred.is_none() => {
                inferred = Some(i);
                Dim::Fixed(1)
            }
            Some(n) if n < 0 => {
                return Err(
                    call.invalid(format!("the shape {asked:?} has more than one unknown size"))
                );
            }
            _ => dim.clone(),
        });
    }
    if let Some(i) = inferred {
        let rest = dims.iter().cloned().fold(Dim::Fixed(1), |a, d| a * d);
        let elements = call.b.ty(x).elements();
        if rest == Dim::Fixed(0) {
            dims[i] = Dim::Fixed(0);
        } else {
            dims[i] = elements.floor_div(&rest);
        }
    }
    Ok(dims)
}

fn product(dims: &[Dim]) -> Dim {
    dims.iter().cloned().fold(Dim::Fixed(1), |a, d| a * d)
}

fn flatten(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let dims = call.b.dims(x);
    let axis = call.int("axis", 1);
    let axis = if axis == dims.len() as i64 { dims.len() } else { call.axis(axis, dims.len())? };
    Ok(vec![call.b.reshape(x, &[product(&dims[..axis]), product(&dims[axis..])])?])
}

fn squeeze(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let dims = call.b.dims(x);
    let axes = match call.axes_input_or_attribute(1, "axes", dims.len())? {
        Some(axes) => axes,
        None if dims.iter().all(|d| d.fixed().is_some()) => {
            (0..dims.len()).filter(|&i| dims[i] == Dim::Fixed(1)).collect()
        }
        None => {
            return Err(ImportError::NeedsSizes { input: 0, what: "the rank of the result" });
        }
    };
    if let Some(&axis) = axes.iter().find(|&&a| dims[a].fixed().is_some_and(|n| n != 1)) {
        return Err(call.invalid(format!("dim {axis} of {} is not 1", call.b.ty(x))));
    }
    Ok(vec![call.b.squeeze(x, &axes)?])
}

fn unsqueeze(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let count = match call.ints("axes") {
        Some(axes) => axes.len(),
        None => call.need_integers(1, "the axes")?.len(),
    };
    let rank = call.b.rank(x) + count;
    let mut axes = call
        .axes_input_or_attribute(1, "axes", rank)?
        .ok_or_else(|| ImportError::MissingAttribute("axes".into()))?;
    axes.sort_unstable();
    Ok(vec![call.b.unsqueeze(x, &axes)?])
}

fn transpose(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let rank = call.b.rank(x);
    let permutation = match call.ints("perm") {
        Some(perm) => call.axes(&perm, rank)?,
        None => (0..rank).rev().collect(),
    };
    Ok(vec![call.b.transpose(x, &permutation)?])
}

fn slice(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let rank = call.b.rank(x);
    if call.opset < 10 {
        let (starts, ends) = (call.need_ints("starts")?, call.need_ints("ends")?);
        let axes = match call.ints("axes") {
            Some(axes) => call.axes(&axes, rank)?,
            None => (0..starts.len()).collect(),
        };
        let steps = vec![1; starts.len()];
        let b = &mut *call.b;
        let bounds = [b.integers(&starts), b.integers(&ends), b.integers(&steps)];
        return Ok(vec![b.prim(Prim::Slice { axes }, &[x, bounds[0], bounds[1], bounds[2]])?]);
    }
    let (starts, n) = shape_operand(call, 1, "how many dims are sliced")?;
    let (ends, _) = shape_operand(call, 2, "how many dims are sliced")?;
    let axes = match call.optional(3) {
        Some(_) => call.axes(&call.need_integers(3, "the axes")?, rank)?,
        None => (0..n).collect(),
    };
    let steps = match call.optional(4) {
        Some(_) => shape_operand(call, 4, "how many dims are sliced")?.0,
        None => call.b.integers(&vec![1; n]),
    };
    Ok(vec![call.b.prim(Prim::Slice { axes }, &[x, starts, ends, steps])?])
}

fn split(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let axis = call.axis(call.int("axis", 0), call.b.rank(x))?;
    let size = call.b.dims(x)[axis].clone();
    let lengths: Option<Vec<Dim>> = if let Some(lengths) = call.ints("split") {
        Some(lengths.into_iter().map(Dim::from_i64).collect())
    } else if call.optional(1).is_some() {
        let (split, n) = shape_operand(call, 1, "the number of parts")?;
        match call.b.known(split) {
            Some(known) => Some(known.to_vec()),
            None => return split_at_run_time(call, x, axis, split, n),
        }
    } else {
        None
    };
    let lengths = if let Some(lengths) = lengths {
        let sum = lengths.iter().cloned().fold(Dim::Fixed(0), |a, d| a + d);
        if (sum.clone() - size.clone()).constant().is_some_and(|n| n != 0)
            || lengths.iter().any(|d| d.constant().is_some_and(|n| n < 0))
        {
            return Err(
                call.invalid(format!("parts of {lengths:?} do not add up to a dim of {size}"))
            );
        }
        lengths
    } else {
        let parts = usize::try_from(call.int("num_outputs", call.outputs as i64))
            .ok()
            .filter(|&n| n > 0 && n <= call.outputs.max(1))
            .ok_or_else(|| call.bad_attribute("num_outputs", "is not the number of outputs"))?;
        let each = size.ceil_div(parts);
        let whole = each.clone() * Dim::Fixed(parts - 1);
        let last = size.clone() - whole;
        if call.opset < 18 && last != each && size.fixed().is_some() {
            return Err(call.invalid(format!("{parts} equal parts of a dim of {size}")));
        }
        if last.constant().is_some_and(|n| n < 0) {
            return Err(call.invalid(format!("{parts} parts of a dim of {size}")));
        }
        let mut lengths = vec![each; parts - 1];
        lengths.push(last);
        lengths
    };
    let mut start = Dim::Fixed(0);
    let mut results = Vec::new();
    for length in lengths {
        let end = start.clone() + length;
        results.push(call.b.slice(x, axis, &start, &end)?);
        start = end;
    }
    Ok(results)
}

/// Parts whose lengths only a run can tell.
fn split_at_run_time(
    call: &mut Call<'_>,
    x: ValueId,
    axis: usize,
    split: ValueId,
    n: usize,
) -> Results {
    let mut start = call.b.integers(&[0]);
    let one = call.b.integers(&[1]);
    let mut results = Vec::new();
    for i in 0..n {
        let length = part(call, split, i)?;
        let end = call.b.add(start, length)?;
        results.push(call.b.prim(Prim::Slice { axes: vec![axis] }, &[x, start, end, one])?);
        start = end;
    }
    Ok(results)
}

fn concat(call: &mut Call<'_>) -> Results {
    let inputs = call.all_inputs(1)?;
    let rank = call.b.rank(inputs[0]);
    let axis = if call.opset < 4 { call.int("axis", 1) } else { call.need_int("axis")? };
    let axis = call.axis(axis, rank)?;
    Ok(vec![call.b.concat(&inputs, axis)?])
}

fn expand(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let (shape, n) = shape_operand(call, 1, "the rank of the result")?;
    if let Some(asked) = call.b.known(shape).map(<[Dim]>::to_vec) {
        let own = call.b.dims(x);
        let dims = broadcast_shapes("Expand", &[&own, &asked])?;
        return Ok(vec![call.b.broadcast(x, &dims)?]);
    }
    let b = &mut *call.b;
    let rank = n.max(b.rank(x));
    let pad = |dims: Vec<Dim>| {
        let mut all = vec![Dim::Fixed(1); rank - dims.len()];
        all.extend(dims);
        all
    };
    let own = pad(b.dims(x));
    let own = b.dims_value(&own)?;
    let mut asked = shape;
    if n < rank {
        let ones = b.integers(&vec![1; rank - n]);
        asked = b.concat(&[ones, shape], 0)?;
    }
    let one = b.integers(&[1]);
    let stretches = b.eq(own, one)?;
    let sizes = b.select(stretches, asked, own)?;
    Ok(vec![b.prim(Prim::Broadcast, &[x, sizes])?])
}

/// `[a, b]` becomes `[1, a, 1, b]`, is broadcast to `[r₀, a, r₁, b]`, and is taken as `[r₀a, r₁b]`.
fn tile(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let dims = call.b.dims(x);
    let repeats = if call.opset < 6 {
        // How often along which one axis.
        let (times, axis) = (
            call.need_integers(1, "how often the tensor repeats")?,
            call.need_integers(2, "the axis")?,
        );
        let (&[times], &[axis]) = (&times[..], &axis[..]) else {
            return Err(call.invalid("tiles and axis must be one number each"));
        };
        let mut repeats = vec![1; dims.len()];
        repeats[call.axis(axis, dims.len())?] = times;
        call.b.integers(&repeats)
    } else {
        let (repeats, n) = shape_operand(call, 1, "the rank")?;
        if n != dims.len() {
            return Err(call.invalid(format!("{n} repeats for {}", call.b.ty(x))));
        }
        repeats
    };
    let mut spread = Vec::new();
    let mut sizes = Vec::new();
    for (i, dim) in dims.iter().enumerate() {
        spread.extend([Dim::Fixed(1), dim.clone()]);
        sizes.push(part(call, repeats, i)?);
        sizes.push(call.b.dims_value(std::slice::from_ref(dim))?);
    }
    let b = &mut *call.b;
    if dims.is_empty() {
        return Ok(vec![x]);
    }
    let x = b.reshape(x, &spread)?;
    let sizes = b.concat(&sizes, 0)?;
    let x = b.prim(Prim::Broadcast, &[x, sizes])?;
    let own = b.dims_value(&dims)?;
    let shape = b.mul(repeats, own)?;
    Ok(vec![b.prim(Prim::Reshape, &[x, shape])?])
}

fn pad(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let rank = call.b.rank(x);
    let dtype = call.b.dtype(x);
    let pads = if call.opset < 11 {
        let name = if call.opset < 2 { "paddings" } else { "pads" };
        call.b.integers(&call.need_ints(name)?)
    } else {
        shape_operand(call, 1, "how many dims are padded")?.0
    };
    let axes = match call.optional(3) {
        Some(_) => call.axes(&call.need_integers(3, "the axes")?, rank)?,
        None => (0..rank).collect(),
    };
    let n = axes.len();
    if call.b.dims(pads)[0] != Dim::Fixed(2 * n) {
        return Err(call.invalid(format!("{:?} amounts for {n} dims", call.b.dims(pads)[0])));
    }
    // An amount a dim, 0 where `axes` leaves it out.
    let zero = call.b.integers(&[0]);
    let (mut low, mut high) = (vec![zero; rank], vec![zero; rank]);
    for (i, &axis) in axes.iter().enumerate() {
        low[axis] = part(call, pads, i)?;
        high[axis] = part(call, pads, n + i)?;
    }
    let mode = call.string("mode", "constant");
    if mode == "constant" {
        if rank == 0 {
            return Ok(vec![x]);
        }
        let value = call.scalar_input_or_attribute(2, "value", dtype)?;
        let value = match value {
            Some(value) => call.b.reshape(value, &[])?,
            None => call.b.scalar(dtype, 0.0)?,
        };
        let (low, high) = (call.b.concat(&low, 0)?, call.b.concat(&high, 0)?);
        return Ok(vec![call.b.prim(Prim::Pad, &[x, low, high, value])?]);
    }
    let mut result = x;
    for axis in axes {
        result = extend(call, result, axis, low[axis], high[axis], &mode)?;
    }
    Ok(vec![result])
}

/// Pads one axis with elements of the tensor: takes them by an index that is folded back into the dim.
fn extend(
    call: &mut Call<'_>,
    x: ValueId,
    axis: usize,
    low: ValueId,
    high: ValueId,
    mode: &str,
) -> Result<ValueId, ImportError> {
    if call.b.known_integers(low) == Some(vec![0]) && call.b.known_integers(high) == Some(vec![0]) {
        return Ok(x);
    }
    let size = call.b.dims(x)[axis].clone();
    let b = &mut *call.b;
    let (low, high) = (b.reshape(low, &[])?, b.reshape(high, &[])?);
    let dim = b.dim_value(&size)?;
    let (zero, one) = (b.constant(Tensor::scalar(0i64)), b.constant(Tensor::scalar(1i64)));
    let last = b.sub(dim, one)?;
    let total = b.add(dim, low)?;
    let total = b.add(total, high)?;
    let positions = b.prim(Prim::Iota, &[total])?;
    let index = b.sub(positions, low)?;
    let index = match mode {
        "edge" => {
            let index = b.max(index, zero)?;
            b.min(index, last)?
        }
        "wrap" => floor_modulo(b, index, dim)?,
        // There and back again: the period is twice the way from end to end.
        "reflect" => {
            let period = b.add(last, last)?;
            let phase = floor_modulo(b, index, period)?;
            let back = b.sub(period, phase)?;
            b.min(phase, back)?
        }
        _ => return Err(call.bad_attribute("mode", "is constant, reflect, edge or wrap")),
    };
    Ok(call.b.prim(Prim::Take { axis }, &[x, index])?)
}

/// The remainder with the sign of the divisor, 0 where the divisor is.
fn floor_modulo(
    b: &mut anychip_ir::Builder,
    x: ValueId,
    divisor: ValueId,
) -> Result<ValueId, ImportError> {
    let remainder = b.rem(x, divisor)?;
    let moved = b.add(remainder, divisor)?;
    Ok(b.prim(Prim::Binary(Binary::Rem), &[moved, divisor])?)
}

fn block(call: &Call<'_>) -> Result<usize, ImportError> {
    usize::try_from(call.need_int("blocksize")?)
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| call.bad_attribute("blocksize", "must be positive"))
}

fn picture(call: &Call<'_>, x: ValueId) -> Result<[Dim; 4], ImportError> {
    <[Dim; 4]>::try_from(call.b.dims(x))
        .map_err(|_| call.invalid(format!("input 0 is {}, expected 4 dims", call.b.ty(x))))
}

fn depth_to_space(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let block = block(call)?;
    let [n, c, h, w] = picture(call, x)?;
    let size = Dim::Fixed(block);
    let depth = c.floor_div(&(size.clone() * size.clone()));
    let (split, permutation) = match call.string("mode", "DCR").as_str() {
        "DCR" => (
            [n.clone(), size.clone(), size.clone(), depth.clone(), h.clone(), w.clone()],
            [0, 3, 4, 1, 5, 2],
        ),
        "CRD" => (
            [n.clone(), depth.clone(), size.clone(), size.clone(), h.clone(), w.clone()],
            [0, 1, 4, 2, 5, 3],
        ),
        _ => return Err(call.bad_attribute("mode", "is DCR or CRD")),
    };
    let x = call.b.reshape(x, &split)?;
    let x = call.b.transpose(x, &permutation)?;
    Ok(vec![call.b.reshape(x, &[n, depth, h * size.clone(), w * size])?])
}

fn space_to_depth(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let block = block(call)?;
    // Which comes first in the new channels: the place in the block, or the old channel.
    let permutation = match call.string("mode", "DCR").as_str() {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        _ => return Err(call.bad_attribute("mode", "is DCR or CRD")),
    };
    let [n, c, h, w] = picture(call, x)?;
    let size = Dim::Fixed(block);
    let (rows, columns) = (h.floor_div(&size), w.floor_div(&size));
    let split = [n.clone(), c.clone(), rows.clone(), size.clone(), columns.clone(), size.clone()];
    let x = call.b.reshape(x, &split)?;
    let x = call.b.transpose(x, &permutation)?;
    Ok(vec![call.b.reshape(x, &[n, c * size.clone() * size, rows, columns])?])
}
