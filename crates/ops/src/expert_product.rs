//! Each row times the matrix of the expert that was chosen for it.

use anychip_ir::{Builder, DotDims, Expand, IrError, Prim, ValueId, composite, operands};

composite! {
    /// `(x [t, d], w [e, d, f], chosen i64[t]) → [t, f]`: row `i` times matrix `chosen[i]` (the products of a mixture of
    /// experts, arXiv:1701.06538). Exact for every choice: no row is dropped and no expert has a capacity.
    ///
    /// A node of its own, because kernels sort the rows by expert and read each matrix that is wanted once, where the expansion
    /// gathers a matrix for every row. It multiplies `t · d · f` times, however many experts there are.
    pub struct ExpertProduct = "expert-product" {}
    example: ExpertProduct {}
}

impl Expand for ExpertProduct {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x, w, chosen] = operands("expert-product", x)?;
        if (b.rank(x), b.rank(w), b.rank(chosen)) != (2, 3, 1) {
            return Err(IrError::Shapes {
                op: "expert-product",
                reason: "needs rows, a matrix for each expert and an expert for each row",
                types: [x, w, chosen].iter().map(|&v| b.ty(v).clone()).collect(),
            });
        }
        let dtype = b.dtype(x);
        let matrices = b.prim(Prim::Take { axis: 0 }, &[w, chosen])?;
        let dims = DotDims {
            lhs_batch: vec![0],
            rhs_batch: vec![0],
            lhs_contract: vec![1],
            rhs_contract: vec![1],
        };
        Ok(vec![b.prim(Prim::DotGeneral(dims, dtype), &[x, matrices])?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::TensorType;
    use anychip_tensor::Tensor;

    #[test]
    fn each_row_meets_its_own_expert() {
        let x = Tensor::from_vec([3, 2], vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        // Expert 0 adds, expert 1 takes the difference.
        let w = Tensor::from_vec([2, 2, 1], vec![1f32, 1.0, 1.0, -1.0]).unwrap();
        let chosen = Tensor::from_i64s(&[1, 0, 1]);
        let operands = [x, w, chosen];
        let mut b = Builder::new("g");
        let values = operands.each_ref().map(|t| b.input("", TensorType::of(t)));
        let out = b.composite(ExpertProduct {}, &values).unwrap();
        let graph = b.finish(&[out]);
        let results = anychip_ir::evaluate(&graph, &operands).unwrap();
        assert_eq!(results[0].to_f64(), [-1.0, 7.0, -1.0]);
        assert_eq!(anychip_ir::graph_work(&graph).unwrap().macs, 6.0);
    }
}
