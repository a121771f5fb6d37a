//! The `pjrt` target on two real plugins: the oldest and the newest that are known to be installable.
//!
//! On each: the conformance suite, models beside the target `cpu`, 10,000 runs with flat memory; and files that are no plugins.

use crate::{process, python, workspace};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// A plugin: the name of its environment under `.venv/`, what is installed there, and its file among the packages.
struct Plugin {
    environment: &'static str,
    requirements: &'static str,
    file: &'static str,
}

const PLUGINS: [Plugin; 2] = [
    Plugin {
        environment: "pjrt-oldest",
        requirements: "tools/requirements-pjrt-oldest.txt",
        file: "xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so",
    },
    Plugin {
        environment: "pjrt-newest",
        requirements: "tools/requirements-pjrt-newest.txt",
        file: "lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so",
    },
];

/// Architectures of every family that a few gigabytes of memory and a minute of compilation hold.
const MODELS: &[&str] = &[
    "models/digits-cnn.onnx",
    "zoo:resnet50",
    "zoo:mobilenet-v2",
    "zoo:efficientnet-b0",
    "zoo:convnext-tiny",
    "zoo:vit-b-16",
    "zoo:densenet-121",
    "zoo:swin-t",
    "zoo:bert-base,sequence=64",
    "zoo:gpt2,phase=prefill,sequence=32",
    "zoo:dlrm",
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Models instead of the usual ones: files, or zoo:NAME
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Runs of the leak check
    #[arg(long, default_value_t = 10_000)]
    runs: u64,
    /// Only the steps named: conformance, models, leaks, damaged
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = |step: &str| options.only.is_empty() || options.only.iter().any(|s| s == step);
    for plugin in &PLUGINS {
        let folder = python::pjrt(plugin.environment, plugin.requirements)?;
        let file = folder.join(plugin.file);
        if !file.is_file() {
            bail!("{} has no {}", plugin.requirements, plugin.file);
        }
        println!("== {} ==", workspace::relative(&file));
        if wanted("conformance") {
            let mut command = process::cargo();
            command.args(["test", "--quiet", "--package", "anychip-pjrt", "--test", "conformance"]);
            command.args(["--", "--nocapture"]).env("ANYCHIP_PJRT_TEST_PLUGIN", &file);
            process::run(&mut command)?;
        }
        if wanted("models") {
            let usual = MODELS.iter().map(ToString::to_string).collect();
            let models: Vec<String> =
                if options.models.is_empty() { usual } else { options.models.clone() };
            process::run(example("same_on", &file).arg("cpu-pjrt").args(models))?;
        }
        if wanted("leaks") {
            let mut command = example("endurance", &file);
            command.args(["models/digits-cnn.onnx", "--on", "cpu-pjrt", "--sessions", "2"]);
            process::run(command.args(["--runs", &options.runs.to_string()]))?;
        }
        if wanted("damaged") {
            damaged(&file)?;
        }
    }
    Ok(())
}

/// An example of the library that sees one plugin.
fn example(name: &str, plugin: &Path) -> std::process::Command {
    let mut command = process::cargo();
    command.args(["run", "--quiet", "--release", "--package", "anychip", "--example", name, "--"]);
    command.current_dir(workspace::root()).env("ANYCHIP_PJRT_PLUGINS", plugin);
    command
}

/// Files that are no plugins: the binary must say what each is and run on, or end with status 1 where the plugin was asked for.
fn damaged(plugin: &Path) -> Result<()> {
    let folder = workspace::path("target/pjrt-damaged");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let text = folder.join("text.so");
    std::fs::write(&text, "not a library\n".repeat(100))?;
    let cut = folder.join("cut.so");
    let whole = std::fs::read(plugin)?;
    std::fs::write(&cut, &whole[..whole.len() / 3])?;
    drop(whole);
    let other = no_plugin()?;
    let missing = folder.join("missing.so");
    let cases: [(&str, &Path, &str); 4] = [
        ("missing", &missing, "cannot be read"),
        ("a text", &text, "not a 64-bit library"),
        ("cut off", &cut, "it was cut off"),
        ("another library", &other, "no `GetPjrtApi`"),
    ];
    for (name, file, expected) in cases {
        let anychip = |arguments: &[&str]| -> Result<std::process::Output> {
            let mut command = process::cargo();
            command.args(["run", "--quiet", "--release", "--package", "anychip-cli", "--"]);
            command.args(arguments).env("ANYCHIP_PJRT_PLUGINS", file);
            process::output(command.current_dir(workspace::root()))
        };
        let doctor = anychip(&["doctor"])?;
        let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
        if !doctor.status.success() || !said.contains(expected) {
            bail!("{name}: `doctor` ended with {} and said\n{said}", doctor.status);
        }
        let run = anychip(&["bench", "models/digits-cnn.onnx", "--on", "cpu-pjrt"])?;
        if run.status.code() != Some(1) || run.stderr.is_empty() {
            bail!("{name}: `bench --on cpu-pjrt` ended with {} instead of status 1", run.status);
        }
        let run = anychip(&["compare", "models/digits-cnn.onnx", "--chips", "cpu"])?;
        if !run.status.success() {
            bail!("{name}: `compare --chips cpu` ended with {}", run.status);
        }
        println!("{name}: told, and everything else runs on");
    }
    std::fs::remove_file(&cut)?;
    Ok(())
}

/// A shared library that every Linux system has.
fn no_plugin() -> Result<PathBuf> {
    let places = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libm.so.6", "/usr/lib/libm.so.6"];
    let found = places.iter().map(PathBuf::from).find(|path| path.is_file());
    found.context("there is no libm.so.6 where it usually lies")
}
