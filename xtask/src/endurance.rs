//! A model run a hundred thousand times by concurrent sessions: memory stays flat and every result keeps its bits.
//!
//! The work is done by `endurance`, an example of the library, so that it goes the way of a user's program.

use crate::{process, workspace, zoo};
use anyhow::Result;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A model of the zoo, or a file
    #[arg(long, default_value = "mobilenet-v2")]
    model: String,
    /// Inferences, over all sessions
    #[arg(long, default_value_t = 100_000)]
    runs: u64,
    /// Sessions that run at once
    #[arg(long, default_value_t = 4)]
    sessions: u64,
    /// Threads that the sessions' program may use
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Where to write the figures
    #[arg(long, value_name = "FILE.json", default_value = "measurements/endurance.json")]
    out: PathBuf,
}

/// Run, print progress and what came of it, write the figures; an error when memory grew or a result differed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let model = if Path::new(&options.model).is_file() {
        Path::new(&options.model).canonicalize()?
    } else {
        zoo::export(std::slice::from_ref(&options.model))?.join(&options.model).join("model.onnx")
    };
    // Relative to the root, as the child sees it.
    let out = workspace::root().join(&options.out);
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut command = process::cargo();
    command.args(["run", "--quiet", "--release", "--package", "anychip"]);
    command.args(["--example", "endurance", "--"]);
    command.arg(model).args(["--runs", &options.runs.to_string()]);
    command.args(["--sessions", &options.sessions.to_string()]);
    command.args(["--threads", &options.threads.to_string()]).arg("--json").arg(&out);
    process::run(&mut command)?;
    println!("written to {}", workspace::relative(&out));
    Ok(())
}
