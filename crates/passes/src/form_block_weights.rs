//! Products with weights that are dequantized block by block become one operator, whose kernels read the codes.

use anychip_ir::{Builder, Graph, IrError, Prim, ValueId};
use anychip_ops::BlockWeightsDot;
use anychip_tensor::DType;

use crate::matching::prim;
use crate::{Outcome, Site, replace};

pass! {
    /// `dot(x, reshape(d(codes, scales, zeros))) => block-weights-dot(x, codes, scales, zeros)` for constant codes of 4 or 8 bits
    /// `[m, blocks, block]` with a scale a block, where `d` is dequantize; the part of each row that is read may be cut
    pub(crate) const FORM_BLOCK_WEIGHTS = "form-block-weights", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    replace(graph, &mut rule)
}

fn rule(b: &mut Builder, site: &Site<'_>) -> Result<Option<ValueId>, IrError> {
    let graph = site.graph;
    let Some(Prim::DotGeneral(dims, DType::F32)) = site.node.op.prim() else { return Ok(None) };
    let &[x, matrix] = &site.node.inputs[..] else { return Ok(None) };
    let last = graph.ty(x).rank().checked_sub(1);
    if !dims.lhs_batch.is_empty()
        || Some(dims.lhs_contract.as_slice()) != last.as_ref().map(std::slice::from_ref)
        || graph.ty(matrix).rank() != 2
    {
        return Ok(None);
    }
    let mut source = matrix;
    let [along] = dims.rhs_contract[..] else { return Ok(None) };
    // A transpose before the product.
    let mut rows_first = along == 1;
    if let Some((Prim::Transpose { permutation }, node)) = prim(graph, source)
        && permutation == &[1, 0]
    {
        (source, rows_first) = (node.inputs[0], !rows_first);
    }
    if let Some((Prim::Slice { axes }, node)) = prim(graph, source)
        && axes == &[1]
        && graph.constant_integers(node.inputs[1]).as_deref() == Some(&[0])
        && graph.constant_integers(node.inputs[3]).as_deref() == Some(&[1])
    {
        source = node.inputs[0];
    }
    let Some((Prim::Reshape, shaped)) = prim(graph, source).filter(|_| rows_first) else {
        return Ok(None);
    };
    let Some((Prim::Dequantize { to: DType::F32 }, node)) = prim(graph, shaped.inputs[0]) else {
        return Ok(None);
    };
    let &[codes, scales, zeros] = &node.inputs[..] else { return Ok(None) };
    let Some([rows, blocks, block]) = graph
        .constant(codes)
        .map(|t| t.shape().to_vec())
        .and_then(|shape| <[usize; 3]>::try_from(shape).ok())
    else {
        return Ok(None);
    };
    let four_or_eight =
        matches!(graph.ty(codes).dtype, DType::I4 | DType::U4 | DType::I8 | DType::U8);
    let scaled = graph.constant(scales).is_some_and(|t| t.shape() == [rows, blocks, 1]);
    let whole = graph.ty(source).fixed_shape() == Some(vec![rows, blocks * block]);
    if !(four_or_eight && scaled && whole && graph.constant(zeros).is_some()) {
        return Ok(None);
    }
    let operands = [x, codes, scales, zeros].map(|v| site.new_value(v));
    let y = b.composite(BlockWeightsDot {}, &operands)?;
    Ok((b.ty(y) == graph.ty(site.node.outputs[0])).then_some(y))
}
