//! The whole transformers of `gpu_models_fp32`, as lists of the kernels that Hugging Face's code launches in eager mode.
//!
//! Sizes are those of the configurations that were measured (`DLmodel_configs` beside the measurements): GPT-3 XL there is
//! 3072 wide with 24 layers.

use crate::fit_single::device;
use crate::fit_truth;
use anychip_predict::{Class, Kernel};
use anyhow::Result;
use std::path::Path;

#[derive(serde::Deserialize)]
struct Row {
    model: String,
    seqlen: f64,
    batch: f64,
    device: String,
    mode: String,
    option: String,
    latency_ms: f64,
}

/// One inference of a whole model.
pub(crate) struct Model {
    pub(crate) architecture: String,
    pub(crate) name: String,
    pub(crate) device: String,
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) log_seconds: f64,
}

/// How the feed-forward network bends.
#[derive(Clone, Copy, PartialEq)]
enum Bend {
    /// One kernel.
    Relu,
    Gelu,
    /// GPT-2's own code of it: a power, four products, two sums and a tangent.
    GeluInParts,
}

/// The sizes of a transformer.
struct Sizes {
    layers: f64,
    width: f64,
    heads: f64,
    vocabulary: f64,
    bend: Bend,
}

fn sizes(architecture: &str) -> Option<Sizes> {
    let (layers, width, heads, vocabulary, bend) = match architecture {
        "bert_large" => (24.0, 1024.0, 16.0, 30_522.0, Bend::Gelu),
        "gpt2_large" => (36.0, 1280.0, 20.0, 50_257.0, Bend::GeluInParts),
        "gpt3_xl" => (24.0, 3072.0, 24.0, 50_257.0, Bend::GeluInParts),
        "gpt3_27" => (32.0, 2560.0, 32.0, 50_257.0, Bend::GeluInParts),
        "opt_13" => (24.0, 2048.0, 32.0, 50_272.0, Bend::Relu),
        _ => return None,
    };
    Some(Sizes { layers, width, heads, vocabulary, bend })
}

/// The kernels of one inference.
fn kernels(sizes: &Sizes, sequence: f64, batch: f64) -> Vec<Kernel> {
    let Sizes { layers, width, heads, vocabulary, bend } = *sizes;
    let (rows, inner, side) = (sequence * batch, 4.0 * width, batch * heads);
    let linear = |columns: f64, depth: f64, count: f64| Kernel {
        count,
        macs: rows * columns * depth,
        bytes: 4.0 * (rows * depth + rows * columns),
        weight_bytes: 4.0 * columns * depth,
        rows,
        columns,
        depth,
        groups: 1.0,
        ..Kernel::moving(Class::Linear, 0.0)
    };
    let moving = |class, passes: f64, values: f64, count: f64| Kernel {
        count,
        ..Kernel::moving(class, 4.0 * passes * values)
    };
    let attention = Kernel {
        count: layers,
        macs: 2.0 * side * sequence * sequence * width / heads,
        rows: sequence,
        columns: sequence,
        depth: width / heads,
        groups: side,
        ..Kernel::moving(Class::Attention, 0.0)
    };
    let joint = bend == Bend::GeluInParts;
    let mut kernels = vec![
        if joint { linear(3.0 * width, width, layers) } else { linear(width, width, 3.0 * layers) },
        attention,
        linear(width, width, layers),
        linear(inner, width, layers),
        linear(width, inner, layers),
        linear(vocabulary, width, 1.0),
        moving(Class::Norm, 2.0, rows * width, 2.0 * layers),
        // Residuals, and the heads turned for attention and back.
        moving(Class::Elementwise, 3.0, rows * width, 2.0 * layers),
        moving(Class::Copy, 2.0, rows * width, 4.0 * layers),
    ];
    let wide = rows * inner;
    kernels.extend(match bend {
        Bend::Relu => vec![moving(Class::Elementwise, 2.0, wide, layers)],
        Bend::Gelu => vec![moving(Class::Transcendental, 2.0, wide, layers)],
        Bend::GeluInParts => vec![
            moving(Class::Transcendental, 2.0, wide, 2.0 * layers),
            moving(Class::Elementwise, 2.0, wide, 4.0 * layers),
            moving(Class::Elementwise, 3.0, wide, 2.0 * layers),
        ],
    });
    kernels
}

/// Every inference in eager mode of a model that is known here. Training, fused kernels, several devices and the mixture of
/// experts are left aside.
pub(crate) fn models(truth: &Path) -> Result<Vec<Model>> {
    let rows: Vec<Row> = fit_truth::rows(truth, "gpu_models_fp32")?;
    let mut found = Vec::new();
    for row in rows {
        let Some(sizes) = sizes(&row.model) else { continue };
        if row.mode != "inf" || !row.option.is_empty() {
            continue;
        }
        found.push(Model {
            name: format!("{}, {} × {}", row.model, row.batch, row.seqlen),
            architecture: row.model,
            device: device(&row.device)?.to_string(),
            kernels: kernels(&sizes, row.seqlen, row.batch),
            log_seconds: (row.latency_ms * 1e-3).ln(),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_that_of_the_models() {
        // BERT-large at 512 tokens: 302 M weights of layers, 31.3 M of the head, attention.
        let kernels = kernels(&sizes("bert_large").expect("known"), 512.0, 1.0);
        let macs: f64 = kernels.iter().map(|k| k.count * k.macs).sum();
        let expected = 512.0 * (302e6 + 31.3e6) + 24.0 * 2.0 * 512.0 * 512.0 * 1024.0;
        assert!((macs / expected - 1.0).abs() < 0.01, "{macs} {expected}");
        assert!(sizes("switchxl4").is_none());
    }
}
