//! The ONNX standard's own backend tests: cases from the `onnx` wheel, run by a Rust runner, judged here.
//!
//! The runner is the example `onnx_cases` of `anychip`:
//!
//! ```text
//! onnx_cases DIR --target cpu|reference --json FILE [--only TEXT]
//! ```
//!
//! It reads `DIR/index.json`, runs every case, and appends one line to FILE as each ends:
//! `{"case": "node/test_abs", "outcome": "pass", "message": ""}` with `outcome` one of `pass`, `fail` (ran, wrong
//! answer), `refused` (a diagnostic), `panic`, `timeout`. Its exit status is 0 whatever the outcomes.

use crate::onnx_judge::{Index, Line, Skips, judge};
use crate::{process, python, workspace};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

const PACKAGE: &str = "anychip";
const RUNNER: &str = "onnx_cases";
const TARGETS: &[&str] = &["cpu", "reference"];

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Run on one of `cpu` and `reference` (default: both)
    #[arg(long)]
    target: Option<String>,
    /// Only cases whose `group/name` contains this
    #[arg(long)]
    only: Option<String>,
    /// Only write the cases
    #[arg(long)]
    prepare: bool,
}

/// Whether there is a runner yet, or why not.
pub(crate) fn runner_missing() -> Result<Option<String>> {
    let there = workspace::metadata()?.has_example(PACKAGE, RUNNER);
    Ok((!there).then(|| format!("{PACKAGE} has no example `{RUNNER}`")))
}

/// The standard's cases as files; written when absent or outdated.
pub(crate) fn cases() -> Result<PathBuf> {
    let script = "tools/onnx_cases.py";
    let folder = workspace::path("target/onnx-cases");
    let stamp = folder.join("stamp");
    let wanted = python::hash_of(&[
        workspace::path(script),
        workspace::path("tools/requirements-test.txt"),
    ])?;
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(folder);
    }
    let python = python::test()?;
    println!("writing the standard's cases to {}", workspace::relative(&folder));
    std::fs::create_dir_all(workspace::path("target"))?;
    process::run(python::script(&python, script).env("PYTHONWARNINGS", "ignore").arg(&folder))?;
    std::fs::write(&stamp, wanted)?;
    Ok(folder)
}

/// Prepare, run on each target, judge.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = cases()?;
    if options.prepare {
        return Ok(());
    }
    if let Some(reason) = runner_missing()? {
        bail!("{reason}");
    }
    let targets: Vec<&str> = match &options.target {
        Some(one) => vec![one],
        None => TARGETS.to_vec(),
    };
    let index = std::fs::read_to_string(folder.join("index.json")).context("reading index.json")?;
    let mut index: Index = serde_json::from_str(&index).context("reading index.json")?;
    let left_out = index.keep_numeric();
    println!("{left_out} cases hold strings, sequences or optionals and are left out");
    if let Some(text) = &options.only {
        index.cases.retain(|c| c.path.contains(text.as_str()));
    }
    let skips = Skips::read()?;
    let mut faults = Vec::new();
    for target in targets {
        let lines = run_target(&folder, target, options.only.as_deref())?;
        faults.extend(judge(target, &index, &skips, &lines, options.only.is_none()));
    }
    if faults.is_empty() {
        return Ok(());
    }
    for fault in &faults {
        println!("FAIL {fault}");
    }
    bail!("{} faults", faults.len())
}

fn run_target(folder: &Path, target: &str, only: Option<&str>) -> Result<Vec<Line>> {
    let json = workspace::path("target").join(format!("onnx-results-{target}.jsonl"));
    if json.exists() {
        std::fs::remove_file(&json)?;
    }
    let mut command = process::cargo();
    command.args(["run", "--quiet", "--release", "--package", PACKAGE, "--example", RUNNER, "--"]);
    command.arg(folder).args(["--target", target, "--json"]).arg(&json);
    if let Some(text) = only {
        command.args(["--only", text]);
    }
    // A runner that dies leaves the lines it wrote: the case it died on is among the missing ones.
    if let Err(error) = process::run(&mut command) {
        println!("{error:#}");
    }
    let text = std::fs::read_to_string(&json)
        .with_context(|| format!("the runner wrote no {}", workspace::relative(&json)))?;
    let parse = |line| {
        serde_json::from_str(line).with_context(|| format!("in the runner's answer: {line}"))
    };
    text.lines().filter(|l| !l.trim().is_empty()).map(parse).collect()
}
