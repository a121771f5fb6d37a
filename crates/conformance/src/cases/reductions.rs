//! Reductions over dims, windows and prefixes, and the largest elements in order.

use anychip_ir::{Prim, ReduceKind, Window};
use anychip_tensor::{DType, Tensor};

use super::{Case, add};
use crate::Random;

const TYPES: [DType; 6] = [DType::F32, DType::F64, DType::F16, DType::I64, DType::I32, DType::U8];

pub(super) fn cases(all: &mut Vec<Case>) {
    for (kind, name) in ReduceKind::ALL {
        for dtype in TYPES {
            reduce(all, kind, name, dtype);
            windows(all, kind, name, dtype);
            for axis in 0..2 {
                for (exclusive, reverse) in
                    [(false, false), (true, false), (false, true), (true, true)]
                {
                    let name =
                        format!("cumulative/{name}/{dtype} axis {axis} {exclusive} {reverse}");
                    let x = Random::new(Random::seed_of(&name)).suitable(dtype, &[3, 7]);
                    add(all, name, Prim::Cumulative { kind, axis, exclusive, reverse }, &[x], &[]);
                }
            }
        }
    }
    for kind in [ReduceKind::Max, ReduceKind::Min] {
        for dtype in TYPES {
            for (axis, last) in [(0, false), (1, false), (1, true), (2, true)] {
                let name = format!("arg-reduce/{}/{dtype} axis {axis} {last}", kind.name());
                let x = Random::new(Random::seed_of(&name)).tensor(dtype, &[3, 9, 4], 0.0, 5.0);
                add(all, name, Prim::ArgReduce { kind, axis, last }, &[x], &[]);
            }
        }
        let x = Tensor::from_f64(DType::F32, [6], &[1.0, f64::NAN, 5.0, f64::NAN, -2.0, 5.0])
            .expect("a small vector");
        for last in [false, true] {
            let name = format!("arg-reduce/{}/f32 special {last}", kind.name());
            add(all, name, Prim::ArgReduce { kind, axis: 0, last }, std::slice::from_ref(&x), &[]);
        }
    }
    for dtype in [DType::F32, DType::F64, DType::I64, DType::I32, DType::F16] {
        for (axis, k, largest) in
            [(1, 3, true), (1, 11, false), (0, 2, false), (2, 1, true), (1, 0, true)]
        {
            let name = format!("top-k/{dtype} axis {axis} k {k} {largest}");
            // Few different values, so that there are equals to order.
            let x = Random::new(Random::seed_of(&name)).tensor(DType::I64, &[3, 11, 2], 0.0, 6.0);
            let x = Tensor::from_f64(dtype, [3, 11, 2], &x.to_f64()).expect("a small tensor");
            add(all, name, Prim::TopK { axis, largest }, &[x, Tensor::scalar(k as i64)], &[1]);
        }
    }
}

fn reduce(all: &mut Vec<Case>, kind: ReduceKind, name: &str, dtype: DType) {
    let forms: [(&[usize], &[usize]); 9] = [
        (&[7], &[0]),
        (&[3, 65], &[1]),
        (&[65, 3], &[0]),
        (&[2, 5, 7], &[1]),
        (&[2, 5, 7], &[0, 2]),
        (&[2, 5, 7], &[0, 1, 2]),
        (&[2, 5, 7], &[]),
        (&[2, 0, 3], &[1]),
        (&[2, 3, 4, 5], &[2, 3]),
    ];
    for (shape, axes) in forms {
        let name = format!("reduce/{name}/{dtype} {shape:?} over {axes:?}");
        let mut random = Random::new(Random::seed_of(&name));
        let x = match kind {
            // Products of many numbers stay within range around 1.
            ReduceKind::Prod if dtype.is_float() => random.tensor(dtype, shape, 0.8, 1.2),
            _ => random.suitable(dtype, shape),
        };
        add(all, name, Prim::Reduce { kind, axes: axes.to_vec() }, &[x], &[]);
    }
}

fn windows(all: &mut Vec<Case>, kind: ReduceKind, name: &str, dtype: DType) {
    type Form<'a> = (&'a [usize], &'a [usize], &'a [usize], &'a [usize], &'a [(i64, i64)]);
    let forms: [Form<'_>; 6] = [
        (&[1, 3, 9, 9], &[3, 3], &[2, 2], &[1, 1], &[(1, 1), (1, 1)]),
        (&[2, 2, 8, 11], &[2, 2], &[2, 2], &[1, 1], &[(0, 0), (0, 1)]),
        (&[1, 2, 9, 9], &[3, 3], &[1, 1], &[2, 2], &[(2, 2), (2, 2)]),
        (&[2, 3, 17], &[4], &[3], &[1], &[(0, 0)]),
        (&[1, 2, 5, 5, 6], &[2, 2, 2], &[1, 2, 2], &[1, 1, 1], &[(0, 0), (1, 0), (0, 0)]),
        (&[1, 2, 7, 7], &[3, 3], &[1, 1], &[1, 1], &[(-1, 0), (0, -1)]),
    ];
    for (shape, size, strides, dilation, padding) in forms {
        let name = format!("reduce-window/{name}/{dtype} {shape:?} by {size:?} {padding:?}");
        let mut random = Random::new(Random::seed_of(&name));
        let x = match kind {
            ReduceKind::Prod if dtype.is_float() => random.tensor(dtype, shape, 0.8, 1.2),
            _ => random.suitable(dtype, shape),
        };
        let window = Window {
            size: size.to_vec(),
            strides: strides.to_vec(),
            dilation: dilation.to_vec(),
            padding: padding.to_vec(),
        };
        add(all, name, Prim::ReduceWindow { kind, window }, &[x], &[]);
    }
}
