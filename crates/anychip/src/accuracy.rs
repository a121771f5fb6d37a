//! How often the largest score is the labeled one.

use anychip_tensor::Tensor;

/// Rows whose largest score is at the label, and all rows: `scores` is `[rows, classes]` (further dims of size 1
/// are ignored), `labels` holds one integer a row. `None` where the shapes do not go together.
pub fn accuracy(scores: &Tensor, labels: &Tensor) -> Option<(usize, usize)> {
    let rows = labels.len();
    if rows == 0
        || scores.is_empty()
        || !scores.len().is_multiple_of(rows)
        || scores.shape().first() != Some(&rows)
    {
        return None;
    }
    let classes = scores.len() / rows;
    let values = scores.to_f64();
    let right = labels
        .to_i64()
        .iter()
        .zip(values.chunks(classes))
        .filter(|(label, row)| {
            let best = row.iter().enumerate().fold((0, f64::NEG_INFINITY), |best, (i, &score)| {
                if score > best.1 { (i, score) } else { best }
            });
            i64::try_from(best.0) == Ok(**label)
        })
        .count();
    Some((right, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_rows_whose_largest_score_is_the_label() {
        let scores = Tensor::from_vec([3, 2], vec![0.1f32, 0.9, 0.8, 0.2, 0.5, 0.4]).unwrap();
        assert_eq!(accuracy(&scores, &Tensor::from_i64s(&[1, 0, 1])), Some((2, 3)));
        assert_eq!(accuracy(&scores, &Tensor::from_i64s(&[1, 0])), None);
    }
}
