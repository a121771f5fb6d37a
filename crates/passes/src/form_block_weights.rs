//! Products with weights that are dequantized block by block become one operator, whose kernels read the codes.

use anychip_ir::{Builder, Graph, IrError, Op, Prim, ValueId, evaluate_node};
use anychip_ops::BlockWeightsDot;
use anychip_tensor::{DType, Tensor};

use crate::matching::{is_identity, prim, reshape, transpose};
use crate::{Outcome, Site, replace};

pass! {
    /// `dot(x, m(d(codes, scales, zeros))) => block-weights-dot(x, codes', scales', zeros')` for constant codes of 4 or 8 bits with
    /// a scale for each block of what is summed over, where `d` is dequantize and `m` makes its results a matrix; codes' are in the
    /// order `[m, blocks, block]`, and the part of each row that is read may be cut
    pub(crate) const FORM_BLOCK_WEIGHTS = "form-block-weights", run;
}

fn run(graph: &Graph) -> Result<Outcome, IrError> {
    replace(graph, &mut rule)
}

fn rule(b: &mut Builder, site: &Site<'_>) -> Result<Option<ValueId>, IrError> {
    let graph = site.graph;
    let Some(Prim::DotGeneral(dims, DType::F32)) = site.node.op.prim() else { return Ok(None) };
    let (&[x, matrix], &[along]) = (&site.node.inputs[..], &dims.rhs_contract[..]) else {
        return Ok(None);
    };
    let last = graph.ty(x).rank().checked_sub(1);
    if !dims.lhs_batch.is_empty()
        || Some(dims.lhs_contract.as_slice()) != last.as_ref().map(std::slice::from_ref)
        || graph.ty(matrix).rank() != 2
    {
        return Ok(None);
    }
    let Some(weights) = block_weights(graph, matrix, along)? else { return Ok(None) };
    let mut operands = vec![site.new_value(x)];
    operands.extend(weights.map(|part| match part {
        Part::Old(value) => site.new_value(value),
        Part::New(tensor) => b.constant(tensor),
    }));
    let y = b.composite(BlockWeightsDot {}, &operands)?;
    Ok((b.ty(y) == graph.ty(site.node.outputs[0])).then_some(y))
}

/// A constant of the graph, or one in another order.
enum Part {
    Old(ValueId),
    New(Tensor),
}

/// Codes `[m, blocks, block]` with scales and zeros of the matrix `v`, of which dim `along` is summed over.
fn block_weights(
    graph: &Graph,
    v: ValueId,
    mut along: usize,
) -> Result<Option<[Part; 3]>, IrError> {
    let mut source = v;
    loop {
        if let Some((x, [1, 0])) = transpose(graph, source) {
            (source, along) = (x, 1 - along);
        } else if let Some(x) = cut(graph, source, along) {
            source = x;
        } else {
            break;
        }
    }
    let whole = graph.ty(source).fixed_shape();
    let restored = reshape(graph, source).unwrap_or(source);
    let Some((Prim::Dequantize { to: DType::F32 }, node)) = prim(graph, restored) else {
        return Ok(None);
    };
    let [Some(codes), Some(scales), Some(zeros)] =
        [0, 1, 2].map(|i| node.inputs.get(i).and_then(|&v| graph.constant(v)))
    else {
        return Ok(None);
    };
    if !matches!(codes.dtype(), DType::I4 | DType::U4 | DType::I8 | DType::U8) {
        return Ok(None);
    }
    // The dims of the codes that are rows, blocks and places in a block, where a matrix has one block a row.
    let (split, order) = match *codes.shape() {
        [k, n] if along == 0 => ([1, k, n], [2, 0, 1]),
        [n, k] => ([n, 1, k], [0, 1, 2]),
        [blocks, block, n] if along == 0 => ([blocks, block, n], [2, 0, 1]),
        [n, blocks, block] => ([n, blocks, block], [0, 1, 2]),
        _ => return Ok(None),
    };
    let [rows, blocks, block] = order.map(|dim| split[dim]);
    let matrix = if along == 0 { [blocks * block, rows] } else { [rows, blocks * block] };
    if whole.as_deref() != Some(&matrix) {
        return Ok(None);
    }
    // Parameters broadcast to the codes' dims, and are the same all over a block.
    let in_place = |parameter: &Tensor| -> Option<[usize; 3]> {
        let mut shape = vec![1; codes.rank().checked_sub(parameter.rank())?];
        shape.extend(parameter.shape());
        if let [first, second] = shape[..] {
            shape = if along == 0 { vec![1, first, second] } else { vec![first, 1, second] };
        }
        let shape = <[usize; 3]>::try_from(shape).ok()?;
        (shape[order[2]] == 1).then_some(shape)
    };
    let (Some(scale_dims), Some(zero_dims)) = (in_place(scales), in_place(zeros)) else {
        return Ok(None);
    };
    // Kernels take a scale for each block.
    if order.map(|dim| scale_dims[dim]) != [rows, blocks, 1] {
        return Ok(None);
    }
    let mut parts = Vec::with_capacity(3);
    for ((tensor, dims), &old) in
        [(codes, split), (scales, scale_dims), (zeros, zero_dims)].into_iter().zip(&node.inputs)
    {
        parts.push(if tensor.shape() == dims && is_identity(&order) {
            Part::Old(old)
        } else {
            Part::New(reordered(&tensor.reshaped(dims)?, &order)?)
        });
    }
    Ok(<[Part; 3]>::try_from(parts).ok())
}

/// What a value is the first part of along a dim.
fn cut(graph: &Graph, v: ValueId, along: usize) -> Option<ValueId> {
    let (Prim::Slice { axes }, node) = prim(graph, v)? else { return None };
    let is =
        |i: usize, number| graph.constant_integers(node.inputs[i]).as_deref() == Some(&[number]);
    (axes == &[along] && is(1, 0) && is(3, 1)).then_some(node.inputs[0])
}

fn reordered(tensor: &Tensor, permutation: &[usize]) -> Result<Tensor, IrError> {
    if is_identity(permutation) {
        return Ok(tensor.clone());
    }
    let op = Op::Prim(Prim::Transpose { permutation: permutation.to_vec() });
    let mut results = evaluate_node(&op, &[], std::slice::from_ref(tensor))?;
    Ok(results.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recognize::tests::{ops_after, with_input};
    use anychip_ir::{DotDims, evaluate};

    /// `[outer, k] · W` with `W` from codes of the given dims, moved into a matrix by `shape` and transposed when asked.
    fn product(
        (codes, scales): (&[usize], &[usize]),
        dtype: DType,
        matrix: [usize; 2],
        (transposed, along): (bool, usize),
        k: usize,
    ) -> Graph {
        with_input([3, k], |b, x| {
            let count = codes.iter().product::<usize>();
            let numbers: Vec<i128> = (0..count).map(|i| (i * 7 % 16) as i128 - 8).collect();
            let codes = b.constant(Tensor::from_integers(dtype, codes, &numbers).unwrap());
            let parts = scales.iter().product::<usize>();
            let numbers = (0..parts).map(|i| 0.5 + i as f32 / 8.0).collect();
            let zeros: Vec<i128> = (0..parts).map(|i| (i % 5) as i128 - 2).collect();
            let zeros = b.constant(Tensor::from_integers(dtype, scales, &zeros).unwrap());
            let scales = b.constant(Tensor::from_vec(scales, numbers).unwrap());
            let to = DType::F32;
            let mut w = b.prim(Prim::Dequantize { to }, &[codes, scales, zeros]).unwrap();
            if b.rank(w) != 2 {
                w = b.reshape(w, &matrix.map(Into::into)).unwrap();
            }
            if transposed {
                w = b.transpose(w, &[1, 0]).unwrap();
            }
            if b.dims(w)[along] != k.into() {
                w = b.slice(w, along, &0usize.into(), &k.into()).unwrap();
            }
            let dims =
                DotDims { lhs_contract: vec![1], rhs_contract: vec![along], ..DotDims::default() };
            b.prim(Prim::DotGeneral(dims, DType::F32), &[x, w]).unwrap()
        })
    }

    fn is_formed_alike(before: &Graph) {
        let after = run(before).unwrap().graph;
        assert_eq!(ops_after(before, run), ["block-weights-dot"]);
        let ty = before.ty(before.inputs()[0]).fixed_shape().unwrap();
        let numbers = (0..ty.iter().product()).map(|i: usize| (i % 11) as f32 - 4.0).collect();
        let x = [Tensor::from_vec(ty, numbers).unwrap()];
        let [want, got] = [before, &after].map(|graph| evaluate(graph, &x).unwrap().remove(0));
        assert_eq!(want, got);
    }

    #[test]
    fn rows_of_blocks_in_any_order_are_formed() {
        for dtype in [DType::I4, DType::I8] {
            // As MatMulNBits has them, with a last block that is cut short.
            is_formed_alike(&product((&[5, 2, 4], &[5, 2, 1]), dtype, [5, 8], (true, 0), 7));
            is_formed_alike(&product((&[5, 2, 4], &[5, 2, 1]), dtype, [5, 8], (false, 1), 8));
            // As DequantizeLinear with blocks along the first axis has them.
            is_formed_alike(&product((&[2, 4, 5], &[2, 1, 5]), dtype, [8, 5], (false, 0), 8));
            is_formed_alike(&product((&[2, 4, 5], &[2, 1, 5]), dtype, [8, 5], (true, 1), 8));
            // A scale a row.
            is_formed_alike(&product((&[8, 5], &[1, 5]), dtype, [8, 5], (false, 0), 8));
            is_formed_alike(&product((&[8, 5], &[5]), dtype, [8, 5], (false, 0), 6));
            is_formed_alike(&product((&[5, 8], &[5, 1]), dtype, [5, 8], (true, 0), 8));
        }
    }

    #[test]
    fn scales_that_differ_within_a_block_are_left_alone() {
        // One for each column of what is summed over, and along the other dim than the blocks.
        let graph = product((&[8, 5], &[8, 1]), DType::I8, [8, 5], (false, 0), 8);
        assert_eq!(run(&graph).unwrap().changes, 0);
        let graph = product((&[5, 8], &[5, 1]), DType::I8, [5, 8], (false, 0), 5);
        assert_eq!(run(&graph).unwrap().changes, 0);
        let graph = product((&[2, 4, 5], &[2, 4, 1]), DType::I4, [8, 5], (false, 0), 8);
        assert_eq!(run(&graph).unwrap().changes, 0);
    }
}
