//! Models of the zoo on one target beside the other runtimes for it: latency, start and memory, in turns in one run.
//!
//! Here the peers are prepared: environments of Python, worker programs built from `tools/peers/`, files. The turns
//! and the tables are those of `tools/peers.py`.

use crate::{peers_systolic, process, python, workspace, zoo};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::path::{Path, PathBuf};

/// Models that another one of the zoo stands for: the same network from an older exporter.
const TWIN: &str = "-torchscript";
/// The same model again, as `MODEL@BATCH`: where the weights are used more than once.
const BATCHED: &str = "resnet50@8";

const EXAMPLES: &str = "\
Examples:
  cargo xtask peers cpu
  cargo xtask peers cpu --threads 1 --rounds 1 --seconds 1 resnet50 mobilenet-v2
  cargo xtask peers cpu --peers onnxruntime,openvino --threads 2 resnet50@8
  cargo xtask peers cpu --peers openvino --isa avx2
  cargo xtask peers cpu --dtype int8

One thread: the median of rounds; more: the best round. Only ratios mean something, and
only from one run: what else the machine does slows all runtimes down, but not evenly.";

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    target: Target,
}

#[derive(clap::Subcommand)]
enum Target {
    /// The CPU of this machine, f32
    #[command(after_help = EXAMPLES)]
    Cpu(Cpu),
    /// Post-training quantization to int8: what it costs, beside ONNX Runtime's tool and NNCF
    Quantize(crate::peers_quantize::Quantize),
    /// Where the time goes by kind of operator, here, in ONNX Runtime and in `OpenVINO`
    Layers(crate::peers_layers::Options),
    /// The simulator of systolic arrays beside SCALE-Sim, cycle for cycle
    Systolic(peers_systolic::Options),
}

#[derive(clap::Args)]
struct Cpu {
    /// Models of the zoo, as NAME or NAME@BATCH [default: all but the twins, and resnet50@8]
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Threads of all runtimes: one table for each number
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<u32>,
    /// Processes of each runtime for each model and number of threads
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of timed runs in each process
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Runtimes to compare with [default: all]
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Instruction set of ours, as `anychip bench --isa` has it; with avx2, peers run without AVX-512 too where they can be made to
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// What the files compute in; int8: built-in architectures, quantized by ONNX Runtime's own tool, in ONNX Runtime and
    /// `OpenVINO`
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Where to write the figures [default: measurements/peers-cpu.json for all models and peers, else a file in
    /// target/peers]
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    #[command(flatten)]
    binary: workspace::Binary,
}

/// What files compute in.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Dtype {
    F32,
    Int8,
}

/// Architectures that are measured in int8, and the runtimes that have kernels for them.
const INT8_MODELS: [&str; 2] = ["resnet50", "mobilenet-v2"];
const INT8_PEERS: [Peer; 2] = [Peer::OnnxRuntime, Peer::OpenVino];

/// A runtime beside ours.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Peer {
    #[value(name = "onnxruntime")]
    OnnxRuntime,
    #[value(name = "openvino")]
    OpenVino,
    #[value(name = "pytorch")]
    PyTorch,
    #[value(name = "pytorch-compile")]
    PyTorchCompile,
    Rten,
    Tract,
}

impl Peer {
    /// As on the command line and in the record.
    fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    /// The program that times it: a Python, which is given `tools/peer_worker.py`, or a worker of its own.
    fn worker(self, scratch: &Path) -> Result<PathBuf> {
        match self {
            Self::OnnxRuntime => python::test(),
            Self::OpenVino => python::peers(),
            Self::PyTorch | Self::PyTorchCompile => python::zoo(),
            Self::Rten => crate_worker("peer-rten", scratch),
            Self::Tract => crate_worker("peer-tract", scratch),
        }
    }
}

/// Measure and print; an error when the target's own column has a gap.
pub(crate) fn run(options: &Options) -> Result<()> {
    let cpu = match &options.target {
        Target::Cpu(cpu) => cpu,
        Target::Quantize(options) => return crate::peers_quantize::run(options),
        Target::Layers(options) => return crate::peers_layers::run(options),
        Target::Systolic(options) => return peers_systolic::run(options),
    };
    if cpu.threads.contains(&0) || cpu.rounds == 0 || cpu.seconds.is_nan() || cpu.seconds <= 0.0 {
        bail!("--threads, --rounds and --seconds must be above zero");
    }
    let scratch = workspace::path("target/peers");
    std::fs::create_dir_all(scratch.join("torch"))?;
    let int8 = cpu.dtype == Dtype::Int8;
    let (folder, models) =
        if int8 { quantized(&cpu.models, &scratch, cpu)? } else { models(&cpu.models)? };
    let all = if int8 { &INT8_PEERS[..] } else { Peer::value_variants() };
    let peers = if cpu.peers.is_empty() { all } else { &cpu.peers };
    let complete = !int8
        && cpu.isa.is_none()
        && cpu.models.is_empty()
        && peers.len() == Peer::value_variants().len();
    let out = match &cpu.out {
        Some(given) => std::path::absolute(given)?,
        None if complete => workspace::path("measurements/peers-cpu.json"),
        None if int8 => scratch.join("peers-cpu-int8.json"),
        None => scratch.join("peers-cpu.json"),
    };
    let mut command = python::script(&python::test()?, "tools/peers.py");
    command.arg("--zoo").arg(folder).arg("--scratch").arg(&scratch).arg("--out").arg(&out);
    command.args(["--rounds", &cpu.rounds.to_string(), "--seconds", &cpu.seconds.to_string()]);
    for threads in &cpu.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    if let Some(isa) = &cpu.isa {
        command.args(["--isa", isa]);
    }
    if int8 {
        command.args(["--dtype", "int8"]);
    }
    let ours = cpu.binary.path()?;
    command.arg("--worker").arg(format!("anychip={}", ours.display()));
    for peer in peers {
        let name = peer.name();
        // A peer that this machine cannot have is named in the tables, with the reason.
        match peer.worker(&scratch) {
            Ok(program) => {
                command.arg("--worker").arg(format!("{name}={}", program.display()));
            }
            Err(error) => {
                let reason = format!("{error:#}");
                let reason = reason.lines().next().unwrap_or_default();
                eprintln!("{name} is missing: {reason}");
                command.arg("--missing").arg(format!("{name}={reason}"));
            }
        }
    }
    if peers.iter().any(|p| matches!(p, Peer::PyTorch | Peer::PyTorchCompile)) {
        // Models without one are gaps in those columns, with that reason.
        if let Err(error) = torch_modules(&models, &scratch) {
            eprintln!("{error:#}");
        }
    }
    process::run(command.args(&models))?;
    eprintln!("written to {}", workspace::relative(&out));
    Ok(())
}

/// The folder of the exported models, and the `MODEL@BATCH` to measure.
fn models(asked: &[String]) -> Result<(PathBuf, Vec<String>)> {
    let mut bases: Vec<String> = Vec::new();
    for model in asked {
        let (base, batch) = parts(model)?;
        if !bases.iter().any(|b| b == base) {
            bases.push(base.to_owned());
        }
        if batch % 2 != 0 && batch != 1 {
            bail!(
                "{model}: the inputs kept with a model are of batch 1 and 2; give 1 or an even batch"
            );
        }
    }
    let folder = zoo::export(&bases)?;
    if !asked.is_empty() {
        return Ok((folder, asked.to_vec()));
    }
    let mut all = zoo::names(&folder, &[])?;
    all.retain(|name| !name.ends_with(TWIN));
    let at = all.iter().position(|name| BATCHED.starts_with(name.as_str()));
    all.insert(at.map_or(all.len(), |at| at + 1), BATCHED.to_owned());
    Ok((folder, all))
}

/// The folder of the quantized models, made where they are not there yet, and their names.
fn quantized(asked: &[String], scratch: &Path, cpu: &Cpu) -> Result<(PathBuf, Vec<String>)> {
    let models: Vec<String> =
        if asked.is_empty() { INT8_MODELS.map(str::to_owned).to_vec() } else { asked.to_vec() };
    if let Some(batched) = models.iter().find(|m| m.contains('@')) {
        bail!("{batched}: quantized files are of batch 1");
    }
    let folder = scratch.join("int8");
    let mut command = python::script(&python::test()?, "tools/peer_quantize.py");
    process::run(command.arg(cpu.binary.path()?).arg(&folder).args(&models))?;
    Ok((folder, models))
}

/// `MODEL@BATCH` in its parts; batch 1 when there is none.
fn parts(model: &str) -> Result<(&str, u32)> {
    let Some((base, batch)) = model.split_once('@') else { return Ok((model, 1)) };
    let batch = batch.parse().ok().filter(|&b| b > 0);
    Ok((
        base,
        batch.with_context(|| format!("{model}: after `@` stands the batch, a number from 1"))?,
    ))
}

/// A worker program from `tools/peers/`, which is a workspace of its own: its crates are none of ours.
fn crate_worker(package: &str, scratch: &Path) -> Result<PathBuf> {
    let mut command = process::cargo();
    command.args(["build", "--release", "--locked", "--package", package]);
    command.arg("--manifest-path").arg(workspace::path("tools/peers/Cargo.toml"));
    process::run(command.arg("--target-dir").arg(scratch))?;
    Ok(scratch.join("release").join(format!("{package}{}", std::env::consts::EXE_SUFFIX)))
}

/// Keep the `PyTorch` modules that the files were exported from.
fn torch_modules(models: &[String], scratch: &Path) -> Result<()> {
    let mut names: Vec<&str> = Vec::new();
    for model in models {
        let (base, _) = parts(model)?;
        if base != zoo::KERAS && !names.contains(&base) {
            names.push(base);
        }
    }
    let mut command = python::script(&python::zoo()?, "tools/peer_torch.py");
    process::run(command.arg(scratch.join("torch")).args(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_a_batch() {
        assert_eq!(parts("resnet50").unwrap(), ("resnet50", 1));
        assert_eq!(parts(BATCHED).unwrap(), ("resnet50", 8));
        for wrong in ["resnet50@", "resnet50@0", "resnet50@-1", "resnet50@x"] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_of_peers() {
        let names: Vec<String> = Peer::value_variants().iter().map(|p| p.name()).collect();
        let shown = "onnxruntime openvino pytorch pytorch-compile rten tract";
        assert_eq!(names, shown.split(' ').collect::<Vec<_>>());
    }
}
