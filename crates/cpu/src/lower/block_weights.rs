//! Products with weights of a few bits.

use std::sync::Arc;

use anychip_ir::{Graph, IrError, Node, ValueId};
use anychip_tensor::{DType, Tensor};

use super::{Cx, Lowered};
use crate::kernel::block_weights::BlockWeights;
use crate::kernel::gemm::Gemm;
use crate::step::{Io, Kernel};

/// Whether the weights are constants of 4 or 8 bits with a scale a block.
pub(super) fn claims(node: &Node, graph: &Graph) -> bool {
    let &[x, codes, scales, zeros] = node.inputs.as_slice() else { return false };
    let constant = |v: ValueId| graph.constant(v);
    let (Some(codes), Some(scales), Some(zeros)) =
        (constant(codes), constant(scales), constant(zeros))
    else {
        return false;
    };
    let &[rows, blocks, block] = codes.shape() else { return false };
    let count = rows * blocks;
    graph.ty(x).dtype == DType::F32
        && matches!(codes.dtype(), DType::I4 | DType::U4 | DType::I8 | DType::U8)
        && zeros.dtype() == codes.dtype()
        && scales.dtype() == DType::F32
        && scales.shape() == [rows, blocks, 1]
        && [1, count].contains(&zeros.len())
        && count * block > 0
}

pub(super) fn lower(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let &[x, codes, scales, zeros] = node.inputs.as_slice() else { return None };
    let (codes, scales, zeros) = (cx.constant(codes)?, cx.constant(scales)?, cx.constant(zeros)?);
    let &[filters, blocks, block] = codes.shape() else { return None };
    let (k, outer) = cx.shape(x).split_last()?;
    let rows = outer.iter().product();
    let packed = cx.shared.weights.packed(
        codes,
        "blocks of few bits",
        &[scales.bytes().as_ptr() as usize, zeros.bytes().as_ptr() as usize],
        || pack(codes, scales, zeros),
    );
    let weights = Some(packed).filter(|packed| packed.is_some())?;
    let ready = weights.as_ref().as_ref()?;
    let many = ready.many_rows(cx.shared.simd, cx.threads(), (rows, *k));
    let scratch = many.as_ref().map_or(ready.scratch_len(rows), Gemm::scratch_len) * 4;
    Some(Lowered {
        scratch,
        detail: format!(
            "{rows}×{filters}×{k}, {} with {blocks} scales a row of blocks of {block}, {}{}",
            codes.dtype(),
            cx.shared.simd.name(),
            if many.is_some() { ", made floats as they are packed" } else { "" }
        ),
        ..Lowered::new(
            "product with blocks of few bits",
            Product { weights, many, rows, k: *k },
            &[x],
        )
    })
}

fn pack(codes: &Tensor, scales: &Tensor, zeros: &Tensor) -> Option<BlockWeights> {
    let &[filters, blocks, block] = codes.shape() else { return None };
    let four_bits = codes.dtype().storage_bits() == 4;
    let signed = codes.dtype().is_signed_integer();
    let values = codes.codes();
    let wide = move |code: u8| match (four_bits, signed) {
        (true, true) => i32::from(((code << 4) as i8) >> 4),
        (false, true) => i32::from(code as i8),
        _ => i32::from(code),
    };
    let zeros = zeros.to_i64();
    let zero = |b: usize| zeros[if zeros.len() == 1 { 0 } else { b }] as i32;
    let scales = scales.elements::<f32>()?.into_owned();
    BlockWeights::new((filters, blocks, block), four_bits, scales, &|i| wide(values[i]), &zero)
}

struct Product {
    weights: Arc<Option<BlockWeights>>,
    /// Where the rows are many.
    many: Option<Gemm>,
    rows: usize,
    k: usize,
}

impl Kernel for Product {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let Some(weights) = self.weights.as_ref() else { return Ok(()) };
        let (rows, k) = (self.rows, self.k);
        let (x, out, scratch) = (io.operand(0), io.result(0), io.scratch());
        match &self.many {
            Some(gemm) => weights.run_many(gemm, k, x, out, scratch, io.pool),
            None => weights.run(io.simd, (rows, k), x, out, scratch, io.pool),
        }
        Ok(())
    }
}
