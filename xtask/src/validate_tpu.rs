//! `cargo xtask validate tpu`: our estimates of TPUs beside those of the TPU's own compiler.
//!
//! Needs libtpu in the active Python environment, which its user installs; what it says is printed and kept nowhere. Both sides are
//! estimates: nothing here was measured. The compiler counts clock cycles of each fusion and leaves out copies that run beside
//! them, so a fusion is held against our time for the layer that its node belongs to.

use crate::{process, workspace};
use anychip_chips::{Catalog, Precision};
use anychip_predict::fit::{quantile, spearman};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;

/// Models in the format that TPUs multiply in.
const MODELS: &[&str] = &[
    "zoo:resnet50,dtype=bf16",
    "zoo:bert-base,sequence=128,dtype=bf16",
    "zoo:vit-b-16,dtype=bf16",
    "zoo:gpt2,phase=prefill,sequence=512,dtype=bf16",
];

/// Chips, and the multiply-accumulates a clock of all their matrix units: what the peak in the catalog is a multiple of.
const CHIPS: &[(&str, f64)] = &[
    ("google-tpu-v4", 2.0 * 4.0 * 128.0 * 128.0),
    ("google-tpu-v5e", 4.0 * 128.0 * 128.0),
    ("google-tpu-v6e", 2.0 * 256.0 * 256.0),
];

/// A layer as both see it, in seconds.
struct Pair {
    name: String,
    ours: f64,
    theirs: f64,
    is_product: bool,
}

pub(crate) fn run() -> Result<()> {
    let catalog = Catalog::builtin()?;
    for &(id, lanes) in CHIPS {
        let peak = catalog.find(id)?.compute().and_then(|c| c.peak(Precision::Bf16).cloned());
        let peak = peak.with_context(|| format!("{id} has no bf16 peak in the catalog"))?;
        let clock = peak.figure()?.value() / (2.0 * lanes);
        println!(
            "\n{id}, {:.2} GHz; both columns are estimates, the right one by the vendor's compiler",
            clock / 1e9
        );
        for model in MODELS {
            let pairs = compare(model, id, clock)?;
            show(model, &pairs);
        }
    }
    Ok(())
}

fn anychip(arguments: &[&str]) -> Result<String> {
    let mut command = process::cargo();
    command.args(["run", "--quiet", "--release", "--package", "anychip-cli", "--"]);
    process::printed(command.args(arguments).current_dir(workspace::root()))
}

fn compare(model: &str, chip: &str, clock: f64) -> Result<Vec<Pair>> {
    let name: String = model.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    let folder = workspace::path("target/validate-tpu").join(format!("{name}-{chip}"));
    let folder = folder.to_string_lossy().into_owned();
    let built = anychip(&["build", model, "--for", chip, "-o", &folder, "--relaxed", "--json"])?;
    let built: Value = serde_json::from_str(&built)?;
    // Weights are made again for each run; nobody reads these.
    let _ = std::fs::remove_file(std::path::Path::new(&folder).join("weights.npz"));
    let Some(instructions) = built["vendor"]["instructions"].as_array() else {
        bail!("libtpu is not in the active Python environment; `pip install libtpu` puts it there");
    };
    let mut theirs: BTreeMap<String, f64> = BTreeMap::new();
    for instruction in instructions {
        let node = node_of(instruction["node"].as_str().unwrap_or_default());
        let cycles = instruction["cycles"].as_f64().unwrap_or_default();
        *theirs.entry(node.to_string()).or_default() += cycles / clock;
    }
    let record = anychip(&["compare", model, "--chips", chip, "--estimate", "--json", "--layers"])?;
    let record: Value = serde_json::from_str(record.lines().next().unwrap_or_default())?;
    let layers = record["layers"].as_array().context("the estimate has no layers")?;
    let mut pairs: Vec<Pair> = Vec::new();
    for layer in layers {
        let name = layer["name"].as_str().unwrap_or_default().to_string();
        let ours = layer["seconds"].as_f64().unwrap_or_default();
        let kernel = layer["kernel"].as_str().unwrap_or_default();
        let is_product = kernel.contains("convolution") || kernel.contains("dot");
        match pairs.iter_mut().find(|pair| pair.name == name) {
            Some(pair) => pair.ours += ours,
            None => pairs.push(Pair {
                theirs: theirs.remove(&name).unwrap_or(0.0),
                name,
                ours,
                is_product,
            }),
        }
    }
    // What the compiler did where we see no layer of that name.
    let rest: f64 = theirs.values().sum();
    pairs.push(Pair { name: "(other)".to_string(), ours: 0.0, theirs: rest, is_product: false });
    Ok(pairs)
}

/// The model's node in what the compiler calls the origin of an instruction.
fn node_of(origin: &str) -> &str {
    origin.trim_end_matches('"').rsplit_once("main/").map_or(origin, |(_, node)| node)
}

fn show(model: &str, pairs: &[Pair]) {
    let total = |of: fn(&Pair) -> f64| pairs.iter().map(of).sum::<f64>();
    let (ours, theirs) = (total(|p| p.ours), total(|p| p.theirs));
    println!("  {model}");
    println!("    {:<44} {:>11} {:>11} {:>8}", "layer", "ours", "vendor's", "ratio");
    let mut largest: Vec<&Pair> = pairs.iter().collect();
    largest.sort_by(|a, b| b.theirs.total_cmp(&a.theirs));
    for pair in largest.iter().take(12) {
        println!(
            "    {:<44} {:>8.2} µs {:>8.2} µs {:>8}",
            pair.name.chars().take(44).collect::<String>(),
            1e6 * pair.ours,
            1e6 * pair.theirs,
            if pair.ours > 0.0 { format!("{:.2}", pair.ours / pair.theirs) } else { String::new() }
        );
    }
    println!(
        "    {:<44} {:>8.2} µs {:>8.2} µs {:>8.2}",
        "total",
        1e6 * ours,
        1e6 * theirs,
        ours / theirs
    );
    let products: Vec<&Pair> =
        pairs.iter().filter(|p| p.is_product && p.ours > 0.0 && p.theirs > 0.0).collect();
    if products.len() > 2 {
        let mut errors: Vec<f64> =
            products.iter().map(|p| 100.0 * (p.ours / p.theirs - 1.0).abs()).collect();
        let (a, b): (Vec<f64>, Vec<f64>) = products.iter().map(|p| (p.ours, p.theirs)).unzip();
        println!(
            "    {} products: median difference {:.0} %, rank correlation {:.3}",
            products.len(),
            quantile(&mut errors, 0.5),
            spearman(&a, &b)
        );
    }
}
