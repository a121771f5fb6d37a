//! One copy for all data movement: from one strided place to another, in the longest runs both allow.
//!
//! v1: dims joined, the two innermost handled in one loop: runs by `memcpy`, repeats by filling, crossing strides in
//! tiles of 16 × 16 so that both sides stay in the cache; threads over the outer dims.
#![allow(unsafe_code, reason = "strided copies through raw pointers; bounds are checked once for the whole copy")]

use crate::kernel::{SharedMut, split_evenly};
use crate::pool::Pool;

/// Elements that one task moves at least.
const TASK: usize = 16 << 10;
const TILE: usize = 16;

/// A copy of every element of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StridedCopy {
    /// Size, source stride and target stride, outermost first; at least two.
    dims: Vec<(usize, isize, isize)>,
    source: isize,
    target: isize,
    len: usize,
}

impl StridedCopy {
    /// Strides and bases are in elements; source strides may be 0 or negative.
    pub(crate) fn new(shape: &[usize], source: &[isize], target: &[isize], source_base: isize, target_base: isize) -> Self {
        let mut dims: Vec<(usize, isize, isize)> = Vec::new();
        for ((&n, &s), &t) in shape.iter().zip(source).zip(target) {
            if n == 1 {
                continue;
            }
            match dims.last_mut() {
                Some((outer, outer_s, outer_t)) if *outer_s == s * n as isize && *outer_t == t * n as isize => {
                    (*outer, *outer_s, *outer_t) = (*outer * n, s, t);
                }
                _ => dims.push((n, s, t)),
            }
        }
        while dims.len() < 2 {
            dims.insert(0, (1, 0, 0));
        }
        StridedCopy { dims, source: source_base, target: target_base, len: shape.iter().product() }
    }

    /// Copies elements of `width` bytes (1, 2, 4 or 8).
    ///
    /// # Panics
    /// When an element lies outside of its slice.
    pub(crate) fn run(&self, width: usize, from: &[u8], to: &mut [u8], pool: &Pool) {
        if self.len == 0 {
            return;
        }
        let reach = |base: isize, stride: fn(&(usize, isize, isize)) -> isize| {
            let spans = self.dims.iter().map(|d| (d.0 - 1) as isize * stride(d));
            let low: isize = base + spans.clone().map(|s| s.min(0)).sum::<isize>();
            let high: isize = base + spans.map(|s| s.max(0)).sum::<isize>();
            (low, high)
        };
        let (low, high) = reach(self.source, |d| d.1);
        assert!(low >= 0 && (high as usize + 1) * width <= from.len(), "a copy reads outside its operand");
        let (low, high) = reach(self.target, |d| d.2);
        assert!(low >= 0 && (high as usize + 1) * width <= to.len(), "a copy writes outside its result");
        match width {
            1 => self.typed::<u8>(from, to, pool),
            2 => self.typed::<u16>(from, to, pool),
            4 => self.typed::<u32>(from, to, pool),
            8 => self.typed::<u64>(from, to, pool),
            _ => unreachable!("elements have 1, 2, 4 or 8 bytes"),
        }
    }

    fn typed<T: Copy + Send + Sync>(&self, from: &[u8], to: &mut [u8], pool: &Pool) {
        let (outer, inner) = self.dims.split_at(self.dims.len() - 2);
        let blocks: usize = outer.iter().map(|d| d.0).product();
        let per_block = inner[0].0 * inner[1].0;
        let source = Source(from.as_ptr().cast::<T>());
        let target = SharedMut::new(to);
        if blocks == 1 {
            // Nothing outside to divide: the first of the two inner dims is divided instead.
            let unit = split_evenly(inner[0].0, (self.len / TASK).clamp(1, 4 * pool.threads()), TILE);
            pool.parallel_for(inner[0].0.div_ceil(unit), |task, _| {
                let first = task * unit;
                let rows = (unit).min(inner[0].0 - first);
                let at = (self.source + first as isize * inner[0].1, self.target + first as isize * inner[0].2);
                // SAFETY: every element was checked to lie inside; tasks write disjoint elements, because the target
                // strides of a copy are those of a part of a tensor.
                unsafe {
                    let from = source.get().offset(at.0);
                    block::<T>((rows, inner[0].1, inner[0].2), inner[1], from, target.get().cast::<T>().offset(at.1));
                }
            });
            return;
        }
        let unit = split_evenly(blocks, (blocks * per_block / TASK).clamp(1, 4 * pool.threads()), 1);
        pool.parallel_for(blocks.div_ceil(unit), |task, _| {
            for index in task * unit..((task + 1) * unit).min(blocks) {
                let (mut s, mut t, mut rest) = (self.source, self.target, index);
                for &(n, ds, dt) in outer.iter().rev() {
                    let i = (rest % n) as isize;
                    rest /= n;
                    s += i * ds;
                    t += i * dt;
                }
                // SAFETY: as above.
                unsafe {
                    block::<T>(inner[0], inner[1], source.get().offset(s), target.get().cast::<T>().offset(t));
                }
            }
        });
    }
}

#[derive(Clone, Copy)]
struct Source<T>(*const T);
// SAFETY: only read.
unsafe impl<T> Sync for Source<T> {}
impl<T> Source<T> {
    fn get(self) -> *const T {
        self.0
    }
}

/// Two dims.
///
/// # Safety
/// All elements are readable and writable, and no other thread touches those written.
unsafe fn block<T: Copy>(
    (rows, rs, rt): (usize, isize, isize),
    (columns, cs, ct): (usize, isize, isize),
    from: *const T,
    to: *mut T,
) {
    // SAFETY: the caller's contract, for each offset below.
    unsafe {
        if ct == 1 && cs == 1 {
            for r in 0..rows as isize {
                std::ptr::copy_nonoverlapping(from.offset(r * rs), to.offset(r * rt), columns);
            }
        } else if ct == 1 && cs == 0 {
            for r in 0..rows as isize {
                let value = *from.offset(r * rs);
                std::slice::from_raw_parts_mut(to.offset(r * rt).cast::<std::mem::MaybeUninit<T>>(), columns)
                    .fill(std::mem::MaybeUninit::new(value));
            }
        } else if rows >= TILE && columns >= TILE && rs.abs() < cs.abs() {
            for r0 in (0..rows).step_by(TILE) {
                for c0 in (0..columns).step_by(TILE) {
                    for r in r0..(r0 + TILE).min(rows) {
                        let (from, to) = (from.offset(r as isize * rs), to.offset(r as isize * rt));
                        for c in c0..(c0 + TILE).min(columns) {
                            *to.offset(c as isize * ct) = *from.offset(c as isize * cs);
                        }
                    }
                }
            }
        } else {
            for r in 0..rows as isize {
                let (from, to) = (from.offset(r * rs), to.offset(r * rt));
                for c in 0..columns as isize {
                    *to.offset(c * ct) = *from.offset(c * cs);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_of_any_size_are_right() {
        let pool = Pool::new(2);
        for (rows, columns) in [(1, 1), (3, 70), (40, 33), (300, 200)] {
            let from: Vec<u32> = (0..rows * columns).map(|i| i as u32).collect();
            let mut to = vec![0u32; rows * columns];
            let copy = StridedCopy::new(&[columns, rows], &[1, columns as isize], &[rows as isize, 1], 0, 0);
            copy.run(4, bytemuck::cast_slice(&from), bytemuck::cast_slice_mut(&mut to), &pool);
            for r in 0..rows {
                for c in 0..columns {
                    assert_eq!(to[c * rows + r], from[r * columns + c]);
                }
            }
        }
    }

    #[test]
    fn broadcasts_and_reversals() {
        let pool = Pool::new(1);
        let mut to = [0u8; 6];
        StridedCopy::new(&[2, 3], &[1, 0], &[3, 1], 0, 0).run(1, &[7, 9], &mut to, &pool);
        assert_eq!(to, [7, 7, 7, 9, 9, 9]);
        let mut to = [0u8; 3];
        StridedCopy::new(&[3], &[-2], &[1], 4, 0).run(1, &[0, 1, 2, 3, 4], &mut to, &pool);
        assert_eq!(to, [4, 2, 0]);
    }

    #[test]
    fn dims_that_continue_are_joined() {
        let copy = StridedCopy::new(&[4, 5, 6], &[30, 6, 1], &[30, 6, 1], 0, 0);
        assert_eq!(copy.dims, [(1, 0, 0), (120, 1, 1)]);
    }
}
