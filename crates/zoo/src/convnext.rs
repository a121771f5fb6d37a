//! ConvNeXt (arXiv:2201.03545): convolutions of 7 × 7 a channel, then layers over the channels.

use anychip_ir::ValueId;

use crate::activation::Activation::Gelu;
use crate::convolution::Conv;
use crate::net::{Made, Net, Outputs};
use crate::row::{Row, torchvision};
use crate::settings::Settings;

const EPSILON: f32 = 1e-6;

pub(crate) const ROWS: &[Row] = &[
    torchvision("convnext-tiny", 28_589_128, 4.456e9, |n, s| build(n, s, 96, [3, 3, 9, 3])),
    torchvision("convnext-small", 50_223_688, 8.684e9, |n, s| build(n, s, 96, [3, 3, 27, 3])),
    torchvision("convnext-base", 88_591_464, 15.355e9, |n, s| build(n, s, 128, [3, 3, 27, 3])),
    torchvision("convnext-large", 197_767_336, 34.361e9, |n, s| build(n, s, 192, [3, 3, 27, 3])),
];

fn build(
    net: &mut Net,
    settings: &mut Settings,
    width: usize,
    blocks: [usize; 4],
) -> Made<Outputs> {
    let image = settings.image(224);
    let x = net.input("image", &[3, image, image]);
    let x = net.conv("stem", x, Conv::new(width, 4).stride(4).padding(0).bias())?;
    let mut x = image_norm(net, "stem_norm", x)?;
    for (i, count) in blocks.into_iter().enumerate() {
        if i > 0 {
            x = net.within(format!("halve.{i}"), |net| {
                let y = image_norm(net, "norm", x)?;
                net.conv("conv", y, Conv::new(width << i, 2).stride(2).padding(0).bias())
            })?;
        }
        for block in 0..count {
            x = net.within(format!("stages.{i}.{block}"), |net| self::block(net, x))?;
        }
    }
    let pooled = net.global_average(x)?;
    let pooled = net.layer_norm("norm", pooled, EPSILON)?;
    let logits = net.linear("classifier", pooled, settings.classes(1000), true)?;
    Ok(vec![("logits".into(), logits)])
}

/// Layer normalization over the channels of `[n, c, h, w]`.
fn image_norm(net: &mut Net, name: &str, x: ValueId) -> Made {
    let last = net.b.transpose(x, &[0, 2, 3, 1])?;
    let normal = net.layer_norm(name, last, EPSILON)?;
    net.b.transpose(normal, &[0, 3, 1, 2])
}

fn block(net: &mut Net, x: ValueId) -> Made {
    let width = net.size(x, 1)?;
    let y = net.conv("depthwise", x, Conv::new(width, 7).groups(width).bias())?;
    let y = net.b.transpose(y, &[0, 2, 3, 1])?;
    let y = net.layer_norm("norm", y, EPSILON)?;
    let y = net.linear("in", y, 4 * width, true)?;
    let y = net.activate(y, Gelu)?;
    let y = net.linear("out", y, width, true)?;
    // What the block adds is scaled channel by channel.
    let scale = net.gain(&[width])?;
    let y = net.b.mul(y, scale)?;
    let y = net.b.transpose(y, &[0, 3, 1, 2])?;
    net.b.add(x, y)
}
