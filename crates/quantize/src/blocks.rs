//! Weights alone in fewer bits, a scale for each block of a column: for products that wait for memory, not arithmetic.

use std::collections::BTreeMap;

use anychip_ir::{Builder, DotDims, Graph, IrError, NodeId, Prim, ValueId};
use anychip_passes::{Verdict, rebuild, remove_dead_code};
use anychip_tensor::{DType, Dim, Tensor};

use crate::grid::usable;
use crate::weights::{nearest, squared_error, transposed};
use crate::{Gram, Kind, Matrix, QuantizeError, Site, round_with_gram};

/// What weights become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFormat {
    /// `i4` or `i8`.
    pub dtype: DType,
    /// Weights that share a scale, along the dim that is summed over. A layer whose sums that does not divide has one block.
    pub block: usize,
}

/// The integers of a layer with a scale for each block.
#[derive(Debug, Clone)]
pub struct Blocks {
    /// `[k / block, block, n]`.
    pub codes: Tensor,
    /// `[k / block, 1, n]`.
    pub scales: Tensor,
    /// What each input is multiplied by first, where weights were scaled the other way.
    pub inputs: Option<Vec<f32>>,
}

impl BlockFormat {
    /// The largest magnitude: the grid is symmetric, and of its negative side one more is used.
    fn most(self) -> f32 {
        if self.dtype == DType::I4 { 7.0 } else { 127.0 }
    }

    fn block_of(self, columns: usize) -> usize {
        if columns.is_multiple_of(self.block) { self.block } else { columns }
    }
}

/// Exponents of the size of inputs that weights are scaled by.
const EXPONENTS: [f32; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];

/// A layer in blocks with weights scaled up where inputs are large, and inputs down (AWQ, arXiv:2306.00978); each weight
/// goes to the nearest integer. The exponent of the scaling is the one of which the output errs least.
pub fn in_scaled_blocks(
    matrix: &Matrix,
    format: BlockFormat,
    gram: &Gram,
) -> Result<Blocks, QuantizeError> {
    let n = matrix.columns;
    let sizes: Vec<f32> = gram.diagonal().iter().map(|v| v.max(0.0).sqrt()).collect();
    let mean = (sizes.iter().map(|&s| f64::from(s)).sum::<f64>() / n as f64) as f32;
    let mut best: Option<(f64, Blocks)> = None;
    for exponent in EXPONENTS {
        let factor = |c: usize| {
            if mean > 0.0 { (sizes[c] / mean).max(1e-4).powf(exponent) } else { 1.0 }
        };
        let factors: Vec<f32> = (0..n).map(factor).collect();
        let data = matrix.data.iter().enumerate().map(|(i, w)| w * factors[i % n]).collect();
        let scaled = Matrix { rows: matrix.rows, columns: n, data };
        let mut blocks = in_blocks(&scaled, format, None)?;
        let restored: Vec<f32> =
            rows_of(&blocks).iter().enumerate().map(|(i, w)| w / factors[i % n]).collect();
        let error = gram.error(matrix, &restored);
        if best.as_ref().is_none_or(|(least, _)| error < *least) {
            blocks.inputs = (exponent > 0.0).then(|| factors.iter().map(|f| f.recip()).collect());
            best = Some((error, blocks));
        }
    }
    match best {
        Some((_, blocks)) => Ok(blocks),
        None => in_blocks(matrix, format, None),
    }
}

/// The weights that blocks stand for, with a row for each output channel.
pub fn rows_of(blocks: &Blocks) -> Vec<f32> {
    let (block, rows) = (blocks.codes.shape()[1], blocks.codes.shape()[2]);
    let scales = blocks.scales.elements::<f32>().unwrap_or_default();
    // A code is the low bits of its byte.
    let unused = 8 - blocks.codes.dtype().storage_bits().min(8) as u32;
    let codes = blocks.codes.codes();
    let columns = codes.len() / rows.max(1);
    let mut out = vec![0f32; codes.len()];
    for (c, line) in codes.chunks_exact(rows.max(1)).enumerate() {
        let scales = &scales[c / block * rows..][..rows];
        for (r, (&code, &scale)) in line.iter().zip(scales).enumerate() {
            let code = ((code << unused) as i8) >> unused;
            out[r * columns + c] = f32::from(code) * scale;
        }
    }
    out
}

/// A layer in blocks. With `gram` scales are searched for and rounding looks at the inputs (GPTQ, arXiv:2210.17323);
/// without, each weight goes to the nearest integer of a grid that holds the largest.
pub fn in_blocks(
    matrix: &Matrix,
    format: BlockFormat,
    gram: Option<&Gram>,
) -> Result<Blocks, QuantizeError> {
    let block = format.block_of(matrix.columns);
    let count = matrix.columns / block;
    let importance = gram.map(Gram::diagonal);
    let mut scales = vec![0f32; matrix.rows * count];
    for r in 0..matrix.rows {
        for i in 0..count {
            let part = &matrix.row(r)[i * block..(i + 1) * block];
            let own = importance.as_ref().map(|d| &d[i * block..(i + 1) * block]);
            scales[r * count + i] = block_scale(part, format.most(), own);
        }
    }
    let ends = (-(format.most() as i32) - 1, format.most() as i32);
    let codes = match gram {
        Some(gram) => round_with_gram(matrix, gram, &|r, c| scales[r * count + c / block], ends),
        None => (0..matrix.data.len())
            .map(|i| {
                let (r, c) = (i / matrix.columns, i % matrix.columns);
                let code = matrix.data[i] / scales[r * count + c / block];
                nearest(code.clamp(ends.0 as f32, ends.1 as f32)) as i8
            })
            .collect(),
    };
    // Rows are columns of the product's weights.
    let ordered = transposed(&codes, matrix.rows, matrix.columns);
    drop(codes);
    let shape = [count, block, matrix.rows];
    let codes = if format.dtype == DType::I8 {
        Tensor::from_vec(shape, ordered)?
    } else {
        let ordered: Vec<u8> = ordered.into_iter().map(|code| code as u8).collect();
        Tensor::from_codes(format.dtype, shape, &ordered)?
    };
    let mut by_block = vec![0f32; scales.len()];
    for r in 0..matrix.rows {
        for i in 0..count {
            by_block[i * matrix.rows + r] = scales[r * count + i];
        }
    }
    Ok(Blocks { codes, scales: Tensor::from_vec([count, 1, matrix.rows], by_block)?, inputs: None })
}

/// The scale of a block: the largest weight at the end of the grid; where the size of inputs is known, the end with the
/// least error of the output.
fn block_scale(part: &[f32], most: f32, importance: Option<&[f32]>) -> f32 {
    let largest = part.iter().fold(0f32, |m, v| m.max(v.abs()));
    let plain = usable(f64::from(largest / most), false);
    let Some(importance) = importance.filter(|_| largest > 0.0) else { return plain };
    let mut best = (f64::INFINITY, plain);
    for step in 0..24 {
        let scale = plain * (1.05 - step as f32 / 40.0);
        let error = squared_error(part, Some(importance), scale, (-most - 1.0, most));
        if error < best.0 {
            best = (error, scale);
        }
    }
    best.1
}

/// `graph` with the weights of products in blocks.
pub fn rewrite_blocks(graph: &Graph, layers: &[(&Site, Blocks)]) -> Result<Graph, QuantizeError> {
    let by_node: BTreeMap<NodeId, &(&Site, Blocks)> =
        layers.iter().map(|entry| (entry.0.node, entry)).collect();
    let outcome = rebuild(graph, &mut |b, site| {
        let Some((own, blocks)) = by_node.get(&site.id) else { return Ok(Verdict::Keep) };
        if !std::ptr::eq(site.graph, graph) || !matches!(own.kind, Kind::Dot { .. }) {
            return Ok(Verdict::Keep);
        }
        let weight = restored(b, blocks)?;
        let mut x = site.inputs[0];
        if let Some(factors) = &blocks.inputs {
            let factors = b.constant(Tensor::from_vec([factors.len()], factors.clone())?);
            x = b.mul(x, factors)?;
        }
        let dims = DotDims {
            lhs_contract: vec![b.rank(x) - 1],
            rhs_contract: vec![0],
            ..DotDims::default()
        };
        let product = b.prim(Prim::DotGeneral(dims, DType::F32), &[x, weight])?;
        Ok(Verdict::Replace(vec![product]))
    })?;
    Ok(remove_dead_code(&outcome.graph)?)
}

fn restored(b: &mut Builder, blocks: &Blocks) -> Result<ValueId, IrError> {
    let shape = blocks.codes.shape();
    let dims = [Dim::Fixed(shape[0] * shape[1]), Dim::Fixed(shape[2])];
    let zeros = Tensor::zeros(blocks.codes.dtype(), blocks.scales.shape())?;
    let codes = b.constant(blocks.codes.clone());
    let (scales, zeros) = (b.constant(blocks.scales.clone()), b.constant(zeros));
    let weight = b.prim(Prim::Dequantize { to: DType::F32 }, &[codes, scales, zeros])?;
    b.reshape(weight, &dims)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs of which a few are large, and go together.
    fn layer() -> (Matrix, Gram) {
        let (rows, columns) = (16, 64);
        let mut state = 11u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let data = (0..rows * columns).map(|_| next()).collect();
        let mut gram = Gram::default();
        for _ in 0..300 {
            let common = next();
            let x: Vec<f32> = (0..columns)
                .map(|c| (next() + common) * if c % 16 == 3 { 10.0 } else { 1.0 })
                .collect();
            let sums: Vec<f32> = x.iter().flat_map(|a| x.iter().map(move |b| a * b)).collect();
            gram.add(columns, &sums);
        }
        (Matrix { rows, columns, data }, gram)
    }

    #[test]
    fn knowing_the_inputs_helps() {
        let (matrix, gram) = layer();
        let format = BlockFormat { dtype: DType::I4, block: 32 };
        let nearest = in_blocks(&matrix, format, None).unwrap();
        let rounded = in_blocks(&matrix, format, Some(&gram)).unwrap();
        let scaled = in_scaled_blocks(&matrix, format, &gram).unwrap();
        let error = |blocks: &Blocks| {
            let mut rows = rows_of(blocks);
            if let Some(inputs) = &blocks.inputs {
                for (i, w) in rows.iter_mut().enumerate() {
                    *w *= inputs[i % matrix.columns];
                }
            }
            gram.error(&matrix, &rows)
        };
        let plain = error(&nearest);
        assert!(error(&rounded) < 0.6 * plain, "{} {plain}", error(&rounded));
        assert!(error(&scaled) < 0.8 * plain, "{} {plain}", error(&scaled));
        assert_eq!(rounded.codes.byte_len(), 16 * 64 / 2);
    }
}
