//! Image networks of convolutions in a row: AlexNet (arXiv:1404.5997), VGG (arXiv:1409.1556) and SqueezeNet
//! (arXiv:1602.07360).

use anychip_ir::ValueId;
use anychip_tensor::Dim;

use crate::activation::Activation::Relu;
use crate::convolution::Conv;
use crate::net::{Made, Net, Outputs};
use crate::row::{Row, torchvision};
use crate::settings::Settings;

/// Convolutions of each stage; channels double from 64 to 512.
type Stages = [usize; 5];

const VGG11: Stages = [1, 1, 2, 2, 2];
const VGG13: Stages = [2, 2, 2, 2, 2];
const VGG16: Stages = [2, 2, 3, 3, 3];
const VGG19: Stages = [2, 2, 4, 4, 4];

pub(crate) const ROWS: &[Row] = &[
    torchvision("alexnet", 61_100_840, 0.714e9, alexnet),
    torchvision("vgg11", 132_863_336, 7.609e9, |n, s| vgg(n, s, VGG11, false)),
    torchvision("vgg13", 133_047_848, 11.308e9, |n, s| vgg(n, s, VGG13, false)),
    torchvision("vgg16", 138_357_544, 15.47e9, |n, s| vgg(n, s, VGG16, false)),
    torchvision("vgg19", 143_667_240, 19.632e9, |n, s| vgg(n, s, VGG19, false)),
    torchvision("vgg11-bn", 132_868_840, 7.609e9, |n, s| vgg(n, s, VGG11, true)),
    torchvision("vgg13-bn", 133_053_736, 11.308e9, |n, s| vgg(n, s, VGG13, true)),
    torchvision("vgg16-bn", 138_365_992, 15.47e9, |n, s| vgg(n, s, VGG16, true)),
    torchvision("vgg19-bn", 143_678_248, 19.632e9, |n, s| vgg(n, s, VGG19, true)),
    torchvision("squeezenet1-0", 1_248_424, 0.819e9, |n, s| squeezenet(n, s, false)),
    torchvision("squeezenet1-1", 1_235_496, 0.349e9, |n, s| squeezenet(n, s, true)),
];

fn convolve(net: &mut Net, name: &str, x: ValueId, conv: Conv) -> Made {
    let y = net.conv(name, x, conv.bias())?;
    net.activate(y, Relu)
}

/// Two wide layers and the classifier on all that is left of the image.
fn dense(net: &mut Net, settings: &mut Settings, x: ValueId) -> Made<Outputs> {
    let all = net.size(x, 1)? * net.size(x, 2)? * net.size(x, 3)?;
    let batch = net.b.dims(x)[0].clone();
    let mut x = net.b.reshape(x, &[batch, Dim::Fixed(all)])?;
    for name in ["hidden1", "hidden2"] {
        let y = net.linear(name, x, 4096, true)?;
        x = net.activate(y, Relu)?;
    }
    let logits = net.linear("classifier", x, settings.classes(1000), true)?;
    Ok(vec![("logits".into(), logits)])
}

fn alexnet(net: &mut Net, settings: &mut Settings) -> Made<Outputs> {
    let image = settings.image(224);
    let x = net.input("image", &[3, image, image]);
    let x = convolve(net, "conv1", x, Conv::new(64, 11).stride(4).padding(2))?;
    let x = net.max_pool(x, 3, 2, 0)?;
    let x = convolve(net, "conv2", x, Conv::new(192, 5))?;
    let x = net.max_pool(x, 3, 2, 0)?;
    let x = convolve(net, "conv3", x, Conv::new(384, 3))?;
    let x = convolve(net, "conv4", x, Conv::new(256, 3))?;
    let x = convolve(net, "conv5", x, Conv::new(256, 3))?;
    let x = net.max_pool(x, 3, 2, 0)?;
    dense(net, settings, x)
}

fn vgg(net: &mut Net, settings: &mut Settings, stages: Stages, norm: bool) -> Made<Outputs> {
    let image = settings.image(224);
    let mut x = net.input("image", &[3, image, image]);
    for (stage, count) in stages.into_iter().enumerate() {
        let channels = (64 << stage).min(512);
        for i in 0..count {
            let conv = Conv::new(channels, 3).bias();
            let name = format!("stages.{stage}.{i}");
            x = if norm {
                net.conv_norm(&name, x, conv, Relu)?
            } else {
                convolve(net, &name, x, conv)?
            };
        }
        x = net.max_pool(x, 2, 2, 0)?;
    }
    dense(net, settings, x)
}

/// A squeeze by 1 × 1 and an expansion by 1 × 1 beside 3 × 3.
fn fire(net: &mut Net, name: &str, x: ValueId, squeezed: usize, out: usize) -> Made {
    net.within(name, |net| {
        let y = convolve(net, "squeeze", x, Conv::new(squeezed, 1))?;
        let near = convolve(net, "expand1x1", y, Conv::new(out / 2, 1))?;
        let far = convolve(net, "expand3x3", y, Conv::new(out / 2, 3))?;
        net.b.concat(&[near, far], 1)
    })
}

/// Channels of each squeeze and after each expansion: table 1 of arXiv:1602.07360.
const FIRES: [(usize, usize); 8] =
    [(16, 128), (16, 128), (32, 256), (32, 256), (48, 384), (48, 384), (64, 512), (64, 512)];

fn squeezenet(net: &mut Net, settings: &mut Settings, smaller: bool) -> Made<Outputs> {
    let image = settings.image(224);
    let x = net.input("image", &[3, image, image]);
    let stem = if smaller { Conv::new(64, 3) } else { Conv::new(96, 7) };
    let mut x = convolve(net, "stem", x, stem.stride(2).padding(0))?;
    let halves: &[usize] = if smaller { &[0, 2, 4] } else { &[0, 3, 7] };
    for (i, (squeezed, out)) in FIRES.into_iter().enumerate() {
        if halves.contains(&i) {
            x = ceiling_pool(net, x)?;
        }
        x = fire(net, &format!("fire{}", i + 2), x, squeezed, out)?;
    }
    let scores = convolve(net, "classifier", x, Conv::new(settings.classes(1000), 1))?;
    let logits = net.global_average(scores)?;
    Ok(vec![("logits".into(), logits)])
}

/// The largest of windows of 3 with stride 2, the last of which may reach over the edge.
fn ceiling_pool(net: &mut Net, x: ValueId) -> Made {
    let size = net.size(x, 2)?;
    net.max_pool_uneven(x, 3, 2, (0, i64::from(size % 2 == 0)))
}
