//! Reads the measured truth: gzip-compressed CSV files of a folder given on the command line.

use anychip_chips::{Body, Catalog, Precision};
use anychip_predict::{Class, Kernel, Rates};
use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Every row of one file.
pub(crate) fn rows<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Vec<T>> {
    let path = folder.join(format!("{name}.csv.gz"));
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    csv::Reader::from_reader(flate2::read::GzDecoder::new(file))
        .into_deserialize()
        .collect::<Result<_, _>>()
        .with_context(|| path.display().to_string())
}

/// What the catalog says a chip offers to a precision.
pub(crate) fn rates(catalog: &Catalog, chip: &str, precision: Precision) -> Result<Rates> {
    let chip = catalog.find(chip)?;
    let Body::Compute(compute) = &chip.body else { bail!("{} has no arithmetic units", chip.id) };
    let peak =
        compute.peak(precision).with_context(|| format!("{}: no {precision} peak", chip.id))?;
    let bandwidth = compute
        .main_memory()
        .and_then(|memory| memory.bytes_per_second.as_ref())
        .with_context(|| format!("{}: no bandwidth", chip.id))?;
    Ok(Rates { peak: peak.value, bandwidth: bandwidth.value })
}

/// One line of `timm_inference`.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct TimmRow {
    pub(crate) device: String,
    pub(crate) stack: String,
    pub(crate) dtype: String,
    pub(crate) layout: String,
    pub(crate) model: String,
    pub(crate) infer_samples_per_sec: Option<f64>,
    pub(crate) infer_batch_size: Option<f64>,
    pub(crate) infer_img_size: u32,
    pub(crate) param_count: f64,
    pub(crate) family: String,
}

/// One measured model with its kernels.
pub(crate) struct TimmRun {
    pub(crate) row: TimmRow,
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) log_seconds: f64,
    pub(crate) rates: Rates,
}

impl TimmRun {
    /// The stack of software: version, layout.
    pub(crate) fn stack(&self) -> String {
        format!("{} {}", self.row.stack, self.row.layout)
    }
}

/// The catalog's name of a device of `timm_inference`.
pub(crate) fn timm_chip(device: &str) -> Result<&'static str> {
    Ok(match device {
        "rtx3090" => "nvidia-rtx-3090",
        "rtx4090" => "nvidia-rtx-4090",
        "i7_12700h" => "intel-core-i7-12700h",
        "i9_10940x" => "intel-core-i9-10940x",
        _ => bail!("`timm_inference` has a device with no name in the catalog: {device}"),
    })
}

/// The kernels of one image: `tools/timm_layers.py` says what each number is.
struct Layers {
    parameters: f64,
    eager: Vec<Line>,
    compiled: Vec<Line>,
}

struct Line {
    class: Class,
    numbers: [f64; 14],
}

/// The runs of `timm_inference` whose operators are known, and how many rows were left aside.
pub(crate) fn timm(
    truth: &Path,
    layers: &Path,
    catalog: &Catalog,
) -> Result<(Vec<TimmRun>, usize)> {
    let layers = read_layers(layers)?;
    let rows: Vec<TimmRow> = rows(truth, "timm_inference")?;
    let mut runs = Vec::with_capacity(rows.len());
    let mut lost = 0;
    for row in rows {
        // A model that failed on the device has a line without a rate.
        let (Some(rate), Some(batch)) = (row.infer_samples_per_sec, row.infer_batch_size) else {
            lost += 1;
            continue;
        };
        let known = layers.get(&(row.model.clone(), row.infer_img_size));
        let same =
            known.filter(|l| (l.parameters / 1e6 / row.param_count.max(0.01)).ln().abs() < 0.03);
        let Some(layers) = same.filter(|_| rate > 0.0 && rate.is_finite()) else {
            lost += 1;
            continue;
        };
        let mixed = row.dtype == "amp";
        let lines = if row.stack.contains("compile") { &layers.compiled } else { &layers.eager };
        let kernels = lines.iter().filter_map(|line| kernel(line, batch, mixed)).collect();
        let precision = if mixed { Precision::F16 } else { Precision::F32 };
        let rates = rates(catalog, timm_chip(&row.device)?, precision)?;
        let log_seconds = (batch / rate).ln();
        runs.push(TimmRun { row, kernels, log_seconds, rates });
    }
    Ok((runs, lost))
}

/// One line at a batch, in mixed precision or in f32; casts exist in mixed precision only.
fn kernel(line: &Line, batch: f64, mixed: bool) -> Option<Kernel> {
    let [
        count,
        macs,
        reads,
        writes,
        weights,
        fixed,
        mixed_reads,
        mixed_writes,
        m,
        n,
        k,
        groups,
        area,
        _stride,
    ] = line.numbers;
    if line.class == Class::Cast && !mixed {
        return None;
    }
    let batch = if fixed == 1.0 { 1.0 } else { batch };
    let bytes = if mixed { mixed_reads + mixed_writes } else { 4.0 * (reads + writes) };
    let weight_size = if mixed && line.class.is_product() { 2.0 } else { 4.0 };
    let side_by_side = matches!(line.class, Class::Matmul | Class::Attention);
    Some(Kernel {
        class: line.class,
        count,
        macs: macs * batch,
        bytes: bytes * batch,
        weight_bytes: weights * weight_size,
        rows: if side_by_side { m } else { m * batch },
        columns: n,
        depth: k,
        groups: if side_by_side { groups * batch } else { groups },
        area: area.max(1.0),
    })
}

fn read_layers(path: &Path) -> Result<BTreeMap<(String, u32), Layers>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut models = BTreeMap::new();
    let mut current: Option<((String, u32), Layers)> = None;
    for (number, line) in BufReader::new(flate2::read::GzDecoder::new(file)).lines().enumerate() {
        let line = line?;
        let fault = || format!("{}:{}: `{line}`", path.display(), number + 1);
        let mut fields = line.split(',');
        match fields.next() {
            Some("M") => {
                models.extend(current.take());
                let (Some(name), Some(size), Some(parameters)) =
                    (fields.next(), fields.next(), fields.next())
                else {
                    bail!(fault());
                };
                let key = (name.to_string(), size.parse().with_context(fault)?);
                let parameters = parameters.parse().with_context(fault)?;
                current =
                    Some((key, Layers { parameters, eager: Vec::new(), compiled: Vec::new() }));
            }
            Some(kind @ ("E" | "C")) => {
                let class = fields.next().and_then(Class::from_word).with_context(fault)?;
                let mut numbers = [0.0; 14];
                for number in &mut numbers {
                    *number = fields.next().with_context(fault)?.parse().with_context(fault)?;
                }
                let layers = &mut current.as_mut().with_context(fault)?.1;
                let lines = if kind == "E" { &mut layers.eager } else { &mut layers.compiled };
                lines.push(Line { class, numbers });
            }
            Some(comment) if comment.starts_with('#') => {}
            _ => bail!(fault()),
        }
    }
    models.extend(current);
    Ok(models)
}
