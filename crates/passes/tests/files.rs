//! Passes on graphs written as text: `cases/NAME.ir` names passes on its first line, `cases/NAME.expected` is the
//! graph they give. `UPDATE_EXPECT=1` writes the expected files anew, to be read before they are committed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops where its own material is wrong"
)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anychip_ir::{Graph, evaluate, text, verify};
use anychip_passes::{INTEGER, PIPELINE, Pass};
use anychip_tensor::Tensor;
use expect_test::expect_file;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "ir"))
        .collect();
    files.sort();
    files
}

fn passes(source: &str, path: &Path) -> Vec<&'static Pass> {
    let first = source.lines().next().unwrap().trim_start_matches("//");
    first
        .split(',')
        .map(|name| {
            let found = PIPELINE.iter().chain(INTEGER).find(|p| p.name == name.trim());
            found.unwrap_or_else(|| {
                panic!("{}: no pass is called `{}`", path.display(), name.trim())
            })
        })
        .collect()
}

fn run(graph: &Graph, passes: &[&Pass]) -> Graph {
    passes.iter().fold(graph.clone(), |graph, pass| (pass.run)(&graph).unwrap().graph)
}

#[test]
fn cases_give_what_is_expected_and_the_same_results() {
    for path in cases() {
        let source = std::fs::read_to_string(&path).unwrap();
        let what = path.file_name().unwrap().to_string_lossy().into_owned();
        let graph =
            text::parse(&source, anychip_ops::ROWS).unwrap_or_else(|e| panic!("{what}: {e}"));
        let after = run(&graph, &passes(&source, &path));
        verify(&after).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        expect_file![path.with_extension("expected")].assert_eq(&text::print(&after));

        let mut random = common::Random::new(1);
        let inputs: Vec<Tensor> = graph
            .inputs()
            .iter()
            .map(|&v| {
                let ty = graph.ty(v);
                let shape: Vec<usize> =
                    ty.shape.iter().map(|d| d.evaluate(&|_| Some(common::N)).unwrap()).collect();
                let values = random.tensor(&shape).to_f64();
                Tensor::from_f64(ty.dtype, shape, &values).unwrap()
            })
            .collect();
        let (expected, found) =
            (evaluate(&graph, &inputs).unwrap(), evaluate(&after, &inputs).unwrap());
        common::assert_close(&expected, &found, &what);
    }
}

#[test]
fn every_pass_has_a_case() {
    let tried: BTreeSet<&str> = cases()
        .iter()
        .flat_map(|path| passes(&std::fs::read_to_string(path).unwrap(), path))
        .map(|pass| pass.name)
        .collect();
    for pass in PIPELINE.iter().chain(INTEGER) {
        assert!(tried.contains(pass.name), "no case in tests/cases names `{}`", pass.name);
    }
}
