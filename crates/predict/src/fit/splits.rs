//! Splits that leave whole groups out, and the rank correlation of a prediction.

use std::collections::BTreeMap;

/// A fold for each row, so that rows of one group (a model family, a device) share theirs. Groups are dealt by a
/// hash of their name, largest first to the emptiest fold, so folds are of like size and do not depend on
/// the rows' order.
pub fn folds(groups: &[&str], count: usize) -> Vec<usize> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for group in groups {
        *sizes.entry(group).or_default() += 1;
    }
    let mut order: Vec<(&str, usize)> = sizes.into_iter().collect();
    order.sort_by_key(|&(name, size)| (std::cmp::Reverse(size), hash(name)));
    let mut filled = vec![0usize; count];
    let mut fold_of: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, size) in order {
        let fold = (0..count).min_by_key(|&fold| filled[fold]).unwrap_or(0);
        filled[fold] += size;
        fold_of.insert(name, fold);
    }
    groups.iter().map(|group| fold_of[group]).collect()
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Spearman's correlation of two lists of equal length: how well one orders the other. 0 below two rows.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let n = a.len() as f64;
    let mean = f64::midpoint(n, 1.0);
    let sum =
        |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let scale = (sum(&a, &a) * sum(&b, &b)).sqrt();
    if scale > 0.0 { sum(&a, &b) / scale } else { 0.0 }
}

/// Ranks from 1; equal values share their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut at = 0;
    while at < order.len() {
        let mut end = at + 1;
        while end < order.len() && values[order[end]] == values[order[at]] {
            end += 1;
        }
        for &i in &order[at..end] {
            ranks[i] = (at + end + 1) as f64 / 2.0;
        }
        at = end;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stay_together_and_folds_are_of_like_size() {
        let names: Vec<String> = (0..300).map(|i| format!("family{}", i % 37)).collect();
        let groups: Vec<&str> = names.iter().map(String::as_str).collect();
        let fold = folds(&groups, 5);
        for i in 0..300 {
            assert_eq!(fold[i], fold[i % 37]);
        }
        for f in 0..5 {
            let size = fold.iter().filter(|&&x| x == f).count();
            assert!((50..=70).contains(&size), "{size}");
        }
    }

    #[test]
    fn correlation_of_orders() {
        assert!((spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 90.0]) - 1.0).abs() < 1e-12);
        assert!((spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]) + 1.0).abs() < 1e-12);
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), 0.0);
    }
}
