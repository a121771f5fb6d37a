//! Elements moved: transposes, slices, pads, concatenations; read and written at indices.

use anychip_ir::{Combine, IrError, Prim};
use anychip_tensor::{DType, Dim};

use super::draft::{Draft, Fill, fixed, sizes};

const TYPES: [DType; 6] = [DType::F32, DType::F32, DType::F32, DType::U8, DType::F16, DType::I64];

fn shape(d: &mut Draft) -> Vec<usize> {
    loop {
        let rank = d.random.range(1, 5);
        let shape: Vec<usize> = (0..rank).map(|_| d.random.range(1, 35)).collect();
        if shape.iter().product::<usize>() <= 100_000 {
            return shape;
        }
    }
}

fn fill(dtype: DType) -> Fill {
    if dtype == DType::U8 { Fill::Between(0.0, 255.0) } else { Fill::Between(-9.0, 9.0) }
}

pub(super) fn movement(d: &mut Draft) -> Result<(), IrError> {
    let dtype = d.random.pick(&TYPES);
    let shape = shape(d);
    let mut y = d.input(dtype, &fixed(&shape), fill(dtype));
    d.say(&format!("{dtype} {shape:?}"));
    for _ in 0..d.random.range(1, 4) {
        let shape = sizes(&d.b, y);
        let rank = shape.len();
        y = match d.random.below(6) {
            0 => {
                let mut permutation: Vec<usize> = (0..rank).collect();
                for i in (1..rank).rev() {
                    permutation.swap(i, d.random.below(i + 1));
                }
                d.say(&format!("transpose {permutation:?}"));
                d.b.transpose(y, &permutation)?
            }
            1 => {
                let axis = d.random.below(rank);
                let n = shape[axis] as i64;
                let start = d.random.below(shape[axis] + 2) as i64;
                let end = d.random.below(2 * shape[axis] + 2) as i64 - n;
                let step = d.random.pick(&[1, 1, 1, 2, 3, -1, -2]);
                d.say(&format!("slice {axis} from {start} to {end} by {step}"));
                let [start, end, step] = [start, end, step].map(|v| d.b.integers(&[v]));
                d.b.prim(Prim::Slice { axes: vec![axis] }, &[y, start, end, step])?
            }
            2 => {
                let mut edge =
                    || -> Vec<i64> { (0..rank).map(|_| d.random.below(6) as i64 - 2).collect() };
                let (low, high) = (edge(), edge());
                d.say(&format!("pad {low:?} {high:?}"));
                let (low, high) = (d.b.integers(&low), d.b.integers(&high));
                let value = d.b.scalar(dtype, 3.0)?;
                d.b.prim(Prim::Pad, &[y, low, high, value])?
            }
            3 => {
                let axis = d.random.below(rank);
                let mut other = shape.clone();
                other[axis] = d.random.range(1, 20);
                let other = d.input(dtype, &fixed(&other), fill(dtype));
                d.say(&format!("concat {axis}"));
                let parts = [y, other, y];
                d.b.concat(&parts[..d.random.range(2, 3)], axis)?
            }
            4 => {
                let total = shape.iter().product::<usize>();
                let first = (1..=total.min(64)).rev().find(|n| total.is_multiple_of(*n));
                let first = first.unwrap_or(1);
                d.say("reshape");
                d.b.reshape(y, &fixed(&[first, total / first]))?
            }
            _ => {
                let mut larger = shape.clone();
                larger.insert(0, d.random.range(1, 3));
                d.say("broadcast");
                d.b.broadcast(y, &fixed(&larger))?
            }
        };
        if sizes(&d.b, y).iter().product::<usize>() > 300_000 {
            break;
        }
    }
    d.output(y);
    Ok(())
}

pub(super) fn indexing(d: &mut Draft) -> Result<(), IrError> {
    let dtype = d.random.pick(&TYPES);
    let shape = shape(d);
    let x = d.input(dtype, &fixed(&shape), fill(dtype));
    let axis = d.random.below(shape.len());
    let n = shape[axis] as f64;
    // Truncated towards zero, so from −n to n − 1.
    let indices = Fill::Between(-n, n);
    let what = d.random.below(3);
    d.say(&format!("{} {dtype} {shape:?} along {axis}", ["take", "take along", "scatter"][what]));
    let y = match what {
        0 => {
            let places: Vec<Dim> =
                (0..d.random.below(3)).map(|_| Dim::Fixed(d.random.range(1, 9))).collect();
            let i = d.input(DType::I64, &places, indices);
            d.b.prim(Prim::Take { axis }, &[x, i])?
        }
        1 => {
            let mut places = shape.clone();
            places[axis] = d.random.range(1, 40);
            let i = d.input(DType::I64, &fixed(&places), indices);
            d.b.prim(Prim::TakeAlong { axis }, &[x, i])?
        }
        _ => {
            let places: Vec<usize> = shape.iter().map(|&n| d.random.range(1, n)).collect();
            let combine = d.random.pick(&[Combine::Set, Combine::Add, Combine::Max]);
            d.say(&format!("{combine:?}"));
            let i = d.input(DType::I64, &fixed(&places), indices);
            let updates = d.input(dtype, &fixed(&places), fill(dtype));
            d.b.prim(Prim::ScatterAlong { axis, combine }, &[x, i, updates])?
        }
    };
    if sizes(&d.b, y).iter().product::<usize>() > 300_000 {
        d.spend(usize::MAX);
    }
    d.output(y);
    Ok(())
}
