//! Filters transformed for Winograd's convolution and packed for the register tiles.

use super::transform::Size;
use crate::detect::Simd;
use crate::kernel::blocked::tile::Tiles;
use crate::kernel::blocked::{BLOCK, blocks};
use crate::kernel::conv::ConvShape;
use crate::simd::{Task, Vector, dispatch};
use crate::weights::{Aligned, Packed, Slot};
use std::ops::Range;

/// Weights as the tiles read them: for each tile of filters, for each point, for each channel, the filters.
#[derive(Debug)]
pub struct WinogradWeights {
    pub(super) data: Aligned,
    pub(super) simd: Simd,
    pub(super) size: Size,
    pub(super) filters: usize,
    pub(super) channels: usize,
}

impl WinogradWeights {
    /// Transforms `filters × channels × 3 × 3` weights, in `f64` and rounded once. `read` gives them in runs of elements, so that
    /// those of a file are never copied whole.
    pub fn new(
        simd: Simd,
        shape: &ConvShape,
        size: Size,
        read: &(dyn Fn(Range<usize>, &mut [f32]) + Sync),
    ) -> WinogradWeights {
        WinogradWeights::in_slot(simd, shape, size, read, Slot::default())
    }

    /// The same, in a slot.
    pub(crate) fn in_slot(
        simd: Simd,
        shape: &ConvShape,
        size: Size,
        read: &(dyn Fn(Range<usize>, &mut [f32]) + Sync),
        slot: Slot<'_>,
    ) -> WinogradWeights {
        let simd = simd.at_most();
        let (filters, channels) = (shape.filters, shape.channels);
        let depth = blocks(channels) * BLOCK * size.products();
        // A part is a tile of filters.
        let tile = Tiles::of(simd).blocks * BLOCK;
        let data = slot.filled(blocks(filters) * BLOCK * depth, tile * depth, |i, packed| {
            let range = i * tile..filters.min((i + 1) * tile);
            Self::fill(simd, range, channels, size, read, packed);
        });
        WinogradWeights { data, simd, size, filters, channels }
    }

    /// Transforms one tile of filters.
    fn fill(
        simd: Simd,
        filters: Range<usize>,
        channels: usize,
        size: Size,
        read: &(dyn Fn(Range<usize>, &mut [f32]) + Sync),
        tile: &mut [f32],
    ) {
        let own = channels * 9;
        let depth = blocks(channels) * BLOCK;
        let width = tile.len() / (depth * size.products());
        let mut rows = vec![0.0f32; own * filters.len()];
        read(filters.start * own..filters.end * own, &mut rows);
        let mut taps = [[0.0; MOST]; 9];
        for c in 0..channels {
            for (f, filter) in rows.chunks_exact(own).enumerate() {
                for (i, tap) in filter[c * 9..][..9].iter().enumerate() {
                    taps[i][f] = f64::from(*tap);
                }
            }
            let out = &mut tile[c * width..];
            dispatch(simd, Filters { size, taps: &taps, out, step: depth * width, width });
        }
    }

    /// Elements of a filter.
    pub(super) fn depth(&self) -> usize {
        blocks(self.channels) * BLOCK
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.data.len() * 4
    }
}

impl Packed for WinogradWeights {
    fn numbers(&self) -> &Aligned {
        &self.data
    }
}

/// The most filters of a tile.
const MOST: usize = 2 * BLOCK;

/// `G g Gᵀ` of the nine taps `g` of some filters: `width` of them for each point, `step` elements apart.
struct Filters<'a> {
    size: Size,
    taps: &'a [[f64; MOST]; 9],
    out: &'a mut [f32],
    step: usize,
    width: usize,
}

/// `row · (x, y, z)` for each filter.
#[inline(always)]
fn combine(row: [f64; 3], x: [&[f64; MOST]; 3]) -> [f64; MOST] {
    let mut sums = [0.0; MOST];
    for f in 0..MOST {
        sums[f] = row[0] * x[0][f] + row[1] * x[1][f] + row[2] * x[2][f];
    }
    sums
}

impl Task for Filters<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (matrix, g) = (self.size.filter_matrix(), self.taps);
        for (i, &down) in matrix.iter().enumerate() {
            let half = [0, 1, 2].map(|j| combine(down, [&g[j], &g[j + 3], &g[j + 6]]));
            for (j, &across) in matrix.iter().enumerate() {
                let sums = combine(across, [&half[0], &half[1], &half[2]]);
                let out = &mut self.out[(i * matrix.len() + j) * self.step..][..self.width];
                for (to, sum) in out.iter_mut().zip(sums) {
                    *to = sum as f32;
                }
            }
        }
    }
}
