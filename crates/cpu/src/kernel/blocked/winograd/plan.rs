//! Which convolutions Winograd's algorithm suits, with which tiles, and how many of them at a time.

use super::transform::Size;
use crate::costs::Costs;
use crate::detect::{Caches, Simd};
use crate::kernel::blocked::tile::Tiles;
use crate::kernel::blocked::{BLOCK, blocks};
use crate::kernel::conv::ConvShape;

/// Bytes of a layer's transformed weights that are worth their memory: they are 16/9 or four times the filters.
const MOST_WEIGHTS: usize = 20 << 20;

/// What transforming one value takes, in multiplications of one core: with what [`Costs`] has on weights it predicts the layers that
/// these were fitted on.
const TRANSFORM: usize = 11;

/// Tiles of a patch below which weights are read for too little.
const FEW_TILES: usize = 28;

/// Whether the algorithm applies: one group, two spatial axes, three by three taps next to each other, steps of one pixel.
pub(super) fn does(shape: &ConvShape) -> bool {
    shape.groups == 1
        && shape.input_step == [1; 3]
        && shape.kernel == [1, 3, 3]
        && shape.stride == [1; 3]
        && shape.dilation[1..] == [1, 1]
        && shape.input[0] == 1
        && (shape.pads_begin[0], shape.pads_end[0]) == (0, 0)
        && shape.channels > 0
}

/// Bytes of the transformed weights.
pub(super) fn weight_bytes(shape: &ConvShape, size: Size) -> usize {
    blocks(shape.filters) * BLOCK * blocks(shape.channels) * BLOCK * size.products() * 4
}

/// Rows and columns of tiles of an image.
pub(super) fn tiles(shape: &ConvShape, size: Size) -> (usize, usize) {
    let [_, height, width] = shape.output();
    (height.div_ceil(size.outputs()), width.div_ceil(size.outputs()))
}

/// What a task takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Rows and columns of tiles of a patch.
    pub(super) patch: (usize, usize),
    /// Tiles of filters.
    pub(super) filter_tiles: usize,
}

fn even(n: usize, most: usize) -> usize {
    n.max(1).div_ceil(n.max(1).div_ceil(most.max(1)))
}

fn weights_fit(shape: &ConvShape, size: Size) -> bool {
    let (_, l2) = Caches::detect_once().for_blocking();
    weight_bytes(shape, size) <= l2 / 2
}

/// What reading a weight takes, in multiplications of one core.
fn read(simd: Simd, fit: bool) -> usize {
    let costs = Costs::here(simd);
    if fit { costs.near_weight } else { costs.far_weight }
}

/// The largest patch for the caches: its transformed input and its products with a tile of filters take up to a quarter of the
/// second-level cache, or more where that would be few tiles or where weights come from beyond it.
fn largest_patch(simd: Simd, shape: &ConvShape, size: Size) -> (usize, usize) {
    let (rows, columns) = tiles(shape, size);
    let (_, l2) = Caches::detect_once().for_blocking();
    let depth = blocks(shape.channels) + Tiles::of(simd).blocks;
    let tile = depth * BLOCK * 4 * size.products();
    let most = l2 * 5 / 8 / tile;
    let most =
        if weights_fit(shape, size) { (l2 / 4 / tile).max(FEW_TILES.min(most)) } else { most };
    let across = even(columns, most);
    (even(rows, most / across), across)
}

/// How the work is cut into tasks: as large as the caches allow for one thread, else so that all have about as much to do. Patches
/// read all weights again, parts of the filters transform the input again.
pub(super) fn share(simd: Simd, threads: usize, shape: &ConvShape, size: Size) -> Share {
    let patch = largest_patch(simd, shape, size);
    let filter_blocks = Tiles::of(simd).blocks;
    let filter_tiles = blocks(shape.filters).div_ceil(filter_blocks).max(1);
    let mut best = Share { patch, filter_tiles };
    if threads == 1 {
        return best;
    }
    let (rows, columns) = tiles(shape, size);
    let mut least = usize::MAX;
    for down in (1..=patch.0).rev() {
        for part in (1..=filter_tiles).rev() {
            let patches = shape.batch * rows.div_ceil(down) * columns.div_ceil(patch.1);
            let tasks = patches * filter_tiles.div_ceil(part);
            let filters = (part * filter_blocks * BLOCK).min(shape.filters);
            let each = cost(simd, shape, size, down * patch.1, filters);
            // The quarter is for threads that wait while the last task ends.
            let time = each.saturating_mul(4 * tasks.div_ceil(threads) + 1);
            if time < least {
                least = time;
                best = Share { patch: (down, patch.1), filter_tiles: part };
            }
        }
    }
    best
}

/// What so many tiles take with so many filters, in multiplications.
fn cost(simd: Simd, shape: &ConvShape, size: Size, tiles: usize, filters: usize) -> usize {
    let products = shape.channels * filters * (tiles + read(simd, weights_fit(shape, size)));
    size.products() * (products + TRANSFORM * tiles * (shape.channels + filters))
}

/// What an image takes on one thread.
fn whole_cost(simd: Simd, shape: &ConvShape, size: Size) -> usize {
    let ((rows, columns), (down, across)) = (tiles(shape, size), largest_patch(simd, shape, size));
    let patches = rows.div_ceil(down) * columns.div_ceil(across);
    patches * cost(simd, shape, size, (rows * columns).div_ceil(patches.max(1)), shape.filters)
}

/// The size of tile that is expected to take less time.
pub(super) fn size(simd: Simd, shape: &ConvShape, relaxed: bool) -> Size {
    let fits = weight_bytes(shape, Size::Four) <= MOST_WEIGHTS;
    if relaxed && fits && whole_cost(simd, shape, Size::Four) <= whole_cost(simd, shape, Size::Two)
    {
        Size::Four
    } else {
        Size::Two
    }
}

/// Whether it is expected to take at most four fifths of the direct kernel's time, for weights that are worth their memory.
pub(super) fn pays(simd: Simd, shape: &ConvShape, size: Size) -> bool {
    let weights = shape.channels * shape.filters * 9;
    let (_, l2) = Caches::detect_once().for_blocking();
    let direct = weights * (shape.output_pixels() + read(simd, weights * 4 <= l2 / 2));
    weight_bytes(shape, size) <= MOST_WEIGHTS && whole_cost(simd, shape, size) * 5 <= direct * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(channels: usize, filters: usize, size: usize) -> ConvShape {
        let (one, pads) = ([1, 1], [1isize, 1]);
        let sizes = (1, channels, filters, 1);
        ConvShape::new(sizes, &[size, size], &[3, 3], &one, &one, (&pads, &pads)).expect("valid")
    }

    #[test]
    fn pays_where_it_was_measured_to() {
        let simd = Simd::detect();
        // Measured with 2 MiB; with little cache patches are small and read weights often.
        let roomy = Caches::detect_once().for_blocking().1 >= 1 << 20;
        for (channels, size) in [(64, 56), (128, 28), (64, 112)] {
            let layer = layer(channels, channels, size);
            if !roomy {
                continue;
            }
            for size in [Size::Two, Size::Four] {
                assert!(pays(simd, &layer, size), "{layer:?}");
            }
            assert_eq!(super::size(simd, &layer, true), Size::Four, "{layer:?}");
            assert_eq!(super::size(simd, &layer, false), Size::Two, "{layer:?}");
        }
        // Tiles of 4 × 4 would need more memory than weights are given.
        assert_eq!(super::size(simd, &layer(256, 256, 14), true), Size::Two);
        // Measured with AVX2 and 512 KiB.
        if simd == Simd::Avx2 {
            for (channels, size) in [(64, 56), (128, 28), (256, 14)] {
                assert!(pays(simd, &layer(channels, channels, size), Size::Two), "{channels}");
            }
        }
        for layer in [layer(512, 512, 7), layer(2048, 2048, 14), layer(3, 64, 56), layer(64, 3, 3)]
        {
            assert!(!pays(simd, &layer, Size::Two), "{layer:?}");
        }
    }

    #[test]
    fn patches_suit_images_of_any_extent() {
        let simd = Simd::detect();
        let one = Share { patch: (1, 1), filter_tiles: 1 };
        assert_eq!(share(simd, 1, &layer(8, 8, 1), Size::Four), one);
        let wide = share(simd, 1, &layer(1024, 16, 600), Size::Two).patch;
        assert!(wide.0 == 1 && wide.1 < 300, "a row of tiles is cut: {wide:?}");
    }

    #[test]
    fn all_threads_have_work() {
        let simd = Simd::detect();
        for (layer, size) in [
            (layer(64, 64, 56), Size::Four),
            (layer(128, 128, 28), Size::Four),
            (layer(256, 256, 14), Size::Two),
            (layer(512, 512, 7), Size::Two),
        ] {
            for threads in [2, 3, 4] {
                let s = share(simd, threads, &layer, size);
                let (rows, columns) = tiles(&layer, size);
                let filters = blocks(layer.filters).div_ceil(Tiles::of(simd).blocks);
                let patches = rows.div_ceil(s.patch.0) * columns.div_ceil(s.patch.1);
                let tasks = patches * filters.div_ceil(s.filter_tiles);
                println!("{threads} threads, {tasks} tasks: {s:?} {size:?} {layer:?}");
                assert!(tasks >= threads, "{threads} threads, {tasks} tasks: {s:?} {layer:?}");
            }
        }
    }
}
