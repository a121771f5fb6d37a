//! `cargo xtask validate`: refits the predictor without what it is then asked about, and prints how far off it is.

use crate::fit_truth::TimmRun;
use crate::{
    fit_kernels, fit_truth, validate_kernels, validate_mlperf, validate_single, validate_timm,
    workspace,
};
use anychip_chips::Catalog;
use anychip_predict::fit::{quantile, spearman};
use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;

/// What to read, and where to write.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// `tpu`: instead of measured truth, the estimates of the TPU's own compiler, beside ours; needs libtpu
    #[arg(value_parser = ["tpu"])]
    peer: Option<String>,
    /// The folder of measured truth
    #[arg(long, default_value = "../shared/truth")]
    truth: PathBuf,
    /// Write every line of the tables as JSON too
    #[arg(long)]
    json: Option<PathBuf>,
    /// The anychip to run, where one is run, instead of building it
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Only one table: `families`, `devices`, `products`, `attention`, `single` or `mlperf`
    #[arg(long)]
    only: Option<String>,
    /// Families left out of one device's stacks only, as `timm_inference` names it: `i7_12700h`
    #[arg(long)]
    device: Option<String>,
}

/// One line of a table: a prediction of what was left out.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    pub(crate) table: &'static str,
    pub(crate) what: String,
    pub(crate) rows: usize,
    /// Mean and median absolute error, in percent of the truth.
    pub(crate) mape: f64,
    pub(crate) median: f64,
    pub(crate) spearman: f64,
    /// The share of truths inside intervals of 80 %, in percent.
    pub(crate) coverage: Option<f64>,
}

/// What `--json` writes.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) lines: Vec<Line>,
    /// The cases that are furthest off; `docs/predictor-errors.md` says why.
    pub(crate) worst: Vec<Worst>,
}

/// A case that is far off.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Worst {
    pub(crate) table: &'static str,
    pub(crate) case: String,
    /// Predicted over true seconds, less one, in percent.
    pub(crate) error: f64,
}

/// Prints the ten cases that are furthest off, at most one of a group.
pub(crate) fn worst(table: &'static str, cases: &mut [Case]) -> Vec<Worst> {
    cases.sort_by(|a, b| (b.predicted - b.truth).abs().total_cmp(&(a.predicted - a.truth).abs()));
    println!("  the worst, one of a kind:");
    let mut seen: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for case in cases.iter() {
        if seen.contains(&case.group.as_str()) {
            continue;
        }
        seen.push(&case.group);
        let error = 100.0 * case.error();
        println!("    {error:+5.0} % time  {}", case.name);
        found.push(Worst { table, case: case.name.clone(), error });
        if seen.len() == 10 {
            break;
        }
    }
    found
}

/// One prediction of something left out: logarithms of seconds.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) truth: f64,
    pub(crate) predicted: f64,
    pub(crate) interval: Option<(f64, f64)>,
}

impl Case {
    /// The error, as a share of the truth.
    pub(crate) fn error(&self) -> f64 {
        (self.predicted - self.truth).exp() - 1.0
    }
}

/// A line of `cases`.
pub(crate) fn line(table: &'static str, what: String, cases: &[Case]) -> Line {
    let mut errors: Vec<f64> = cases.iter().map(|c| 100.0 * c.error().abs()).collect();
    let mape = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
    let median = quantile(&mut errors, 0.5);
    let truths: Vec<f64> = cases.iter().map(|c| c.truth).collect();
    let predicted: Vec<f64> = cases.iter().map(|c| c.predicted).collect();
    let intervals: Vec<bool> = cases
        .iter()
        .filter_map(|c| c.interval.map(|(low, high)| low <= c.truth && c.truth <= high))
        .collect();
    let coverage = (!intervals.is_empty()).then(|| {
        100.0 * intervals.iter().filter(|&&held| held).count() as f64 / intervals.len() as f64
    });
    let spearman = spearman(&truths, &predicted);
    Line { table, what, rows: cases.len(), mape, median, spearman, coverage }
}

/// Prints the head of a table: its title, how the split was made, the baseline and the target.
pub(crate) fn head(title: &str, split: &str, baseline: &str, target: &str) {
    println!("\n{title}\n  split: {split}\n  baseline: {baseline}; target: {target}");
    println!(
        "  {:42} {:>6} {:>7} {:>7} {:>8} {:>8}",
        "", "rows", "MAPE", "median", "Spearman", "in 80 %"
    );
}

/// Prints a line, with whether it met `target` percent of mean error.
pub(crate) fn show(line: &Line, target: Option<f64>, rank: Option<f64>) {
    let verdict = match target {
        Some(target) => {
            let error = line.mape <= target;
            let order = rank.is_none_or(|rank| line.spearman >= rank);
            let cover = line.coverage.is_none_or(|c| (75.0..=85.0).contains(&c));
            let mut missed = Vec::new();
            if !error {
                missed.push(format!("MAPE by {:.1}", line.mape - target));
            }
            if !order {
                missed.push("order".to_string());
            }
            if !cover {
                missed.push("coverage".to_string());
            }
            if missed.is_empty() {
                "met".to_string()
            } else {
                format!("missed: {}", missed.join(", "))
            }
        }
        None => String::new(),
    };
    let coverage = line.coverage.map_or_else(|| "-".to_string(), |c| format!("{c:.0} %"));
    println!(
        "  {:42} {:>6} {:>6.1}% {:>6.1}% {:>8.4} {:>8}  {verdict}",
        line.what, line.rows, line.mape, line.median, line.spearman, coverage
    );
}

/// Refits and prints every table.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.peer.is_some() {
        return crate::validate_tpu::run(options.json.as_deref(), options.binary.as_deref());
    }
    let catalog = Catalog::builtin()?;
    let layers = workspace::root().join("crates/predict/data/timm_layers.csv.gz");
    let wanted =
        |title: &str| options.only.as_ref().is_none_or(|only| title.contains(only.as_str()));
    let mut report = Report::default();
    let lines = &mut report.lines;
    if wanted("families") || wanted("devices") {
        let (runs, lost) = fit_truth::timm(&options.truth, &layers, &catalog)?;
        println!(
            "timm_inference: {} rows; {lost} more without operators of the same parameter count",
            runs.len()
        );
        let runs: Vec<&TimmRun> = runs.iter().collect();
        if wanted("families") {
            let asked =
                |run: &&&TimmRun| options.device.as_ref().is_none_or(|d| run.row.device == *d);
            let runs: Vec<&TimmRun> = runs.iter().filter(asked).copied().collect();
            let (found, worst) = validate_timm::families(&runs);
            lines.extend(found);
            report.worst.extend(worst);
        }
        if wanted("devices") {
            lines.extend(validate_timm::devices(&runs));
        }
    }
    if wanted("products") {
        lines.extend(validate_kernels::tables(&validate_kernels::Sort {
            table: "products, device left out",
            title: "Matrix products, devices left out",
            baseline: "13 % H100, 24 % A100",
            target: Some(10.0),
            kernels: &fit_kernels::products(&options.truth, &catalog)?,
        }));
    }
    if wanted("attention") {
        let attentions = fit_kernels::attentions(&options.truth, &catalog)?;
        for aside in &attentions.aside {
            println!("left aside: {aside}");
        }
        for (table, title, kernels) in [
            (
                "prefill attention, device left out",
                "Attention of prompts, devices left out",
                &attentions.prefill,
            ),
            (
                "decode attention, device left out",
                "Attention of one more position, devices left out",
                &attentions.decode,
            ),
        ] {
            lines.extend(validate_kernels::tables(&validate_kernels::Sort {
                table,
                title,
                baseline: "none stated",
                target: None,
                kernels,
            }));
        }
    }
    if wanted("single") {
        let (found, worst) = validate_single::tables(&options.truth, &catalog)?;
        lines.extend(found);
        report.worst.extend(worst);
    }
    if wanted("mlperf") {
        let (found, worst) = validate_mlperf::tables(&options.truth, &catalog)?;
        lines.extend(found);
        report.worst.extend(worst);
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(())
}
