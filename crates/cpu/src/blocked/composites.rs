//! The operators of images in blocks, defined by what they do in rows: their types, work and reference results follow.

use anychip_ir::{
    Builder, ConvolutionDims, Expand, IrError, Prim, ReduceKind, ValueId, Window, composite,
    operands,
};
use anychip_ops::{AveragePool, QuantizedConvolution};
use anychip_tensor::{DType, Dim};

use crate::kernel::blocked::{BLOCK, blocks};

composite! {
    /// `x [n, c, h, w] → [n, ⌈c/16⌉, h, w, 16]`, zeros beyond the last channel.
    pub struct ToBlocked = "to-blocked" {}
    example: ToBlocked {}
}

composite! {
    /// `x [n, ⌈c/16⌉, h, w, 16] → [n, c, h, w]`
    pub struct FromBlocked = "from-blocked" {
        /// Channels of the result.
        pub channels: usize,
    }
    example: FromBlocked { channels: 20 }
}

composite! {
    /// `(x, w [f, c/groups, kh, kw]) → [n, ⌈f/16⌉, h, w, 16]`: a convolution over two spatial dims whose result, and
    /// unless `rows` whose operand, stands in blocks; `(x, w, s [n, ⌈c/16⌉, 1, 1, 16])` is that of `x · s`. One entry a
    /// spatial dim.
    pub struct BlockedConvolution = "blocked-convolution" {
        /// Steps between windows.
        pub strides: Vec<usize>,
        /// Zeros before.
        pub padding_low: Vec<i64>,
        /// Zeros after.
        pub padding_high: Vec<i64>,
        /// Distance between kernel elements.
        pub dilation: Vec<usize>,
        /// Independent groups of channels.
        pub groups: usize,
        /// The operand is `[n, c, h, w]`.
        pub rows: bool,
    }
    example: BlockedConvolution {
        strides: vec![1, 1],
        padding_low: vec![1, 1],
        padding_high: vec![1, 1],
        dilation: vec![1, 1],
        groups: 1,
        rows: true,
    }
}

composite! {
    /// [`QuantizedConvolution`] over two spatial dims whose result, and unless `rows` whose operand `x`, stands in blocks.
    pub struct BlockedQuantizedConvolution = "blocked-quantized-convolution" {
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
        /// The least code of the result.
        pub low: i64,
        /// The largest code of the result.
        pub high: i64,
        /// The operand is `[n, c, h, w]`.
        pub rows: bool,
    }
    example: BlockedQuantizedConvolution::of(
        &QuantizedConvolution {
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
        },
        true,
    )
}

impl BlockedQuantizedConvolution {
    /// A convolution in rows as one on blocks.
    pub(crate) fn of(plain: &QuantizedConvolution, rows: bool) -> BlockedQuantizedConvolution {
        let s = plain.clone();
        BlockedQuantizedConvolution {
            strides: s.strides,
            padding_low: s.padding_low,
            padding_high: s.padding_high,
            dilation: s.dilation,
            groups: s.groups,
            x_zero: s.x_zero,
            w_zero: s.w_zero,
            to: s.to,
            y_zero: s.y_zero,
            low: s.low,
            high: s.high,
            rows,
        }
    }

    /// The same in rows.
    pub(crate) fn plain(&self) -> QuantizedConvolution {
        let s = self.clone();
        QuantizedConvolution {
            strides: s.strides,
            padding_low: s.padding_low,
            padding_high: s.padding_high,
            dilation: s.dilation,
            groups: s.groups,
            x_zero: s.x_zero,
            w_zero: s.w_zero,
            to: s.to,
            y_zero: s.y_zero,
            low: s.low,
            high: s.high,
        }
    }
}

impl Expand for BlockedQuantizedConvolution {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x, w, bias, multiplier, shift] = operands("blocked-quantized-convolution", x)?;
        let channels = fixed_channels(b, "blocked-quantized-convolution", w)? * self.groups;
        let x = if self.rows { x } else { b.composite(FromBlocked { channels }, &[x])? };
        let y = b.composite(self.plain(), &[x, w, bias, multiplier, shift])?;
        Ok(vec![b.composite(ToBlocked {}, &[y])?])
    }
}

composite! {
    /// `x [n, b, h, w, 16] → [n, b, h, w, 16]`: the mean of the elements in each window over `h` and `w`, or the largest.
    pub struct BlockedPool = "blocked-pool" {
        /// Elements a window covers.
        pub size: Vec<usize>,
        /// Steps between windows.
        pub strides: Vec<usize>,
        /// Distance between the elements of a window.
        pub dilation: Vec<usize>,
        /// Positions before that hold no element.
        pub padding_low: Vec<i64>,
        /// Positions after that hold no element.
        pub padding_high: Vec<i64>,
        /// The mean instead of the largest.
        pub mean: bool,
    }
    example: BlockedPool {
        size: vec![3, 3],
        strides: vec![2, 2],
        dilation: vec![1, 1],
        padding_low: vec![1, 1],
        padding_high: vec![1, 1],
        mean: false,
    }
}

const MOVED: [usize; 5] = [0, 1, 4, 2, 3];

impl Expand for ToBlocked {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let x = image(b, "to-blocked", x, 1, 4)?[0];
        let mut dims = b.dims(x);
        let channels = fixed_channels(b, "to-blocked", x)?;
        let missing = blocks(channels) * BLOCK - channels;
        let mut y = x;
        if missing > 0 {
            let (low, high) = (b.integers(&[0; 4]), b.integers(&[0, missing as i64, 0, 0]));
            let zero = b.scalar_like(x, 0.0)?;
            y = b.prim(Prim::Pad, &[x, low, high, zero])?;
        }
        dims.splice(1..2, [Dim::Fixed(blocks(channels)), Dim::Fixed(BLOCK)]);
        let split = b.reshape(y, &dims)?;
        Ok(vec![b.transpose(split, &[0, 1, 3, 4, 2])?])
    }
}

impl Expand for FromBlocked {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let x = image(b, "from-blocked", x, 1, 5)?[0];
        let moved = b.transpose(x, &MOVED)?;
        let mut dims = b.dims(x);
        let all = dims[1].clone() * Dim::Fixed(BLOCK);
        dims.truncate(4);
        dims[1] = all;
        let joined = b.reshape(moved, &dims)?;
        Ok(vec![b.slice(joined, 1, &Dim::Fixed(0), &Dim::Fixed(self.channels))?])
    }
}

impl Expand for BlockedConvolution {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let (x, w) = match *x {
            [x, w] => (x, w),
            [x, w, scale] => (b.mul(x, scale)?, w),
            _ => {
                return Err(IrError::OperandCount {
                    op: "blocked-convolution",
                    expected: 2,
                    found: x.len(),
                });
            }
        };
        let channels = fixed_channels(b, "blocked-convolution", w)? * self.groups;
        let x = if self.rows { x } else { b.composite(FromBlocked { channels }, &[x])? };
        let dims = self.dims();
        let y = b.prim(Prim::Convolution(dims, DType::F32), &[x, w])?;
        Ok(vec![b.composite(ToBlocked {}, &[y])?])
    }
}

impl BlockedConvolution {
    /// The settings as the primitive has them.
    pub(crate) fn dims(&self) -> ConvolutionDims {
        ConvolutionDims {
            strides: self.strides.clone(),
            padding: self
                .padding_low
                .iter()
                .copied()
                .zip(self.padding_high.iter().copied())
                .collect(),
            dilation: self.dilation.clone(),
            input_dilation: vec![1; self.strides.len()],
            groups: self.groups,
        }
    }
}

impl Expand for BlockedPool {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let x = image(b, "blocked-pool", x, 1, 5)?[0];
        // Windows are over the last dims.
        let moved = b.transpose(x, &MOVED)?;
        let padding = self.padding_low.iter().copied().zip(self.padding_high.iter().copied());
        let pooled = if self.mean {
            let dims = b.dims(moved);
            let mut flat = dims.clone();
            flat.splice(1..3, [dims[1].clone() * dims[2].clone()]);
            let flat = b.reshape(moved, &flat)?;
            let pool = AveragePool {
                size: self.size.clone(),
                strides: self.strides.clone(),
                dilation: self.dilation.clone(),
                padding_low: self.padding_low.clone(),
                padding_high: self.padding_high.clone(),
                overhang: vec![0; self.size.len()],
                count_padding: false,
            };
            let pooled = b.composite(pool, &[flat])?;
            let mut whole = b.dims(pooled);
            whole.splice(1..2, [dims[1].clone(), dims[2].clone()]);
            b.reshape(pooled, &whole)?
        } else {
            let window = Window {
                size: self.size.clone(),
                strides: self.strides.clone(),
                dilation: self.dilation.clone(),
                padding: padding.collect(),
            };
            b.prim(Prim::ReduceWindow { kind: ReduceKind::Max, window }, &[moved])?
        };
        Ok(vec![b.transpose(pooled, &[0, 1, 3, 4, 2])?])
    }
}

/// The operands when there are `count` and the first has `rank` dims.
fn image<'a>(
    b: &Builder,
    op: &'static str,
    x: &'a [ValueId],
    count: usize,
    rank: usize,
) -> Result<&'a [ValueId], IrError> {
    if x.len() != count {
        return Err(IrError::OperandCount { op, expected: count, found: x.len() });
    }
    if b.rank(x[0]) == rank {
        Ok(x)
    } else {
        Err(IrError::Shapes {
            op,
            reason: "an image of another rank",
            types: vec![b.ty(x[0]).clone()],
        })
    }
}

pub(super) fn fixed_channels(b: &Builder, op: &'static str, x: ValueId) -> Result<usize, IrError> {
    b.ty(x).shape.get(1).and_then(Dim::fixed).ok_or_else(|| IrError::Shapes {
        op,
        reason: "channels must be a number",
        types: vec![b.ty(x).clone()],
    })
}
