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

/// A network of all that works on blocks: a first convolution from rows, strides, uneven padding, depthwise, squeeze and
/// excite with its pixels channels-last for a while, pooling, a concatenation, a residual, and means at the end.
fn mobile(seed: &mut u64) -> Graph {
    let mut b = Builder::new("mobile");
    let dims = [Dim::sym("n"), Dim::Fixed(3), Dim::Fixed(21), Dim::Fixed(18)];
    let x = b.input("x", TensorType::new(DType::F32, dims));
    let mut conv = |b: &mut Builder, x, shape: [usize; 4], stride: usize, groups: usize| {
        // Each filter sums to about one.
        let scale = ((shape[1] * shape[2] * shape[3]) as f64).powf(-0.5);
        let w = b.constant(random(&shape, seed));
        let w = b.scale(w, scale).unwrap();
        let bias = b.constant(random(&[1, shape[0], 1, 1], seed));
        let p = (shape[2] as i64 - 1) / 2;
        let dims = ConvolutionDims {
            strides: vec![stride; 2],
            padding: vec![(p, p), (0, 2 * p)],
            dilation: vec![1, 1],
            input_dilation: vec![1, 1],
            groups,
        };
        let y = b.prim(Prim::Convolution(dims, DType::F32), &[x, w]).unwrap();
        b.add(y, bias).unwrap()
    };
    let zero = b.scalar(DType::F32, 0.0).unwrap();
    let a = conv(&mut b, x, [24, 3, 3, 3], 2, 1);
    let a = b.max(a, zero).unwrap();
    let expanded = conv(&mut b, a, [40, 24, 1, 1], 1, 1);
    let gate = b.sigmoid(expanded).unwrap();
    let expanded = b.mul(expanded, gate).unwrap();
    let deep = conv(&mut b, expanded, [40, 1, 5, 5], 1, 40);
    // Squeeze and excite, its single pixels channels-last in between.
    let mean = b.mean(deep, &[2, 3], true).unwrap();
    let squeezed = conv(&mut b, mean, [9, 40, 1, 1], 1, 1);
    let last = b.transpose(squeezed, &[0, 2, 3, 1]).unwrap();
    let dims = b.dims(last);
    let last = b.reshape(last, &dims).unwrap();
    let shift = b.constant(random(&[9], &mut 1));
    let last = b.add(last, shift).unwrap();
    let first = b.transpose(last, &[0, 3, 1, 2]).unwrap();
    let excited = conv(&mut b, first, [40, 9, 1, 1], 1, 1);
    let excited = b.sigmoid(excited).unwrap();
    let scaled = b.mul(deep, excited).unwrap();
    let projected = conv(&mut b, scaled, [24, 40, 1, 1], 1, 1);
    let residual = b.add(projected, a).unwrap();
    let window = Window {
        size: vec![3, 3],
        strides: vec![2, 2],
        dilation: vec![1, 1],
        padding: vec![(1, 1), (1, 1)],
    };
    let pooled = b.prim(Prim::ReduceWindow { kind: ReduceKind::Max, window }, &[residual]).unwrap();
    let wide = conv(&mut b, pooled, [32, 24, 3, 3], 1, 1);
    let joined = b.concat(&[wide, pooled], 1).unwrap();
    let mean = b.mean(joined, &[2, 3], false).unwrap();
    b.finish(&[mean, joined])
}

/// Constant scales are the same for all images, unlike those that squeeze-and-excite computes.
#[test]
fn scales_for_all_images_apply_to_each() {
    let mut seed = 5;
    let mut b = Builder::new("scaled");
    let dims = [Dim::sym("n"), Dim::Fixed(3), Dim::Fixed(9), Dim::Fixed(8)];
    let x = b.input("x", TensorType::new(DType::F32, dims));
    let dims = ConvolutionDims {
        strides: vec![1; 2],
        padding: vec![(0, 0); 2],
        dilation: vec![1; 2],
        input_dilation: vec![1; 2],
        groups: 1,
    };
    let w = b.constant(random(&[40, 3, 1, 1], &mut seed));
    let a = b.prim(Prim::Convolution(dims.clone(), DType::F32), &[x, w]).unwrap();
    let a = b.sigmoid(a).unwrap();
    let scales = b.constant(random(&[1, 40, 1, 1], &mut seed));
    let a = b.mul(a, scales).unwrap();
    let w = b.constant(random(&[24, 40, 1, 1], &mut seed));
    let y = b.prim(Prim::Convolution(dims, DType::F32), &[a, w]).unwrap();
    let graph = b.finish(&[y]);
    for n in [1, 3] {
        let mut session = session(&graph, 1);
        compare(&graph, session.as_mut(), &[random(&[n, 3, 9, 8], &mut seed)]);
    }
}

#[test]
fn a_mobile_network_runs_on_blocks() {
    let mut seed = 4;
    let graph = mobile(&mut seed);
    for threads in [1, 2] {
        let mut session = session(&graph, threads);
        for n in [1, 3] {
            compare(&graph, session.as_mut(), &[random(&[n, 3, 21, 18], &mut seed)]);
        }
    }
}
