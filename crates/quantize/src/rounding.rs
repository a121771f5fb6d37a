//! Rounding that looks at the inputs: errors of one weight are made up for by those after it.
//!
//! The error of a layer's output is `(w − q)ᵀ G (w − q)` with `G` the sum of products of its inputs. With `G = RᵀR` it is
//! least along the last coordinate when that is rounded to the nearest, then along the one before given that error,
//! and so on: Babai's nearest plane (1986), which is what GPTQ does (arXiv:2210.17323, arXiv:2507.18553).

use crate::Matrix;

/// Sums of products of a layer's inputs, one matrix for each group of channels.
#[derive(Debug, Clone, Default)]
pub struct Gram {
    /// Rows of each matrix.
    pub size: usize,
    /// `groups · size · size` numbers, row-major.
    pub data: Vec<f64>,
}

/// What is added to the diagonal, as a share of its mean: inputs that few samples show are not trusted.
const DAMPING: f64 = 0.01;

impl Gram {
    /// Adds the sums of more samples.
    pub fn add(&mut self, size: usize, sums: &[f32]) {
        if self.data.is_empty() {
            self.size = size;
            self.data = vec![0.0; sums.len()];
        }
        for (total, &sum) in self.data.iter_mut().zip(sums) {
            *total += f64::from(sum);
        }
    }

    /// How many groups of channels.
    pub fn groups(&self) -> usize {
        self.data.len() / (self.size * self.size).max(1)
    }

    /// The sum of squares of each input, group after group.
    pub fn diagonal(&self) -> Vec<f32> {
        let n = self.size;
        (0..self.groups())
            .flat_map(|g| (0..n).map(move |i| self.data[g * n * n + i * n + i] as f32))
            .collect()
    }

    /// `(w − q)ᵀ G (w − q)` over all rows.
    pub fn error(&self, matrix: &Matrix, restored: &[f32]) -> f64 {
        let n = self.size;
        let rows = matrix.rows / self.groups().max(1);
        let mut total = 0.0;
        for r in 0..matrix.rows {
            let gram = &self.data[(r / rows) * n * n..][..n * n];
            let off: Vec<f64> = matrix
                .row(r)
                .iter()
                .zip(&restored[r * n..(r + 1) * n])
                .map(|(a, b)| f64::from(a - b))
                .collect();
            for (i, a) in off.iter().enumerate() {
                let dot: f64 = gram[i * n..(i + 1) * n].iter().zip(&off).map(|(g, b)| g * b).sum();
                total += a * dot;
            }
        }
        total
    }
}

/// Integers for a matrix, of which the error of the layer's output is small. Columns with the largest inputs are
/// rounded first. `scale` is that of a row and column.
pub fn round_with_gram(
    matrix: &Matrix,
    gram: &Gram,
    scale: &(dyn Fn(usize, usize) -> f32 + Sync),
    (least, most): (i32, i32),
) -> Vec<i8> {
    let n = matrix.columns;
    let groups = gram.groups().max(1);
    let rows = matrix.rows / groups;
    let mut codes = vec![0i8; matrix.data.len()];
    let (least, most) = (least as f32, most as f32);
    for group in 0..groups {
        let own = &gram.data[group * n * n..(group + 1) * n * n];
        let order = ascending_diagonal(own, n);
        let root = upper_root(own, n, &order);
        // Errors of all rows, one line for each column, so that sums run along lines.
        let mut errors = vec![0f32; n * rows];
        let mut sums = vec![0f32; rows];
        for k in (0..n).rev() {
            sums.fill(0.0);
            let line = &root[k * n..(k + 1) * n];
            for (j, &factor) in line.iter().enumerate().skip(k + 1) {
                if factor != 0.0 {
                    for (sum, &error) in sums.iter_mut().zip(&errors[j * rows..(j + 1) * rows]) {
                        *sum += factor * error;
                    }
                }
            }
            let inverse = line[k].recip();
            for r in 0..rows {
                let (row, column) = (group * rows + r, order[k]);
                let weight = matrix.data[row * n + column];
                let scale = scale(row, column);
                let wanted = weight + sums[r] * inverse;
                let code = (wanted / scale).round_ties_even().clamp(least, most);
                codes[row * n + column] = code as i8;
                errors[k * rows + r] = weight - code * scale;
            }
        }
    }
    codes
}

/// Columns by the size of their inputs, smallest first.
fn ascending_diagonal(gram: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| gram[a * n + a].total_cmp(&gram[b * n + b]).then(a.cmp(&b)));
    order
}

/// The upper triangular `R` with `RᵀR = G + damping`, rows and columns in the given order.
fn upper_root(gram: &[f64], n: usize, order: &[usize]) -> Vec<f32> {
    let mean = (0..n).map(|i| gram[i * n + i]).sum::<f64>() / n.max(1) as f64;
    let damping = if mean > 0.0 { mean * DAMPING } else { 1.0 };
    let mut a: Vec<f32> = Vec::with_capacity(n * n);
    // In single precision after dividing by the mean: pivots stay above the damping, 1e-2.
    let unit = if mean > 0.0 { mean.recip() } else { 1.0 };
    for &i in order {
        for &j in order {
            let more = if i == j { damping } else { 0.0 };
            a.push(((gram[i * n + j] + more) * unit) as f32);
        }
    }
    for k in 0..n {
        let (done, rest) = a.split_at_mut((k + 1) * n);
        let line = &mut done[k * n..];
        let pivot = line[k].max(1e-6).sqrt();
        let inverse = pivot.recip();
        line[k] = pivot;
        for value in &mut line[k + 1..] {
            *value *= inverse;
        }
        // What is left of the matrix below, its upper half only.
        for i in k + 1..n {
            let factor = line[i];
            if factor == 0.0 {
                continue;
            }
            let target = &mut rest[(i - k - 1) * n + i..(i - k - 1) * n + n];
            for (value, &other) in target.iter_mut().zip(&line[i..]) {
                *value -= factor * other;
            }
        }
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_errs_less_than_with_nearest_rounding() {
        let (n, rows, samples) = (24, 8, 200);
        let mut state = 3u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let data: Vec<f32> = (0..rows * n).map(|_| next()).collect();
        let matrix = Matrix { rows, columns: n, data };
        let mut gram = Gram::default();
        for _ in 0..samples {
            // Inputs that go together.
            let common = next() + 1.0;
            let x: Vec<f32> = (0..n).map(|_| common + 0.3 * next()).collect();
            let sums: Vec<f32> = x.iter().flat_map(|a| x.iter().map(move |b| a * b)).collect();
            gram.add(n, &sums);
        }
        let scales = crate::row_scales(&matrix, 7, false, None, false);
        let restore = |codes: &[i8]| -> Vec<f32> {
            codes.iter().enumerate().map(|(i, &c)| f32::from(c) * scales[i / n]).collect()
        };
        let nearest = restore(&crate::round_to_nearest(&matrix, &scales, 7));
        let rounded = restore(&round_with_gram(&matrix, &gram, &|r, _| scales[r], (-7, 7)));
        let (before, after) = (gram.error(&matrix, &nearest), gram.error(&matrix, &rounded));
        assert!(after < 0.3 * before, "{before} {after}");
    }
}
