//! Whole small networks through compile, open and run, against the reference evaluator.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use anychip_chips::Chip;
use anychip_cpu::CpuTarget;
use anychip_ir::{Builder, ConvolutionDims, Graph, Prim, ReduceKind, TensorType, Window, evaluate};
use anychip_target::{CompileOptions, Session, Target, legalize};
use anychip_tensor::{DType, Dim, Tensor};

fn random(shape: &[usize], seed: &mut u64) -> Tensor {
    let data: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| {
            *seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_vec(shape, data).unwrap()
}

fn session(graph: &Graph, threads: usize) -> Box<dyn Session> {
    let target = CpuTarget::new();
    let legal = legalize(&target, graph).unwrap();
    let chip = chip();
    let options = CompileOptions { threads: Some(threads), ..CompileOptions::default() };
    let program = target.compile(&legal, &chip, &options).unwrap();
    let place = target.places().remove(0);
    program.open(&place).unwrap()
}

fn chip() -> Chip {
    // Any row: the target compiles for the processor it runs on.
    anychip_chips::Catalog::builtin().unwrap().find("nvidia-h100-sxm5-80gb").unwrap().clone()
}

fn assert_close(got: &Tensor, want: &Tensor) {
    assert_eq!((got.dtype(), got.shape()), (want.dtype(), want.shape()));
    for (i, (g, w)) in got.to_f64().iter().zip(want.to_f64()).enumerate() {
        assert!((g - w).abs() <= 1e-4 * (1.0 + w.abs()), "element {i}: {g} and {w}");
    }
}

fn compare(graph: &Graph, session: &mut dyn Session, inputs: &[Tensor]) {
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    let want = evaluate(graph, inputs).unwrap();
    for _ in 0..2 {
        let got = session.run(&views).unwrap().outputs;
        assert_eq!(got.len(), want.len());
        got.iter().zip(&want).for_each(|(g, w)| assert_close(g, w));
    }
}

fn mlp(seed: &mut u64) -> Graph {
    let mut b = Builder::new("mlp");
    let mut x = b.input("x", TensorType::new(DType::F32, [Dim::sym("n"), Dim::Fixed(20)]));
    for (from, to) in [(20, 33), (33, 16), (16, 5)] {
        let w = b.constant(random(&[from, to], seed));
        let bias = b.constant(random(&[to], seed));
        let zero = b.scalar(DType::F32, 0.0).unwrap();
        x = b.matmul(x, w, DType::F32).unwrap();
        x = b.add(x, bias).unwrap();
        x = b.max(x, zero).unwrap();
    }
    b.finish(&[x])
}

#[test]
fn a_perceptron_runs_at_several_batch_sizes() {
    let mut seed = 1;
    let graph = mlp(&mut seed);
    for threads in [1, 2] {
        let mut session = session(&graph, threads);
        for n in [1, 7, 64, 7] {
            compare(&graph, session.as_mut(), &[random(&[n, 20], &mut seed)]);
        }
    }
}

#[test]
fn a_convolutional_network_runs() {
    let mut seed = 2;
    let mut b = Builder::new("cnn");
    let mut x =
        b.input("x", TensorType::new(DType::F32, [Dim::sym("n"), 3.into(), 17.into(), 17.into()]));
    let conv =
        |b: &mut Builder, x, m: usize, c: usize, groups: usize, stride: usize, seed: &mut u64| {
            let w = b.constant(random(&[m, c / groups, 3, 3], seed));
            let bias = b.constant(random(&[m, 1, 1], seed));
            let dims = ConvolutionDims {
                strides: vec![stride; 2],
                padding: vec![(1, 1); 2],
                dilation: vec![1; 2],
                input_dilation: vec![1; 2],
                groups,
            };
            let y = b.prim(Prim::Convolution(dims, DType::F32), &[x, w]).unwrap();
            let y = b.add(y, bias).unwrap();
            let zero = b.scalar(DType::F32, 0.0).unwrap();
            b.max(y, zero).unwrap()
        };
    x = conv(&mut b, x, 8, 3, 1, 2, &mut seed);
    let shortcut = x;
    x = conv(&mut b, x, 8, 8, 8, 1, &mut seed);
    x = conv(&mut b, x, 8, 8, 1, 1, &mut seed);
    x = b.add(x, shortcut).unwrap();
    let window = Window {
        size: vec![3; 2],
        strides: vec![2; 2],
        dilation: vec![1; 2],
        padding: vec![(1, 1); 2],
    };
    x = b.prim(Prim::ReduceWindow { kind: ReduceKind::Max, window }, &[x]).unwrap();
    x = b.mean(x, &[2, 3], false).unwrap();
    let w = b.constant(random(&[8, 10], &mut seed));
    x = b.matmul(x, w, DType::F32).unwrap();
    x = b.composite(anychip_ops::Softmax { axis: 1 }, &[x]).unwrap();
    let graph = b.finish(&[x]);
    let mut session = session(&graph, 2);
    for n in [1, 3] {
        compare(&graph, session.as_mut(), &[random(&[n, 3, 17, 17], &mut seed)]);
    }
}
