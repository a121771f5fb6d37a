//! Every element type to every other, on values that both can hold and on some that the target must round or saturate.

use anychip_ir::Prim;
use anychip_tensor::{DType, Tensor};

use super::{Case, add};
use crate::Random;

pub(super) fn cases(all: &mut Vec<Case>) {
    for from in DType::ALL {
        for to in DType::ALL {
            let name = format!("cast/{from} {to}");
            let mut random = Random::new(Random::seed_of(&name));
            let x = if from == DType::Bool {
                random.suitable(from, &[37])
            } else {
                random.tensor(from, &[37], -3.0, 3.0)
            };
            add(all, name, Prim::cast(to), &[x], &[]);
        }
    }
    let wide = [
        -1e10,
        -300.7,
        -129.0,
        -1.5,
        -0.5,
        0.5,
        1.5,
        127.5,
        255.9,
        300.0,
        1e10,
        f64::NAN,
        f64::INFINITY,
    ];
    for to in DType::ALL {
        let x = Tensor::from_f64(DType::F32, [wide.len()], &wide).expect("a small vector");
        add(all, format!("cast/f32 {to}/wide"), Prim::cast(to), &[x], &[]);
        let x = Tensor::from_i64s(&[i64::MIN, -300, -1, 0, 1, 200, 70_000, 1 << 40, i64::MAX]);
        add(all, format!("cast/i64 {to}/wide"), Prim::cast(to), &[x], &[]);
    }
    for (from, to) in [
        (DType::F32, DType::I32),
        (DType::U8, DType::I8),
        (DType::F16, DType::BF16),
        (DType::I64, DType::F64),
    ] {
        let name = format!("bit-cast/{from} {to}");
        let x = Random::new(Random::seed_of(&name)).suitable(from, &[3, 5]);
        // Read back as it was, so that no pattern of a NaN is compared.
        let mut b = anychip_ir::Builder::new(&name);
        let input = b.input("x", anychip_ir::TensorType::of(&x));
        let result = b
            .prim(Prim::BitCast { to }, &[input])
            .and_then(|y| b.prim(Prim::BitCast { to: from }, &[y]))
            .unwrap_or_else(|error| panic!("case {name} does not build: {error}"));
        let graph = b.finish(&[result]);
        all.push(Case {
            seed: Random::seed_of(&name),
            name,
            graph,
            inputs: vec![vec![x]],
            slack: 1.0,
        });
    }
}
