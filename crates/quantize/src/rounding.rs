//! Rounding that looks at the inputs: errors of one weight are made up for by those after it.
//!
//! The error of a layer's output is `(w − q)ᵀ G (w − q)` with `G` the sum of products of its inputs. With `G = RᵀR` it is
//! least along the last coordinate when that is rounded to the nearest, then along the one before given that error,
//! and so on: Babai's nearest plane (1986), which is what GPTQ does (arXiv:2210.17323, arXiv:2507.18553).

use crate::weights::nearest;
use crate::{LANES, Lanes, Matrix};

/// Sums of products of a layer's inputs, one matrix for each group of channels; or several a group, each of a run of its
/// inputs, where one of all would be too large. What inputs of different runs have in common is then not known.
#[derive(Debug, Clone, Default)]
pub struct Gram {
    /// Rows of each matrix.
    pub size: usize,
    /// `matrices · size · size` numbers, row-major.
    pub data: Vec<f32>,
}

/// What is added to the diagonal, as a share of its mean: inputs that few samples show are not trusted.
const DAMPING: f64 = 0.01;

impl Gram {
    /// Adds the sums of more samples.
    pub fn add(&mut self, size: usize, sums: &[f32]) {
        if self.data.is_empty() {
            self.size = size;
            self.data = sums.to_vec();
            return;
        }
        for (total, &sum) in self.data.iter_mut().zip(sums) {
            *total += sum;
        }
    }

    /// How many matrices there are.
    pub fn count(&self) -> usize {
        self.data.len() / (self.size * self.size).max(1)
    }

    /// The sum of squares of each input, group after group.
    pub fn diagonal(&self) -> Vec<f32> {
        let n = self.size;
        (0..self.count())
            .flat_map(|m| (0..n).map(move |i| self.data[m * n * n + i * n + i]))
            .collect()
    }

    /// The matrices with the rows and columns of a layer's weights that each is about, where weights have so many columns:
    /// first row, number of rows, first column.
    fn parts(&self, matrix: &Matrix) -> impl Iterator<Item = (&[f32], usize, usize, usize)> {
        let n = self.size.max(1);
        let runs = (matrix.columns / n).max(1);
        let groups = (self.count() / runs).max(1);
        let rows = matrix.rows / groups;
        self.data
            .chunks_exact(n * n)
            .enumerate()
            .map(move |(m, own)| (own, m / runs * rows, rows, m % runs * n))
    }

    /// `(w − q)ᵀ G (w − q)` over all rows.
    pub fn error(&self, matrix: &Matrix, restored: &[f32]) -> f64 {
        let n = self.size;
        let mut total = 0.0;
        for (gram, first, rows, column) in self.parts(matrix) {
            for r in first..first + rows {
                let from = r * matrix.columns + column;
                let off: Vec<f32> = matrix.data[from..from + n]
                    .iter()
                    .zip(&restored[from..from + n])
                    .map(|(a, b)| a - b)
                    .collect();
                for (line, &a) in gram.chunks_exact(n).zip(&off) {
                    let dot: f32 = line.iter().zip(&off).map(|(g, b)| g * b).sum();
                    total += f64::from(a * dot);
                }
            }
        }
        total
    }
}

/// Integers for a matrix, of which the error of the layer's output is small. `scale` is that of a row and column.
pub fn round_with_gram(
    matrix: &Matrix,
    gram: &Gram,
    scale: &dyn Fn(usize, usize) -> f32,
    (least, most): (i32, i32),
) -> Vec<i8> {
    let mut codes = vec![0i8; matrix.data.len()];
    let (least, most) = (least as f32, most as f32);
    nearest_plane(matrix, gram, &mut |row, column, wanted| {
        let scale = scale(row, column);
        let code = nearest((wanted / scale).clamp(least, most));
        codes[row * matrix.columns + column] = code as i8;
        code * scale
    });
    codes
}

/// Weights that `pick` chooses one by one, of which the error of the layer's output is small: it is told row, column and the
/// number that would make up for the errors of those before. Columns with the largest inputs come first.
pub(crate) fn nearest_plane(
    matrix: &Matrix,
    gram: &Gram,
    pick: &mut dyn FnMut(usize, usize, f32) -> f32,
) -> Vec<f32> {
    let n = gram.size;
    let mut picked = vec![0f32; matrix.data.len()];
    let mut errors = vec![[0f32; LANES]; n];
    let mut line = vec![0f32; n.next_multiple_of(LANES)];
    for (own, first, rows, column) in gram.parts(matrix) {
        let order = ascending_diagonal(own, n);
        let root = Root::of(own, &order, DAMPING);
        // A few rows at a time, so that their errors stay near.
        for from in (first..first + rows).step_by(LANES) {
            let lanes = LANES.min(first + rows - from);
            for k in (0..n).rev() {
                root.line(k, &mut line);
                let mut sums = [0f32; LANES];
                for (&factor, errors) in line[k + 1..n].iter().zip(&errors[k + 1..]) {
                    for (sum, &error) in sums.iter_mut().zip(errors) {
                        *sum += factor * error;
                    }
                }
                let inverse = line[k].recip();
                let place = column + order[k];
                for (lane, sum) in sums.iter().enumerate().take(lanes) {
                    let at = (from + lane) * matrix.columns + place;
                    let weight = matrix.data[at];
                    picked[at] = pick(from + lane, place, weight + sum * inverse);
                    errors[k][lane] = weight - picked[at];
                }
            }
        }
    }
    picked
}

/// `x` with `x · (G + damping) = b` for rows `b` of as many numbers as `G` has; what is added to the diagonal is a share of its mean.
pub(crate) fn solve(gram: &[f32], n: usize, damping: f64, rows: &[f32]) -> Vec<f32> {
    let order: Vec<usize> = (0..n).collect();
    let root = Root::of(gram, &order, damping);
    let mean = (0..n).map(|i| f64::from(gram[i * n + i])).sum::<f64>() / n.max(1) as f64;
    let unit = if mean > 0.0 { mean.recip() as f32 } else { 1.0 };
    let mut solved = vec![0f32; rows.len()];
    let mut own = vec![[0f32; LANES]; n];
    let mut line = vec![0f32; n.next_multiple_of(LANES)];
    for (rows, solved) in rows.chunks(LANES * n.max(1)).zip(solved.chunks_mut(LANES * n.max(1))) {
        for (k, lanes) in own.iter_mut().enumerate() {
            *lanes = [0.0; LANES];
            for (lane, row) in lanes.iter_mut().zip(rows.chunks_exact(n)) {
                *lane = row[k] * unit;
            }
        }
        // Rᵀ z = b from the first on, then R x = z from the last.
        for k in 0..n {
            root.line(k, &mut line);
            let (done, rest) = own.split_at_mut(k + 1);
            done[k].iter_mut().for_each(|v| *v /= line[k]);
            for (lanes, &factor) in rest.iter_mut().zip(&line[k + 1..n]) {
                for (value, &known) in lanes.iter_mut().zip(&done[k]) {
                    *value -= factor * known;
                }
            }
        }
        for k in (0..n).rev() {
            root.line(k, &mut line);
            let (rest, done) = own.split_at_mut(k + 1);
            for (lanes, &factor) in done.iter().zip(&line[k + 1..n]) {
                for (value, &known) in rest[k].iter_mut().zip(lanes) {
                    *value -= factor * known;
                }
            }
            rest[k].iter_mut().for_each(|v| *v /= line[k]);
        }
        for (k, lanes) in own.iter().enumerate() {
            for (row, &lane) in solved.chunks_exact_mut(n).zip(lanes) {
                row[k] = lane;
            }
        }
    }
    solved
}

/// Columns by the size of their inputs, smallest first.
fn ascending_diagonal(gram: &[f32], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| gram[a * n + a].total_cmp(&gram[b * n + b]).then(a.cmp(&b)));
    order
}

/// The upper triangular `R` with `RᵀR = G + damping`, in panels of [`LANES`] columns.
struct Root {
    n: usize,
    /// `n` lines a panel; of the last panel some columns may be unused.
    panels: Vec<Lanes>,
}

impl Root {
    /// The root of a matrix with rows and columns in the given order, a panel after the other: all that a panel needs of
    /// those before it are its own columns' factors, which are kept as rows beside.
    fn of(gram: &[f32], order: &[usize], damping: f64) -> Root {
        let n = order.len();
        let mean = (0..n).map(|i| f64::from(gram[i * n + i])).sum::<f64>() / n.max(1) as f64;
        let damping = if mean > 0.0 { mean * damping } else { 1.0 };
        // In single precision after dividing by the mean: pivots stay above the damping.
        let unit = if mean > 0.0 { mean.recip() } else { 1.0 };
        let mut panels = vec![[0f32; LANES]; n.div_ceil(LANES) * n];
        let mut factors = vec![0f32; n * n];
        let mut inverses = vec![0f32; n];
        for (c, panel) in panels.chunks_exact_mut(n.max(1)).enumerate() {
            let from = c * LANES;
            let columns = LANES.min(n - from);
            for k in 0..from + columns {
                let (done, rest) = panel.split_at_mut(k);
                let mut line = [0f32; LANES];
                for (lane, value) in line.iter_mut().enumerate().take(columns) {
                    if from + lane >= k {
                        let more = if from + lane == k { damping } else { 0.0 };
                        let sum = f64::from(gram[order[k] * n + order[from + lane]]);
                        *value = ((sum + more) * unit) as f32;
                    }
                }
                let own = &mut factors[k * n..k * n + k];
                if k >= from {
                    for (factor, line) in own.iter_mut().zip(&*done) {
                        *factor = line[k - from];
                    }
                }
                for (&factor, done) in own.iter().zip(&*done) {
                    for (value, &other) in line.iter_mut().zip(done) {
                        *value -= factor * other;
                    }
                }
                if k >= from {
                    let pivot = line[k - from].max(1e-6).sqrt();
                    inverses[k] = pivot.recip();
                    // Left of the diagonal there is nothing.
                    line[..k - from].fill(0.0);
                    line[k - from] = pivot * pivot;
                }
                for value in &mut line {
                    *value *= inverses[k];
                }
                rest[0] = line;
            }
        }
        Root { n, panels }
    }

    /// Copies line `k` from its diagonal on.
    fn line(&self, k: usize, to: &mut [f32]) {
        for (c, part) in to.chunks_exact_mut(LANES).enumerate().skip(k / LANES) {
            part.copy_from_slice(&self.panels[c * self.n + k]);
        }
    }
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

    #[test]
    fn a_root_is_one_whatever_the_size() {
        for n in [1, 5, LANES, LANES + 1, 3 * LANES + 7] {
            let x: Vec<f32> =
                (0..n * n).map(|i| ((i * 37 + i * i * 11) % 101) as f32 - 50.0).collect();
            let gram: Vec<f32> = (0..n * n)
                .map(|i| (0..n).map(|s| x[s * n + i / n] * x[s * n + i % n]).sum())
                .collect();
            let order = ascending_diagonal(&gram, n);
            let root = Root::of(&gram, &order, DAMPING);
            let mut lines = vec![vec![0f32; n.next_multiple_of(LANES)]; n];
            for (k, line) in lines.iter_mut().enumerate() {
                root.line(k, line);
            }
            let mean = (0..n).map(|i| gram[i * n + i]).sum::<f32>() / n as f32;
            for i in 0..n {
                for j in i..n {
                    let product: f32 = (0..=i).map(|k| lines[k][i] * lines[k][j]).sum();
                    let wanted = gram[order[i] * n + order[j]] / mean;
                    let wanted = if i == j { wanted + DAMPING as f32 } else { wanted };
                    assert!((product - wanted).abs() < 1e-3, "{n} {i} {j}: {product} {wanted}");
                }
            }
        }
    }

    #[test]
    fn what_is_solved_gives_the_rows() {
        let n = LANES + 5;
        let x: Vec<f32> = (0..n * n).map(|i| ((i * 37 + i * i * 11) % 101) as f32 - 50.0).collect();
        let gram: Vec<f32> =
            (0..n * n).map(|i| (0..n).map(|s| x[s * n + i / n] * x[s * n + i % n]).sum()).collect();
        let mean = (0..n).map(|i| gram[i * n + i]).sum::<f32>() / n as f32;
        let rows: Vec<f32> = (0..n * (LANES + 2)).map(|i| ((i * 13) % 29) as f32 * mean).collect();
        let solved = solve(&gram, n, 0.1, &rows);
        for (row, solved) in rows.chunks(n).zip(solved.chunks(n)) {
            for (j, wanted) in row.iter().enumerate() {
                let found: f32 = (0..n).map(|i| solved[i] * gram[i * n + j]).sum();
                let found = found + 0.1 * mean * solved[j];
                assert!((found - wanted).abs() < 1e-3 * 29.0 * mean, "{found} {wanted}");
            }
        }
    }

    #[test]
    fn runs_of_inputs_are_rounded_apart() {
        // Two runs whose inputs go together among themselves alone: two matrices say all there is.
        let (n, rows) = (8, 3);
        let data: Vec<f32> = (0..rows * n).map(|i| ((i * 29) % 17) as f32 / 17.0 - 0.5).collect();
        let matrix = Matrix { rows, columns: n, data };
        let block = |i: usize, j: usize| if i == j { 2.0 } else { 1.5 };
        let whole: Vec<f32> = (0..n * n)
            .map(|p| if (p / n) / 4 == (p % n) / 4 { block(p / n, p % n) } else { 0.0 })
            .collect();
        let part: Vec<f32> = (0..16).map(|p| block(p / 4, p % 4)).collect();
        let whole = Gram { size: n, data: whole };
        let parts = Gram { size: 4, data: [&part[..], &part].concat() };
        let round = |gram: &Gram| round_with_gram(&matrix, gram, &|_, _| 0.1, (-7, 7));
        let restored: Vec<f32> = round(&parts).iter().map(|&c| f32::from(c) * 0.1).collect();
        assert!((whole.error(&matrix, &restored) - parts.error(&matrix, &restored)).abs() < 1e-6);
        assert_eq!(round(&whole), round(&parts));
        assert_eq!(parts.diagonal(), whole.diagonal());
    }
}
