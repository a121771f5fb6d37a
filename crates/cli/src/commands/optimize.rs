//! `anychip optimize`: the passes, fewer bits where asked, standard ONNX out.

use std::path::Path;

use anychip::{
    Equalize, ExportOptions, Graph, ImportOptions, Method, Model, QuantizeOptions, QuantizeReport,
    Samples, WeightFormat, WeightRounding,
};
use anyhow::{Result, bail};

use crate::args::{Algorithm, Equalizing, Optimize, QuantizeTo, RangeMethod};
use crate::commands::{print, usage, warn};

mod prune;

pub(crate) fn execute(args: &Optimize) -> Result<()> {
    check(args)?;
    let options =
        ImportOptions { dims: args.dims.iter().cloned().collect(), ..ImportOptions::default() };
    let model = Model::load_with(&args.model, &options)?;
    warn(&model);
    let (graph, reports) = model.optimized()?;
    if args.quantize.is_none() && args.prune.is_none() {
        return plain(args, &model, &graph, &reports);
    }
    let samples = args
        .calibrate
        .as_ref()
        .map(|data| Samples::open(data, &graph, &args.labels))
        .transpose()?;
    let Some(to) = args.quantize else {
        return prune::execute(args, &model, &graph, samples.as_ref());
    };
    // Blocks of integers came with opset 21, bfloat16 convolutions with 22.
    let opset = match to {
        QuantizeTo::Int8 | QuantizeTo::Fp16 => ExportOptions::default().opset,
        QuantizeTo::Int8Weights | QuantizeTo::Int4Weights => 21,
        QuantizeTo::Bf16 => 22,
    };
    let (quantized, report) = match to {
        QuantizeTo::Int8 if args.dynamic => anychip::quantize_dynamic(&graph, samples.as_ref())?,
        QuantizeTo::Int8 => int8(args, &graph, samples.as_ref())?,
        QuantizeTo::Int8Weights | QuantizeTo::Int4Weights => {
            weights(args, &graph, to, samples.as_ref())?
        }
        QuantizeTo::Fp16 | QuantizeTo::Bf16 => {
            anychip::halve(&graph, to == QuantizeTo::Bf16, samples.as_ref())?
        }
    };
    anychip::export_to(
        &quantized,
        &args.output,
        &ExportOptions { opset, ..ExportOptions::default() },
    )?;
    let sizes = [float_bytes(&graph), file_bytes(&args.output)?];
    if args.json {
        print(&format!("{}\n", json(args, &model, &quantized, &report, sizes)))?;
    } else {
        print(&text(args, to, &model, &report, sizes))?;
    }
    if report.budget_kept == Some(false) {
        bail!("{}", unreachable_budget(args, &report));
    }
    Ok(())
}

/// What one flag alone cannot say about another.
fn check(args: &Optimize) -> Result<()> {
    let data = args.calibrate.is_some();
    if args.quantize == Some(QuantizeTo::Int8) && !data && !args.dynamic {
        return Err(usage(
            "optimize",
            "--quantize int8 needs samples to find ranges with: give --calibrate DATA, arrays for the inputs whose first axis is samples; or --dynamic",
        ));
    }
    if args.dynamic && (args.quantize != Some(QuantizeTo::Int8) || args.budget().is_some()) {
        return Err(usage(
            "optimize",
            "--dynamic is for --quantize int8, without --min-snr and --max-accuracy-loss",
        ));
    }
    let looks = matches!(args.algorithm, Some(Algorithm::Gptq | Algorithm::Awq));
    if looks && !data {
        return Err(usage(
            "optimize",
            "gptq and awq look at the inputs of layers: give --calibrate DATA, or --algorithm rtn",
        ));
    }
    if data && args.quantize.is_none() && args.prune.is_none() {
        return Err(usage(
            "optimize",
            "--calibrate is for --quantize and --prune: give one of them",
        ));
    }
    Ok(())
}

/// The passes alone.
fn plain(
    args: &Optimize,
    model: &Model,
    graph: &Graph,
    reports: &[anychip::PassReport],
) -> Result<()> {
    anychip::export_to(graph, &args.output, &ExportOptions::default())?;
    let mut changed: Vec<&str> = reports.iter().filter(|r| r.changes > 0).map(|r| r.pass).collect();
    changed.sort_unstable();
    changed.dedup();
    let (before, after) = (anychip::node_count(model.graph()), anychip::node_count(graph));
    if args.json {
        let value = serde_json::json!({
            "model": model.name(), "nodes_before": before, "nodes_after": after, "passes": changed,
            "output": args.output,
        });
        return print(&format!("{value}\n"));
    }
    print(&format!(
        "{}: {before} nodes became {after}, {} passes changed something (see `anychip explain`)\nwrote {}\n",
        model.name(),
        changed.len(),
        args.output.display()
    ))
}

fn int8(
    args: &Optimize,
    graph: &Graph,
    samples: Option<&Samples>,
) -> Result<(Graph, QuantizeReport)> {
    let Some(samples) = samples else { bail!("--quantize int8 needs --calibrate") };
    let options = QuantizeOptions {
        method: match args.range {
            RangeMethod::MinMax => Method::MinMax,
            RangeMethod::Percentile => Method::Percentile(args.percentile / 100.0),
            RangeMethod::Mse => Method::Mse,
            RangeMethod::Entropy => Method::Entropy,
        },
        symmetric: args.symmetric,
        power_of_two: args.power_of_two,
        adaptive_rounding: !args.no_adaptive_rounding,
        bias_correction: !args.no_bias_correction,
        equalize: match args.equalize {
            Equalizing::Auto => Equalize::Auto,
            Equalizing::Always => Equalize::Always,
            Equalizing::Never => Equalize::Never,
        },
        budget: args.budget(),
    };
    Ok(anychip::quantize(graph, samples, &options)?)
}

fn weights(
    args: &Optimize,
    graph: &Graph,
    to: QuantizeTo,
    samples: Option<&Samples>,
) -> Result<(Graph, QuantizeReport)> {
    let rounding = match (args.algorithm, samples) {
        (Some(Algorithm::Rtn), _) | (None, None) => WeightRounding::Nearest,
        (Some(Algorithm::Gptq) | None, Some(_)) => WeightRounding::Gptq,
        (Some(Algorithm::Awq), Some(_)) => WeightRounding::Awq,
        (Some(Algorithm::Gptq | Algorithm::Awq), None) => bail!("gptq and awq need --calibrate"),
    };
    let bits = if to == QuantizeTo::Int4Weights { 4 } else { 8 };
    let format = WeightFormat { bits, group: args.group_size as usize };
    Ok(anychip::quantize_weights(graph, format, rounding, samples)?)
}

/// The bytes of a graph's constants: what its file takes, but for names.
fn float_bytes(graph: &Graph) -> u64 {
    graph.values().filter_map(|v| graph.constant(v)).map(|t| t.byte_len() as u64).sum()
}

/// The bytes of a model file and of the file with its weights.
fn file_bytes(path: &Path) -> Result<u64> {
    let mut data = path.as_os_str().to_owned();
    data.push(".data");
    let beside = std::fs::metadata(data).map_or(0, |m| m.len());
    Ok(std::fs::metadata(path)?.len() + beside)
}

fn decibels(ratio: f64) -> String {
    if ratio.is_infinite() { "exact".into() } else { format!("{ratio:.1} dB") }
}

/// What a change cost, where data told: signal to noise of the outputs in dB, and right answers of all before and after.
fn cost(signal_to_noise: Option<f64>, accuracy: Option<[(usize, usize); 2]>) -> String {
    let mut text = String::new();
    if let Some(ratio) = signal_to_noise {
        text += &format!("signal to noise of the outputs  {}\n", decibels(ratio));
    }
    if let Some([before, after]) = accuracy {
        let share = |(right, of): (usize, usize)| 100.0 * right as f64 / of.max(1) as f64;
        text += &format!(
            "accuracy                        {:.2} % before, {:.2} % after ({} and {} of {})\n",
            share(before),
            share(after),
            before.0,
            after.0,
            before.1
        );
    }
    text
}

/// [`cost`] in JSON, which has no infinity: a ratio without noise is absent.
fn cost_json(
    signal_to_noise: Option<f64>,
    accuracy: Option<[(usize, usize); 2]>,
) -> [serde_json::Value; 2] {
    let counted = |(right, of): (usize, usize)| serde_json::json!({"right": right, "of": of});
    [
        serde_json::json!(signal_to_noise.filter(|ratio| ratio.is_finite())),
        serde_json::json!(accuracy.map(|[a, b]| [counted(a), counted(b)])),
    ]
}

fn text(
    args: &Optimize,
    to: QuantizeTo,
    model: &Model,
    report: &QuantizeReport,
    sizes: [u64; 2],
) -> String {
    let mut text = String::new();
    let with_effect = report.layers.iter().any(|l| l.effect.is_some());
    if with_effect {
        let width = report.layers.iter().map(|l| l.name.chars().count()).max().unwrap_or(0).max(5);
        text += &format!(
            "{:width$}  {:12}  {:>10}  {:>10}  now\n",
            "layer", "operator", "its output", "the model"
        );
        for layer in &report.layers {
            text += &format!(
                "{:width$}  {:12}  {:>10}  {:>10}  {}\n",
                layer.name,
                layer.op,
                layer.signal_to_noise.map_or_else(String::new, decibels),
                layer.effect.map_or_else(String::new, decibels),
                if layer.quantized { "int8" } else { "float" }
            );
        }
        text += "each alone on integers against the float model: signal to noise of its own output and of the model's\n\n";
    }
    let quantized = report.layers.iter().filter(|l| l.quantized).count();
    let what = match to {
        QuantizeTo::Int8 if args.dynamic => {
            format!(
                "{quantized} products on 8-bit integers, grids of their inputs found at run time"
            )
        }
        QuantizeTo::Int8 => format!(
            "{quantized} of {} layers on 8-bit integers, calibrated on {} samples",
            report.layers.len(),
            report.samples
        ),
        QuantizeTo::Int8Weights => format!("the weights of {quantized} layers in 8 bits"),
        QuantizeTo::Int4Weights => format!("the weights of {quantized} layers in 4 bits"),
        QuantizeTo::Fp16 => "16-bit floats where they suffice".to_owned(),
        QuantizeTo::Bf16 => "bfloat16 where it suffices".to_owned(),
    };
    text += &format!("{}: {what}\n", model.name());
    if report.equalized > 0 {
        text += &format!("ranges of channels moved into weights for {} values\n", report.equalized);
    }
    text += &cost(report.signal_to_noise, report.accuracy);
    text += &format!(
        "bytes                           {} before, {} after ({:.1}x smaller)\nwrote {}\n",
        sizes[0],
        sizes[1],
        sizes[0] as f64 / sizes[1].max(1) as f64,
        args.output.display()
    );
    text
}

/// What a budget that cannot be met says: the best found, and the layers in the way.
fn unreachable_budget(args: &Optimize, report: &QuantizeReport) -> String {
    let mut worst: Vec<_> = report.layers.iter().filter(|l| l.quantized).collect();
    worst.sort_by(|a, b| {
        let effect = |l: &anychip::LayerReport| l.effect.unwrap_or(f64::INFINITY);
        effect(a).total_cmp(&effect(b))
    });
    let names: Vec<String> = worst.iter().take(5).map(|l| format!("`{}`", l.name)).collect();
    let best = match (args.budget(), report.accuracy) {
        (Some(anychip::Budget::AccuracyLoss(_)), Some([before, after])) => format!(
            "{:.2} % of accuracy lost",
            100.0 * (before.0 as f64 - after.0 as f64) / before.1.max(1) as f64
        ),
        _ => report.signal_to_noise.map_or_else(String::new, decibels),
    };
    format!(
        "the budget cannot be met with any layer on integers\n  best found: {best}, with one layer on integers, written to {}\n  in the way: {}\n  help: allow more loss, or keep the float model",
        args.output.display(),
        names.join(", ")
    )
}

fn json(
    args: &Optimize,
    model: &Model,
    quantized: &Graph,
    report: &QuantizeReport,
    sizes: [u64; 2],
) -> serde_json::Value {
    // JSON has no infinity: a ratio without noise is absent.
    let ratio = |value: f64| value.is_finite().then_some(value);
    let layers: Vec<serde_json::Value> = report
        .layers
        .iter()
        .map(|l| {
            serde_json::json!({
                "name": l.name, "op": l.op, "snr_db": l.signal_to_noise.and_then(ratio),
                "model_snr_db": l.effect.and_then(ratio), "quantized": l.quantized,
            })
        })
        .collect();
    let [snr, accuracy] = cost_json(report.signal_to_noise, report.accuracy);
    serde_json::json!({
        "model": model.name(),
        "snr_db": snr,
        "accuracy": accuracy,
        "equalized": report.equalized,
        "samples": report.samples,
        "layers": layers,
        "layers_quantized": report.layers.iter().filter(|l| l.quantized).count(),
        "nodes": anychip::node_count(quantized),
        "bytes_before": sizes[0],
        "bytes_after": sizes[1],
        "budget_kept": report.budget_kept,
        "output": args.output,
    })
}
