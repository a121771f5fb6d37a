//! Decoders with plain feed-forward networks: GPT-2 (Radford et al. 2019), its distilled form, and GPT-J (Wang and
//! Komatsuzaki 2021), which turns positions and runs attention beside the feed-forward network.

use anychip_ir::ValueId;
use anychip_tensor::{DType, Dim};

use crate::activation::Activation;
use crate::attention::Rotary;
use crate::config::{Config, ConfigError, Plan};
use crate::language::Run;
use crate::net::{Made, Net, Outputs};
use crate::row::{Row, hub};
use crate::settings::Settings;

/// The sizes that tell one from another.
#[derive(Debug, Clone)]
pub(crate) struct Gpt {
    pub(crate) vocabulary: usize,
    pub(crate) positions: usize,
    pub(crate) width: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) inner: usize,
    pub(crate) epsilon: f32,
    pub(crate) activation: Activation,
    /// GPT-J: this many elements of each head are turned by the position, in place of a table of positions; attention and
    /// the feed-forward network read the same norm; projections of attention have no bias; the head is no table and has one.
    pub(crate) rotary: Option<usize>,
}

const fn gpt2(layers: usize, width: usize) -> Gpt {
    Gpt {
        vocabulary: 50_257,
        positions: 1024,
        width,
        layers,
        heads: width / 64,
        inner: 4 * width,
        epsilon: 1e-5,
        activation: Activation::GeluTanh,
        rotary: None,
    }
}

const GPT_J: Gpt =
    Gpt { vocabulary: 50_400, positions: 2048, heads: 16, rotary: Some(64), ..gpt2(28, 4096) };

pub(crate) const ROWS: &[Row] = &[
    hub("distilgpt2", &[], 81_912_576, DType::F32, |n, s| gpt2(6, 768).build(n, s)),
    hub("gpt2", &["gpt2-small"], 124_439_808, DType::F32, |n, s| gpt2(12, 768).build(n, s)),
    hub("gpt2-medium", &[], 354_823_168, DType::F32, |n, s| gpt2(24, 1024).build(n, s)),
    hub("gpt2-large", &[], 774_030_080, DType::F32, |n, s| gpt2(36, 1280).build(n, s)),
    hub("gpt2-xl", &[], 1_557_611_200, DType::F32, |n, s| {
        Gpt { heads: 25, ..gpt2(48, 1600) }.build(n, s)
    }),
    hub("gpt-j-6b", &[], 6_050_882_784, DType::F16, |n, s| GPT_J.build(n, s)),
];

impl Gpt {
    pub(crate) fn build(&self, net: &mut Net, settings: &mut Settings) -> Made<Outputs> {
        let mut run = Run::new(settings, self.positions);
        let tokens = run.inputs(net, self.layers, self.heads, self.width / self.heads);
        let table = net.table(self.vocabulary, self.width)?;
        let mut x = net.look_up("embed", table, tokens)?;
        let mut rotary = None;
        if let Some(turned) = self.rotary {
            rotary = Some(net.within("rotary", |net| {
                net.rotary(&run.context, &run.sequence, turned, 1e4, true)
            })?);
        } else {
            let positions = net.within("positions", |net| {
                let table = net.table(self.positions, self.width)?;
                let end = run.context.clone() + run.sequence.clone();
                net.b.slice(table, 0, &run.context, &end)
            })?;
            x = net.b.add(x, positions)?;
        }
        for layer in 0..self.layers {
            x = net.within(format!("layers.{layer}"), |net| {
                self.block(net, &mut run, layer, x, rotary.as_ref())
            })?;
        }
        let x = run.asked(net, x)?;
        let x = net.layer_norm("norm", x, self.epsilon)?;
        let logits = if self.rotary.is_some() {
            net.linear("head", x, self.vocabulary, true)?
        } else {
            net.times_table("head", x, table)?
        };
        Ok(run.outputs(logits))
    }

    fn block(
        &self,
        net: &mut Net,
        run: &mut Run,
        layer: usize,
        x: ValueId,
        rotary: Option<&Rotary>,
    ) -> Made {
        let normal = net.layer_norm("attention_norm", x, self.epsilon)?;
        let attended =
            net.within("attention", |net| self.attention(net, run, layer, normal, rotary))?;
        let feed = |net: &mut Net, x: ValueId| {
            net.within("feed_forward", |net| {
                let y = net.linear("in", x, self.inner, true)?;
                let y = net.activate(y, self.activation)?;
                net.linear("out", y, self.width, true)
            })
        };
        if rotary.is_some() {
            let fed = feed(net, normal)?;
            let both = net.b.add(attended, fed)?;
            return net.b.add(both, x);
        }
        let x = net.b.add(x, attended)?;
        let normal = net.layer_norm("feed_forward_norm", x, self.epsilon)?;
        let fed = feed(net, normal)?;
        net.b.add(x, fed)
    }

    fn attention(
        &self,
        net: &mut Net,
        run: &mut Run,
        layer: usize,
        x: ValueId,
        rotary: Option<&Rotary>,
    ) -> Made {
        let biased = rotary.is_none();
        let [mut q, mut k, v] = if biased {
            // One product for all three, as the trained weights lie.
            let joint = net.linear("qkv", x, 3 * self.width, true)?;
            let mut parts = [joint; 3];
            for (i, part) in parts.iter_mut().enumerate() {
                let (start, end) = (i * self.width, (i + 1) * self.width);
                let cut = net.b.slice(joint, 2, &Dim::Fixed(start), &Dim::Fixed(end))?;
                *part = net.split_heads(cut, self.heads)?;
            }
            parts
        } else {
            let mut parts = [x; 3];
            for (part, name) in parts.iter_mut().zip(["query", "key", "value"]) {
                let y = net.linear(name, x, self.width, false)?;
                *part = net.split_heads(y, self.heads)?;
            }
            parts
        };
        if let Some(rotary) = rotary {
            (q, k) = (net.turn(q, rotary)?, net.turn(k, rotary)?);
        }
        let scale = 1.0 / ((self.width / self.heads) as f64).sqrt();
        let y = run.attend(net, layer, [q, k, v], scale, None)?;
        let y = net.merge_heads(y)?;
        net.linear("output", y, self.width, biased)
    }
}

/// `model_type` `gpt2` and `gptj`.
pub(crate) fn read(config: &Config<'_>) -> Result<Plan, ConfigError> {
    let turns = config.text("model_type")? == Some("gptj");
    let width = config.size(&["n_embd", "hidden_size"])?;
    let heads = config.size(&["n_head", "num_attention_heads"])?;
    if !width.is_multiple_of(heads) {
        return Err(config.misfit("n_head", "a divisor of n_embd"));
    }
    let rotary = if turns { Some(config.size_or(&["rotary_dim"], 64)?) } else { None };
    if rotary.is_some_and(|r| !r.is_multiple_of(2) || r > width / heads) {
        return Err(config.misfit("rotary_dim", "an even number, at most the width of a head"));
    }
    let model = Gpt {
        vocabulary: config.size(&["vocab_size"])?,
        positions: config.size(&["n_positions", "n_ctx", "max_position_embeddings"])?,
        width,
        layers: config.layers(&["n_layer", "num_hidden_layers"])?,
        heads,
        inner: config.size_or(&["n_inner"], 4 * width)?,
        epsilon: config.number_or(&["layer_norm_epsilon"], 1e-5)? as f32,
        activation: config.activation_or(&["activation_function"], Activation::GeluTanh)?,
        rotary,
    };
    Ok(Box::new(move |net, settings| model.build(net, settings)))
}
