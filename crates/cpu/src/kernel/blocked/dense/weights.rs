//! Filters of a convolution packed for the register tiles.

use super::FEW;
use crate::detect::Simd;
use crate::kernel::blocked::tile::Tiles;
use crate::kernel::blocked::{BLOCK, blocks};
use crate::kernel::conv::ConvShape;
use crate::weights::{Aligned, Packed, Slot};
use std::ops::Range;

/// Weights as the tiles read them: for each tile of filters, for each block of channels and tap, the filters of
/// each channel.
#[derive(Debug)]
pub struct DenseWeights {
    pub(super) data: Aligned,
    pub(super) simd: Simd,
    /// Channels a block.
    pub(super) block: usize,
    pub(super) filters: usize,
    pub(super) channels: usize,
    pub(super) taps: usize,
}

impl DenseWeights {
    /// Packs `filters × channels × kernel` weights, which `read` gives in runs of elements, so that those of a file are never
    /// copied whole; `rows` says that the input will stand in rows of channels.
    pub fn new(
        simd: Simd,
        shape: &ConvShape,
        rows: bool,
        read: &(dyn Fn(Range<usize>, &mut [f32]) + Sync),
    ) -> DenseWeights {
        DenseWeights::in_slot(simd, shape, rows, read, Slot::default())
    }

    /// The same, in a slot.
    pub(crate) fn in_slot(
        simd: Simd,
        shape: &ConvShape,
        rows: bool,
        read: &(dyn Fn(Range<usize>, &mut [f32]) + Sync),
        slot: Slot<'_>,
    ) -> DenseWeights {
        let simd = simd.at_most();
        let block = if rows { FEW } else { BLOCK };
        let (filters, channels, taps) = (shape.filters, shape.channels, shape.taps());
        let depth = channels.div_ceil(block) * taps * block;
        // A part is a tile of filters.
        let tile = Tiles::of(simd).blocks * BLOCK;
        let data = slot.filled(blocks(filters) * BLOCK * depth, tile * depth, |i, packed| {
            let range = i * tile..filters.min((i + 1) * tile);
            Self::fill(range, (channels, taps), block, read, packed);
        });
        DenseWeights { data, simd, block, filters, channels, taps }
    }

    /// Packs one tile of filters.
    fn fill(
        filters: Range<usize>,
        (channels, taps): (usize, usize),
        block: usize,
        read: &(dyn Fn(Range<usize>, &mut [f32]) + Sync),
        tile: &mut [f32],
    ) {
        let own = channels * taps;
        let width = tile.len() / (channels.div_ceil(block) * taps * block);
        let mut rows = vec![0.0f32; own * filters.len()];
        read(filters.start * own..filters.end * own, &mut rows);
        // Few weights of all filters at a time, so that the lines read and written stay in the cache.
        for first in (0..own).step_by(BLOCK) {
            let weights = first..own.min(first + BLOCK);
            let mut places = [0; BLOCK];
            for (place, i) in places.iter_mut().zip(weights.clone()) {
                let (c, t) = (i / taps, i % taps);
                let step = ((c / block) * taps + t) * block + c % block;
                *place = step * width;
            }
            for (f, filter) in rows.chunks_exact(own).enumerate() {
                for (&place, &weight) in places.iter().zip(&filter[weights.clone()]) {
                    tile[place + f] = weight;
                }
            }
        }
    }

    /// Writes the weights, each times the number of its channel, as they are packed. `scales` has one a channel, padded to
    /// whole blocks.
    ///
    /// # Panics
    /// When there are several taps, or a slice is shorter than the weights want.
    pub fn scaled(&self, scales: &[f32], to: &mut [f32]) {
        assert!(self.taps == 1 && self.block == BLOCK, "scales are for the channels of one tap");
        let depth = self.depth();
        let to = &mut to[..self.data.len()];
        let from = self.data.as_slice();
        let most = Tiles::of(self.simd).blocks * BLOCK;
        for (to, from) in to.chunks_mut(most * depth).zip(from.chunks(most * depth)) {
            // The last tile may have fewer filters.
            let filters = from.len() / depth;
            let channels = to.chunks_exact_mut(filters).zip(from.chunks_exact(filters));
            for ((to, from), scale) in channels.zip(&scales[..depth]) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = from * scale);
            }
        }
    }

    /// Whether they are packed for a convolution, its channels in blocks of `block`.
    pub(in crate::kernel::blocked) fn are_for(
        &self,
        simd: Simd,
        block: usize,
        shape: &ConvShape,
    ) -> bool {
        (self.simd, self.block) == (simd, block)
            && (self.filters, self.channels, self.taps)
                == (shape.filters, shape.channels, shape.taps())
    }

    /// All elements, in their order.
    pub fn as_slice(&self) -> &[f32] {
        self.data.as_slice()
    }

    /// Elements held.
    pub fn elements(&self) -> usize {
        self.data.len()
    }

    /// Elements of one filter's part.
    fn depth(&self) -> usize {
        self.channels.div_ceil(self.block) * self.taps * self.block
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.data.len() * 4
    }
}

impl Packed for DenseWeights {
    fn numbers(&self) -> &Aligned {
        &self.data
    }
}
