//! Dot products in every layout, convolutions in every form.

use anychip_ir::{ConvolutionDims, DotDims, Prim};
use anychip_tensor::DType;

use super::{Case, add};
use crate::Random;

pub(super) fn cases(all: &mut Vec<Case>) {
    dots(all);
    convolutions(all);
}

fn dots(all: &mut Vec<Case>) {
    // (name, left shape, right shape, batch, contracted): dims of the left, dims of the right.
    type Dims<'a> = (&'a [usize], &'a [usize]);
    type Layout<'a> = (&'a str, &'a [usize], &'a [usize], Dims<'a>, Dims<'a>);
    let layouts: [Layout<'_>; 14] = [
        ("matrices", &[5, 7], &[7, 9], (&[], &[]), (&[1], &[0])),
        ("tails", &[33, 65], &[65, 47], (&[], &[]), (&[1], &[0])),
        ("left transposed", &[7, 5], &[7, 9], (&[], &[]), (&[0], &[0])),
        ("right transposed", &[5, 7], &[9, 7], (&[], &[]), (&[1], &[1])),
        ("linear", &[2, 3, 16], &[16, 20], (&[], &[]), (&[2], &[0])),
        ("batch", &[3, 4, 5], &[3, 5, 6], (&[0], &[0]), (&[2], &[1])),
        ("heads", &[2, 5, 3, 8], &[2, 6, 3, 8], (&[0, 2], &[0, 2]), (&[3], &[3])),
        ("two sums", &[4, 3, 5], &[3, 5, 2], (&[], &[]), (&[1, 2], &[0, 1])),
        ("crossed sums", &[4, 3, 5], &[5, 3, 2], (&[], &[]), (&[1, 2], &[1, 0])),
        ("vectors", &[11], &[11], (&[], &[]), (&[0], &[0])),
        ("matrix vector", &[9, 11], &[11], (&[], &[]), (&[1], &[0])),
        ("vector matrix", &[11], &[11, 9], (&[], &[]), (&[0], &[0])),
        ("outer", &[4], &[5], (&[], &[]), (&[], &[])),
        ("nothing summed", &[4, 0], &[0, 5], (&[], &[]), (&[1], &[0])),
    ];
    for (name, left, right, batch, contract) in layouts {
        let dims = DotDims {
            lhs_batch: batch.0.to_vec(),
            rhs_batch: batch.1.to_vec(),
            lhs_contract: contract.0.to_vec(),
            rhs_contract: contract.1.to_vec(),
        };
        for (a, b, output) in [
            (DType::F32, DType::F32, DType::F32),
            (DType::F64, DType::F64, DType::F64),
            (DType::F16, DType::F16, DType::F16),
            (DType::I64, DType::I64, DType::I64),
            (DType::U8, DType::I8, DType::I32),
        ] {
            for constants in [&[][..], &[0], &[1]] {
                if output != DType::F32 && !constants.is_empty() {
                    continue;
                }
                let name = format!("dot-general/{name}/{output} constant {constants:?}");
                let mut random = Random::new(Random::seed_of(&name));
                let operands = [random.suitable(a, left), random.suitable(b, right)];
                add(all, name, Prim::DotGeneral(dims.clone(), output), &operands, constants);
            }
        }
    }
}

/// Strides, padding, dilation, input dilation, groups.
type Form<'a> = (&'a [usize], &'a [(i64, i64)], &'a [usize], &'a [usize], usize);

fn convolutions(all: &mut Vec<Case>) {
    let forms: [(&str, &[usize], &[usize], Form<'_>); 13] = [
        ("plain", &[1, 3, 9, 11], &[5, 3, 3, 3], (&[1, 1], &[(1, 1), (1, 1)], &[1, 1], &[1, 1], 1)),
        (
            "batch, strides",
            &[2, 4, 13, 10],
            &[6, 4, 3, 3],
            (&[2, 2], &[(1, 1), (0, 1)], &[1, 1], &[1, 1], 1),
        ),
        (
            "pointwise",
            &[1, 16, 7, 7],
            &[20, 16, 1, 1],
            (&[1, 1], &[(0, 0), (0, 0)], &[1, 1], &[1, 1], 1),
        ),
        (
            "pointwise, strides",
            &[1, 8, 7, 7],
            &[9, 8, 1, 1],
            (&[2, 2], &[(0, 0), (0, 0)], &[1, 1], &[1, 1], 1),
        ),
        ("stem", &[1, 3, 23, 23], &[8, 3, 7, 7], (&[2, 2], &[(3, 3), (3, 3)], &[1, 1], &[1, 1], 1)),
        (
            "depthwise",
            &[1, 6, 9, 9],
            &[6, 1, 3, 3],
            (&[1, 1], &[(1, 1), (1, 1)], &[1, 1], &[1, 1], 6),
        ),
        (
            "depthwise, strides",
            &[2, 6, 11, 11],
            &[12, 1, 5, 5],
            (&[2, 2], &[(2, 2), (2, 2)], &[1, 1], &[1, 1], 6),
        ),
        ("groups", &[1, 8, 7, 7], &[6, 4, 3, 3], (&[1, 1], &[(1, 1), (1, 1)], &[1, 1], &[1, 1], 2)),
        (
            "dilation",
            &[1, 3, 15, 15],
            &[4, 3, 3, 3],
            (&[1, 1], &[(2, 2), (2, 2)], &[2, 2], &[1, 1], 1),
        ),
        (
            "transposed",
            &[1, 3, 5, 5],
            &[4, 3, 3, 3],
            (&[1, 1], &[(1, 2), (2, 1)], &[1, 1], &[2, 2], 1),
        ),
        (
            "cropped",
            &[1, 3, 9, 9],
            &[4, 3, 3, 3],
            (&[1, 1], &[(-1, 0), (0, -2)], &[1, 1], &[1, 1], 1),
        ),
        ("one dim", &[2, 4, 19], &[5, 4, 3], (&[1], &[(1, 1)], &[1], &[1], 1)),
        (
            "three dims",
            &[1, 2, 5, 6, 7],
            &[3, 2, 2, 3, 3],
            (&[1, 2, 1], &[(0, 1), (1, 1), (1, 1)], &[1; 3], &[1; 3], 1),
        ),
    ];
    for (name, x, w, (strides, padding, dilation, input_dilation, groups)) in forms {
        let dims = ConvolutionDims {
            strides: strides.to_vec(),
            padding: padding.to_vec(),
            dilation: dilation.to_vec(),
            input_dilation: input_dilation.to_vec(),
            groups,
        };
        for (a, b, output, constants) in [
            (DType::F32, DType::F32, DType::F32, &[1][..]),
            (DType::F32, DType::F32, DType::F32, &[]),
            (DType::F64, DType::F64, DType::F64, &[1]),
            (DType::F16, DType::F16, DType::F16, &[1]),
            (DType::U8, DType::I8, DType::I32, &[1]),
        ] {
            let name = format!("convolution/{name}/{output} constant {constants:?}");
            let mut random = Random::new(Random::seed_of(&name));
            let operands = [random.suitable(a, x), random.suitable(b, w)];
            add(all, name, Prim::Convolution(dims.clone(), output), &operands, constants);
        }
    }
}
