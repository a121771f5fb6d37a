//! Rows times a matrix of few-bit codes with a scale a block: a model is read at its quantized size.
//!
//! A row of weights is its blocks, each in chunks of [`CHUNK`] codes: two to a byte (the upper halves of 16 bytes are the second
//! sixteen codes) or one. A chunk is widened once for up to [`MOST_ROWS`] rows of the left side; sums of a block are multiplied by
//! its scale, so that a weight costs a widening and a multiply-add. For more rows than [`FEW_ROWS`] the ordinary
//! product makes floats of them as it packs its right side.
#![allow(clippy::wildcard_imports, reason = "intrinsics have names of their own")]
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at each function")]

use super::gemm::micro::Tiles;
use super::gemm::pack::pack_b;
use super::gemm::{A, B, Epilogue, Gemm, GemmShape, Matrix, SourceB};
use super::{SharedMut, split_evenly};
use crate::detect::Simd;
use crate::pool::Pool;
use std::ops::Range;

/// Codes that are widened together.
const CHUNK: usize = 32;
/// Rows of the left side that share a widening.
const MOST_ROWS: usize = 4;

/// Rows up to which codes are multiplied as they are widened.
const FEW_ROWS: usize = 8;
/// A matrix `[filters, blocks · block]` of codes, packed.
#[derive(Debug)]
pub struct BlockWeights {
    filters: usize,
    blocks: usize,
    block: usize,
    four_bits: bool,
    /// Chunks of all blocks of all filters.
    codes: Vec<u8>,
    /// The code of 0 of each block, as the codes are stored.
    zeros: Vec<i8>,
    scales: Vec<f32>,
}

impl BlockWeights {
    /// Packs codes and the codes of 0, one a block, which `code` and `zero` give. Four bits: both lie in 0 … 15 or in −8 … 7; else
    /// their differences must fit 8 bits, or there is no packing.
    pub fn new(
        (filters, blocks, block): (usize, usize, usize),
        four_bits: bool,
        scales: Vec<f32>,
        code: &dyn Fn(usize) -> i32,
        zero: &dyn Fn(usize) -> i32,
    ) -> Option<BlockWeights> {
        let (chunks, bytes) = (block.div_ceil(CHUNK), if four_bits { CHUNK / 2 } else { CHUNK });
        let count = filters * blocks;
        if scales.len() != count {
            return None;
        }
        let mut codes = vec![0u8; count * chunks * bytes];
        let mut zeros = vec![0i8; count];
        for (b, to) in codes.chunks_exact_mut((chunks * bytes).max(1)).enumerate() {
            // Four bits are stored as 0 … 15 whatever their sign.
            let (own, shift) =
                (zero(b), if four_bits && any_negative(code, zero, b, block) { 8 } else { 0 });
            zeros[b] = if four_bits { i8::try_from(own + shift).ok()? } else { 0 };
            for i in 0..chunks * CHUNK {
                // Behind the block stand zeros.
                let code = if i < block { code(b * block + i) } else { own };
                if four_bits {
                    let (byte, high) = (i / CHUNK * bytes + i % 16, i % CHUNK / 16);
                    let nibble = u8::try_from(code + shift).ok().filter(|n| *n < 16)?;
                    to[byte] |= nibble << (4 * high);
                } else {
                    to[i] = i8::try_from(code - own).ok()? as u8;
                }
            }
        }
        Some(BlockWeights { filters, blocks, block, four_bits, codes, zeros, scales })
    }

    /// Elements of a block of the left side as it is staged.
    fn padded(&self) -> usize {
        self.block.next_multiple_of(CHUNK)
    }

    /// The product with `m` rows of `k` numbers on up to `threads` threads that floats are made for, if the rows are many.
    pub fn many_rows(&self, simd: Simd, threads: usize, (m, k): (usize, usize)) -> Option<Gemm> {
        let shape = GemmShape { m, n: self.filters, k, a_packed: false, b_packed: false };
        (m > FEW_ROWS).then(|| Gemm::new(simd, threads, shape))
    }

    /// Scratch elements a run with few rows needs.
    pub fn scratch_len(&self, rows: usize) -> usize {
        rows * self.blocks * self.padded()
    }

    /// As [`BlockWeights::run`], with what [`BlockWeights::many_rows`] gave.
    ///
    /// # Panics
    /// As there.
    pub fn run_many(
        &self,
        gemm: &Gemm,
        k: usize,
        x: &[f32],
        out: &mut [f32],
        scratch: &mut [f32],
        pool: &Pool,
    ) {
        assert!(k <= self.blocks * self.block, "more columns than weights");
        let (a, b) = (A::Matrix(Matrix::row_major(x, k)), B::Made(self));
        gemm.run(a, b, out, self.filters, &Epilogue::default(), scratch, pool);
    }

    /// The weights of a chunk of a filter's block, which are one after another.
    fn chunk(&self, simd: Simd, filter: usize, block: usize, chunk: usize, to: &mut [f32; CHUNK]) {
        let at = filter * self.blocks + block;
        let chunk = at * (self.padded() / CHUNK) + chunk;
        match simd {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: such a value is only handed out when the CPU has the instructions.
            Simd::Avx2 | Simd::Avx512 => unsafe { self.avx2_chunk(at, chunk, to) },
            _ => {
                for (i, to) in to.iter_mut().enumerate() {
                    *to = self.code(at, chunk, i) as f32 * self.scales[at];
                }
            }
        }
    }

    /// Code `i` of a chunk of block `at`, less the code of 0.
    fn code(&self, at: usize, chunk: usize, i: usize) -> i32 {
        if self.four_bits {
            let byte = self.codes[chunk * (CHUNK / 2) + i % 16];
            let nibble = if i < 16 { byte & 15 } else { byte >> 4 };
            i32::from(nibble) - i32::from(self.zeros[at])
        } else {
            i32::from(self.codes[chunk * CHUNK + i] as i8)
        }
    }

    /// `[rows, k] · Wᵀ`, the first `k` weights of each row of `W`.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says, or `k` is more than the weights have.
    pub fn run(
        &self,
        simd: Simd,
        (rows, k): (usize, usize),
        x: &[f32],
        out: &mut [f32],
        scratch: &mut [f32],
        pool: &Pool,
    ) {
        let row_len = self.blocks * self.padded();
        assert!(k <= self.blocks * self.block, "more columns than weights");
        assert!(x.len() >= rows * k && out.len() >= rows * self.filters, "short operands");
        let staged = &mut scratch[..rows * row_len];
        for (r, staged) in staged.chunks_exact_mut(row_len.max(1)).enumerate() {
            let x = &x[r * k..(r + 1) * k];
            for (b, to) in staged.chunks_exact_mut(self.padded()).enumerate() {
                let from = &x[(b * self.block).min(k)..((b + 1) * self.block).min(k)];
                to[..from.len()].copy_from_slice(from);
                to[from.len()..].fill(0.0);
            }
        }
        let (staged, to) = (&*staged, SharedMut::new(out));
        let unit = split_evenly(self.filters, 8 * pool.threads(), 1);
        pool.parallel_for(self.filters.div_ceil(unit), |task, _| {
            for filter in task * unit..((task + 1) * unit).min(self.filters) {
                let mut row = 0;
                while row < rows {
                    let count = MOST_ROWS.min(rows - row);
                    let x = &staged[row * row_len..(row + count) * row_len];
                    let sums = self.sums(simd.at_most(), filter, x, count);
                    for (i, sum) in sums[..count].iter().enumerate() {
                        // SAFETY: within the result (checked above); each element is one task's.
                        unsafe { *to.get().add((row + i) * self.filters + filter) = *sum };
                    }
                    row += count;
                }
            }
        });
    }

    /// The sums of one filter with `rows` staged rows.
    fn sums(&self, simd: Simd, filter: usize, x: &[f32], rows: usize) -> [f32; MOST_ROWS] {
        match (simd, rows) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: such a value is only handed out when the CPU has the instructions; `x` holds so many staged rows.
            (Simd::Avx2 | Simd::Avx512, 1) => unsafe { self.avx2::<1>(filter, x) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            (Simd::Avx2 | Simd::Avx512, 2) => unsafe { self.avx2::<2>(filter, x) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            (Simd::Avx2 | Simd::Avx512, 3) => unsafe { self.avx2::<3>(filter, x) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            (Simd::Avx2 | Simd::Avx512, _) => unsafe { self.avx2::<4>(filter, x) },
            _ => self.plain(filter, x, rows),
        }
    }

    fn plain(&self, filter: usize, x: &[f32], rows: usize) -> [f32; MOST_ROWS] {
        let mut totals = [0.0; MOST_ROWS];
        let chunks = self.padded() / CHUNK;
        for b in 0..self.blocks {
            let at = filter * self.blocks + b;
            let mut sums = [0.0f32; MOST_ROWS];
            for i in 0..chunks * CHUNK {
                let code = self.code(at, at * chunks + i / CHUNK, i % CHUNK);
                for (row, sum) in sums[..rows].iter_mut().enumerate() {
                    *sum += x[(row * self.blocks + b) * self.padded() + i] * code as f32;
                }
            }
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total += sum * self.scales[at];
            }
        }
        totals
    }

    /// The weights of a chunk of block `at`.
    ///
    /// # Safety
    /// The CPU has AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2_chunk(&self, at: usize, chunk: usize, to: &mut [f32; CHUNK]) {
        use std::arch::x86_64::*;
        let bytes = if self.four_bits { CHUNK / 2 } else { CHUNK };
        let codes = &self.codes[chunk * bytes..(chunk + 1) * bytes];
        let scale = _mm256_set1_ps(self.scales[at]);
        let parts = widened(codes.as_ptr(), self.four_bits, _mm_set1_epi8(self.zeros[at]));
        for (part, to) in parts.into_iter().zip(to.chunks_exact_mut(8)) {
            _mm256_storeu_ps(to.as_mut_ptr(), _mm256_mul_ps(part, scale));
        }
    }

    /// # Safety
    /// The CPU has AVX2 and FMA; `x` holds `R` staged rows.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2<const R: usize>(&self, filter: usize, x: &[f32]) -> [f32; MOST_ROWS] {
        use std::arch::x86_64::*;
        let chunks = self.padded() / CHUNK;
        let row_len = self.blocks * self.padded();
        debug_assert!(x.len() >= R * row_len);
        let mut totals = [_mm256_setzero_ps(); R];
        let bytes = if self.four_bits { CHUNK / 2 } else { CHUNK };
        let mut codes = self.codes.as_ptr().add(filter * self.blocks * chunks * bytes);
        let mut x = x.as_ptr();
        for b in 0..self.blocks {
            let at = filter * self.blocks + b;
            let zero = _mm_set1_epi8(*self.zeros.get_unchecked(at));
            let mut sums = [[_mm256_setzero_ps(); 2]; R];
            for _ in 0..chunks {
                let parts = widened(codes, self.four_bits, zero);
                _mm_prefetch::<_MM_HINT_T0>(codes.wrapping_add(AHEAD).cast());
                codes = codes.add(bytes);
                for (i, w) in parts.into_iter().enumerate() {
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let x = _mm256_loadu_ps(x.add(row * row_len + i * 8));
                        sums[i % 2] = _mm256_fmadd_ps(w, x, sums[i % 2]);
                    }
                }
                x = x.add(CHUNK);
            }
            let scale = _mm256_set1_ps(*self.scales.get_unchecked(at));
            for (total, [even, odd]) in totals.iter_mut().zip(sums) {
                *total = _mm256_fmadd_ps(_mm256_add_ps(even, odd), scale, *total);
            }
        }
        let mut out = [0.0; MOST_ROWS];
        for (out, total) in out.iter_mut().zip(totals) {
            let half = _mm_add_ps(_mm256_castps256_ps128(total), _mm256_extractf128_ps::<1>(total));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            *out = _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
        }
        out
    }
}

/// Columns of the panels of any instruction set, at most.
const WIDEST: usize = 64;

impl SourceB for BlockWeights {
    unsafe fn pack(
        &self,
        ks: Range<usize>,
        columns: Range<usize>,
        width: usize,
        simd: Simd,
        mut to: *mut f32,
    ) {
        assert!(width <= WIDEST && columns.end <= self.filters, "panels of other weights");
        let mut lines = [0.0f32; WIDEST * CHUNK];
        for first in columns.clone().step_by(width) {
            let filters = first..columns.end.min(first + width);
            let mut k = ks.start;
            while k < ks.end {
                // The part of a chunk that lies in the run.
                let (block, place) = (k / self.block, k % self.block);
                let (chunk, skip) = (place / CHUNK, place % CHUNK);
                let count = (CHUNK - skip).min(self.block - place).min(ks.end - k);
                for (filter, line) in filters.clone().zip(lines.as_chunks_mut().0) {
                    self.chunk(simd.at_most(), filter, block, chunk, line);
                }
                let part = Matrix { data: &lines[skip..], row_stride: 1, column_stride: CHUNK };
                // SAFETY: the lines are these columns', and the caller has room for all, vectors rounded up.
                to = unsafe {
                    pack_b(simd, &part, 0..count, 0..filters.len(), width, to);
                    to.add(count * filters.len().next_multiple_of(Tiles::of(simd).lanes))
                };
                k += count;
            }
        }
    }
}

/// 32 codes less the code of 0 (which is in `zero` for those of four bits, and taken off those of eight), as floats.
///
/// # Safety
/// The CPU has AVX2; `codes` has a chunk.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn widened(
    codes: *const u8,
    four_bits: bool,
    zero: std::arch::x86_64::__m128i,
) -> [std::arch::x86_64::__m256; 4] {
    use std::arch::x86_64::*;
    let low = _mm_set1_epi8(15);
    let (first, second) = if four_bits {
        let both = _mm_loadu_si128(codes.cast());
        let upper = _mm_and_si128(_mm_srli_epi16::<4>(both), low);
        (_mm_sub_epi8(_mm_and_si128(both, low), zero), _mm_sub_epi8(upper, zero))
    } else {
        (_mm_loadu_si128(codes.cast()), _mm_loadu_si128(codes.add(16).cast()))
    };
    [first, _mm_srli_si128::<8>(first), second, _mm_srli_si128::<8>(second)]
        .map(|part| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(part)))
}

/// Bytes of codes that are asked for ahead.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 512;

/// Whether codes or the code of 0 of a block are of the signed kind.
fn any_negative(
    code: &dyn Fn(usize) -> i32,
    zero: &dyn Fn(usize) -> i32,
    b: usize,
    block: usize,
) -> bool {
    zero(b) < 0 || (0..block).any(|i| code(b * block + i) < 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{Random, assert_close, rounds};

    #[test]
    fn products_equal_those_of_the_widened_weights() {
        let mut random = Random::new(0xB4);
        for simd in Simd::available() {
            for round in 0..rounds(40) {
                let most = [20, 20, 20, 300][random.below(4)];
                let (filters, blocks) = (1 + random.below(most), 1 + random.below(5));
                let block = [16, 32, 64, 1 + random.below(70)][random.below(4)];
                let k = blocks * block - random.below(block);
                let rows = 1 + random.below(FEW_ROWS + 8);
                let (four_bits, signed) = (round % 2 == 0, round / 2 % 2 == 0);
                let base = if signed { 8 } else { 0 };
                let range = if four_bits { 16 } else { 100 };
                let codes: Vec<i32> = (0..filters * blocks * block)
                    .map(|_| random.below(range) as i32 - base)
                    .collect();
                let zeros: Vec<i32> =
                    (0..filters * blocks).map(|_| random.below(16) as i32 - base).collect();
                let scales: Vec<f32> = random.floats(filters * blocks);
                let x = random.floats(rows * k);
                let weights = BlockWeights::new(
                    (filters, blocks, block),
                    four_bits,
                    scales.clone(),
                    &|i| codes[i],
                    &|b| zeros[b],
                )
                .expect("codes in range");
                let mut out = vec![0.0; rows * filters];
                let pool = Pool::new(1 + random.below(3));
                let many = weights.many_rows(simd, pool.threads(), (rows, k));
                assert_eq!(many.is_some(), rows > FEW_ROWS);
                let len = many.as_ref().map_or(weights.scratch_len(rows), Gemm::scratch_len);
                let mut scratch = vec![f32::NAN; len];
                match &many {
                    Some(gemm) => {
                        weights.run_many(gemm, k, &x, &mut out, &mut scratch, &pool);
                    }
                    None => weights.run(simd, (rows, k), &x, &mut out, &mut scratch, &pool),
                }
                let mut want = vec![0.0f32; rows * filters];
                for (i, want) in want.iter_mut().enumerate() {
                    let (r, f) = (i / filters, i % filters);
                    *want = (0..k)
                        .map(|p| {
                            let b = f * blocks + p / block;
                            let code = codes[f * blocks * block + p] - zeros[b];
                            f64::from(x[r * k + p]) * f64::from(code) * f64::from(scales[b])
                        })
                        .sum::<f64>() as f32;
                }
                assert_close(&out, &want, 1e-4 * k as f32, &format!("{simd:?} {round}"));
            }
        }
    }
}
