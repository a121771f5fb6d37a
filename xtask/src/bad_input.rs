//! Damaged and hostile files: `tools/bad_input.py` makes them and watches the binary take them.

use crate::{process, python, workspace};
use anyhow::Result;
use std::path::PathBuf;

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Write the files to this new folder and leave them there
    #[arg(long)]
    keep: Option<PathBuf>,
    #[command(flatten)]
    binary: workspace::Binary,
}

/// Prints each fault and a closing count; an error when there is a fault.
pub(crate) fn run(options: &Options) -> Result<()> {
    let python = python::test()?;
    let binary = options.binary.path()?;
    let mut command = python::script(&python, "tools/bad_input.py");
    command.arg(binary).args(["models/digits-cnn.onnx", "models/digits-cnn.npz"]);
    if let Some(folder) = &options.keep {
        command.arg("--keep").arg(folder);
    }
    process::run(&mut command)
}
