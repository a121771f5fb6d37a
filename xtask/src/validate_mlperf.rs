//! `MLPerf` Inference, offline, for each accelerator: the median of a round, with devices and cells left out.
//!
//! Submitters tune each benchmark for each chip, so what is predicted is a table of benchmark × chip × round:
//! an effect of each benchmark, slopes on the chip's specifications that benchmarks share in part, an effect of
//! the chip that shrinks to nothing where the chip is left out, and a trend over rounds.

use crate::fit_truth;
use crate::validate::{Case, Line, Worst, head, line, show, worst};
use anychip_chips::{Body, Catalog, Chip, Precision};
use anychip_predict::fit::{folds, quantile, ridge};
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(serde::Deserialize)]
struct Row {
    version: String,
    division: String,
    accelerator: String,
    model: String,
    scenario: String,
    unit: String,
    framework: String,
    result_per_acc: Option<f64>,
}

impl Row {
    /// Whether it is a rate of software tuned for the chip, submitted to be compared. Some rows of the offline scenario carry
    /// a latency; reference implementations and a runtime for any chip (ONNX Runtime) show what a benchmark asks, not what a
    /// chip does: on an RTX 4090 they are ten times slower than software made for it.
    fn counts(&self) -> bool {
        self.scenario == "offline"
            && self.division == "closed"
            && self.accelerator != "-"
            && self.unit.ends_with("/s")
            && !["reference implementation", "onnx"]
                .iter()
                .any(|general| self.framework.to_lowercase().contains(general))
    }
}

/// The median of one round.
struct Cell {
    benchmark: String,
    chip: String,
    round: String,
    /// Peak of the format it is usually submitted in, bandwidth, power.
    logs: [f64; 3],
    log_rate: f64,
}

/// What is left out together.
type Name = fn(&Cell) -> String;

/// How strongly each sort of coefficient is held to 0; chosen before any error was seen.
const BENCHMARK: f64 = 0.01;
const SPECIFICATION: f64 = 0.1;
const OWN_SLOPE: f64 = 3.0;
const CHIP: f64 = 2.0;
const TREND: f64 = 3.0;

/// The tables of `MLPerf`.
pub(crate) fn tables(truth: &Path, catalog: &Catalog) -> Result<(Vec<Line>, Vec<Worst>)> {
    let (cells, unknown) = read(truth, catalog)?;
    head(
        "MLPerf Inference, offline, closed division, for each accelerator",
        "medians of (benchmark, chip, round) but for reference implementations and ONNX Runtime; a chip, or a benchmark on a chip in all rounds, left out",
        "none stated",
        "15 % of the median of a round",
    );
    println!(
        "  {} medians; {unknown} rows left aside: accelerator with no such name in the catalog",
        cells.len()
    );
    let (mut lines, mut found_worst) = (Vec::new(), Vec::new());
    let by_chip: Name = |c| c.chip.clone();
    let by_cell: Name = |c| format!("{} {}", c.benchmark, c.chip);
    for (table, what, name, target) in [
        ("MLPerf, benchmark", "a benchmark on a chip left out", by_cell, Some(15.0)),
        ("MLPerf, chip", "a chip left out", by_chip, Some(15.0)),
    ] {
        let names: Vec<String> = cells.iter().map(name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut cases = left_out(&cells, &names);
        let found = line("MLPerf", what.to_string(), &cases);
        show(&found, target, None);
        let alone = cells.len() - cases.len();
        println!(
            "    {alone} more medians are of a benchmark that no chip left in has run, and are not predicted"
        );
        lines.push(found);
        found_worst.extend(worst(table, &mut cases));
    }
    Ok((lines, found_worst))
}

/// Ten folds of `names`; intervals from five folds inside each training part.
fn left_out(cells: &[Cell], names: &[&str]) -> Vec<Case> {
    let fold = folds(names, 10);
    let mut cases = Vec::new();
    for f in 0..10 {
        let inside: Vec<usize> = (0..cells.len()).filter(|&i| fold[i] != f).collect();
        let inner_names: Vec<&str> = inside.iter().map(|&i| names[i]).collect();
        let inner = folds(&inner_names, 5);
        let mut errors = Vec::new();
        for g in 0..5 {
            let part: Vec<usize> =
                inside.iter().zip(&inner).filter(|(_, h)| **h != g).map(|(i, _)| *i).collect();
            let held = inside.iter().zip(&inner).filter(|(_, h)| **h == g).map(|(i, _)| *i);
            let predict = fit(cells, &part);
            errors.extend(held.map(|i| predict(&cells[i]) - cells[i].log_rate));
        }
        let (low, high) = (quantile(&mut errors, 0.1), quantile(&mut errors, 0.9));
        let predict = fit(cells, &inside);
        for i in (0..cells.len()).filter(|&i| fold[i] == f) {
            let cell = &cells[i];
            // A benchmark that no other chip ran has nothing to be predicted from.
            if !inside.iter().any(|&j| cells[j].benchmark == cell.benchmark) {
                continue;
            }
            // As seconds of one sample, like every other table.
            let predicted = -predict(cell);
            cases.push(Case {
                name: format!("{} on {} in {}", cell.benchmark, cell.chip, cell.round),
                group: format!("{} {}", cell.benchmark, cell.chip),
                truth: -cell.log_rate,
                predicted,
                interval: Some((predicted + low, predicted + high)),
            });
        }
    }
    cases
}

/// Fits the cells at `inside`; what comes back predicts the logarithm of a cell's rate.
fn fit(cells: &[Cell], inside: &[usize]) -> impl Fn(&Cell) -> f64 {
    let list = |name: fn(&Cell) -> &String| {
        let mut names: Vec<String> = cells.iter().map(|c| name(c).clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let (benchmarks, chips, rounds) =
        (list(|c| &c.benchmark), list(|c| &c.chip), list(|c| &c.round));
    let mean = |k: usize| {
        inside.iter().map(|&i| cells[i].logs[k]).sum::<f64>() / inside.len().max(1) as f64
    };
    let means = [mean(0), mean(1), mean(2)];
    let (b, c) = (benchmarks.len(), chips.len());
    let mut penalties = vec![BENCHMARK; b];
    penalties.extend([SPECIFICATION; 3]);
    penalties.extend(vec![OWN_SLOPE; 2 * b]);
    penalties.extend(vec![CHIP; c]);
    penalties.push(SPECIFICATION);
    penalties.extend(vec![TREND; b]);
    let row = move |cell: &Cell| {
        let place = |names: &[String], name: &String| {
            names.binary_search(name).expect("listed from all cells")
        };
        let mut row = vec![0.0; 4 * b + c + 4];
        let benchmark = place(&benchmarks, &cell.benchmark);
        let logs = [0, 1, 2].map(|k| cell.logs[k] - means[k]);
        let round = place(&rounds, &cell.round) as f64 / rounds.len() as f64;
        row[benchmark] = 1.0;
        row[b..b + 3].copy_from_slice(&logs);
        row[b + 3 + benchmark] = logs[0];
        row[2 * b + 3 + benchmark] = logs[1];
        row[3 * b + 3 + place(&chips, &cell.chip)] = 1.0;
        row[3 * b + c + 3] = round;
        row[3 * b + c + 4 + benchmark] = round;
        row
    };
    let rows: Vec<Vec<f64>> = inside.iter().map(|&i| row(&cells[i])).collect();
    let targets: Vec<f64> = inside.iter().map(|&i| cells[i].log_rate).collect();
    let coefficients = ridge(&rows, &targets, &penalties).expect("every coefficient has a penalty");
    move |cell| row(cell).iter().zip(&coefficients).map(|(x, c)| x * c).sum()
}

fn read(truth: &Path, catalog: &Catalog) -> Result<(Vec<Cell>, usize)> {
    let rows: Vec<Row> = fit_truth::rows(truth, "mlperf_inference")?;
    let mut groups: BTreeMap<(String, String, String), Vec<f64>> = BTreeMap::new();
    let mut unknown = 0;
    for row in rows {
        let Some(rate) = row.result_per_acc.filter(|rate| *rate > 0.0) else { continue };
        if !row.counts() {
            continue;
        }
        let Some(chip) = chip_of(catalog, &row.accelerator) else {
            unknown += 1;
            continue;
        };
        groups
            .entry((benchmark(&row.model, &row.version), chip.id.clone(), row.version))
            .or_default()
            .push(rate);
    }
    let mut cells = Vec::new();
    for ((benchmark, chip, round), mut rates) in groups {
        if let Some(logs) = logs(catalog.find(&chip)?) {
            let log_rate = quantile(&mut rates, 0.5).ln();
            cells.push(Cell { benchmark, chip, round, logs, log_rate });
        }
    }
    Ok((cells, unknown))
}

/// A benchmark's name; another where its data set or unit changed under the same name.
fn benchmark(model: &str, version: &str) -> String {
    let old_volumes = model.starts_with("3d-unet") && version < "v2.0";
    let tokens = model.starts_with("gptj") && version >= "v4.1";
    let mark = if old_volumes {
        " (before v2.0)"
    } else if tokens {
        " (tokens)"
    } else {
        ""
    };
    format!("{model}{mark}")
}

/// The chip that a submitter's words mean, where they name one whole accelerator of the catalog.
fn chip_of<'a>(catalog: &'a Catalog, words: &str) -> Option<&'a Chip> {
    let slug = words.to_lowercase().replace([' ', '_', '/'], "-");
    let known = match slug.as_str() {
        "nvidia-a100-sxm-80gb" | "nvidia-a100-sxm-80gb-cts" | "nvidia-a100-sxm4-80gb-cts" => {
            "nvidia-a100-sxm4-80gb"
        }
        "nvidia-a100-sxm4" | "nvidia-a100-sxm-40gb" => "nvidia-a100-sxm4-40gb",
        "nvidia-h100-sxm-80gb" => "nvidia-h100-sxm5-80gb",
        "nvidia-h200-sxm-141gb-cts" => "nvidia-h200-sxm-141gb",
        "nvidia-tesla-t4" | "tesla-t4" => "nvidia-t4",
        "nvidia-geforce-rtx-4090" | "nvidia-geforce-rtx-4090-(ada-lovelace)" => "nvidia-rtx-4090",
        "qualcomm-cloud-ai-100-pcie-hhhl-pro" => "qualcomm-ai-100-pro",
        "qualcomm-cloud-ai-100-pcie-hhhl-standard" | "qualcomm-cloud-ai-100-standard" => {
            "qualcomm-ai-100-standard"
        }
        "qualcomm-cloud-ai-100-ultra" => "qualcomm-ai-100-ultra",
        "nvidia-jetson-agx-orin-64g" => "nvidia-jetson-agx-orin-64gb",
        "nvidia-agx-xavier" => "nvidia-jetson-agx-xavier-32gb",
        "amd-instinct-mi300x-nps1-spx-192gb-750w" => "amd-mi300x",
        other => other,
    };
    catalog.get(known)
}

/// Logarithms of the 8-bit peak (the highest stated where there is none), bandwidth and power.
fn logs(chip: &Chip) -> Option<[f64; 3]> {
    let Body::Compute(compute) = &chip.body else { return None };
    let peak = [Precision::Int8, Precision::Fp8, Precision::F16, Precision::Bf16, Precision::F32]
        .into_iter()
        .find_map(|p| compute.peak(p))?;
    let bandwidth = compute.main_memory()?.bytes_per_second.as_ref()?;
    let power = chip.power_w.as_ref()?;
    Some([peak.value.ln(), bandwidth.value.ln(), power.value.ln()])
}
