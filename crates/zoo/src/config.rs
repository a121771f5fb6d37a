//! Hugging Face's `config.json`: the same builders as the named models, from the file's numbers.
//!
//! A configuration is somebody else's file: what is missing, of the wrong kind or absurd is named with what was expected, and
//! every size is bounded before anything is built from it.

use anychip_tensor::DType;
use serde_json::{Map, Value};

use crate::activation::Activation;
use crate::net::{Made, Net, Outputs};
use crate::settings::{LARGEST, Settings};
use crate::{Architecture, ZooError, bert, gpt, llama, resnet, t5, vision_transformer};

/// Why no model can be built from a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no JSON, or no object.
    #[error("is no configuration of a model: {0}")]
    Json(String),
    /// No builder knows the architecture.
    #[error("the architecture `{found}` is not known\n  help: known are {}", .known.join(", "))]
    UnknownModel {
        /// What `model_type` says.
        found: String,
        /// What it may say.
        known: Vec<&'static str>,
    },
    /// A field is not there.
    #[error("the field `{0}` is missing")]
    Missing(String),
    /// A field says something that cannot be.
    #[error("the field `{field}` is {found}, expected {expected}")]
    Field {
        /// Its name.
        field: String,
        /// What it says, cut short.
        found: String,
        /// What it may say.
        expected: String,
    },
    /// The fields do not fit together, or the settings after the file's name are wrong.
    #[error(transparent)]
    Zoo(#[from] ZooError),
}

/// What a configuration describes, ready to be built.
pub(crate) type Plan = Box<dyn FnOnce(&mut Net, &mut Settings) -> Made<Outputs>>;

/// Reads a configuration of one kind.
pub(crate) type Reader = fn(&Config<'_>) -> Result<Plan, ConfigError>;

/// Which `model_type` is read by whom. A new one is one row.
const READERS: &[(&str, Reader)] = &[
    ("bert", bert::read),
    ("deit", vision_transformer::read),
    ("distilbert", bert::read),
    ("gpt2", gpt::read),
    ("gptj", gpt::read),
    ("llama", llama::read),
    ("mistral", llama::read),
    ("mixtral", llama::read),
    ("qwen2", llama::read),
    ("qwen2_moe", llama::read),
    ("qwen3", llama::read),
    ("qwen3_moe", llama::read),
    ("resnet", resnet::read),
    ("roberta", bert::read),
    ("t5", t5::read),
    ("vit", vision_transformer::read),
];

/// The most layers of a kind: deeper models are a mistake, and each layer is some dozen nodes.
pub(crate) const MOST_LAYERS: usize = 1024;

/// Builds what a `config.json` describes, called `name`, with settings as after a name of the zoo.
pub fn build_config(name: &str, json: &str, settings: &str) -> Result<Architecture, ConfigError> {
    let value: Value =
        serde_json::from_str(json).map_err(|error| ConfigError::Json(error.to_string()))?;
    let Value::Object(fields) = &value else {
        return Err(ConfigError::Json("expected an object".to_string()));
    };
    let config = Config { fields };
    let kind =
        config.text("model_type")?.ok_or_else(|| ConfigError::Missing("model_type".to_string()))?;
    let reader = READERS.iter().find(|(known, _)| *known == kind).ok_or_else(|| {
        ConfigError::UnknownModel {
            found: cut(kind),
            known: READERS.iter().map(|(known, _)| *known).collect(),
        }
    })?;
    let plan = (reader.1)(&config)?;
    let settings = Settings::parse(settings)?;
    Ok(crate::construct(name, config.dtype()?, settings, plan)?)
}

/// The fields of a configuration.
pub(crate) struct Config<'a> {
    fields: &'a Map<String, Value>,
}

impl Config<'_> {
    /// The first of the fields that is there and not null.
    fn first(&self, names: &[&str]) -> Option<(String, &Value)> {
        names.iter().find_map(|&name| {
            self.fields
                .get(name)
                .filter(|value| !value.is_null())
                .map(|value| (name.to_string(), value))
        })
    }

    /// A size from 1 to `most`, under the first of its names that is there.
    pub(crate) fn size_up_to(
        &self,
        names: &[&str],
        most: usize,
    ) -> Result<Option<usize>, ConfigError> {
        let Some((field, value)) = self.first(names) else { return Ok(None) };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(size) if (1..=most).contains(&size) => Ok(Some(size)),
            _ => Err(wrong(field, value, &format!("a whole number from 1 to {most}"))),
        }
    }

    /// A size that must be there.
    pub(crate) fn size(&self, names: &[&str]) -> Result<usize, ConfigError> {
        self.size_up_to(names, LARGEST)?.ok_or_else(|| ConfigError::Missing(names[0].to_string()))
    }

    /// A size that has a default.
    pub(crate) fn size_or(&self, names: &[&str], default: usize) -> Result<usize, ConfigError> {
        Ok(self.size_up_to(names, LARGEST)?.unwrap_or(default))
    }

    /// A number of layers.
    pub(crate) fn layers(&self, names: &[&str]) -> Result<usize, ConfigError> {
        self.size_up_to(names, MOST_LAYERS)?
            .ok_or_else(|| ConfigError::Missing(names[0].to_string()))
    }

    /// Sizes in a list.
    pub(crate) fn sizes(&self, name: &str) -> Result<Option<Vec<usize>>, ConfigError> {
        let Some((field, value)) = self.first(&[name]) else { return Ok(None) };
        let size = |v: &Value| {
            v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=LARGEST).contains(n))
        };
        let sizes = value.as_array().and_then(|list| list.iter().map(size).collect());
        let expected = format!("a list of whole numbers from 1 to {LARGEST}");
        sizes.map(Some).ok_or_else(|| wrong(field, value, &expected))
    }

    /// Whether a list is missing or has nothing in it.
    pub(crate) fn is_empty(&self, name: &str) -> Result<bool, ConfigError> {
        let Some((field, value)) = self.first(&[name]) else { return Ok(true) };
        value.as_array().map(Vec::is_empty).ok_or_else(|| wrong(field, value, "a list"))
    }

    /// A positive number that has a default.
    pub(crate) fn number_or(&self, names: &[&str], default: f64) -> Result<f64, ConfigError> {
        let Some((field, value)) = self.first(names) else { return Ok(default) };
        match value.as_f64() {
            Some(number) if number > 0.0 && number < 1e12 => Ok(number),
            _ => Err(wrong(field, value, "a positive number")),
        }
    }

    /// A flag that has a default.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> Result<bool, ConfigError> {
        let Some((field, value)) = self.first(&[name]) else { return Ok(default) };
        value.as_bool().ok_or_else(|| wrong(field, value, "true or false"))
    }

    /// A word, if it is there.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        let Some((field, value)) = self.first(&[name]) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| wrong(field, value, "text"))
    }

    /// An activation function that has a default.
    pub(crate) fn activation_or(
        &self,
        names: &[&str],
        default: Activation,
    ) -> Result<Activation, ConfigError> {
        let Some((field, value)) = self.first(names) else { return Ok(default) };
        let named = value.as_str().and_then(Activation::named);
        let expected = "one of relu, gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, silu, tanh";
        named.ok_or_else(|| wrong(field, value, expected))
    }

    /// The complaint that a field does not fit another one.
    pub(crate) fn misfit(&self, name: &str, expected: &str) -> ConfigError {
        wrong(name.to_string(), self.fields.get(name).unwrap_or(&Value::Null), expected)
    }

    /// The type of the weights; `f32` when nothing is said.
    fn dtype(&self) -> Result<DType, ConfigError> {
        let Some((field, value)) = self.first(&["torch_dtype", "dtype"]) else {
            return Ok(DType::F32);
        };
        Ok(match value.as_str() {
            Some("float32") => DType::F32,
            Some("float16") => DType::F16,
            Some("bfloat16") => DType::BF16,
            _ => return Err(wrong(field, value, "float32, float16 or bfloat16")),
        })
    }
}

fn wrong(field: String, found: &Value, expected: &str) -> ConfigError {
    ConfigError::Field { field, found: cut(&found.to_string()), expected: expected.to_string() }
}

/// At most so much of somebody's text as fits a line.
pub(crate) fn cut(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        for (json, part) in [
            ("{", "is no configuration of a model"),
            ("[]", "expected an object"),
            ("{}", "`model_type` is missing"),
            (r#"{"model_type": 3}"#, "`model_type` is 3, expected text"),
            (r#"{"model_type": "mamba9"}"#, "`mamba9` is not known\n  help: known are bert, deit"),
            (
                r#"{"model_type": "resnet", "depths": [3, -4, 6, 3]}"#,
                "`depths` is [3,-4,6,3], expected a list",
            ),
            (r#"{"model_type": "resnet", "torch_dtype": "int8"}"#, "`torch_dtype` is \"int8\""),
        ] {
            let error = build_config("c", json, "").unwrap_err().to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    /// Configurations as they lie on the hub, with all that they say besides: they have the published parameters.
    #[test]
    fn configurations_of_the_hub_have_the_published_parameters() {
        for (json, parameters) in [
            (
                r#"{"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
                "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu",
                "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
                "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama", "num_attention_heads": 32,
                "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
                "rope_scaling": {"factor": 32.0, "rope_type": "llama3"}, "rope_theta": 500000.0,
                "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 128256}"#,
                1_235_814_400,
            ),
            (
                r#"{"hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 5632, "max_window_layers": 21,
                "decoder_sparse_step": 1, "mlp_only_layers": [], "model_type": "qwen2_moe", "moe_intermediate_size": 1408,
                "shared_expert_intermediate_size": 5632, "num_experts_per_tok": 4, "num_experts": 60,
                "norm_topk_prob": false, "num_attention_heads": 16, "num_hidden_layers": 24, "num_key_value_heads": 16,
                "rope_theta": 1000000.0, "sliding_window": 32768, "use_sliding_window": false,
                "torch_dtype": "bfloat16", "vocab_size": 151936}"#,
                14_315_784_192,
            ),
            (
                r#"{"activation_function": "gelu_new", "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024,
                "n_embd": 768, "n_head": 12, "n_inner": null, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257}"#,
                124_439_808,
            ),
            (
                r#"{"activation": "gelu", "dim": 768, "hidden_dim": 3072, "max_position_embeddings": 512,
                "model_type": "distilbert", "n_heads": 12, "n_layers": 6, "tie_weights_": true, "vocab_size": 30522}"#,
                66_362_880,
            ),
            (
                r#"{"d_ff": 2048, "d_kv": 64, "d_model": 512, "decoder_start_token_id": 0, "model_type": "t5",
                "num_heads": 8, "num_layers": 6, "relative_attention_num_buckets": 32, "vocab_size": 32128}"#,
                60_506_624,
            ),
            (
                r#"{"hidden_act": "gelu", "hidden_size": 768, "image_size": 224, "intermediate_size": 3072,
                "model_type": "vit", "num_attention_heads": 12, "num_channels": 3, "num_hidden_layers": 12,
                "patch_size": 16, "qkv_bias": true}"#,
                86_567_656,
            ),
        ] {
            assert_eq!(build_config("c", json, "").unwrap().parameters, parameters, "{json}");
        }
    }

    #[test]
    fn the_largest_sizes_that_are_allowed_do_no_harm() {
        let json = r#"{"model_type": "mixtral", "vocab_size": 16777216, "hidden_size": 16777216,
            "num_hidden_layers": 2, "num_attention_heads": 16777216, "head_dim": 65536, "intermediate_size": 16777216,
            "num_local_experts": 4096, "num_experts_per_tok": 4096}"#;
        // Either there is such a graph, or an error that says what is too large; nothing overflows and nothing is made.
        if let Err(error) = build_config("c", json, "") {
            assert!(error.to_string().contains("too many elements"), "{error}");
        }
    }

    #[test]
    fn long_values_are_cut() {
        let json = format!(r#"{{"model_type": "{}"}}"#, "x".repeat(100_000));
        let error = build_config("c", &json, "").unwrap_err().to_string();
        assert!(error.len() < 1000, "{} bytes", error.len());
    }
}
