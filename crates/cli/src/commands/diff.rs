//! `anychip diff`: two models value by value.

use anychip::{Difference, Model, Side};
use anyhow::{Result, bail};

use crate::args::Diff;
use crate::commands::print;

pub(crate) fn execute(args: &Diff) -> Result<()> {
    let arrays = anychip::read_npz(&args.input)?;
    let first = Model::load_for(&args.first, &arrays)?;
    let other = args.second.as_ref().map(|path| Model::load_for(path, &arrays)).transpose()?;
    let second = other.as_ref().unwrap_or(&first);
    let left = Side { graph: first.graph(), chip: &args.on };
    let right = Side { graph: second.graph(), chip: args.against.as_ref().unwrap_or(&args.on) };
    let found = anychip::diff(left, right, &arrays)?;
    if found.values.is_empty() {
        bail!(
            "the models have no value of one name and shape\n  help: compare a model with one made from it"
        );
    }
    let diverges =
        |d: &&Difference| d.signal_to_noise < args.threshold || d.signal_to_noise.is_nan();
    let parting = found.values.iter().find(diverges);
    if args.json {
        let ratio = |value: f64| value.is_finite().then_some(value);
        let values: Vec<serde_json::Value> = found
            .values
            .iter()
            .map(|d| {
                serde_json::json!({
                    "name": d.name, "op": d.op, "snr_db": ratio(d.signal_to_noise),
                    "cosine": d.cosine, "largest": ratio(d.largest), "elements": d.elements,
                })
            })
            .collect();
        let object = serde_json::json!({
            "values": values, "unmatched": found.unmatched, "threshold_db": args.threshold,
            "first_divergent": parting.map(|d| &d.name),
        });
        return print(&format!("{object}\n"));
    }
    let width = found.values.iter().map(|d| d.name.chars().count()).max().unwrap_or(0).max(5);
    let mut text = format!(
        "{:width$}  {:14}  {:>9}  {:>9}  {:>10}\n",
        "value", "operator", "SNR", "cosine", "largest"
    );
    for d in &found.values {
        let ratio = match d.signal_to_noise {
            ratio if ratio.is_infinite() => "equal".to_string(),
            ratio => format!("{ratio:.1} dB"),
        };
        let cosine = d.cosine.map_or_else(String::new, |c| format!("{c:.6}"));
        text += &format!(
            "{:width$}  {:14}  {ratio:>9}  {cosine:>9}  {:>10.3e}\n",
            d.name, d.op, d.largest
        );
    }
    if found.unmatched > 0 {
        text += &format!(
            "{} values of {} are not in {}\n",
            found.unmatched,
            first.name(),
            second.name()
        );
    }
    text += &match parting {
        Some(d) => format!("first below {} dB: `{}` ({})\n", args.threshold, d.name, d.op),
        None => format!("nothing falls below {} dB\n", args.threshold),
    };
    print(&text)
}
