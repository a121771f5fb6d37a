//! EfficientNet (arXiv:1905.11946) and EfficientNetV2 (arXiv:2104.00298), with the convolutions padded alike on both sides.

use crate::activation::Activation::{None as Linear, Sigmoid, Silu};
use crate::convolution::Conv;
use crate::mobilenet::{Inverted, classify, eighths};
use crate::net::{Made, Net, Outputs};
use crate::row::{Row, torchvision};
use crate::settings::Settings;

/// Blocks of one shape.
#[derive(Debug, Clone, Copy)]
struct Stage {
    /// Expansion and depthwise convolution are one full convolution.
    fused: bool,
    factor: usize,
    kernel: usize,
    stride: usize,
    out: usize,
    blocks: usize,
}

const fn stage(fused: bool, [factor, kernel, stride, out, blocks]: [usize; 5]) -> Stage {
    Stage { fused, factor, kernel, stride, out, blocks }
}

/// Table 1 of arXiv:1905.11946.
const B0: [Stage; 7] = [
    stage(false, [1, 3, 1, 16, 1]),
    stage(false, [6, 3, 2, 24, 2]),
    stage(false, [6, 5, 2, 40, 2]),
    stage(false, [6, 3, 2, 80, 3]),
    stage(false, [6, 5, 1, 112, 3]),
    stage(false, [6, 5, 2, 192, 4]),
    stage(false, [6, 3, 1, 320, 1]),
];

/// Table 4 of arXiv:2104.00298, and the larger ones of its code.
const V2_S: [Stage; 6] = [
    stage(true, [1, 3, 1, 24, 2]),
    stage(true, [4, 3, 2, 48, 4]),
    stage(true, [4, 3, 2, 64, 4]),
    stage(false, [4, 3, 2, 128, 6]),
    stage(false, [6, 3, 1, 160, 9]),
    stage(false, [6, 3, 2, 256, 15]),
];

const V2_M: [Stage; 7] = [
    stage(true, [1, 3, 1, 24, 3]),
    stage(true, [4, 3, 2, 48, 5]),
    stage(true, [4, 3, 2, 80, 5]),
    stage(false, [4, 3, 2, 160, 7]),
    stage(false, [6, 3, 1, 176, 14]),
    stage(false, [6, 3, 2, 304, 18]),
    stage(false, [6, 3, 1, 512, 5]),
];

const V2_L: [Stage; 7] = [
    stage(true, [1, 3, 1, 32, 4]),
    stage(true, [4, 3, 2, 64, 7]),
    stage(true, [4, 3, 2, 96, 7]),
    stage(false, [4, 3, 2, 192, 10]),
    stage(false, [6, 3, 1, 224, 19]),
    stage(false, [6, 3, 2, 384, 25]),
    stage(false, [6, 3, 1, 640, 7]),
];

pub(crate) const ROWS: &[Row] = &[
    torchvision("efficientnet-b0", 5_288_548, 0.386e9, |n, s| v1(n, s, 1.0, 1.0, 224)),
    torchvision("efficientnet-b1", 7_794_184, 0.687e9, |n, s| v1(n, s, 1.0, 1.1, 240)),
    torchvision("efficientnet-b2", 9_109_994, 1.088e9, |n, s| v1(n, s, 1.1, 1.2, 288)),
    torchvision("efficientnet-b3", 12_233_232, 1.827e9, |n, s| v1(n, s, 1.2, 1.4, 300)),
    torchvision("efficientnet-b4", 19_341_616, 4.394e9, |n, s| v1(n, s, 1.4, 1.8, 380)),
    torchvision("efficientnet-b5", 30_389_784, 10.266e9, |n, s| v1(n, s, 1.6, 2.2, 456)),
    torchvision("efficientnet-b6", 43_040_704, 19.068e9, |n, s| v1(n, s, 1.8, 2.6, 528)),
    torchvision("efficientnet-b7", 66_347_960, 37.746e9, |n, s| v1(n, s, 2.0, 3.1, 600)),
    torchvision("efficientnet-v2-s", 21_458_488, 8.366e9, |n, s| v2(n, s, &V2_S, 384)),
    torchvision("efficientnet-v2-m", 54_139_356, 24.582e9, |n, s| v2(n, s, &V2_M, 480)),
    torchvision("efficientnet-v2-l", 118_515_272, 56.08e9, |n, s| v2(n, s, &V2_L, 480)),
];

/// B0 with so many times the channels and the blocks, at its usual size of the image.
fn v1(
    net: &mut Net,
    settings: &mut Settings,
    width: f64,
    depth: f64,
    image: usize,
) -> Made<Outputs> {
    net.norm_epsilon = if width >= 1.6 { 1e-3 } else { 1e-5 };
    let stages = B0.map(|stage| Stage {
        out: eighths(stage.out as f64 * width),
        blocks: (stage.blocks as f64 * depth).ceil() as usize,
        ..stage
    });
    let last = 4 * eighths(320.0 * width);
    build(net, settings, eighths(32.0 * width), &stages, last, image)
}

fn v2(net: &mut Net, settings: &mut Settings, stages: &[Stage], image: usize) -> Made<Outputs> {
    net.norm_epsilon = 1e-3;
    build(net, settings, stages[0].out, stages, 1280, image)
}

fn build(
    net: &mut Net,
    settings: &mut Settings,
    stem: usize,
    stages: &[Stage],
    last: usize,
    image: usize,
) -> Made<Outputs> {
    let image = settings.image(image);
    let x = net.input("image", &[3, image, image]);
    let mut x = net.conv_norm("stem", x, Conv::new(stem, 3).stride(2), Silu)?;
    for (i, stage) in stages.iter().enumerate() {
        for block in 0..stage.blocks {
            x = net.within(format!("stages.{i}.{block}"), |net| {
                let channels = net.size(x, 1)?;
                let stride = if block == 0 { stage.stride } else { 1 };
                if !stage.fused {
                    let inverted = Inverted {
                        kernel: stage.kernel,
                        expanded: eighths((stage.factor * channels) as f64),
                        out: stage.out,
                        stride,
                        squeezed: Some((channels / 4).max(1)),
                        gates: [Silu, Sigmoid],
                        activation: Silu,
                    };
                    return inverted.build(net, x);
                }
                let y = if stage.factor == 1 {
                    let only = Conv::new(stage.out, stage.kernel).stride(stride);
                    net.conv_norm("conv", x, only, Silu)?
                } else {
                    let wide = Conv::new(stage.factor * channels, stage.kernel).stride(stride);
                    let y = net.conv_norm("expand", x, wide, Silu)?;
                    net.conv_norm("project", y, Conv::new(stage.out, 1), Linear)?
                };
                if stride == 1 && channels == stage.out { net.b.add(x, y) } else { Ok(y) }
            })?;
        }
    }
    let x = net.conv_norm("last", x, Conv::new(last, 1), Silu)?;
    classify(net, settings, x)
}
