//! Mutation fuzzing of the parsers, by the example `fuzz` of `anychip-conformance`:
//!
//! ```text
//! fuzz TARGET --seconds N --seed S --corpus PATH…
//! ```
//!
//! It mutates files of the corpus (bytes, and protobuf fields where the input is a model) in one process, prints the
//! seed and the count, and exits with 1 after writing the first input that panicked, hung or took too much memory.
//! libFuzzer would need a nightly compiler.

use crate::{onnx_tests, process, workspace};
use anyhow::{Result, bail};

const PACKAGE: &str = "anychip-conformance";
const FUZZER: &str = "fuzz";
const TARGETS: &[&str] = &["onnx", "text"];

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
    if !workspace::metadata()?.has_example(PACKAGE, FUZZER) {
        bail!("{PACKAGE} has no example `{FUZZER}`");
    }
    let cases = onnx_tests::cases()?;
    let targets: Vec<&str> = match &options.target {
        Some(one) => vec![one],
        None => TARGETS.to_vec(),
    };
    for target in targets {
        let mut command = process::cargo();
        command.args([
            "run",
            "--quiet",
            "--release",
            "--package",
            PACKAGE,
            "--example",
            FUZZER,
            "--",
            target,
        ]);
        command.args([
            "--seconds",
            &options.seconds.to_string(),
            "--seed",
            &options.seed.to_string(),
        ]);
        command.arg("--corpus").arg(workspace::path("models")).arg(&cases);
        process::run(&mut command)?;
    }
    Ok(())
}
