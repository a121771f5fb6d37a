//! Detection of objects in one pass: RetinaNet (arXiv:1708.02002), up to the scores and offsets of every anchor; choosing
//! among overlapping boxes is left to what follows.

use anychip_ir::ValueId;
use anychip_tensor::{DType, Dim};

use crate::activation::Activation::{None as Linear, Relu};
use crate::convolution::Conv;
use crate::net::{Made, Net, Outputs};
use crate::resnet::ResNet;
use crate::row::{Published, Row};
use crate::settings::Settings;

/// Channels of the pyramid.
const WIDTH: usize = 256;

/// Boxes at each place: three sizes and three proportions.
const ANCHORS: usize = 9;

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "retinanet-resnet50",
        aliases: &["retinanet"],
        parameters: Published::Exact(34_014_999),
        macs: Published::Unknown,
        macs_at: "",
        source: "torchvision 0.21, `num_params` of RetinaNet with ResNet-50 and a pyramid",
        dtype: DType::F32,
        build: |n, s| build(n, s, 1, 64, 91),
    },
    Row {
        name: "retinanet-resnext50-mlperf",
        aliases: &["retinanet-mlperf"],
        parameters: Published::Unknown,
        macs: Published::Unknown,
        macs_at: "",
        source: "sizes: MLPerf inference, object detection, RetinaNet with ResNeXt-50 32x4d, 264 classes, 800 pixels",
        dtype: DType::F32,
        build: |n, s| build(n, s, 32, 4, 264),
    },
];

fn build(
    net: &mut Net,
    settings: &mut Settings,
    groups: usize,
    group_width: usize,
    classes: usize,
) -> Made<Outputs> {
    let image = settings.image(800);
    let classes = settings.classes(classes);
    let x = net.input("image", &[3, image, image]);
    // Norms of the backbone keep what pretraining left; nobody counts them as trained.
    net.frozen_norms = true;
    let backbone = ResNet { blocks: [3, 4, 6, 3], bottleneck: true, groups, group_width };
    let [_, c3, c4, c5] = net.within("backbone", |net| backbone.stages(net, x))?;
    let levels = net.within("pyramid", |net| pyramid(net, [c3, c4, c5]))?;
    let (scores, offsets) = (ANCHORS * classes, ANCHORS * 4);
    let scores = head(net, "scores", &levels, scores, classes)?;
    let offsets = head(net, "offsets", &levels, offsets, 4)?;
    Ok(vec![("scores".into(), scores), ("offsets".into(), offsets)])
}

/// Five sizes of the image, each of what is there and what comes from the smaller one (arXiv:1612.03144).
fn pyramid(net: &mut Net, stages: [ValueId; 3]) -> Made<Vec<ValueId>> {
    let mut inner = Vec::new();
    for (i, stage) in stages.into_iter().enumerate() {
        inner.push(net.conv(&format!("inner.{i}"), stage, Conv::new(WIDTH, 1).bias())?);
    }
    for i in [1, 0] {
        let from = enlarge(net, inner[i + 1], inner[i])?;
        inner[i] = net.b.add(inner[i], from)?;
    }
    let mut levels = Vec::new();
    for (i, &value) in inner.iter().enumerate() {
        levels.push(net.conv(&format!("layer.{i}"), value, Conv::new(WIDTH, 3).bias())?);
    }
    let halve = Conv::new(WIDTH, 3).stride(2).bias();
    let sixth = net.conv("sixth", levels[2], halve)?;
    let active = net.activate(sixth, Relu)?;
    let seventh = net.conv("seventh", active, halve)?;
    levels.extend([sixth, seventh]);
    Ok(levels)
}

/// `x` with each pixel repeated until it has the size of `like`: pixel `i` comes from `⌊i · small / large⌋`.
fn enlarge(net: &mut Net, x: ValueId, like: ValueId) -> Made {
    let mut x = x;
    for axis in [2, 3] {
        let (small, large) = (net.size(x, axis)?, net.size(like, axis)?);
        let from: Vec<i64> = (0..large).map(|i| (i * small / large) as i64).collect();
        let from = net.b.integers(&from);
        x = net.b.prim(anychip_ir::Prim::Take { axis }, &[x, from])?;
    }
    Ok(x)
}

/// The same four convolutions and a last one over every level, `[n, all anchors, numbers]`.
fn head(net: &mut Net, name: &str, levels: &[ValueId], out: usize, numbers: usize) -> Made {
    let mut parts = levels.to_vec();
    for i in 0..4 {
        let conv = Conv::new(WIDTH, 3).bias();
        parts = net.shared_conv(&format!("{name}.{i}"), &parts, conv, Relu)?;
    }
    parts = net.shared_conv(&format!("{name}.out"), &parts, Conv::new(out, 3).bias(), Linear)?;
    for part in &mut parts {
        let (batch, height, width) =
            (net.b.dims(*part)[0].clone(), net.size(*part, 2)?, net.size(*part, 3)?);
        let last = net.b.transpose(*part, &[0, 2, 3, 1])?;
        let all = Dim::Fixed(height * width * out / numbers);
        *part = net.b.reshape(last, &[batch, all, numbers.into()])?;
    }
    net.b.concat(&parts, 1)
}
