//! Decoders with rotary positions, root-mean-square norms and gated feed-forward networks: Llama (arXiv:2302.13971,
//! arXiv:2307.09288, arXiv:2407.21783), Mistral (arXiv:2310.06825), Mixtral (arXiv:2401.04088), Qwen 2.5 (arXiv:2412.15115)
//! and Qwen 3 (arXiv:2505.09388).
//!
//! Rules that stretch rotary frequencies beyond the trained length change their numbers and no shape; they are left out.

use anychip_tensor::DType::{self, BF16, F16};

use crate::activation::Activation;
use crate::config::{Config, ConfigError, Plan};
use crate::experts::Experts;
use crate::language::Run;
use crate::net::{Made, Net, Outputs};
use crate::row::{Row, hub};
use crate::settings::Settings;

/// The sizes that tell one from another.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a habit of some models, independent of the others"
)]
pub(crate) struct Llama {
    pub(crate) vocabulary: usize,
    pub(crate) width: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) key_heads: usize,
    pub(crate) head_width: usize,
    /// Width inside the feed-forward network.
    pub(crate) inner: usize,
    /// The longest sequence it was trained for.
    pub(crate) longest: usize,
    pub(crate) theta: f64,
    pub(crate) epsilon: f32,
    pub(crate) activation: Activation,
    /// Scores come from the table of the embedding.
    pub(crate) tied: bool,
    /// The projections to queries, keys and values have biases.
    pub(crate) qkv_bias: bool,
    /// So has the one behind attention.
    pub(crate) output_bias: bool,
    /// Queries and keys are normalized head by head.
    pub(crate) qk_norm: bool,
    /// Positions that attention reaches back.
    pub(crate) window: Option<usize>,
    /// In place of every feed-forward network.
    pub(crate) experts: Option<Experts>,
}

/// Llama's own choices.
const fn llama(
    [vocabulary, width, layers, heads, key_heads, inner]: [usize; 6],
    longest: usize,
    theta: f64,
) -> Llama {
    Llama {
        vocabulary,
        width,
        layers,
        heads,
        key_heads,
        head_width: width / heads,
        inner,
        longest,
        theta,
        epsilon: 1e-5,
        activation: Activation::Silu,
        tied: false,
        qkv_bias: false,
        output_bias: false,
        qk_norm: false,
        window: None,
        experts: None,
    }
}

const fn llama2(sizes: [usize; 5]) -> Llama {
    let [width, layers, heads, key_heads, inner] = sizes;
    llama([32_000, width, layers, heads, key_heads, inner], 4096, 1e4)
}

const fn llama3([width, layers, heads, key_heads, inner]: [usize; 5], longest: usize) -> Llama {
    llama([128_256, width, layers, heads, key_heads, inner], longest, 5e5)
}

const fn qwen25(vocabulary: usize, sizes: [usize; 5], tied: bool) -> Llama {
    let [width, layers, heads, key_heads, inner] = sizes;
    let base = llama([vocabulary, width, layers, heads, key_heads, inner], 32_768, 1e6);
    Llama { epsilon: 1e-6, qkv_bias: true, tied, ..base }
}

const fn qwen3([width, layers, heads, key_heads, inner]: [usize; 5], tied: bool) -> Llama {
    let base = llama([151_936, width, layers, heads, key_heads, inner], 40_960, 1e6);
    Llama { epsilon: 1e-6, head_width: 128, qk_norm: true, tied, ..base }
}

const fn row(
    name: &'static str,
    aliases: &'static [&'static str],
    parameters: u64,
    dtype: DType,
    build: crate::row::Recipe,
) -> Row {
    hub(name, aliases, parameters, dtype, build)
}

pub(crate) const ROWS: &[Row] = &[
    row("llama-2-7b", &[], 6_738_415_616, F16, |n, s| {
        llama2([4096, 32, 32, 32, 11_008]).build(n, s)
    }),
    row("llama-2-13b", &[], 13_015_864_320, F16, |n, s| {
        llama2([5120, 40, 40, 40, 13_824]).build(n, s)
    }),
    row("llama-2-70b", &[], 68_976_648_192, F16, |n, s| {
        llama2([8192, 80, 64, 8, 28_672]).build(n, s)
    }),
    row("llama-3-8b", &[], 8_030_261_248, BF16, |n, s| {
        llama3([4096, 32, 32, 8, 14_336], 8192).build(n, s)
    }),
    row("llama-3-70b", &[], 70_553_706_496, BF16, |n, s| {
        llama3([8192, 80, 64, 8, 28_672], 8192).build(n, s)
    }),
    row("llama-3.1-8b", &[], 8_030_261_248, BF16, |n, s| {
        llama3([4096, 32, 32, 8, 14_336], 131_072).build(n, s)
    }),
    row("llama-3.1-70b", &["llama-3.3-70b"], 70_553_706_496, BF16, |n, s| {
        llama3([8192, 80, 64, 8, 28_672], 131_072).build(n, s)
    }),
    row("llama-3.1-405b", &[], 405_853_388_800, BF16, |n, s| {
        llama3([16_384, 126, 128, 8, 53_248], 131_072).build(n, s)
    }),
    row("llama-3.2-1b", &[], 1_235_814_400, BF16, |n, s| {
        Llama { tied: true, ..llama3([2048, 16, 32, 8, 8192], 131_072) }.build(n, s)
    }),
    row("llama-3.2-3b", &[], 3_212_749_824, BF16, |n, s| {
        Llama { tied: true, ..llama3([3072, 28, 24, 8, 8192], 131_072) }.build(n, s)
    }),
    row("tinyllama-1.1b", &[], 1_100_048_384, BF16, |n, s| {
        llama([32_000, 2048, 22, 32, 4, 5632], 2048, 1e4).build(n, s)
    }),
    row("mistral-7b", &["mistral-7b-v0.1"], 7_241_732_096, BF16, |n, s| {
        let base = llama([32_000, 4096, 32, 32, 8, 14_336], 32_768, 1e4);
        Llama { window: Some(4096), ..base }.build(n, s)
    }),
    row("mistral-7b-v0.3", &[], 7_248_023_552, BF16, |n, s| {
        llama([32_768, 4096, 32, 32, 8, 14_336], 32_768, 1e6).build(n, s)
    }),
    row("mixtral-8x7b", &[], 46_702_792_704, BF16, |n, s| {
        mixtral([32_000, 4096, 32, 32, 8, 14_336], 32_768).build(n, s)
    }),
    row("mixtral-8x22b", &[], 140_620_634_112, BF16, |n, s| {
        mixtral([32_000, 6144, 56, 48, 8, 16_384], 65_536).build(n, s)
    }),
    row("qwen2.5-0.5b", &[], 494_032_768, BF16, |n, s| {
        qwen25(151_936, [896, 24, 14, 2, 4864], true).build(n, s)
    }),
    row("qwen2.5-1.5b", &[], 1_543_714_304, BF16, |n, s| {
        qwen25(151_936, [1536, 28, 12, 2, 8960], true).build(n, s)
    }),
    row("qwen2.5-3b", &[], 3_085_938_688, BF16, |n, s| {
        qwen25(151_936, [2048, 36, 16, 2, 11_008], true).build(n, s)
    }),
    row("qwen2.5-7b", &[], 7_615_616_512, BF16, |n, s| {
        qwen25(152_064, [3584, 28, 28, 4, 18_944], false).build(n, s)
    }),
    row("qwen2.5-14b", &[], 14_770_033_664, BF16, |n, s| {
        qwen25(152_064, [5120, 48, 40, 8, 13_824], false).build(n, s)
    }),
    row("qwen2.5-32b", &[], 32_763_876_352, BF16, |n, s| {
        qwen25(152_064, [5120, 64, 40, 8, 27_648], false).build(n, s)
    }),
    row("qwen2.5-72b", &[], 72_706_203_648, BF16, |n, s| {
        qwen25(152_064, [8192, 80, 64, 8, 29_568], false).build(n, s)
    }),
    row("qwen3-0.6b", &[], 596_049_920, BF16, |n, s| {
        qwen3([1024, 28, 16, 8, 3072], true).build(n, s)
    }),
    row("qwen3-1.7b", &[], 1_720_574_976, BF16, |n, s| {
        qwen3([2048, 28, 16, 8, 6144], true).build(n, s)
    }),
    row("qwen3-4b", &[], 4_022_468_096, BF16, |n, s| {
        qwen3([2560, 36, 32, 8, 9728], true).build(n, s)
    }),
    row("qwen3-8b", &[], 8_190_735_360, BF16, |n, s| {
        qwen3([4096, 36, 32, 8, 12_288], false).build(n, s)
    }),
    row("qwen3-14b", &[], 14_768_307_200, BF16, |n, s| {
        qwen3([5120, 40, 40, 8, 17_408], false).build(n, s)
    }),
    row("qwen3-32b", &[], 32_762_123_264, BF16, |n, s| {
        qwen3([5120, 64, 64, 8, 25_600], false).build(n, s)
    }),
    row("qwen3-30b-a3b", &[], 30_532_122_624, BF16, |n, s| {
        let experts = Experts { count: 128, chosen: 8, inner: 768, normalized: true, shared: None };
        Llama { experts: Some(experts), ..qwen3([2048, 48, 32, 4, 6144], false) }.build(n, s)
    }),
    row("qwen3-235b-a22b", &[], 235_093_634_560, BF16, |n, s| {
        let experts =
            Experts { count: 128, chosen: 8, inner: 1536, normalized: true, shared: None };
        Llama { experts: Some(experts), ..qwen3([4096, 94, 64, 4, 12_288], false) }.build(n, s)
    }),
    row("qwen1.5-moe-a2.7b", &[], 14_315_784_192, BF16, |n, s| {
        let experts =
            Experts { count: 60, chosen: 4, inner: 1408, normalized: false, shared: Some(5632) };
        let base = qwen25(151_936, [2048, 24, 16, 16, 5632], false);
        Llama { experts: Some(experts), ..base }.build(n, s)
    }),
];

const fn mixtral(sizes: [usize; 6], longest: usize) -> Llama {
    let experts = Experts { count: 8, chosen: 2, inner: sizes[5], normalized: true, shared: None };
    Llama { experts: Some(experts), ..llama(sizes, longest, 1e6) }
}

impl Llama {
    pub(crate) fn build(&self, net: &mut Net, settings: &mut Settings) -> Made<Outputs> {
        let mut run = Run::new(settings, self.longest);
        let tokens = run.inputs(net, self.layers, self.key_heads, self.head_width);
        let table = net.table(self.vocabulary, self.width)?;
        let mut x = net.look_up("embed", table, tokens)?;
        let rotary = net.within("rotary", |net| {
            net.rotary(&run.context, &run.sequence, self.head_width, self.theta, false)
        })?;
        for layer in 0..self.layers {
            x = net.within(format!("layers.{layer}"), |net| {
                let normal = net.rms_norm("attention_norm", x, self.epsilon)?;
                let y = net.within("attention", |net| {
                    self.attention(net, &mut run, layer, normal, &rotary)
                })?;
                let x = net.b.add(x, y)?;
                let normal = net.rms_norm("feed_forward_norm", x, self.epsilon)?;
                let y = net.within("feed_forward", |net| match &self.experts {
                    Some(experts) => net.mixture(normal, experts, self.activation),
                    None => net.gated(normal, self.inner, self.activation),
                })?;
                net.b.add(x, y)
            })?;
        }
        let x = run.asked(net, x)?;
        let x = net.rms_norm("norm", x, self.epsilon)?;
        let logits = if self.tied {
            net.times_table("head", x, table)?
        } else {
            net.linear("head", x, self.vocabulary, false)?
        };
        Ok(run.outputs(logits))
    }

    fn attention(
        &self,
        net: &mut Net,
        run: &mut Run,
        layer: usize,
        x: anychip_ir::ValueId,
        rotary: &crate::attention::Rotary,
    ) -> Made {
        let (heads, key_heads) = (self.heads, self.key_heads);
        let q = net.linear("query", x, heads * self.head_width, self.qkv_bias)?;
        let k = net.linear("key", x, key_heads * self.head_width, self.qkv_bias)?;
        let v = net.linear("value", x, key_heads * self.head_width, self.qkv_bias)?;
        let mut q = net.split_heads(q, heads)?;
        let mut k = net.split_heads(k, key_heads)?;
        let v = net.split_heads(v, key_heads)?;
        if self.qk_norm {
            q = net.rms_norm("query_norm", q, self.epsilon)?;
            k = net.rms_norm("key_norm", k, self.epsilon)?;
        }
        let (q, k) = (net.turn(q, rotary)?, net.turn(k, rotary)?);
        let scale = 1.0 / (self.head_width as f64).sqrt();
        let y = run.attend(net, layer, [q, k, v], scale, self.window)?;
        let y = net.merge_heads(y)?;
        net.linear("output", y, self.width, self.output_bias)
    }
}

/// `model_type` `llama`, `mistral`, `mixtral`, `qwen2`, `qwen2_moe`, `qwen3` and `qwen3_moe`.
pub(crate) fn read(config: &Config<'_>) -> Result<Plan, ConfigError> {
    let kind = config.text("model_type")?.unwrap_or_default().to_string();
    let width = config.size(&["hidden_size"])?;
    let heads = config.size(&["num_attention_heads"])?;
    let key_heads = config.size_or(&["num_key_value_heads"], heads)?;
    if !heads.is_multiple_of(key_heads) {
        return Err(config.misfit("num_key_value_heads", "a divisor of num_attention_heads"));
    }
    let head_width = match config.size_up_to(&["head_dim"], 65_536)? {
        Some(size) => size,
        None if kind == "qwen3" || kind == "qwen3_moe" => 128,
        None if width.is_multiple_of(heads) => width / heads,
        None => return Err(config.misfit("num_attention_heads", "a divisor of hidden_size")),
    };
    if !head_width.is_multiple_of(2) {
        return Err(config.misfit("head_dim", "an even number, whose halves rotary positions turn"));
    }
    let sizes = [
        config.size(&["vocab_size"])?,
        width,
        config.layers(&["num_hidden_layers"])?,
        heads,
        key_heads,
        config.size(&["intermediate_size"])?,
    ];
    let qwen2 = kind == "qwen2" || kind == "qwen2_moe";
    let longest = config.size_or(&["max_position_embeddings"], 2048)?;
    let biased = config.flag_or("attention_bias", false)?;
    // Qwen has a window in its files that is off by default; Llama has none.
    let windowed = config.flag_or("use_sliding_window", kind == "mistral" || kind == "mixtral")?;
    let window = if windowed { config.size_up_to(&["sliding_window"], usize::MAX)? } else { None };
    let model = Llama {
        head_width,
        epsilon: config.number_or(&["rms_norm_eps"], 1e-6)? as f32,
        activation: config.activation_or(&["hidden_act"], Activation::Silu)?,
        tied: config.flag_or("tie_word_embeddings", false)?,
        qkv_bias: biased || qwen2,
        output_bias: biased,
        qk_norm: kind == "qwen3" || kind == "qwen3_moe",
        window,
        experts: experts(config, &kind)?,
        ..llama(sizes, longest, config.number_or(&["rope_theta"], 1e4)?)
    };
    Ok(Box::new(move |net, settings| model.build(net, settings)))
}

/// The most experts of a layer: more are a mistake.
const MOST_EXPERTS: usize = 4096;

fn experts(config: &Config<'_>, kind: &str) -> Result<Option<Experts>, ConfigError> {
    if !matches!(kind, "mixtral" | "qwen2_moe" | "qwen3_moe") {
        return Ok(None);
    }
    let names = ["num_local_experts", "num_experts"];
    let missing =
        || ConfigError::Missing(if kind == "mixtral" { names[0] } else { names[1] }.to_string());
    let count = config.size_up_to(&names, MOST_EXPERTS)?.ok_or_else(missing)?;
    let chosen = config.size(&["num_experts_per_tok"])?;
    if chosen > count {
        return Err(config.misfit("num_experts_per_tok", "at most as many as there are experts"));
    }
    if config.size_or(&["decoder_sparse_step"], 1)? != 1 {
        return Err(config.misfit("decoder_sparse_step", "1: experts in every layer"));
    }
    if !config.is_empty("mlp_only_layers")? {
        return Err(config.misfit("mlp_only_layers", "an empty list: experts in every layer"));
    }
    Ok(Some(Experts {
        count,
        chosen,
        inner: config.size(&["moe_intermediate_size", "intermediate_size"])?,
        normalized: config.flag_or("norm_topk_prob", kind == "mixtral")?,
        shared: if kind == "qwen2_moe" {
            Some(config.size(&["shared_expert_intermediate_size"])?)
        } else {
            None
        },
    }))
}
