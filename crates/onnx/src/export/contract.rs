//! Contractions: dot products and convolutions.

use anychip_ir::{ConvolutionDims, DotDims};
use anychip_tensor::DType;

use super::emit::{Emitter, Frame};
use super::prims::Operands;

/// A type that `MatMul` and `Einsum` take and that holds what `dtype` does.
fn matrix_type(dtype: DType) -> DType {
    match dtype {
        DType::U8 | DType::I8 | DType::U16 | DType::I16 => DType::I32,
        other => other,
    }
}

pub(super) fn dot(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    dims: &DotDims,
    output: DType,
) -> Result<String, String> {
    let (lhs, rhs) = (x.types[0].rank(), x.types[1].rank());
    let free = |rank: usize, batch: &[usize], contract: &[usize]| -> Vec<usize> {
        (0..rank).filter(|d| !batch.contains(d) && !contract.contains(d)).collect()
    };
    let free_l = free(lhs, &dims.lhs_batch, &dims.lhs_contract);
    let free_r = free(rhs, &dims.rhs_batch, &dims.rhs_contract);
    let batch = dims.lhs_batch.len();
    let one_sum = dims.lhs_contract.len() == 1;
    let bytes = |d: DType| matches!(d, DType::I8 | DType::U8);
    let integer = output == DType::I32 && bytes(x.dtype(0)) && bytes(x.dtype(1));
    let compute = matrix_type(output);
    let op = if integer { "MatMulInteger" } else { "MatMul" };
    let operand = |e: &mut Emitter, frame: &mut Frame<'_>, i: usize| {
        if integer {
            x.names[i].clone()
        } else {
            // Both operands take the type of the result before they are multiplied.
            let own = e.cast(frame, x.name(i), x.dtype(i), output);
            e.cast(frame, &own, output, compute)
        }
    };
    let transposed = |e: &mut Emitter, frame: &mut Frame<'_>, name: String, order: Vec<usize>| {
        if order.iter().copied().eq(0..order.len()) {
            return name;
        }
        e.add(frame, "Transpose", &[&name], vec![("perm", order.into())])
    };
    // `MatMul` itself: rows on the left, columns on the right, batches in front of both. Without batches the
    // left may have any number of rows' dims.
    let as_matrices =
        one_sum && free_r.len() == 1 && (free_l.len() == 1 || (batch == 0 && !free_l.is_empty()));
    if as_matrices {
        let (a, b) = (operand(e, frame, 0), operand(e, frame, 1));
        let order_l = [&dims.lhs_batch[..], &free_l[..], &dims.lhs_contract[..]].concat();
        let order_r = [&dims.rhs_batch[..], &dims.rhs_contract[..], &free_r[..]].concat();
        let a = transposed(e, frame, a, order_l);
        let b = transposed(e, frame, b, order_r);
        let product = e.add(frame, op, &[&a, &b], vec![]);
        return Ok(e.cast(frame, &product, compute, output));
    }
    let mut letters = ('a'..='z').chain('A'..='Z');
    let mut left = vec![' '; lhs];
    let mut right = vec![' '; rhs];
    let mut result = String::new();
    let mut next = || letters.next().ok_or("more than 52 dims".to_string());
    for (&l, &r) in dims.lhs_batch.iter().zip(&dims.rhs_batch) {
        let letter = next()?;
        (left[l], right[r]) = (letter, letter);
        result.push(letter);
    }
    for (&l, &r) in dims.lhs_contract.iter().zip(&dims.rhs_contract) {
        let letter = next()?;
        (left[l], right[r]) = (letter, letter);
    }
    for &l in &free_l {
        left[l] = next()?;
        result.push(left[l]);
    }
    for &r in &free_r {
        right[r] = next()?;
        result.push(right[r]);
    }
    let equation = format!(
        "{},{}->{result}",
        left.iter().collect::<String>(),
        right.iter().collect::<String>()
    );
    let (a, b) = (
        e.cast(frame, x.name(0), x.dtype(0), output),
        e.cast(frame, x.name(1), x.dtype(1), output),
    );
    let (a, b) = (e.cast(frame, &a, output, compute), e.cast(frame, &b, output, compute));
    let product = e.add(frame, "Einsum", &[&a, &b], vec![("equation", equation.as_str().into())]);
    Ok(e.cast(frame, &product, compute, output))
}

/// `bias` is a value for each channel; only a convolution of floats that does not spread its input takes one.
pub(super) fn convolution(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    dims: &ConvolutionDims,
    output: DType,
    bias: Option<&str>,
) -> Result<String, String> {
    let bytes = |d: DType| matches!(d, DType::I8 | DType::U8);
    let transposed = dims.input_dilation.iter().any(|&d| d != 1);
    let whole = dims.padding.iter().all(|&(low, high)| low >= 0 && high >= 0);
    if output == DType::I32 && bytes(x.dtype(0)) && bytes(x.dtype(1)) && !transposed && whole {
        let attributes = settings(dims, &dims.padding);
        return Ok(e.add(frame, "ConvInteger", &[x.name(0), x.name(1)], attributes));
    }
    let compute = match output {
        DType::F16 | DType::F32 | DType::F64 => output,
        DType::BF16 if e.opset >= 22 => output,
        DType::BF16 => DType::F32,
        // Products of 16 bits and their sums are exact in f64.
        _ if x.types.iter().all(|t| t.dtype.storage_bits() <= 16) => DType::F64,
        DType::I32 | DType::U32 if !transposed && whole => {
            return Ok(wide_integers(e, frame, x, dims, output));
        }
        other => return Err(format!("no operator convolves {other}")),
    };
    let operand = |e: &mut Emitter, frame: &mut Frame<'_>, i: usize| {
        let own = e.cast(frame, x.name(i), x.dtype(i), output);
        e.cast(frame, &own, output, compute)
    };
    let (mut input, kernel) = (operand(e, frame, 0), operand(e, frame, 1));
    if transposed {
        let made = transpose(e, frame, x, dims, &input, &kernel)?;
        return Ok(e.cast(frame, &made, compute, output));
    }
    let mut padding = dims.padding.clone();
    if !whole {
        // What is cropped is cropped before.
        let mut amounts = vec![0i64; 2 * (dims.strides.len() + 2)];
        let n = amounts.len() / 2;
        for (i, (low, high)) in padding.iter_mut().enumerate() {
            amounts[2 + i] = (*low).min(0);
            amounts[n + 2 + i] = (*high).min(0);
            (*low, *high) = ((*low).max(0), (*high).max(0));
        }
        let amounts = e.ints(&amounts);
        input = e.add(frame, "Pad", &[&input, &amounts], vec![]);
    }
    let operands = [Some(input.as_str()), Some(&kernel), bias];
    let operands: Vec<&str> = operands.into_iter().flatten().collect();
    let made = e.add(frame, "Conv", &operands, settings(dims, &padding));
    Ok(e.cast(frame, &made, compute, output))
}

/// Integers of 32 bits: `x = 2¹⁶·h + l`, so that `x·w = 2³²·… + 2¹⁶·(h·w_l + l·w_h) + l·w_l`, of which the
/// first wraps away and the others are sums that are exact in `f64`.
fn wide_integers(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    dims: &ConvolutionDims,
    output: DType,
) -> String {
    let half = e.scalar(DType::I64, 65536.0);
    let mut parts = Vec::new();
    for i in 0..2 {
        let own = e.cast(frame, x.name(i), x.dtype(i), output);
        let wide = e.cast(frame, &own, output, DType::I64);
        let low = e.add(frame, "Mod", &[&wide, &half], vec![]);
        let rest = e.add(frame, "Sub", &[&wide, &low], vec![]);
        let high = e.add(frame, "Div", &[&rest, &half], vec![]);
        parts.push(e.cast(frame, &low, DType::I64, DType::F64));
        parts.push(e.cast(frame, &high, DType::I64, DType::F64));
    }
    let mut sum = |a: usize, b: usize| {
        let attributes = settings(dims, &dims.padding);
        let made = e.add(frame, "Conv", &[&parts[a], &parts[b]], attributes);
        e.cast(frame, &made, DType::F64, DType::I64)
    };
    let (low, first, second) = (sum(0, 2), sum(0, 3), sum(1, 2));
    let crossed = e.add(frame, "Add", &[&first, &second], vec![]);
    let raised = e.add(frame, "Mul", &[&crossed, &half], vec![]);
    let total = e.add(frame, "Add", &[&raised, &low], vec![]);
    e.cast(frame, &total, DType::I64, output)
}

fn settings(
    dims: &ConvolutionDims,
    padding: &[(i64, i64)],
) -> Vec<(&'static str, super::emit::Value)> {
    let mut pads: Vec<i64> = padding.iter().map(|p| p.0).collect();
    pads.extend(padding.iter().map(|p| p.1));
    vec![
        ("strides", dims.strides.clone().into()),
        ("pads", pads.into()),
        ("dilations", dims.dilation.clone().into()),
        ("group", (dims.groups as i64).into()),
    ]
}

/// A convolution whose input is spread is a transposed one whose kernel is mirrored, with the channels of
/// each group exchanged: `[m, c/g, k…]` becomes `[c, m/g, k…]`, and padding `p` becomes `d(k − 1) − p`.
fn transpose(
    e: &mut Emitter,
    frame: &mut Frame<'_>,
    x: &Operands,
    dims: &ConvolutionDims,
    input: &str,
    kernel: &str,
) -> Result<String, String> {
    let shape = x.types[1].fixed_shape().ok_or("the kernel's sizes are not known")?;
    let spatial = dims.strides.len();
    if dims.strides.iter().any(|&s| s != 1) {
        return Err("a convolution cannot both spread its input and step over it".into());
    }
    let mut padding = Vec::new();
    for i in 0..spatial {
        let reach = (dims.dilation[i] * (shape[2 + i].max(1) - 1)) as i64;
        let (low, high) = (reach - dims.padding[i].0, reach - dims.padding[i].1);
        padding.push((low, high));
    }
    let axes: Vec<i64> = (0..spatial).map(|i| 2 + i as i64).collect();
    let (starts, ends, axes, steps) = (
        e.ints(&vec![-1; spatial]),
        e.ints(&vec![i64::MIN + 1; spatial]),
        e.ints(&axes),
        e.ints(&vec![-1; spatial]),
    );
    let mirrored = e.add(frame, "Slice", &[kernel, &starts, &ends, &axes, &steps], vec![]);
    let groups = dims.groups;
    let mut split: Vec<i64> = vec![groups as i64, (shape[0] / groups) as i64, shape[1] as i64];
    split.extend(shape[2..].iter().map(|&n| n as i64));
    let parts = e.reshape(frame, &mirrored, &split);
    let mut order: Vec<usize> = (0..split.len()).collect();
    order.swap(1, 2);
    let exchanged = e.add(frame, "Transpose", &[&parts], vec![("perm", order.into())]);
    let mut joined: Vec<i64> = vec![(groups * shape[1]) as i64, (shape[0] / groups) as i64];
    joined.extend(shape[2..].iter().map(|&n| n as i64));
    let kernel = e.reshape(frame, &exchanged, &joined);
    let crop: Vec<(i64, i64)> =
        padding.iter().map(|&(low, high)| (low.max(0), high.max(0))).collect();
    let mut pads: Vec<i64> = crop.iter().map(|p| p.0).collect();
    pads.extend(crop.iter().map(|p| p.1));
    let attributes = vec![
        ("strides", dims.input_dilation.clone().into()),
        ("pads", pads.into()),
        ("dilations", dims.dilation.clone().into()),
        ("group", (groups as i64).into()),
    ];
    let made = e.add(frame, "ConvTranspose", &[input, &kernel], attributes);
    if padding == crop {
        return Ok(made);
    }
    // More room than the kernel reaches is zeros.
    let mut amounts = vec![0i64; 2 * (spatial + 2)];
    for (i, &(low, high)) in padding.iter().enumerate() {
        amounts[2 + i] = (-low).max(0);
        amounts[spatial + 4 + i] = (-high).max(0);
    }
    let amounts = e.ints(&amounts);
    Ok(e.add(frame, "Pad", &[&made, &amounts], vec![]))
}
