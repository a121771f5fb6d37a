//! What works along lines: softmax, norms, reductions, running sums, and chains of elementwise operators.

use anychip_ir::{Binary, IrError, Prim, ReduceKind, Unary};
use anychip_ops::{GroupNorm, LayerNorm, LogSoftmax, RmsNorm, Softmax};
use anychip_tensor::{DType, Dim};

use super::draft::{Draft, Fill, sizes};

/// One to five dims of at most 40 (the last at most 200), 100,000 elements at most.
fn shape(d: &mut Draft) -> Vec<Dim> {
    loop {
        let rank = d.random.range(1, 5);
        let mut shape: Vec<usize> = (0..rank).map(|_| d.random.range(1, 40)).collect();
        if d.random.chance(50) {
            shape[rank - 1] = d.random.range(1, 200);
        }
        if shape.iter().product::<usize>() <= 100_000 {
            let mut dims: Vec<Dim> = shape.into_iter().map(Dim::Fixed).collect();
            if rank > 1 {
                dims[0] = d.batch();
            }
            return dims;
        }
    }
}

pub(super) fn softmax(d: &mut Draft) -> Result<(), IrError> {
    let shape = shape(d);
    let spread = d.random.pick(&[2.0, 20.0, 200.0]);
    let x = d.input(DType::F32, &shape, Fill::Between(-spread, spread));
    let axis = d.random.below(shape.len());
    d.slack = 5.0;
    let log = d.random.chance(30);
    d.say(&format!("{shape:?} along {axis}, spread {spread}, log {log}"));
    let y = if log {
        d.b.composite(LogSoftmax { axis }, &[x])?
    } else {
        d.b.composite(Softmax { axis }, &[x])?
    };
    d.output(y);
    Ok(())
}

pub(super) fn norm(d: &mut Draft) -> Result<(), IrError> {
    d.slack = 5.0;
    let epsilon = d.random.pick(&[1e-5, 1e-3]);
    if d.random.chance(30) {
        let groups = d.random.range(1, 6);
        let c = groups * d.random.range(1, 12);
        let mut shape = vec![d.batch(), Dim::Fixed(c)];
        shape.extend((0..d.random.range(1, 2)).map(|_| Dim::Fixed(d.random.range(1, 33))));
        d.say(&format!("{groups} groups of {shape:?}"));
        let x = d.floats(&shape);
        let (scale, bias) = (d.constant(&[c]), d.constant(&[c]));
        let groups = if d.random.chance(20) { 0 } else { groups };
        let composite = GroupNorm { groups, epsilon, precision: DType::F32 };
        let y = d.b.composite(composite, &[x, scale, bias])?;
        let y = d.activation(y)?;
        d.output(y);
        return Ok(());
    }
    let shape = shape(d);
    let axis = d.random.range(usize::from(shape.len() > 1), shape.len() - 1);
    let inner: Vec<usize> = shape[axis..].iter().map(|n| n.fixed().unwrap_or(1)).collect();
    let (rms, bias) = (d.random.chance(40), d.random.chance(60));
    d.say(&format!("{shape:?} from {axis}, mean square {rms}, bias {bias}"));
    let x = d.floats(&shape);
    let mut operands = vec![x, d.constant(&inner)];
    if bias && !rms {
        operands.push(d.constant(&inner));
    }
    let y = if rms {
        d.b.composite(RmsNorm { axis, epsilon }, &operands)?
    } else {
        d.b.composite(LayerNorm { axis, epsilon }, &operands)?
    };
    d.output(y);
    Ok(())
}

const KINDS: [ReduceKind; 4] =
    [ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min, ReduceKind::Prod];

pub(super) fn reduce(d: &mut Draft) -> Result<(), IrError> {
    let shape = shape(d);
    let kind = d.random.pick(&KINDS);
    let dtype = d.random.pick(&[DType::F32, DType::F32, DType::F32, DType::F64, DType::I64]);
    let axes: Vec<usize> = (0..shape.len()).filter(|_| d.random.chance(50)).collect();
    // Products of many numbers leave the range of the type unless they are about one; sums that cancel lose all digits.
    let fill = match (kind, dtype) {
        (ReduceKind::Prod, DType::I64) => Fill::Between(-1.0, 1.99),
        (ReduceKind::Prod, _) => Fill::Between(0.99, 1.01),
        (_, DType::I64) => Fill::Between(-9.0, 9.99),
        _ => Fill::Between(-1.0, 2.0),
    };
    d.say(&format!("{kind:?} of {dtype} {shape:?} over {axes:?}"));
    d.slack = 5.0;
    let x = d.input(dtype, &shape, fill);
    let x = if dtype == DType::F32 && d.random.chance(30) {
        d.say("of squares");
        d.b.mul(x, x)?
    } else {
        x
    };
    let y = d.b.prim(Prim::Reduce { kind, axes }, &[x])?;
    d.output(y);
    Ok(())
}

pub(super) fn running(d: &mut Draft) -> Result<(), IrError> {
    let shape = shape(d);
    let axis = d.random.below(shape.len());
    let what = d.random.below(3);
    d.say(&format!("{shape:?} along {axis}, {}", ["place", "running", "sorted"][what]));
    match what {
        0 => {
            // Few different numbers, so that there are equals.
            let x = d.input(DType::I64, &shape, Fill::Between(-5.0, 5.99));
            let x = d.b.cast(x, DType::F32)?;
            let kind = d.random.pick(&[ReduceKind::Max, ReduceKind::Min]);
            let last = d.random.chance(40);
            d.say(&format!("{kind:?}, last {last}"));
            let y = d.b.prim(Prim::ArgReduce { kind, axis, last }, &[x])?;
            d.output(y);
        }
        1 => {
            let x = d.input(DType::F32, &shape, Fill::Between(0.0, 1.0));
            let (exclusive, reverse) = (d.random.chance(50), d.random.chance(50));
            d.say(&format!("exclusive {exclusive}, reverse {reverse}"));
            d.slack = 5.0;
            let prim = Prim::Cumulative { kind: ReduceKind::Sum, axis, exclusive, reverse };
            let y = d.b.prim(prim, &[x])?;
            d.output(y);
        }
        _ => {
            let x = d.input(DType::F32, &shape, Fill::Between(-2.0, 2.0));
            let n = sizes(&d.b, x)[axis];
            let k = d.b.scalar(DType::I64, d.random.range(1, n) as f64)?;
            let top = Prim::TopK { axis, largest: d.random.chance(50) };
            let y = d.b.node(top, &[x, k], Vec::new())?;
            d.output(y[0]);
            d.output(y[1]);
        }
    }
    Ok(())
}

/// A chain of elementwise operators, its operands broadcast.
pub(super) fn elementwise(d: &mut Draft) -> Result<(), IrError> {
    d.slack = 5.0;
    let shape = shape(d);
    let mut y = d.floats(&shape);
    d.say(&format!("{shape:?}"));
    for _ in 0..d.random.range(1, 6) {
        let unary = [
            Unary::Neg,
            Unary::Abs,
            Unary::Exp,
            Unary::Tanh,
            Unary::Sigmoid,
            Unary::Erf,
            Unary::Floor,
            Unary::Sin,
            Unary::Cos,
        ];
        let binary = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Max, Binary::Min];
        if d.random.chance(40) {
            let unary = d.random.pick(&unary);
            // What grows without bound, or jumps, takes its own rounding for the reference's.
            let small = d.b.tanh(y)?;
            let small = if unary == Unary::Floor { d.floats(&shape) } else { small };
            let done = d.b.prim(Prim::Unary(unary), &[small])?;
            y = if unary == Unary::Floor { d.b.add(y, done)? } else { done };
            d.say(unary.name());
        } else if d.random.chance(20) {
            y = d.activation(y)?;
        } else {
            let op = d.random.pick(&binary);
            let whole = sizes(&d.b, y);
            let kept = d.random.below(4);
            let mut other = shape.clone();
            for (axis, dim) in other.iter_mut().enumerate() {
                let one = match kept {
                    0 => false,
                    1 => axis + 1 < whole.len(),
                    2 => axis != 1,
                    _ => d.random.chance(50),
                };
                if one {
                    *dim = Dim::Fixed(1);
                }
            }
            d.say(&format!("{} {other:?}", op.name()));
            let other = d.floats(&other);
            y = if d.random.chance(70) {
                d.b.prim(Prim::Binary(op), &[y, other])?
            } else {
                d.b.prim(Prim::Binary(op), &[other, y])?
            };
        }
        if d.random.chance(10) {
            d.output(y);
        }
    }
    d.output(y);
    Ok(())
}
