//! Times the reference evaluator on a convolution and a product of the sizes in large vision models.
//!
//! `cargo run --release -p anychip-ir --example evaluate_speed`

use std::time::Instant;

use anychip_ir::{ConvolutionDims, DotDims, Prim, evaluate_prim};
use anychip_tensor::{DType, Tensor};

fn values(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let data: Vec<f32> = (0..count).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5).collect();
    Tensor::from_vec(shape, data).expect("as many values as the shape holds")
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn report(name: &str, macs: f64, prim: &Prim, operands: &[Tensor]) {
    let start = Instant::now();
    let result = evaluate_prim(prim, &[], operands).expect("the operands fit");
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{name}: {:.2} s, {:.2} GMAC/s, {:?}",
        seconds,
        macs / seconds / 1e9,
        result[0].shape()
    );
}

fn main() {
    let same = ConvolutionDims {
        strides: vec![1, 1],
        padding: vec![(1, 1), (1, 1)],
        dilation: vec![1, 1],
        input_dilation: vec![1, 1],
        groups: 1,
    };
    for (channels, size) in [(64, 224), (256, 56), (512, 14)] {
        let operands = [values(&[1, channels, size, size]), values(&[channels, channels, 3, 3])];
        let macs = (channels * channels * 9 * size * size) as f64;
        let prim = Prim::Convolution(same.clone(), DType::F32);
        report(&format!("convolution {channels}x{size}x{size}"), macs, &prim, &operands);
    }
    let dims = DotDims { lhs_contract: vec![1], rhs_contract: vec![0], ..DotDims::default() };
    for (m, k, n) in [(1, 25088, 4096), (197, 768, 3072)] {
        let operands = [values(&[m, k]), values(&[k, n])];
        let prim = Prim::DotGeneral(dims.clone(), DType::F32);
        report(&format!("dot {m}x{k}x{n}"), (m * k * n) as f64, &prim, &operands);
    }
}
