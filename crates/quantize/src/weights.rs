//! Weights as rows, one an output channel, and as integers with a scale a row.

use anychip_ir::Graph;
use anychip_tensor::{DType, Tensor, TensorError, release_mapped};

use crate::grid::usable;
use crate::{Kind, QuantizeError, Site};

/// Weights with a row for each output channel, row-major.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// Output channels.
    pub rows: usize,
    /// Products summed for one output.
    pub columns: usize,
    /// `rows · columns` numbers.
    pub data: Vec<f32>,
}

/// Parts of the range that are tried as the end of a row's grid, in steps of 1/64.
const SHRINK_STEPS: usize = 32;

impl Matrix {
    /// The weights of a layer.
    pub fn of(graph: &Graph, site: &Site) -> Result<Matrix, QuantizeError> {
        let not_finite = || not_finite_weight(site);
        let tensor = graph.constant(site.weight).ok_or_else(not_finite)?;
        let values = tensor.elements::<f32>().ok_or_else(not_finite)?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(not_finite());
        }
        let shape = tensor.shape();
        let matrix = match site.kind {
            Kind::Convolution | Kind::Dot { transposed: true } => {
                let columns = values.len() / shape[0];
                Matrix { rows: shape[0], columns, data: values.into_owned() }
            }
            Kind::Dot { transposed: false } => {
                let (columns, rows) = (shape[0], shape[1]);
                Matrix { rows, columns, data: transposed(&values, columns, rows) }
            }
        };
        // The copy is what is read from here on.
        release_mapped(tensor.bytes());
        Ok(matrix)
    }

    /// A row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.columns..(row + 1) * self.columns]
    }
}

/// What is said of a layer with a weight that is no number.
pub(crate) fn not_finite_weight(site: &Site) -> QuantizeError {
    let what = "a weight that is NaN or infinite";
    QuantizeError::NotFinite { tensor: site.name.clone(), what }
}

/// A matrix of so many rows and columns with columns as rows.
pub(crate) fn transposed<T: Copy + Default>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut out = vec![T::default(); values.len()];
    for r in 0..rows {
        for c in 0..columns {
            out[c * rows + r] = values[r * columns + c];
        }
    }
    out
}

/// The least scale a row may have for its bias to fit into 32 bits.
pub fn bias_limit(bias: f32, input_scale: f32) -> f64 {
    f64::from(bias).abs() / (f64::from(input_scale) * f64::from(1 << 30))
}

/// A scale for each row of a symmetric grid with integers up to `most`: the largest magnitude at its end, or with
/// `search` the end with the least squared error, where the error of a column counts as much as `importance` says (a
/// number a column of each group of rows).
pub fn row_scales(
    matrix: &Matrix,
    most: i32,
    search: bool,
    importance: Option<&[f32]>,
    power_of_two: bool,
) -> Vec<f32> {
    let groups = importance.map_or(1, |i| (i.len() / matrix.columns.max(1)).max(1));
    let rows = (matrix.rows / groups).max(1);
    (0..matrix.rows)
        .map(|r| {
            let row = matrix.row(r);
            let largest = row.iter().fold(0f32, |m, v| m.max(v.abs()));
            let plain = f64::from(largest) / f64::from(most);
            if !search || largest == 0.0 {
                return usable(plain, power_of_two);
            }
            let own = importance.map(|i| &i[r / rows * matrix.columns..][..matrix.columns]);
            // Inputs that are always zero tell nothing.
            let own = own.filter(|i| i.iter().any(|&v| v > 0.0));
            let mut best = (f64::INFINITY, usable(plain, power_of_two));
            for i in 0..SHRINK_STEPS {
                let scale = usable(plain * (1.0 - i as f64 / 64.0), power_of_two);
                if i > 0 && power_of_two && scale == best.1 {
                    continue;
                }
                let error = squared_error(row, own, scale, (-most as f32, most as f32));
                if error < best.0 {
                    best = (error, scale);
                }
            }
            best.1
        })
        .collect()
}

/// What rounding to a grid costs: the sum of squared errors, each times its weight where there are weights.
pub(crate) fn squared_error(
    values: &[f32],
    weights: Option<&[f32]>,
    scale: f32,
    (least, most): (f32, f32),
) -> f64 {
    let inverse = scale.recip();
    let off = |v: f32| v - nearest((v * inverse).clamp(least, most)) * scale;
    let mut sums = [0f32; 8];
    if let Some(weights) = weights {
        for (values, weights) in values.chunks(8).zip(weights.chunks(8)) {
            for ((sum, &v), weight) in sums.iter_mut().zip(values).zip(weights) {
                let off = off(v);
                *sum += off * off * weight;
            }
        }
    } else {
        for values in values.chunks(8) {
            for (sum, &v) in sums.iter_mut().zip(values) {
                let off = off(v);
                *sum += off * off;
            }
        }
    }
    sums.iter().map(|&s| f64::from(s)).sum()
}

/// `v.round_ties_even()` of a number below 2²², by two sums: instruction sets without such an operation call a function.
pub(crate) fn nearest(v: f32) -> f32 {
    const ONES: f32 = (3 << 22) as f32;
    (v + ONES) - ONES
}

/// The nearest integer to each weight.
pub fn round_to_nearest(matrix: &Matrix, scales: &[f32], most: i32) -> Vec<i8> {
    let end = most as f32;
    let code =
        |(i, &v): (usize, &f32)| nearest((v / scales[i / matrix.columns]).clamp(-end, end)) as i8;
    matrix.data.iter().enumerate().map(code).collect()
}

/// The integers of a layer as a tensor: in the shape of its weights, a product's as `[k, n]`.
pub fn codes_tensor(
    graph: &Graph,
    site: &Site,
    matrix: &Matrix,
    codes: &[i8],
) -> Result<Tensor, TensorError> {
    match site.kind {
        Kind::Convolution => {
            let shape = graph.constant(site.weight).map(|t| t.shape().to_vec()).unwrap_or_default();
            Tensor::from_vec(shape, codes.to_vec())
        }
        Kind::Dot { .. } => {
            let flipped = transposed(codes, matrix.rows, matrix.columns);
            Tensor::from_vec([matrix.columns, matrix.rows], flipped)
        }
    }
    .inspect(|t| debug_assert_eq!(t.dtype(), DType::I8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_row_has_a_scale() {
        let matrix = Matrix { rows: 2, columns: 3, data: vec![0.0, 0.0, 0.0, 2.0, 2.0, 2.0] };
        let scales = row_scales(&matrix, 127, true, None, false);
        assert_eq!(scales[0], 1.0);
        let codes = round_to_nearest(&matrix, &scales, 127);
        assert_eq!(codes[..3], [0, 0, 0]);
        assert!((f32::from(codes[3]) * scales[1] - 2.0).abs() < 1e-6);
    }

    #[test]
    fn the_nearest_integer_is_even_between_two() {
        for v in [-127.5f32, -2.5, -1.5, -0.5, -0.49, 0.0, 0.5, 0.51, 1.5, 2.5, 126.5, 127.0] {
            assert_eq!(nearest(v), v.round_ties_even(), "{v}");
        }
    }

    #[test]
    fn columns_that_count_more_err_less() {
        let matrix = Matrix { rows: 1, columns: 3, data: vec![1.0, 0.13, 0.11] };
        let scale = |importance| row_scales(&matrix, 7, true, importance, false)[0];
        let error = |scale: f32| squared_error(&[0.13, 0.11], None, scale, (-7.0, 7.0));
        assert!(error(scale(Some(&[0.0, 1.0, 1.0]))) < error(scale(None)));
    }

    #[test]
    fn shifts_when_asked() {
        let matrix = Matrix { rows: 1, columns: 3, data: vec![0.3, -0.9, 0.5] };
        let scale = row_scales(&matrix, 127, true, None, true)[0];
        assert_eq!(scale.log2().fract(), 0.0);
    }
}
