//! Functions of one element at a time, each member on every type it takes, with broadcasting and odd sizes.

use anychip_ir::{Binary, Compare, Prim, Unary};
use anychip_tensor::{DType, Tensor};

use super::{Case, add};
use crate::Random;

const NUMBERS: [DType; 12] = [
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::I64,
    DType::I32,
    DType::I16,
    DType::I8,
    DType::U64,
    DType::U32,
    DType::U16,
    DType::U8,
];

pub(super) fn cases(all: &mut Vec<Case>) {
    for (op, name) in Unary::ALL {
        unary(all, op, name);
    }
    for (op, name) in Binary::ALL {
        binary(all, op, name);
    }
    for (op, name) in Compare::ALL {
        for dtype in NUMBERS.into_iter().chain([DType::Bool]) {
            pairs(all, &format!("{name}/{dtype}"), Prim::Compare(op), dtype, dtype, (-3.0, 3.0));
        }
    }
    for dtype in NUMBERS.into_iter().chain([DType::Bool, DType::F8E4M3FN, DType::I4]) {
        for (condition, a, b) in [
            (&[3, 5][..], &[3, 5][..], &[3, 5][..]),
            (&[4, 1], &[1, 33], &[]),
            (&[], &[2, 3], &[3]),
        ] {
            let name = format!("select/{dtype}/{condition:?} {a:?} {b:?}");
            let mut random = Random::new(Random::seed_of(&name));
            let operands = [
                random.suitable(DType::Bool, condition),
                random.suitable(dtype, a),
                random.suitable(dtype, b),
            ];
            add(all, name, Prim::Select, &operands, &[]);
        }
    }
}

fn unary(all: &mut Vec<Case>, op: Unary, name: &str) {
    let (low, high) = match op {
        Unary::Log | Unary::Sqrt => (0.01, 9.0),
        Unary::Acosh => (1.0, 9.0),
        Unary::Asin | Unary::Acos | Unary::Atanh => (-0.95, 0.95),
        Unary::Tan => (-1.4, 1.4),
        _ => (-4.0, 4.0),
    };
    let types: Vec<DType> = match op {
        Unary::Neg | Unary::Abs | Unary::Sign => NUMBERS.to_vec(),
        Unary::Not => NUMBERS[4..].iter().copied().chain([DType::Bool]).collect(),
        _ => NUMBERS[..4].to_vec(),
    };
    for dtype in types {
        for shape in [&[][..], &[1], &[7], &[3, 43], &[2, 0, 3]] {
            let name = format!("{name}/{dtype}/{shape:?}");
            let mut random = Random::new(Random::seed_of(&name));
            let x = if dtype == DType::Bool {
                random.suitable(dtype, shape)
            } else if dtype.is_unsigned_integer() {
                random.tensor(dtype, shape, 0.0, 9.0)
            } else {
                random.tensor(dtype, shape, low, high)
            };
            add(all, name, Prim::Unary(op), &[x], &[]);
        }
        if dtype.is_float() {
            let special =
                [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5];
            let x = Tensor::from_f64(dtype, [special.len()], &special).expect("a small vector");
            add(all, format!("{name}/{dtype}/special"), Prim::Unary(op), &[x], &[]);
        }
    }
}

fn binary(all: &mut Vec<Case>, op: Binary, name: &str) {
    let (types, range): (Vec<DType>, (f64, f64)) = match op {
        Binary::And | Binary::Or | Binary::Xor => {
            (NUMBERS[4..].iter().copied().chain([DType::Bool]).collect(), (-9.0, 9.0))
        }
        Binary::ShiftLeft | Binary::ShiftRight => (NUMBERS[4..].to_vec(), (0.0, 9.0)),
        Binary::Max | Binary::Min => {
            (NUMBERS.iter().copied().chain([DType::Bool]).collect(), (-9.0, 9.0))
        }
        Binary::Pow => (NUMBERS.to_vec(), (0.1, 3.9)),
        Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Rem => {
            (NUMBERS.to_vec(), (-9.0, 9.0))
        }
    };
    for dtype in types {
        pairs(all, &format!("{name}/{dtype}"), Prim::Binary(op), dtype, dtype, range);
    }
    if op == Binary::Pow {
        for (base, exponent) in
            [(DType::F32, DType::I64), (DType::I64, DType::F32), (DType::F32, DType::F64)]
        {
            pairs(
                all,
                &format!("{name}/{base} {exponent}"),
                Prim::Binary(op),
                base,
                exponent,
                range,
            );
        }
    }
    if matches!(op, Binary::Max | Binary::Min | Binary::Div) {
        let (a, b) = ([1.0, f64::NAN, 0.0, -1.0, f64::INFINITY], [f64::NAN, 1.0, 0.0, 0.0, 2.0]);
        let of = |v: &[f64]| Tensor::from_f64(DType::F32, [v.len()], v).expect("a small vector");
        add(all, format!("{name}/f32/special"), Prim::Binary(op), &[of(&a), of(&b)], &[]);
    }
    if matches!(op, Binary::Div | Binary::Rem) {
        let (a, b) = (Tensor::from_i64s(&[7, -7, i64::MIN, 5]), Tensor::from_i64s(&[0, 2, -1, -3]));
        add(all, format!("{name}/i64/special"), Prim::Binary(op), &[a, b], &[]);
    }
}

/// An operator of two operands on shapes that broadcast in every way.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a table of cases reads best with its values in place"
)]
fn pairs(all: &mut Vec<Case>, name: &str, prim: Prim, a: DType, b: DType, (low, high): (f64, f64)) {
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[], &[]),
        (&[67], &[67]),
        (&[3, 5], &[]),
        (&[2, 3, 17], &[17]),
        (&[2, 3, 17], &[3, 1]),
        (&[4, 1], &[1, 5]),
        (&[1, 6], &[2, 5, 6]),
        (&[0, 3], &[1, 3]),
    ];
    for (i, (left, right)) in shapes.into_iter().enumerate() {
        let name = format!("{name}/{left:?} {right:?}");
        let mut random = Random::new(Random::seed_of(&name));
        let mut make = |dtype: DType, shape: &[usize]| {
            if dtype == DType::Bool {
                random.suitable(dtype, shape)
            } else {
                random.tensor(
                    dtype,
                    shape,
                    if dtype.is_unsigned_integer() { low.max(0.0) } else { low },
                    high,
                )
            }
        };
        let operands = [make(a, left), make(b, right)];
        // Some with a constant side, as weights are.
        let constants: &[usize] = if i % 3 == 2 { &[1] } else { &[] };
        add(all, name, prim.clone(), &operands, constants);
    }
}
