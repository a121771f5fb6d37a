//! What small graphs are written as: no plugin is needed.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use anychip_chips::Catalog;
use anychip_ir::{Binary, Builder, ConvolutionDims, Graph, Prim, ReduceKind, TensorType, Unary};
use anychip_pjrt::PjrtTarget;
use anychip_target::{CompileOptions, Program, Target, legalize};
use anychip_tensor::{DType, Dim, Tensor};
use expect_test::{Expect, expect};

fn program(graph: &Graph) -> Box<dyn Program> {
    let target = PjrtTarget::default();
    let catalog = Catalog::builtin().unwrap();
    let chip = catalog.find("google-tpu-v5e").unwrap();
    let legal = legalize(&target, graph).unwrap();
    target.compile(&legal, chip, &CompileOptions::default()).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "reads best with the text in place")]
fn check(graph: &Graph, expected: Expect) {
    let file = program(graph).files().remove(0);
    expected.assert_eq(std::str::from_utf8(&file.bytes).unwrap());
}

#[test]
fn a_layer() {
    let mut b = Builder::new("layer");
    let x = b.input("x", TensorType::new(DType::F32, [2usize, 3]));
    let w = b.constant(Tensor::zeros(DType::F32, [3, 40]).unwrap());
    b.set_scope("dense_1");
    let y = b.matmul(x, w, DType::F32).unwrap();
    b.set_scope("");
    let zero = b.scalar(DType::F32, 0.0).unwrap();
    let y = b.max(y, zero).unwrap();
    check(&b.finish(&[y]), expect![[r#""#]]);
}

#[test]
fn a_convolution_and_a_sum() {
    let mut b = Builder::new("convolution");
    let x = b.input("x", TensorType::new(DType::I8, [1usize, 2, 5, 5]));
    let w = b.constant(Tensor::from_f64(DType::I8, [1, 2, 2, 2], &[1.0; 8]).unwrap());
    let dims = ConvolutionDims {
        strides: vec![2, 1],
        padding: vec![(1, 0), (0, 0)],
        dilation: vec![1, 1],
        input_dilation: vec![1, 1],
        groups: 1,
    };
    let y = b.prim(Prim::Convolution(dims, DType::I32), &[x, w]).unwrap();
    let y = b.prim(Prim::Reduce { kind: ReduceKind::Sum, axes: vec![2, 3] }, &[y]).unwrap();
    check(&b.finish(&[y]), expect![[r#""#]]);
}

#[test]
fn a_branch() {
    let mut b = Builder::new("branch");
    let condition = b.input("condition", TensorType::scalar(DType::Bool));
    let x = b.input("x", TensorType::new(DType::F16, [4usize]));
    let region = |b: &Builder, unary: Unary| {
        let mut region = b.region("way");
        let x = region.input("x", TensorType::new(DType::F16, [4usize]));
        let y = region.prim(Prim::Unary(unary), &[x]).unwrap();
        region.finish(&[y])
    };
    let regions = vec![region(&b, Unary::Neg), region(&b, Unary::Exp)];
    let y = b.node(Prim::If, &[condition, x], regions).unwrap()[0];
    check(&b.finish(&[y]), expect![[r#""#]]);
}

/// Names and shapes of arguments and results, and the weights that go with them.
#[test]
fn a_manifest_says_what_goes_where() {
    let mut b = Builder::new("model");
    let x = b.input("the \"input\"", TensorType::new(DType::F32, [2usize, 100]));
    let w = b.constant(Tensor::from_f64(DType::F32, [100], &[0.5; 100]).unwrap());
    let y = b.prim(Prim::Binary(Binary::Add), &[x, w]).unwrap();
    let program = program(&b.finish_named(&[("y".into(), y)]));
    let files = program.files();
    let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["model.stablehlo.mlir", "model.stablehlo.json"]);
    let manifest = std::str::from_utf8(&files[1].bytes).unwrap();
    assert!(
        manifest.contains(r#""kind": "input", "name": "the \"input\"", "dtype": "f32""#),
        "{manifest}"
    );
    assert!(manifest.contains(r#""kind": "weight", "name": "arg1""#), "{manifest}");
    assert!(manifest.contains(r#""name": "y""#), "{manifest}");
    let weights = program.weights();
    assert_eq!(
        (weights.len(), weights[0].0.as_str(), weights[0].1.shape()),
        (1, "arg1", &[100][..])
    );
}

/// The same graph gives the same bytes; an open size leaves nothing to write.
#[test]
fn programs_are_deterministic() {
    let graph = |n: Dim| {
        let mut b = Builder::new("model");
        let x = b.input("x", TensorType::new(DType::F32, [n]));
        let y = b.prim(Prim::Unary(Unary::Tanh), &[x]).unwrap();
        b.finish(&[y])
    };
    let (a, b) = (program(&graph(7.into())).files(), program(&graph(7.into())).files());
    assert_eq!(a, b);
    assert!(program(&graph(Dim::sym("n"))).files().is_empty());
}

/// What only a run can size is refused before anything is compiled, with a way out.
#[test]
fn sizes_that_only_a_run_tells_are_refused() {
    let mut b = Builder::new("data");
    let x = b.input("x", TensorType::new(DType::F32, [9usize]));
    let places = b.prim(Prim::NonZero, &[x]).unwrap();
    let sum = b.prim(Prim::Reduce { kind: ReduceKind::Max, axes: vec![0] }, &[x]).unwrap();
    let count = b.cast(sum, DType::I64).unwrap();
    let numbers = b.prim(Prim::Iota, &[count]).unwrap();
    let refusals = legalize(&PjrtTarget::default(), &b.finish(&[places, numbers])).unwrap_err();
    let ops: Vec<&str> = refusals.iter().map(|refusal| refusal.op).collect();
    assert_eq!(ops, ["non-zero", "iota"]);
    assert!(refusals.iter().all(|r| r.refused.help.as_ref().is_some_and(|h| h.contains("`cpu`"))));
}
