//! The trained models of this repository give the same results before and after all passes.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anychip_ir::{Graph, evaluate, verify};
use anychip_onnx::{ImportOptions, load};
use anychip_passes::{node_count, optimize};
use anychip_tensor::Tensor;

fn models() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .collect();
    files.sort();
    files
}

/// Numbers between 0 and 1 for every input; named dims are 2.
fn inputs(graph: &Graph) -> Vec<Tensor> {
    let mut state = 1u64;
    graph
        .inputs()
        .iter()
        .map(|&v| {
            let ty = graph.ty(v);
            let shape: Vec<usize> =
                ty.shape.iter().map(|d| d.evaluate(&|_| Some(2)).unwrap()).collect();
            let values: Vec<f64> = (0..shape.iter().product())
                .map(|_| {
                    // Knuth's MMIX generator; the upper bits are the good ones.
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (state >> 40) as f64 / (1u64 << 24) as f64
                })
                .collect();
            Tensor::from_f64(ty.dtype, shape, &values).unwrap()
        })
        .collect()
}

#[test]
fn results_stay_and_work_shrinks() {
    let models = models();
    assert!(models.len() >= 3, "the trained models are missing");
    for path in models {
        for batch in [None, Some(3)] {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let dims: BTreeMap<String, usize> =
                batch.map(|n| ("batch".to_string(), n)).into_iter().collect();
            let options = ImportOptions { dims, ..ImportOptions::default() };
            let graph = load(&path, &options).unwrap().graph;
            let optimized = optimize(&graph, &mut |_| {}).unwrap();
            verify(&optimized).unwrap();
            assert!(node_count(&optimized) < node_count(&graph), "{name}");
            let inputs = inputs(&graph);
            let expected = evaluate(&graph, &inputs).unwrap();
            let found = evaluate(&optimized, &inputs).unwrap();
            for (e, f) in expected.iter().zip(&found) {
                assert_eq!(e.shape(), f.shape(), "{name}");
                for (e, f) in e.to_f64().into_iter().zip(f.to_f64()) {
                    assert!((e - f).abs() <= 1e-4 * e.abs().max(1.0), "{name}: {f}, expected {e}");
                }
            }
        }
    }
}
