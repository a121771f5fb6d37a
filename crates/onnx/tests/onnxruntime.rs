//! Operators against what ONNX Runtime gives for them: its own, and settings that the standard has no case for.
//!
//! `tests/data/onnxruntime` holds models without inputs, written by `tools/onnxruntime_cases.py`: next to each result `y`
//! stands an output `expected.y`.

use std::collections::BTreeMap;
use std::path::Path;

use anychip_ir::evaluate;
use anychip_onnx::{ImportOptions, load};
use anychip_tensor::Tensor;

/// What is wrong with a result, if anything. Rounding may move a quantized value by one step.
fn difference(found: &Tensor, expected: &Tensor) -> Option<String> {
    if found.dtype() != expected.dtype() || found.shape() != expected.shape() {
        return Some(format!(
            "{} {:?} instead of {} {:?}",
            found.dtype(),
            found.shape(),
            expected.dtype(),
            expected.shape()
        ));
    }
    let (absolute, relative) = if found.dtype().is_float() { (2e-5, 1e-4) } else { (1.0, 0.0) };
    let (found, expected) = (found.to_f64(), expected.to_f64());
    let wrong: Vec<usize> = (0..found.len())
        .filter(|&i| {
            let apart = (found[i] - expected[i]).abs();
            apart.is_nan() || apart > absolute + relative * expected[i].abs()
        })
        .collect();
    let &first = wrong.first()?;
    Some(format!(
        "{} of {} differ, element {first} is {} instead of {}",
        wrong.len(),
        found.len(),
        found[first],
        expected[first]
    ))
}

fn run(path: &Path) -> Result<(), String> {
    let model = load(path, &ImportOptions::default()).map_err(|e| e.to_string())?;
    let outputs = evaluate(&model.graph, &[]).map_err(|e| e.to_string())?;
    let by_name: BTreeMap<&str, &Tensor> =
        model.graph.output_names().iter().map(AsRef::as_ref).zip(&outputs).collect();
    let mut pairs = 0;
    for (name, found) in &by_name {
        let Some(expected) = by_name.get(format!("expected.{name}").as_str()) else { continue };
        pairs += 1;
        if let Some(problem) = difference(found, expected) {
            return Err(format!("{name}: {problem}"));
        }
    }
    if pairs == 0 { Err("has no pair of outputs to compare".into()) } else { Ok(()) }
}

#[test]
fn every_model_gives_what_onnx_runtime_gives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnxruntime");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 40, "only {} models", paths.len());
    let problems: Vec<String> = paths
        .iter()
        .filter_map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            run(path).err().map(|problem| format!("{name}: {problem}"))
        })
        .collect();
    assert!(problems.is_empty(), "{} fail:\n{}", problems.len(), problems.join("\n"));
}
