//! Models quantized by anychip, ONNX Runtime's tool and NNCF on the same data: signal to noise, and accuracy where there
//! are labels. The work and the table are those of `tools/quantize_peers.py`.

use crate::{process, python, workspace};
use anyhow::Result;
use std::path::PathBuf;

/// Built-in architectures that are quantized: plain, residual, depthwise, gated, dense, a transformer; and one whose weights
/// alone are.
const ZOO: &[&str] = &[
    "zoo:resnet18",
    "zoo:resnet50",
    "zoo:mobilenet-v2",
    "zoo:mobilenet-v3-large",
    "zoo:efficientnet-b0",
    "zoo:densenet121",
    "zoo:vit-b-16",
    "int4:gpt2",
];

/// The models of this repository.
const DIGITS: &[&str] = &["digits-cnn", "digits-transformer", "digits-rnn"];

/// The architectures of `tools/train_quantize.py`.
const TRAINED: &[&str] = &["deep-cnn", "transformer"];

#[derive(clap::Args)]
pub(crate) struct Quantize {
    /// Cases, as zoo:NAME, int4:NAME or MODEL.onnx,CALIBRATE.npz,TEST.npz [default: the digits models, those trained by
    /// `tools/train_quantize.py`, and built-in architectures]
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
    /// Seeds that the trained models are trained from; 0 leaves them out
    #[arg(long, default_value_t = 5)]
    seeds: u32,
    /// Calibration samples of built-in architectures
    #[arg(long, default_value_t = 16)]
    samples: u32,
    /// Further flags of `anychip optimize`
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    flags: String,
    /// Where to write the figures [default: measurements/quantize.json for all cases, else a file in target/peers]
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    #[command(flatten)]
    binary: workspace::Binary,
}

/// Quantize, measure and print.
pub(crate) fn run(options: &Quantize) -> Result<()> {
    let scratch = workspace::path("target/peers/quantize");
    std::fs::create_dir_all(&scratch)?;
    let out = match &options.out {
        Some(given) => std::path::absolute(given)?,
        None if options.cases.is_empty() => workspace::path("measurements/quantize.json"),
        None => scratch.join("figures.json"),
    };
    let mut cases = options.cases.clone();
    if cases.is_empty() {
        for name in DIGITS {
            let file = |ending: &str| workspace::path(&format!("models/{name}.{ending}"));
            let (model, data) = (file("onnx"), file("npz"));
            let data = data.display();
            cases.push(format!("{},{data},{data}", model.display()));
        }
        if options.seeds > 0 {
            let mut command = python::script(&python::zoo()?, "tools/train_quantize.py");
            command.arg("--out").arg(&scratch).args(["--seeds", &options.seeds.to_string()]);
            process::run(&mut command)?;
            for name in TRAINED {
                for seed in 0..options.seeds {
                    let file = |name: String| scratch.join(name).display().to_string();
                    cases.push(format!(
                        "{},{},{}",
                        file(format!("{name}-{seed}.onnx")),
                        file(format!("{name}-calibrate.npz")),
                        file(format!("{name}.npz"))
                    ));
                }
            }
        }
        cases.extend(ZOO.iter().map(ToString::to_string));
    }
    let mut command = python::script(&python::quantize()?, "tools/quantize_peers.py");
    command.arg("--anychip").arg(options.binary.path()?);
    command.arg("--scratch").arg(&scratch).arg("--out").arg(&out);
    command.args(["--samples", &options.samples.to_string(), "--flags", &options.flags]);
    process::run(command.args(&cases))?;
    eprintln!("written to {}", workspace::relative(&out));
    Ok(())
}
