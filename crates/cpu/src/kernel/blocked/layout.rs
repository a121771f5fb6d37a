//! From rows of channels to blocks of channels, and back.

use super::BLOCK;
use crate::kernel::{SharedMut, split_evenly};
use crate::pool::Pool;

/// Blocks that `channels` channels take.
pub fn blocks(channels: usize) -> usize {
    channels.div_ceil(BLOCK)
}

/// Pixels that are turned at a time: as many as a block has channels, so both sides move whole cache lines.
const PIXELS: usize = 16;

/// `[images, channels, pixels]` to blocks; lanes beyond the last channel become 0.
///
/// # Panics
/// When a slice is shorter than the shape says.
pub fn to_blocked<T: Copy + Default + Send + Sync>(
    (images, channels, pixels): (usize, usize, usize),
    input: &[T],
    out: &mut [T],
    pool: &Pool,
) {
    let per_image = blocks(channels);
    assert!(input.len() >= images * channels * pixels, "input shorter than its shape");
    assert!(out.len() >= images * per_image * pixels * BLOCK, "result shorter than its shape");
    let to = SharedMut::new(out);
    each_part(images * per_image, pixels, pool, &|plane, from, until| {
        let (image, block) = (plane / per_image, plane % per_image);
        let lanes = BLOCK.min(channels - block * BLOCK);
        let source = &input[(image * channels + block * BLOCK) * pixels..];
        // SAFETY: each part is written by one task, and within the slice.
        let result = unsafe {
            let start = to.get().add((plane * pixels + from) * BLOCK);
            std::slice::from_raw_parts_mut(start, (until - from) * BLOCK)
        };
        for (i, pixel) in result.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            for (lane, x) in pixel.iter_mut().enumerate() {
                *x = if lane < lanes { source[lane * pixels + from + i] } else { T::default() };
            }
        }
    });
}

/// Blocks to `[images, channels, pixels]`.
///
/// # Panics
/// When a slice is shorter than the shape says.
pub fn from_blocked<T: Copy + Default + Send + Sync>(
    (images, channels, pixels): (usize, usize, usize),
    input: &[T],
    out: &mut [T],
    pool: &Pool,
) {
    let per_image = blocks(channels);
    assert!(input.len() >= images * per_image * pixels * BLOCK, "input shorter than its shape");
    assert!(out.len() >= images * channels * pixels, "result shorter than its shape");
    let to = SharedMut::new(out);
    each_part(images * per_image, pixels, pool, &|plane, from, until| {
        let (image, block) = (plane / per_image, plane % per_image);
        let lanes = BLOCK.min(channels - block * BLOCK);
        let source = &input[(plane * pixels + from) * BLOCK..][..(until - from) * BLOCK];
        let (source, _) = source.as_chunks::<BLOCK>();
        for lane in 0..lanes {
            // SAFETY: each part of a channel is written by one task, and within the slice.
            let result = unsafe {
                let channel = image * channels + block * BLOCK + lane;
                let start = to.get().add(channel * pixels + from);
                std::slice::from_raw_parts_mut(start, until - from)
            };
            for (x, pixel) in result.iter_mut().zip(source) {
                *x = pixel[lane];
            }
        }
    });
}

/// Calls `body(plane, first pixel, pixel after the last)` for parts of all planes, in tasks of some thousand elements.
fn each_part(
    planes: usize,
    pixels: usize,
    pool: &Pool,
    body: &(dyn Fn(usize, usize, usize) + Sync),
) {
    let runs = pixels.div_ceil(PIXELS);
    let total = planes * runs;
    let unit = split_evenly(total, 4 * pool.threads(), 1).max(16);
    pool.parallel_for(total.div_ceil(unit), |task, _| {
        for run in task * unit..((task + 1) * unit).min(total) {
            let (plane, from) = (run / runs, run % runs * PIXELS);
            body(plane, from, (from + PIXELS).min(pixels));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::Random;

    #[test]
    fn blocks_and_back() {
        let mut random = Random::new(7);
        let pool = Pool::new(2);
        for channels in [1, 3, 15, 16, 17, 40] {
            for pixels in [1, 7, 16, 49] {
                let x = random.floats(2 * channels * pixels);
                let mut blocked = vec![f32::NAN; 2 * blocks(channels) * pixels * BLOCK];
                to_blocked((2, channels, pixels), &x, &mut blocked, &pool);
                for (i, &value) in blocked.iter().enumerate() {
                    let (lane, pixel) = (i % BLOCK, i / BLOCK % pixels);
                    let block = i / BLOCK / pixels % blocks(channels);
                    let (image, channel) =
                        (i / BLOCK / pixels / blocks(channels), block * BLOCK + lane);
                    let want = if channel < channels {
                        x[(image * channels + channel) * pixels + pixel]
                    } else {
                        0.0
                    };
                    assert_eq!(value, want);
                }
                let mut back = vec![f32::NAN; x.len()];
                from_blocked((2, channels, pixels), &blocked, &mut back, &pool);
                assert_eq!(back, x);
            }
        }
    }
}
