//! Latency of zoo models beside ONNX Runtime, in turns in one run, as ratios.

use crate::{process, python, workspace, zoo};
use anyhow::Result;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Models of the zoo (default: all)
    names: Vec<String>,
    /// Seconds of timed runs in each process
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Processes of each
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Threads of both (default: all cores)
    #[arg(long)]
    threads: Option<u32>,
    #[command(flatten)]
    binary: workspace::Binary,
}

/// Print a line a model and write `measurements/peers.json`; an error when a model could not be timed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = zoo::export(&options.names)?;
    let python = python::test()?;
    let binary = options.binary.path()?;
    let out = workspace::path("measurements");
    std::fs::create_dir_all(&out)?;
    let mut command = python::script(&python, "tools/peers.py");
    command.arg(binary).arg(out.join("peers.json"));
    command.args(zoo::names(&folder, &options.names)?.iter().map(|n| folder.join(n)));
    command.args([
        "--rounds",
        &options.rounds.to_string(),
        "--seconds",
        &options.seconds.to_string(),
    ]);
    if let Some(threads) = options.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    process::run(&mut command)
}
