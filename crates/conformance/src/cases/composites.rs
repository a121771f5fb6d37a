//! Every composite of `anychip_ops::ROWS` with its example settings.
//!
//! Operands come from the table below, or, for a composite that is not in it, from the first of a few usual operand lists
//! that its expansion accepts. A composite that accepts none of them needs a row here, and the suite says so.

use anychip_ir::{Builder, CompositeRow, Op, TensorType};
use anychip_tensor::{DType, Dim, Tensor};

use super::Case;
use crate::Random;

/// Shape and type of an operand.
type Operand = (&'static [usize], DType);

/// Shapes of the operands of composites that take others than usual; `f32` unless said.
const OPERANDS: &[(&str, &[Operand])] = &[
    (
        "attention",
        &[(&[2, 4, 5, 8], DType::F32), (&[2, 2, 7, 8], DType::F32), (&[2, 2, 7, 6], DType::F32)],
    ),
    ("batch-norm", &[F(&[2, 3, 5, 5]), F(&[3]), F(&[3]), F(&[3]), F(&[3])]),
    (
        "block-weights-dot",
        &[F(&[2, 3, 11]), (&[5, 3, 4], DType::U4), F(&[5, 3, 1]), (&[], DType::U4)],
    ),
    (
        "cached-attention",
        &[F(&[2, 4, 2, 8]), F(&[2, 2, 5, 8]), F(&[2, 2, 5, 6]), F(&[2, 2, 2, 8]), F(&[2, 2, 2, 6])],
    ),
    ("conv-transpose", &[F(&[1, 3, 5, 6]), F(&[3, 4, 3, 3])]),
    ("deformable-conv", &[F(&[2, 3, 7, 7]), F(&[4, 3, 3, 3]), F(&[2, 18, 7, 7])]),
    ("determinant", &[F(&[2, 4, 4])]),
    ("dft", &[F(&[2, 8, 3, 1])]),
    ("expert-product", &[F(&[6, 5]), F(&[3, 5, 4]), (&[6], DType::I64)]),
    ("grid-sample", &[F(&[2, 3, 6, 5]), F(&[2, 4, 4, 2])]),
    ("group-norm", &[F(&[2, 4, 5, 3]), F(&[4]), F(&[4])]),
    ("gru", &[F(&[6, 2, 5]), F(&[1, 12, 5]), F(&[1, 12, 4]), F(&[1, 24]), F(&[1, 2, 4])]),
    ("layer-norm", &[F(&[3, 33]), F(&[33]), F(&[33])]),
    (
        "linear-attention",
        &[
            F(&[5, 2, 4, 3]),
            F(&[5, 2, 2, 3]),
            F(&[5, 2, 2, 6]),
            F(&[2, 2, 3, 6]),
            F(&[5, 2, 2, 1]),
            F(&[5, 2, 2, 1]),
        ],
    ),
    (
        "lstm",
        &[F(&[6, 2, 5]), F(&[1, 16, 5]), F(&[1, 16, 4]), F(&[1, 32]), F(&[1, 2, 4]), F(&[1, 2, 4])],
    ),
    ("max-pool-indices", &[F(&[2, 3, 6, 8])]),
    ("non-max-suppression", &[F(&[2, 9, 4]), F(&[2, 3, 9]), (&[], DType::I64), F(&[]), F(&[])]),
    ("quantized-add", &[(&[2, 3, 5, 7], DType::U8), (&[2, 3, 5, 7], DType::U8)]),
    (
        "quantized-convolution",
        &[
            (&[2, 3, 8, 9], DType::U8),
            (&[5, 3, 3, 3], DType::I8),
            (&[5], DType::I32),
            (&[5], DType::I32),
            (&[5], DType::I32),
        ],
    ),
    (
        "quantized-dot",
        &[
            (&[4, 9], DType::U8),
            (&[9, 5], DType::I8),
            (&[5], DType::I32),
            (&[5], DType::I32),
            (&[5], DType::I32),
        ],
    ),
    ("quantized-mean", &[(&[2, 3, 4, 7], DType::U8)]),
    ("rms-norm", &[F(&[3, 33]), F(&[33])]),
    ("rnn", &[F(&[6, 2, 5]), F(&[1, 4, 5]), F(&[1, 4, 4]), F(&[1, 8]), F(&[1, 2, 4])]),
    ("roi-align", &[F(&[2, 3, 9, 8]), F(&[4, 4]), (&[4], DType::I64)]),
    ("rotary-embedding", &[F(&[2, 3, 5, 16]), F(&[5, 4]), F(&[5, 4])]),
];

#[allow(non_snake_case, reason = "reads as a type in the table")]
const fn F(shape: &[usize]) -> (&[usize], DType) {
    (shape, DType::F32)
}

/// Operand lists that most composites take one of.
const USUAL: &[&[&[usize]]] = &[
    &[&[2, 3, 8, 9]],
    &[&[4, 9]],
    &[&[2, 4, 6]],
    &[&[3, 3]],
    &[&[2, 3, 8, 9], &[2, 3, 8, 9]],
    &[&[4, 9], &[9]],
    &[&[4, 9], &[9, 5]],
    &[&[2, 3, 8, 9], &[2, 5, 6, 2]],
    &[&[2, 3, 8, 9], &[3], &[3]],
    &[&[2, 4, 5, 8], &[2, 4, 7, 8], &[2, 4, 7, 8]],
];

pub(super) fn cases(all: &mut Vec<Case>) {
    for row in anychip_ops::ROWS {
        let (fixed, named) = build(row).unwrap_or_else(|| {
            panic!("no operands are known for the composite {}: give it a row in conformance/src/cases/composites.rs", row.name)
        });
        all.push(fixed);
        all.extend(named);
    }
}

/// A case of the composite at fixed sizes, and where it can be built so, one with a named first dim run at two sizes.
fn build(row: &CompositeRow) -> Option<(Case, Option<Case>)> {
    let usual: Vec<Vec<(&[usize], DType)>> =
        USUAL.iter().map(|list| list.iter().map(|&shape| (shape, DType::F32)).collect()).collect();
    let given = OPERANDS
        .iter()
        .filter(|(name, _)| *name == row.name)
        .map(|(_, operands)| operands.to_vec());
    for operands in given.chain(usual) {
        if let Some(case) = fixed(row, &operands) {
            let first = operands[0].0[0];
            let shares: Vec<bool> =
                operands.iter().map(|(shape, _)| shape.len() > 2 && shape[0] == first).collect();
            return Some((case, named(row, &operands, &shares)));
        }
    }
    None
}

fn operand(random: &mut Random, shape: &[usize], dtype: DType) -> Tensor {
    if dtype.is_float() {
        // Positive, so that every composite is defined on it (variances, for one).
        random.tensor(dtype, shape, 0.1, 1.1)
    } else if dtype == DType::I32 {
        // Parameters of a requantization: shifts of at least 1.
        random.tensor(dtype, shape, 10.0, 12.0)
    } else if matches!(dtype, DType::I8 | DType::U8) {
        random.tensor(dtype, shape, 0.0, 120.0)
    } else {
        // An index into a dim of two, or as a scalar a small number of things.
        let low = if shape.is_empty() { 3.0 } else { 0.0 };
        random.tensor(dtype, shape, low, low + 2.0)
    }
}

fn fixed(row: &CompositeRow, operands: &[(&[usize], DType)]) -> Option<Case> {
    let name = format!("{}/example", row.name);
    let seed = Random::seed_of(&name);
    let mut random = Random::new(seed);
    let tensors: Vec<Tensor> =
        operands.iter().map(|&(shape, dtype)| operand(&mut random, shape, dtype)).collect();
    let mut b = Builder::new(&name);
    let values: Vec<_> = tensors
        .iter()
        .enumerate()
        .map(|(i, t)| b.input(&format!("x{i}"), TensorType::of(t)))
        .collect();
    let results = b.node(Op::Composite((row.example)()), &values, Vec::new()).ok()?;
    let graph = b.finish(&results);
    // Some expansions only fail on values; those operands are not the right ones either.
    anychip_ir::evaluate(&graph, &tensors).ok()?;
    Some(Case { name, graph, inputs: vec![tensors], slack: 10.0, seed })
}

fn named(row: &CompositeRow, operands: &[(&[usize], DType)], shares: &[bool]) -> Option<Case> {
    if !shares[0] {
        return None;
    }
    let name = format!("{}/named size", row.name);
    let seed = Random::seed_of(&name);
    let mut random = Random::new(seed);
    let mut b = Builder::new(&name);
    let values: Vec<_> = operands
        .iter()
        .zip(shares)
        .enumerate()
        .map(|(i, (&(shape, dtype), &shared))| {
            let mut dims: Vec<Dim> = shape.iter().map(|&n| Dim::Fixed(n)).collect();
            if shared {
                dims[0] = Dim::sym("n");
            }
            b.input(&format!("x{i}"), TensorType { dtype, shape: dims })
        })
        .collect();
    let results = b.node(Op::Composite((row.example)()), &values, Vec::new()).ok()?;
    let graph = b.finish(&results);
    let inputs: Vec<Vec<Tensor>> = [1, 3]
        .map(|n| {
            operands
                .iter()
                .zip(shares)
                .map(|(&(shape, dtype), &shared)| {
                    let mut shape = shape.to_vec();
                    if shared {
                        shape[0] = n;
                    }
                    operand(&mut random, &shape, dtype)
                })
                .collect()
        })
        .into();
    inputs.iter().all(|set| anychip_ir::evaluate(&graph, set).is_ok()).then_some(Case {
        name,
        graph,
        inputs,
        slack: 10.0,
        seed,
    })
}
