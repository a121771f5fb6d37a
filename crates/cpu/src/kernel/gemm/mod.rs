//! The `f32` matrix product `C = act(A·B + bias + residual)`, single or batched, with either side packed in advance.
//!
//! v1: three nested loops ([`reference`]). v2: packed panels, register tiles, cache blocks, threads over blocks
//! (figures: `cargo run --release -p anychip-cpu --example kernel_bench`).

pub(crate) mod blocks;
pub(crate) mod micro;
pub(crate) mod pack;

use super::activation::Activation;
use super::{Scratch, SharedMut, split_evenly};
use crate::detect::Simd;
use crate::pool::Pool;
pub use blocks::SourceB;
use blocks::{Blocks, Out, PackA, SideA, SideB};
pub use pack::{PackedA, PackedB};

/// A read-only matrix with any strides, in elements.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Elements, the first at row 0, column 0.
    pub data: &'a [f32],
    /// Distance of two rows.
    pub row_stride: usize,
    /// Distance of two columns.
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after another.
    pub fn row_major(data: &'a [f32], columns: usize) -> Self {
        Self { data, row_stride: columns, column_stride: 1 }
    }

    /// The transpose of a row-major matrix that has `rows` columns: element `(r, c)` is at `c·rows + r`.
    pub fn column_major(data: &'a [f32], rows: usize) -> Self {
        Self { data, row_stride: 1, column_stride: rows }
    }

    /// Panics unless the data covers `rows × columns`.
    pub(crate) fn check(&self, rows: usize, columns: usize) {
        if rows > 0 && columns > 0 {
            let last = (rows - 1) * self.row_stride + (columns - 1) * self.column_stride;
            assert!(
                last < self.data.len(),
                "matrix of {rows} × {columns} outside its {} elements",
                self.data.len()
            );
        }
    }

    /// Address of element `(row, column)`, which is within the checked shape.
    #[inline(always)]
    pub(crate) fn at(&self, row: usize, column: usize) -> *const f32 {
        self.data.as_ptr().wrapping_add(row * self.row_stride + column * self.column_stride)
    }

    fn offset(&self, by: usize) -> Self {
        Self { data: &self.data[by.min(self.data.len())..], ..*self }
    }
}

/// What is done to each element as it is written: `act(x + row_bias + column_bias + residual)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value a row of C.
    pub row_bias: Option<&'a [f32]>,
    /// One value a column of C.
    pub column_bias: Option<&'a [f32]>,
    /// Added before the activation; same layout as C.
    pub residual: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
}

impl Epilogue<'_> {
    fn check(&self, m: usize, n: usize, c_len: usize) {
        assert!(self.row_bias.is_none_or(|b| b.len() >= m), "row bias shorter than {m}");
        assert!(self.column_bias.is_none_or(|b| b.len() >= n), "column bias shorter than {n}");
        assert!(self.residual.is_none_or(|r| r.len() >= c_len), "residual shorter than the result");
    }
}

/// Left operand of [`Gemm::run`].
#[derive(Clone, Copy, Debug)]
pub enum A<'a> {
    /// As it is in memory.
    Matrix(Matrix<'a>),
    /// Packed in advance; the same for the whole batch.
    Packed(&'a PackedA),
}

/// Right operand of [`Gemm::run`].
#[derive(Clone, Copy)]
pub enum B<'a> {
    /// As it is in memory.
    Matrix(Matrix<'a>),
    /// Packed in advance; the same for the whole batch.
    Packed(&'a PackedB),
    /// Made by whoever can, of the product's shape; the same for the whole batch.
    Made(&'a dyn SourceB),
}

/// The shape of a (batched) product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GemmShape {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// Whether [`Gemm::run`] gets a packed A.
    pub a_packed: bool,
    /// Whether [`Gemm::run`] gets a packed B.
    pub b_packed: bool,
}

/// One product of a batch: where its operands and result start, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Offsets {
    /// In A's data.
    pub a: usize,
    /// In B's data.
    pub b: usize,
    /// In C (and the residual).
    pub c: usize,
}

/// A prepared product.
#[derive(Clone, Debug)]
pub struct Gemm {
    shape: GemmShape,
    blocks: Blocks,
    threads: usize,
    batch: Vec<Offsets>,
    /// All of A is packed before it is multiplied, by all threads, because several blocks read the same rows.
    shares_a: bool,
}

/// Elements of A that threads pack together: beyond, each packs what it needs, which then stays in its own cache.
const MOST_SHARED: usize = 1 << 20;

impl Gemm {
    /// Prepares one product for pools of up to `threads` threads.
    pub fn new(simd: Simd, threads: usize, shape: GemmShape) -> Self {
        Self::batched(simd, threads, shape, vec![Offsets::default()])
    }

    /// Prepares `batch.len()` products of one shape; repeated offsets are how a side is broadcast.
    pub fn batched(simd: Simd, threads: usize, shape: GemmShape, batch: Vec<Offsets>) -> Self {
        let GemmShape { m, n, k, a_packed, b_packed } = shape;
        let size = (m, n, k);
        let alone = if a_packed { PackA::Before } else { PackA::Each };
        let mut blocks = Blocks::new(simd, size, batch.len(), threads, (alone, !b_packed));
        let mut shares_a = false;
        let many = threads > 1 || !b_packed;
        if !a_packed && many && batch.len() == 1 && m * k <= MOST_SHARED {
            let shared = Blocks::new(simd, size, 1, threads, (PackA::Together, !b_packed));
            shares_a = shared.grid().1 > 1;
            if shares_a {
                blocks = shared;
            }
        }
        Self { shape, blocks, threads: threads.max(1), batch, shares_a }
    }

    /// Elements of the scratch that all threads share.
    fn shared_len(&self) -> usize {
        if self.shares_a { (self.shape.m * self.shape.k + 32).next_multiple_of(16) } else { 0 }
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        self.shared_len() + Scratch::len(self.blocks.scratch_per_thread(), self.threads)
    }

    /// Computes C, rows `c_stride` apart, unit column stride. C is overwritten.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says, an operand is packed where the shape said it would not be (or for another
    /// shape or instruction set), or the pool has more threads than prepared for.
    pub fn run(
        &self,
        a: A<'_>,
        b: B<'_>,
        c: &mut [f32],
        c_stride: usize,
        epilogue: &Epilogue<'_>,
        scratch: &mut [f32],
        pool: &Pool,
    ) {
        let GemmShape { m, n, k, .. } = self.shape;
        if m == 0 || n == 0 {
            return;
        }
        for offsets in &self.batch {
            if let A::Matrix(a) = a {
                a.offset(offsets.a).check(m, k);
            }
            if let B::Matrix(b) = b {
                b.offset(offsets.b).check(k, n);
            }
            assert!(
                offsets.c + (m - 1) * c_stride + n <= c.len() && c_stride >= n,
                "result outside its slice"
            );
        }
        match a {
            A::Matrix(_) => assert!(!self.shape.a_packed),
            A::Packed(p) => assert!(
                self.shape.a_packed
                    && (p.m, p.k, p.simd, p.height) == (m, k, self.blocks.simd, self.blocks.height)
            ),
        }
        match b {
            B::Matrix(_) | B::Made(_) => assert!(!self.shape.b_packed),
            B::Packed(p) => {
                assert!(self.shape.b_packed && (p.n, p.k, p.simd) == (n, k, self.blocks.simd));
            }
        }
        epilogue.check(m, n, c.len());
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        let (shared, scratch) = scratch.split_at_mut(self.shared_len());
        let scratch = Scratch::split(scratch, self.blocks.scratch_per_thread(), self.threads);
        let panels = SharedMut::new(shared);
        if let (A::Matrix(a), true) = (a, self.shares_a) {
            let height = self.blocks.height;
            // Panels begin anew with each block of rows; a thread packs what it multiplies.
            let unit = if self.blocks.grid().0 > 1 {
                self.blocks.mc
            } else {
                split_evenly(m, 2 * self.threads, height)
            };
            pool.parallel_for(m.div_ceil(unit), |task, _| {
                let rows = task * unit..((task + 1) * unit).min(m);
                // SAFETY: A covers the rows (checked above), the panels all of A; each task writes its own.
                unsafe {
                    let to = panels.get().add(rows.start * k);
                    let a = a.offset(self.batch[0].a);
                    pack::pack_a(self.blocks.simd, &a, rows, 0..k, height, to);
                }
            });
        }
        let out = SharedMut::new(c);
        let per_product = self.blocks.tasks();
        pool.parallel_for(per_product * self.batch.len(), |task, thread| {
            let at = self.batch[task / per_product];
            let (source_a, source_b);
            let side_a = match a {
                A::Matrix(_) if self.shares_a => SideA::Panels(panels.get().cast_const()),
                A::Matrix(matrix) => {
                    source_a = matrix.offset(at.a);
                    SideA::Source(&source_a)
                }
                A::Packed(packed) => SideA::Packed(packed),
            };
            let side_b = match b {
                B::Matrix(matrix) => {
                    source_b = matrix.offset(at.b);
                    SideB::Source(&source_b)
                }
                B::Packed(packed) => SideB::Packed(packed),
                B::Made(source) => SideB::Source(source),
            };
            let epilogue =
                Epilogue { residual: epilogue.residual.map(|r| &r[at.c..]), ..*epilogue };
            // SAFETY: shapes and lengths were checked above; each task is a block of its own; the scratch part is this thread's.
            unsafe {
                let out = Out { c: out.get().add(at.c), stride: c_stride };
                self.blocks.run(
                    task % per_product,
                    side_a,
                    side_b,
                    out,
                    &epilogue,
                    scratch.part(thread),
                );
            }
        });
    }
}

/// The plain loops: the definition every fast path is compared with. Sums in `f64`.
pub fn reference(
    (m, n, k): (usize, usize, usize),
    a: &Matrix<'_>,
    b: &Matrix<'_>,
    c: &mut [f32],
    c_stride: usize,
    epilogue: &Epilogue<'_>,
) {
    for i in 0..m {
        for j in 0..n {
            let mut sum = 0.0f64;
            for p in 0..k {
                let x = a.data[i * a.row_stride + p * a.column_stride];
                let y = b.data[p * b.row_stride + j * b.column_stride];
                sum += f64::from(x) * f64::from(y);
            }
            sum += epilogue.row_bias.map_or(0.0, |b| f64::from(b[i]));
            sum += epilogue.column_bias.map_or(0.0, |b| f64::from(b[j]));
            sum += epilogue.residual.map_or(0.0, |r| f64::from(r[i * c_stride + j]));
            c[i * c_stride + j] = epilogue.activation.reference(sum) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{Random, assert_close};

    fn compare(simd: Simd, threads: usize, random: &mut Random, (m, n, k): (usize, usize, usize)) {
        if cfg!(miri) && m * n * k > 5_000 {
            return;
        }
        let transposed = (random.below(2) == 1, random.below(2) == 1);
        let (a, b) = (random.floats(m * k), random.floats(k * n));
        let a_view =
            if transposed.0 { Matrix::column_major(&a, m) } else { Matrix::row_major(&a, k) };
        let b_view =
            if transposed.1 { Matrix::column_major(&b, k) } else { Matrix::row_major(&b, n) };
        let stride = n + random.below(3);
        let (row, column, residual) =
            (random.floats(m), random.floats(n), random.floats(m * stride));
        let activation = [Activation::None, Activation::Relu, Activation::GeluErf][random.below(3)];
        let epilogue = Epilogue {
            row_bias: (random.below(2) == 1).then_some(&row[..]),
            column_bias: (random.below(2) == 1).then_some(&column[..]),
            residual: (random.below(2) == 1).then_some(&residual[..]),
            activation,
        };
        let mut want = vec![f32::NAN; m * stride];
        reference((m, n, k), &a_view, &b_view, &mut want, stride, &epilogue);
        let pool = Pool::new(threads);
        let (packed_a, packed_b) =
            (PackedA::new(simd, m, k, &a_view), PackedB::new(simd, k, n, &b_view));
        for (a_packed, b_packed) in [(false, false), (true, false), (false, true), (true, true)] {
            let gemm = Gemm::new(simd, threads, GemmShape { m, n, k, a_packed, b_packed });
            let mut got = vec![f32::NAN; m * stride];
            let mut scratch = vec![f32::NAN; gemm.scratch_len()];
            let a = if a_packed { A::Packed(&packed_a) } else { A::Matrix(a_view) };
            let b = if b_packed { B::Packed(&packed_b) } else { B::Matrix(b_view) };
            gemm.run(a, b, &mut got, stride, &epilogue, &mut scratch, &pool);
            for i in 0..m {
                let row = i * stride..i * stride + n;
                let what = format!(
                    "{simd:?} {m}×{n}×{k} row {i} packed {a_packed} {b_packed} {activation:?}"
                );
                assert_close(
                    &got[row.clone()],
                    &want[row],
                    1e-5 * (k as f32).sqrt().max(1.0),
                    &what,
                );
            }
        }
    }

    #[test]
    fn odd_sizes_match_the_reference() {
        let mut random = Random::new(0x00C0_FFEE);
        for simd in Simd::available() {
            for shape in [
                (1, 1, 1),
                (1, 33, 7),
                (15, 17, 5),
                (14, 32, 400),
                (29, 65, 33),
                (3, 1, 800),
                (50, 49, 64),
            ] {
                compare(simd, 1, &mut random, shape);
            }
            for _ in 0..crate::kernel::testing::rounds(30) {
                let shape = (1 + random.below(70), 1 + random.below(100), 1 + random.below(90));
                compare(simd, 1 + random.below(3), &mut random, shape);
            }
            compare(simd, 2, &mut random, (130, 300, 790));
        }
    }

    #[test]
    fn an_empty_k_gives_the_bias() {
        let gemm = Gemm::new(
            Simd::detect(),
            1,
            GemmShape { m: 2, n: 3, k: 0, a_packed: false, b_packed: false },
        );
        let mut c = [f32::NAN; 6];
        let empty = Matrix { data: &[], row_stride: 0, column_stride: 0 };
        let epilogue = Epilogue { row_bias: Some(&[1.0, 2.0]), ..Epilogue::default() };
        let mut scratch = vec![0.0; gemm.scratch_len()];
        gemm.run(
            A::Matrix(empty),
            B::Matrix(empty),
            &mut c,
            3,
            &epilogue,
            &mut scratch,
            &Pool::new(1),
        );
        assert_eq!(c, [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    }

    #[test]
    fn a_batch_broadcasts_by_offsets() {
        let mut random = Random::new(7);
        let (m, n, k) = (5, 19, 12);
        let (a, b) = (random.floats(3 * m * k), random.floats(k * n));
        let batch: Vec<Offsets> =
            (0..3).map(|i| Offsets { a: i * m * k, b: 0, c: i * m * n }).collect();
        let shape = GemmShape { m, n, k, a_packed: false, b_packed: false };
        let gemm = Gemm::batched(Simd::detect(), 2, shape, batch);
        let mut got = vec![0.0; 3 * m * n];
        let mut scratch = vec![0.0; gemm.scratch_len()];
        let (va, vb) = (Matrix::row_major(&a, k), Matrix::row_major(&b, n));
        let pool = Pool::new(2);
        gemm.run(
            A::Matrix(va),
            B::Matrix(vb),
            &mut got,
            n,
            &Epilogue::default(),
            &mut scratch,
            &pool,
        );
        let mut want = vec![0.0; 3 * m * n];
        // The three products share B, so they are one product of 3m rows.
        reference((3 * m, n, k), &va, &vb, &mut want, n, &Epilogue::default());
        assert_close(&got, &want, 1e-5, "batch");
    }

    #[test]
    fn more_threads_than_row_blocks_multiply_what_was_packed() {
        // Rows for 100 threads make 99 blocks of 66, which is no multiple of a panel's height.
        let (threads, m, n, k) = (100, 6501, 256, 100);
        if cfg!(miri) {
            return;
        }
        let mut random = Random::new(6501);
        let (a, b) = (random.floats(m * k), random.floats(k * n));
        let (a_view, b_view) = (Matrix::row_major(&a, k), Matrix::row_major(&b, n));
        let simd = Simd::detect();
        let packed = PackedB::new(simd, k, n, &b_view);
        let gemm = Gemm::new(simd, threads, GemmShape { m, n, k, a_packed: false, b_packed: true });
        let (mut got, mut want) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
        let mut scratch = vec![f32::NAN; gemm.scratch_len()];
        let epilogue = Epilogue::default();
        let (left, right) = (A::Matrix(a_view), B::Packed(&packed));
        gemm.run(left, right, &mut got, n, &epilogue, &mut scratch, &Pool::new(2));
        reference((m, n, k), &a_view, &b_view, &mut want, n, &epilogue);
        assert_close(&got, &want, 1e-4, "rows of 99 blocks");
    }
}
