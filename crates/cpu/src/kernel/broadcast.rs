//! Walks a result and its broadcast operands in the longest possible inner runs.
//!
//! Axes that every operand steps through alike are merged first, so `[8, 64, 56, 56] + [1, 64, 1, 1]` is a loop over rows of 3,136
//! elements with one scalar each, and same-shape operands are a single run.

/// Operands a walk can have besides the result.
pub const MAX_OPERANDS: usize = 8;
/// Axes left after merging.
const MAX_AXES: usize = 16;
/// Longest run handed out at once; keeps threads balanced on a single long run.
const PIECE: usize = 4096;
/// Longest period of [`Broadcast::with_periods`], which the others divide: so that every piece starts with one.
const LONGEST_PERIOD: usize = 64;
/// Elements of one task.
const TASK: usize = 32 << 10;

/// The merged axes of a result (contiguous, row-major) and the strides of its operands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    axes: Vec<usize>,
    /// `[operand][axis]`, in elements; 0 where the operand repeats.
    strides: Vec<Vec<usize>>,
    /// `[operand]`: how many elements the operand repeats along the inner run; 0 where its stride says all.
    periods: Vec<usize>,
    len: usize,
    pieces_per_run: usize,
}

/// Row-major strides of `operand` as seen from `result` (numpy's rule: aligned at the last axis, 1 repeats).
/// `None` if the shapes do not broadcast.
pub fn broadcast_strides(operand: &[usize], result: &[usize]) -> Option<Vec<usize>> {
    let skip = result.len().checked_sub(operand.len())?;
    let mut strides = vec![0; result.len()];
    let mut step = 1;
    for i in (0..operand.len()).rev() {
        if operand[i] == result[skip + i] {
            strides[skip + i] = if operand[i] == 1 { 0 } else { step };
        } else if operand[i] != 1 {
            return None;
        }
        step *= operand[i];
    }
    Some(strides)
}

impl Broadcast {
    /// A walk over `shape`, whose operands have `strides[operand][axis]`.
    ///
    /// # Panics
    /// With more than [`MAX_OPERANDS`] operands, strides of another rank, or more than 16 axes that do not merge.
    pub fn new(shape: &[usize], strides: &[&[usize]]) -> Self {
        assert!(strides.len() <= MAX_OPERANDS, "{} operands", strides.len());
        assert!(strides.iter().all(|s| s.len() == shape.len()), "strides of another rank");
        let mut axes: Vec<usize> = Vec::new();
        let mut merged: Vec<Vec<usize>> = vec![Vec::new(); strides.len()];
        for axis in 0..shape.len() {
            if shape[axis] == 1 {
                continue;
            }
            // The axis before continues into this one when each operand's step over it is this axis's whole extent.
            let continues = !axes.is_empty()
                && merged
                    .iter()
                    .zip(strides)
                    .all(|(m, s)| m.last() == Some(&(s[axis] * shape[axis])));
            if continues {
                if let Some(last) = axes.last_mut() {
                    *last *= shape[axis];
                }
                merged.iter_mut().zip(strides).for_each(|(m, s)| {
                    m.pop();
                    m.push(s[axis]);
                });
            } else {
                axes.push(shape[axis]);
                merged.iter_mut().zip(strides).for_each(|(m, s)| m.push(s[axis]));
            }
        }
        if axes.is_empty() {
            axes.push(1);
            for m in &mut merged {
                m.push(0);
            }
        }
        assert!(axes.len() <= MAX_AXES, "{} axes do not merge", axes.len());
        let len = shape.iter().product();
        let run = axes[axes.len() - 1];
        let periods = vec![0; strides.len()];
        Self { axes, strides: merged, periods, len, pieces_per_run: run.div_ceil(PIECE).max(1) }
    }

    /// As it is, but where the inner runs are short only because some operands repeat a few elements (a scale for each
    /// channel of a block), one long run in which those operands are periodic, see [`Broadcast::period`].
    #[must_use]
    pub fn with_periods(mut self) -> Self {
        let &[.., outer, inner] = self.axes.as_slice() else { return self };
        let last = self.axes.len() - 1;
        if inner > LONGEST_PERIOD || !LONGEST_PERIOD.is_multiple_of(inner) {
            return self;
        }
        let merges = |s: &Vec<usize>| s[last - 1] == s[last] * inner;
        let repeats = |s: &Vec<usize>| s[last - 1] == 0 && s[last] == 1;
        if !self.strides.iter().all(|s| merges(s) || repeats(s)) {
            return self;
        }
        for (strides, period) in self.strides.iter_mut().zip(&mut self.periods) {
            let own = strides.pop().unwrap_or_default();
            if strides[last - 1] == 0 && own == 1 {
                *period = inner;
            } else {
                strides[last - 1] = own;
            }
        }
        self.axes.pop();
        self.axes[last - 1] = outer * inner;
        self.pieces_per_run = (outer * inner).div_ceil(PIECE).max(1);
        self
    }

    /// How many elements of `operand` repeat along each run, from its start; 0 when it goes by [`Broadcast::inner_stride`].
    pub fn period(&self, operand: usize) -> usize {
        self.periods[operand]
    }

    /// A walk over contiguous operands of one length.
    pub fn contiguous(len: usize, operands: usize) -> Self {
        let one = [1usize];
        Self::new(&[len], &vec![&one[..]; operands])
    }

    /// Elements of the result.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the result has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Step of `operand` along the inner run.
    pub fn inner_stride(&self, operand: usize) -> usize {
        self.strides[operand][self.axes.len() - 1]
    }

    /// Elements an operand must have.
    pub fn operand_len(&self, operand: usize) -> usize {
        if self.len == 0 {
            return 0;
        }
        let steps = self.axes.iter().zip(&self.strides[operand]);
        steps.map(|(n, s)| (n - 1) * s).sum::<usize>() + self.periods[operand].max(1)
    }

    /// Whether `operand` is walked exactly like the result.
    pub fn is_like_result(&self, operand: usize) -> bool {
        let mut step = 1;
        self.periods[operand] == 0
            && (0..self.axes.len()).rev().all(|i| {
                let same = self.strides[operand][i] == step || self.axes[i] == 1;
                step *= self.axes[i];
                same
            })
    }

    fn pieces(&self) -> usize {
        if self.len == 0 {
            0
        } else {
            self.len / self.axes[self.axes.len() - 1] * self.pieces_per_run
        }
    }

    fn pieces_per_task(&self) -> usize {
        let run = self.axes[self.axes.len() - 1].clamp(1, PIECE);
        (TASK / run).max(1)
    }

    /// How many tasks the walk divides into.
    pub fn tasks(&self) -> usize {
        self.pieces().div_ceil(self.pieces_per_task())
    }

    /// The runs of task `task`. An iterator rather than a callback, so that vector code stays in the function that was compiled
    /// for its instruction set.
    #[inline(always)]
    pub(crate) fn runs(&self, task: usize) -> Runs<'_> {
        let last = self.axes.len() - 1;
        let start = task * self.pieces_per_task();
        let left = self.pieces_per_task().min(self.pieces() - start);
        let row = start / self.pieces_per_run;
        let mut runs = Runs {
            walk: self,
            left,
            row,
            piece: start % self.pieces_per_run,
            index: [0; MAX_AXES],
            base: [0; MAX_OPERANDS],
        };
        let mut rest = row;
        for axis in (0..last).rev() {
            runs.index[axis] = rest % self.axes[axis];
            rest /= self.axes[axis];
            for (b, s) in runs.base.iter_mut().zip(&self.strides) {
                *b += runs.index[axis] * s[axis];
            }
        }
        runs
    }
}

/// One contiguous run of the result.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// Offset in the result.
    pub(crate) at: usize,
    /// Offset in each operand.
    pub(crate) from: [usize; MAX_OPERANDS],
    /// Elements.
    pub(crate) len: usize,
}

/// See [`Broadcast::runs`].
pub(crate) struct Runs<'a> {
    walk: &'a Broadcast,
    left: usize,
    row: usize,
    piece: usize,
    /// Position of the row in the outer axes.
    index: [usize; MAX_AXES],
    /// Where each operand's row starts.
    base: [usize; MAX_OPERANDS],
}

impl Iterator for Runs<'_> {
    type Item = Run;

    #[inline]
    fn next(&mut self) -> Option<Run> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let (axes, strides) = (&self.walk.axes, &self.walk.strides);
        let last = axes.len() - 1;
        let run = axes[last];
        let start = self.piece * PIECE;
        let mut from = self.base;
        for (a, s) in from.iter_mut().zip(strides) {
            *a += start * s[last];
        }
        let result = Run { at: self.row * run + start, from, len: PIECE.min(run - start) };
        self.piece += 1;
        if self.piece == self.walk.pieces_per_run {
            self.piece = 0;
            self.row += 1;
            for axis in (0..last).rev() {
                self.index[axis] += 1;
                for (b, s) in self.base.iter_mut().zip(strides) {
                    *b += s[axis];
                }
                if self.index[axis] < axes[axis] {
                    break;
                }
                for (b, s) in self.base.iter_mut().zip(strides) {
                    *b -= self.index[axis] * s[axis];
                }
                self.index[axis] = 0;
            }
        }
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::Random;

    #[test]
    fn axes_merge_as_far_as_operands_agree() {
        let b = Broadcast::new(&[8, 64, 56, 56], &[&[200_704, 3136, 56, 1], &[0, 1, 0, 0]]);
        assert_eq!(b.axes, [8, 64, 3136]);
        assert_eq!(b.strides, [[200_704, 3136, 1], [0, 1, 0]]);
        assert!(b.is_like_result(0) && !b.is_like_result(1));
        assert_eq!(Broadcast::new(&[2, 3, 4], &[&[12, 4, 1], &[12, 4, 1]]).axes, [24]);
        assert_eq!(Broadcast::new(&[], &[&[]]).axes, [1]);
    }

    #[test]
    fn shapes_broadcast_by_numpys_rule() {
        assert_eq!(broadcast_strides(&[3, 1], &[2, 3, 4]), Some(vec![0, 1, 0]));
        assert_eq!(broadcast_strides(&[5], &[2, 3]), None);
        assert_eq!(broadcast_strides(&[1, 2, 3], &[2, 3]), None);
    }

    #[test]
    fn each_element_is_visited_once_with_its_operands() {
        let mut random = Random::new(5);
        for _ in 0..crate::kernel::testing::rounds(60) {
            let rank = random.below(5);
            let shape: Vec<usize> =
                (0..rank).map(|_| 1 + random.below(if rank == 1 { 20_000 } else { 16 })).collect();
            let operand: Vec<usize> =
                shape.iter().map(|&n| if random.below(3) == 0 { 1 } else { n }).collect();
            let strides = broadcast_strides(&operand, &shape).expect("broadcasts");
            let walk = Broadcast::new(&shape, &[&strides]);
            let walk = if random.below(2) == 1 { walk.with_periods() } else { walk };
            let mut seen = vec![None; walk.len()];
            for task in 0..walk.tasks() {
                for Run { at, from, len } in walk.runs(task) {
                    for i in 0..len {
                        let step = match walk.period(0) {
                            0 => i * walk.inner_stride(0),
                            period => i % period,
                        };
                        assert!(seen[at + i].replace(from[0] + step).is_none());
                    }
                }
            }
            for (i, got) in seen.iter().enumerate() {
                let (mut rest, mut want) = (i, 0);
                for axis in (0..rank).rev() {
                    want += rest % shape[axis] * strides[axis];
                    rest /= shape[axis];
                }
                assert_eq!(*got, Some(want), "{shape:?} {operand:?} element {i}");
            }
        }
    }
}
