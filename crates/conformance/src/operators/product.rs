//! Matrix products: all tails of m, n and k to 200, transposed, batched, broadcast, contracted anywhere; integers;
//! attention.

use anychip_ir::{ConvolutionDims, DotDims, IrError, Prim};
use anychip_ops::Attention;
use anychip_tensor::{DType, Dim};

use super::draft::{Draft, Fill, USUAL, fixed, sizes};

/// A size: often small, often one near the tiles of kernels, up to 200.
fn size(d: &mut Draft) -> usize {
    let random = &mut d.random;
    match random.below(4) {
        0 => random.range(1, 8),
        1 => random.pick(&[12, 14, 15, 16, 17, 28, 31, 32, 33, 48, 63, 64, 65, 96]),
        2 => random.range(1, 70),
        _ => random.range(1, 200),
    }
}

pub(super) fn matmul(d: &mut Draft) -> Result<(), IrError> {
    let (m, n, k) = (size(d), size(d), size(d));
    let mut left = Vec::new();
    let mut right = Vec::new();
    let mut products = 1;
    for _ in 0..d.random.pick(&[0, 0, 0, 1, 1, 2]) {
        let batch = d.random.range(1, 4);
        products *= batch;
        let kind = d.random.below(4);
        left.push(if kind == 0 { 1 } else { batch });
        right.push(if kind == 1 { 1 } else { batch });
    }
    if d.random.chance(30) {
        right.clear();
    }
    let (crossed_a, crossed_b) = (d.random.chance(30), d.random.chance(40));
    left.extend(if crossed_a { [k, m] } else { [m, k] });
    right.extend(if crossed_b { [n, k] } else { [k, n] });
    d.say(&format!("{left:?} x {right:?} crossed {crossed_a} {crossed_b}"));
    let a_constant = if d.random.chance(10) { 100 } else { 0 };
    let mut a = d.weights(DType::F32, &left, USUAL, a_constant);
    let b_constant = if a_constant == 100 { 0 } else { 70 };
    let mut b = d.weights(DType::F32, &right, USUAL, b_constant);
    for (v, crossed) in [(&mut a, crossed_a), (&mut b, crossed_b)] {
        let rank = d.b.rank(*v);
        if crossed {
            let mut order: Vec<usize> = (0..rank).collect();
            order.swap(rank - 1, rank - 2);
            *v = d.b.transpose(*v, &order)?;
        }
    }
    d.spend(products * m * n * k);
    let y = d.b.matmul(a, b, DType::F32)?;
    let axis = d.b.rank(y) - 1;
    let y = d.epilogue(y, axis)?;
    d.output(y);
    Ok(())
}

/// Sums over any dims, in any order.
pub(super) fn dot_general(d: &mut Draft) -> Result<(), IrError> {
    let dtype = d.random.pick(&[DType::F32, DType::F32, DType::F32, DType::F64, DType::F16]);
    let random = &mut d.random;
    // Each dim: in both and kept, in both and summed, on the left only, on the right only.
    let dims: Vec<(usize, usize)> =
        (0..random.range(1, 5)).map(|_| (random.below(4), random.range(1, 40))).collect();
    let mut work = 1;
    let mut sides: [Vec<(usize, usize)>; 2] = [Vec::new(), Vec::new()];
    for (i, &(kind, n)) in dims.iter().enumerate() {
        work *= n;
        for (side, list) in sides.iter_mut().enumerate() {
            if kind < 2 || kind == 2 + side {
                let at = random.below(list.len() + 1);
                list.insert(at, (i, n));
            }
        }
    }
    let places = |side: usize, kind: usize| -> Vec<usize> {
        let of_kind = (0..dims.len()).filter(|&i| dims[i].0 == kind);
        of_kind
            .map(|i| sides[side].iter().position(|&(j, _)| j == i).expect("it is on both sides"))
            .collect()
    };
    let dot = DotDims {
        lhs_batch: places(0, 0),
        rhs_batch: places(1, 0),
        lhs_contract: places(0, 1),
        rhs_contract: places(1, 1),
    };
    let shapes = sides.map(|list| list.iter().map(|&(_, n)| n).collect::<Vec<_>>());
    d.say(&format!("{dtype} {shapes:?} {dot:?}"));
    d.spend(work);
    let a = d.weights(dtype, &shapes[0], USUAL, 10);
    let b = d.weights(dtype, &shapes[1], USUAL, 40);
    let y = d.b.prim(Prim::DotGeneral(dot, dtype), &[a, b])?;
    d.output(y);
    Ok(())
}

/// Bytes multiplied and summed in 32 bits: products and convolutions.
pub(super) fn integers(d: &mut Draft) -> Result<(), IrError> {
    let (a, b) = (d.random.pick(&[DType::U8, DType::I8]), d.random.pick(&[DType::U8, DType::I8]));
    let range = |t: DType| {
        if t == DType::U8 { Fill::Between(0.0, 255.99) } else { Fill::Between(-128.0, 127.99) }
    };
    if d.random.chance(60) {
        let (m, n, k) = (size(d), size(d), size(d));
        d.say(&format!("{a} x {b} {m} {n} {k}"));
        let x = d.weights(a, &[m, k], range(a), 0);
        let w = d.weights(b, &[k, n], range(b), 70);
        d.spend(m * n * k);
        let y = d.b.matmul(x, w, DType::I32)?;
        d.output(y);
        return Ok(());
    }
    let depthwise = d.random.chance(30);
    let (c, m) = (d.random.range(1, 40), d.random.range(1, 40));
    let (m, groups) = if depthwise { (c, c) } else { (m, 1) };
    let [k, stride, h, w] = [(1, 5), (1, 3), (1, 20), (1, 20)].map(|(l, h)| d.random.range(l, h));
    let low = d.random.below(k) as i64;
    let dims = ConvolutionDims {
        strides: vec![stride; 2],
        padding: vec![(low, 1), (1, low)],
        dilation: vec![d.random.range(1, 2); 2],
        input_dilation: vec![1; 2],
        groups,
    };
    d.say(&format!("{a} [{c}, {h}, {w}] * {b} [{m}, {k}, {k}] {dims:?}"));
    let batch = d.batch();
    let x = d.input(a, &[batch, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)], range(a));
    let weights = d.weights(b, &[m, c / groups, k, k], range(b), 85);
    let y = d.b.prim(Prim::Convolution(dims, DType::I32), &[x, weights])?;
    d.spend(c / groups * k * k * sizes(&d.b, y)[1..].iter().product::<usize>());
    d.output(y);
    Ok(())
}

pub(super) fn attention(d: &mut Draft) -> Result<(), IrError> {
    d.slack = 5.0;
    let batch = d.batch();
    let random = &mut d.random;
    let groups = random.range(1, 4);
    let heads = groups * random.pick(&[1, 1, 2, 3]);
    let (s, t) = (random.range(1, 70), random.range(1, 70));
    let (depth, out) = (random.range(1, 70), random.range(1, 70));
    let (depth, out, t) = match random.below(3) {
        0 => (random.pick(&[16, 32, 64]), 64, t),
        1 => (depth, depth, s),
        _ => (depth, out, t),
    };
    let causal = random.chance(30);
    let softcap = if random.chance(15) { 5.0 } else { 0.0 };
    let mask = random.below(6);
    let shape = |n: &Dim, a: usize, b: usize, c: usize| {
        let mut shape = vec![n.clone()];
        shape.extend(fixed(&[a, b, c]));
        shape
    };
    d.say(&format!(
        "{heads} heads of {groups}, {s} by {t}, {depth} to {out}, causal {causal}, softcap {softcap}, mask {mask}"
    ));
    let mut operands = vec![
        d.floats(&shape(&batch, heads, s, depth)),
        d.floats(&shape(&batch, groups, t, depth)),
        d.floats(&shape(&batch, groups, t, out)),
    ];
    let added = Fill::Between(-3.0, 3.0);
    match mask {
        0 => operands.push(d.input(DType::F32, &fixed(&[s, t]), Fill::Mask)),
        1 => operands.push(d.input(DType::F32, &shape(&batch, 1, s, t), added)),
        2 => operands.push(d.input(DType::F32, &shape(&batch, heads, s, t), Fill::Mask)),
        3 => operands.push(d.input(DType::F32, &shape(&batch, 1, 1, t), Fill::Mask)),
        _ => {}
    }
    d.spend(heads * s * t * (depth + out));
    let scale = 1.0 / (depth as f32).sqrt();
    let y = d.b.composite(Attention { softcap, ..Attention::new(scale, causal) }, &operands)?;
    d.output(y);
    Ok(())
}
