//! The U-Net that takes noise out of a latent image in Stable Diffusion 1.5 (arXiv:2112.10752) and XL (arXiv:2307.01952): one
//! step of the many that make an image.

use anychip_ir::ValueId;
use anychip_ops::{GroupNorm, Resize};
use anychip_tensor::{DType, Dim, Tensor};

use crate::activation::Activation::{Gelu, Silu};
use crate::convolution::Conv;
use crate::net::{BATCH, Made, Net, Outputs};
use crate::row::{Published, Row};
use crate::settings::Settings;

/// Groups of every group norm.
const GROUPS: usize = 32;

/// Numbers that a moment of the process is encoded with, one by one of XL's six picture sizes.
const SIZE_CODE: usize = 256;

/// Tokens of the text.
const TOKENS: usize = 77;

struct UNet {
    /// Channels at each size of the image.
    widths: &'static [usize],
    /// Transformer blocks after each residual block at each size.
    depths: &'static [usize],
    /// Those in the middle.
    middle: usize,
    /// Width of the text's tokens.
    text: usize,
    /// Heads at each size.
    heads: &'static [usize],
    /// Around transformer blocks there are layers instead of 1 × 1 convolutions.
    linear: bool,
    /// Sizes of the picture and the pooled text come in too, of so many numbers.
    pooled: Option<usize>,
    /// Height and width of the latent image.
    latent: usize,
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "sd-1.5-unet",
        aliases: &["stable-diffusion-1.5-unet", "sd15-unet", "unet-sd15"],
        parameters: Published::Exact(859_520_964),
        macs: Published::Unknown,
        macs_at: "",
        source: "Hugging Face hub, parameter count of the weights",
        dtype: DType::F16,
        build: |n, s| {
            UNet {
                widths: &[320, 640, 1280, 1280],
                depths: &[1, 1, 1, 0],
                middle: 1,
                text: 768,
                heads: &[8, 8, 8, 8],
                linear: false,
                pooled: None,
                latent: 64,
            }
            .build(n, s)
        },
    },
    Row {
        name: "sdxl-unet",
        aliases: &["stable-diffusion-xl-unet", "unet-sdxl"],
        parameters: Published::Exact(2_567_463_684),
        macs: Published::Unknown,
        macs_at: "",
        source: "Hugging Face hub, parameter count of the weights",
        dtype: DType::F16,
        build: |n, s| {
            UNet {
                widths: &[320, 640, 1280],
                depths: &[0, 2, 10],
                middle: 10,
                text: 2048,
                heads: &[5, 10, 20],
                linear: true,
                pooled: Some(1280),
                latent: 128,
            }
            .build(n, s)
        },
    },
];

impl UNet {
    fn build(&self, net: &mut Net, settings: &mut Settings) -> Made<Outputs> {
        // A latent has an eighth of the picture's size.
        let latent = settings.image(8 * self.latent).div_ceil(8);
        let x = net.input("sample", &[4, latent, latent]);
        let text = net.input("encoder_hidden_states", &[TOKENS, self.text]);
        let moment = net.within("time", |net| self.moment(net))?;

        let levels = self.widths.len();
        let mut x = net.conv("conv_in", x, Conv::new(self.widths[0], 3).bias())?;
        let mut kept = vec![x];
        for level in 0..levels {
            for block in 0..2 {
                x = net.within(format!("down.{level}.{block}"), |net| {
                    let y = residual(net, x, moment, self.widths[level])?;
                    self.transformer(net, y, text, level, self.depths[level])
                })?;
                kept.push(x);
            }
            if level + 1 < levels {
                let halve = Conv::new(self.widths[level], 3).stride(2).bias();
                x = net.conv(&format!("down.{level}.halve"), x, halve)?;
                kept.push(x);
            }
        }
        x = net.within("middle", |net| {
            let width = self.widths[levels - 1];
            let y = net.within("0", |net| residual(net, x, moment, width))?;
            let y = self.transformer(net, y, text, levels - 1, self.middle)?;
            net.within("1", |net| residual(net, y, moment, width))
        })?;
        for level in (0..levels).rev() {
            for block in 0..3 {
                // What came down at this size goes up beside what comes from below.
                if let Some(beside) = kept.pop() {
                    x = fit(net, x, beside)?;
                    x = net.b.concat(&[x, beside], 1)?;
                }
                x = net.within(format!("up.{level}.{block}"), |net| {
                    let y = residual(net, x, moment, self.widths[level])?;
                    self.transformer(net, y, text, level, self.depths[level])
                })?;
            }
            if level > 0 {
                x = double(net, x)?;
                x = net.conv(
                    &format!("up.{level}.double"),
                    x,
                    Conv::new(self.widths[level], 3).bias(),
                )?;
            }
        }
        let y = group_norm(net, "norm_out", x, 1e-5)?;
        let y = net.activate(y, Silu)?;
        let y = net.conv("conv_out", y, Conv::new(4, 3).bias())?;
        Ok(vec![("out_sample".into(), y)])
    }

    /// The step of the process as a vector, `[n, 1280]`.
    fn moment(&self, net: &mut Net) -> Made {
        let wide = 4 * self.widths[0];
        let step = net.input("timestep", &[]);
        let code = sinusoids(net, step, self.widths[0])?;
        let y = net.linear("linear1", code, wide, true)?;
        let y = net.activate(y, Silu)?;
        let mut moment = net.linear("linear2", y, wide, true)?;
        if let Some(pooled) = self.pooled {
            let sizes = net.input("time_ids", &[6]);
            let pooled = net.input("text_embeds", &[pooled]);
            let code = sinusoids(net, sizes, SIZE_CODE)?;
            let code = net.b.reshape(code, &[Dim::sym(BATCH), Dim::Fixed(6 * SIZE_CODE)])?;
            let both = net.b.concat(&[pooled, code], 1)?;
            let y = net.linear("sizes1", both, wide, true)?;
            let y = net.activate(y, Silu)?;
            let y = net.linear("sizes2", y, wide, true)?;
            moment = net.b.add(moment, y)?;
        }
        net.activate(moment, Silu)
    }

    /// So many transformer blocks over the positions of the image, which also look at the text.
    fn transformer(
        &self,
        net: &mut Net,
        x: ValueId,
        text: ValueId,
        level: usize,
        depth: usize,
    ) -> Made {
        if depth == 0 {
            return Ok(x);
        }
        net.within("transformer", |net| {
            let dims = net.b.dims(x);
            let (width, positions) = (net.size(x, 1)?, net.size(x, 2)? * net.size(x, 3)?);
            let mut y = group_norm(net, "norm", x, 1e-6)?;
            if !self.linear {
                y = net.conv("in", y, Conv::new(width, 1).bias())?;
            }
            let y = net.b.reshape(y, &[dims[0].clone(), width.into(), positions.into()])?;
            let mut y = net.b.transpose(y, &[0, 2, 1])?;
            if self.linear {
                y = net.linear("in", y, width, true)?;
            }
            for i in 0..depth {
                y = net.within(i, |net| block(net, y, text, self.heads[level]))?;
            }
            if self.linear {
                y = net.linear("out", y, width, true)?;
            }
            let y = net.b.transpose(y, &[0, 2, 1])?;
            let mut y = net.b.reshape(y, &dims)?;
            if !self.linear {
                y = net.conv("out", y, Conv::new(width, 1).bias())?;
            }
            net.b.add(x, y)
        })
    }
}

/// Attention to the image, attention to the text, and a gated feed-forward network.
fn block(net: &mut Net, x: ValueId, text: ValueId, heads: usize) -> Made {
    let width = net.width(x)?;
    let mut x = x;
    for (name, other) in [("self", None), ("text", Some(text))] {
        let normal = net.layer_norm(&format!("{name}_norm"), x, 1e-5)?;
        let memory = other.unwrap_or(normal);
        let y = net.within(name, |net| {
            let q = net.linear("query", normal, width, false)?;
            let k = net.linear("key", memory, width, false)?;
            let v = net.linear("value", memory, width, false)?;
            let y = net.attend_heads([q, k, v], heads, None)?;
            net.linear("output", y, width, true)
        })?;
        x = net.b.add(x, y)?;
    }
    let normal = net.layer_norm("feed_forward_norm", x, 1e-5)?;
    let wide = net.linear("feed_forward.in", normal, 8 * width, true)?;
    let (half, whole) = (Dim::Fixed(4 * width), Dim::Fixed(8 * width));
    let value = net.b.slice(wide, 2, &Dim::Fixed(0), &half)?;
    let gate = net.b.slice(wide, 2, &half, &whole)?;
    let gate = net.activate(gate, Gelu)?;
    let y = net.b.mul(value, gate)?;
    let y = net.linear("feed_forward.out", y, width, true)?;
    net.b.add(x, y)
}

/// Two convolutions with the moment added between them.
fn residual(net: &mut Net, x: ValueId, moment: ValueId, out: usize) -> Made {
    let y = group_norm(net, "norm1", x, 1e-5)?;
    let y = net.activate(y, Silu)?;
    let y = net.conv("conv1", y, Conv::new(out, 3).bias())?;
    let shift = net.linear("time", moment, out, true)?;
    let shift = net.b.unsqueeze(shift, &[2, 3])?;
    let y = net.b.add(y, shift)?;
    let y = group_norm(net, "norm2", y, 1e-5)?;
    let y = net.activate(y, Silu)?;
    let y = net.conv("conv2", y, Conv::new(out, 3).bias())?;
    let kept =
        if net.size(x, 1)? == out { x } else { net.conv("shortcut", x, Conv::new(out, 1).bias())? };
    net.b.add(kept, y)
}

fn group_norm(net: &mut Net, name: &str, x: ValueId, epsilon: f32) -> Made {
    net.within(name, |net| {
        let channels = [net.size(x, 1)?];
        let (scale, bias) = (net.gain(&channels)?, net.shift(&channels)?);
        let norm = GroupNorm { groups: GROUPS, epsilon, precision: DType::F32 };
        net.b.composite(norm, &[x, scale, bias])
    })
}

/// Cosines and sines of `x` at `width / 2` frequencies from 1 down to 1/10000, along a new last dim.
fn sinusoids(net: &mut Net, x: ValueId, width: usize) -> Made {
    let half = width / 2;
    let frequencies: Vec<f32> =
        (0..half).map(|i| 1e4f64.powf(-(i as f64) / half as f64) as f32).collect();
    let dtype = net.dtype;
    let b = &mut net.b;
    let frequencies = b.constant(Tensor::from_vec([half], frequencies)?);
    let wide = b.cast(x, DType::F32)?;
    let wide = b.unsqueeze(wide, &[b.rank(x)])?;
    let angles = b.mul(wide, frequencies)?;
    let (cos, sin) = (b.cos(angles)?, b.sin(angles)?);
    let both = b.concat(&[cos, sin], b.rank(angles) - 1)?;
    b.cast(both, dtype)
}

/// Each pixel four times.
fn double(net: &mut Net, x: ValueId) -> Made {
    let resize = Resize {
        axes: vec![2, 3],
        mode: "nearest".to_string(),
        coordinates: "asymmetric".to_string(),
        nearest: "floor".to_string(),
        cubic: -0.75,
        exclude_outside: false,
        antialias: false,
        extrapolation: 0.0,
        region: Vec::new(),
        scales: vec![2.0, 2.0],
        policy: "stretch".to_string(),
    };
    net.b.composite(resize, &[x])
}

/// `x` cut to the size of `like`, where halving an odd size and doubling it gave one more.
fn fit(net: &mut Net, x: ValueId, like: ValueId) -> Made {
    let mut x = x;
    for axis in [2, 3] {
        let size = net.size(like, axis)?;
        if net.size(x, axis)? != size {
            x = net.b.slice(x, axis, &Dim::Fixed(0), &Dim::Fixed(size))?;
        }
    }
    Ok(x)
}
