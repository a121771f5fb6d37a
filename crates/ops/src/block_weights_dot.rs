//! Rows times a matrix whose weights are few-bit codes with a scale a block: what decoding a language model reads.

use anychip_ir::{Builder, DotDims, Expand, IrError, Prim, ValueId, composite, operands};
use anychip_tensor::Dim;

composite! {
    /// `(x […, k], codes [m, blocks, block], scales [m, blocks, 1], zeros) → […, m]`: `x · Wᵀ` with `W = (codes − zeros) · scales` of
    /// the first `k` of each row's `blocks · block` weights. `zeros` is of the codes' type and broadcasts to `[m, blocks, 1]`.
    ///
    /// A node of its own, because kernels read the codes where the expansion reads a float for each.
    pub struct BlockWeightsDot = "block-weights-dot" {}
    example: BlockWeightsDot {}
}

impl Expand for BlockWeightsDot {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        const OP: &str = "block-weights-dot";
        let [x, codes, scales, zeros] = operands(OP, x)?;
        let k = b.dims(x).last().cloned();
        let ([rows, blocks, block], Some(k)) = (&b.dims(codes)[..], k) else {
            return Err(IrError::Shapes {
                op: OP,
                reason: "needs rows and codes in blocks",
                types: [x, codes].iter().map(|&v| b.ty(v).clone()).collect(),
            });
        };
        let (rows, whole): (Dim, Dim) = (rows.clone(), blocks.clone() * block.clone());
        let to = b.dtype(x);
        let weights = b.prim(Prim::Dequantize { to }, &[codes, scales, zeros])?;
        let mut matrix = b.reshape(weights, &[rows, whole.clone()])?;
        if whole != k {
            matrix = b.slice(matrix, 1, &Dim::Fixed(0), &k)?;
        }
        let dims = DotDims {
            lhs_contract: vec![b.rank(x) - 1],
            rhs_contract: vec![1],
            ..DotDims::default()
        };
        Ok(vec![b.prim(Prim::DotGeneral(dims, to), &[x, matrix])?])
    }
}
