//! Image networks of depthwise convolutions: MobileNet V1 (arXiv:1704.04861), V2 (arXiv:1801.04381) and V3
//! (arXiv:1905.02244).

use anychip_ir::ValueId;
use anychip_tensor::DType;

use crate::activation::Activation::{self, HardSigmoid, HardSwish, None as Linear, Relu, Relu6};
use crate::convolution::Conv;
use crate::net::{Made, Net, Outputs};
use crate::row::{Published, Row, torchvision};
use crate::settings::Settings;

/// A bottleneck turned inside out: wider in the middle, where the convolution is depthwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inverted {
    pub(crate) kernel: usize,
    /// Channels in the middle.
    pub(crate) expanded: usize,
    pub(crate) out: usize,
    pub(crate) stride: usize,
    /// Channels inside squeeze-and-excitation, where there is one.
    pub(crate) squeezed: Option<usize>,
    /// The activations inside squeeze-and-excitation.
    pub(crate) gates: [Activation; 2],
    pub(crate) activation: Activation,
}

impl Inverted {
    pub(crate) fn build(&self, net: &mut Net, x: ValueId) -> Made {
        let channels = net.size(x, 1)?;
        let mut y = x;
        if self.expanded != channels {
            y = net.conv_norm("expand", y, Conv::new(self.expanded, 1), self.activation)?;
        }
        let depthwise =
            Conv::new(self.expanded, self.kernel).stride(self.stride).groups(self.expanded);
        y = net.conv_norm("depthwise", y, depthwise, self.activation)?;
        if let Some(squeezed) = self.squeezed {
            y = net.squeeze_excite("squeeze", y, squeezed, self.gates)?;
        }
        y = net.conv_norm("project", y, Conv::new(self.out, 1), Linear)?;
        if self.stride == 1 && channels == self.out { net.b.add(x, y) } else { Ok(y) }
    }
}

/// A number of channels rounded to a multiple of 8, by no more than a tenth down.
pub(crate) fn eighths(channels: f64) -> usize {
    let rounded = (((channels + 4.0) / 8.0).floor() as usize * 8).max(8);
    if (rounded as f64) < 0.9 * channels { rounded + 8 } else { rounded }
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "mobilenet-v1",
        aliases: &["mobilenet"],
        parameters: Published::Exact(4_231_976),
        macs: Published::Rounded(569e6),
        macs_at: "",
        source: "parameters: timm, `mobilenetv1_100`; multiply-adds: arXiv:1704.04861, table 4",
        dtype: DType::F32,
        build: v1,
    },
    torchvision("mobilenet-v2", 3_504_872, 0.301e9, v2),
    torchvision("mobilenet-v3-large", 5_483_032, 0.217e9, |n, s| v3(n, s, LARGE, 1280)),
    torchvision("mobilenet-v3-small", 2_542_856, 56.5e6, |n, s| v3(n, s, SMALL, 1024))
        .with_macs(56.5e6, "", "torchvision 0.21, `num_params`; multiply-adds: arXiv:1905.02244, table 3 (56 M), and torchvision's 0.057 G"),
];

/// Channels and stride of each block: table 1 of arXiv:1704.04861.
const V1: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

fn v1(net: &mut Net, settings: &mut Settings) -> Made<Outputs> {
    let image = settings.image(224);
    let x = net.input("image", &[3, image, image]);
    let mut x = net.conv_norm("stem", x, Conv::new(32, 3).stride(2), Relu)?;
    for (i, (out, stride)) in V1.into_iter().enumerate() {
        x = net.within(format!("blocks.{i}"), |net| {
            let channels = net.size(x, 1)?;
            let depthwise = Conv::new(channels, 3).stride(stride).groups(channels);
            let y = net.conv_norm("depthwise", x, depthwise, Relu)?;
            net.conv_norm("pointwise", y, Conv::new(out, 1), Relu)
        })?;
    }
    classify(net, settings, x)
}

/// Expansion, channels, blocks and the first one's stride: table 2 of arXiv:1801.04381.
const V2: [[usize; 4]; 7] = [
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
];

fn v2(net: &mut Net, settings: &mut Settings) -> Made<Outputs> {
    let image = settings.image(224);
    let x = net.input("image", &[3, image, image]);
    let mut x = net.conv_norm("stem", x, Conv::new(32, 3).stride(2), Relu6)?;
    for (stage, [factor, out, blocks, first]) in V2.into_iter().enumerate() {
        for block in 0..blocks {
            let inverted = Inverted {
                kernel: 3,
                expanded: factor * net.size(x, 1)?,
                out,
                stride: if block == 0 { first } else { 1 },
                squeezed: None,
                gates: [Relu, HardSigmoid],
                activation: Relu6,
            };
            x = net.within(format!("stages.{stage}.{block}"), |net| inverted.build(net, x))?;
        }
    }
    let x = net.conv_norm("last", x, Conv::new(1280, 1), Relu6)?;
    classify(net, settings, x)
}

/// Kernel, expanded, out, squeeze, hard swish, stride: tables 1 and 2 of arXiv:1905.02244.
type V3Block = (usize, usize, usize, bool, bool, usize);

const LARGE: &[V3Block] = &[
    (3, 16, 16, false, false, 1),
    (3, 64, 24, false, false, 2),
    (3, 72, 24, false, false, 1),
    (5, 72, 40, true, false, 2),
    (5, 120, 40, true, false, 1),
    (5, 120, 40, true, false, 1),
    (3, 240, 80, false, true, 2),
    (3, 200, 80, false, true, 1),
    (3, 184, 80, false, true, 1),
    (3, 184, 80, false, true, 1),
    (3, 480, 112, true, true, 1),
    (3, 672, 112, true, true, 1),
    (5, 672, 160, true, true, 2),
    (5, 960, 160, true, true, 1),
    (5, 960, 160, true, true, 1),
];

const SMALL: &[V3Block] = &[
    (3, 16, 16, true, false, 2),
    (3, 72, 24, false, false, 2),
    (3, 88, 24, false, false, 1),
    (5, 96, 40, true, true, 2),
    (5, 240, 40, true, true, 1),
    (5, 240, 40, true, true, 1),
    (5, 120, 48, true, true, 1),
    (5, 144, 48, true, true, 1),
    (5, 288, 96, true, true, 2),
    (5, 576, 96, true, true, 1),
    (5, 576, 96, true, true, 1),
];

fn v3(net: &mut Net, settings: &mut Settings, blocks: &[V3Block], last: usize) -> Made<Outputs> {
    net.norm_epsilon = 1e-3;
    let image = settings.image(224);
    let x = net.input("image", &[3, image, image]);
    let mut x = net.conv_norm("stem", x, Conv::new(16, 3).stride(2), HardSwish)?;
    for (i, &(kernel, expanded, out, squeeze, swish, stride)) in blocks.iter().enumerate() {
        let inverted = Inverted {
            kernel,
            expanded,
            out,
            stride,
            squeezed: squeeze.then(|| eighths(expanded as f64 / 4.0)),
            gates: [Relu, HardSigmoid],
            activation: if swish { HardSwish } else { Relu },
        };
        x = net.within(format!("blocks.{i}"), |net| inverted.build(net, x))?;
    }
    let wide = 6 * net.size(x, 1)?;
    let x = net.conv_norm("last", x, Conv::new(wide, 1), HardSwish)?;
    let pooled = net.global_average(x)?;
    let hidden = net.linear("hidden", pooled, last, true)?;
    let hidden = net.activate(hidden, HardSwish)?;
    let logits = net.linear("classifier", hidden, settings.classes(1000), true)?;
    Ok(vec![("logits".into(), logits)])
}

/// The mean over the image and one layer on top.
pub(crate) fn classify(net: &mut Net, settings: &mut Settings, x: ValueId) -> Made<Outputs> {
    let pooled = net.global_average(x)?;
    let logits = net.linear("classifier", pooled, settings.classes(1000), true)?;
    Ok(vec![("logits".into(), logits)])
}

#[cfg(test)]
mod tests {
    use super::eighths;

    #[test]
    fn channels_round_to_eighths_but_not_far_down() {
        assert_eq!([1.0, 11.0, 12.0, 72.0 / 4.0, 144.0].map(eighths), [8, 16, 16, 24, 144]);
    }
}
