//! Convolutions, pools and the blocks of them that image networks share.

use anychip_ir::{ConvolutionDims, Prim, ReduceKind, ValueId, Window};
use anychip_ops::AveragePool;

use crate::activation::Activation;
use crate::net::{Made, Net};

/// A convolution over images; padding keeps the size when nothing else is said and the stride is 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv {
    pub(crate) out: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: usize,
    pub(crate) padding: Option<usize>,
    pub(crate) groups: usize,
    pub(crate) bias: bool,
}

impl Conv {
    pub(crate) const fn new(out: usize, kernel: usize) -> Conv {
        Conv { out, kernel: [kernel, kernel], stride: 1, padding: None, groups: 1, bias: false }
    }

    pub(crate) const fn stride(self, stride: usize) -> Conv {
        Conv { stride, ..self }
    }

    pub(crate) const fn padding(self, padding: usize) -> Conv {
        Conv { padding: Some(padding), ..self }
    }

    pub(crate) const fn groups(self, groups: usize) -> Conv {
        Conv { groups, ..self }
    }

    pub(crate) const fn bias(self) -> Conv {
        Conv { bias: true, ..self }
    }
}

impl Net {
    /// A convolution of `[n, c, h, w]`.
    pub(crate) fn conv(&mut self, name: &str, x: ValueId, conv: Conv) -> Made {
        Ok(self.shared_conv(name, &[x], conv, Activation::None)?[0])
    }

    /// One convolution, with its activation, of several images of the same channels.
    pub(crate) fn shared_conv(
        &mut self,
        name: &str,
        images: &[ValueId],
        conv: Conv,
        activation: Activation,
    ) -> Made<Vec<ValueId>> {
        self.within(name, |net| {
            let Some(&x) = images.first() else { return Ok(Vec::new()) };
            let per_group = net.size(x, 1)? / conv.groups.max(1);
            let [height, width] = conv.kernel;
            let shape = [conv.out, per_group, height, width];
            let w = net.weights(&shape, per_group * height * width)?;
            let padding = conv.kernel.map(|k| {
                let around = conv.padding.unwrap_or((k - 1) / 2) as i64;
                (around, around)
            });
            let dims = ConvolutionDims {
                strides: vec![conv.stride; 2],
                padding: padding.to_vec(),
                dilation: vec![1; 2],
                input_dilation: vec![1; 2],
                groups: conv.groups,
            };
            let bias = if conv.bias {
                let bias = net.shift(&[conv.out])?;
                Some(net.b.unsqueeze(bias, &[1, 2])?)
            } else {
                None
            };
            let mut results = Vec::with_capacity(images.len());
            for &x in images {
                let mut y = net.b.prim(Prim::Convolution(dims.clone(), net.dtype), &[x, w])?;
                if let Some(bias) = bias {
                    y = net.b.add(y, bias)?;
                }
                results.push(net.activate(y, activation)?);
            }
            Ok(results)
        })
    }

    /// Convolution, batch norm, activation.
    pub(crate) fn conv_norm(
        &mut self,
        name: &str,
        x: ValueId,
        conv: Conv,
        activation: Activation,
    ) -> Made {
        self.within(name, |net| {
            let y = net.conv("conv", x, conv)?;
            let y = net.batch_norm("norm", y)?;
            net.activate(y, activation)
        })
    }

    /// The largest of each window.
    pub(crate) fn max_pool(
        &mut self,
        x: ValueId,
        size: usize,
        stride: usize,
        padding: i64,
    ) -> Made {
        self.max_pool_uneven(x, size, stride, (padding, padding))
    }

    /// [`Net::max_pool`] with padding that may differ before and after (rounding sizes up).
    pub(crate) fn max_pool_uneven(
        &mut self,
        x: ValueId,
        size: usize,
        stride: usize,
        padding: (i64, i64),
    ) -> Made {
        let window = Window {
            size: vec![size; 2],
            strides: vec![stride; 2],
            dilation: vec![1; 2],
            padding: vec![padding; 2],
        };
        self.b.prim(Prim::ReduceWindow { kind: ReduceKind::Max, window }, &[x])
    }

    /// The mean of each window, without padding.
    pub(crate) fn average_pool(&mut self, x: ValueId, size: usize, stride: usize) -> Made {
        let pool = AveragePool {
            size: vec![size; 2],
            strides: vec![stride; 2],
            dilation: vec![1; 2],
            padding_low: vec![0; 2],
            padding_high: vec![0; 2],
            overhang: vec![0; 2],
            count_padding: false,
        };
        self.b.composite(pool, &[x])
    }

    /// `[n, c, h, w] → [n, c]`: the mean over each image.
    pub(crate) fn global_average(&mut self, x: ValueId) -> Made {
        self.b.mean(x, &[2, 3], false)
    }

    /// Scales each channel by what two 1 × 1 convolutions make of all channels' means (arXiv:1709.01507).
    pub(crate) fn squeeze_excite(
        &mut self,
        name: &str,
        x: ValueId,
        squeezed: usize,
        [inner, gate]: [Activation; 2],
    ) -> Made {
        self.within(name, |net| {
            let channels = net.size(x, 1)?;
            let means = net.b.mean(x, &[2, 3], true)?;
            let y = net.conv("reduce", means, Conv::new(squeezed, 1).bias())?;
            let y = net.activate(y, inner)?;
            let y = net.conv("expand", y, Conv::new(channels, 1).bias())?;
            let y = net.activate(y, gate)?;
            net.b.mul(x, y)
        })
    }
}
