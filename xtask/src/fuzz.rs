//! Mutation fuzzing of the parsers, by an example of a crate that knows it:
//!
//! ```text
//! EXAMPLE --seconds N --seed S [CORPUS…]
//! ```
//!
//! It damages inputs in one process, prints the seed and the count, and exits with 1 after an input that panicked, hung
//! or took too much memory. Built with overflow checks, as tests are. libFuzzer would need a nightly compiler.

use crate::{onnx_tests, process, workspace};
use anyhow::{Result, bail};

/// Name, package, example, and whether it starts from model files (the other makes its own graphs).
const FUZZERS: &[(&str, &str, &str, bool)] = &[
    ("onnx", "anychip-onnx", "fuzz_import", true),
    ("text", "anychip-conformance", "fuzz_text", false),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which parser: `onnx` or `text` (default: each in turn)
    target: Option<String>,
    /// How long for each
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Where the mutations start
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Fuzz each parser for the given time; the first fault ends it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let cases = onnx_tests::cases()?;
    let chosen: Vec<_> = FUZZERS
        .iter()
        .filter(|(name, ..)| options.target.as_deref().is_none_or(|t| t == *name))
        .collect();
    if chosen.is_empty() {
        let known: Vec<&str> = FUZZERS.iter().map(|(name, ..)| *name).collect();
        bail!("there are {}", known.join(", "));
    }
    for (name, package, example, from_models) in chosen {
        println!("fuzzing {name} for {} s", options.seconds);
        let mut command = process::cargo();
        command.args(["run", "--quiet", "--package", package, "--example", example, "--"]);
        command.args([
            "--seconds",
            &options.seconds.to_string(),
            "--seed",
            &options.seed.to_string(),
        ]);
        if *from_models {
            command.arg(workspace::path("models")).arg(cases.join("node"));
        }
        process::run(&mut command)?;
    }
    Ok(())
}
