//! Small models of every family are run: what they give has the properties that the architecture promises.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeMap;

use anychip_ir::{Graph, evaluate, specialize};
use anychip_tensor::{DType, Tensor};
use anychip_zoo::{Architecture, build, build_config};

/// The graph with one number for every named dim.
fn sized(architecture: &Architecture, sizes: &[(&str, usize)]) -> Graph {
    let size = |name: &str| {
        let given = sizes.iter().find(|(known, _)| *known == name);
        Some(given.map_or(1, |&(_, size)| size))
    };
    specialize(&architecture.graph, &architecture.graph.bind_dims(&size)).unwrap()
}

/// Runs a graph whose sizes are numbers on the named arrays; floats that are not named are a fixed wave.
fn run(graph: &Graph, arrays: &[(&str, Tensor)]) -> BTreeMap<String, Tensor> {
    let inputs: Vec<Tensor> = graph
        .inputs()
        .iter()
        .map(|&v| {
            let name = graph.value_name(v).unwrap();
            if let Some((_, tensor)) = arrays.iter().find(|(known, _)| *known == name) {
                return tensor.clone();
            }
            let ty = graph.ty(v);
            let shape = ty.fixed_shape().unwrap();
            let count: usize = shape.iter().product();
            let wave: Vec<f64> = (0..count)
                .map(|i| if ty.dtype.is_float() { (i as f64 * 0.37).sin() } else { 1.0 })
                .collect();
            Tensor::from_f64(ty.dtype, shape, &wave).unwrap()
        })
        .collect();
    let results = evaluate(graph, &inputs).unwrap();
    graph.output_names().iter().map(ToString::to_string).zip(results).collect()
}

fn tokens(ids: &[i64]) -> Tensor {
    Tensor::from_vec([1, ids.len()], ids.to_vec()).unwrap()
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 2e-4 * scale, "{what}: element {i} is {a}, expected {b}");
    }
}

/// Decoders of each kind, tiny, with a vocabulary of 20.
const DECODERS: &[(&str, &str)] = &[
    (
        "llama with grouped heads",
        r#"{"model_type": "llama", "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24}"#,
    ),
    (
        "mistral with a window of 3",
        r#"{"model_type": "mistral", "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 24, "sliding_window": 3}"#,
    ),
    (
        "qwen2 with biases",
        r#"{"model_type": "qwen2", "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 24, "tie_word_embeddings": true}"#,
    ),
    (
        "qwen3 with norms of heads",
        r#"{"model_type": "qwen3", "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "head_dim": 6,
            "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24}"#,
    ),
    (
        "mixtral with two of four experts",
        r#"{"model_type": "mixtral", "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24,
            "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": null}"#,
    ),
    (
        "qwen2_moe with a shared expert",
        r#"{"model_type": "qwen2_moe", "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 24, "moe_intermediate_size": 8,
            "shared_expert_intermediate_size": 12, "num_experts": 6, "num_experts_per_tok": 3}"#,
    ),
    (
        "gpt2",
        r#"{"model_type": "gpt2", "vocab_size": 20, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32}"#,
    ),
    (
        "gptj",
        r#"{"model_type": "gptj", "vocab_size": 20, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32,
            "rotary_dim": 4}"#,
    ),
];

const TEXT: [i64; 6] = [3, 17, 0, 9, 3, 12];

/// A prompt and then one token after the other gives what the whole text at once gives.
#[test]
fn decoding_after_a_prompt_equals_the_whole_text_at_once() {
    for (what, json) in DECODERS {
        let make = |settings: &str| build_config("tiny", json, settings).unwrap();
        let forward = sized(&make("phase=forward"), &[("sequence", TEXT.len())]);
        let whole = run(&forward, &[("input_ids", tokens(&TEXT))])["logits"].to_f64();

        let prompt = TEXT.len() - 2;
        let prefill = sized(&make(""), &[("sequence", prompt)]);
        let mut last = run(&prefill, &[("input_ids", tokens(&TEXT[..prompt]))]);
        assert_close(&last["logits"].to_f64(), &whole[(prompt - 1) * 20..prompt * 20], what);

        // The cache: everything but the scores, `present.i.key` as `past.i.key`.
        last.remove("logits");
        let mut kept = last;
        for at in prompt..TEXT.len() {
            let decode = sized(&make("phase=decode"), &[("context", at)]);
            let mut arrays = vec![("input_ids".to_string(), tokens(&TEXT[at..=at]))];
            arrays
                .extend(kept.iter().map(|(name, t)| (name.replace("present", "past"), t.clone())));
            let borrowed: Vec<(&str, Tensor)> =
                arrays.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
            let results = run(&decode, &borrowed);
            assert_close(&results["logits"].to_f64(), &whole[at * 20..(at + 1) * 20], what);
            for (name, cache) in &mut kept {
                *cache = append(cache, &results[name]);
            }
        }
    }
}

/// `[1, heads, t, d]` with one more position.
fn append(cache: &Tensor, new: &Tensor) -> Tensor {
    let [_, heads, length, width] = cache.shape()[..] else {
        unreachable!("caches have four dims")
    };
    let (old, more) = (cache.to_f64(), new.to_f64());
    let mut data = Vec::new();
    for head in 0..heads {
        data.extend_from_slice(&old[head * length * width..(head + 1) * length * width]);
        data.extend_from_slice(&more[head * width..(head + 1) * width]);
    }
    Tensor::from_f64(cache.dtype(), [1, heads, length + 1, width], &data).unwrap()
}

#[test]
fn later_tokens_do_not_change_earlier_scores() {
    for (what, json) in DECODERS {
        let built = build_config("tiny", json, "phase=forward").unwrap();
        let graph = sized(&built, &[("sequence", TEXT.len())]);
        let scores = |text: &[i64]| run(&graph, &[("input_ids", tokens(text))])["logits"].to_f64();
        let mut other = TEXT;
        other[4] = 8;
        let (one, two) = (scores(&TEXT), scores(&other));
        assert_eq!(one[..4 * 20], two[..4 * 20], "{what}");
        assert_ne!(one[4 * 20..5 * 20], two[4 * 20..5 * 20], "{what}");
        // Positions count: the same token elsewhere scores otherwise.
        assert_ne!(one[..20], one[4 * 20..5 * 20], "{what}");
    }
}

#[test]
fn hidden_tokens_do_not_change_an_encoder() {
    for json in [
        r#"{"model_type": "bert", "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 32}"#,
        r#"{"model_type": "roberta", "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 32, "type_vocab_size": 1}"#,
        r#"{"model_type": "distilbert", "vocab_size": 20, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 32}"#,
    ] {
        let built = build_config("tiny", json, "").unwrap();
        let graph = sized(&built, &[("sequence", 5)]);
        let mask = tokens(&[1, 1, 1, 0, 0]);
        let states = |text: &[i64]| {
            let arrays = [("input_ids", tokens(text)), ("attention_mask", mask.clone())];
            run(&graph, &arrays)["last_hidden_state"].to_f64()
        };
        let (one, two) = (states(&[4, 5, 6, 7, 8]), states(&[4, 5, 6, 1, 2]));
        assert_eq!(one[..3 * 16], two[..3 * 16], "{json}");
        assert_ne!(one[3 * 16..], two[3 * 16..], "{json}");
    }
}

#[test]
fn a_translation_sees_all_of_its_source_and_nothing_of_its_future() {
    let json = r#"{"model_type": "t5", "vocab_size": 20, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2,
        "num_heads": 4}"#;
    let built = build_config("tiny", json, "").unwrap();
    let graph = sized(&built, &[("sequence", 4), ("target", 3)]);
    let scores = |source: &[i64], target: &[i64]| {
        let arrays = [("input_ids", tokens(source)), ("decoder_input_ids", tokens(target))];
        run(&graph, &arrays)["logits"].to_f64()
    };
    let one = scores(&[1, 2, 3, 4], &[5, 6, 7]);
    let future = scores(&[1, 2, 3, 4], &[5, 6, 9]);
    assert_eq!(one[..40], future[..40]);
    assert_ne!(one[40..], future[40..]);
    assert_ne!(one[..20], scores(&[1, 2, 3, 9], &[5, 6, 7])[..20]);
}

/// One of each family of image networks: finite results that depend on the image, and the passes keep them.
#[test]
fn image_networks_run_and_the_passes_keep_their_results() {
    for name in [
        "resnet18,image=32",
        "mobilenet-v1,image=32",
        "mobilenet-v2,image=32",
        "mobilenet-v3-small,image=32",
        "efficientnet-b0,image=32",
        "convnext-tiny,image=32",
        "vit-ti-16,image=32",
        "squeezenet1-1,image=32",
        "densenet121,image=32",
        "swin-t,image=60",
    ] {
        let built = build(&format!("{name},classes=10")).unwrap();
        let graph = sized(&built, &[]);
        let image = |step: f64| {
            let shape = graph.ty(graph.inputs()[0]).fixed_shape().unwrap();
            let count: usize = shape.iter().product();
            let wave: Vec<f64> = (0..count).map(|i| (i as f64 * step).sin()).collect();
            Tensor::from_f64(DType::F32, shape, &wave).unwrap()
        };
        let scores = |graph: &Graph, step| run(graph, &[("image", image(step))])["logits"].to_f64();
        let one = scores(&graph, 0.1);
        assert!(one.len() == 10 && one.iter().all(|v| v.is_finite()), "{name}: {one:?}");
        assert_ne!(one, scores(&graph, 0.7), "{name}");
        let optimized = anychip_passes::optimize(&graph, &mut |_| {}).unwrap();
        assert_close(&scores(&optimized, 0.1), &one, name);
    }
}

#[test]
fn equal_seeds_give_equal_models() {
    let json = DECODERS[0].1;
    let scores = |settings: &str| {
        let built = build_config("tiny", json, settings).unwrap();
        run(&sized(&built, &[("sequence", 4)]), &[("input_ids", tokens(&TEXT[..4]))])["logits"]
            .clone()
    };
    assert_eq!(scores("seed=7"), scores("seed=7"));
    assert_eq!(scores(""), scores("seed=0"));
    assert_ne!(scores("seed=7"), scores("seed=8"));
}

/// Nothing of a large model exists until somebody reads it.
#[test]
fn large_weights_are_not_made_by_building_and_optimizing() {
    let built = build("llama-3-70b,phase=decode").unwrap();
    let graph = sized(&built, &[("context", 100)]);
    let optimized = anychip_passes::optimize(&graph, &mut |_| {}).unwrap();
    let (mut made, mut all) = (0, 0);
    for tensor in optimized.values().filter_map(|v| optimized.constant(v)) {
        all += tensor.byte_len();
        made += if tensor.is_deferred() { 0 } else { tensor.byte_len() };
    }
    assert!(all as u64 >= 2 * built.parameters, "{all} bytes of {} parameters", built.parameters);
    assert!(made < 1 << 20, "{made} bytes were made");
}
