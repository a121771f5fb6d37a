//! Transposed convolution: the gradient of a convolution with respect to its input.

use anychip_ir::{
    Builder, ConvolutionDims, Expand, IrError, Prim, ValueId, composite, operands,
};
use anychip_tensor::Dim;

use crate::spatial::check_spatial;

composite! {
    /// `(x [n, c, spatial…], w [c, m/groups, kernel…]) → [n, m, (spatial − 1) · stride + (kernel − 1) · dilation + 1
    /// − padding_low − padding_high…]`: each input element adds its multiple of the kernel to the output
    /// (arXiv:1603.07285, section 4). Each vector has one entry a spatial dim.
    pub struct ConvTranspose = "conv-transpose" {
        /// Steps between the places where kernels are added.
        pub strides: Vec<usize>,
        /// Output positions dropped at the start; negative ones are zeros added.
        pub padding_low: Vec<i64>,
        /// Output positions dropped at the end; negative ones are zeros added.
        pub padding_high: Vec<i64>,
        /// Distance between kernel elements.
        pub dilation: Vec<usize>,
        /// Independent groups of channels.
        pub groups: usize,
    }
    example: ConvTranspose {
        strides: vec![2, 2],
        padding_low: vec![1, 1],
        padding_high: vec![1, 0],
        dilation: vec![1, 1],
        groups: 1,
    }
}

impl Expand for ConvTranspose {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x, w] = operands("conv-transpose", x)?;
        let spatial = self.strides.len();
        let dims = b.dims(w);
        let paddings: [&[i64]; 2] = [&self.padding_low, &self.padding_high];
        check_spatial("conv-transpose", spatial, &[&self.strides, &self.dilation], &paddings)?;
        if dims.len() != spatial + 2 || self.groups == 0 {
            return Err(IrError::Setting {
                op: "conv-transpose",
                reason: "needs a dim for each entry, and at least one group",
                found: format!("{self:?}"),
            });
        }
        // [g · c/g, m/g, kernel…] → [g · m/g, c/g, kernel…]: inputs and outputs change places in each group.
        let groups = Dim::Fixed(self.groups);
        let inputs = dims[0].floor_div(&groups);
        let kernel = &dims[2..];
        let split = [&[groups.clone(), inputs.clone(), dims[1].clone()], kernel].concat();
        let w = b.reshape(w, &split)?;
        let mut permutation: Vec<usize> = (0..split.len()).collect();
        permutation.swap(1, 2);
        let w = b.transpose(w, &permutation)?;
        let mut w = b.reshape(w, &[&[groups * dims[1].clone(), inputs], kernel].concat())?;
        let mut padding = Vec::new();
        for (i, size) in kernel.iter().enumerate() {
            w = b.reverse(w, 2 + i)?;
            let Some(size) = size.fixed() else {
                return Err(IrError::NeedsValue {
                    op: "conv-transpose",
                    operand: 1,
                    what: "the padding",
                });
            };
            let span = (size as i64 - 1).saturating_mul(self.dilation[i] as i64);
            padding.push((span - self.padding_low[i], span - self.padding_high[i]));
        }
        let convolution = ConvolutionDims {
            strides: vec![1; spatial],
            padding,
            dilation: self.dilation.clone(),
            input_dilation: self.strides.clone(),
            groups: self.groups,
        };
        let dtype = b.dtype(x);
        Ok(vec![b.prim(Prim::Convolution(convolution, dtype), &[x, w])?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::TensorType;
    use anychip_tensor::DType;

    #[test]
    fn doubles_a_named_size() {
        let mut b = Builder::new("upsample");
        let x = b.input("x", TensorType::new(DType::F32, [1.into(), 4.into(), Dim::sym("h")]));
        let w = b.input("w", TensorType::new(DType::F32, [Dim::Fixed(4), 3.into(), 2.into()]));
        let transpose = ConvTranspose {
            strides: vec![2],
            padding_low: vec![0],
            padding_high: vec![0],
            dilation: vec![1],
            groups: 2,
        };
        let y = b.composite(transpose, &[x, w]).unwrap();
        assert_eq!(b.ty(y).to_string(), "f32[1, 6, 2*h]");
    }
}
