//! Which convolutions Winograd's algorithm suits, with which tiles, and how many of them at a time.

use super::transform::{Axis, Size};
use crate::costs::Costs;
use crate::detect::{Caches, Simd};
use crate::kernel::blocked::dense::line_cycles;
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

/// Whether the algorithm applies: one group, two spatial axes, three by three taps, steps of one pixel.
pub(super) fn does(shape: &ConvShape) -> bool {
    shape.groups == 1
        && shape.input_step == [1; 3]
        && shape.kernel == [1, 3, 3]
        && shape.stride == [1; 3]
        && shape.input[0] == 1
        && (shape.pads_begin[0], shape.pads_end[0]) == (0, 0)
        && shape.channels > 0
}

/// Bytes of the transformed weights.
pub(super) fn weight_bytes(shape: &ConvShape, size: Size) -> usize {
    blocks(shape.filters) * BLOCK * blocks(shape.channels) * BLOCK * size.products() * 4
}

/// Rows and columns of an image.
pub(super) fn axes(shape: &ConvShape, size: Size) -> [Axis; 2] {
    [1, 2].map(|axis| Axis {
        inputs: shape.input[axis],
        outputs: shape.output()[axis],
        pad: shape.pads_begin[axis],
        step: shape.dilation[axis],
        tile: size.outputs(),
    })
}

/// Rows and columns of tiles of an image.
pub(super) fn tiles(shape: &ConvShape, size: Size) -> (usize, usize) {
    let [rows, columns] = axes(shape, size).map(|axis| axis.tiles());
    (rows, columns)
}

/// What a task takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Rows and columns of tiles of a patch.
    pub(super) patch: (usize, usize),
    /// Tiles of filters.
    pub(super) filter_tiles: usize,
    /// Each point for all filters of the task before the next, instead of all points for each tile of filters.
    pub(super) points_first: bool,
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

/// The largest patch for the caches. What is read again stays in the second level: with points first a point of the transformed input, in
/// a quarter of it; else all points, with the products of a tile of filters, in a quarter, or more where that would be few tiles or
/// where weights come from beyond it.
fn largest_patch(simd: Simd, shape: &ConvShape, size: Size, points_first: bool) -> (usize, usize) {
    let (rows, columns) = tiles(shape, size);
    let (_, l2) = Caches::detect_once().for_blocking();
    let most = if points_first {
        l2 / 4 / (blocks(shape.channels) * BLOCK * 4)
    } else {
        let depth = blocks(shape.channels) + Tiles::of(simd).blocks;
        let tile = depth * BLOCK * 4 * size.products();
        let most = l2 * 5 / 8 / tile;
        if weights_fit(shape, size) { (l2 / 4 / tile).max(FEW_TILES.min(most)) } else { most }
    };
    let across = even(columns, most);
    (even(rows, most / across), across)
}

/// How the work is cut into tasks: as large as the caches allow for one thread, else so that all have about as much to do. Patches
/// read all weights again, parts of the filters transform the input again.
pub(super) fn share(simd: Simd, threads: usize, shape: &ConvShape, size: Size) -> Share {
    let filter_blocks = Tiles::of(simd).blocks;
    let filter_tiles = blocks(shape.filters).div_ceil(filter_blocks).max(1);
    let (rows, columns) = tiles(shape, size);
    let mut best = None;
    for points_first in [false, true] {
        let patch = largest_patch(simd, shape, size, points_first);
        // One thread has nobody to share with.
        let (downs, parts) = if threads == 1 { (patch.0, filter_tiles) } else { (1, 1) };
        for down in (downs..=patch.0).rev() {
            for part in (parts..=filter_tiles).rev() {
                let patches = shape.batch * rows.div_ceil(down) * columns.div_ceil(patch.1);
                let tasks = patches * filter_tiles.div_ceil(part);
                let filters = (part * filter_blocks * BLOCK).min(shape.filters);
                let each = cost(simd, shape, size, down * patch.1, filters, points_first);
                // The quarter is for threads that wait while the last task ends.
                let time = if threads == 1 {
                    4 * tasks * each
                } else {
                    each.saturating_mul(4 * tasks.div_ceil(threads) + 1)
                };
                let share = Share { patch: (down, patch.1), filter_tiles: part, points_first };
                if best.is_none_or(|(least, _)| time < least) {
                    best = Some((time, share));
                }
            }
        }
    }
    best.expect("patches have rows").1
}

/// What so many tiles take with so many filters, in multiplications.
fn cost(
    simd: Simd,
    shape: &ConvShape,
    size: Size,
    tiles: usize,
    filters: usize,
    points_first: bool,
) -> usize {
    let products = shape.channels * filters * (tiles + read(simd, weights_fit(shape, size)));
    // With points first transformed tiles and products are written beyond the second level and read again, and nothing asks for them ahead.
    let transform = TRANSFORM + if points_first { 4 * read(simd, false) } else { 0 };
    size.products() * (products + transform * tiles * (shape.channels + filters))
}

/// What an image takes on one thread.
fn whole_cost(simd: Simd, shape: &ConvShape, size: Size) -> usize {
    let (rows, columns) = tiles(shape, size);
    let share = share(simd, 1, &ConvShape { batch: 1, ..*shape }, size);
    let patches = rows.div_ceil(share.patch.0) * columns.div_ceil(share.patch.1);
    let each = (rows * columns).div_ceil(patches.max(1));
    patches * cost(simd, shape, size, each, shape.filters, share.points_first)
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

/// Taps of all outputs of an image that the direct kernel multiplies: under a dilation not those that read padding alone, which may be most.
fn taps(simd: Simd, shape: &ConvShape) -> usize {
    if shape.dilation[1..] == [1, 1] {
        return 9 * shape.output_pixels();
    }
    let reads = |tap: usize| {
        let offset = (tap * shape.dilation[1]) as isize - shape.pads_begin[1];
        let last = (shape.input[1] as isize - offset).min(shape.output()[1] as isize);
        (last - (-offset).max(0)).max(0) as usize
    };
    (0..3).map(reads).sum::<usize>() * line_cycles(simd, shape)
}

/// Whether it is expected to take at most four fifths of the direct kernel's time, for weights that are worth their memory.
pub(super) fn pays(simd: Simd, shape: &ConvShape, size: Size) -> bool {
    let pairs = shape.channels * shape.filters;
    let (_, l2) = Caches::detect_once().for_blocking();
    let direct = pairs * (taps(simd, shape) + 9 * read(simd, pairs * 9 * 4 <= l2 / 2));
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
        assert_eq!(super::size(simd, &layer(512, 512, 7), true), Size::Two);
        // Measured with AVX2 and 512 KiB.
        if simd == Simd::Avx2 {
            for (channels, size) in [(64, 56), (128, 28), (256, 14)] {
                assert!(pays(simd, &layer(channels, channels, size), Size::Two), "{channels}");
            }
        }
        let slow_weights = Costs::here(simd).far_weight >= 20;
        assert_eq!(pays(simd, &layer(512, 512, 7), Size::Two), !slow_weights);
        for layer in [layer(2048, 2048, 14), layer(3, 64, 56), layer(64, 3, 3)] {
            assert!(!pays(simd, &layer, Size::Two), "{layer:?}");
        }
    }

    #[test]
    fn taps_outside_of_the_image_do_not_count() {
        let dilated = |extent: usize, dilation: usize| {
            let (one, pads) = ([1, 1], [dilation as isize; 2]);
            let (sizes, extent, apart) = ((1, 8, 8, 1), [extent; 2], [dilation; 2]);
            ConvShape::new(sizes, &extent, &[3, 3], &one, &apart, (&pads, &pads)).expect("valid")
        };
        let simd = Simd::detect();
        let taps = |extent, dilation| taps(simd, &dilated(extent, dilation));
        assert_eq!(taps(5, 1), 9 * 5 * 5);
        assert!(taps(16, 12) < taps(16, 4), "two thirds of the lines' taps see padding");
        assert!(taps(16, 36) < taps(16, 12), "all but those in the middle do");
        let far = ConvShape { channels: 256, filters: 256, ..dilated(16, 12) };
        assert!(!pays(simd, &far, Size::Two), "most taps read nothing");
    }

    #[test]
    fn patches_suit_images_of_any_extent() {
        let simd = Simd::detect();
        let one = Share { patch: (1, 1), filter_tiles: 1, points_first: false };
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
