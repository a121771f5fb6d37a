//! Densely connected image networks (arXiv:1608.06993): each layer reads what all before it gave.

use anychip_ir::ValueId;

use crate::activation::Activation::Relu;
use crate::convolution::Conv;
use crate::mobilenet::classify;
use crate::net::{Made, Net, Outputs};
use crate::row::{Row, torchvision};
use crate::settings::Settings;

pub(crate) const ROWS: &[Row] = &[
    torchvision("densenet121", 7_978_856, 2.834e9, |n, s| build(n, s, 64, 32, [6, 12, 24, 16])),
    torchvision("densenet161", 28_681_000, 7.728e9, |n, s| build(n, s, 96, 48, [6, 12, 36, 24])),
    torchvision("densenet169", 14_149_480, 3.36e9, |n, s| build(n, s, 64, 32, [6, 12, 32, 32])),
    torchvision("densenet201", 20_013_928, 4.291e9, |n, s| build(n, s, 64, 32, [6, 12, 48, 32])),
];

fn build(
    net: &mut Net,
    settings: &mut Settings,
    stem: usize,
    growth: usize,
    blocks: [usize; 4],
) -> Made<Outputs> {
    let image = settings.image(224);
    let x = net.input("image", &[3, image, image]);
    let x = net.conv_norm("stem", x, Conv::new(stem, 7).stride(2), Relu)?;
    let mut x = net.max_pool(x, 3, 2, 1)?;
    for (i, layers) in blocks.into_iter().enumerate() {
        let mut parts = vec![x];
        for layer in 0..layers {
            let new =
                net.within(format!("blocks.{i}.{layer}"), |net| dense(net, &parts, growth))?;
            parts.push(new);
        }
        x = net.b.concat(&parts, 1)?;
        if i < 3 {
            x = net.within(format!("transitions.{i}"), |net| {
                let y = normal(net, "norm", x)?;
                let half = net.size(y, 1)? / 2;
                let y = net.conv("conv", y, Conv::new(half, 1))?;
                net.average_pool(y, 2, 2)
            })?;
        }
    }
    let x = normal(net, "norm", x)?;
    classify(net, settings, x)
}

fn normal(net: &mut Net, name: &str, x: ValueId) -> Made {
    let y = net.batch_norm(name, x)?;
    net.activate(y, Relu)
}

fn dense(net: &mut Net, parts: &[ValueId], growth: usize) -> Made {
    let x = net.b.concat(parts, 1)?;
    let y = normal(net, "norm", x)?;
    let y = net.conv_norm("bottleneck", y, Conv::new(4 * growth, 1), Relu)?;
    net.conv("conv", y, Conv::new(growth, 3))
}
