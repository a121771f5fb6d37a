//! Filters packed for the tiles, with what turns their sums into codes.

use super::dense::Layout;
use super::finish::{Packed, Requantize};
use super::form::{Form, pair};
use crate::detect::Simd;
use crate::kernel::blocked::{BLOCK, blocks};
use crate::kernel::conv::ConvShape;

/// Weights as the tiles read them: for each block of filters, for each block of channels, tap and group of channels, the
/// filters of the group.
#[derive(Debug)]
pub struct QuantizedWeights {
    pub(super) data: Vec<i32>,
    pub(super) form: Form,
    pub(super) finish: Packed,
    /// Channels a block; 0 for a depthwise convolution, whose groups are of taps; [`WINOGRAD`] for transformed filters.
    pub(super) block: usize,
    pub(super) shape: (usize, usize, usize),
}

/// Channels of a block of an input that stands in rows of channels: images have up to four.
pub(super) const FEW: usize = 4;

/// No number of channels of a block: the filters are transformed.
pub(super) const WINOGRAD: usize = 1;

impl QuantizedWeights {
    /// Packs `filters × channels × kernel` weights for an input of the given layout; `read` gives each less its zero point,
    /// within −255 … 255.
    pub fn dense(
        simd: Simd,
        shape: &ConvShape,
        layout: Layout,
        requantize: &Requantize<'_>,
        read: &dyn Fn(usize) -> i32,
    ) -> QuantizedWeights {
        let form = Form::of(simd.at_most());
        let block = layout.block();
        let (filters, channels, taps) = (shape.filters, shape.channels, shape.taps());
        let groups = block / Form::GROUP;
        let order = form.order();
        let mut place = [0; BLOCK];
        order.iter().enumerate().for_each(|(lane, &i)| place[i] = lane);
        let panel = channels.div_ceil(block) * taps * groups * BLOCK;
        let mut data = vec![0; blocks(filters) * panel];
        for (first, panel) in data.chunks_exact_mut(panel.max(1)).enumerate() {
            for i in 0..BLOCK.min(filters - first * BLOCK) {
                let own = (first * BLOCK + i) * channels * taps;
                for c in (0..channels).step_by(Form::GROUP) {
                    for tap in 0..taps {
                        let at = |c: usize| {
                            if c < channels { read(own + c * taps + tap) } else { 0 }
                        };
                        let group = (c / block * taps + tap) * groups + c % block / Form::GROUP;
                        panel[group * BLOCK + place[i]] = pair(at(c), at(c + 1));
                    }
                }
            }
        }
        let finish = Packed::new(form, filters, requantize);
        QuantizedWeights { data, form, finish, block, shape: (filters, channels, taps) }
    }

    /// Packs the `channels × kernel` weights of a depthwise convolution: for each block of channels and pair of taps, the
    /// channels.
    pub fn depthwise(
        simd: Simd,
        shape: &ConvShape,
        requantize: &Requantize<'_>,
        read: &dyn Fn(usize) -> i32,
    ) -> QuantizedWeights {
        let form = Form::of(simd.at_most());
        let (channels, taps) = (shape.channels, shape.taps());
        let order = form.order();
        let groups = taps.div_ceil(Form::GROUP);
        let mut data = vec![0; blocks(channels) * groups * BLOCK];
        for (i, group) in data.iter_mut().enumerate() {
            let (first, lane) = (i / BLOCK % groups * Form::GROUP, i % BLOCK);
            let channel = i / BLOCK / groups * BLOCK + order[lane];
            let at = |tap: usize| {
                if channel < channels && tap < taps { read(channel * taps + tap) } else { 0 }
            };
            *group = pair(at(first), at(first + 1));
        }
        let finish = Packed::new(form, channels, requantize);
        QuantizedWeights { data, form, finish, block: 0, shape: (channels, 1, taps) }
    }

    /// Whether they are packed for a convolution, its channels in blocks of `block`.
    pub(super) fn are_for(&self, simd: Simd, block: usize, shape: &ConvShape) -> bool {
        let channels = if block == 0 { 1 } else { shape.channels };
        (self.form, self.block) == (Form::of(simd), block)
            && self.shape == (shape.filters, channels, shape.taps())
    }
}
