//! Well-known architectures: exported in Python, run and optimized by the binary, compared with ONNX Runtime.
//!
//! For each model, at batch 1 and (where the file leaves the batch open) 2: `anychip run` against ONNX Runtime's
//! outputs; the same for the file with batch 1 written in; and `anychip optimize`, whose file ONNX Runtime must load
//! and answer alike. Tolerance: see `tools/compare_npz.py`.

use crate::{process, python, workspace};
use anyhow::{Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

pub(crate) const KERAS: &str = "mobilenet-v3-keras";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Models (default: all)
    names: Vec<String>,
    /// Only export
    #[arg(long)]
    export: bool,
    #[command(flatten)]
    binary: workspace::Binary,
}

#[derive(Deserialize)]
struct Meta {
    batches: Vec<usize>,
    opset: u32,
    parameters: u64,
    exporter: String,
}

/// Export what is not yet there; gives the folder that holds a folder for each model.
pub(crate) fn export(names: &[String]) -> Result<PathBuf> {
    let python = python::zoo()?;
    let out = workspace::path("target/zoo");
    std::fs::create_dir_all(&out)?;
    let pytorch: Vec<&String> = names.iter().filter(|n| *n != KERAS).collect();
    if names.is_empty() || !pytorch.is_empty() {
        process::run(python::script(&python, "tools/zoo.py").arg(&out).args(pytorch))?;
    }
    if names.is_empty() || names.iter().any(|n| n == KERAS) {
        process::run(python::script(&python, "tools/zoo_keras.py").arg(&out))?;
    }
    Ok(out)
}

/// The models asked for, or all that are exported.
pub(crate) fn names(zoo: &Path, asked: &[String]) -> Result<Vec<String>> {
    let mut names = asked.to_vec();
    if names.is_empty() {
        for entry in std::fs::read_dir(zoo)? {
            let entry = entry?;
            if entry.path().join("meta.json").exists() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
    }
    Ok(names)
}

/// Export, run, optimize, compare; prints one line a check and a closing count.
pub(crate) fn run(options: &Options) -> Result<()> {
    let zoo = export(&options.names)?;
    if options.export {
        return Ok(());
    }
    let check = Check { python: python::test()?, binary: options.binary.path()? };
    let names = names(&zoo, &options.names)?;
    let (mut passed, mut failed) = (0, 0);
    for name in &names {
        let folder = zoo.join(name);
        let meta: Meta = serde_json::from_str(&std::fs::read_to_string(folder.join("meta.json"))?)?;
        println!("{name}: {} parameters, opset {}, {}", meta.parameters, meta.opset, meta.exporter);
        for (what, answer) in check.model(name, &folder, &meta)? {
            let ok = answer.is_ok();
            if ok {
                passed += 1;
            } else {
                failed += 1;
            }
            println!(
                "  {} {what:<28} {}",
                if ok { "ok  " } else { "FAIL" },
                answer.unwrap_or_else(|e| e)
            );
        }
    }
    println!("{passed} passed, {failed} failed, 0 skipped");
    if failed > 0 {
        bail!("{failed} checks of the zoo failed");
    }
    Ok(())
}

/// What a check needs: Python with ONNX Runtime, and the binary under test.
struct Check {
    python: PathBuf,
    binary: PathBuf,
}

/// What was checked, and how it went: the worst error met, or what is wrong.
type Answers = Vec<(String, Result<String, String>)>;

impl Check {
    fn model(&self, name: &str, folder: &Path, meta: &Meta) -> Result<Answers> {
        let scratch = workspace::path("target/zoo-answers").join(name);
        if scratch.exists() {
            std::fs::remove_dir_all(&scratch)?;
        }
        std::fs::create_dir_all(&scratch)?;
        let mut answers = Answers::new();
        let model = folder.join("model.onnx");
        for &batch in &meta.batches {
            answers
                .push((format!("run, batch {batch}"), self.run(&model, folder, batch, &scratch)));
        }
        let fixed = folder.join("fixed.onnx");
        if fixed.exists() {
            answers.push(("run, batch 1 written in".into(), self.run(&fixed, folder, 1, &scratch)));
        }
        let optimized = scratch.join("optimized.onnx");
        let mut optimize = process::command(&self.binary);
        optimize.arg("optimize").arg(&model).arg("-o").arg(&optimized);
        match quiet(&mut optimize) {
            Err(error) => answers.push(("optimize".into(), Err(error))),
            Ok(_) => {
                for &batch in &meta.batches {
                    let answer = self.peer(&optimized, folder, batch, &scratch);
                    answers.push((format!("optimized, batch {batch}"), answer));
                }
            }
        }
        // Hundreds of megabytes each.
        std::fs::remove_dir_all(&scratch)?;
        Ok(answers)
    }

    /// `anychip run` against the outputs kept with the model.
    fn run(
        &self,
        model: &Path,
        folder: &Path,
        batch: usize,
        scratch: &Path,
    ) -> Result<String, String> {
        let outputs = scratch.join("ours.npz");
        let mut command = process::command(&self.binary);
        command
            .arg("run")
            .arg(model)
            .arg("--input")
            .arg(folder.join(format!("inputs-{batch}.npz")));
        let start = Instant::now();
        quiet(command.arg("--output").arg(&outputs))?;
        let seconds = start.elapsed().as_secs_f64();
        Ok(format!("{}  {seconds:.2} s", self.compare(&outputs, folder, batch)?))
    }

    /// ONNX Runtime on an optimized file, against its own outputs on the original.
    fn peer(
        &self,
        model: &Path,
        folder: &Path,
        batch: usize,
        scratch: &Path,
    ) -> Result<String, String> {
        let outputs = scratch.join("peer.npz");
        let mut command = python::script(&self.python, "tools/ort_run.py");
        quiet(command.arg(model).arg(folder.join(format!("inputs-{batch}.npz"))).arg(&outputs))?;
        self.compare(&outputs, folder, batch)
    }

    fn compare(&self, outputs: &Path, folder: &Path, batch: usize) -> Result<String, String> {
        let mut command = python::script(&self.python, "tools/compare_npz.py");
        quiet(command.arg(outputs).arg(folder.join(format!("outputs-{batch}.npz"))))
    }
}

/// The last line printed; of a command that failed, its first line of error or else its last line.
fn quiet(command: &mut Command) -> Result<String, String> {
    let output = process::output(command).map_err(|e| format!("{e:#}"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let last = |text: &str| text.trim_end().lines().next_back().unwrap_or_default().to_owned();
    if output.status.success() {
        return Ok(last(&printed));
    }
    let diagnostics = String::from_utf8_lossy(&output.stderr);
    let error = diagnostics.lines().find(|l| l.starts_with("error") || l.contains("panicked at"));
    Err(match error {
        Some(line) => line.to_owned(),
        None if diagnostics.trim().is_empty() => last(&printed),
        None => last(&diagnostics),
    })
}
