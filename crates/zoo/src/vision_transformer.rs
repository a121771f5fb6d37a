//! Transformers over patches of an image: ViT (arXiv:2010.11929) and DeiT (arXiv:2012.12877).

use anychip_ir::ValueId;
use anychip_tensor::{DType, Dim};

use crate::activation::Activation;
use crate::config::{Config, ConfigError, Plan};
use crate::convolution::Conv;
use crate::net::{Made, Net, Outputs};
use crate::row::{Published, Row, torchvision};
use crate::settings::Settings;

/// The sizes that tell one from another.
#[derive(Debug, Clone)]
pub(crate) struct VisionTransformer {
    pub(crate) image: usize,
    pub(crate) patch: usize,
    pub(crate) channels: usize,
    pub(crate) width: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) inner: usize,
    pub(crate) epsilon: f32,
    pub(crate) activation: Activation,
    /// With biases in the projections to queries, keys and values.
    pub(crate) qkv_bias: bool,
}

const fn vit(patch: usize, width: usize, layers: usize, heads: usize) -> VisionTransformer {
    VisionTransformer {
        image: 224,
        patch,
        channels: 3,
        width,
        layers,
        heads,
        inner: 4 * width,
        epsilon: 1e-6,
        activation: Activation::Gelu,
        qkv_bias: true,
    }
}

const TIMM: &str = "timm, parameters and multiply-accumulates of the model at 224 pixels";

/// A classifier of timm, which publishes multiply-accumulates rounded.
const fn timm(
    name: &'static str,
    aliases: &'static [&'static str],
    parameters: u64,
    macs: Published,
    build: crate::row::Recipe,
) -> Row {
    let parameters = Published::Exact(parameters);
    Row { name, aliases, parameters, macs, macs_at: "", source: TIMM, dtype: DType::F32, build }
}

pub(crate) const ROWS: &[Row] = &[
    timm(
        "vit-ti-16",
        &["vit-tiny", "deit-ti", "deit-tiny"],
        5_717_416,
        Published::Unknown,
        |n, s| vit(16, 192, 12, 3).build(n, s),
    ),
    timm(
        "vit-s-16",
        &["vit-small", "deit-s", "deit-small"],
        22_050_664,
        Published::Unknown,
        |n, s| vit(16, 384, 12, 6).build(n, s),
    ),
    timm("vit-s-32", &[], 22_878_952, Published::Unknown, |n, s| vit(32, 384, 12, 6).build(n, s)),
    torchvision("vit-b-16", 86_567_656, 17.564e9, |n, s| vit(16, 768, 12, 12).build(n, s)).also(&[
        "vit-base",
        "deit-b",
        "deit-base",
    ]),
    torchvision("vit-b-32", 88_224_232, 4.409e9, |n, s| vit(32, 768, 12, 12).build(n, s)),
    timm("vit-b-8", &[], 86_576_872, Published::Unknown, |n, s| vit(8, 768, 12, 12).build(n, s)),
    torchvision("vit-l-16", 304_326_632, 61.555e9, |n, s| vit(16, 1024, 24, 16).build(n, s))
        .also(&["vit-large"]),
    torchvision("vit-l-32", 306_535_400, 15.378e9, |n, s| vit(32, 1024, 24, 16).build(n, s)),
    torchvision("vit-h-14", 632_045_800, 167.295e9, |n, s| vit(14, 1280, 32, 16).build(n, s))
        .also(&["vit-huge"]),
];

impl VisionTransformer {
    pub(crate) fn build(&self, net: &mut Net, settings: &mut Settings) -> Made<Outputs> {
        let x = self.encode(net, settings)?;
        let first = net.b.index(x, 1, 0)?;
        let logits = net.linear("classifier", first, settings.classes(1000), true)?;
        Ok(vec![("logits".into(), logits)])
    }

    /// What the encoder makes of the class token and the patches, `[n, 1 + patches, width]`.
    fn encode(&self, net: &mut Net, settings: &mut Settings) -> Made {
        let image = settings.image(self.image);
        let x = net.input("image", &[self.channels, image, image]);
        let patches = Conv::new(self.width, self.patch).stride(self.patch).padding(0).bias();
        let x = net.conv("patches", x, patches)?;
        let (batch, count) = (net.b.dims(x)[0].clone(), net.size(x, 2)? * net.size(x, 3)?);
        let x = net.b.reshape(x, &[batch.clone(), self.width.into(), count.into()])?;
        let x = net.b.transpose(x, &[0, 2, 1])?;
        let class = net.shift(&[1, 1, self.width])?;
        let class = net.b.broadcast(class, &[batch, Dim::Fixed(1), self.width.into()])?;
        let x = net.b.concat(&[class, x], 1)?;
        let positions = net.shift(&[1, 1 + count, self.width])?;
        let mut x = net.b.add(x, positions)?;
        for layer in 0..self.layers {
            x = net.within(format!("layers.{layer}"), |net| self.layer(net, x))?;
        }
        net.layer_norm("norm", x, self.epsilon)
    }

    fn layer(&self, net: &mut Net, x: ValueId) -> Made {
        let normal = net.layer_norm("attention_norm", x, self.epsilon)?;
        let y = net.within("attention", |net| {
            let q = net.linear("query", normal, self.width, self.qkv_bias)?;
            let k = net.linear("key", normal, self.width, self.qkv_bias)?;
            let v = net.linear("value", normal, self.width, self.qkv_bias)?;
            let y = net.attend_heads([q, k, v], self.heads, None)?;
            net.linear("output", y, self.width, true)
        })?;
        let x = net.b.add(x, y)?;
        let normal = net.layer_norm("feed_forward_norm", x, self.epsilon)?;
        let y = net.linear("feed_forward.in", normal, self.inner, true)?;
        let y = net.activate(y, self.activation)?;
        let y = net.linear("feed_forward.out", y, self.width, true)?;
        net.b.add(x, y)
    }
}

/// `model_type` `vit` and `deit`.
pub(crate) fn read(config: &Config<'_>) -> Result<Plan, ConfigError> {
    let width = config.size(&["hidden_size"])?;
    let heads = config.size(&["num_attention_heads"])?;
    if !width.is_multiple_of(heads) {
        return Err(config.misfit("num_attention_heads", "a divisor of hidden_size"));
    }
    let image = config.size_up_to(&["image_size"], 65_536)?.unwrap_or(224);
    let patch = config.size_or(&["patch_size"], 16)?;
    if patch > image {
        return Err(config.misfit("patch_size", "at most image_size"));
    }
    let model = VisionTransformer {
        image,
        patch,
        channels: config.size_or(&["num_channels"], 3)?,
        width,
        layers: config.layers(&["num_hidden_layers"])?,
        heads,
        inner: config.size_or(&["intermediate_size"], 4 * width)?,
        epsilon: config.number_or(&["layer_norm_eps"], 1e-12)? as f32,
        activation: config.activation_or(&["hidden_act"], Activation::Gelu)?,
        qkv_bias: config.flag_or("qkv_bias", true)?,
    };
    Ok(Box::new(move |net, settings| model.build(net, settings)))
}
