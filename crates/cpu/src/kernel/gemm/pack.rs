//! Panels: the order in which the tiles read A and B.
//!
//! A panel of A holds `height` rows k-major (`height` values for each k), a panel of B holds `width` columns k-major. The last
//! panel of A is as high as the rows left; the last of B is rounded up to whole vectors and padded with zeros. A panel holds all
//! of k, so a run of k is a contiguous part of it.
//!
//! v1: copies along the contiguous axis where there is one. v2: where the axes cross, squares are transposed in registers
//! (AVX-512, 128×1536 in panels of 13: about 80 → 50 us; at 384 columns of B that was a tenth of the product).
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at each function")]

use std::borrow::Cow;
use std::ops::Range;

use super::Matrix;
use super::micro::Tiles;
use crate::detect::Simd;
use crate::simd::{Task, Vector, dispatch};
use crate::weights::{Aligned, Packed, Slot};

/// A constant B (`k × n`) in panels; made once, read by every run.
#[derive(Debug)]
pub struct PackedB {
    pub(crate) panels: Aligned,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) simd: Simd,
}

/// A constant A (`m × k`) in panels; made once, read by every run.
#[derive(Debug)]
pub struct PackedA {
    pub(crate) panels: Aligned,
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) height: usize,
    pub(crate) simd: Simd,
}

/// Height of the panels for `m` rows: as few panels as the tile allows, of nearly equal height.
pub(crate) fn panel_height(m: usize, tile_rows: usize) -> usize {
    m.div_ceil(m.div_ceil(tile_rows).max(1)).max(1)
}

impl PackedB {
    /// Packs `b`, `k × n` with any strides, for kernels of `simd`.
    pub fn new(simd: Simd, k: usize, n: usize, b: &Matrix<'_>) -> Self {
        Self::in_slot(simd, k, n, b, Slot::default())
    }

    /// The same, in a slot.
    pub(crate) fn in_slot(simd: Simd, k: usize, n: usize, b: &Matrix<'_>, slot: Slot<'_>) -> Self {
        let simd = simd.at_most();
        b.check(k, n);
        let tiles = Tiles::of(simd);
        let (len, width) = (k * n.next_multiple_of(tiles.lanes), tiles.width());
        let panels = slot.filled(len, k * width, |i, panel| {
            let columns = i * width..n.min((i + 1) * width);
            // SAFETY: `b` covers k × n (checked) and the panel holds its columns rounded up to whole vectors.
            unsafe { pack_b(simd, b, 0..k, columns, width, panel.as_mut_ptr()) };
        });
        Self { panels, k, n, simd }
    }

    /// Packs a `k × n` matrix that lies row by row (`transposed`: column by column) and that `read` gives in runs of its
    /// elements, in their order and each once: one that is not in memory as numbers (unaligned bytes of a file) is never
    /// copied whole, and the pages of a file are read from the first to the last.
    pub(crate) fn from_runs<'r>(
        simd: Simd,
        k: usize,
        n: usize,
        transposed: bool,
        read: &(dyn Fn(Range<usize>) -> Cow<'r, [f32]> + Sync),
        slot: Slot<'_>,
    ) -> Self {
        let simd = simd.at_most();
        let tiles = Tiles::of(simd);
        let (len, width) = (k * n.next_multiple_of(tiles.lanes), tiles.width());
        let panels = if transposed {
            slot.filled(len, k * width, |i, panel| {
                let columns = i * width..n.min((i + 1) * width);
                let data = &read(columns.start * k..columns.end * k);
                let part = Matrix { data, row_stride: 1, column_stride: k };
                part.check(k, columns.len());
                // SAFETY: `part` covers the ranges (checked), and the panel holds its columns rounded up to whole vectors.
                unsafe { pack_b(simd, &part, 0..k, 0..columns.len(), width, panel.as_mut_ptr()) };
            })
        } else {
            slot.written(len, k.div_ceil(ROWS_AT_ONCE), |i, panels| {
                let rows = i * ROWS_AT_ONCE..k.min((i + 1) * ROWS_AT_ONCE);
                let data = &read(rows.start * n..rows.end * n);
                let part = Matrix::row_major(data, n);
                part.check(rows.len(), n);
                for column in (0..n).step_by(width) {
                    let count = width.min(n - column);
                    let to = column * k + rows.start * count.next_multiple_of(tiles.lanes);
                    // SAFETY: `part` covers the ranges (checked). All panels before this one are full, so it begins at
                    // `k` times its first column, and its first row here at that row times its own width; no other part
                    // has these rows.
                    unsafe {
                        let to = panels.get().add(to);
                        pack_b(simd, &part, 0..rows.len(), column..column + count, width, to);
                    }
                }
            })
        };
        Self { panels, k, n, simd }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.panels.len() * 4
    }
}

/// Rows of B that are packed at a time where its rows lie in a line: few enough to stay in the second-level cache.
const ROWS_AT_ONCE: usize = 16;

impl PackedA {
    /// Packs `a`, `m × k` with any strides, for kernels of `simd`.
    pub fn new(simd: Simd, m: usize, k: usize, a: &Matrix<'_>) -> Self {
        Self::in_slot(simd, m, k, a, Slot::default())
    }

    /// The same, in a slot.
    pub(crate) fn in_slot(simd: Simd, m: usize, k: usize, a: &Matrix<'_>, slot: Slot<'_>) -> Self {
        let simd = simd.at_most();
        a.check(m, k);
        let height = panel_height(m, Tiles::of(simd).rows);
        let panels = slot.filled(m * k, height * k, |i, panel| {
            let rows = i * height..m.min((i + 1) * height);
            // SAFETY: `a` covers m × k (checked) and the panel holds its rows.
            unsafe { pack_a(simd, a, rows, 0..k, height, panel.as_mut_ptr()) };
        });
        Self { panels, m, k, height, simd }
    }

    /// Packs a row-major `m × k` matrix that `read` gives in runs of elements, a panel's rows at a time, so that one
    /// that is not in memory as numbers (unaligned bytes of a file) is never copied whole.
    pub(crate) fn from_runs(
        simd: Simd,
        m: usize,
        k: usize,
        read: &(dyn Fn(Range<usize>, &mut [f32]) + Sync),
        slot: Slot<'_>,
    ) -> Self {
        let simd = simd.at_most();
        let height = panel_height(m, Tiles::of(simd).rows);
        let panels = slot.filled(m * k, height * k, |i, panel| {
            let start = i * height * k;
            let mut rows = vec![0.0f32; panel.len()];
            read(start..start + rows.len(), &mut rows);
            let (all, rows) = (rows.len() / k, Matrix::row_major(&rows, k));
            // SAFETY: `rows` covers these rows of `k`, and so does the panel.
            unsafe { pack_a(simd, &rows, 0..all, 0..k, height, panel.as_mut_ptr()) };
        });
        Self { panels, m, k, height, simd }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.panels.len() * 4
    }
}

impl Packed for PackedA {
    fn numbers(&self) -> &Aligned {
        &self.panels
    }
}

impl Packed for PackedB {
    fn numbers(&self) -> &Aligned {
        &self.panels
    }
}

/// Packs rows `rows` and columns `ks` of `a` in panels of `height` rows.
///
/// # Safety
/// `a` covers the ranges; `to` is writable for `rows.len() * ks.len()` elements.
pub(crate) unsafe fn pack_a(
    simd: Simd,
    a: &Matrix<'_>,
    rows: Range<usize>,
    ks: Range<usize>,
    height: usize,
    to: *mut f32,
) {
    let from = a.at(rows.start, ks.start);
    let (stride_i, stride_k) = (a.row_stride, a.column_stride);
    let (n, k) = (rows.len(), ks.len());
    dispatch(simd, Panels { from, stride_i, stride_k, n, k, width: height, multiple: 1, to });
}

/// Packs rows `ks` and columns `columns` of `b` in panels of `width` columns, the last rounded up to whole vectors and
/// zero-padded.
///
/// # Safety
/// `b` covers the ranges; `to` is writable for `ks.len()` times the columns rounded up to whole vectors.
pub(crate) unsafe fn pack_b(
    simd: Simd,
    b: &Matrix<'_>,
    ks: Range<usize>,
    columns: Range<usize>,
    width: usize,
    to: *mut f32,
) {
    let from = b.at(ks.start, columns.start);
    let (stride_i, stride_k) = (b.column_stride, b.row_stride);
    let (n, k) = (columns.len(), ks.len());
    let multiple = Tiles::of(simd).lanes;
    dispatch(simd, Panels { from, stride_i, stride_k, n, k, width, multiple, to });
}

/// Panels of `width` of `n` lines: `to[p·width + i] = from[i·stride_i + p·stride_k]` within a panel. The last panel is as wide
/// as the lines left, rounded up to `multiple` and filled with zeros.
struct Panels {
    from: *const f32,
    stride_i: usize,
    stride_k: usize,
    n: usize,
    k: usize,
    width: usize,
    multiple: usize,
    to: *mut f32,
}

impl Task for Panels {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (mut from, mut to, mut left) = (self.from, self.to, self.n);
        while left > 0 {
            let n = self.width.min(left);
            let padded = n.next_multiple_of(self.multiple);
            // SAFETY: `n` of the lines not yet packed, to a place for them (`pack_a`, `pack_b`).
            unsafe {
                panel::<V>(from, self.stride_i, self.stride_k, (n, self.k), padded, to);
                to = to.add(padded * self.k);
            }
            from = from.wrapping_add(n * self.stride_i);
            left -= n;
        }
    }
}

/// `to[p·padded + i] = from[i·stride_i + p·stride_k]` for `i < n`, zero for `n ≤ i < padded`, `p < k`.
///
/// # Safety
/// `from` is readable at every such place; `to` is writable for `padded * k` elements.
#[inline(always)]
unsafe fn panel<V: Vector>(
    from: *const f32,
    stride_i: usize,
    stride_k: usize,
    (n, k): (usize, usize),
    padded: usize,
    to: *mut f32,
) {
    if stride_i == 1 {
        for p in 0..k {
            let (mut i, row, to) = (0, from.wrapping_add(p * stride_k), to.add(p * padded));
            while i + V::LANES <= n {
                V::load(row.add(i)).store(to.add(i));
                i += V::LANES;
            }
            if i < padded {
                let rest = V::load_first(row.wrapping_add(i), n - i);
                rest.store_first(to.add(i), padded - i);
            }
        }
        return;
    }
    // Runs of k by all lines: what is read of each line is used up before it leaves the cache.
    let mut p = 0;
    while p < k {
        let count = V::LANES.min(k - p);
        let mut i = 0;
        while i < padded {
            let (lines, width) = (V::LANES.min(n - i), V::LANES.min(padded - i));
            let (from, to) = (from.add(i * stride_i + p * stride_k), to.add(p * padded + i));
            if stride_k == 1 {
                V::transpose(from, stride_i, (lines, count), to, padded, width);
            } else {
                for p in 0..count {
                    for i in 0..width {
                        let x =
                            if i < lines { *from.add(i * stride_i + p * stride_k) } else { 0.0 };
                        *to.add(p * padded + i) = x;
                    }
                }
            }
            i += V::LANES;
        }
        p += V::LANES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_in_runs_is_packing_whole() {
        for simd in Simd::available() {
            for (k, n) in [(1, 1), (5, 3), (16, 64), (37, 131), (40, 48)] {
                let data: Vec<f32> = (0..k * n).map(|i| i as f32).collect();
                for transposed in [false, true] {
                    let (row_stride, column_stride) = if transposed { (1, k) } else { (n, 1) };
                    let whole = Matrix { data: &data, row_stride, column_stride };
                    let whole = PackedB::new(simd, k, n, &whole);
                    let parts = PackedB::from_runs(
                        simd,
                        k,
                        n,
                        transposed,
                        &|run| Cow::Borrowed(&data[run]),
                        Slot::default(),
                    );
                    assert_eq!(
                        whole.panels.as_slice(),
                        parts.panels.as_slice(),
                        "{simd:?} {k}×{n} {transposed}"
                    );
                }
            }
        }
    }
}
