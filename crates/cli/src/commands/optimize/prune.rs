//! `anychip optimize --prune`: fewer weights, what it cost, and what each chip gains.

use anychip::{Catalog, ExportOptions, Gain, Graph, Model, PruneReport, Pruning, Samples};
use anyhow::Result;

use super::{cost, cost_json, file_bytes, float_bytes};
use crate::args::Optimize;
use crate::commands::print;

/// Chips that are printed one by one; of the others the range.
const SHOWN: usize = 8;

pub(super) fn execute(
    args: &Optimize,
    model: &Model,
    graph: &Graph,
    samples: Option<&Samples>,
) -> Result<()> {
    let Some(pruning) = args.prune else { return Ok(()) };
    let (pruned, report) = anychip::prune(graph, pruning, samples)?;
    // Channels that leave can leave constants to fold behind them.
    let (pruned, _) = anychip::optimize(&pruned)?;
    anychip::export_to(&pruned, &args.output, &ExportOptions::default())?;
    let chips = anychip::select_chips(&Catalog::builtin()?, &[])?;
    let mut gains = anychip::gains(model, [graph, &pruned], &chips)?;
    gains.sort_by(|a, b| b.measured.cmp(&a.measured).then(ratio(b).total_cmp(&ratio(a))));
    let sizes = [float_bytes(graph), file_bytes(&args.output)?];
    if args.json {
        return print(&format!("{}\n", json(args, model, &report, &gains, sizes)));
    }
    print(&text(args, pruning, model, &report, &gains, sizes))
}

fn ratio(gain: &Gain) -> f64 {
    gain.seconds[0] / gain.seconds[1]
}

fn text(
    args: &Optimize,
    pruning: Pruning,
    model: &Model,
    report: &PruneReport,
    gains: &[Gain],
    sizes: [u64; 2],
) -> String {
    let mut text = String::new();
    for removed in &report.removed {
        text += &format!(
            "{:4} of {:4} channels left  {}\n",
            removed.after,
            removed.before,
            removed.layers.join(", ")
        );
    }
    let left = 100.0 * report.weights[1] as f64 / report.weights[0].max(1) as f64;
    text += &format!(
        "{}: {} of {} layers changed, {left:.1} % of their weights left ({} of {})\n",
        model.name(),
        report.layers[0],
        report.layers[1],
        report.weights[1],
        report.weights[0]
    );
    if report.refitted > 0 {
        text += &format!("{} layers fitted again to what they gave before\n", report.refitted);
    }
    text += &cost(report.signal_to_noise, report.accuracy);
    text += &format!(
        "bytes                           {} before, {} after\nwrote {}\n\n",
        sizes[0],
        sizes[1],
        args.output.display()
    );
    text += "what chips gain (seconds an inference before / after)\n";
    for gain in gains.iter().take(SHOWN) {
        text += &format!(
            "  {:28} {:5.2}x  {}\n",
            gain.chip,
            ratio(gain),
            if gain.measured { "measured" } else { "predicted" }
        );
    }
    let others = &gains[gains.len().min(SHOWN)..];
    if let (Some(most), Some(least)) = (others.first(), others.last()) {
        text += &format!(
            "  {} others, predicted: {:.2}x to {:.2}x\n",
            others.len(),
            ratio(least),
            ratio(most)
        );
    }
    if !matches!(pruning, Pruning::Channels(_)) {
        text += "zeros among weights are neither skipped by a kernel here nor by a prediction: they make files smaller when packed, and\nrun faster only on matrix units and software that skip them\n";
    }
    text
}

fn json(
    args: &Optimize,
    model: &Model,
    report: &PruneReport,
    gains: &[Gain],
    sizes: [u64; 2],
) -> serde_json::Value {
    let [snr, accuracy] = cost_json(report.signal_to_noise, report.accuracy);
    let removed: Vec<_> = report
        .removed
        .iter()
        .map(|r| serde_json::json!({"layers": r.layers, "before": r.before, "after": r.after}))
        .collect();
    let gains: Vec<_> = gains
        .iter()
        .map(|g| {
            serde_json::json!({
                "chip": g.chip, "seconds_before": g.seconds[0], "seconds_after": g.seconds[1],
                "measured": g.measured,
            })
        })
        .collect();
    serde_json::json!({
        "model": model.name(),
        "weights": report.weights,
        "layers_changed": report.layers[0],
        "layers": report.layers[1],
        "removed": removed,
        "layers_refitted": report.refitted,
        "snr_db": snr,
        "accuracy": accuracy,
        "bytes_before": sizes[0],
        "bytes_after": sizes[1],
        "gains": gains,
        "output": args.output,
    })
}
