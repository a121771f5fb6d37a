//! Reading and writing at indices, and where elements are not zero.

use anychip_ir::{Combine, Prim};
use anychip_tensor::{DType, Tensor};

use super::{Case, add};
use crate::Random;

pub(super) fn cases(all: &mut Vec<Case>) {
    for dtype in [DType::F32, DType::F16, DType::I64, DType::U8, DType::Bool] {
        for (shape, axis, indices) in [
            (&[7, 5][..], 0, &[3][..]),
            (&[4, 9, 2], 1, &[2, 3]),
            (&[6], 0, &[]),
            (&[3, 4], 1, &[0]),
        ] {
            let name = format!("take/{dtype} {shape:?} axis {axis} at {indices:?}");
            let mut random = Random::new(Random::seed_of(&name));
            let operands = [random.suitable(dtype, shape), random.indices(indices, shape[axis])];
            add(all, name.clone(), Prim::Take { axis }, &operands, &[]);
            let narrow = Tensor::from_integers(DType::I32, indices, &operands[1].to_integers())
                .expect("small");
            add(
                all,
                format!("{name} i32"),
                Prim::Take { axis },
                &[operands[0].clone(), narrow],
                &[],
            );
        }
        for (shape, axis, indices) in
            [(&[7, 5][..], 0, &[3, 5][..]), (&[4, 9, 2], 1, &[4, 3, 2]), (&[5, 6], 1, &[2, 6])]
        {
            let name = format!("take-along/{dtype} {shape:?} axis {axis} at {indices:?}");
            let mut random = Random::new(Random::seed_of(&name));
            let operands = [random.suitable(dtype, shape), random.indices(indices, shape[axis])];
            add(all, name, Prim::TakeAlong { axis }, &operands, &[]);
        }
        for (shape, batch, indices) in
            [(&[4, 4, 3][..], 0, &[5, 2][..]), (&[2, 4, 4], 1, &[2, 3, 2]), (&[4, 4], 0, &[1])]
        {
            let name = format!("gather-nd/{dtype} {shape:?} batch {batch} at {indices:?}");
            let mut random = Random::new(Random::seed_of(&name));
            let operands = [random.suitable(dtype, shape), random.indices(indices, 4)];
            add(all, name, Prim::GatherNd { batch }, &operands, &[]);
        }
        for shape in [&[2, 3, 4][..], &[5], &[0, 3], &[]] {
            let name = format!("non-zero/{dtype} {shape:?}");
            let x = Random::new(Random::seed_of(&name)).tensor(dtype, shape, 0.0, 1.6);
            add(all, name, Prim::NonZero, &[x], &[]);
        }
    }
    for (combine, name) in Combine::ALL {
        for dtype in [DType::F32, DType::I64, DType::I32, DType::F16] {
            let name = format!("scatter-along/{name}/{dtype}");
            let mut random = Random::new(Random::seed_of(&name));
            // Distinct indices down each column where the last one written would win.
            let indices =
                Tensor::from_vec([2, 3], vec![0i64, -1, 2, 3, 1, 0]).expect("six elements");
            let operands =
                [random.suitable(dtype, &[5, 3]), indices, random.suitable(dtype, &[2, 3])];
            add(all, name, Prim::ScatterAlong { axis: 0, combine }, &operands, &[]);
        }
        for dtype in [DType::F32, DType::I64, DType::I32, DType::F16] {
            let name = format!("scatter-nd/{name}/{dtype}");
            let mut random = Random::new(Random::seed_of(&name));
            let indices =
                Tensor::from_vec([3, 2], vec![0i64, 1, -1, 0, 2, 2]).expect("six elements");
            let operands =
                [random.suitable(dtype, &[4, 3, 5]), indices, random.suitable(dtype, &[3, 5])];
            add(all, name, Prim::ScatterNd { combine }, &operands, &[]);
        }
        let name = format!("scatter-nd/{name}/same place");
        let mut random = Random::new(Random::seed_of(&name));
        let indices = Tensor::from_vec([3, 1], vec![1i64, 1, 1]).expect("three elements");
        let operands =
            [random.suitable(DType::F32, &[3]), indices, random.suitable(DType::F32, &[3])];
        add(all, name, Prim::ScatterNd { combine }, &operands, &[]);
    }
}
