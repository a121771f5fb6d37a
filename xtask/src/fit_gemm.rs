//! The truth of single matrix products, and the fit of [`Products`] to it.

use crate::fit_truth;
use anychip_chips::{Body, Catalog, Precision};
use anychip_predict::fit::quantile;
use anychip_predict::{Engine, Growth, Product, Products, Trees};
use anyhow::{Context, Result, bail};
use std::path::Path;

/// One measured product.
pub(crate) struct GemmRun {
    pub(crate) device: String,
    pub(crate) dtype: String,
    pub(crate) product: Product,
    pub(crate) engine: Engine,
    pub(crate) log_seconds: f64,
}

#[derive(serde::Deserialize)]
struct Row {
    device: String,
    stack: String,
    gemm_dtype: String,
    m: f64,
    n: f64,
    k: f64,
    latency: f64,
}

/// Number formats, those with kernels of one sort side by side.
const FORMATS: [&str; 6] = ["int4_wo", "int8_wo", "bfloat16", "fp8", "fp8_block", "sq"];

const GROWTH: Growth =
    Growth { trees: 200, leaves: 31, least_rows: 30.0, rate: 0.1, shrink: 5.0, clip: 0.5 };

/// Every usable row of `llm_kernels_gemm`, and the list that [`Product::software`] counts.
pub(crate) fn read(truth: &Path, catalog: &Catalog) -> Result<(Vec<GemmRun>, Vec<String>)> {
    let rows: Vec<Row> = fit_truth::rows(truth, "llm_kernels_gemm")?;
    // Sorted, so that a version that one device only has stands beside its neighbors.
    let mut software: Vec<String> = rows.iter().map(|row| row.stack.clone()).collect();
    software.sort_unstable();
    software.dedup();
    let mut runs = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.m < 1.0 || row.latency <= 0.0 {
            continue;
        }
        let place = software.binary_search(&row.stack).expect("made from these rows");
        let Some(format) = FORMATS.iter().position(|f| *f == row.gemm_dtype) else {
            bail!("a product format with no meaning here: {}", row.gemm_dtype);
        };
        let (activation_bytes, weight_bytes, precision) = match row.gemm_dtype.as_str() {
            "bfloat16" => (2.0, 2.0, Precision::Bf16),
            "fp8" | "fp8_block" => (1.0, 1.0, Precision::Fp8),
            "int8_wo" => (2.0, 1.0, Precision::Bf16),
            "int4_wo" => (2.0, 0.5, Precision::Bf16),
            // `sq`: weights and activations of 8-bit integers.
            _ => (1.0, 1.0, Precision::Int8),
        };
        runs.push(GemmRun {
            device: row.device.clone(),
            dtype: row.gemm_dtype.clone(),
            product: Product {
                m: row.m,
                n: row.n,
                k: row.k,
                activation_bytes,
                weight_bytes,
                format,
                software: place,
            },
            engine: engine(catalog, &row.device, precision)?,
            log_seconds: (row.latency * 1e-3).ln(),
        });
    }
    Ok((runs, software))
}

fn engine(catalog: &Catalog, device: &str, precision: Precision) -> Result<Engine> {
    let id = match device {
        "a100_sxm" => "nvidia-a100-sxm4-80gb",
        "h100_sxm" => "nvidia-h100-sxm5-80gb",
        "h200_sxm" => "nvidia-h200-sxm-141gb",
        other => bail!("`llm_kernels_gemm` has a device with no name in the catalog: {other}"),
    };
    let rates = fit_truth::rates(catalog, id, precision)?;
    let chip = catalog.find(id)?;
    let Body::Compute(compute) = &chip.body else { bail!("{id} has no arithmetic units") };
    let missing = |what: &str| format!("{id}: no {what} in the catalog");
    let cache = compute.memory.iter().rev().find(|m| !m.off_chip && !m.per_unit);
    Ok(Engine {
        peak: rates.peak,
        bandwidth: rates.bandwidth,
        cache: cache.and_then(|m| m.bytes.as_ref()).with_context(|| missing("cache"))?.value,
        units: compute.units.as_ref().with_context(|| missing("number of units"))?.value,
        clock: compute.clock_hz.as_ref().with_context(|| missing("clock"))?.value,
    })
}

/// The residual of all runs, with quantiles from each device predicted from the others: what is asked later is a chip
/// that was not fitted on.
pub(crate) fn fit_products(runs: &[&GemmRun], software: &[String]) -> Products {
    let mut devices: Vec<&str> = runs.iter().map(|r| r.device.as_str()).collect();
    devices.sort_unstable();
    devices.dedup();
    let all: Vec<usize> = (0..runs.len()).collect();
    let mut errors = Vec::new();
    for device in &devices {
        let (held, inside): (Vec<usize>, Vec<usize>) =
            all.iter().partition(|&&i| runs[i].device == **device);
        if inside.is_empty() {
            continue;
        }
        let partial = trees(runs, &inside);
        errors.extend(held.iter().map(|&i| {
            let (roofline, row) = runs[i].product.features(&runs[i].engine);
            runs[i].log_seconds - roofline - partial.predict(&row)
        }));
    }
    let quantiles = [quantile(&mut errors, 0.1), quantile(&mut errors, 0.9)];
    Products {
        formats: FORMATS.map(String::from).to_vec(),
        software: software.to_vec(),
        residual: trees(runs, &all),
        quantiles,
    }
}

fn trees(runs: &[&GemmRun], chosen: &[usize]) -> Trees {
    let mut rows = Vec::with_capacity(chosen.len());
    let mut left = Vec::with_capacity(chosen.len());
    for &i in chosen {
        let (roofline, row) = runs[i].product.features(&runs[i].engine);
        rows.push(row);
        left.push(runs[i].log_seconds - roofline);
    }
    Trees::fit(&rows, &left, &vec![1.0; left.len()], &GROWTH)
}
