//! `MLPerf` Inference, offline, for each accelerator: the median of a round, with devices and cells left out.
//!
//! Submitters tune each benchmark for each chip, so what is predicted is a table of benchmark × chip × round:
//! an effect of each benchmark, slopes on the chip's specifications that benchmarks share in part, effects of
//! its vendor, its architecture and the chip itself, which shrink to nothing where they are left out, and a trend over rounds.

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
    architecture: String,
    vendor: String,
    round: String,
    /// See [`figures`].
    figures: [f64; FIGURES],
    log_rate: f64,
}

/// What is left out together.
type Name = fn(&Cell) -> String;

/// How strongly each sort of coefficient is held to 0; chosen before any error was seen. Which columns there are was decided by
/// errors of what was left out, which flatters these a little: without those of architectures, vendors, the 16-bit peak and
/// fp8, which take the penalties of their like, errors were 15.2 and 22.7 %.
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

/// A column of the regression: its name, this cell's value, how strongly its coefficient is held to 0.
type Term = (String, f64, f64);

/// What a cell's rate is made of. Software is made for an architecture: its chips share an effect, and one on each benchmark.
fn terms(cell: &Cell, means: &[f64; FIGURES], round: f64) -> Vec<Term> {
    let Cell { benchmark, chip, architecture, vendor, .. } = cell;
    let mut centered = cell.figures;
    for (figure, mean) in centered.iter_mut().zip(means) {
        *figure -= mean;
    }
    let [peak, bandwidth, power, half, eighth] = centered;
    let term = |name: &str, value, penalty| (name.to_string(), value, penalty);
    vec![
        term(&format!("benchmark {benchmark}"), 1.0, BENCHMARK),
        term("peak", peak, SPECIFICATION),
        term("bandwidth", bandwidth, SPECIFICATION),
        term("power", power, SPECIFICATION),
        term("16-bit peak", half, SPECIFICATION),
        term(&format!("peak, {benchmark}"), peak, OWN_SLOPE),
        term(&format!("bandwidth, {benchmark}"), bandwidth, OWN_SLOPE),
        term(&format!("has fp8, {benchmark}"), eighth, OWN_SLOPE),
        term(&format!("chip {chip}"), 1.0, CHIP),
        term(&format!("architecture {architecture}"), 1.0, CHIP),
        term(&format!("vendor {vendor}"), 1.0, CHIP),
        term(&format!("architecture {architecture}, {benchmark}"), 1.0, OWN_SLOPE),
        term("round", round, SPECIFICATION),
        term(&format!("round, {benchmark}"), round, TREND),
    ]
}

/// Fits the cells at `inside`; what comes back predicts the logarithm of a cell's rate.
fn fit(cells: &[Cell], inside: &[usize]) -> impl Fn(&Cell) -> f64 {
    let mut rounds: Vec<String> = cells.iter().map(|c| c.round.clone()).collect();
    rounds.sort_unstable();
    rounds.dedup();
    let mut means = [0.0; FIGURES];
    for &i in inside {
        for (mean, figure) in means.iter_mut().zip(cells[i].figures) {
            *mean += figure / inside.len().max(1) as f64;
        }
    }
    let of = move |cell: &Cell| {
        let place = rounds.binary_search(&cell.round).expect("listed from all cells");
        terms(cell, &means, place as f64 / rounds.len() as f64)
    };
    let (mut columns, mut penalties) = (BTreeMap::new(), Vec::new());
    for &i in inside {
        for (name, _, penalty) in of(&cells[i]) {
            columns.entry(name).or_insert_with(|| {
                penalties.push(penalty);
                penalties.len() - 1
            });
        }
    }
    let rows: Vec<Vec<f64>> = inside
        .iter()
        .map(|&i| {
            let mut row = vec![0.0; penalties.len()];
            for (name, value, _) in of(&cells[i]) {
                row[columns[&name]] = value;
            }
            row
        })
        .collect();
    let targets: Vec<f64> = inside.iter().map(|&i| cells[i].log_rate).collect();
    let coefficients = ridge(&rows, &targets, &penalties).expect("every coefficient has a penalty");
    // What was left out has columns that nothing is known about.
    move |cell| {
        of(cell)
            .iter()
            .filter_map(|(name, value, _)| columns.get(name).map(|at| value * coefficients[*at]))
            .sum()
    }
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
        let found = catalog.find(&chip)?;
        if let Some(figures) = figures(found) {
            let log_rate = quantile(&mut rates, 0.5).ln();
            let architecture = found.architecture.clone().unwrap_or_else(|| chip.clone());
            let vendor = found.vendor.clone();
            cells.push(Cell { benchmark, chip, architecture, vendor, round, figures, log_rate });
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

/// How many figures of a chip are used.
const FIGURES: usize = 5;

/// Logarithms of the 8-bit peak (the highest stated where there is none), bandwidth, power and the 16-bit peak (half of the
/// 8-bit one where there is none); and whether it has fp8.
fn figures(chip: &Chip) -> Option<[f64; FIGURES]> {
    let Body::Compute(compute) = &chip.body else { return None };
    let peak = [Precision::Int8, Precision::Fp8, Precision::F16, Precision::Bf16, Precision::F32]
        .into_iter()
        .find_map(|p| compute.peak(p))?
        .value;
    let half = [Precision::F16, Precision::Bf16].into_iter().find_map(|p| compute.peak(p));
    let bandwidth = compute.main_memory()?.bytes_per_second.as_ref()?;
    let power = chip.power_w.as_ref()?;
    Some([
        peak.ln(),
        bandwidth.value.ln(),
        power.value.ln(),
        half.map_or(peak / 2.0, |h| h.value).ln(),
        f64::from(u8::from(compute.peak(Precision::Fp8).is_some())),
    ])
}
