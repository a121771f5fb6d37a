//! Where the time of models goes, by kind of operator, here and in the peers that can say: the turns and the table are those of
//! `tools/peer_layers.py`.

use crate::{process, python, workspace, zoo};
use anyhow::{Result, bail};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Models of the zoo
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,
    /// Threads of all runtimes
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Processes of each runtime
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    #[command(flatten)]
    binary: workspace::Binary,
}

/// Print a table for each model.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.threads == 0 || options.rounds == 0 {
        bail!("--threads and --rounds must be above zero");
    }
    let (test, openvino) = (python::test()?, python::peers()?);
    let folder = zoo::export(&options.models)?;
    let binary = options.binary.path()?;
    for model in &options.models {
        println!("\n{model}, {} threads", options.threads);
        let files = folder.join(model);
        let mut command = python::script(&test, "tools/peer_layers.py");
        command.arg("--binary").arg(&binary).arg("--openvino").arg(&openvino);
        command.args(["--threads", &options.threads.to_string()]);
        command.args(["--rounds", &options.rounds.to_string()]);
        process::run(command.arg(files.join("fixed.onnx")).arg(files.join("inputs-1.npz")))?;
    }
    Ok(())
}
