//! Encoder and decoder of text: T5 (arXiv:1910.10683). One run takes in both texts and scores every position of the second.

use anychip_ir::ValueId;
use anychip_tensor::{DType, Dim};

use crate::activation::Activation;
use crate::config::{Config, ConfigError, Plan};
use crate::net::{Made, Net, Outputs};
use crate::row::{Row, hub};
use crate::settings::Settings;

const EPSILON: f32 = 1e-6;

/// The sizes that tell one from another.
#[derive(Debug, Clone)]
pub(crate) struct T5 {
    pub(crate) vocabulary: usize,
    pub(crate) width: usize,
    /// Layers of the encoder, and of the decoder.
    pub(crate) layers: [usize; 2],
    pub(crate) heads: usize,
    pub(crate) head_width: usize,
    pub(crate) inner: usize,
    /// Classes of distances, and the distance from which on there is one.
    pub(crate) buckets: usize,
    pub(crate) farthest: usize,
    pub(crate) activation: Activation,
    /// Feed-forward networks are gated (T5 1.1, Flan).
    pub(crate) gated: bool,
    /// Scores come from the table of the embedding.
    pub(crate) tied: bool,
}

const fn t5(width: usize, layers: usize, heads: usize, head_width: usize, inner: usize) -> T5 {
    T5 {
        vocabulary: 32_128,
        width,
        layers: [layers, layers],
        heads,
        head_width,
        inner,
        buckets: 32,
        farthest: 128,
        activation: Activation::Relu,
        gated: false,
        tied: true,
    }
}

const fn flan(width: usize, layers: usize, heads: usize, inner: usize) -> T5 {
    let base = t5(width, layers, heads, 64, inner);
    T5 { activation: Activation::GeluTanh, gated: true, tied: false, ..base }
}

pub(crate) const ROWS: &[Row] = &[
    hub("t5-small", &[], 60_506_624, DType::F32, |n, s| t5(512, 6, 8, 64, 2048).build(n, s)),
    hub("t5-base", &[], 222_903_552, DType::F32, |n, s| t5(768, 12, 12, 64, 3072).build(n, s)),
    hub("t5-large", &[], 737_668_096, DType::F32, |n, s| t5(1024, 24, 16, 64, 4096).build(n, s)),
    hub("t5-3b", &[], 2_851_598_336, DType::F32, |n, s| t5(1024, 24, 32, 128, 16_384).build(n, s)),
    hub("t5-11b", &[], 11_307_321_344, DType::F32, |n, s| {
        t5(1024, 24, 128, 128, 65_536).build(n, s)
    }),
    hub("flan-t5-base", &["t5-v1.1-base"], 247_577_856, DType::F32, |n, s| {
        flan(768, 12, 12, 2048).build(n, s)
    }),
    hub("flan-t5-xl", &["t5-v1.1-xl"], 2_849_757_184, DType::F32, |n, s| {
        flan(2048, 24, 32, 5120).build(n, s)
    }),
];

impl T5 {
    pub(crate) fn build(&self, net: &mut Net, settings: &mut Settings) -> Made<Outputs> {
        let source = settings.dim("sequence", 128);
        let target = settings.dim("target", 128);
        let table = net.table(self.vocabulary, self.width)?;
        let tokens = net.indices("input_ids", std::slice::from_ref(&source));
        let x = net.look_up("embed", table, tokens)?;
        let memory = net.within("encoder", |net| self.stack(net, x, &source, None))?;
        let tokens = net.indices("decoder_input_ids", std::slice::from_ref(&target));
        let x = net.look_up("embed", table, tokens)?;
        let x = net.within("decoder", |net| self.stack(net, x, &target, Some(memory)))?;
        let logits = if self.tied {
            let x = net.b.scale(x, 1.0 / (self.width as f64).sqrt())?;
            net.times_table("head", x, table)?
        } else {
            net.linear("head", x, self.vocabulary, false)?
        };
        Ok(vec![("logits".into(), logits)])
    }

    /// Encoder, or decoder of what the encoder gave.
    fn stack(&self, net: &mut Net, x: ValueId, length: &Dim, memory: Option<ValueId>) -> Made {
        let decoder = memory.is_some();
        // All layers share the first one's table of distances.
        let bias = net.within("distances", |net| self.distances(net, length, decoder))?;
        let mut x = x;
        for layer in 0..self.layers[usize::from(decoder)] {
            x = net.within(format!("layers.{layer}"), |net| {
                let normal = net.rms_norm("attention_norm", x, EPSILON)?;
                let y = self.attention(net, "attention", normal, normal, decoder, Some(bias))?;
                let mut x = net.b.add(x, y)?;
                if let Some(memory) = memory {
                    let normal = net.rms_norm("cross_norm", x, EPSILON)?;
                    let y = self.attention(net, "cross", normal, memory, false, None)?;
                    x = net.b.add(x, y)?;
                }
                let normal = net.rms_norm("feed_forward_norm", x, EPSILON)?;
                let y = net.within("feed_forward", |net| self.feed_forward(net, normal))?;
                net.b.add(x, y)
            })?;
        }
        net.rms_norm("norm", x, EPSILON)
    }

    fn feed_forward(&self, net: &mut Net, x: ValueId) -> Made {
        if self.gated {
            return net.gated(x, self.inner, self.activation);
        }
        let y = net.linear("in", x, self.inner, false)?;
        let y = net.activate(y, self.activation)?;
        net.linear("out", y, self.width, false)
    }

    /// Attention without a factor of the scores: the trained weights have it in them.
    fn attention(
        &self,
        net: &mut Net,
        name: &str,
        x: ValueId,
        memory: ValueId,
        causal: bool,
        bias: Option<ValueId>,
    ) -> Made {
        net.within(name, |net| {
            let inner = self.heads * self.head_width;
            let q = net.linear("query", x, inner, false)?;
            let k = net.linear("key", memory, inner, false)?;
            let v = net.linear("value", memory, inner, false)?;
            let q = net.split_heads(q, self.heads)?;
            let k = net.split_heads(k, self.heads)?;
            let v = net.split_heads(v, self.heads)?;
            let y = net.attend([q, k, v], 1.0, causal, bias)?;
            let y = net.merge_heads(y)?;
            net.linear("output", y, self.width, false)
        })
    }

    /// What each head adds to the score of a key at some distance, `[1, heads, s, s]`.
    fn distances(&self, net: &mut Net, length: &Dim, decoder: bool) -> Made {
        let class = self.classes(net, length, decoder)?;
        let bias = net.embedding("bias", class, self.buckets, self.heads)?;
        let bias = net.b.transpose(bias, &[2, 0, 1])?;
        net.b.unsqueeze(bias, &[0])
    }

    /// The class of each distance from a query to a key, `i64[s, s]`. Near distances have a class each, farther ones share
    /// classes evenly spaced in the logarithm, and in the encoder both directions have half of the classes.
    fn classes(&self, net: &mut Net, length: &Dim, decoder: bool) -> Made {
        let b = &mut net.b;
        let order = b.iota(length)?;
        let rows = b.unsqueeze(order, &[1])?;
        // How far the key lies after the query.
        let after = b.sub(order, rows)?;
        let zero = b.scalar(DType::I64, 0.0)?;
        let (classes, base, distance) = if decoder {
            let before = b.neg(after)?;
            (self.buckets, zero, b.max(before, zero)?)
        } else {
            let half = self.buckets / 2;
            let (later, half_value) = (b.gt(after, zero)?, b.scalar(DType::I64, half as f64)?);
            (half, b.select(later, half_value, zero)?, b.abs(after)?)
        };
        let exact = classes / 2;
        let bound = b.scalar(DType::I64, exact as f64)?;
        let near = b.lt(distance, bound)?;
        // Of near distances the logarithm is not used, but must be one.
        let far = b.max(distance, bound)?;
        let far = b.cast(far, DType::F32)?;
        let share = b.scale(far, 1.0 / exact as f64)?;
        let logarithm = b.log(share)?;
        let span = (self.farthest as f64 / exact as f64).ln();
        let step = b.scale(logarithm, (classes - exact) as f64 / span)?;
        let step = b.cast(step, DType::I64)?;
        let class = b.add(step, bound)?;
        let last = b.scalar(DType::I64, (classes - 1) as f64)?;
        let class = b.min(class, last)?;
        let class = b.select(near, distance, class)?;
        b.add(class, base)
    }
}

/// `model_type` `t5`.
pub(crate) fn read(config: &Config<'_>) -> Result<Plan, ConfigError> {
    let layers = config.layers(&["num_layers"])?;
    let (activation, gated) = match config.text("feed_forward_proj")? {
        None | Some("relu") => (Activation::Relu, false),
        Some("gated-gelu") => (Activation::GeluTanh, true),
        Some(_) => return Err(config.misfit("feed_forward_proj", "relu or gated-gelu")),
    };
    let decoder = config.size_up_to(&["num_decoder_layers"], crate::config::MOST_LAYERS)?;
    let buckets = config.size_or(&["relative_attention_num_buckets"], 32)?;
    let farthest = config.size_or(&["relative_attention_max_distance"], 128)?;
    if buckets < 4 || !buckets.is_multiple_of(4) || farthest <= buckets {
        let expected = "a multiple of 4 below relative_attention_max_distance";
        return Err(config.misfit("relative_attention_num_buckets", expected));
    }
    let model = T5 {
        vocabulary: config.size(&["vocab_size"])?,
        width: config.size(&["d_model"])?,
        layers: [layers, decoder.unwrap_or(layers)],
        heads: config.size(&["num_heads"])?,
        head_width: config.size(&["d_kv"])?,
        inner: config.size(&["d_ff"])?,
        buckets,
        farthest,
        activation,
        gated,
        tied: config.flag_or("tie_word_embeddings", true)?,
    };
    Ok(Box::new(move |net, settings| model.build(net, settings)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plain reading of section 2.1 of the paper, distance by distance.
    fn class(after: i64, decoder: bool) -> i64 {
        let (count, base, distance) = if decoder {
            (32, 0, (-after).max(0))
        } else {
            (16, if after > 0 { 16 } else { 0 }, after.abs())
        };
        let exact = count / 2;
        if distance < exact {
            return base + distance;
        }
        let ratio = (distance as f64 / exact as f64).ln() / (128.0 / exact as f64).ln();
        base + (exact + (ratio * (count - exact) as f64) as i64).min(count - 1)
    }

    #[test]
    fn distances_have_the_classes_of_the_paper() {
        for decoder in [false, true] {
            let mut net = Net::new("distances", DType::F32, 0);
            let length = 150;
            let classes =
                t5(8, 1, 1, 8, 8).classes(&mut net, &Dim::Fixed(length), decoder).unwrap();
            let (graph, _) = net.finish(&vec![("classes".into(), classes)]);
            let found = anychip_ir::evaluate(&graph, &[]).unwrap()[0].to_i64();
            for (at, &found) in found.iter().enumerate() {
                let after = (at % length) as i64 - (at / length) as i64;
                // At the edge of a class single precision may fall on either side.
                let near = [after - 1, after, after + 1].map(|d| class(d, decoder));
                let edge = class(after, decoder) != near[0] || class(after, decoder) != near[2];
                assert!(
                    found == class(after, decoder) || (edge && near.contains(&found)),
                    "{after} after: {found}"
                );
            }
        }
    }
}
