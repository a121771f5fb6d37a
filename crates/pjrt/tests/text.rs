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
    check(
        &b.finish(&[y]),
        expect![[r#"
        module @model {
          func.func public @main(%arg0: tensor<2x3xf32>, %arg1: tensor<3x40xf32>) -> (tensor<2x40xf32>) {
          %0 = "stablehlo.dot_general"(%arg0, %arg1) {dot_dimension_numbers = #stablehlo.dot<lhs_batching_dimensions = [], rhs_batching_dimensions = [], lhs_contracting_dimensions = [1], rhs_contracting_dimensions = [0]>, precision_config = [#stablehlo<precision HIGHEST>, #stablehlo<precision HIGHEST>]} : (tensor<2x3xf32>, tensor<3x40xf32>) -> tensor<2x40xf32> loc("dense_1")
          %1 = "stablehlo.constant"() {value = dense<0x00000000> : tensor<f32>} : () -> tensor<f32>
          %2 = "stablehlo.broadcast_in_dim"(%1) {broadcast_dimensions = array<i64>} : (tensor<f32>) -> tensor<2x40xf32>
          %3 = "stablehlo.maximum"(%0, %2) : (tensor<2x40xf32>, tensor<2x40xf32>) -> tensor<2x40xf32>
          "func.return"(%3) : (tensor<2x40xf32>) -> ()
          }
        }
    "#]],
    );
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
    check(
        &b.finish(&[y]),
        expect![[r#"
        module @model {
          func.func public @main(%arg0: tensor<1x2x5x5xi8>) -> (tensor<1x1xi32>) {
          %0 = "stablehlo.constant"() {value = dense<"0x0101010101010101"> : tensor<1x2x2x2xi8>} : () -> tensor<1x2x2x2xi8>
          %1 = "stablehlo.convolution"(%arg0, %0) {batch_group_count = 1 : i64, dimension_numbers = #stablehlo.conv<[b, f, 0, 1]x[o, i, 0, 1]->[b, f, 0, 1]>, feature_group_count = 1 : i64, lhs_dilation = array<i64: 1, 1>, padding = dense<[[1, 0], [0, 0]]> : tensor<2x2xi64>, precision_config = [#stablehlo<precision HIGHEST>, #stablehlo<precision HIGHEST>], rhs_dilation = array<i64: 1, 1>, window_strides = array<i64: 2, 1>} : (tensor<1x2x5x5xi8>, tensor<1x2x2x2xi8>) -> tensor<1x1x3x4xi32>
          %2 = "stablehlo.constant"() {value = dense<0> : tensor<i32>} : () -> tensor<i32>
          %6 = "stablehlo.reduce"(%1, %2) ({
          ^bb0(%3: tensor<i32>, %4: tensor<i32>):
            %5 = "stablehlo.add"(%3, %4) : (tensor<i32>, tensor<i32>) -> tensor<i32>
            "stablehlo.return"(%5) : (tensor<i32>) -> ()
          }) {dimensions = array<i64: 2, 3>} : (tensor<1x1x3x4xi32>, tensor<i32>) -> tensor<1x1xi32>
          "func.return"(%6) : (tensor<1x1xi32>) -> ()
          }
        }
    "#]],
    );
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
    check(
        &b.finish(&[y]),
        expect![[r#"
        module @model {
          func.func public @main(%arg0: tensor<i1>, %arg1: tensor<4xf16>) -> (tensor<4xf16>) {
          %4 = "stablehlo.if"(%arg0) ({
            %0 = "stablehlo.negate"(%arg1) : (tensor<4xf16>) -> tensor<4xf16>
            "stablehlo.return"(%0) : (tensor<4xf16>) -> ()
          }, {
            %1 = "stablehlo.convert"(%arg1) : (tensor<4xf16>) -> tensor<4xf32>
            %2 = "stablehlo.exponential"(%1) : (tensor<4xf32>) -> tensor<4xf32>
            %3 = "stablehlo.convert"(%2) : (tensor<4xf32>) -> tensor<4xf16>
            "stablehlo.return"(%3) : (tensor<4xf16>) -> ()
          }) : (tensor<i1>) -> tensor<4xf16>
          "func.return"(%4) : (tensor<4xf16>) -> ()
          }
        }
    "#]],
    );
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
