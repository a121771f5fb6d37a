//! What all cells do in one cycle, as long vectors: the inner loop of the stepped simulator.
#![allow(
    unsafe_code,
    reason = "the same loop, compiled for vectors that only some processors have"
)]

use super::Lane;

/// Lines of cells: `[rows, columns]` with `stride` elements from line to line.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a, T> {
    pub(super) data: &'a [T],
    pub(super) stride: usize,
}

/// Each cell adds its product: `sums[r][c] += a[r][c] · b[r][c]`, where lines of sums and of `b` are `columns` long.
pub(super) fn multiply<T: Lane>(sums: &mut [T], a: Lines<'_, T>, b: &[T], columns: usize) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        unsafe { multiply_avx2(sums, a, b, columns) };
        return;
    }
    multiply_lines(sums, a, b, columns);
}

/// [`multiply_lines`] with wider vectors.
///
/// # Safety
///
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn multiply_avx2<T: Lane>(sums: &mut [T], a: Lines<'_, T>, b: &[T], columns: usize) {
    multiply_lines(sums, a, b, columns);
}

#[inline(always)]
fn multiply_lines<T: Lane>(sums: &mut [T], a: Lines<'_, T>, b: &[T], columns: usize) {
    let lines = sums.chunks_exact_mut(columns).zip(b.chunks_exact(columns));
    for ((sums, b), a) in lines.zip(a.data.chunks(a.stride)) {
        for ((sum, &a), &b) in sums.iter_mut().zip(&a[..columns]).zip(b) {
            *sum = sum.add_product(a, b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_different_strides() {
        let a: Vec<i32> = (0..30).collect();
        let b: Vec<i32> = (0..9).map(|i| i * 100_000 - 300_000).collect();
        let mut sums: Vec<i32> = (0..9).collect();
        multiply(&mut sums, Lines { data: &a[2..], stride: 10 }, &b, 3);
        let expected: Vec<i32> = (0..9)
            .map(|i| i + a[2 + i as usize / 3 * 10 + i as usize % 3] * b[i as usize])
            .collect();
        assert_eq!(sums, expected);
        let mut floats = vec![0.5f32; 2];
        multiply(&mut floats, Lines { data: &[2.0, 3.0, 9.0], stride: 3 }, &[0.25, 0.125], 2);
        assert_eq!(floats, [1.0, 0.875]);
    }
}
