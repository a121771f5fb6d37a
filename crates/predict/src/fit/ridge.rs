//! Linear regression with a penalty for each coefficient.

use crate::fit::least_squares::solve;

/// The coefficients `c` that minimize `Σ (row·c − target)² + Σ penalty·c²`; `None` where the system has no one
/// solution, as a penalty of 0 on an unused column makes it.
pub fn ridge(rows: &[Vec<f64>], targets: &[f64], penalties: &[f64]) -> Option<Vec<f64>> {
    let n = penalties.len();
    let mut normal = vec![0.0; n * n];
    let mut right = vec![0.0; n];
    for (row, target) in rows.iter().zip(targets) {
        for i in (0..n).filter(|&i| row[i] != 0.0) {
            right[i] += row[i] * target;
            for j in 0..n {
                normal[i * n + j] += row[i] * row[j];
            }
        }
    }
    for i in 0..n {
        normal[i * n + i] += penalties[i];
    }
    solve(normal, &right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_plane_and_shrinks_what_is_penalized() {
        let rows: Vec<Vec<f64>> =
            (0..20).map(|i| vec![1.0, f64::from(i % 5), f64::from(i / 5)]).collect();
        let targets: Vec<f64> = rows.iter().map(|r| 2.0 + 3.0 * r[1] - r[2]).collect();
        let free = ridge(&rows, &targets, &[1e-9; 3]).expect("one solution");
        for (found, wanted) in free.iter().zip([2.0, 3.0, -1.0]) {
            assert!((found - wanted).abs() < 1e-6);
        }
        let held = ridge(&rows, &targets, &[1e-9, 1e6, 1e-9]).expect("one solution");
        assert!(held[1].abs() < 0.01);
        assert_eq!(ridge(&[vec![0.0]], &[1.0], &[0.0]), None);
    }
}
