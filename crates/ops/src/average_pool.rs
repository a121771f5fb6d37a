//! Average pooling that knows which positions count.

use anychip_ir::{Builder, Expand, IrError, Prim, ReduceKind, ValueId, Window, composite, operands};
use anychip_tensor::{Dim, Tensor};

use crate::spatial::check_spatial;

composite! {
    /// `(x [n, c, spatial…]) → mean of each window`, over the positions that hold an element or, with
    /// `count_padding`, an element or padding. Each vector has one entry a spatial dim.
    pub struct AveragePool = "average-pool" {
        /// Elements a window covers.
        pub size: Vec<usize>,
        /// Steps between windows.
        pub strides: Vec<usize>,
        /// Distance between the elements of a window.
        pub dilation: Vec<usize>,
        /// Padding before.
        pub padding_low: Vec<i64>,
        /// Padding after.
        pub padding_high: Vec<i64>,
        /// Positions after the padding that windows reach and that never count (rounding sizes up).
        pub overhang: Vec<i64>,
        /// Padding counts as elements that are 0.
        pub count_padding: bool,
    }
    example: AveragePool {
        size: vec![3, 3],
        strides: vec![2, 2],
        dilation: vec![1, 1],
        padding_low: vec![1, 1],
        padding_high: vec![1, 1],
        overhang: vec![0, 1],
        count_padding: false,
    }
}

impl Expand for AveragePool {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x] = operands("average-pool", x)?;
        let spatial = self.size.len();
        let counts: [&[usize]; 3] = [&self.size, &self.strides, &self.dilation];
        let paddings: [&[i64]; 3] = [&self.padding_low, &self.padding_high, &self.overhang];
        check_spatial("average-pool", spatial, &counts, &paddings)?;
        if b.rank(x) < spatial {
            return Err(IrError::Setting {
                op: "average-pool",
                reason: "needs a dim for each entry",
                found: format!("{self:?}"),
            });
        }
        let window = |padding: Vec<(i64, i64)>| Prim::ReduceWindow {
            kind: ReduceKind::Sum,
            window: Window {
                size: self.size.clone(),
                strides: self.strides.clone(),
                dilation: self.dilation.clone(),
                padding,
            },
        };
        let around = |i: usize| (self.padding_low[i], self.padding_high[i] + self.overhang[i]);
        let sum = b.prim(window((0..spatial).map(around).collect()), &[x])?;
        let dtype = b.dtype(x);
        let padded = (0..spatial).any(|i| (self.padding_low[i], self.padding_high[i]) != (0, 0));
        let overhangs = self.overhang.iter().any(|&o| o != 0);
        if !overhangs && (self.count_padding || !padded) {
            let count: f64 = self.size.iter().map(|&n| n as f64).product();
            let count = b.scalar(dtype, count)?;
            return Ok(vec![b.div(sum, count)?]);
        }
        // How many positions of each window count depends on its place only.
        let first = b.rank(x) - spatial;
        let mut dims: Vec<Dim> = b.dims(x)[first..].to_vec();
        let padding = if self.count_padding {
            for (i, dim) in dims.iter_mut().enumerate() {
                *dim = dim.clone()
                    + Dim::from_i64(self.padding_low[i])
                    + Dim::from_i64(self.padding_high[i]);
            }
            self.overhang.iter().map(|&o| (0, o)).collect()
        } else {
            (0..spatial).map(around).collect()
        };
        let one = b.constant(Tensor::from_f64(dtype, [], &[1.0])?);
        let ones = b.broadcast(one, &dims)?;
        let count = b.prim(window(padding), &[ones])?;
        Ok(vec![b.div(sum, count)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::TensorType;
    use anychip_tensor::DType;

    #[test]
    fn named_sizes_stay_named() {
        let mut b = Builder::new("pool");
        let ty = TensorType::new(DType::F32, [Dim::sym("n"), 3.into(), Dim::sym("h"), 8.into()]);
        let x = b.input("x", ty);
        let pool = AveragePool {
            size: vec![3, 3],
            strides: vec![1, 1],
            dilation: vec![1, 1],
            padding_low: vec![1, 1],
            padding_high: vec![1, 1],
            overhang: vec![0, 0],
            count_padding: false,
        };
        let y = b.composite(pool, &[x]).unwrap();
        assert_eq!(b.ty(y).to_string(), "f32[n, 3, h, 8]");
    }
}
