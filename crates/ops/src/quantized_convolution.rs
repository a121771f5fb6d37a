//! A convolution of 8-bit codes with its bias and requantization, in integers from end to end.

use anychip_ir::{Builder, ConvolutionDims, Expand, IrError, Prim, ValueId, composite, operands};
use anychip_tensor::{DType, Dim};

use crate::quantized::{Output, centered};
use crate::spatial::check_spatial;

composite! {
    /// `(x [n, c, spatial…], w [m, c/groups, kernel…], bias i32[m], multiplier i32[m], shift i32[m]) → to[n, m, spatial…]`:
    /// `clamp(((sum · multiplier + 2^(shift−1)) >> shift) + y_zero, low, high)` of the 32-bit sums
    /// `conv(x − x_zero, w − w_zero) + bias`. `x` and `w` are `i8` or `u8`; padding is `x_zero`. Vectors have one entry a
    /// spatial dim.
    pub struct QuantizedConvolution = "quantized-convolution" {
        /// Steps between windows.
        pub strides: Vec<usize>,
        /// Padding before.
        pub padding_low: Vec<i64>,
        /// Padding after.
        pub padding_high: Vec<i64>,
        /// Distance between kernel elements.
        pub dilation: Vec<usize>,
        /// Independent groups of channels.
        pub groups: usize,
        /// The code of `x` that stands for 0.
        pub x_zero: i64,
        /// The code of `w` that stands for 0.
        pub w_zero: i64,
        /// `i8` or `u8`.
        pub to: DType,
        /// The code of the result that stands for 0.
        pub y_zero: i64,
        /// The least code of the result: a rectifier is `y_zero` here.
        pub low: i64,
        /// The largest code of the result.
        pub high: i64,
    }
    example: QuantizedConvolution {
        strides: vec![1, 1],
        padding_low: vec![1, 1],
        padding_high: vec![1, 1],
        dilation: vec![1, 1],
        groups: 1,
        x_zero: 3,
        w_zero: 0,
        to: DType::U8,
        y_zero: 7,
        low: 7,
        high: 255,
    }
}

impl Expand for QuantizedConvolution {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        const OP: &str = "quantized-convolution";
        let [x, w, bias, multiplier, shift] = operands(OP, x)?;
        let spatial = self.strides.len();
        let counts: [&[usize]; 2] = [&self.strides, &self.dilation];
        let paddings: [&[i64]; 2] = [&self.padding_low, &self.padding_high];
        check_spatial(OP, spatial, &counts, &paddings)?;
        let x = centered(b, OP, x, self.x_zero)?;
        let w = centered(b, OP, w, self.w_zero)?;
        let sum = b.prim(Prim::Convolution(self.dims(), DType::I32), &[x, w])?;
        let mut channels = vec![Dim::Fixed(1); spatial + 1];
        channels[0] = b.dims(w)[0].clone();
        let mut along = |v| b.reshape(v, &channels);
        let (bias, multiplier, shift) = (along(bias)?, along(multiplier)?, along(shift)?);
        let sum = b.add(sum, bias)?;
        let output = Output {
            op: OP,
            to: self.to,
            zero: self.y_zero,
            low: self.low,
            high: self.high,
        };
        Ok(vec![output.of(b, sum, multiplier, shift)?])
    }
}

impl QuantizedConvolution {
    /// The settings of the convolution as the primitive has them.
    pub fn dims(&self) -> ConvolutionDims {
        let padding = self.padding_low.iter().copied().zip(self.padding_high.iter().copied());
        ConvolutionDims {
            strides: self.strides.clone(),
            padding: padding.collect(),
            dilation: self.dilation.clone(),
            input_dilation: vec![1; self.strides.len()],
            groups: self.groups,
        }
    }
}
