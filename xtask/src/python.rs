//! Virtual environments under `.venv/`, made once for each state of their requirement files.

use crate::{process, workspace};
use anyhow::{Context, Result, bail};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One environment: its folder under `.venv/` and how to fill it.
struct Environment {
    name: &'static str,
    requirements: &'static str,
    /// Whether what `requirements` names is installed without what it asks for.
    alone: bool,
    /// Packages installed without what they ask for, and the script that then makes them work.
    bare: Option<(&'static str, &'static str)>,
}

impl Environment {
    /// One filled from a file of requirements alone.
    const fn of(name: &'static str, requirements: &'static str) -> Environment {
        Environment { name, requirements, alone: false, bare: None }
    }
}

const TEST: Environment = Environment::of("test", "tools/requirements-test.txt");
const ZOO: Environment = Environment {
    bare: Some(("tools/requirements-torch.txt", "tools/cpu_torch.py")),
    ..Environment::of("zoo", "tools/requirements-zoo.txt")
};
const PEERS: Environment = Environment::of("peers", "tools/requirements-peers.txt");
const SCALE_SIM: Environment = Environment::of("scale-sim", "tools/requirements-scale-sim.txt");
const QUANTIZE: Environment = Environment::of("quantize", "tools/requirements-quantize.txt");

/// The Python with the standard's tests and ONNX Runtime; installs it when needed.
pub(crate) fn test() -> Result<PathBuf> {
    prepare(&TEST)
}

/// The Python with `PyTorch` and `TensorFlow`; installs it when needed (1 GB to download).
pub(crate) fn zoo() -> Result<PathBuf> {
    prepare(&ZOO)
}

/// The folder of the packages of one of the plugins of PJRT that tests run on; installs it when needed. The files name version
/// and hash, so that what is loaded is what was tried; what the packages ask for is for those who use them from Python.
pub(crate) fn pjrt(name: &'static str, requirements: &'static str) -> Result<PathBuf> {
    let python = prepare(&Environment { alone: true, ..Environment::of(name, requirements) })?;
    let folder = "import sysconfig; print(sysconfig.get_paths()['purelib'])";
    let output = process::output(process::command(&python).args(["-c", folder]))?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// The Python with `OpenVINO`; installs it when needed.
pub(crate) fn peers() -> Result<PathBuf> {
    prepare(&PEERS)
}

/// The Python with SCALE-Sim; installs it when needed.
pub(crate) fn scale_sim() -> Result<PathBuf> {
    prepare(&SCALE_SIM)
}

/// The Python with the tools that quantize; installs it when needed.
pub(crate) fn quantize() -> Result<PathBuf> {
    prepare(&QUANTIZE)
}

/// `python script` in the workspace's root.
pub(crate) fn script(python: &Path, script: &str) -> Command {
    let mut command = process::command(python);
    command.arg(workspace::path(script));
    // What a script imports from beside it must not leave compiled files in the source tree.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Train and export the models in `models/` again.
pub(crate) fn train_digits() -> Result<()> {
    process::run(&mut script(&zoo()?, "tools/train_digits.py"))
}

/// A number that changes with the contents of the files.
pub(crate) fn hash_of(files: &[PathBuf]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read(file)
            .with_context(|| format!("reading {}", file.display()))?
            .hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn prepare(environment: &Environment) -> Result<PathBuf> {
    let folder = workspace::path(".venv").join(environment.name);
    let python = if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" };
    let python = folder.join(python);
    let mut files = vec![workspace::path(environment.requirements)];
    if let Some((packages, script)) = environment.bare {
        files.extend([workspace::path(packages), workspace::path(script)]);
    }
    let stamp = folder.join("requirements.hash");
    let wanted = hash_of(&files)?;
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    eprintln!("preparing {} (once)", workspace::relative(&folder));
    create(&folder)?;
    let alone: &[&str] = if environment.alone { &["--no-deps"] } else { &[] };
    install(&python, &[alone, &["-r", environment.requirements]].concat())?;
    if let Some((packages, fix)) = environment.bare {
        install(&python, &["--no-deps", "-r", packages])?;
        process::run(&mut script(&python, fix))?;
    }
    std::fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(python)
}

fn install(python: &Path, what: &[&str]) -> Result<()> {
    let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    process::run(process::command(python).args(options).args(what))
}

/// Make the environment from nothing, with Debian's package for it where that is what is missing.
fn create(folder: &Path) -> Result<()> {
    if !process::exists(process::command("python3").arg("--version")) {
        bail!("there is no `python3`; install Python 3.11 or newer");
    }
    let make =
        || process::output(process::command("python3").args(["-m", "venv", "--clear"]).arg(folder));
    let mut made = make()?;
    if !made.status.success() && process::exists(process::command("apt-get").arg("--version")) {
        println!("python3 has no `venv`; asking apt-get for it");
        let apt = |arguments: &[&str]| {
            process::run(
                process::command("apt-get")
                    .env("DEBIAN_FRONTEND", "noninteractive")
                    .args(arguments),
            )
        };
        apt(&["update", "--quiet"])?;
        apt(&["install", "--quiet", "--yes", "python3-venv"])?;
        made = make()?;
    }
    if !made.status.success() {
        let diagnostics = String::from_utf8_lossy(&made.stderr);
        bail!("python3 -m venv failed: {}", diagnostics.trim_end());
    }
    Ok(())
}
