//! 8-bit integer matrix product, `C = (A − a₀)·(B − b₀)` in 32 bits, exact on every instruction set.
//!
//! Both sides may be signed or unsigned. Packing turns them into the form the instruction wants (A + 128, B − 128 where signs
//! differ) and remembers row and column sums, from which the zero points and these shifts are taken off at the end:
//! `Σ(a−a₀)(b−b₀) = Σab − a₀Σb − b₀Σa + k·a₀b₀`.

mod dot;
mod grouped;

use super::{SharedMut, split_evenly};
use crate::detect::Simd;
use crate::pool::Pool;
use dot::Form;
pub use grouped::GroupedConvolution;

/// 8-bit elements of either sign.
#[derive(Clone, Copy, Debug)]
pub enum Bytes<'a> {
    /// `i8`
    Signed(&'a [i8]),
    /// `u8`
    Unsigned(&'a [u8]),
}

impl Bytes<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Signed(x) => x.len(),
            Self::Unsigned(x) => x.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline(always)]
    fn get(&self, i: usize) -> i32 {
        match self {
            Self::Signed(x) => i32::from(x[i]),
            Self::Unsigned(x) => i32::from(x[i]),
        }
    }
}

/// A right side (`k × n`) in panels, with its column sums.
#[derive(Clone, Debug)]
pub struct PackedBytes {
    form: Form,
    k: usize,
    n: usize,
    /// Panels of `width` columns: for each group of k, one 4-byte group a column.
    panels: Vec<i32>,
    /// Sum of each column as packed.
    sums: Vec<i32>,
    /// What was taken from each element to make it fit the form.
    shift: i32,
}

impl PackedBytes {
    /// Room for a `k × n` right side, all zero.
    pub fn new(simd: Simd, k: usize, n: usize) -> Self {
        let form = Form::of(simd.at_most());
        let groups = k.div_ceil(form.group());
        let panels = vec![0; groups * n.next_multiple_of(form.width())];
        Self { form, k, n, panels, sums: vec![0; n], shift: 0 }
    }

    /// Packs element `(p, j)` from `p·row_stride + j·column_stride` of `b`; may be called again with other data.
    ///
    /// # Panics
    /// When the data does not cover `k × n`.
    pub fn pack(&mut self, b: Bytes<'_>, row_stride: usize, column_stride: usize) {
        if self.k > 0 && self.n > 0 {
            assert!(
                (self.k - 1) * row_stride + (self.n - 1) * column_stride < b.len(),
                "right side outside its slice"
            );
        }
        let unsigned = matches!(b, Bytes::Unsigned(_));
        self.pack_with(unsigned, |p, j| b.get(p * row_stride + j * column_stride));
    }

    /// Packs `get(p, j)`, which is within `u8` when `unsigned` and within `i8` otherwise.
    pub(crate) fn pack_with(&mut self, unsigned: bool, get: impl Fn(usize, usize) -> i32) {
        let (group, width) = (self.form.group(), self.form.width());
        let groups = self.k.div_ceil(group);
        self.shift = if unsigned && self.form == Form::Vnni { 128 } else { 0 };
        for (panel, to) in self.panels.chunks_mut((groups * width).max(1)).enumerate() {
            let start = panel * width;
            let columns = width.min(self.n - start.min(self.n));
            self.sums[start..start + columns].fill(0);
            for p in 0..groups {
                let count = group.min(self.k - p * group);
                for j in 0..columns {
                    let mut values = [0i32; 4];
                    for (i, value) in values.iter_mut().enumerate().take(count) {
                        *value = get(p * group + i, start + j) - self.shift;
                        self.sums[start + j] += *value;
                    }
                    to[p * width + j] = encode(self.form, values);
                }
            }
        }
    }
}

/// A group of values as its form lays them out.
#[inline(always)]
fn encode(form: Form, values: [i32; 4]) -> i32 {
    if form == Form::Vnni {
        i32::from_le_bytes(values.map(|x| x as u8))
    } else {
        (values[0] & 0xffff) | (values[1] << 16)
    }
}

/// A prepared integer product of `m × k` by `k × n`.
#[derive(Clone, Copy, Debug)]
pub struct IntGemm {
    form: Form,
    m: usize,
    n: usize,
    k: usize,
}

/// The zero points of a product.
#[derive(Clone, Copy, Debug)]
pub struct ZeroPoints<'a> {
    /// One for all of A, or one a row.
    pub a: &'a [i32],
    /// One for all of B, or one a column.
    pub b: &'a [i32],
}

impl IntGemm {
    /// Prepares the product.
    pub fn new(simd: Simd, m: usize, n: usize, k: usize) -> Self {
        Self { form: Form::of(simd.at_most()), m, n, k }
    }

    fn groups(&self) -> usize {
        self.k.div_ceil(self.form.group())
    }

    /// Scratch elements a run needs: A in groups, its row sums, and one tile a thread.
    pub fn scratch_len(&self, threads: usize) -> usize {
        self.m * self.groups() + self.m + threads.max(1) * self.form.rows() * self.form.width()
    }

    /// Computes C, rows `c_stride` apart. `a` is row-major, rows `a_stride` apart.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says, or B was packed for another shape or instruction set.
    pub fn run(
        &self,
        (a, a_stride): (Bytes<'_>, usize),
        b: &PackedBytes,
        zero: ZeroPoints<'_>,
        (c, c_stride): (&mut [i32], usize),
        scratch: &mut [i32],
        pool: &Pool,
    ) {
        let (m, n, k, form) = (self.m, self.n, self.k, self.form);
        if m == 0 || n == 0 {
            return;
        }
        assert!((b.k, b.n, b.form) == (k, n, form), "right side packed for another product");
        assert!(k == 0 || (m - 1) * a_stride + k <= a.len(), "left side outside its slice");
        assert!((m - 1) * c_stride + n <= c.len() && c_stride >= n, "result outside its slice");
        assert!(
            [1, m].contains(&zero.a.len()) && [1, n].contains(&zero.b.len()),
            "number of zero points"
        );
        assert!(scratch.len() >= self.scratch_len(pool.threads()), "scratch too short");
        let (groups, rows, width) = (self.groups(), form.rows(), form.width());
        let shift = if matches!(a, Bytes::Signed(_)) && form == Form::Vnni { -128 } else { 0 };
        let (packed, rest) = scratch.split_at_mut(m * groups);
        let (sums, tiles) = rest.split_at_mut(m);
        let (to, to_sums, tiles) =
            (SharedMut::new(packed), SharedMut::new(sums), SharedMut::new(tiles));
        // Panels of `rows` rows (the last as high as what is left), k-major.
        let panels = m.div_ceil(rows);
        let panels_per_task = (16_384 / (rows * k).max(1)).max(1);
        pool.parallel_for(panels.div_ceil(panels_per_task), |task, _| {
            for panel in task * panels_per_task..((task + 1) * panels_per_task).min(panels) {
                let first = panel * rows;
                let height = rows.min(m - first);
                for i in 0..height {
                    let row = (first + i) * a_stride;
                    // SAFETY: this panel and its sums are this task's, within the scratch.
                    unsafe {
                        let panel = to.get().add(first * groups + i);
                        let sum = match a {
                            Bytes::Signed(x) => {
                                pack_row(form, &x[row..row + k], shift, panel, height)
                            }
                            Bytes::Unsigned(x) => {
                                pack_row(form, &x[row..row + k], shift, panel, height)
                            }
                        };
                        *to_sums.get().add(first + i) = sum;
                    }
                }
            }
        });
        let (packed, sums) = (SharedMut(packed.as_mut_ptr()), &*sums);
        let out = SharedMut::new(c);
        let column_panels = n.div_ceil(width);
        let row_parts = if pool.threads() == 1 {
            1
        } else {
            (4 * pool.threads()).div_ceil(column_panels).min(panels)
        };
        let row_unit = split_evenly(panels, row_parts, 1);
        let row_tasks = panels.div_ceil(row_unit);
        pool.parallel_for(column_panels * row_tasks, |task, thread| {
            let (column, part) = (task / row_tasks * width, task % row_tasks);
            let columns = width.min(n - column);
            for panel in part * row_unit..((part + 1) * row_unit).min(panels) {
                let first = panel * rows;
                let height = rows.min(m - first);
                // SAFETY: operands are packed as the tile wants them; the tile buffer is this thread's; C is within its slice and
                // each element one task's.
                unsafe {
                    let tile = tiles.get().add(thread * rows * width);
                    let (left, right) =
                        (packed.get().add(first * groups), b.panels.as_ptr().add(column * groups));
                    form.tile(height)(groups, left, height, right, width, tile, width);
                    for i in 0..height {
                        let row = first + i;
                        let a_zero = zero.a[row % zero.a.len()] - shift;
                        let line = out.get().add(row * c_stride + column);
                        for j in 0..columns {
                            let b_zero = zero.b[(column + j) % zero.b.len()] - b.shift;
                            let correction = a_zero
                                .wrapping_mul(b.sums[column + j])
                                .wrapping_add(b_zero.wrapping_mul(sums[row]))
                                .wrapping_sub((k as i32).wrapping_mul(a_zero).wrapping_mul(b_zero));
                            *line.add(j) = (*tile.add(i * width + j)).wrapping_sub(correction);
                        }
                    }
                }
            }
        });
    }
}

/// Packs one row, groups `height` apart; gives the sum of what was packed.
///
/// # Safety
/// `to` is writable for one group in each `height` from the first to the row's last.
unsafe fn pack_row<T: Copy + Into<i32>>(
    form: Form,
    row: &[T],
    shift: i32,
    to: *mut i32,
    height: usize,
) -> i32 {
    let mut sum = 0i32;
    for (g, chunk) in row.chunks(form.group()).enumerate() {
        let mut values = [0i32; 4];
        for (value, &x) in values.iter_mut().zip(chunk) {
            *value = x.into() - shift;
            sum += *value;
        }
        // SAFETY: the caller's contract: the panel holds a group for each chunk.
        unsafe { *to.add(g * height) = encode(form, values) };
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::Random;

    #[test]
    fn exact_for_all_signs_sizes_and_zero_points() {
        let mut random = Random::new(81);
        for simd in Simd::available() {
            for round in 0..crate::kernel::testing::rounds(80) {
                let (m, n, k) = (1 + random.below(40), 1 + random.below(70), random.below(100));
                let threads = 1 + random.below(2);
                // Extreme values first: what would saturate sixteen bits.
                let byte =
                    |random: &mut Random| if round < 4 { 255 } else { random.below(256) as u8 };
                let a: Vec<u8> = (0..m * k).map(|_| byte(&mut random)).collect();
                let b: Vec<u8> = (0..k * n).map(|_| byte(&mut random)).collect();
                let (signed_a, signed_b): (Vec<i8>, Vec<i8>) = if round < 4 {
                    (vec![-128; m * k], vec![-128; k * n])
                } else {
                    (a.iter().map(|&x| x as i8).collect(), b.iter().map(|&x| x as i8).collect())
                };
                let (a_signed, b_signed) = (round % 2 == 1, round / 2 % 2 == 1);
                let a_bytes = if a_signed { Bytes::Signed(&signed_a) } else { Bytes::Unsigned(&a) };
                let b_bytes = if b_signed { Bytes::Signed(&signed_b) } else { Bytes::Unsigned(&b) };
                let mut zeros = |count: usize| -> Vec<i32> {
                    (0..count).map(|_| random.below(120) as i32).collect()
                };
                let (za, zb) = (
                    zeros(if round % 3 == 0 { m } else { 1 }),
                    zeros(if round % 5 == 0 { n } else { 1 }),
                );
                let mut packed = PackedBytes::new(simd, k, n);
                // B column-major on odd rounds.
                let (rs, cs) = if round % 2 == 0 { (n, 1) } else { (1, k) };
                packed.pack(b_bytes, rs, cs);
                let gemm = IntGemm::new(simd, m, n, k);
                let (mut c, mut scratch) =
                    (vec![0; m * (n + 1)], vec![0; gemm.scratch_len(threads)]);
                let zero = ZeroPoints { a: &za, b: &zb };
                gemm.run(
                    (a_bytes, k),
                    &packed,
                    zero,
                    (&mut c, n + 1),
                    &mut scratch,
                    &Pool::new(threads),
                );
                for i in 0..m {
                    for j in 0..n {
                        let want: i32 = (0..k)
                            .map(|p| {
                                let (x, y) = (a_bytes.get(i * k + p), b_bytes.get(p * rs + j * cs));
                                (x - za[i % za.len()]) * (y - zb[j % zb.len()])
                            })
                            .sum();
                        assert_eq!(
                            c[i * (n + 1) + j],
                            want,
                            "{simd:?} {m}×{n}×{k} ({i}, {j}) {a_signed} {b_signed}"
                        );
                    }
                }
            }
        }
    }
}
