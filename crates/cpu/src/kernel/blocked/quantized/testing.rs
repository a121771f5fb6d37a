//! Random quantized convolutions and what they give by the definition, in plain loops.

use super::{Codes, Requantize};
use crate::kernel::blocked::{BLOCK, blocks};
use crate::kernel::conv::ConvShape;
use crate::kernel::testing::Random;
use crate::pool::Pool;

/// A convolution of odd size, strides, padding and dilation.
pub(super) fn random_shape(
    random: &mut Random,
    channels: usize,
    depthwise: bool,
) -> Option<ConvShape> {
    let filters = if depthwise { channels } else { 1 + random.below(50) };
    let mut axis =
        |low: usize, range: usize| (0..2).map(|_| low + random.below(range)).collect::<Vec<_>>();
    let (input, kernel) = (axis(1, 25), axis(1, 5));
    let (stride, dilation) = (axis(1, 3), axis(1, 2));
    let pads: Vec<isize> = axis(0, 4).iter().map(|&p| p as isize - 1).collect();
    let ends: Vec<isize> = axis(0, 4).iter().map(|&p| p as isize - 1).collect();
    let groups = if depthwise { channels } else { 1 };
    let sizes = (1 + random.below(2), channels, filters, groups);
    ConvShape::new(sizes, &input, &kernel, &stride, &dilation, (&pads, &ends))
}

/// One convolution with its operands.
pub(super) struct Case {
    shape: ConvShape,
    pub(super) pool: Pool,
    /// In rows.
    pub(super) input: Vec<u8>,
    signed: bool,
    zero: i32,
    weights: Vec<i32>,
    bias: Vec<i32>,
    multiplier: Vec<i32>,
    shift: Vec<i32>,
    out: (i32, i32, i32, bool),
}

impl Case {
    pub(super) fn new(random: &mut Random, shape: &ConvShape) -> Case {
        let bytes = |random: &mut Random, n: usize| -> Vec<u8> {
            (0..n).map(|_| random.below(256) as u8).collect()
        };
        let extreme = random.below(6) == 0;
        let n = shape.batch * shape.channels * shape.input_pixels();
        let input = if extreme { vec![255; n] } else { bytes(random, n) };
        let signed = random.below(2) == 1;
        let zero = random.below(256) as i32 - if signed { 128 } else { 0 };
        let w_zero = if random.below(3) == 0 { random.below(100) as i32 } else { 0 };
        let weights = bytes(random, shape.weights_len())
            .into_iter()
            .map(|b| if extreme { -128 - w_zero } else { i32::from(b as i8) - w_zero })
            .collect();
        let mut each = |range: usize, low: i64| -> Vec<i32> {
            (0..shape.filters).map(|_| (random.below(range) as i64 + low) as i32).collect()
        };
        let (bias, multiplier) = (each(100_000, -50_000), each(1 << 30, 1 << 30));
        // About a quarter of the sums' range fits; now and then a shift below 32, whose kernel is another.
        let shift = each(3, 40);
        let narrow = random.below(4) == 0;
        let (multiplier, shift) = if narrow {
            (multiplier.iter().map(|m| m >> 15).collect(), shift.iter().map(|s| s - 15).collect())
        } else {
            (multiplier, shift)
        };
        let to_signed = random.below(2) == 1;
        let least = if to_signed { -128 } else { 0 };
        let y_zero = least + random.below(256) as i32;
        let low = if random.below(2) == 1 { y_zero } else { least };
        let high = if random.below(3) == 0 { low.midpoint(least + 255) } else { least + 255 };
        let out = (y_zero, low, high, to_signed);
        let pool = Pool::new(1 + random.below(3));
        Case { shape: *shape, pool, input, signed, zero, weights, bias, multiplier, shift, out }
    }

    pub(super) fn weight(&self, i: usize) -> i32 {
        self.weights[i]
    }

    pub(super) fn requantize(&self) -> Requantize<'_> {
        let (zero, low, high, signed) = self.out;
        let Case { bias, multiplier, shift, .. } = self;
        Requantize { bias, multiplier, shift, zero, low, high, signed }
    }

    pub(super) fn codes<'a>(&self, bytes: &'a [u8]) -> Codes<'a> {
        Codes { bytes, signed: self.signed, zero: self.zero }
    }

    /// The input in blocks, anything in the lanes that stand for no channel.
    pub(super) fn in_blocks(&self) -> Vec<u8> {
        let s = &self.shape;
        let pixels = s.input_pixels();
        let mut to = vec![201; s.batch * blocks(s.channels) * BLOCK * pixels];
        for (i, &byte) in self.input.iter().enumerate() {
            let (pixel, c, n) = (i % pixels, i / pixels % s.channels, i / pixels / s.channels);
            to[((n * blocks(s.channels) + c / BLOCK) * pixels + pixel) * BLOCK + c % BLOCK] = byte;
        }
        to
    }

    /// The input as rows of channels.
    pub(super) fn in_pixels(&self) -> Vec<u8> {
        let s = &self.shape;
        let pixels = s.input_pixels();
        let mut to = vec![0; self.input.len()];
        for (i, &byte) in self.input.iter().enumerate() {
            let (pixel, c, n) = (i % pixels, i / pixels % s.channels, i / pixels / s.channels);
            to[(n * pixels + pixel) * s.channels + c] = byte;
        }
        to
    }

    /// A result as rows of filters, in blocks.
    pub(super) fn pixels_in_blocks(&self, out: &[u8]) -> Vec<u8> {
        let s = &self.shape;
        let pixels = s.output_pixels();
        let mut to = vec![0; self.output_len()];
        for (i, &byte) in out.iter().take(s.batch * pixels * s.filters).enumerate() {
            let (f, pixel, n) = (i % s.filters, i / s.filters % pixels, i / s.filters / pixels);
            to[((n * blocks(s.filters) + f / BLOCK) * pixels + pixel) * BLOCK + f % BLOCK] = byte;
        }
        to
    }

    pub(super) fn output_len(&self) -> usize {
        self.shape.batch * blocks(self.shape.filters) * BLOCK * self.shape.output_pixels()
    }

    /// Compares a result in blocks with the definition.
    pub(super) fn check(&self, out: &[u8], what: &str) {
        let s = &self.shape;
        let [_, height, width] = s.output();
        let (zero, low, high, _) = self.out;
        let per = s.channels / s.groups;
        for n in 0..s.batch {
            for f in 0..s.filters {
                for (line, column) in (0..height).flat_map(|l| (0..width).map(move |c| (l, c))) {
                    let mut sum = self.bias[f];
                    for i in 0..per * s.taps() {
                        let (c, tap) = (i / s.taps(), i % s.taps());
                        let (kh, kw) = (tap / s.kernel[2], tap % s.kernel[2]);
                        let row =
                            (line * s.stride[1] + kh * s.dilation[1]) as isize - s.pads_begin[1];
                        let col =
                            (column * s.stride[2] + kw * s.dilation[2]) as isize - s.pads_begin[2];
                        let inside = (0..s.input[1] as isize).contains(&row)
                            && (0..s.input[2] as isize).contains(&col);
                        if !inside {
                            continue;
                        }
                        let channel = f / (s.filters / s.groups) * per + c;
                        let at = ((n * s.channels + channel) * s.input[1] + row as usize)
                            * s.input[2]
                            + col as usize;
                        let x = self.codes(&self.input).centered(self.input[at]);
                        sum = sum.wrapping_add(x * self.weights[f * per * s.taps() + i]);
                    }
                    let product = i64::from(sum) * i64::from(self.multiplier[f]);
                    let rounded = (product + (1i64 << (self.shift[f] - 1))) >> self.shift[f];
                    let want = (rounded + i64::from(zero)).clamp(low.into(), high.into()) as u8;
                    let at = ((n * blocks(s.filters) + f / BLOCK) * height + line) * width + column;
                    let got = out[at * BLOCK + f % BLOCK];
                    assert_eq!(got, want, "{what}: filter {f}, line {line}, column {column}");
                }
            }
        }
    }
}
