//! Everything a landing must pass, in one command, which says what it could not do and why.

use crate::{bad_input, onnx_tests, process, python, tidy, workspace};
use anyhow::Result;
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these steps
    #[arg(long, value_delimiter = ',', value_parser = NAMES.to_vec())]
    only: Vec<String>,
}

/// What came of one step.
enum Outcome {
    Passed,
    Skipped(String),
}

type Step = fn() -> Result<Outcome>;

const NAMES: [&str; 12] = [
    "tidy",
    "format",
    "lint",
    "unit",
    "scripts",
    "doc",
    "examples",
    "dependencies",
    "spelling",
    "digits",
    "bad-input",
    "onnx",
];
const STEPS: [Step; 12] = [
    tidy_rules,
    format,
    lint,
    unit,
    scripts,
    doc,
    examples,
    dependencies,
    spelling,
    digits,
    hostile,
    onnx,
];

/// The three trained models, checked against their held-out labels.
const DIGITS: [&str; 3] = ["digits-cnn", "digits-transformer", "digits-rnn"];

/// Run every step, whatever the others gave; an error when one failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut rows: Vec<(&str, String, Duration)> = Vec::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, step) in NAMES.into_iter().zip(STEPS) {
        if !options.only.is_empty() && !options.only.iter().any(|o| o == name) {
            continue;
        }
        println!("\n== {name}");
        let start = Instant::now();
        let said = match step() {
            Ok(Outcome::Passed) => {
                passed += 1;
                "passed".to_owned()
            }
            Ok(Outcome::Skipped(reason)) => {
                skipped += 1;
                format!("skipped: {reason}")
            }
            Err(error) => {
                failed += 1;
                format!("FAILED: {error:#}")
            }
        };
        println!("{said}");
        rows.push((name, said, start.elapsed()));
    }
    println!("\n== summary");
    for (name, said, took) in rows {
        println!(
            "{name:<14}{:>6.0} s  {}",
            took.as_secs_f64(),
            said.lines().next().unwrap_or_default()
        );
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 {
        anyhow::bail!("{failed} of {} steps failed", passed + failed + skipped);
    }
    Ok(())
}

fn ran(command: &mut Command) -> Result<Outcome> {
    process::run(command)?;
    Ok(Outcome::Passed)
}

fn tidy_rules() -> Result<Outcome> {
    tidy::run()?;
    Ok(Outcome::Passed)
}

fn format() -> Result<Outcome> {
    if !process::exists(process::cargo().args(["fmt", "--version"])) {
        return Ok(Outcome::Skipped(
            "rustfmt is not installed (`rustup component add rustfmt`)".into(),
        ));
    }
    ran(process::cargo().args(["fmt", "--all", "--check"]))
}

fn lint() -> Result<Outcome> {
    if !process::exists(process::cargo().args(["clippy", "--version"])) {
        return Ok(Outcome::Skipped(
            "clippy is not installed (`rustup component add clippy`)".into(),
        ));
    }
    ran(process::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ]))
}

fn unit() -> Result<Outcome> {
    if process::exists(process::cargo().args(["nextest", "--version"])) {
        return ran(process::cargo().args(["nextest", "run", "--workspace", "--no-tests", "pass"]));
    }
    ran(process::cargo().args(["test", "--workspace", "--lib", "--bins", "--tests"]))
}

/// The unit tests of the scripts in `tools/`.
fn scripts() -> Result<Outcome> {
    match python::test() {
        Ok(python) => {
            let mut command = process::command(python);
            // What the tests import must not leave compiled files in the source tree.
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            ran(command.args(["-m", "unittest", "discover", "--start-directory", "tools"]))
        }
        Err(error) => Ok(Outcome::Skipped(format!("no Python environment: {error:#}"))),
    }
}

fn doc() -> Result<Outcome> {
    ran(process::cargo().args(["test", "--workspace", "--doc"]))
}

/// Build all examples and run those that show how to extend anychip from outside.
fn examples() -> Result<Outcome> {
    let metadata = workspace::metadata()?;
    let all = metadata.examples();
    if all.is_empty() {
        return Ok(Outcome::Skipped("there are no examples".into()));
    }
    process::run(process::cargo().args(["build", "--workspace", "--examples"]))?;
    for (package, example) in all.into_iter().filter(|(_, e)| e.starts_with("own_")) {
        println!("-- {example}");
        process::run(process::cargo().args([
            "run",
            "--quiet",
            "--package",
            package,
            "--example",
            example,
        ]))?;
    }
    Ok(Outcome::Passed)
}

fn dependencies() -> Result<Outcome> {
    if !process::exists(process::cargo().args(["deny", "--version"])) {
        return Ok(Outcome::Skipped(
            "cargo-deny is not installed (`cargo install cargo-deny`)".into(),
        ));
    }
    // Advisories need the network: they have their own command.
    ran(process::cargo().args([
        "deny",
        "--offline",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))
}

/// The spell checker comes from `PyPI`: a program, ready built.
fn spelling() -> Result<Outcome> {
    match python::test() {
        Ok(python) => ran(&mut process::command(python.with_file_name("typos"))),
        Err(error) => Ok(Outcome::Skipped(format!("no Python environment: {error:#}"))),
    }
}

/// The accuracy of the trained models through the binary, beside ONNX Runtime's on the same files.
fn digits() -> Result<Outcome> {
    let python = match python::test() {
        Ok(python) => python,
        Err(error) => return Ok(Outcome::Skipped(format!("no Python environment: {error:#}"))),
    };
    let binary = workspace::release_binary()?;
    for name in DIGITS {
        let model = workspace::path("models").join(format!("{name}.onnx"));
        let inputs = model.with_extension("npz");
        let outputs = workspace::path("target").join(format!("{name}-outputs.npz"));
        let mut command = process::command(&binary);
        command.arg("run").arg(&model).arg("--input").arg(&inputs).arg("--output").arg(&outputs);
        process::printed(&mut command)?;
        let mut judge = python::script(&python, "tools/accuracy.py");
        print!("{name}: ");
        print!("{}", process::printed(judge.arg(&model).arg(&inputs).arg(&outputs))?);
    }
    Ok(Outcome::Passed)
}

fn hostile() -> Result<Outcome> {
    if let Err(error) = python::test() {
        return Ok(Outcome::Skipped(format!("no Python environment: {error:#}")));
    }
    bad_input::run(&bad_input::Options::default())?;
    Ok(Outcome::Passed)
}

fn onnx() -> Result<Outcome> {
    if let Err(error) = python::test() {
        return Ok(Outcome::Skipped(format!("no Python environment: {error:#}")));
    }
    onnx_tests::run(&onnx_tests::Options::default())?;
    Ok(Outcome::Passed)
}
