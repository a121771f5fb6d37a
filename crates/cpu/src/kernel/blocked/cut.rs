//! How a convolution is cut into tasks: strips of lines by parts of the filters, and which of the two follow one another.
//!
//! A thread takes a run of tasks (`pool.rs`). With strips of its own it finds the lines that it wrote for the layer before, and
//! reads all weights; with filters of its own it reads a share of the weights, and the lines that other cores wrote.

/// What is to be cut.
pub(super) struct Work {
    pub(super) threads: usize,
    pub(super) batch: usize,
    /// Output lines of an image, at least one.
    pub(super) lines: usize,
    /// Tiles of filters, at least one.
    pub(super) tiles: usize,
    /// Strips that the cache asks for.
    pub(super) least_strips: usize,
    /// Cycles of a line and a tile of filters.
    pub(super) products: usize,
    /// Bytes of an image that is read.
    pub(super) input: usize,
    /// Bytes of all weights.
    pub(super) weights: usize,
    /// Bytes of the second-level cache for either.
    pub(super) budget: usize,
}

/// The shape and the order of the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Lines of a strip.
    pub(super) strip: usize,
    /// Tiles of filters of a task.
    pub(super) filter_tiles: usize,
    /// Strips of the same filters follow one another.
    pub(super) parts_first: bool,
}

/// Bytes a cycle that another core's lines come at, where nothing asks for them ahead: 64 bytes in 13 ns.
const FROM_ANOTHER: usize = 2;
/// Bytes a cycle that weights come at, which are asked for while others are in use.
const FROM_FAR: usize = 8;

impl Cut {
    /// The cut that is expected to take the least time.
    pub(super) fn new(work: &Work) -> Cut {
        let whole = |strips: usize| Cut {
            strip: work.lines.div_ceil(strips),
            filter_tiles: work.tiles,
            parts_first: false,
        };
        if work.threads == 1 {
            return whole(work.least_strips);
        }
        // Enough tasks for threads to help each other out, not more than pay for their start.
        let most = (8 * work.threads).div_ceil(work.batch.max(1));
        let mut best = whole(work.least_strips);
        let mut least = usize::MAX;
        for strips in work.least_strips..=work.lines.min(work.least_strips.max(most)) {
            for parts in 1..=work.tiles.min(most) {
                if parts > 1 && strips * parts > work.least_strips.max(most) {
                    break;
                }
                for parts_first in [false, true] {
                    let cut = Cut {
                        strip: work.lines.div_ceil(strips),
                        filter_tiles: work.tiles.div_ceil(parts),
                        parts_first,
                    };
                    let time = cut.time(work);
                    if time < least {
                        (best, least) = (cut, time);
                    }
                }
            }
        }
        best
    }

    /// Cycles of the thread with most to do.
    fn time(&self, work: &Work) -> usize {
        let strips = work.lines.div_ceil(self.strip);
        let parts = work.tiles.div_ceil(self.filter_tiles);
        let tasks = work.batch * strips * parts;
        let size = |task: usize| {
            let (strip, part) = if self.parts_first {
                (task % strips, task / strips % parts)
            } else {
                (task / parts % strips, task % parts)
            };
            let lines = self.strip.min(work.lines - strip * self.strip);
            lines * self.filter_tiles.min(work.tiles - part * self.filter_tiles)
        };
        let products = work.products * longest_run(work.threads, tasks, size);
        // What others wait for while the last task ends.
        let waiting = products * work.threads / tasks.max(1) / 8;
        let share = |bytes: usize| bytes.div_ceil(work.threads);
        let kept = |bytes: usize| bytes <= work.budget;
        let reads = if self.parts_first && work.batch == 1 {
            let passes = if kept(work.weights / parts) { 1 } else { strips };
            let remote = work.input - share(work.input);
            share(work.weights) * passes / FROM_FAR + remote / FROM_ANOTHER
        } else {
            let passes = if kept(work.weights) { 1 } else { strips.div_ceil(work.threads) };
            // With fewer strips than threads, several read the lines of one.
            let remote = if strips * work.batch < work.threads { work.input } else { 0 };
            let weights = if remote == 0 { work.weights } else { share(work.weights) * strips };
            weights * passes / FROM_FAR + remote / FROM_ANOTHER
        };
        products + waiting + reads
    }
}

/// The most that one of `threads` has to do when each takes an equal run of tasks.
pub(super) fn longest_run(threads: usize, tasks: usize, size: impl Fn(usize) -> usize) -> usize {
    let at = |thread: usize| thread * tasks / threads;
    (0..threads).map(|t| (at(t)..at(t + 1)).map(&size).sum()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(lines: usize, tiles: usize, input: usize, weights: usize) -> Work {
        Work {
            threads: 2,
            batch: 1,
            lines,
            tiles,
            least_strips: 1,
            products: 10_000,
            input,
            weights,
            budget: 1 << 20,
        }
    }

    #[test]
    fn threads_take_lines_of_large_images_and_filters_of_many_weights() {
        let image = Cut::new(&work(56, 8, 1 << 20, 1 << 16));
        assert!(!image.parts_first, "{image:?}");
        let heavy = Cut::new(&work(4, 64, 1 << 16, 8 << 20));
        assert!(heavy.parts_first, "{heavy:?}");
    }

    #[test]
    fn the_halves_are_even() {
        for (lines, tiles) in [(1, 5), (2, 5), (7, 3), (4, 1), (3, 3), (56, 3)] {
            let work = work(lines, tiles, 1 << 12, 1 << 12);
            let cut = Cut::new(&work);
            let all = work.products * lines * tiles;
            assert!(cut.time(&work) < all, "{lines} {tiles}: {cut:?}");
        }
        // Two lines and five tiles of filters: five tasks each.
        let cut = Cut::new(&work(2, 5, 1 << 16, 1 << 18));
        let tasks = 2usize.div_ceil(cut.strip) * 5usize.div_ceil(cut.filter_tiles);
        assert_eq!(tasks % 2, 0, "{cut:?}");
    }
}
