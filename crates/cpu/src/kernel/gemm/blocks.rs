//! Cache blocking of the matrix product, and the loop over the tiles of one block.
//!
//! v1: k is cut in even runs, so that a B panel stays in the second level while the rows of A stream past it. A block is `mc × nc` of C and is one task; whatever side is not packed in advance is packed into the thread's
//! scratch, run of k by run of k. Blocks are cut finer only until the threads are evenly loaded.
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at `Blocks::run`")]

use super::micro::{Target, Tiles};
use super::pack::{PackedA, PackedB, pack_a, pack_b, panel_height};
use super::{Epilogue, Matrix};
use crate::detect::{Caches, Simd};
use crate::kernel::activation::activate_rows;
use std::ops::Range;

/// Something that can write its rows `ks`, columns `columns` as panels of B, laid out as `pack_b` does.
pub trait SourceB: Sync {
    /// # Safety
    /// `to` is writable for `ks.len()` times the columns rounded up to vectors of `simd`, and 16 elements beyond.
    unsafe fn pack(
        &self,
        ks: Range<usize>,
        columns: Range<usize>,
        width: usize,
        simd: Simd,
        to: *mut f32,
    );
}

impl SourceB for Matrix<'_> {
    unsafe fn pack(
        &self,
        ks: Range<usize>,
        columns: Range<usize>,
        width: usize,
        simd: Simd,
        to: *mut f32,
    ) {
        pack_b(simd, self, ks, columns, width, to);
    }
}

/// Left side of a product.
#[derive(Clone, Copy)]
pub(crate) enum SideA<'a> {
    Packed(&'a PackedA),
    /// All of it in panels as high as the blocks say, packed by this run.
    Panels(*const f32),
    Source(&'a Matrix<'a>),
}

/// Right side of a product.
#[derive(Clone, Copy)]
pub(crate) enum SideB<'a> {
    Packed(&'a PackedB),
    Source(&'a dyn SourceB),
}

/// Where a product goes: top left of C and its row stride (unit column stride).
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub(crate) c: *mut f32,
    pub(crate) stride: usize,
}

// SAFETY: blocks write disjoint parts of C.
unsafe impl Sync for Out {}

/// How one product is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) simd: Simd,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Rows of a panel of A.
    pub(crate) height: usize,
    /// Rows of a block: panels begin anew with each, unless all of A was packed before.
    pub(crate) mc: usize,
    /// Columns of a block, a multiple of the tile's width unless it is all of them.
    pub(crate) nc: usize,
    /// Length of a run of k.
    pub(crate) kc: usize,
    pack_a: PackA,
    pack_b: bool,
}

/// Who packs the left side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PackA {
    /// Someone, before the product is run: the panels count from its first row.
    Before,
    /// The threads of the run together, a block's rows or all of them as `mc` says, before they multiply.
    Together,
    /// Each block, its own rows.
    Each,
}

/// Multiply-adds below which a block is not cut further: about ten microseconds of one core.
const SMALLEST_TASK: usize = 400_000;

/// Rows with which a thread is worth all of a packed B to itself: then A and C stay in its own cache from product to product,
/// and B comes at 5 GB/s to a core of 160 GFLOP/s. With fewer, threads share the columns.
const ROWS_EACH: usize = 64;

impl Blocks {
    /// The cut of `m × k` by `k × n`, done `batch` times by `threads` threads; `pack_b` says
    /// whether blocks pack B.
    pub(crate) fn new(
        simd: Simd,
        (m, n, k): (usize, usize, usize),
        batch: usize,
        threads: usize,
        (pack_a, pack_b): (PackA, bool),
    ) -> Self {
        let simd = simd.at_most();
        let tiles = Tiles::of(simd);
        let (_, l2) = Caches::detect_once().for_blocking();
        let mut height = panel_height(m, tiles.rows);
        let width = tiles.width();
        // A run of k is as long as a panel of B of a sixteenth of the second level allows: each run writes all of C.
        let longest = (l2 / 16 / 4 / width).max(1);
        let kc = k.div_ceil(k.div_ceil(longest).max(1)).max(1);
        // Half of the second level for the packed block that is used again and again, a quarter for the other.
        let limit = |share: usize, unit: usize| (l2 / share / 4 / kc / unit).max(1) * unit;
        let each = pack_a == PackA::Each;
        let mut mc =
            if each { limit(2, height) } else { usize::MAX }.min(m.next_multiple_of(height));
        let mut nc =
            if pack_b { limit(4, width) } else { usize::MAX }.min(n.next_multiple_of(width)).max(1);
        if pack_a == PackA::Together && !pack_b && m / threads >= ROWS_EACH {
            mc = m.div_ceil(threads);
            height = panel_height(mc, tiles.rows);
        }
        let wanted = if threads == 1 { 1 } else { 3 * threads };
        loop {
            let tasks = batch * m.div_ceil(mc.max(1)) * n.div_ceil(nc);
            if tasks >= wanted || mc * nc * k < 2 * SMALLEST_TASK {
                break;
            }
            // Cutting columns makes each block pack A again, and cutting rows B; what is packed already is read again, from
            // beyond the second level where it is a weight. Cut the side that costs less.
            let column_cost = if each { mc } else { mc / 2 };
            let row_cost = if pack_b { nc } else { nc / 2 };
            let (can_columns, can_rows) = (nc > width, mc > height);
            if can_columns && (!can_rows || column_cost <= row_cost) {
                nc = nc.div_ceil(width).div_ceil(2) * width;
            } else if can_rows {
                mc = mc.div_ceil(height).div_ceil(2) * height;
            } else {
                break;
            }
        }
        Self { simd, m, n, k, height, mc: mc.max(1), nc, kc, pack_a, pack_b }
    }

    /// Blocks along m and along n.
    pub(crate) fn grid(&self) -> (usize, usize) {
        (self.m.div_ceil(self.mc), self.n.div_ceil(self.nc))
    }

    /// Blocks of one product.
    pub(crate) fn tasks(&self) -> usize {
        let (rows, columns) = self.grid();
        rows * columns
    }

    /// Scratch elements one thread needs.
    pub(crate) fn scratch_per_thread(&self) -> usize {
        self.scratch_a() + self.scratch_b()
    }

    fn scratch_a(&self) -> usize {
        if self.pack_a == PackA::Each {
            (self.mc.min(self.m) * self.kc + 16).next_multiple_of(32)
        } else {
            0
        }
    }

    fn scratch_b(&self) -> usize {
        if self.pack_b { self.nc * self.kc + 32 } else { 0 }
    }

    /// Computes block `task < tasks()`.
    ///
    /// # Safety
    /// `out` covers `m × n`; nobody else touches this block of it; `scratch` is writable for `scratch_per_thread()` elements; the
    /// epilogue's slices are as long as `Epilogue::check` wants; the sides have this product's shape.
    pub(crate) unsafe fn run(
        &self,
        task: usize,
        a: SideA<'_>,
        b: SideB<'_>,
        out: Out,
        epilogue: &Epilogue<'_>,
        scratch: *mut f32,
    ) {
        let tiles = Tiles::of(self.simd);
        let width = tiles.width();
        let (_, column_blocks) = self.grid();
        let (m0, n0) = ((task / column_blocks) * self.mc, (task % column_blocks) * self.nc);
        let (m1, n1) = ((m0 + self.mc).min(self.m), (n0 + self.nc).min(self.n));
        let scratch_b = scratch.add(self.scratch_a());
        let clamp = epilogue.activation.as_clamp();
        let (low, high) = clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let mut k0 = 0;
        loop {
            let k1 = (k0 + self.kc).min(self.k);
            let kc = k1 - k0;
            if let SideA::Source(source) = a {
                pack_a(self.simd, source, m0..m1, k0..k1, self.height, scratch);
            }
            if let SideB::Source(source) = b {
                source.pack(k0..k1, n0..n1, width, self.simd, scratch_b);
            }
            let finish = k1 == self.k;
            let mut j = n0;
            while j < n1 {
                let columns = width.min(n1 - j);
                let vectors = columns.div_ceil(tiles.lanes);
                let padded = vectors * tiles.lanes;
                let panel_b = match b {
                    SideB::Packed(packed) => packed.panels.as_ptr().add(j * self.k + k0 * padded),
                    SideB::Source(_) => scratch_b.add((j - n0) * kc).cast_const(),
                };
                // While the rows of A pass this panel, the next one comes from wherever it is to the second level.
                let next = match b {
                    SideB::Packed(packed) if j + columns < n1 => {
                        let padded = width.min((n1 - j - columns).next_multiple_of(tiles.lanes));
                        let at = (j + columns) * self.k + k0 * padded;
                        Some(packed.panels.as_ptr().wrapping_add(at))
                    }
                    SideB::Packed(packed) if !finish => {
                        Some(packed.panels.as_ptr().wrapping_add(n0 * self.k + k1 * width))
                    }
                    SideB::Packed(_) | SideB::Source(_) => None,
                };
                let soon_step = padded.div_ceil((m1 - m0).div_ceil(self.height));
                let mut i = m0;
                while i < m1 {
                    let rows = self.height.min(m1 - i);
                    let panel_a = match a {
                        SideA::Packed(packed) => packed.panels.as_ptr().add(i * self.k + k0 * rows),
                        SideA::Panels(panels) => panels.add(i * self.k + k0 * rows),
                        SideA::Source(_) => scratch.add((i - m0) * kc).cast_const(),
                    };
                    let offset = |slice: Option<&[f32]>, at: usize| {
                        slice.map_or(std::ptr::null(), |s| s.as_ptr().wrapping_add(at))
                    };
                    let target = Target {
                        c: out.c.add(i * out.stride + j),
                        c_stride: out.stride,
                        columns,
                        accumulate: k0 > 0,
                        finish,
                        row_bias: offset(epilogue.row_bias, i),
                        column_bias: offset(epilogue.column_bias, j),
                        residual: offset(epilogue.residual, i * out.stride + j),
                        residual_stride: out.stride,
                        low,
                        high,
                        soon: match next {
                            Some(next) => {
                                next.wrapping_add((i - m0).div_ceil(self.height) * kc * soon_step)
                            }
                            None => panel_b,
                        },
                        soon_step: if next.is_some() { soon_step } else { 0 },
                    };
                    tiles.get(rows, vectors)(kc, (panel_a, rows), (panel_b, padded), &target);
                    if finish && clamp.is_none() {
                        activate_rows(
                            self.simd,
                            epilogue.activation,
                            target.c,
                            rows,
                            columns,
                            out.stride,
                        );
                    }
                    i += rows;
                }
                j += columns;
            }
            k0 = k1;
            if k0 >= self.k {
                break;
            }
        }
    }
}
