//! Models without files as a user asks for them: names, settings, configurations, and what is wrong with them.

mod common;

use std::process::{Command, Output};

use common::Folder;

fn anychip(arguments: &[&str]) -> Output {
    common::anychip(arguments, 140)
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let output = anychip(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{errors}");
    String::from_utf8(output.stdout).expect("the output is text")
}

#[track_caller]
fn fails(arguments: &[&str], parts: &[&str]) {
    let output = anychip(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}\n{errors}");
    for part in parts.iter().chain(&["error"]) {
        assert!(errors.contains(part), "{arguments:?} should say {part}:\n{errors}");
    }
    assert!(!errors.contains("panicked") && errors.len() < 2000, "{errors}");
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("one JSON object")
}

/// A configuration in a folder of its own, removed at the end.
struct Config(Folder);

impl Config {
    fn new(name: &str, contents: &str) -> Config {
        let folder = Folder::new(&format!("zoo-{name}"));
        folder.file("config.json", contents);
        Config(folder)
    }

    fn path(&self) -> String {
        self.0.path("config.json")
    }
}

#[test]
fn inspect_tells_parameters_work_and_sizes() {
    let facts = json(&succeeds(&["inspect", "zoo:resnet50", "--json"]));
    assert_eq!(facts["parameters"], 25_557_032.0);
    assert_eq!(facts["macs"], 4_089_184_256.0);
    let facts = json(&succeeds(&["inspect", "zoo:ResNet_50", "--json", "--batch", "2"]));
    assert_eq!(facts["macs"], 2.0 * 4_089_184_256.0);
    // One token of Llama 2 multiplies by every weight but the embedding's, and by 100 keys and values and its own.
    let decode = ["inspect", "zoo:llama-2-7b,phase=decode", "--dim", "context=100", "--json"];
    let facts = json(&succeeds(&decode));
    let attention = 32.0 * 2.0 * 4096.0 * 101.0;
    let norms = 65.0 * 4096.0;
    let weights = 6_738_415_616.0 - 32_000.0 * 4096.0 - norms;
    assert_eq!(facts["macs"], weights + attention);
}

#[test]
fn the_list_has_every_name() {
    let list = succeeds(&["inspect", "zoo:"]);
    for name in ["resnet50", "efficientnet-b7", "llama-2-70b", "sdxl-unet", "phase", "context"] {
        assert!(list.contains(name), "{name}\n{list}");
    }
    let lines = succeeds(&["inspect", "zoo:", "--json"]);
    assert!(
        lines.lines().all(|line| json(line)["name"].is_string()) && lines.lines().count() > 100
    );
}

#[test]
fn small_architectures_run() {
    let record = json(&succeeds(&["bench", "zoo:bert-tiny", "--seconds", "0.1", "--json"]));
    assert_eq!((&record["model"], &record["runs"]), (&"bert-tiny".into(), &true.into()));
    let tiny = r#"{"model_type": "llama", "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}"#;
    let config = Config::new("run", tiny);
    let decode = format!("{},phase=decode,context=16", config.path());
    let record = json(&succeeds(&["bench", &decode, "--seconds", "0.1", "--json"]));
    assert_eq!(record["runs"], true);
}

/// Seven billion weights are counted, on every chip, in less memory than a fiftieth of them would take.
#[test]
#[cfg(target_os = "linux")]
fn a_large_architecture_is_estimated_in_little_memory() {
    for phase in ["prefill", "decode"] {
        let binary = env!("CARGO_BIN_EXE_anychip");
        let command = format!(
            "ulimit -v 500000; '{binary}' compare --estimate zoo:llama-2-7b,phase={phase} --json"
        );
        let output = Command::new("sh").args(["-c", &command]).output().expect("a shell");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let lines = String::from_utf8(output.stdout).expect("the output is text");
        let fits = lines.lines().filter(|line| json(line)["runs"] == true).count();
        assert!(fits > 0 && lines.lines().count() > fits, "{fits} chips hold it\n{lines}");
    }
}

#[test]
fn what_is_no_name_or_no_setting_is_answered() {
    fails(&["inspect", "zoo:resnet5O"], &["no built-in architecture", "resnet50", "inspect zoo:"]);
    fails(&["bench", "zoo:resnet50,phase=decode"], &["phase=decode", "no such setting"]);
    fails(&["inspect", "zoo:resnet50,image=0"], &["image=0", "from 1 to"]);
    fails(&["inspect", "zoo:vgg16,image=8"], &["cannot be built", "too small"]);
    fails(&["bench", "zoo:llama-3.1-405b,phase=decode"], &["weights take", "--estimate"]);
    fails(&["compare", "zoo:", "--estimate"], &["inspect zoo:"]);
}

#[test]
fn a_configuration_is_a_model() {
    let bert = r#"{"architectures": ["BertForMaskedLM"], "model_type": "bert", "vocab_size": 30522,
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
        "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12}"#;
    let config = Config::new("bert", bert);
    let facts = json(&succeeds(&["inspect", &config.path(), "--json"]));
    assert_eq!(facts["parameters"], 109_482_240.0);
    let records = succeeds(&["compare", &config.path(), "--estimate", "--json"]);
    assert!(records.lines().count() > 5);
}

#[test]
fn what_is_wrong_with_a_configuration_is_named() {
    let llama = |field: &str| {
        format!(
            r#"{{"model_type": "llama", "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 64, {field}}}"#
        )
    };
    for (name, contents, parts) in [
        (
            "unknown",
            r#"{"model_type": "hyena"}"#.to_string(),
            ["config.json", "`hyena` is not known", "known are bert"],
        ),
        (
            "missing",
            r#"{"model_type": "gpt2"}"#.to_string(),
            ["config.json", "`n_embd` is missing", ""],
        ),
        (
            "text",
            llama(r#""head_dim": "wide""#),
            ["config.json", "`head_dim` is \"wide\"", "whole number"],
        ),
        (
            "negative",
            llama(r#""rope_theta": -1"#),
            ["config.json", "`rope_theta` is -1", "positive"],
        ),
        (
            "heads",
            llama(r#""num_key_value_heads": 3"#),
            ["config.json", "num_key_value_heads", "divisor"],
        ),
        (
            "deep",
            llama(r#""num_hidden_layers": 999999999"#),
            ["config.json", "num_hidden_layers", "1024"],
        ),
        ("wide", llama(r#""hidden_size": 1e30"#), ["config.json", "hidden_size", "whole number"]),
        ("broken", "{\"model_type\"".to_string(), ["config.json", "is no configuration", ""]),
        ("binary", "\u{0}\u{1}".to_string(), ["config.json", "is no configuration", ""]),
    ] {
        let config = Config::new(name, &contents);
        fails(&["inspect", &config.path()], &parts);
    }
    fails(&["inspect", "no/such/config.json"], &["no/such/config.json"]);
}
