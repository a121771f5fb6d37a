//! Random graphs give the same results before and after the passes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops where its own material is wrong"
)]

mod common;

use anychip_ir::{IrError, evaluate};
use anychip_passes::{PIPELINE, optimize};

/// Graphs tried a test; a failure names its seed.
const GRAPHS: u64 = 400;

#[test]
fn each_pass_keeps_results() {
    let mut changed = vec![0usize; PIPELINE.len()];
    for seed in 0..GRAPHS {
        let (graph, inputs) = common::graph(seed, seed % 2 == 1);
        // Some dice make graphs that fail when they run (a slice of a size that is not there).
        let Ok(expected) = evaluate(&graph, &inputs) else { continue };
        for (i, pass) in PIPELINE.iter().enumerate() {
            let what = format!("seed {seed}, {}", pass.name);
            let outcome = (pass.run)(&graph).unwrap_or_else(|e| panic!("{what}: {e}"));
            changed[i] += outcome.changes;
            let found = evaluate(&outcome.graph, &inputs).unwrap_or_else(|e| panic!("{what}: {e}"));
            common::assert_close(&expected, &found, &what);
        }
    }
    for (pass, changes) in PIPELINE.iter().zip(&changed) {
        println!("{:32} {changes}", pass.name);
    }
}

#[test]
fn the_pipeline_keeps_results_and_settles() -> Result<(), IrError> {
    let mut ran = 0;
    for seed in 0..GRAPHS {
        let (graph, inputs) = common::graph(seed, seed % 2 == 1);
        let Ok(expected) = evaluate(&graph, &inputs) else { continue };
        ran += 1;
        let what = format!("seed {seed}");
        let mut rounds = 0;
        let optimized =
            optimize(&graph, &mut |r| rounds = r.round).unwrap_or_else(|e| panic!("{what}: {e}"));
        let found = evaluate(&optimized, &inputs).unwrap_or_else(|e| panic!("{what}: {e}"));
        common::assert_close(&expected, &found, &what);
        assert_eq!(graph.output_names(), optimized.output_names(), "{what}");
        for (&old, &new) in graph.inputs().iter().zip(optimized.inputs()) {
            assert_eq!(graph.value_name(old), optimized.value_name(new), "{what}");
            assert_eq!(graph.ty(old), optimized.ty(new), "{what}");
        }
        // Settled: another time changes nothing.
        let mut again = Vec::new();
        optimize(&optimized, &mut |r| {
            if r.changes > 0 {
                again.push(r.pass);
            }
        })?;
        assert!(again.is_empty(), "{what}: {again:?} after {rounds} rounds");
    }
    assert!(ran > GRAPHS * 3 / 4, "only {ran} graphs ran");
    Ok(())
}
