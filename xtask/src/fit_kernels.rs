//! The truth of single kernels in the software of language models, and the fit of [`ServingTables`] to it.

use crate::{fit_truth, workspace};
use anychip_chips::{Catalog, Precision};
use anychip_predict::fit::{MeasuredKernel, fit_kernel_table};
use anychip_predict::serving::{AttentionCall, Engine, Product, ServingTables};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(serde::Deserialize)]
struct ProductRow {
    device: String,
    stack: String,
    gemm_dtype: String,
    m: f64,
    n: f64,
    k: f64,
    latency: f64,
}

/// Every usable row of `llm_kernels_gemm`.
pub(crate) fn products(truth: &Path, catalog: &Catalog) -> Result<Vec<MeasuredKernel>> {
    let rows: Vec<ProductRow> = fit_truth::rows(truth, "llm_kernels_gemm")?;
    let mut kernels = Vec::with_capacity(rows.len());
    for row in rows {
        // A product of no rows is a kernel that was not launched.
        if row.m < 1.0 || row.latency <= 0.0 {
            continue;
        }
        let (activation_bytes, weight_bytes, precision) = match row.gemm_dtype.as_str() {
            "bfloat16" => (2.0, 2.0, Precision::Bf16),
            "fp8" | "fp8_block" => (1.0, 1.0, Precision::Fp8),
            "int8_wo" => (2.0, 1.0, Precision::Bf16),
            "int4_wo" => (2.0, 0.5, Precision::Bf16),
            // Weights and activations of 8-bit integers (arXiv:2211.10438).
            "sq" => (1.0, 1.0, Precision::Int8),
            other => bail!("a product format with no meaning here: {other}"),
        };
        let device = device(&row.device)?;
        let product = Product { m: row.m, n: row.n, k: row.k, activation_bytes, weight_bytes };
        kernels.push(MeasuredKernel {
            device: device.to_string(),
            software: row.stack,
            format: row.gemm_dtype,
            sized: product.features(&engine(catalog, device, precision)?),
            log_seconds: (row.latency * 1e-3).ln(),
        });
    }
    Ok(kernels)
}

#[derive(serde::Deserialize)]
struct AttentionRow {
    device: String,
    stack: String,
    table: String,
    kernel_source: String,
    batch_size: f64,
    isl: f64,
    num_heads: f64,
    num_key_value_heads: f64,
    head_dim: f64,
    attn_dtype: String,
    kv_cache_dtype: String,
    step: f64,
    latency: f64,
    window_size: Option<f64>,
}

/// The rows of `llm_kernels_attention`: prompts, and one more position.
pub(crate) struct Attentions {
    pub(crate) prefill: Vec<MeasuredKernel>,
    pub(crate) decode: Vec<MeasuredKernel>,
    /// What is not used, and why.
    pub(crate) aside: Vec<String>,
}

/// Every usable row of `llm_kernels_attention`.
pub(crate) fn attentions(truth: &Path, catalog: &Catalog) -> Result<Attentions> {
    let rows: Vec<AttentionRow> = fit_truth::rows(truth, "llm_kernels_attention")?;
    let mut found = Attentions { prefill: Vec::new(), decode: Vec::new(), aside: Vec::new() };
    let mut impossible = BTreeMap::new();
    for row in rows {
        let prefill = match row.table.as_str() {
            "context_attention" => true,
            "generation_attention" => false,
            other => bail!("a table of attention with no meaning here: {other}"),
        };
        if row.latency <= 0.0 {
            continue;
        }
        let bytes = |word: &str| match word {
            "bfloat16" => Ok(2.0),
            "fp8" => Ok(1.0),
            other => bail!("a format of attention with no meaning here: {other}"),
        };
        bytes(&row.attn_dtype)?;
        let call = AttentionCall {
            batch: row.batch_size,
            queries: if prefill { row.isl } else { 1.0 },
            keys: row.isl + row.step,
            heads: row.num_heads,
            key_heads: row.num_key_value_heads,
            depth: row.head_dim,
            window: row.window_size.filter(|w| *w > 0.0).unwrap_or(f64::INFINITY),
            cache_bytes: bytes(&row.kv_cache_dtype)?,
        };
        let precision = if row.attn_dtype == "fp8" { Precision::Fp8 } else { Precision::Bf16 };
        let device = device(&row.device)?;
        let engine = engine(catalog, device, precision)?;
        let beats_peak = 2.0 * call.macs() / engine.peak > row.latency * 1e-3;
        let count: &mut (usize, usize) =
            impossible.entry((device, row.stack.clone(), prefill)).or_default();
        count.0 += usize::from(beats_peak);
        count.1 += 1;
        let rare = matches!(row.kernel_source.as_str(), "triton" | "vllm_flash_attn_fa4");
        let software =
            if rare { format!("{} {}", row.stack, row.kernel_source) } else { row.stack };
        let kernel = MeasuredKernel {
            device: device.to_string(),
            software,
            format: format!("{}/{}", row.attn_dtype, row.kv_cache_dtype),
            sized: call.features(&engine),
            log_seconds: (row.latency * 1e-3).ln(),
        };
        if prefill { found.prefill.push(kernel) } else { found.decode.push(kernel) }
    }
    // Rows that were measured together are wrong together.
    for ((device, software, prefill), (beat, all)) in impossible {
        if (beat as f64) < MOST_IMPOSSIBLE * all as f64 {
            continue;
        }
        let kernels = if prefill { &mut found.prefill } else { &mut found.decode };
        kernels.retain(|k| k.device != device || k.software.split(' ').next() != Some(&software));
        let sort = if prefill { "prompts" } else { "steps" };
        found.aside.push(format!(
            "{all} {sort} of {software} on {device}: {beat} of them are faster than the chip's peak"
        ));
    }
    Ok(found)
}

/// The share of rows faster than the chip's peak from which on all that was measured with them is left aside.
const MOST_IMPOSSIBLE: f64 = 0.05;

/// The catalog's name of a device of the kernel tables.
fn device(word: &str) -> Result<&'static str> {
    Ok(match word {
        "a100_sxm" => "nvidia-a100-sxm4-80gb",
        "h100_sxm" => "nvidia-h100-sxm5-80gb",
        "h200_sxm" => "nvidia-h200-sxm-141gb",
        other => bail!("the kernel tables have a device with no name in the catalog: {other}"),
    })
}

fn engine(catalog: &Catalog, id: &str, precision: Precision) -> Result<Engine> {
    Engine::of(catalog.find(id)?, precision)
        .with_context(|| format!("{id}: the catalog lacks a figure that kernels need"))
}

/// Counts up when the form of the tables or the data behind them change.
const VERSION: u32 = 1;

/// Refits and writes `crates/predict/data/serving.json`.
pub(crate) fn write(truth: &Path, catalog: &Catalog) -> Result<()> {
    let products = products(truth, catalog)?;
    let attentions = attentions(truth, catalog)?;
    println!(
        "llm_kernels: {} products, {} prompts, {} steps",
        products.len(),
        attentions.prefill.len(),
        attentions.decode.len(),
    );
    for aside in &attentions.aside {
        println!("  left aside: {aside}");
    }
    let sorts = [&products, &attentions.prefill, &attentions.decode];
    let mut fitted = crate::validate_timm::both(&sorts, |kernels| {
        let kernels: Vec<&MeasuredKernel> = kernels.iter().collect();
        fit_kernel_table(&kernels)
    })
    .into_iter();
    let mut next = || fitted.next().expect("as many as were asked for");
    let tables = ServingTables {
        version: VERSION,
        provenance:
            "fitted by `cargo xtask fit` on kernel times of ai-dynamo/aiconfigurator (Apache-2.0)"
                .to_string(),
        products: next(),
        prefill: next(),
        decode: next(),
    };
    for (name, table) in
        [("products", &tables.products), ("prefill", &tables.prefill), ("decode", &tables.decode)]
    {
        let percent = |band: [f64; 2]| band.map(|v| 100.0 * v.exp_m1());
        let (known, unknown) = (percent(table.known), percent(table.unknown));
        println!(
            "  {name}: {:+.0} % to {:+.0} % on sizes left out, {:+.0} % to {:+.0} % on devices left out",
            known[0], known[1], unknown[0], unknown[1]
        );
    }
    let path = workspace::root().join("crates/predict/data/serving.json");
    let mut text = serde_json::to_string(&tables)?.replace("},{\"software\"", "},\n{\"software\"");
    text.push('\n');
    std::fs::write(&path, text)?;
    println!("wrote {}", workspace::relative(&path));
    Ok(())
}
