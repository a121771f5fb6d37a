//! Time from process start to the first result and peak memory of `anychip run`, beside ONNX Runtime in one run.

use crate::{process, python, workspace, zoo};
use anyhow::Result;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A model of the zoo
    #[arg(default_value = "resnet50")]
    model: String,
    /// How often each is started
    #[arg(long, default_value_t = 9)]
    runs: u32,
    #[command(flatten)]
    binary: workspace::Binary,
}

/// Measure and write `measurements/start-MODEL.json`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = zoo::export(std::slice::from_ref(&options.model))?.join(&options.model);
    // The batch is written into this file, so that the sizes of all activations are known.
    let fixed = folder.join("fixed.onnx");
    let model = if fixed.exists() { fixed } else { folder.join("model.onnx") };
    let python = python::test()?;
    let binary = options.binary.path()?;
    let out = workspace::path("measurements").join(format!("start-{}.json", options.model));
    std::fs::create_dir_all(workspace::path("measurements"))?;
    let mut command = python::script(&python, "tools/start.py");
    command.arg(binary).arg(model).arg(folder.join("inputs-1.npz"));
    command.arg(folder.join("outputs-1.npz")).arg(&out);
    process::run(command.args(["--runs", &options.runs.to_string()]))?;
    println!("written to {}", workspace::relative(&out));
    Ok(())
}
