//! Filters transformed for Winograd's convolution and packed for the register tiles.

use super::plan::size;
use super::transform::Size;
use crate::detect::Simd;
use crate::kernel::blocked::tile::Tiles;
use crate::kernel::blocked::{BLOCK, blocks};
use crate::kernel::conv::ConvShape;
use crate::kernel::gemm::pack::Aligned;

/// Weights as the tiles read them: for each tile of filters, for each point, for each channel, the filters.
#[derive(Clone, Debug)]
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
        read: &dyn Fn(std::ops::Range<usize>, &mut [f32]),
    ) -> WinogradWeights {
        let simd = simd.at_most();
        Self::with_size(simd, shape, size(simd, shape), read)
    }

    pub(super) fn with_size(
        simd: Simd,
        shape: &ConvShape,
        size: Size,
        read: &dyn Fn(std::ops::Range<usize>, &mut [f32]),
    ) -> WinogradWeights {
        let (filters, channels) = (shape.filters, shape.channels);
        let own = channels * 9;
        let depth = blocks(channels) * BLOCK;
        let mut data = Aligned::zeros(blocks(filters) * BLOCK * depth * size.products());
        let most = Tiles::of(simd).blocks;
        let mut rows = vec![0.0f32; own];
        for first in (0..blocks(filters)).step_by(most) {
            let width = most.min(blocks(filters) - first) * BLOCK;
            // SAFETY: tiles before this one have `first` blocks of filters, this one `width` filters.
            let tile = unsafe {
                std::slice::from_raw_parts_mut(
                    data.as_mut_ptr().add(first * BLOCK * depth * size.products()),
                    width * depth * size.products(),
                )
            };
            for f in 0..width.min(filters - first * BLOCK) {
                let start = (first * BLOCK + f) * own;
                read(start..start + own, &mut rows);
                for (c, taps) in rows.chunks_exact(9).enumerate() {
                    transform(size, taps, |point, x| {
                        tile[(point * depth + c) * width + f] = x;
                    });
                }
            }
        }
        WinogradWeights { data, simd, size, filters, channels }
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

/// `G g Gᵀ` of the nine taps `g`.
fn transform(size: Size, g: &[f32], mut put: impl FnMut(usize, f32)) {
    let matrix = size.filter_matrix();
    for (i, down) in matrix.iter().enumerate() {
        let half: [f64; 3] =
            std::array::from_fn(|j| (0..3).map(|r| down[r] * f64::from(g[r * 3 + j])).sum());
        for (j, across) in matrix.iter().enumerate() {
            let x: f64 = across.iter().zip(half).map(|(a, b)| a * b).sum();
            put(i * matrix.len() + j, x as f32);
        }
    }
}
