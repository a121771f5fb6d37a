//! A quantized network as files have it: formed into integer operators, it gives what the reference evaluator gives of those,
//! bit for bit, on every instruction set and any number of threads; and stays within a step of the float form.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use anychip_chips::Chip;
use anychip_cpu::CpuTarget;
use anychip_ir::{
    Binary, Builder, ConvolutionDims, Graph, Op, Prim, ReduceKind, TensorType, ValueId, Window,
    evaluate,
};
use anychip_passes::INTEGER;
use anychip_target::{CompileOptions, Target, legalize};
use anychip_tensor::{DType, Tensor};

/// Random bytes and numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn codes(&mut self, shape: &[usize]) -> Tensor {
        let data: Vec<i8> =
            (0..shape.iter().product()).map(|_| (self.below(255) as i16 - 127) as i8).collect();
        Tensor::from_vec(shape, data).unwrap()
    }
}

/// Quantizes to `u8` and back.
fn requantize(b: &mut Builder, x: ValueId, scale: f32, zero: u8) -> ValueId {
    let (scale, zero) = (b.constant(Tensor::scalar(scale)), b.constant(Tensor::scalar(zero)));
    let quantize = Prim::Quantize { to: DType::U8, saturate: true };
    let codes = b.prim(quantize, &[x, scale, zero]).unwrap();
    b.prim(Prim::Dequantize { to: DType::F32 }, &[codes, scale, zero]).unwrap()
}

/// Weights with a scale a channel, dequantized.
fn weights(b: &mut Builder, random: &mut Random, shape: &[usize], axis: usize) -> ValueId {
    let codes = random.codes(shape);
    let codes = b.constant(codes);
    let mut scales = vec![1; shape.len()];
    scales[axis] = shape[axis];
    let values: Vec<f32> =
        (0..shape[axis]).map(|_| 0.001 + random.below(1000) as f32 * 2e-6).collect();
    let scale = b.constant(Tensor::from_vec(scales, values).unwrap());
    let zero = b.constant(Tensor::scalar(0i8));
    b.prim(Prim::Dequantize { to: DType::F32 }, &[codes, scale, zero]).unwrap()
}

fn convolution(
    b: &mut Builder,
    random: &mut Random,
    x: ValueId,
    (filters, per_group, kernel, stride, groups): (usize, usize, usize, usize, usize),
    rectified: bool,
) -> ValueId {
    let w = weights(b, random, &[filters, per_group, kernel, kernel], 0);
    let pad = (kernel / 2) as i64;
    let dims = ConvolutionDims {
        strides: vec![stride; 2],
        padding: vec![(pad, pad); 2],
        dilation: vec![1; 2],
        input_dilation: vec![1; 2],
        groups,
    };
    let y = b.prim(Prim::Convolution(dims, DType::F32), &[x, w]).unwrap();
    let bias: Vec<f32> = (0..filters).map(|_| random.below(1000) as f32 * 1e-3 - 0.5).collect();
    let bias = b.constant(Tensor::from_vec([filters, 1, 1], bias).unwrap());
    let mut y = b.add(y, bias).unwrap();
    if rectified {
        let zero = b.scalar(DType::F32, 0.0).unwrap();
        y = b.max(y, zero).unwrap();
    }
    requantize(b, y, 0.02, if rectified { 0 } else { 128 })
}

/// What residual networks and mobile ones are made of.
fn network(random: &mut Random) -> Graph {
    let mut b = Builder::new("network");
    let x = b.input("x", TensorType::new(DType::F32, [2usize, 3, 19, 17]));
    let x = requantize(&mut b, x, 1.0 / 128.0, 128);
    let x = convolution(&mut b, random, x, (24, 3, 7, 2, 1), true);
    let window = Window {
        size: vec![3, 3],
        strides: vec![2, 2],
        dilation: vec![1, 1],
        padding: vec![(1, 1), (1, 1)],
    };
    let pooled = b.prim(Prim::ReduceWindow { kind: ReduceKind::Max, window }, &[x]).unwrap();
    let x = requantize(&mut b, pooled, 0.02, 0);
    let wide = convolution(&mut b, random, x, (40, 24, 1, 1, 1), true);
    let deep = convolution(&mut b, random, wide, (40, 1, 3, 1, 40), true);
    let grouped = convolution(&mut b, random, deep, (20, 20, 3, 1, 2), true);
    let back = convolution(&mut b, random, grouped, (24, 20, 3, 1, 1), false);
    let sum = b.add(back, x).unwrap();
    let zero = b.scalar(DType::F32, 0.0).unwrap();
    let sum = b.max(sum, zero).unwrap();
    let x = requantize(&mut b, sum, 0.025, 0);
    let mean = b.mean(x, &[2, 3], false).unwrap();
    let x = requantize(&mut b, mean, 0.02, 0);
    let w = weights(&mut b, random, &[24, 10], 1);
    let y = b.matmul(x, w, DType::F32).unwrap();
    let y = requantize(&mut b, y, 0.01, 128);
    b.finish(&[y])
}

fn chip() -> Chip {
    // Any row: the target compiles for the processor it runs on.
    anychip_chips::Catalog::builtin().unwrap().find("nvidia-h100-sxm5-80gb").unwrap().clone()
}

/// Whether a node computes with floats: all but what quantizes the input and dequantizes the result.
fn is_float(graph: &Graph, op: &Op, inputs: &[ValueId]) -> bool {
    let floats = inputs.iter().any(|&v| graph.ty(v).dtype == DType::F32);
    floats && !matches!(op, Op::Prim(Prim::Quantize { .. } | Prim::Dequantize { .. }))
}

#[test]
fn every_operator_is_in_integers_and_exact() {
    let mut random = Random(5);
    for round in 0..3 {
        let float = network(&mut random);
        let graph = anychip_passes::run(INTEGER, &float, &mut |_| {}).unwrap();
        for node in graph.nodes() {
            assert!(!is_float(&graph, &node.op, &node.inputs), "{} is left", node.op.name());
        }
        let values: Vec<f32> =
            (0..2 * 3 * 19 * 17).map(|_| random.below(2000) as f32 * 1e-3 - 1.0).collect();
        let inputs = [Tensor::from_vec([2, 3, 19, 17], values).unwrap()];
        let want = evaluate(&graph, &inputs).unwrap();
        let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
        for (name, target) in CpuTarget::available() {
            for threads in 1..=3 {
                let legal = legalize(&target, &graph).unwrap();
                let options =
                    CompileOptions { threads: Some(threads), ..CompileOptions::default() };
                let program = target.compile(&legal, &chip(), &options).unwrap();
                let mut session = program.open(&target.places()[0]).unwrap();
                let got = session.run(&views).unwrap().outputs;
                assert_eq!(got[0].bytes(), want[0].bytes(), "round {round}, {name}, {threads}");
                let reference = program.explain();
                let slow: Vec<&String> =
                    reference.iter().filter(|line| line.contains(": reference")).collect();
                assert!(slow.is_empty(), "{slow:?}");
            }
        }
        // The float form rounds otherwise only where a value lies at the border between two codes.
        let float = evaluate(&float, &inputs).unwrap();
        let pairs = want[0].to_f64().into_iter().zip(float[0].to_f64());
        let far = pairs.filter(|(a, b)| (a - b).abs() > 0.011 * 3.0).count();
        assert_eq!(far, 0, "steps between the two forms");
    }
}

#[test]
fn operators_without_two_scales_compute_in_floats() {
    let mut b = Builder::new("half");
    let x = b.input("x", TensorType::new(DType::F32, [4usize, 8]));
    let mut random = Random(1);
    let w = weights(&mut b, &mut random, &[8, 4], 1);
    let y = b.matmul(x, w, DType::F32).unwrap();
    let y = requantize(&mut b, y, 0.01, 128);
    let graph = b.finish(&[y]);
    let formed = anychip_passes::run(INTEGER, &graph, &mut |_| {}).unwrap();
    let names: Vec<&str> = formed.nodes().iter().map(|n| n.op.name()).collect();
    // The weights are read as they are stored.
    assert!(names.contains(&"block-weights-dot"), "{names:?}");
    assert!(!names.contains(&"quantized-dot"), "{names:?}");
    let sum = Op::Prim(Prim::Binary(Binary::Add));
    assert!(formed.nodes().iter().all(|n| n.op != sum));
}
