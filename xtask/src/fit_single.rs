//! The truth of single kernels in 32-bit floats and of whole transformers made of them, and the fit of [`SingleTable`].

use crate::single_models::{Model, models};
use crate::validate::Case;
use crate::{fit_truth, workspace};
use anychip_chips::{Catalog, Precision};
use anychip_predict::fit::{MeasuredKernel, errors_by, fit_kernels, quantile};
use anychip_predict::serving::{Engine, KernelTable};
use anychip_predict::single::{SingleTable, each_kernel, platform, single_kernel};
use anychip_predict::{Class, Kernel};
use anyhow::{Context, Result, bail};
use std::path::Path;

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "op")]
    op: String,
    #[serde(rename = "latency_ms")]
    latency_ms: f64,
    #[serde(rename = "device")]
    device: String,
    b: Option<f64>,
    m: Option<f64>,
    n: Option<f64>,
    k: Option<f64>,
    h: Option<f64>,
    #[serde(rename = "Input_Channel")]
    input_channel: Option<f64>,
    #[serde(rename = "Output_Channel")]
    output_channel: Option<f64>,
    #[serde(rename = "kernel")]
    kernel: Option<f64>,
    #[serde(rename = "Input_Size")]
    input_size: Option<f64>,
    stride: Option<f64>,
    padding: Option<f64>,
}

/// Of products every second row is fitted on, of the others, which are many and simple, every twelfth.
const EVERY_PRODUCT: usize = 2;
/// See [`EVERY_PRODUCT`].
const EVERY_OTHER: usize = 12;

/// The rows of `gpu_kernels_fp32` that are fitted on.
pub(crate) fn kernels(truth: &Path, catalog: &Catalog) -> Result<Vec<MeasuredKernel>> {
    let rows: Vec<Row> = fit_truth::rows(truth, "gpu_kernels_fp32")?;
    let mut found = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let kernel = kernel(row).with_context(|| format!("gpu_kernels_fp32, row {}", i + 1))?;
        let every = if kernel.class.is_product() { EVERY_PRODUCT } else { EVERY_OTHER };
        if i % every != 0 || row.latency_ms <= 0.0 {
            continue;
        }
        let chip = catalog.find(device(&row.device)?)?;
        let engine = Engine::of(chip, Precision::F32).with_context(|| {
            format!("{}: the catalog lacks a figure that kernels need", chip.id)
        })?;
        let platform = platform(chip).with_context(|| format!("{}: no platform", chip.id))?;
        found.push(MeasuredKernel {
            device: chip.id.clone(),
            software: platform.to_string(),
            format: kernel.class.word().to_string(),
            sized: single_kernel(&kernel, &engine),
            log_seconds: (row.latency_ms * 1e-3).ln(),
        });
    }
    Ok(found)
}

/// A row as a kernel.
fn kernel(row: &Row) -> Result<Kernel> {
    let given = |value: Option<f64>| value.context("a size is missing");
    let one = row.b.unwrap_or(1.0);
    let product = |class, groups: f64, rows: f64, columns: f64, depth: f64| Kernel {
        macs: groups * rows * columns * depth,
        bytes: 4.0 * groups * (rows * depth + columns * depth + rows * columns),
        rows,
        columns,
        depth,
        groups,
        ..Kernel::moving(class, 0.0)
    };
    let moving = |class, passes: f64| -> Result<Kernel> {
        Ok(Kernel::moving(class, 4.0 * passes * one * given(row.h)?))
    };
    Ok(match row.op.as_str() {
        "linear" => product(Class::Linear, 1.0, one * given(row.m)?, given(row.n)?, given(row.k)?),
        "bmm" => product(Class::Matmul, one, given(row.m)?, given(row.n)?, given(row.k)?),
        "conv" => {
            let (input, output) = (given(row.input_channel)?, given(row.output_channel)?);
            let (side, taps) = (given(row.input_size)?, given(row.kernel)?);
            let (stride, padding) = (given(row.stride)?, given(row.padding)?);
            let to = ((side + 2.0 * padding - taps) / stride).floor() + 1.0;
            let (rows, depth) = (one * to * to, input * taps * taps);
            Kernel {
                bytes: 4.0 * (one * input * side * side + rows * output),
                weight_bytes: 4.0 * output * depth,
                area: taps * taps,
                ..product(Class::Convolution, 1.0, rows, output, depth)
            }
        }
        // Two operands and a result; with a `u`, the other operand is a number.
        "add" | "mul" | "div" => moving(Class::Elementwise, 3.0)?,
        "addu" | "mulu" | "divu" | "relu" => moving(Class::Elementwise, 2.0)?,
        "pow" => moving(Class::Transcendental, 3.0)?,
        "powu" | "tanh" | "gelu" => moving(Class::Transcendental, 2.0)?,
        "softmax" => moving(Class::Softmax, 2.0)?,
        "ln" => moving(Class::Norm, 2.0)?,
        other => bail!("an operator with no meaning here: {other}"),
    })
}

/// The catalog's name of a device of these files, which write blanks as blanks or as underscores.
pub(crate) fn device(word: &str) -> Result<&'static str> {
    Ok(match word.replace('_', " ").as_str() {
        "Tesla P4" => "nvidia-p4",
        "Tesla P100-PCIE-16GB" => "nvidia-p100-pcie-16gb",
        "Tesla V100-PCIE-32GB" => "nvidia-v100-pcie-32gb",
        "Tesla T4" => "nvidia-t4",
        "NVIDIA A100-PCIE-40GB" => "nvidia-a100-pcie-40gb",
        "NVIDIA A100 80GB PCIe" => "nvidia-a100-pcie-80gb",
        "NVIDIA A100-SXM4-40GB" => "nvidia-a100-sxm4-40gb",
        "AMD Instinct MI100" => "amd-mi100",
        "AMD Instinct MI210" => "amd-mi210",
        other => bail!("the kernels in f32 have a device with no name in the catalog: {other}"),
    })
}

/// What is left out together: cards of one chip know too much of each other.
pub(crate) fn silicon(device: &str) -> &str {
    if device.starts_with("nvidia-a100") { "nvidia-a100" } else { device }
}

/// A measured model as its sum of kernels has it.
pub(crate) fn model_case(model: &Model, table: &KernelTable, catalog: &Catalog) -> Result<Case> {
    let chip = catalog.find(&model.device)?;
    let seconds: f64 = each_kernel(table, &model.kernels, chip)
        .with_context(|| {
            format!("{}: not described, or a kernel that was never measured", chip.id)
        })?
        .iter()
        .sum();
    Ok(Case {
        name: format!("{} on {}", model.name, model.device),
        group: format!("{} on {}", model.architecture, model.device),
        truth: model.log_seconds,
        predicted: seconds.ln(),
        interval: None,
    })
}

/// What is known of one device from all others.
pub(crate) struct LeftOut {
    /// See [`silicon`].
    pub(crate) device: String,
    /// Its kernels, and the whole models measured on it.
    pub(crate) kernels: Vec<Case>,
    pub(crate) models: Vec<Case>,
}

/// Each device with a fit on the others; what is fitted never saw a whole model.
pub(crate) fn left_out(
    kernels: &[MeasuredKernel],
    models: &[Model],
    catalog: &Catalog,
) -> Result<Vec<LeftOut>> {
    let mut devices: Vec<&str> = kernels.iter().map(|k| silicon(&k.device)).collect();
    devices.sort_unstable();
    devices.dedup();
    let found = crate::validate_timm::both(&devices, |device| -> Result<LeftOut> {
        let (outside, inside): (Vec<&MeasuredKernel>, Vec<&MeasuredKernel>) =
            kernels.iter().partition(|k| silicon(&k.device) == *device);
        let table = fit_kernels(&inside);
        let cases = outside.iter().map(|k| Case {
            name: format!("{} {}", k.device, k.format),
            group: k.format.clone(),
            truth: k.log_seconds,
            predicted: table.log_seconds(&k.software, &k.format, &k.sized),
            interval: None,
        });
        let here = models.iter().filter(|m| silicon(&m.device) == *device);
        Ok(LeftOut {
            device: (*device).to_string(),
            kernels: cases.collect(),
            models: here.map(|m| model_case(m, &table, catalog)).collect::<Result<_>>()?,
        })
    });
    found.into_iter().collect()
}

/// The quantiles 0.1 and 0.9 of how far truths lie beyond predictions, in logarithms.
pub(crate) fn band<'a>(cases: impl Iterator<Item = &'a Case>) -> [f64; 2] {
    let mut errors: Vec<f64> = cases.map(|case| case.truth - case.predicted).collect();
    [quantile(&mut errors, 0.1), quantile(&mut errors, 0.9)]
}

/// Counts up when the form of the table or the data behind it change.
const VERSION: u32 = 1;

/// Refits and writes `crates/predict/data/single.json`.
pub(crate) fn write(truth: &Path, catalog: &Catalog) -> Result<()> {
    let kernels = kernels(truth, catalog)?;
    let models = models(truth)?;
    println!(
        "gpu_kernels_fp32: {} kernels fitted on; {} whole models",
        kernels.len(),
        models.len()
    );
    let all: Vec<&MeasuredKernel> = kernels.iter().collect();
    let mut table = fit_kernels(&all);
    let mut halves = errors_by(&all, |i, _| i % 2);
    table.known = [quantile(&mut halves, 0.1), quantile(&mut halves, 0.9)];
    let left = left_out(&kernels, &models, catalog)?;
    table.unknown = band(left.iter().flat_map(|device| &device.kernels));
    let here: Vec<Case> =
        models.iter().map(|m| model_case(m, &table, catalog)).collect::<Result<_>>()?;
    let table = SingleTable {
        version: VERSION,
        provenance: "fitted by `cargo xtask fit` on kernel times of sitar-lab/NeuSight".to_string(),
        models: models.len(),
        known: band(here.iter()),
        unknown: band(left.iter().flat_map(|device| &device.models)),
        kernels: table,
    };
    let percent = |band: [f64; 2]| band.map(|v| 100.0 * v.exp_m1());
    for (what, band) in [
        ("kernels, sizes left out", table.kernels.known),
        ("kernels, devices left out", table.kernels.unknown),
        ("whole models, devices known", table.known),
        ("whole models, devices left out", table.unknown),
    ] {
        let [low, high] = percent(band);
        println!("  {what}: {low:+.0} % to {high:+.0} %");
    }
    let path = workspace::root().join("crates/predict/data/single.json");
    let mut text = serde_json::to_string(&table)?.replace("},{\"software\"", "},\n{\"software\"");
    text.push('\n');
    std::fs::write(&path, text)?;
    println!("wrote {}", workspace::relative(&path));
    Ok(())
}
