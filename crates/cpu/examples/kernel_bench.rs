//! Times the kernels on layer shapes of well-known networks: GFLOP/s and share of the peak measured here.
//!
//! `cargo run --release -p anychip-cpu --example kernel_bench -- [THREADS] [FILTER]`
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::too_many_arguments, reason = "a layer is a row of numbers")]

use anychip_cpu::detect::{Cpu, Peaks};
use anychip_cpu::kernel::block_weights::BlockWeights;
use anychip_cpu::kernel::blocked::{
    BLOCK, Dense, DenseWeights, Depthwise, Winograd, WinogradWeights, blocks, depthwise_weights,
};
use anychip_cpu::kernel::conv::{Conv, ConvShape};
use anychip_cpu::kernel::gemm::{A, B, Epilogue, Gemm, GemmShape, Matrix, PackedB};
use anychip_cpu::pool::Pool;
use std::time::Instant;

struct Bench {
    cpu: Cpu,
    pool: Pool,
    threads: usize,
    peak: f64,
    filter: String,
}

impl Bench {
    /// Best of several runs within about 60 ms.
    fn time(&self, name: &str, flops: f64, mut run: impl FnMut()) {
        if !name.contains(&self.filter) {
            return;
        }
        run();
        let (mut best, start) = (f64::INFINITY, Instant::now());
        let mut rounds = 0;
        while rounds < 3 || (start.elapsed().as_secs_f64() < 0.06 && rounds < 1000) {
            let begin = Instant::now();
            run();
            best = best.min(begin.elapsed().as_secs_f64());
            rounds += 1;
        }
        let rate = flops / best;
        println!(
            "{name:<54} {:>9.1} us {:>8.1} GFLOP/s {:>5.1} %",
            best * 1e6,
            rate / 1e9,
            100.0 * rate / self.peak
        );
    }

    fn gemm(&self, name: &str, m: usize, n: usize, k: usize) {
        let (a, b) = (vec![0.5f32; m * k], vec![0.25f32; k * n]);
        let mut c = vec![0.0f32; m * n];
        let (a_view, b_view) = (Matrix::row_major(&a, k), Matrix::row_major(&b, n));
        let packed = PackedB::new(self.cpu.simd, k, n, &b_view);
        for b_packed in [true, false] {
            let gemm = Gemm::new(
                self.cpu.simd,
                self.threads,
                GemmShape { m, n, k, a_packed: false, b_packed },
            );
            let mut scratch = vec![0.0; gemm.scratch_len()];
            let right = if b_packed { B::Packed(&packed) } else { B::Matrix(b_view) };
            let label = format!("gemm {name} {m}x{n}x{k}{}", if b_packed { " packed" } else { "" });
            self.time(&label, 2.0 * (m * n * k) as f64, || {
                gemm.run(
                    A::Matrix(a_view),
                    right,
                    &mut c,
                    n,
                    &Epilogue::default(),
                    &mut scratch,
                    &self.pool,
                );
            });
        }
        self.blocked_product(&format!("gemm {name} {m}x{n}x{k}"), m, n, k);
    }

    /// A product with codes of four bits, a scale each 32.
    fn block_weights(&self, m: usize, n: usize, k: usize) {
        let (a, mut c) = (vec![0.5f32; m * k], vec![0.0f32; m * n]);
        let scales = vec![0.25; n * k / 32];
        let code = |i: usize| (i % 16) as i32;
        let weights = BlockWeights::new((n, k / 32, 32), true, scales, &code, &|_| 8);
        let weights = weights.expect("codes of four bits");
        let gemm = weights.many_rows(self.cpu.simd, self.threads, (m, k));
        let scratch = gemm.as_ref().map_or(weights.scratch_len(m), Gemm::scratch_len);
        let mut scratch = vec![0.0; scratch];
        self.time(&format!("blocks of four bits {m}x{n}x{k}"), 2.0 * (m * n * k) as f64, || {
            let scratch = &mut scratch[..];
            match &gemm {
                Some(gemm) => weights.run_many(gemm, k, &a, &mut c, scratch, &self.pool),
                None => weights.run(self.cpu.simd, (m, k), &a, &mut c, scratch, &self.pool),
            }
        });
    }

    /// The same product on blocks: rows are pixels, columns of the left side are channels.
    fn blocked_product(&self, label: &str, m: usize, n: usize, k: usize) {
        let zero: (&[isize], &[isize]) = (&[0, 0], &[0, 0]);
        let shape = ConvShape::new((1, k, n, 1), &[1, m], &[1, 1], &[1, 1], &[1, 1], zero);
        let shape = shape.expect("a product is a convolution of one tap");
        let weights = DenseWeights::new(self.cpu.simd, &shape, false, &|_, out| out.fill(0.25));
        let conv = Dense::new(self.cpu.simd, self.threads, &shape, false);
        let (input, mut output) =
            (vec![0.5f32; blocks(k) * BLOCK * m], vec![0.0f32; blocks(n) * BLOCK * m]);
        let mut scratch = vec![0.0f32; conv.scratch_len()];
        let epilogue = Epilogue::default();
        self.time(&format!("{label} blocked"), 2.0 * shape.macs() as f64, || {
            conv.run(&weights, &input, &mut output, &epilogue, &mut scratch, &self.pool);
        });
    }

    /// A square layer: channels, filters, groups, size, kernel, stride, dilation.
    fn conv(
        &self,
        name: &str,
        c: usize,
        f: usize,
        g: usize,
        size: usize,
        k: usize,
        s: usize,
        d: usize,
    ) {
        let pad = (k / 2 * d) as isize;
        let shape = ConvShape::new(
            (1, c, f, g),
            &[size, size],
            &[k, k],
            &[s, s],
            &[d, d],
            (&[pad, pad], &[pad, pad]),
        );
        let shape = shape.expect("the layers below are valid");
        let (input, weights) = (vec![0.5f32; c * size * size], vec![0.25f32; shape.weights_len()]);
        let conv = Conv::new(self.cpu.simd, self.threads, &shape, &weights, false);
        let mut output = vec![0.0f32; f * shape.output_pixels()];
        let mut scratch = vec![0.0f32; conv.scratch_len()];
        let bias = vec![0.1f32; f];
        let epilogue = Epilogue { row_bias: Some(&bias), ..Epilogue::default() };
        let label = format!("conv {name} {c}x{size}x{size} {f} {k}x{k}/{s} g{g} d{d}");
        self.time(&label, 2.0 * shape.macs() as f64, || {
            conv.run(&input, &mut output, &epilogue, &mut scratch, &self.pool);
        });
        let rows = c <= 4;
        let (input_blocks, output_blocks) = (blocks(c) * BLOCK, blocks(f) * BLOCK);
        let input = vec![0.5f32; if rows { c } else { input_blocks } * size * size];
        let mut output = vec![0.0f32; output_blocks * shape.output_pixels()];
        let bias = vec![0.1f32; output_blocks];
        let epilogue = Epilogue { column_bias: Some(&bias), ..Epilogue::default() };
        let label = format!("{label} blocked");
        if g > 1 {
            let weights = depthwise_weights(c, k * k, &weights);
            let conv = Depthwise::new(self.cpu.simd, &shape);
            self.time(&label, 2.0 * shape.macs() as f64, || {
                conv.run(&weights, &input, &mut output, &epilogue, &self.pool);
            });
            return;
        }
        let plain = weights;
        let weights = DenseWeights::new(self.cpu.simd, &shape, rows, &|run, out| {
            out.copy_from_slice(&plain[run]);
        });
        let conv = Dense::new(self.cpu.simd, self.threads, &shape, rows);
        let mut scratch = vec![0.0f32; conv.scratch_len()];
        self.time(&label, 2.0 * shape.macs() as f64, || {
            conv.run(&weights, &input, &mut output, &epilogue, &mut scratch, &self.pool);
        });
        let sizes = [false, true].map(|relaxed| Winograd::size(self.cpu.simd, &shape, relaxed));
        for size in sizes.into_iter().flatten().filter(|_| !rows) {
            let weights = WinogradWeights::new(self.cpu.simd, &shape, size, &|run, out| {
                out.copy_from_slice(&plain[run]);
            });
            let conv = Winograd::new(self.cpu.simd, self.threads, &shape, size);
            let mut scratch = vec![0.0f32; conv.scratch_len()];
            let label = format!("{label} winograd {size:?}");
            self.time(&label, 2.0 * shape.macs() as f64, || {
                conv.run(&weights, &input, &mut output, &epilogue, &mut scratch, &self.pool);
            });
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().and_then(|t| t.parse().ok()).unwrap_or(1);
    let (cpu, pool) = (Cpu::detect(), Pool::new(threads));
    let peaks = Peaks::measure(cpu.simd, &pool);
    println!("{cpu:?}\n{peaks:?}");
    let start = Instant::now();
    for _ in 0..1000 {
        pool.parallel_for(threads, |_, _| {});
    }
    println!("empty parallel loop: {:.2} us", start.elapsed().as_secs_f64() * 1e3);
    let peak = if threads == 1 { peaks.flops_one_core } else { peaks.flops_all_cores };
    let bench = Bench { cpu, pool, threads, peak, filter: arguments.next().unwrap_or_default() };

    bench.gemm("square", 1024, 1024, 1024);
    bench.gemm("bert proj", 128, 768, 768);
    bench.gemm("bert up", 128, 3072, 768);
    bench.gemm("bert down", 128, 768, 3072);
    bench.gemm("vit qkv", 197, 2304, 768);
    bench.gemm("attention qk", 128, 128, 64);
    bench.gemm("gpt2 decode", 1, 3072, 768);
    bench.gemm("classifier", 1, 1000, 2048);
    for rows in [1, 4, 8, 16, 64, 128] {
        bench.block_weights(rows, 3072, 768);
    }

    for (c, f, size, k, s) in [
        (3, 64, 224, 7, 2),
        (64, 64, 56, 1, 1),
        (64, 64, 56, 3, 1),
        (64, 256, 56, 1, 1),
        (256, 64, 56, 1, 1),
        (128, 128, 56, 3, 2),
        (256, 512, 56, 1, 2),
        (128, 128, 28, 3, 1),
        (128, 512, 28, 1, 1),
        (512, 128, 28, 1, 1),
        (256, 256, 14, 3, 1),
        (256, 1024, 14, 1, 1),
        (1024, 256, 14, 1, 1),
        (512, 512, 7, 3, 1),
        (512, 2048, 7, 1, 1),
        (2048, 512, 7, 1, 1),
    ] {
        bench.conv("resnet50", c, f, 1, size, k, s, 1);
    }
    for (c, f, k, d) in [(512, 512, 3, 2), (512, 2048, 1, 1), (2048, 512, 1, 1), (2048, 256, 3, 12)]
    {
        bench.conv("deeplab", c, f, 1, 28, k, 1, d);
    }
    for (c, f, g, size, k, s) in [
        (3, 32, 1, 224, 3, 2),
        (32, 32, 32, 112, 3, 1),
        (32, 16, 1, 112, 1, 1),
        (16, 96, 1, 112, 1, 1),
        (96, 96, 96, 112, 3, 2),
        (96, 24, 1, 56, 1, 1),
        (144, 144, 144, 56, 3, 1),
        (24, 144, 1, 56, 1, 1),
        (384, 384, 384, 14, 3, 1),
        (384, 64, 1, 14, 1, 1),
        (960, 960, 960, 7, 3, 1),
        (960, 320, 1, 7, 1, 1),
        (320, 1280, 1, 7, 1, 1),
        (240, 240, 240, 28, 5, 1),
    ] {
        bench.conv("mobilenet", c, f, g, size, k, s, 1);
    }
}
