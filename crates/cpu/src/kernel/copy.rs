//! Copies that rearrange: transpose, slice, concat, pad and expand are all one strided copy; gathering rows is beside it.
//!
//! Axes are sorted by the step in the result and merged, so what is contiguous in both is one `memcpy`. Where the contiguous axes
//! of source and result differ, the two are walked in 32×32 tiles, so each cache line is used up while it is near.

use super::SharedMut;
use crate::pool::Pool;

/// A prepared strided copy. Strides are in elements; a source stride may be 0 (expand) or negative (reverse).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StridedCopy {
    /// Outer axes: extent, step in the source, step in the result.
    outer: Vec<(usize, isize, usize)>,
    inner: Inner,
    from_offset: usize,
    to_offset: usize,
    /// Lowest and highest source index, highest result index; `None` when nothing is copied.
    reach: Option<(usize, usize, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inner {
    /// `n` elements, contiguous in the result, `step` apart in the source.
    Line { n: usize, step: isize },
    /// `n` result-contiguous by `m` source-contiguous elements.
    Tile { n: usize, from_n: isize, m: usize, to_m: usize },
    /// `n` elements strided on both sides.
    Scattered { n: usize, from: isize, to: usize },
}

/// Side of a tile in elements.
const TILE: usize = 32;

impl StridedCopy {
    /// Copies the elements of `shape` from `from_offset + Σ index·from_strides` to `to_offset + Σ index·to_strides`.
    ///
    /// # Panics
    /// When the strides have another rank, or a source index would be negative.
    pub fn new(
        shape: &[usize],
        (from_offset, from_strides): (usize, &[isize]),
        (to_offset, to_strides): (usize, &[usize]),
    ) -> Self {
        assert!(
            from_strides.len() == shape.len() && to_strides.len() == shape.len(),
            "strides of another rank"
        );
        let mut axes: Vec<(usize, isize, usize)> = (0..shape.len())
            .filter(|&i| shape[i] != 1)
            .map(|i| (shape[i], from_strides[i], to_strides[i]))
            .collect();
        let reach = (!axes.iter().any(|a| a.0 == 0)).then(|| {
            let span = |a: &(usize, isize, usize)| (a.0 - 1) as isize * a.1;
            let low = from_offset as isize + axes.iter().map(|a| span(a).min(0)).sum::<isize>();
            let high = from_offset as isize + axes.iter().map(|a| span(a).max(0)).sum::<isize>();
            assert!(low >= 0, "the copy starts before its source");
            (
                low as usize,
                high as usize,
                to_offset + axes.iter().map(|a| (a.0 - 1) * a.2).sum::<usize>(),
            )
        });
        axes.sort_by_key(|a| std::cmp::Reverse(a.2));
        let mut merged: Vec<(usize, isize, usize)> = Vec::new();
        for axis in axes {
            match merged.last_mut() {
                Some(last) if last.2 == axis.2 * axis.0 && last.1 == axis.1 * axis.0 as isize => {
                    *last = (last.0 * axis.0, axis.1, axis.2);
                }
                _ => merged.push(axis),
            }
        }
        let inner = match merged.pop() {
            None => Inner::Line { n: 1, step: 1 },
            Some((n, from, to)) if to != 1 => Inner::Scattered { n, from, to },
            Some((n, step, _)) => {
                // A tile pays only when another axis is contiguous in the source and both are long enough.
                let other = merged.iter().position(|a| a.1 == 1 && a.0 >= 4);
                match other {
                    Some(i) if step != 1 && n >= 4 => {
                        let (m, _, to_m) = merged.remove(i);
                        Inner::Tile { n, from_n: step, m, to_m }
                    }
                    _ => Inner::Line { n, step },
                }
            }
        };
        Self { outer: merged, inner, from_offset, to_offset, reach }
    }

    /// The copy that transposes a contiguous tensor of `shape`: axis `i` of the result is axis `permutation[i]` of the source.
    ///
    /// # Panics
    /// When `permutation` is not one of the axes.
    pub fn transpose(shape: &[usize], permutation: &[usize]) -> Self {
        assert!(
            permutation.len() == shape.len() && (0..shape.len()).all(|i| permutation.contains(&i)),
            "permutation"
        );
        let from = row_major(shape);
        let result: Vec<usize> = permutation.iter().map(|&p| shape[p]).collect();
        let from_strides: Vec<isize> = permutation.iter().map(|&p| from[p] as isize).collect();
        Self::new(&result, (0, &from_strides), (0, &row_major(&result)))
    }

    /// Copies. What the copy does not reach in `to` stays.
    ///
    /// # Panics
    /// When a slice is shorter than the copy reaches.
    pub fn run<T: Copy + Send + Sync>(&self, from: &[T], to: &mut [T], pool: &Pool) {
        let Some((_, high, to_high)) = self.reach else { return };
        assert!(high < from.len() && to_high < to.len(), "the copy reaches beyond its slices");
        let rows: usize = self.outer.iter().map(|a| a.0).product();
        // Long lines and tiles are cut too, so that a plain copy or a single matrix uses all threads.
        let (inner, cut) = match self.inner {
            Inner::Line { n, .. } | Inner::Scattered { n, .. } => (n, 32 << 10),
            Inner::Tile { n, m, .. } => {
                (n * m, if m <= TILE { n } else { TILE * ((32 << 10) / (TILE * m)).max(1) })
            }
        };
        let line = match self.inner {
            Inner::Line { n, .. } | Inner::Scattered { n, .. } | Inner::Tile { n, .. } => n,
        };
        let parts = line.div_ceil(cut);
        let rows_per_task = ((32 << 10) / inner.max(1)).clamp(1, rows.max(1));
        let to = SharedMut::new(to);
        pool.parallel_for(rows.div_ceil(rows_per_task) * parts, |task, _| {
            let (first, part) = (task / parts * rows_per_task, task % parts);
            for row in first..(first + rows_per_task).min(rows) {
                let (mut source, mut target, mut rest) =
                    (self.from_offset as isize, self.to_offset, row);
                for &(n, f, t) in self.outer.iter().rev() {
                    source += (rest % n) as isize * f;
                    target += rest % n * t;
                    rest /= n;
                }
                // SAFETY: `reach` bounds every index; distinct tasks write distinct elements, as the result's strides do not overlap.
                unsafe {
                    let (source, target) = (from.as_ptr().offset(source), to.get().add(target));
                    self.inner_copy(source, target, part * cut..((part + 1) * cut).min(line));
                }
            }
        });
    }

    /// # Safety
    /// `from` and `to` reach the elements `range` of an inner line by this copy's strides; nobody else writes those of `to`.
    #[inline]
    unsafe fn inner_copy<T: Copy>(
        &self,
        from: *const T,
        to: *mut T,
        range: std::ops::Range<usize>,
    ) {
        // SAFETY: the caller's contract: all indices are within the slices.
        unsafe {
            match self.inner {
                Inner::Line { step: 1, .. } => {
                    std::ptr::copy_nonoverlapping(
                        from.add(range.start),
                        to.add(range.start),
                        range.len(),
                    );
                }
                Inner::Line { step: 0, .. } => {
                    let x = *from;
                    for i in range {
                        *to.add(i) = x;
                    }
                }
                Inner::Line { step, .. } => {
                    for i in range {
                        *to.add(i) = *from.offset(i as isize * step);
                    }
                }
                Inner::Scattered { from: step, to: to_step, .. } => {
                    for i in range {
                        *to.add(i * to_step) = *from.offset(i as isize * step);
                    }
                }
                Inner::Tile { from_n, m, to_m, .. } => {
                    let mut i0 = range.start;
                    while i0 < range.end {
                        let i1 = (i0 + TILE).min(range.end);
                        let mut j0 = 0;
                        while j0 < m {
                            let j1 = (j0 + TILE).min(m);
                            for j in j0..j1 {
                                let line = to.add(j * to_m);
                                let column = from.add(j);
                                for i in i0..i1 {
                                    *line.add(i) = *column.offset(i as isize * from_n);
                                }
                            }
                            j0 = j1;
                        }
                        i0 = i1;
                    }
                }
            }
        }
    }
}

/// Strides of a contiguous tensor.
pub fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * shape[i + 1];
    }
    strides
}

/// An index of a gather outside of the axis it indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexOutside {
    /// The index as given.
    pub index: i64,
    /// Extent of the axis.
    pub extent: usize,
}

impl std::fmt::Display for IndexOutside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "index {} is outside of an axis of {} elements", self.index, self.extent)
    }
}

impl std::error::Error for IndexOutside {}

/// `out[o, i, :] = data[o, indices[i], :]` for data of `[outer, extent, row]`; negative indices count from the end.
///
/// # Panics
/// When a slice is shorter than the shape says.
pub fn gather_rows<T: Copy + Send + Sync>(
    data: &[T],
    (outer, extent, row): (usize, usize, usize),
    indices: &[i64],
    out: &mut [T],
    pool: &Pool,
) -> Result<(), IndexOutside> {
    let n = indices.len();
    assert!(
        data.len() >= outer * extent * row && out.len() >= outer * n * row,
        "slices of the gather"
    );
    let position = |index: i64| {
        let at = if index < 0 { index + extent as i64 } else { index };
        (0..extent as i64)
            .contains(&at)
            .then_some(at as usize)
            .ok_or(IndexOutside { index, extent })
    };
    for &index in indices {
        position(index)?;
    }
    let per_task = (16_384 / row.max(1)).max(1);
    let to = SharedMut::new(out);
    pool.parallel_for((outer * n).div_ceil(per_task), |task, _| {
        for i in task * per_task..((task + 1) * per_task).min(outer * n) {
            let Ok(at) = position(indices[i % n]) else { continue };
            let source = &data[(i / n * extent + at) * row..][..row];
            // SAFETY: row `i` of the result is this task's, and within the slice.
            unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), to.get().add(i * row), row) };
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::Random;

    #[test]
    fn transposes_of_any_rank() {
        let mut random = Random::new(51);
        let pool = Pool::new(2);
        for _ in 0..crate::kernel::testing::rounds(200) {
            let rank = random.below(6);
            let shape: Vec<usize> =
                (0..rank).map(|_| 1 + random.below(if rank < 3 { 90 } else { 8 })).collect();
            let mut permutation: Vec<usize> = (0..rank).collect();
            for i in (1..rank).rev() {
                permutation.swap(i, random.below(i + 1));
            }
            let len = shape.iter().product();
            let from: Vec<u32> = (0..len as u32).collect();
            let mut to = vec![u32::MAX; len];
            StridedCopy::transpose(&shape, &permutation).run(&from, &mut to, &pool);
            let strides = row_major(&shape);
            for (i, &x) in to.iter().enumerate() {
                let (mut rest, mut want) = (i, 0);
                for &p in permutation.iter().rev() {
                    want += rest % shape[p] * strides[p];
                    rest /= shape[p];
                }
                assert_eq!(x as usize, want, "{shape:?} {permutation:?}");
            }
        }
    }

    #[test]
    fn slices_reverse_expand_and_place() {
        let pool = Pool::new(2);
        let from: Vec<i16> = (0..12).collect();
        let mut to = vec![-1; 12];
        // Rows 2, 1, 0 of a 3 × 4 matrix, every second column, placed at column 1 of rows of 4.
        StridedCopy::new(&[3, 2], (8, &[-4, 2]), (1, &[4, 1])).run(&from, &mut to, &pool);
        assert_eq!(to, [-1, 8, 10, -1, -1, 4, 6, -1, -1, 0, 2, -1]);
        StridedCopy::new(&[3, 4], (5, &[0, 1]), (0, &[4, 1])).run(&from, &mut to, &pool);
        assert_eq!(to, [5, 6, 7, 8, 5, 6, 7, 8, 5, 6, 7, 8]);
        StridedCopy::new(&[0, 4], (0, &[4, 1]), (0, &[4, 1])).run(&[0i16; 0], &mut [], &pool);
        let big: Vec<u8> = (0..200_000u32).map(|x| x as u8).collect();
        let mut copy = vec![0; big.len()];
        StridedCopy::new(&[2, 100_000], (0, &[100_000, 1]), (0, &[100_000, 1]))
            .run(&big, &mut copy, &pool);
        assert_eq!(big, copy);
    }

    #[test]
    fn gathering_checks_its_indices() {
        let pool = Pool::new(2);
        let data: Vec<u8> = (0..24).collect();
        let mut out = vec![0; 12];
        assert_eq!(gather_rows(&data, (2, 4, 3), &[-1, 0], &mut out, &pool), Ok(()));
        assert_eq!(out, [9, 10, 11, 0, 1, 2, 21, 22, 23, 12, 13, 14]);
        let outside = gather_rows(&data, (2, 4, 3), &[0, 4], &mut out, &pool);
        assert_eq!(outside, Err(IndexOutside { index: 4, extent: 4 }));
    }
}
