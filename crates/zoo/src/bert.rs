//! Encoders of text: BERT (arXiv:1810.04805), its smaller sizes (arXiv:1908.08962), RoBERTa (arXiv:1907.11692) and
//! DistilBERT (arXiv:1910.01108), without a head for a task.

use anychip_ir::{Prim, ReduceKind, ValueId};
use anychip_tensor::{DType, Dim};

use crate::activation::Activation;
use crate::config::{Config, ConfigError, Plan};
use crate::net::{Made, Net, Outputs};
use crate::row::{Row, hub};
use crate::settings::Settings;

/// The sizes and habits that tell one from another.
#[derive(Debug, Clone)]
pub(crate) struct Bert {
    pub(crate) vocabulary: usize,
    pub(crate) positions: usize,
    /// Kinds of segments; 0 where there is no such input.
    pub(crate) segments: usize,
    pub(crate) width: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) inner: usize,
    pub(crate) epsilon: f32,
    pub(crate) activation: Activation,
    /// Positions are counted from this row of the table, over what the mask lets be seen (RoBERTa).
    pub(crate) first_position: usize,
    /// A layer on top of the first position.
    pub(crate) pooler: bool,
}

const fn bert(layers: usize, width: usize) -> Bert {
    Bert {
        vocabulary: 30_522,
        positions: 512,
        segments: 2,
        width,
        layers,
        heads: width / 64,
        inner: 4 * width,
        epsilon: 1e-12,
        activation: Activation::Gelu,
        first_position: 0,
        pooler: true,
    }
}

const fn roberta(layers: usize, width: usize) -> Bert {
    let base = bert(layers, width);
    Bert {
        vocabulary: 50_265,
        positions: 514,
        segments: 1,
        epsilon: 1e-5,
        first_position: 2,
        ..base
    }
}

const fn row(
    name: &'static str,
    aliases: &'static [&'static str],
    parameters: u64,
    build: crate::row::Recipe,
) -> Row {
    hub(name, aliases, parameters, DType::F32, build)
}

pub(crate) const ROWS: &[Row] = &[
    row("bert-tiny", &[], 4_385_920, |n, s| bert(2, 128).build(n, s)),
    row("bert-mini", &[], 11_170_560, |n, s| bert(4, 256).build(n, s)),
    row("bert-small", &[], 28_763_648, |n, s| bert(4, 512).build(n, s)),
    row("bert-medium", &[], 41_373_184, |n, s| bert(8, 512).build(n, s)),
    row("bert-base", &["bert-base-uncased"], 109_482_240, |n, s| bert(12, 768).build(n, s))
        .with_macs(11.25e9, "sequence=128", "parameters: Hugging Face hub; operations at 128 tokens: TinyBERT, arXiv:1909.10351, table 1 (22.5 G)"),
    row("bert-large", &["bert-large-uncased"], 335_141_888, |n, s| bert(24, 1024).build(n, s)),
    row("distilbert-base", &["distilbert-base-uncased", "distilbert"], 66_362_880, |n, s| {
        Bert { segments: 0, pooler: false, ..bert(6, 768) }.build(n, s)
    }),
    row("roberta-base", &[], 124_645_632, |n, s| roberta(12, 768).build(n, s)),
    row("roberta-large", &[], 355_359_744, |n, s| roberta(24, 1024).build(n, s)),
];

impl Bert {
    pub(crate) fn build(&self, net: &mut Net, settings: &mut Settings) -> Made<Outputs> {
        let sequence = settings.dim("sequence", 128.min(self.positions - self.first_position));
        let tokens = net.indices("input_ids", std::slice::from_ref(&sequence));
        let mask = net.indices("attention_mask", std::slice::from_ref(&sequence));
        let x = net.within("embeddings", |net| self.embed(net, tokens, mask, &sequence))?;
        let hidden = net.within("mask", |net| net.padding_mask(mask))?;
        let mut x = net.layer_norm("embeddings.norm", x, self.epsilon)?;
        for layer in 0..self.layers {
            x = net.within(format!("layers.{layer}"), |net| {
                let y = net.self_attention("attention", x, self.heads, Some(hidden))?;
                let sum = net.b.add(x, y)?;
                let x = net.layer_norm("attention_norm", sum, self.epsilon)?;
                let y = net.linear("feed_forward.in", x, self.inner, true)?;
                let y = net.activate(y, self.activation)?;
                let y = net.linear("feed_forward.out", y, self.width, true)?;
                let sum = net.b.add(x, y)?;
                net.layer_norm("norm", sum, self.epsilon)
            })?;
        }
        let mut outputs: Outputs = vec![("last_hidden_state".into(), x)];
        if self.pooler {
            let first = net.b.index(x, 1, 0)?;
            let pooled = net.linear("pooler", first, self.width, true)?;
            outputs.push(("pooler_output".into(), net.activate(pooled, Activation::Tanh)?));
        }
        Ok(outputs)
    }

    fn embed(&self, net: &mut Net, tokens: ValueId, mask: ValueId, sequence: &Dim) -> Made {
        let x = net.embedding("word", tokens, self.vocabulary, self.width)?;
        let positions = if self.first_position == 0 {
            net.b.iota(sequence)?
        } else {
            // What is not seen has the row before the first, as has padding in the trained model.
            let b = &mut net.b;
            let running = Prim::Cumulative {
                kind: ReduceKind::Sum,
                axis: 1,
                exclusive: false,
                reverse: false,
            };
            let count = b.prim(running, &[mask])?;
            let seen = b.mul(count, mask)?;
            b.offset(seen, self.first_position as f64 - 1.0)?
        };
        let position = net.embedding("position", positions, self.positions, self.width)?;
        let mut x = net.b.add(x, position)?;
        if self.segments > 0 {
            // One kind of segment needs no input: every token is of it.
            let kinds = if self.segments > 1 {
                net.indices("token_type_ids", std::slice::from_ref(sequence))
            } else {
                let zero = net.b.scalar(DType::I64, 0.0)?;
                net.b.unsqueeze(zero, &[0])?
            };
            let segment = net.embedding("segment", kinds, self.segments, self.width)?;
            x = net.b.add(x, segment)?;
        }
        Ok(x)
    }
}

/// `model_type` `bert`, `roberta` and `distilbert`, whose fields have names of their own.
pub(crate) fn read(config: &Config<'_>) -> Result<Plan, ConfigError> {
    let kind = config.text("model_type")?.unwrap_or_default();
    let (distilled, offset) = (kind == "distilbert", if kind == "roberta" { 2 } else { 0 });
    let width = config.size(&["hidden_size", "dim"])?;
    let heads = config.size(&["num_attention_heads", "n_heads"])?;
    if !width.is_multiple_of(heads) {
        return Err(config.misfit("num_attention_heads", "a divisor of hidden_size"));
    }
    let positions = config.size_or(&["max_position_embeddings"], 512)?;
    if positions <= offset {
        return Err(config
            .misfit("max_position_embeddings", "more than the 2 rows before the first position"));
    }
    let epsilon = if kind == "roberta" { 1e-5 } else { 1e-12 };
    let model = Bert {
        vocabulary: config.size(&["vocab_size"])?,
        positions,
        segments: if distilled { 0 } else { config.size_or(&["type_vocab_size"], 2)? },
        width,
        layers: config.layers(&["num_hidden_layers", "n_layers"])?,
        heads,
        inner: config.size_or(&["intermediate_size", "hidden_dim"], 4 * width)?,
        epsilon: config.number_or(&["layer_norm_eps"], epsilon)? as f32,
        activation: config.activation_or(&["hidden_act", "activation"], Activation::Gelu)?,
        first_position: offset,
        pooler: !distilled,
    };
    Ok(Box::new(move |net, settings| model.build(net, settings)))
}
