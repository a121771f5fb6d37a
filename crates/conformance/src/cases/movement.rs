//! What moves elements without computing: transposes, broadcasts, reshapes, slices, pads, concatenations, counting.

use anychip_ir::Prim;
use anychip_tensor::{DType, Tensor};

use super::{Case, add};
use crate::Random;

const TYPES: [DType; 6] = [DType::F32, DType::F64, DType::F16, DType::I8, DType::Bool, DType::U4];

fn integers(values: &[i64]) -> Tensor {
    Tensor::from_i64s(values)
}

pub(super) fn cases(all: &mut Vec<Case>) {
    for dtype in TYPES {
        let operand =
            |name: &str, shape: &[usize]| Random::new(Random::seed_of(name)).suitable(dtype, shape);
        let transposes: [(&[usize], &[usize]); 7] = [
            (&[5, 7], &[1, 0]),
            (&[65, 33], &[1, 0]),
            (&[2, 3, 5], &[2, 0, 1]),
            (&[2, 5, 3, 8], &[0, 2, 1, 3]),
            (&[2, 3, 5, 7], &[0, 2, 3, 1]),
            (&[1, 4, 1, 6], &[3, 0, 1, 2]),
            (&[2, 0, 3], &[2, 1, 0]),
        ];
        for (shape, permutation) in transposes {
            let name = format!("transpose/{dtype} {shape:?} by {permutation:?}");
            let x = operand(&name, shape);
            add(all, name, Prim::Transpose { permutation: permutation.to_vec() }, &[x], &[]);
        }
        let broadcasts: [(&[usize], &[i64]); 6] = [
            (&[], &[3, 4]),
            (&[5], &[3, 5]),
            (&[3, 1], &[3, 9]),
            (&[1, 4, 1], &[2, 4, 6]),
            (&[2, 3], &[2, 3]),
            (&[1], &[0]),
        ];
        for (shape, target) in broadcasts {
            let name = format!("broadcast/{dtype} {shape:?} to {target:?}");
            let x = operand(&name, shape);
            add(all, name, Prim::Broadcast, &[x, integers(target)], &[1]);
        }
        for (shape, target) in
            [(&[4, 6][..], &[2, 12][..]), (&[1, 5], &[5]), (&[1], &[]), (&[0, 3], &[3, 0, 2])]
        {
            let name = format!("reshape/{dtype} {shape:?} to {target:?}");
            let x = operand(&name, shape);
            add(all, name, Prim::Reshape, &[x, integers(target)], &[1]);
        }
        slices(all, dtype);
        pads(all, dtype);
        for (axis, shapes) in [
            (0, &[&[2, 3][..], &[1, 3], &[4, 3]][..]),
            (1, &[&[2, 3, 5], &[2, 1, 5]]),
            (2, &[&[2, 3, 5], &[2, 3, 0], &[2, 3, 2]]),
            (0, &[&[3]]),
        ] {
            let name = format!("concat/{dtype} {shapes:?} along {axis}");
            let mut random = Random::new(Random::seed_of(&name));
            let operands: Vec<Tensor> = shapes.iter().map(|s| random.suitable(dtype, s)).collect();
            add(all, name, Prim::Concat { axis }, &operands, &[]);
        }
    }
    for n in [0, 1, 9] {
        add(all, format!("iota/{n} known"), Prim::Iota, &[Tensor::scalar(n as i64)], &[0]);
        add(all, format!("iota/{n} told"), Prim::Iota, &[Tensor::scalar(n as i64)], &[]);
    }
    // Sizes that only the run tells.
    let name = "reshape/told".to_string();
    let x = Random::new(Random::seed_of(&name)).suitable(DType::F32, &[4, 6]);
    add(all, name, Prim::Reshape, &[x.clone(), integers(&[3, 8])], &[]);
    let bounds = [integers(&[1, -4]), integers(&[i64::MAX, -1]), integers(&[2, 1])];
    let [starts, ends, steps] = bounds;
    add(
        all,
        "slice/told".to_string(),
        Prim::Slice { axes: vec![0, 1] },
        &[x, starts, ends, steps],
        &[],
    );
    for shape in [&[][..], &[3], &[2, 0, 5]] {
        let name = format!("shape-of/{shape:?}");
        let x = Random::new(Random::seed_of(&name)).suitable(DType::F32, shape);
        add(all, name, Prim::ShapeOf, &[x], &[]);
    }
}

fn slices(all: &mut Vec<Case>, dtype: DType) {
    // Shape, axes, starts, ends, steps.
    type Form<'a> = (&'a [usize], &'a [usize], &'a [i64], &'a [i64], &'a [i64]);
    let forms: [Form<'_>; 9] = [
        (&[9], &[0], &[2], &[7], &[1]),
        (&[9], &[0], &[-1], &[i64::MIN], &[-1]),
        (&[9], &[0], &[8], &[1], &[-3]),
        (&[4, 6], &[0], &[1], &[3], &[1]),
        (&[4, 6], &[1], &[1], &[i64::MAX], &[2]),
        (&[4, 6], &[1, 0], &[-3, 0], &[-1, 4], &[1, 3]),
        (&[2, 3, 5], &[1], &[1], &[2], &[1]),
        (&[1, 5, 4], &[1], &[2], &[4], &[1]),
        (&[4, 6], &[0], &[3], &[1], &[1]),
    ];
    for (shape, axes, starts, ends, steps) in forms {
        let name = format!("slice/{dtype} {shape:?} {axes:?} {starts:?} {ends:?} {steps:?}");
        let x = Random::new(Random::seed_of(&name)).suitable(dtype, shape);
        let operands = [x, integers(starts), integers(ends), integers(steps)];
        add(all, name, Prim::Slice { axes: axes.to_vec() }, &operands, &[1, 2, 3]);
    }
}

fn pads(all: &mut Vec<Case>, dtype: DType) {
    let forms: [(&[usize], &[i64], &[i64]); 7] = [
        (&[5], &[2], &[3]),
        (&[3, 4], &[0, 1], &[2, 0]),
        (&[2, 3, 4, 5], &[0, 0, 1, 1], &[0, 0, 1, 2]),
        (&[6, 6], &[-1, 2], &[1, -3]),
        (&[3, 3], &[0, 0], &[0, 0]),
        (&[4], &[-5], &[2]),
        (&[0, 2], &[1, 0], &[1, 0]),
    ];
    for (shape, low, high) in forms {
        let name = format!("pad/{dtype} {shape:?} {low:?} {high:?}");
        let mut random = Random::new(Random::seed_of(&name));
        let operands = [
            random.suitable(dtype, shape),
            integers(low),
            integers(high),
            random.suitable(dtype, &[]),
        ];
        add(all, name, Prim::Pad, &operands, &[1, 2]);
    }
}
