//! Quantized convolutions in rows of channels, of any number of groups: for the few that stand in no blocks.
//!
//! v1: a task is an output channel; each tap of each channel is added to the whole plane of sums, line by line.

use crate::kernel::SharedMut;
use crate::kernel::blocked::{Codes, Requantize};
use crate::kernel::conv::ConvShape;
use crate::pool::Pool;

/// A prepared convolution with its weights.
#[derive(Debug)]
pub struct GroupedConvolution {
    shape: ConvShape,
    threads: usize,
    /// Less their zero point.
    weights: Vec<i32>,
    bias: Vec<i32>,
    multiplier: Vec<i32>,
    shift: Vec<i32>,
    zero: i32,
    limits: (i32, i32),
}

impl GroupedConvolution {
    /// Prepares a convolution for pools of up to `threads` threads.
    ///
    /// # Panics
    /// When there are not as many weights and parameters as the shape says.
    pub fn new(
        shape: &ConvShape,
        threads: usize,
        weights: Vec<i32>,
        r: &Requantize<'_>,
    ) -> GroupedConvolution {
        assert_eq!(weights.len(), shape.weights_len(), "weights of another shape");
        let lists = [r.bias, r.multiplier, r.shift];
        assert!(lists.iter().all(|list| list.len() == shape.filters), "one entry a filter");
        GroupedConvolution {
            shape: *shape,
            threads: threads.max(1),
            weights,
            bias: r.bias.to_vec(),
            multiplier: r.multiplier.to_vec(),
            shift: r.shift.to_vec(),
            zero: r.zero,
            limits: (r.low, r.high),
        }
    }

    /// Scratch elements a run needs: a plane of sums a thread.
    pub fn scratch_len(&self) -> usize {
        self.shape.output_pixels() * self.threads
    }

    /// Computes codes in rows of channels from such.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says or the pool has more threads than prepared for.
    pub fn run(&self, x: Codes<'_>, out: &mut [u8], scratch: &mut [i32], pool: &Pool) {
        let s = &self.shape;
        let (pixels, plane) = (s.output_pixels(), s.input_pixels());
        assert!(x.bytes.len() >= s.batch * s.channels * plane, "input shorter than its shape");
        assert!(out.len() >= s.batch * s.filters * pixels, "output shorter than its shape");
        assert!(scratch.len() >= self.scratch_len(), "scratch too short");
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        let (out, scratch) = (SharedMut::new(out), SharedMut::new(scratch));
        pool.parallel_for(s.batch * s.filters, |task, thread| {
            // SAFETY: each thread has its plane of sums, each task its plane of the result; both were checked above.
            let (sums, codes) = unsafe {
                (
                    std::slice::from_raw_parts_mut(scratch.get().add(thread * pixels), pixels),
                    std::slice::from_raw_parts_mut(out.get().add(task * pixels), pixels),
                )
            };
            let (image, filter) = (task / s.filters, task % s.filters);
            self.sum(x, image, filter, sums);
            let (multiplier, shift) = (i64::from(self.multiplier[filter]), self.shift[filter]);
            let (low, high) = (i64::from(self.limits.0), i64::from(self.limits.1));
            for (code, &sum) in codes.iter_mut().zip(&*sums) {
                let rounded = (i64::from(sum) * multiplier + (1 << (shift - 1))) >> shift;
                *code = (rounded + i64::from(self.zero)).clamp(low, high) as u8;
            }
        });
    }

    /// The sums of one output channel.
    fn sum(&self, x: Codes<'_>, image: usize, filter: usize, sums: &mut [i32]) {
        let s = &self.shape;
        let [depth, height, width] = s.output();
        let per = s.channels / s.groups;
        let first = image * s.channels + filter / (s.filters / s.groups) * per;
        sums.fill(self.bias[filter]);
        let seen = |i: usize, at: usize, k: usize| {
            let place = (at * s.stride[i] + k * s.dilation[i]) as isize - s.pads_begin[i];
            (0..s.input[i] as isize).contains(&place).then_some(place as usize)
        };
        for (c, tap) in (0..per).flat_map(|c| (0..s.taps()).map(move |tap| (c, tap))) {
            let weight = self.weights[(filter * per + c) * s.taps() + tap];
            let [kd, kh, kw] = [
                tap / (s.kernel[1] * s.kernel[2]),
                tap / s.kernel[2] % s.kernel[1],
                tap % s.kernel[2],
            ];
            for (d, h) in (0..depth).flat_map(|d| (0..height).map(move |h| (d, h))) {
                let (Some(in_d), Some(in_h)) = (seen(0, d, kd), seen(1, h, kh)) else { continue };
                let row = (((first + c) * s.input[0] + in_d) * s.input[1] + in_h) * s.input[2];
                let line = &mut sums[(d * height + h) * width..][..width];
                for (w, sum) in line.iter_mut().enumerate() {
                    if let Some(in_w) = seen(2, w, kw) {
                        let product = x.centered(x.bytes[row + in_w]) * weight;
                        *sum = sum.wrapping_add(product);
                    }
                }
            }
        }
    }
}
