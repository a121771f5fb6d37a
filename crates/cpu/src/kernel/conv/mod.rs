//! `f32` convolution, NCHW in and out: one to three spatial axes, groups, dilation, uneven padding, transposed, prepacked weights.
//!
//! v1: plain loops ([`reference`]). v2: patches packed panel by panel into the matrix product, depthwise direct
//! (figures: `cargo run --release -p anychip-cpu --example kernel_bench -- 1 conv`).

mod depthwise;
mod im2col;
mod reference;
mod shape;
pub(crate) mod stage;

pub use reference::reference;
pub use shape::ConvShape;

use std::sync::Arc;

use super::activation::activate_rows;
use super::gemm::blocks::{Blocks, Out, PackA, SideA, SideB};
use super::gemm::{Epilogue, Matrix, PackedA};
use super::{Scratch, SharedMut, split_evenly};
use crate::detect::Simd;
use crate::pool::Pool;
use crate::simd::dispatch;
use crate::weights::Slot;
use stage::Planes;

/// A prepared convolution; owns its packed weights.
#[derive(Clone, Debug)]
pub struct Conv {
    shape: ConvShape,
    simd: Simd,
    threads: usize,
    planes: Planes,
    weights: Arc<ConvWeights>,
    method: Method,
}

/// A convolution's weights as its kernels read them: the same for every batch and input size.
#[derive(Debug)]
pub enum ConvWeights {
    /// Each group packed.
    Packed(Vec<PackedA>),
    /// As given: one input channel a group.
    Plain(Vec<f32>),
}

impl ConvWeights {
    /// Packs weights, given as [`Conv::new`] takes them.
    ///
    /// # Panics
    /// When there are not [`ConvShape::weights_len`] weights.
    pub fn new(simd: Simd, shape: &ConvShape, weights: &[f32], transposed: bool) -> Self {
        assert_eq!(weights.len(), shape.weights_len(), "weights of the convolution");
        let mirrored;
        let weights = if transposed {
            mirrored = mirror(shape, weights);
            &mirrored
        } else {
            weights
        };
        if is_depthwise(shape) {
            return Self::Plain(weights.to_vec());
        }
        let (filters, k) =
            (shape.filters / shape.groups, shape.channels / shape.groups * shape.taps());
        let group = |g: usize| {
            let part = &weights[g * filters * k..(g + 1) * filters * k];
            PackedA::new(simd.at_most(), filters, k, &Matrix::row_major(part, k))
        };
        Self::Packed((0..shape.groups).map(group).collect())
    }

    /// As [`ConvWeights::new`] of weights that are not transposed and that `read` gives in runs of elements.
    pub fn from_runs(
        simd: Simd,
        shape: &ConvShape,
        read: &(dyn Fn(std::ops::Range<usize>, &mut [f32]) + Sync),
    ) -> Self {
        if is_depthwise(shape) {
            let mut weights = vec![0.0; shape.weights_len()];
            read(0..weights.len(), &mut weights);
            return Self::Plain(weights);
        }
        let (filters, k) =
            (shape.filters / shape.groups, shape.channels / shape.groups * shape.taps());
        let group = |g: usize| {
            let start = g * filters * k;
            let read = |run: std::ops::Range<usize>, out: &mut [f32]| {
                read(start + run.start..start + run.end, out);
            };
            PackedA::from_runs(simd, filters, k, &read, Slot::default())
        };
        Self::Packed((0..shape.groups).map(group).collect())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Packed(weights) => weights.iter().map(PackedA::bytes).sum(),
            Self::Plain(weights) => weights.len() * 4,
        }
    }
}

fn is_depthwise(shape: &ConvShape) -> bool {
    shape.channels == shape.groups && shape.groups > 1 && shape.taps() > 1
}

#[derive(Clone, Debug)]
enum Method {
    /// Patches packed on the fly.
    Product { blocks: Blocks, linear: bool },
    /// One input channel a group.
    Depthwise,
}

impl Conv {
    /// Prepares a convolution for pools of up to `threads` threads.
    ///
    /// `weights` are `filters × channels/groups × kernel`, or with `transposed` (a shape from [`ConvShape::transposed`])
    /// `channels × filters/groups × kernel`, as ONNX has them.
    ///
    /// # Panics
    /// When there are not [`ConvShape::weights_len`] weights.
    pub fn new(
        simd: Simd,
        threads: usize,
        shape: &ConvShape,
        weights: &[f32],
        transposed: bool,
    ) -> Self {
        Self::with_weights(
            simd,
            threads,
            shape,
            Arc::new(ConvWeights::new(simd, shape, weights, transposed)),
        )
    }

    /// As [`Conv::new`], with weights packed before, perhaps for another batch or input size.
    ///
    /// # Panics
    /// When the weights are those of another kernel.
    pub fn with_weights(
        simd: Simd,
        threads: usize,
        shape: &ConvShape,
        weights: Arc<ConvWeights>,
    ) -> Self {
        let (simd, threads) = (simd.at_most(), threads.max(1));
        let planes = Planes::new(shape);
        let (channels, filters) = (shape.channels / shape.groups, shape.filters / shape.groups);
        let k = channels * shape.taps();
        let fits = match &*weights {
            ConvWeights::Plain(weights) => {
                is_depthwise(shape) && weights.len() == shape.weights_len()
            }
            ConvWeights::Packed(groups) => {
                let same = |p: &PackedA| (p.m, p.k, p.simd) == (filters, k, simd);
                !is_depthwise(shape) && groups.len() == shape.groups && groups.iter().all(same)
            }
        };
        assert!(fits, "weights of another convolution");
        let method = if is_depthwise(shape) {
            Method::Depthwise
        } else {
            let [_, height, width] = shape.output();
            let linear = (planes.row == width && shape.stride == [1; 3] && shape.taps() == 1)
                || height * shape.output()[0] == 1;
            let blocks = Blocks::new(
                simd,
                (filters, shape.output_pixels(), k),
                shape.groups,
                threads,
                (PackA::Before, true),
            );
            Method::Product { blocks, linear }
        };
        Self { shape: *shape, simd, threads, planes, weights, method }
    }

    /// The shape it was prepared for.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Bytes of packed weights held.
    pub fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    fn staged_len(&self) -> usize {
        match self.method {
            Method::Product { .. } if !self.planes.in_place => {
                (self.shape.channels * self.planes.len).next_multiple_of(16)
            }
            _ => 0,
        }
    }

    fn per_thread(&self) -> usize {
        match &self.method {
            Method::Product { blocks, .. } => blocks.scratch_per_thread(),
            Method::Depthwise => self.planes.len + 64,
        }
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        self.staged_len() + Scratch::len(self.per_thread(), self.threads)
    }

    /// Computes the convolution. The epilogue's `row_bias` is one value a filter; its `residual` is laid out as the output;
    /// `column_bias` is not used.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says, or the pool has more threads than prepared for.
    pub fn run(
        &self,
        input: &[f32],
        output: &mut [f32],
        epilogue: &Epilogue<'_>,
        scratch: &mut [f32],
        pool: &Pool,
    ) {
        let s = &self.shape;
        let (image, result) = (s.channels * s.input_pixels(), s.filters * s.output_pixels());
        assert!(input.len() >= s.batch * image, "input shorter than its shape");
        assert!(output.len() >= s.batch * result, "output shorter than its shape");
        assert!(
            epilogue.row_bias.is_none_or(|b| b.len() >= s.filters),
            "bias shorter than the filters"
        );
        assert!(
            epilogue.residual.is_none_or(|r| r.len() >= s.batch * result),
            "residual shorter than the output"
        );
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        if result == 0 {
            return;
        }
        let (staged, scratch) = scratch.split_at_mut(self.staged_len());
        let scratch = Scratch::split(scratch, self.per_thread(), self.threads);
        match (&self.method, &*self.weights) {
            (Method::Depthwise, ConvWeights::Plain(weights)) => {
                self.depthwise(weights, input, output, epilogue, scratch, pool);
            }
            (Method::Depthwise, ConvWeights::Packed(_))
            | (Method::Product { .. }, ConvWeights::Plain(_)) => {
                unreachable!("checked when it was prepared")
            }
            (Method::Product { blocks, linear }, ConvWeights::Packed(weights)) => {
                for b in 0..s.batch {
                    let image = &input[b * image..(b + 1) * image];
                    let rows = &mut output[b * result..(b + 1) * result];
                    let epilogue = Epilogue {
                        residual: epilogue.residual.map(|r| &r[b * result..]),
                        ..*epilogue
                    };
                    let planes = self.stage(image, staged, pool);
                    self.product(weights, blocks, *linear, planes, rows, &epilogue, scratch, pool);
                }
            }
        }
    }

    /// The planes of one image, written to `staged` unless the image is already laid out so.
    fn stage<'a>(&self, image: &'a [f32], staged: &'a mut [f32], pool: &Pool) -> &'a [f32] {
        if self.planes.in_place {
            return image;
        }
        let channels = self.shape.channels;
        // A task of some 16 thousand elements is a few microseconds.
        let parts = (channels * self.planes.len / 16_384).clamp(1, 4 * pool.threads());
        let unit = split_evenly(channels, parts, 1);
        let to = SharedMut::new(staged);
        pool.parallel_for(channels.div_ceil(unit), |task, _| {
            for c in task * unit..((task + 1) * unit).min(channels) {
                // SAFETY: each channel reads and writes its own range, both within the slices.
                unsafe {
                    let from = image.as_ptr().add(c * self.shape.input_pixels());
                    self.planes.write(self.simd, from, to.get().add(c * self.planes.len), 0.0);
                }
            }
        });
        staged
    }

    fn product(
        &self,
        weights: &[PackedA],
        blocks: &Blocks,
        linear: bool,
        planes: &[f32],
        output: &mut [f32],
        epilogue: &Epilogue<'_>,
        scratch: Scratch,
        pool: &Pool,
    ) {
        let s = &self.shape;
        let (channels, filters, pixels) =
            (s.channels / s.groups, s.filters / s.groups, s.output_pixels());
        let out = SharedMut::new(output);
        let tasks = blocks.tasks();
        pool.parallel_for(tasks * s.groups, |task, thread| {
            let group = task / tasks;
            let patches = im2col::Patches {
                planes: &self.planes,
                data: planes[group * channels * self.planes.len..].as_ptr(),
                width: s.output()[2],
                linear,
            };
            let epilogue = Epilogue {
                row_bias: epilogue.row_bias.map(|b| &b[group * filters..]),
                column_bias: None,
                residual: epilogue.residual.map(|r| &r[group * filters * pixels..]),
                ..*epilogue
            };
            // SAFETY: lengths were checked in `run`; each task is a block of its own; the scratch part is this thread's.
            unsafe {
                let out = Out { c: out.get().add(group * filters * pixels), stride: pixels };
                let (a, b) = (SideA::Packed(&weights[group]), SideB::Source(&patches));
                blocks.run(task % tasks, a, b, out, &epilogue, scratch.part(thread));
            }
        });
    }

    fn depthwise(
        &self,
        weights: &[f32],
        input: &[f32],
        output: &mut [f32],
        epilogue: &Epilogue<'_>,
        scratch: Scratch,
        pool: &Pool,
    ) {
        let s = &self.shape;
        let [depth, height, width] = s.output();
        let (pixels, multiplier) = (s.output_pixels(), s.filters / s.channels);
        let clamp = epilogue.activation.as_clamp();
        let (low, high) = clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let out = SharedMut::new(output);
        let planes = s.batch * s.channels;
        let flat = s.kernel[0] == 1
            && depth == 1
            && s.dilation[1..] == [1, 1]
            && s.kernel[1] == s.kernel[2];
        let square = if flat { s.kernel[1] } else { 0 };
        let parts =
            (planes * pixels * s.taps() * multiplier / 200_000).clamp(1, 4 * pool.threads());
        let unit = split_evenly(planes, parts, 1);
        pool.parallel_for(planes.div_ceil(unit), |task, thread| {
            for plane in task * unit..((task + 1) * unit).min(planes) {
                let staged = scratch.part(thread);
                // SAFETY: the scratch part holds a plane and a vector beyond; the input channel is within the input.
                unsafe {
                    self.planes.write(
                        self.simd,
                        input.as_ptr().add(plane * s.input_pixels()),
                        staged,
                        0.0,
                    );
                };
                for m in 0..multiplier {
                    let result = plane * multiplier + m;
                    let filter = result % s.filters;
                    // SAFETY: each filter of each image is written by one task; offsets are within the checked slices.
                    let to = unsafe { out.get().add(result * pixels) };
                    let channel = depthwise::Channel {
                        planes: &self.planes,
                        plane: staged,
                        weights: &weights[filter * s.taps()..(filter + 1) * s.taps()],
                        output: to,
                        residual: epilogue
                            .residual
                            .map_or(std::ptr::null(), |r| r[result * pixels..].as_ptr()),
                        lines: depth * height,
                        width,
                        square,
                        stride: s.stride[1],
                        bias: epilogue.row_bias.map_or(0.0, |b| b[filter]),
                        low,
                        high,
                    };
                    dispatch(self.simd, channel);
                    if clamp.is_none() {
                        // SAFETY: the result just written, still ours.
                        unsafe { activate_rows(self.simd, epilogue.activation, to, 1, pixels, 0) };
                    }
                }
            }
        });
    }
}

/// `channels × filters/groups × kernel` of a transposed convolution to the mirrored `filters × channels/groups × kernel`.
fn mirror(s: &ConvShape, weights: &[f32]) -> Vec<f32> {
    let (channels, filters, taps) = (s.channels / s.groups, s.filters / s.groups, s.taps());
    let mut out = vec![0.0; weights.len()];
    for g in 0..s.groups {
        for c in 0..channels {
            for f in 0..filters {
                for t in 0..taps {
                    let to = ((g * filters + f) * channels + c) * taps + (taps - 1 - t);
                    out[to] = weights[((g * channels + c) * filters + f) * taps + t];
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::activation::Activation;
    use crate::kernel::testing::{Random, assert_close};

    fn compare(simd: Simd, random: &mut Random, shape: &ConvShape) {
        let threads = 1 + random.below(2);
        let pool = Pool::new(threads);
        let input = random.floats(shape.batch * shape.channels * shape.input_pixels());
        let weights = random.floats(shape.weights_len());
        let len = shape.batch * shape.filters * shape.output_pixels();
        let (bias, residual) = (random.floats(shape.filters), random.floats(len));
        let epilogue = Epilogue {
            row_bias: (random.below(2) == 1).then_some(&bias[..]),
            column_bias: None,
            residual: (random.below(2) == 1).then_some(&residual[..]),
            activation: [Activation::None, Activation::Relu, Activation::HardSwish]
                [random.below(3)],
        };
        let mut want = vec![f32::NAN; len];
        reference(shape, &input, &weights, &mut want, &epilogue);
        let conv = Conv::new(simd, threads, shape, &weights, false);
        let (mut got, mut scratch) = (vec![f32::NAN; len], vec![f32::NAN; conv.scratch_len()]);
        conv.run(&input, &mut got, &epilogue, &mut scratch, &pool);
        let k = shape.channels / shape.groups * shape.taps();
        assert_close(
            &got,
            &want,
            1e-5 * (k as f32).sqrt().max(1.0),
            &format!("{simd:?} {shape:?}"),
        );
    }

    #[test]
    fn random_shapes_match_the_reference() {
        let mut random = Random::new(0xBEEF);
        for simd in Simd::available() {
            let mut done = 0;
            while done < crate::kernel::testing::rounds(150) {
                let rank = 1 + random.below(3);
                let groups = 1 + random.below(3);
                let depthwise = random.below(3) == 0;
                let channels = groups * if depthwise { 1 } else { 1 + random.below(9) };
                let filters = groups * (1 + random.below(20));
                let mut axis = |low: usize, range: usize| {
                    (0..rank).map(|_| low + random.below(range)).collect::<Vec<_>>()
                };
                let (input, kernel) = (axis(1, if rank == 3 { 8 } else { 23 }), axis(1, 5));
                let (stride, dilation) = (axis(1, 3), axis(1, 2));
                let pads: Vec<isize> = axis(0, 3).iter().map(|&p| p as isize).collect();
                let pads_end: Vec<isize> = axis(0, 4).iter().map(|&p| p as isize - 1).collect();
                let batch = 1 + random.below(2);
                let sizes = (batch, channels, filters, groups);
                let shape =
                    ConvShape::new(sizes, &input, &kernel, &stride, &dilation, (&pads, &pads_end));
                let Some(shape) = shape else { continue };
                compare(simd, &mut random, &shape);
                done += 1;
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "takes an interpreter too long")]
    fn layers_of_real_networks_match_the_reference() {
        let mut random = Random::new(0xFACE);
        let layer = |c, f, g, size: usize, k: usize, s: usize, p: isize| {
            ConvShape::new(
                (1, c, f, g),
                &[size, size],
                &[k, k],
                &[s, s],
                &[1, 1],
                (&[p, p], &[p, p]),
            )
        };
        for simd in Simd::available() {
            for shape in [
                layer(3, 24, 1, 37, 7, 2, 3),
                layer(32, 32, 32, 20, 3, 2, 1),
                layer(32, 32, 32, 19, 5, 1, 2),
                layer(64, 48, 1, 14, 1, 1, 0),
                layer(40, 30, 1, 7, 3, 1, 1),
                layer(64, 32, 1, 14, 1, 2, 0),
                layer(128, 64, 4, 9, 3, 1, 1),
            ] {
                compare(simd, &mut random, &shape.expect("a valid layer"));
            }
        }
    }

    /// Transposed convolution by scattering, as ONNX defines `ConvTranspose`.
    #[test]
    fn transposed_convolution_scatters() {
        let mut random = Random::new(0xAB);
        for _ in 0..crate::kernel::testing::rounds(40) {
            let (groups, h, w) = (1 + random.below(2), 1 + random.below(6), 1 + random.below(6));
            let (channels, filters) =
                (groups * (1 + random.below(3)), groups * (1 + random.below(4)));
            let (k, s, d) = (1 + random.below(3), 1 + random.below(3), 1 + random.below(2));
            let (p0, p1, extra) =
                (random.below(2) as isize, random.below(2) as isize, random.below(s));
            let sizes = (1, channels, filters, groups);
            let pads = ([p0, p0], [p1, p1]);
            let shape = ConvShape::transposed(
                sizes,
                &[h, w],
                &[k, k],
                &[s, s],
                &[d, d],
                (&pads.0, &pads.1),
                &[extra, extra],
            );
            let Some(shape) = shape else { continue };
            let input = random.floats(channels * h * w);
            let weights = random.floats(channels * filters / groups * k * k);
            let [_, oh, ow] = shape.output();
            let mut want = vec![0.0f32; filters * oh * ow];
            let (group_channels, group_filters) = (channels / groups, filters / groups);
            for c in 0..channels {
                for f in 0..group_filters {
                    for (i, kk) in (0..h * w).flat_map(|i| (0..k * k).map(move |kk| (i, kk))) {
                        let y = ((i / w) * s + (kk / k) * d) as isize - p0;
                        let x = ((i % w) * s + (kk % k) * d) as isize - p0;
                        if y >= 0 && x >= 0 && (y as usize) < oh && (x as usize) < ow {
                            let filter = c / group_channels * group_filters + f;
                            want[(filter * oh + y as usize) * ow + x as usize] += input
                                [c * h * w + i]
                                * weights[(c * group_filters + f) * k * k + kk];
                        }
                    }
                }
            }
            let conv = Conv::new(Simd::detect(), 1, &shape, &weights, true);
            let (mut got, mut scratch) = (vec![0.0; want.len()], vec![0.0; conv.scratch_len()]);
            conv.run(&input, &mut got, &Epilogue::default(), &mut scratch, &Pool::new(1));
            assert_close(&got, &want, 1e-5, &format!("{shape:?}"));
        }
    }
}
