//! Quantize, dequantize and the integer requantization, exact but where floats come out.

use anychip_ir::Prim;
use anychip_tensor::{DType, Tensor};

use super::{Case, add};
use crate::Random;

pub(super) fn cases(all: &mut Vec<Case>) {
    let integers = [DType::I8, DType::U8, DType::I16, DType::U16, DType::I4, DType::U4];
    for to in integers {
        for scale_shape in [&[][..], &[3, 1]] {
            let name = format!("quantize/{to} scale {scale_shape:?}");
            let mut random = Random::new(Random::seed_of(&name));
            let zero = if to.is_signed_integer() { 1.0 } else { 3.0 };
            let operands = [
                random.tensor(DType::F32, &[3, 21], -9.0, 9.0),
                random.tensor(DType::F32, scale_shape, 0.03, 0.5),
                Tensor::from_f64(to, [], &[zero]).expect("a scalar"),
            ];
            add(all, name, Prim::Quantize { to, saturate: true }, &operands, &[1, 2]);
            let name = format!("dequantize/{to} scale {scale_shape:?}");
            let mut random = Random::new(Random::seed_of(&name));
            let operands = [
                random.suitable(to, &[3, 21]),
                random.tensor(DType::F32, scale_shape, 0.03, 0.5),
                Tensor::from_f64(to, [], &[zero]).expect("a scalar"),
            ];
            add(all, name, Prim::Dequantize { to: DType::F32 }, &operands, &[1, 2]);
        }
    }
    for to in [DType::I8, DType::U8] {
        let name = format!("requantize/{to}");
        let mut random = Random::new(Random::seed_of(&name));
        let operands = [
            random.tensor(DType::I32, &[3, 33], -40_000.0, 40_000.0),
            random.tensor(DType::I32, &[3, 1], 1_000_000.0, 9_000_000.0),
            random.tensor(DType::I32, &[3, 1], 28.0, 31.9),
            Tensor::from_f64(DType::I32, [], &[2.0]).expect("a scalar"),
        ];
        add(all, name, Prim::Requantize { to }, &operands, &[1, 2, 3]);
    }
}
