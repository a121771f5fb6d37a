//! Residual networks: ResNet (arXiv:1512.03385), ResNeXt (arXiv:1611.05431) and Wide ResNet (arXiv:1605.07146), in the
//! form that strides in the 3 × 3 convolution (ResNet "1.5").

use anychip_ir::ValueId;

use crate::activation::Activation::{self, Relu};
use crate::config::{Config, ConfigError, MOST_LAYERS, Plan};
use crate::convolution::Conv;
use crate::net::{Made, Net, Outputs};
use crate::row::{Row, torchvision};
use crate::settings::Settings;

/// What tells one from another.
#[derive(Debug, Clone)]
pub(crate) struct ResNet {
    /// Blocks of each stage.
    pub(crate) blocks: [usize; 4],
    /// Blocks of three convolutions instead of two.
    pub(crate) bottleneck: bool,
    /// Groups of the 3 × 3 convolution.
    pub(crate) groups: usize,
    /// Channels of a group in the first stage.
    pub(crate) group_width: usize,
}

const fn plain(blocks: [usize; 4], bottleneck: bool) -> ResNet {
    ResNet { blocks, bottleneck, groups: 1, group_width: 64 }
}

pub(crate) const ROWS: &[Row] = &[
    torchvision("resnet18", 11_689_512, 1.814e9, |n, s| plain([2, 2, 2, 2], false).build(n, s)),
    torchvision("resnet34", 21_797_672, 3.664e9, |n, s| plain([3, 4, 6, 3], false).build(n, s)),
    torchvision("resnet50", 25_557_032, 4.089e9, |n, s| plain([3, 4, 6, 3], true).build(n, s)),
    torchvision("resnet101", 44_549_160, 7.801e9, |n, s| plain([3, 4, 23, 3], true).build(n, s)),
    torchvision("resnet152", 60_192_808, 11.514e9, |n, s| plain([3, 8, 36, 3], true).build(n, s)),
    torchvision("resnext50-32x4d", 25_028_904, 4.23e9, |n, s| {
        ResNet { groups: 32, group_width: 4, ..plain([3, 4, 6, 3], true) }.build(n, s)
    }),
    torchvision("resnext101-32x8d", 88_791_336, 16.414e9, |n, s| {
        ResNet { groups: 32, group_width: 8, ..plain([3, 4, 23, 3], true) }.build(n, s)
    }),
    torchvision("resnext101-64x4d", 83_455_272, 15.46e9, |n, s| {
        ResNet { groups: 64, group_width: 4, ..plain([3, 4, 23, 3], true) }.build(n, s)
    }),
    torchvision("wide-resnet50-2", 68_883_240, 11.398e9, |n, s| {
        ResNet { group_width: 128, ..plain([3, 4, 6, 3], true) }.build(n, s)
    }),
    torchvision("wide-resnet101-2", 126_886_696, 22.753e9, |n, s| {
        ResNet { group_width: 128, ..plain([3, 4, 23, 3], true) }.build(n, s)
    }),
];

impl ResNet {
    fn build(&self, net: &mut Net, settings: &mut Settings) -> Made<Outputs> {
        let image = settings.image(224);
        let x = net.input("image", &[3, image, image]);
        let stages = self.stages(net, x)?;
        let pooled = net.global_average(stages[3])?;
        let logits = net.linear("fc", pooled, settings.classes(1000), true)?;
        Ok(vec![("logits".into(), logits)])
    }

    /// What each of the four stages gives.
    pub(crate) fn stages(&self, net: &mut Net, x: ValueId) -> Made<[ValueId; 4]> {
        let x = net.conv_norm("stem", x, Conv::new(64, 7).stride(2), Relu)?;
        let mut x = net.max_pool(x, 3, 2, 1)?;
        let mut stages = [x; 4];
        for (i, &blocks) in self.blocks.iter().enumerate() {
            for block in 0..blocks {
                let stride = if i > 0 && block == 0 { 2 } else { 1 };
                let width = 64 << i;
                x = net.within(format!("layer{}.{block}", i + 1), |net| {
                    self.block(net, x, width, stride)
                })?;
            }
            stages[i] = x;
        }
        Ok(stages)
    }

    fn block(&self, net: &mut Net, x: ValueId, width: usize, stride: usize) -> Made {
        let none = Activation::None;
        let (y, out) = if self.bottleneck {
            let inner = self.groups * (self.group_width * width / 64);
            let y = net.conv_norm("conv1", x, Conv::new(inner, 1), Relu)?;
            let middle = Conv::new(inner, 3).stride(stride).groups(self.groups);
            let y = net.conv_norm("conv2", y, middle, Relu)?;
            (net.conv_norm("conv3", y, Conv::new(4 * width, 1), none)?, 4 * width)
        } else {
            let y = net.conv_norm("conv1", x, Conv::new(width, 3).stride(stride), Relu)?;
            (net.conv_norm("conv2", y, Conv::new(width, 3), none)?, width)
        };
        let kept = if stride != 1 || net.size(x, 1)? != out {
            net.conv_norm("downsample", x, Conv::new(out, 1).stride(stride), none)?
        } else {
            x
        };
        let sum = net.b.add(y, kept)?;
        net.activate(sum, Relu)
    }
}

/// `model_type` `resnet`.
pub(crate) fn read(config: &Config<'_>) -> Result<Plan, ConfigError> {
    let blocks = config.sizes("depths")?.unwrap_or_else(|| vec![3, 4, 6, 3]);
    let widths = config.sizes("hidden_sizes")?.unwrap_or_else(|| vec![256, 512, 1024, 2048]);
    let bottleneck = match config.text("layer_type")? {
        None | Some("bottleneck") => true,
        Some("basic") => false,
        Some(_) => return Err(config.misfit("layer_type", "bottleneck or basic")),
    };
    let first = if bottleneck { 256 } else { 64 };
    if widths != [first, 2 * first, 4 * first, 8 * first] {
        return Err(config.misfit(
            "hidden_sizes",
            "the widths of a ResNet: 64 (256 with bottlenecks), doubling three times",
        ));
    }
    let Ok(blocks) = <[usize; 4]>::try_from(blocks) else {
        return Err(config.misfit("depths", "four numbers of blocks"));
    };
    if blocks.iter().any(|&n| n > MOST_LAYERS) {
        return Err(config.misfit("depths", "four numbers of blocks, none above 1024"));
    }
    Ok(Box::new(move |net, settings| plain(blocks, bottleneck).build(net, settings)))
}
