//! `cargo xtask validate tpu`: the simulator and the predictor beside the TPU's own compiler.
//!
//! Needs libtpu in the active Python environment, which its user installs; what it says is printed and kept nowhere but in `target/`.
//! All sides are estimates: nothing here was measured. The compiler counts clock cycles of each fusion and leaves out the copies
//! that it begins beforehand, so a fusion is held against our cycles for the products that are in it, with what it reads from main
//! memory and writes there itself. Our errors in percent go to a file.

use crate::{process, python, workspace};
use anychip_chips::{Catalog, Precision};
use anychip_predict::fit::{quantile, spearman};
use anychip_systolic::Machine;
use anychip_systolic::mapper::{Objective, map};
use anychip_systolic::tiling::{Operand, Product};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// Models in the format that TPUs multiply in, and how many inputs at once.
const MODELS: &[(&str, u64)] = &[
    ("zoo:resnet50,dtype=bf16", 1),
    ("zoo:bert-base,sequence=128,dtype=bf16", 1),
    ("zoo:vit-b-16,dtype=bf16", 1),
    ("zoo:gpt2,phase=prefill,sequence=512,dtype=bf16", 1),
    // One block of GPT-2 with products of the sizes that large models have.
    ("tools/gpt2-block/config.json,phase=prefill,sequence=2048,dtype=bf16", 1),
];

/// Where `tools/tpu_products.py` writes products that stand alone.
const PRODUCTS: &str = "target/validate-tpu/products";

/// Chips, and the cores that the compiler counts the cycles of together: of a v4's two it never counts more products a cycle than
/// one has cells.
const CHIPS: &[(&str, u64)] = &[("google-tpu-v4", 2), ("google-tpu-v5e", 1), ("google-tpu-v6e", 1)];

/// Sizes from which a product is held to the target.
const LARGE: u64 = 512;

/// Where our errors go where nobody says it.
const OUT: &str = "measurements/validate-tpu.json";

/// What the compiler wrote of a program.
#[derive(Deserialize)]
struct Summary {
    instructions: Vec<Instruction>,
}

#[derive(Deserialize)]
struct Instruction {
    name: String,
    node: String,
    cycles: u64,
    products: Vec<Sizes>,
    read_bytes: u64,
    written_bytes: u64,
}

#[derive(Deserialize, Clone, Copy)]
struct Sizes {
    groups: u64,
    rows: u64,
    columns: u64,
    depth: u64,
    bits: u64,
}

/// A fusion with products as both see it, in cycles of the same clock.
struct Pair {
    what: String,
    ours: f64,
    theirs: f64,
    large: bool,
}

/// How far we are off, as it is kept.
#[derive(Serialize)]
struct Errors {
    chip: String,
    model: String,
    batch: u64,
    products: usize,
    median_percent: f64,
    rank_correlation: f64,
    /// The simulated time of the whole model over the compiler's estimate of it.
    simulated_over_vendor: f64,
    predicted_over_vendor: f64,
}

/// The same over all models of a chip.
#[derive(Serialize)]
struct ChipErrors {
    chip: String,
    /// Different fusions of products, each once.
    fusions: Figures,
    /// Those whose products have no size below 512.
    large: Figures,
    /// Products of such sizes that are a program of their own: nothing is fused with them.
    alone: Figures,
}

#[derive(Serialize)]
struct Figures {
    count: usize,
    median_percent: f64,
    median_ratio: f64,
    rank_correlation: f64,
}

/// Compare and print; `binary` is an anychip that is there already.
pub(crate) fn run(out: Option<&Path>, binary: Option<&Path>) -> Result<()> {
    let out = out.map_or_else(|| workspace::path(OUT), Path::to_path_buf);
    let catalog = Catalog::builtin()?;
    let (mut models, mut chips) = (Vec::new(), Vec::new());
    let products = products()?;
    for &(id, cores) in CHIPS {
        let machine = one_core(Machine::of(catalog.find(id)?)?, cores);
        println!(
            "\n{id}, {} × {} × {} cells at {:.2} GHz; all columns are estimates, one by the vendor's compiler",
            machine.arrays,
            machine.rows,
            machine.columns,
            machine.clock_hz * 1e-9
        );
        let mut all: Vec<Pair> = Vec::new();
        for &(model, batch) in MODELS {
            let summary = compiled(model, batch, id, binary)?;
            let pairs = pairs(&summary, &machine)?;
            let vendor: u64 = summary.instructions.iter().map(|i| i.cycles).sum();
            let vendor = vendor as f64 / machine.clock_hz;
            let simulated = latency(model, batch, id, &[], binary)?;
            let predicted = latency(model, batch, id, &["--estimate"], binary)?;
            show(model, batch, &pairs);
            let scale = cores as f64;
            println!(
                "    whole model: simulated {:.0} µs, predicted {:.0} µs, vendor's fusions {:.0} µs on {}",
                1e6 * simulated,
                1e6 * predicted,
                1e6 * vendor,
                if cores > 1 { "one core" } else { "the chip" }
            );
            let figures = figures(&pairs);
            models.push(Errors {
                chip: id.to_string(),
                model: model.to_string(),
                batch,
                products: figures.count,
                median_percent: figures.median_percent,
                rank_correlation: figures.rank_correlation,
                simulated_over_vendor: simulated * scale / vendor,
                predicted_over_vendor: predicted * scale / vendor,
            });
            for pair in pairs {
                if !all.iter().any(|known| known.what == pair.what) {
                    all.push(pair);
                }
            }
        }
        let fusions = figures(&all);
        all.retain(|pair| pair.large);
        let large = figures(&all);
        let mut alone = Vec::new();
        for product in &products {
            alone.extend(pairs(&compiled(product, 1, id, binary)?, &machine)?);
        }
        show("products alone", 1, &alone);
        let alone = figures(&alone);
        println!("  {id}, different fusions with products");
        for (name, f) in [("all", &fusions), ("sizes from 512", &large), ("alone", &alone)] {
            println!(
                "    {name:<16} {:>4}: median difference {:.1} %, median ratio {:.2}, rank correlation {:.3}",
                f.count, f.median_percent, f.median_ratio, f.rank_correlation
            );
        }
        chips.push(ChipErrors { chip: id.to_string(), fusions, large, alone });
    }
    let record = serde_json::json!({
        "what": "the simulator beside the estimates of the TPU's own compiler (libtpu), our differences alone",
        "chips": chips,
        "models": models,
    });
    std::fs::write(&out, serde_json::to_string_pretty(&record)? + "\n")?;
    Ok(())
}

/// The products that stand alone, as models.
fn products() -> Result<Vec<String>> {
    let folder = workspace::path(PRODUCTS);
    process::run(python::script(&python::zoo()?, "tools/tpu_products.py").arg(&folder))?;
    let mut files: Vec<String> = std::fs::read_dir(&folder)?
        .map(|entry| Ok(workspace::relative(&entry?.path())))
        .collect::<Result<_>>()?;
    files.sort();
    Ok(files)
}

/// A machine of one core where the compiler counts the cycles of one.
fn one_core(mut machine: Machine, cores: u64) -> Machine {
    machine.arrays /= cores;
    machine.vector_lanes /= cores;
    if let Some(memory) = &mut machine.memory {
        memory.bytes /= cores;
    }
    machine
}

fn anychip(arguments: &[&str], binary: Option<&Path>) -> Result<String> {
    let mut command = if let Some(binary) = binary {
        process::command(binary)
    } else {
        let mut command = process::cargo();
        command.args(["run", "--quiet", "--release", "--package", "anychip-cli", "--"]);
        command
    };
    process::printed(command.args(arguments).current_dir(workspace::root()))
}

/// What the compiler made of a model, from an earlier run where there is one: a compilation takes a minute.
fn compiled(model: &str, batch: u64, chip: &str, binary: Option<&Path>) -> Result<Summary> {
    let name: String = model.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    let folder = workspace::path("target/validate-tpu").join(format!("{name}-{batch}-{chip}"));
    let summary = folder.join("tpu-compiler.json");
    if let Some(found) = read(&summary) {
        return Ok(found);
    }
    let output = folder.to_string_lossy().into_owned();
    let batch = batch.to_string();
    let asked =
        ["build", model, "--for", chip, "-o", &output, "--relaxed", "--json", "--batch", &batch];
    anychip(&asked, binary)?;
    // Weights are made again for each run; nobody reads these.
    let _ = std::fs::remove_file(folder.join("weights.npz"));
    match read(&summary) {
        Some(found) => Ok(found),
        None => bail!(
            "libtpu is not in the active Python environment; `pip install libtpu` puts it there"
        ),
    }
}

fn read(summary: &Path) -> Option<Summary> {
    serde_json::from_str(&std::fs::read_to_string(summary).ok()?).ok()
}

/// Seconds of one run as `compare` says it.
fn latency(
    model: &str,
    batch: u64,
    chip: &str,
    more: &[&str],
    binary: Option<&Path>,
) -> Result<f64> {
    let batch = batch.to_string();
    let mut arguments = vec!["compare", model, "--chips", chip, "--json", "--batch", &batch];
    arguments.extend(more);
    let record = anychip(&arguments, binary)?;
    let record: Value = serde_json::from_str(record.lines().next().unwrap_or_default())?;
    record["latency_s"]["value"].as_f64().context("the record has no latency")
}

fn pairs(summary: &Summary, machine: &Machine) -> Result<Vec<Pair>> {
    let with_products = summary.instructions.iter().filter(|i| !i.products.is_empty());
    with_products
        .map(|instruction| {
            let Instruction { name, node, cycles, products, read_bytes, written_bytes } =
                instruction;
            let ours =
                simulated(machine, products, read_bytes + written_bytes).with_context(|| {
                    format!("{name} of {node} has a format that no array multiplies")
                })?;
            let sizes: Vec<String> = products
                .iter()
                .map(|p| {
                    let groups =
                        if p.groups > 1 { format!("{} × ", p.groups) } else { String::new() };
                    format!("{groups}{}×{}×{}", p.rows, p.columns, p.depth)
                })
                .collect();
            let large = products
                .iter()
                .all(|p| [p.rows, p.columns, p.depth].into_iter().all(|size| size >= LARGE));
            let memory = (read_bytes + written_bytes) / 1_000_000;
            let what = format!("{}, {memory} MB", sizes.join(" + "));
            Ok(Pair { what, ours, theirs: *cycles as f64, large })
        })
        .collect()
}

/// Our cycles for products that run as one: their operands are on the chip, but for what is read and written while they run.
fn simulated(machine: &Machine, products: &[Sizes], bytes: u64) -> Option<f64> {
    let mut cycles = 0;
    for p in products {
        let format = if p.bits == 8 { Precision::Int8 } else { Precision::Bf16 };
        let element = p.bits / 8;
        let operand = |bytes| Operand { bytes, element, in_memory: false };
        let product = Product {
            groups: p.groups,
            m: p.rows,
            n: p.columns,
            k: p.depth,
            lhs: operand(p.groups * p.rows * p.depth * element),
            rhs: operand(p.groups * p.columns * p.depth * element),
            out: operand(p.groups * p.rows * p.columns * element),
        };
        cycles += map(machine, product, format, Objective::Time)?.cycles.cycles;
    }
    let waits = if bytes > 0 { machine.layer_cycles } else { 0 };
    Some((cycles.max(machine.transfer(bytes)) + waits) as f64)
}

fn show(model: &str, batch: u64, pairs: &[Pair]) {
    println!("  {model}, batch {batch}");
    println!(
        "    {:<52} {:>12} {:>12} {:>7}",
        "products of a fusion", "simulated", "vendor's", "ratio"
    );
    let mut largest: Vec<&Pair> = Vec::new();
    for pair in pairs {
        if !largest.iter().any(|known| known.what == pair.what) {
            largest.push(pair);
        }
    }
    largest.sort_by(|a, b| b.theirs.total_cmp(&a.theirs));
    for pair in largest.iter().take(10) {
        let what: String = pair.what.chars().take(52).collect();
        println!(
            "    {what:<52} {:>12.0} {:>12.0} {:>7.2}",
            pair.ours,
            pair.theirs,
            pair.ours / pair.theirs
        );
    }
}

fn figures(pairs: &[Pair]) -> Figures {
    let mut off: Vec<f64> = pairs.iter().map(|p| 100.0 * (p.ours / p.theirs - 1.0).abs()).collect();
    let mut ratios: Vec<f64> = pairs.iter().map(|p| p.ours / p.theirs).collect();
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().map(|p| (p.ours, p.theirs)).unzip();
    Figures {
        count: pairs.len(),
        median_percent: quantile(&mut off, 0.5),
        median_ratio: quantile(&mut ratios, 0.5),
        rank_correlation: spearman(&a, &b),
    }
}
