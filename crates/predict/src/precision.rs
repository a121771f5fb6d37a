//! Which number format a model computes in.

use anychip_chips::Precision;
use anychip_ir::{Graph, Node, Op, Prim};
use anychip_tensor::DType;

/// The format that most of the model's matrix arithmetic is in; of its first floating-point value where it has
/// no matrix arithmetic.
pub fn model_precision(graph: &Graph) -> Precision {
    let mut tally: Vec<(Precision, usize)> = Vec::new();
    for node in graph.nodes() {
        let Op::Prim(Prim::DotGeneral(..) | Prim::Convolution(..)) = &node.op else { continue };
        if let Some(precision) = of_dtype(operand_type(graph, node)) {
            match tally.iter_mut().find(|(p, _)| *p == precision) {
                Some((_, n)) => *n += 1,
                None => tally.push((precision, 1)),
            }
        }
    }
    tally
        .into_iter()
        .max_by_key(|(_, n)| *n)
        .map(|(precision, _)| precision)
        .or_else(|| {
            graph.values().map(|v| graph.ty(v).dtype).filter(|d| d.is_float()).find_map(of_dtype)
        })
        .unwrap_or(Precision::F32)
}

/// The type that a product's operands are stored in: of two that are dequantized from 8 bits theirs, for software runs such a
/// product in integers.
fn operand_type(graph: &Graph, node: &Node) -> DType {
    let stored = |v| {
        let source = graph.producer(v)?;
        let is_dequantized = matches!(source.op, Op::Prim(Prim::Dequantize { .. }));
        let dtype = graph.ty(*source.inputs.first()?).dtype;
        (is_dequantized && matches!(dtype, DType::I8 | DType::U8)).then_some(dtype)
    };
    match (stored(node.inputs[0]), stored(node.inputs[1])) {
        (Some(codes), Some(_)) => codes,
        _ => graph.ty(node.inputs[0]).dtype,
    }
}

fn of_dtype(dtype: DType) -> Option<Precision> {
    Some(match dtype {
        DType::F64 => Precision::F64,
        DType::F32 => Precision::F32,
        DType::F16 => Precision::F16,
        DType::BF16 => Precision::Bf16,
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => Precision::Fp8,
        DType::F4E2M1 => Precision::Fp4,
        DType::I8 | DType::U8 => Precision::Int8,
        DType::I16 | DType::U16 => Precision::Int16,
        DType::I4 | DType::U4 => Precision::Int4,
        DType::Bool
        | DType::U2
        | DType::I2
        | DType::U32
        | DType::I32
        | DType::U64
        | DType::I64
        | DType::F8E8M0
        | DType::F6E2M3
        | DType::F6E3M2 => return None,
    })
}
