//! Fuzzing: mutated inputs for the parsers, random operators for the kernels; by an example of a crate that knows them:
//!
//! ```text
//! EXAMPLE --seconds N --seed S [CORPUS…]
//! ```
//!
//! It makes inputs in one process, prints the seed and the count, and exits with 1 after one that panicked, hung, took too
//! much memory or gave wrong results. Built with overflow checks, as tests are. libFuzzer would need a nightly compiler.

use crate::{onnx_tests, process, workspace};
use anyhow::{Result, bail};

/// Name, package, example, and whether it starts from model files (the others make their own graphs).
const FUZZERS: &[(&str, &str, &str, bool)] = &[
    ("onnx", "anychip-onnx", "fuzz_import", true),
    ("text", "anychip-conformance", "fuzz_text", false),
    ("kernels", "anychip-cpu", "fuzz_kernels", false),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// What: `onnx`, `text` or `kernels` (default: each in turn)
    target: Option<String>,
    /// How long for each
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Where the random numbers start
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Fuzz each for the given time; the first that has a finding ends it.
pub(crate) fn run(options: &Options) -> Result<()> {
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
            command.arg(workspace::path("models")).arg(onnx_tests::cases()?.join("node"));
        }
        process::run(&mut command)?;
    }
    Ok(())
}
