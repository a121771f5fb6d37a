//! The register tile of the matrix product: `MR` rows by `NV` vectors of C, over a run of k.
//!
//! v1: generic over rows and vectors, so a tail of 5 rows is a 5-row tile and no row of zeros is ever multiplied. A is packed
//! k-major in panels as high as the tile, B is read through a row stride, which is the panel width when packed and the matrix's
//! own when it is used in place. v2: the write-back is one function, not part of each tile. Tile sizes fill the registers: 14×2 of 32 (AVX-512), 6×2 of 16 (AVX2), 8×3 of 32 (NEON).
#![allow(unsafe_op_in_unsafe_fn, reason = "one contract for the whole tile, stated at `Tile`")]

use crate::detect::Simd;
use crate::simd::{Scalar, Vector, prefetch, prefetch_far};

/// Where a tile goes, and what happens to it on the way. All pointers may be null but `c`.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// Top left of the tile in C, unit column stride.
    pub(crate) c: *mut f32,
    /// Row stride of C.
    pub(crate) c_stride: usize,
    /// Columns of the tile within C, at least 1.
    pub(crate) columns: usize,
    /// Add what C holds.
    pub(crate) accumulate: bool,
    /// This is the last run of k: bias, residual and clamp apply.
    pub(crate) finish: bool,
    /// One value a row.
    pub(crate) row_bias: *const f32,
    /// One value a column.
    pub(crate) column_bias: *const f32,
    /// Same shape as C.
    pub(crate) residual: *const f32,
    /// Row stride of the residual.
    pub(crate) residual_stride: usize,
    /// Clamp.
    pub(crate) low: f32,
    /// Clamp.
    pub(crate) high: f32,
    /// What is read next from far: asked for on the way, `soon_step` elements a step of k.
    pub(crate) soon: *const f32,
    /// See `soon`.
    pub(crate) soon_step: usize,
}

impl Target {
    /// The bare product, overwriting.
    pub(crate) fn plain(c: *mut f32, c_stride: usize, columns: usize) -> Self {
        Self {
            c,
            c_stride,
            columns,
            accumulate: false,
            finish: false,
            row_bias: std::ptr::null(),
            column_bias: std::ptr::null(),
            residual: std::ptr::null(),
            residual_stride: 0,
            low: f32::NEG_INFINITY,
            high: f32::INFINITY,
            soon: std::ptr::null(),
            soon_step: 0,
        }
    }
}

/// `(k, (a, a_step), (b, b_step), target)`.
///
/// In a tile of the main table `a` holds `MR` consecutive elements for each of `k` steps of `a_step`; in one of the table for rows,
/// `MR` rows `a_step` apart of `k` consecutive elements. `b` holds `NV` vectors for each of `k` steps of `b_step`.
///
/// # Safety
/// `a` and `b` are readable as above, the target's pointers cover the tile, and the CPU has the instruction set the function was
/// compiled for.
pub(crate) type Tile = unsafe fn(usize, (*const f32, usize), (*const f32, usize), &Target);

/// The tiles of one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    /// Lanes of a vector.
    pub(crate) lanes: usize,
    /// Largest height.
    pub(crate) rows: usize,
    /// Largest width in vectors.
    pub(crate) vectors: usize,
    /// `[height - 1][width in vectors - 1]`, A k-major.
    table: &'static [[Tile; 3]],
    /// The same up to [`STRIDED_ROWS`] rows, A row by row as it lies in memory.
    by_rows: &'static [[Tile; 3]],
}

/// Largest height of a tile that reads A by rows: one address a row has to fit the general registers.
pub(crate) const STRIDED_ROWS: usize = 6;

impl Tiles {
    /// Columns of the widest tile.
    pub(crate) fn width(&self) -> usize {
        self.lanes * self.vectors
    }

    /// The tile of `rows` by `vectors`.
    pub(crate) fn get(&self, rows: usize, vectors: usize) -> Tile {
        self.table[rows - 1][vectors - 1]
    }

    /// The tile of `rows ≤ STRIDED_ROWS` by `vectors` that reads A by rows.
    pub(crate) fn get_by_rows(&self, rows: usize, vectors: usize) -> Tile {
        self.by_rows[rows - 1][vectors - 1]
    }

    /// The table of `simd`.
    pub(crate) fn of(simd: Simd) -> Self {
        match simd {
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => {
                Self { lanes: 16, rows: 14, vectors: 2, table: &AVX512, by_rows: &AVX512_BY_ROWS }
            }
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => {
                Self { lanes: 8, rows: 6, vectors: 2, table: &AVX2, by_rows: &AVX2_BY_ROWS }
            }
            #[cfg(target_arch = "aarch64")]
            Simd::Neon => {
                Self { lanes: 4, rows: 8, vectors: 3, table: &NEON, by_rows: &NEON_BY_ROWS }
            }
            _ => Self { lanes: 4, rows: 4, vectors: 2, table: &SCALAR, by_rows: &SCALAR_BY_ROWS },
        }
    }
}

/// How many steps of k ahead B is asked for: its stream comes from beyond the first level, and the hardware follows it only to
/// the end of a page.
const AHEAD: usize = 32;

/// # Safety
/// As [`Tile`]; `out` is writable for `MR * NV` vectors.
#[inline(always)]
unsafe fn tile<V: Vector, const MR: usize, const NV: usize, const BY_ROWS: bool>(
    k: usize,
    (mut a, a_step): (*const f32, usize),
    (mut b, b_step): (*const f32, usize),
    out: *mut f32,
    (mut soon, soon_step): (*const f32, usize),
) {
    // A sum waits for the one before it: small tiles keep several of each, of every second or fourth step of k.
    let sets = const {
        match MR * NV {
            0..4 => 4,
            4..8 => 2,
            _ => 1,
        }
    };
    let mut acc = [[[V::zero(); NV]; MR]; 4];
    let mut left = k;
    while left > 0 {
        for (set, acc) in acc.iter_mut().enumerate().take(sets.min(left)) {
            let mut row = [V::zero(); NV];
            for (j, x) in row.iter_mut().enumerate() {
                *x = V::load(b.add(set * b_step + j * V::LANES));
            }
            for (i, sums) in acc.iter_mut().enumerate() {
                let at = if BY_ROWS { i * a_step + set } else { set * a_step + i };
                let x = V::splat(*a.add(at));
                for j in 0..NV {
                    sums[j] = x.fma(row[j], sums[j]);
                }
            }
            // One row reads as fast as the second level gives, and there asking only takes turns away.
            for j in 0..if MR == 1 { 0 } else { NV * V::LANES / 16 } {
                prefetch(b.wrapping_add((AHEAD + set) * b_step + j * 16));
            }
        }
        prefetch_far(soon);
        let steps = sets.min(left);
        soon = soon.wrapping_add(steps * soon_step);
        // After the last step both may point past what they read.
        a = a.wrapping_add(if BY_ROWS { steps } else { steps * a_step });
        b = b.wrapping_add(steps * b_step);
        left -= steps;
    }
    for i in 0..MR {
        for j in 0..NV {
            let mut sum = acc[0][i][j];
            for acc in &acc[1..sets] {
                sum = sum.add(acc[i][j]);
            }
            sum.store(out.add((i * NV + j) * V::LANES));
        }
    }
}

/// Writes `rows` rows of `vectors` vectors of sums from `sums` to their target. Apart from the tiles, which hand their registers
/// over through the stack: inlined in each of them it was most of the build time, for a few cycles of a tile's hundreds.
///
/// # Safety
/// `sums` is readable for `rows * vectors` vectors; the target's pointers cover the tile, which nobody else touches.
#[inline(always)]
unsafe fn write<V: Vector>(sums: *const f32, rows: usize, vectors: usize, t: &Target) {
    if t.columns == vectors * V::LANES {
        write_columns::<V, true>(sums, rows, vectors, t);
    } else {
        write_columns::<V, false>(sums, rows, vectors, t);
    }
}

/// `WHOLE` when all columns are within C.
///
/// # Safety
/// As `write`; with `WHOLE` the target has `vectors * LANES` columns.
#[inline(always)]
unsafe fn write_columns<V: Vector, const WHOLE: bool>(
    sums: *const f32,
    rows: usize,
    vectors: usize,
    t: &Target,
) {
    let (low, high) = (V::splat(t.low), V::splat(t.high));
    for j in 0..vectors {
        let column = j * V::LANES;
        let n = if WHOLE { V::LANES } else { t.columns.saturating_sub(column).min(V::LANES) };
        if n == 0 {
            break;
        }
        let column_bias = if t.finish && !t.column_bias.is_null() {
            load::<V, WHOLE>(t.column_bias.add(column), n)
        } else {
            V::zero()
        };
        for i in 0..rows {
            let c = t.c.add(i * t.c_stride + column);
            let mut x = V::load(sums.add((i * vectors + j) * V::LANES));
            if t.accumulate {
                x = x.add(load::<V, WHOLE>(c, n));
            }
            if t.finish {
                x = x.add(column_bias);
                if !t.row_bias.is_null() {
                    x = x.add(V::splat(*t.row_bias.add(i)));
                }
                if !t.residual.is_null() {
                    x = x.add(load::<V, WHOLE>(t.residual.add(i * t.residual_stride + column), n));
                }
                x = x.clamp(low, high);
            }
            if WHOLE {
                x.store(c);
            } else {
                x.store_first(c, n);
            }
        }
    }
}

/// # Safety
/// `p` is readable for `n ≤ LANES` elements, with `WHOLE` for `LANES`.
#[inline(always)]
unsafe fn load<V: Vector, const WHOLE: bool>(p: *const f32, n: usize) -> V {
    if WHOLE { V::load(p) } else { V::load_first(p, n) }
}

/// The largest tile, 14 × 32, on its own cache lines.
#[repr(align(64))]
struct Sums(std::mem::MaybeUninit<[f32; 14 * 32]>);

/// Two tables of tiles: heights as listed, widths 1, 2 and 3 (3 repeats 2 where two is the largest).
macro_rules! tiles {
    (
        $name:ident, $by_rows:ident, $function:ident, $write:ident, $vector:ty, $($features:literal)?,
        [$($rows:literal)*], $third:literal
    ) => {
        /// # Safety
        /// See [`Tile`].
        $(#[target_feature(enable = $features)])?
        unsafe fn $function<const MR: usize, const NV: usize, const BY_ROWS: bool>(
            k: usize, a: (*const f32, usize), b: (*const f32, usize), t: &Target,
        ) {
            let mut sums = Sums(std::mem::MaybeUninit::uninit());
            let sums = sums.0.as_mut_ptr().cast();
            // The rows of C are far apart: asked for now, they are there when the sums are.
            for i in 0..MR {
                prefetch(t.c.wrapping_add(i * t.c_stride));
                prefetch(t.c.wrapping_add(i * t.c_stride + NV * <$vector>::LANES - 1));
            }
            tile::<$vector, MR, NV, BY_ROWS>(k, a, b, sums, (t.soon, t.soon_step));
            $write(sums, MR, NV, t);
        }
        /// # Safety
        /// As `write`, on a CPU with these instructions.
        $(#[target_feature(enable = $features)])?
        #[inline(never)]
        unsafe fn $write(sums: *const f32, rows: usize, vectors: usize, t: &Target) {
            write::<$vector>(sums, rows, vectors, t);
        }
        static $name: [[Tile; 3]; [$($rows),*].len()] = [$([
            $function::<$rows, 1, false>, $function::<$rows, 2, false>, $function::<$rows, $third, false>,
        ]),*];
        static $by_rows: [[Tile; 3]; STRIDED_ROWS] = tiles!(@rows $function, $third, [1 2 3 4 5 6]);
    };
    (@rows $function:ident, $third:literal, [$($rows:literal)*]) => {
        [$([$function::<$rows, 1, true>, $function::<$rows, 2, true>, $function::<$rows, $third, true>]),*]
    };
}

#[cfg(target_arch = "x86_64")]
tiles!(AVX512, AVX512_BY_ROWS, tile_avx512, write_avx512, crate::simd::Avx512,
    "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma", [1 2 3 4 5 6 7 8 9 10 11 12 13 14], 2);
#[cfg(target_arch = "x86_64")]
tiles!(AVX2, AVX2_BY_ROWS, tile_avx2, write_avx2, crate::simd::Avx2, "avx2,fma", [1 2 3 4 5 6], 2);
#[cfg(target_arch = "aarch64")]
tiles!(NEON, NEON_BY_ROWS, tile_neon, write_neon, crate::simd::Neon, "neon", [1 2 3 4 5 6 7 8], 3);
tiles!(SCALAR, SCALAR_BY_ROWS, tile_scalar, write_scalar, Scalar, , [1 2 3 4], 2);
