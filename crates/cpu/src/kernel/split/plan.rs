//! How a convolution is cut for the tiles, and whether the tiles are worth it.
//!
//! Pixels that a tap sees side by side must lie side by side: lines are staged one after another with zeros between them, wide
//! enough for the taps that reach over a line's ends, so that a tap is one offset for all pixels. A convolution with strides
//! sees one pixel in so many, so each remainder of rows and columns (a phase) is staged by itself. The positions between the
//! lines are multiplied like pixels and never written.

use super::tile::{Parts, ROW_BYTES, SIDE};
use crate::detect::Caches;
use crate::kernel::conv::ConvShape;
use std::ops::Range;

/// Channels of a step: a pair of blocks.
pub(super) const STEP: usize = 2 * SIDE;
/// Positions and filters of the largest tile.
pub(super) const TILE: usize = 2 * SIDE;
/// Steps whose weights are split at a time: they stay in the first-level cache while the positions go past them.
pub(super) const MOST_STEPS: usize = 4;

/// Where a tap finds its pixel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    /// Which of the phases.
    pub(super) phase: usize,
    /// Staged lines below the output's, and columns to the right.
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The cut.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) parts: Parts,
    /// Remainders of rows and columns that are staged.
    pub(super) phases: Vec<(usize, usize)>,
    pub(super) taps: Vec<Tap>,
    /// Positions from a line to the next.
    pub(super) pitch: usize,
    /// Zeros before a line.
    pub(super) gap: usize,
    /// The first staged line, counted in lines of the output from a chunk's first.
    pub(super) above: isize,
    /// Staged lines beyond a chunk's own.
    pub(super) extra: usize,
    /// Output lines of an image, and their length.
    pub(super) height: usize,
    pub(super) width: usize,
    /// Lines of a chunk; images of a chunk that has whole ones.
    pub(super) lines: usize,
    pub(super) images: usize,
    pub(super) chunks: usize,
    /// Pairs of blocks of channels, and how many are staged at a time.
    pub(super) pairs: usize,
    pub(super) slab: usize,
    /// Threads do one chunk together: they stage it, then share the filters.
    pub(super) together: bool,
    /// Panels of filters.
    pub(super) panels: usize,
    /// For each number of pairs and each plane that a slab can have, where each step finds its rows.
    steps: Vec<((usize, usize), Vec<usize>)>,
}

/// What tiles and their surroundings take, in cycles of the core.
mod cycles {
    /// A pair of parts in a step of a tile of 32 by 32: four products of 16 cycles.
    pub(super) const PAIR: usize = 4 * 16;
    /// A step's weights split for such a tile.
    pub(super) const WEIGHTS: usize = 256;
    /// A tile's sums written.
    pub(super) const WRITE: usize = 250;
    /// A tile's sums added to those of the steps before.
    pub(super) const ADD: usize = 100;
    /// A position of a pair staged.
    pub(super) const POSITION: usize = 10;
    /// Multiply-adds of the plain kernel's vectors a cycle, two of 16 lanes, nine tenths of the time.
    pub(super) const PLAIN_MACS: usize = 29;
}

impl Plan {
    /// A cut for pools of up to `threads` threads; none where the plain kernel is expected to take less time.
    pub(super) fn new(parts: Parts, shape: &ConvShape, threads: usize) -> Option<Plan> {
        let [_, height, width] = shape.output();
        if shape.batch == 0 || height == 0 || width == 0 {
            return None;
        }
        let mut plan = Plan::geometry(parts, shape, height, width);
        let (_, l2) = Caches::detect_once().for_blocking();
        let budget = l2 * 5 / 8;
        let whole = plan.staged_bytes(height, 1, plan.pairs);
        if whole <= budget {
            plan.images = (budget / whole).min(shape.batch.div_ceil(threads)).max(1);
        } else {
            plan.divide(shape, whole.div_ceil(budget), budget);
        }
        plan.chunks = plan.chunks_of(shape);
        if threads > 1 && plan.chunks < threads {
            let positions = plan.positions(plan.lines, plan.images);
            if positions / threads >= ALONE && plan.slab == plan.pairs {
                plan.lines = height.div_ceil(threads);
                plan.images = 1;
                plan.chunks = plan.chunks_of(shape);
            } else {
                plan.together = true;
            }
        }
        plan.place_steps(shape.batch);
        Some(plan)
    }

    /// Whether the plain kernel is expected to take more time.
    pub(super) fn pays(&self, shape: &ConvShape) -> bool {
        self.cycles() * 10 < plain_cycles(shape) * 9
    }

    fn chunks_of(&self, shape: &ConvShape) -> usize {
        if self.lines < self.height {
            shape.batch * self.height.div_ceil(self.lines)
        } else {
            shape.batch.div_ceil(self.images)
        }
    }

    fn geometry(parts: Parts, shape: &ConvShape, height: usize, width: usize) -> Plan {
        let mut phases: Vec<(usize, usize)> = Vec::new();
        let mut shifts = Vec::new();
        // Along an axis: the remainder that a tap sees, and which of its pixels the first output sees.
        let along = |axis: usize, tap: usize| {
            let offset = (tap * shape.dilation[axis]) as isize - shape.pads_begin[axis];
            let stride = shape.stride[axis] as isize;
            (offset.rem_euclid(stride) as usize, offset.div_euclid(stride))
        };
        for kh in 0..shape.kernel[1] {
            for kw in 0..shape.kernel[2] {
                let ((down, line), (across, column)) = (along(1, kh), along(2, kw));
                let phase = phases.iter().position(|&p| p == (down, across)).unwrap_or_else(|| {
                    phases.push((down, across));
                    phases.len() - 1
                });
                shifts.push((phase, line, column));
            }
        }
        let least = |of: fn(&(usize, isize, isize)) -> isize| shifts.iter().map(of).min();
        let above = least(|s| s.1).unwrap_or(0);
        let below = shifts.iter().map(|s| s.1).max().unwrap_or(0);
        let gap = least(|s| s.2).unwrap_or(0).min(0).unsigned_abs();
        let mut pitch = width;
        for &(phase, _, column) in &shifts {
            let own = columns(shape, phases[phase].1);
            let over = (width as isize - 1 + column - (own as isize - 1)).max(0) as usize;
            pitch = pitch.max(own + gap.max(over));
        }
        let taps = shifts
            .iter()
            .map(|&(phase, line, column)| Tap {
                phase,
                line: (line - above) as usize,
                column: (column + gap as isize) as usize,
            })
            .collect();
        let pairs = shape.channels.div_ceil(STEP);
        Plan {
            parts,
            phases,
            taps,
            pitch,
            gap,
            above,
            extra: (below - above) as usize,
            height,
            width,
            lines: height,
            images: 1,
            chunks: 1,
            pairs,
            slab: pairs,
            together: false,
            panels: shape.filters.div_ceil(TILE),
            steps: Vec::new(),
        }
    }

    /// All slabs that a run of so many images meets: the last of them may be smaller.
    fn place_steps(&mut self, batch: usize) {
        for chunk in 0..self.chunks {
            let (images, lines) = self.chunk(chunk, batch);
            let plane = self.plane(lines.len(), images.len());
            for first in (0..self.pairs).step_by(self.slab) {
                let pairs = self.slab.min(self.pairs - first);
                if !self.steps.iter().any(|(key, _)| *key == (pairs, plane)) {
                    let steps = self.offsets(pairs, plane);
                    self.steps.push(((pairs, plane), steps));
                }
            }
        }
    }

    /// Where each step of a slab finds its rows, in bytes; a pair's taps follow one another.
    pub(super) fn steps(&self, pairs: usize, plane: usize) -> &[usize] {
        let found = self.steps.iter().find(|(key, _)| *key == (pairs, plane));
        &found.expect("every slab of a run was placed").1
    }

    /// Cuts an image that is too large to be staged whole in about `parts` parts: strips of lines, which all split all weights
    /// and stage lines beyond their own, or slabs of channels, whose sums wait in memory.
    fn divide(&mut self, shape: &ConvShape, parts: usize, budget: usize) {
        let mut lines = self.height.div_ceil(parts);
        while lines > 1 && self.staged_bytes(lines, 1, self.pairs) > budget {
            lines -= 1;
        }
        let strips = self.height.div_ceil(lines);
        let weights = self.pairs * self.taps.len() * self.panels * cycles::WEIGHTS;
        let again = self.pairs * self.phases.len() * self.extra * self.pitch * cycles::POSITION;
        let slab = self.pairs.div_ceil(parts);
        let tiles = self.positions(self.height, 1).div_ceil(TILE) * self.panels;
        let slabs_cost = self.pairs.div_ceil(slab) * tiles * 3 * cycles::ADD;
        let fits = tiles * TILE * TILE * 4 <= 4 * budget;
        if fits && self.height > 1 && slabs_cost < (strips - 1) * (weights + again) {
            self.slab = slab;
        } else {
            self.lines = lines;
        }
        if self.height == 1 && shape.batch > 0 {
            self.lines = 1;
            self.slab = slab;
        }
    }

    /// Positions that are multiplied for so many lines of so many images.
    pub(super) fn positions(&self, lines: usize, images: usize) -> usize {
        ((images - 1) * (lines + self.extra) + lines) * self.pitch
    }

    /// Rows from one plane of a chunk to the next: a tile's reach beyond the last position included.
    pub(super) fn plane(&self, lines: usize, images: usize) -> usize {
        let furthest = self.taps.iter().map(|t| t.line * self.pitch + t.column).max().unwrap_or(0);
        // An odd number of lines of the cache, so that planes do not compete for the same.
        (self.positions(lines, images).next_multiple_of(TILE) + furthest + self.pitch) | 1
    }

    /// Bytes of the staged parts of so many lines, images and pairs.
    pub(super) fn staged_bytes(&self, lines: usize, images: usize, pairs: usize) -> usize {
        self.plane(lines, images) * pairs * self.phases.len() * ROW_BYTES * self.parts.count()
    }

    fn offsets(&self, pairs: usize, plane: usize) -> Vec<usize> {
        let mut offsets = Vec::with_capacity(pairs * self.taps.len());
        for pair in 0..pairs {
            for tap in &self.taps {
                let row = (tap.phase * pairs + pair) * plane + tap.line * self.pitch + tap.column;
                offsets.push(row * ROW_BYTES);
            }
        }
        offsets
    }

    /// What chunk `index` covers.
    pub(super) fn chunk(&self, index: usize, batch: usize) -> (Range<usize>, Range<usize>) {
        if self.lines < self.height {
            let strips = self.height.div_ceil(self.lines);
            let (image, strip) = (index / strips, index % strips);
            let end = ((strip + 1) * self.lines).min(self.height);
            (image..image + 1, strip * self.lines..end)
        } else {
            let end = ((index + 1) * self.images).min(batch);
            (index * self.images..end, 0..self.height)
        }
    }

    fn cycles(&self) -> usize {
        let steps = self.pairs * self.taps.len();
        let positions = self.positions(self.lines, self.images);
        let tiles = positions.div_ceil(SIDE) * self.panels;
        let sums = steps.div_ceil(MOST_STEPS) - 1;
        let step = self.parts.pairs().len() * cycles::PAIR;
        let multiplied = tiles * (steps * step + cycles::WRITE + sums * cycles::ADD) / 2;
        let staged = self.pairs * self.phases.len() * positions * cycles::POSITION;
        self.chunks * (multiplied + staged + steps * self.panels * cycles::WEIGHTS)
    }
}

/// Positions that a thread does alone rather than share the filters of more.
const ALONE: usize = 256;

/// Columns of a phase.
fn columns(shape: &ConvShape, across: usize) -> usize {
    shape.input[2].saturating_sub(across).div_ceil(shape.stride[2])
}

/// The plain kernel's time: taps that see only padding take none.
fn plain_cycles(shape: &ConvShape) -> usize {
    let [_, height, width] = shape.output();
    let seen = |axis: usize, outputs: usize| -> usize {
        let inside = |output: usize, tap: usize| {
            let at = (output * shape.stride[axis] + tap * shape.dilation[axis]) as isize
                - shape.pads_begin[axis];
            (0..shape.input[axis] as isize).contains(&at)
        };
        (0..shape.kernel[axis])
            .map(|tap| (0..outputs).filter(|&output| inside(output, tap)).count())
            .sum()
    };
    let macs = shape.batch * seen(1, height) * seen(2, width) * shape.channels * shape.filters;
    macs / cycles::PLAIN_MACS
}
