//! The one inner loop of contractions: a matrix product with each sum in a wide accumulator.
//!
//! Every element of the result is one sum, taken in the order of the contracted index. Tiles of four by four
//! only keep sums in registers; they do not change the order.

use anychip_tensor::{DType, Tensor};

use super::values::{Float, Values};
use crate::IrError;

/// Rows and columns of a tile.
pub(super) const TILE: usize = 4;

/// A type that sums of products are kept in.
pub(super) trait Accumulator: Copy {
    const ZERO: Self;
    /// `self + a · b`
    fn add_product(self, a: Self, b: Self) -> Self;
}

impl Accumulator for f64 {
    const ZERO: f64 = 0.0;
    fn add_product(self, a: f64, b: f64) -> f64 {
        self + a * b
    }
}

/// All integer types: sums modulo 2^64 have the right low bits for any of them.
impl Accumulator for i64 {
    const ZERO: i64 = 0;
    fn add_product(self, a: i64, b: i64) -> i64 {
        self.wrapping_add(a.wrapping_mul(b))
    }
}

/// A matrix `[rows, depth]` as panels of [`TILE`] rows, each stored by depth; missing rows are zero.
pub(super) struct Panels<T> {
    data: Vec<T>,
    rows: usize,
    depth: usize,
}

impl<T: Accumulator> Panels<T> {
    /// From a function of row and depth.
    pub(super) fn new(rows: usize, depth: usize, at: impl Fn(usize, usize) -> T) -> Panels<T> {
        let mut data = vec![T::ZERO; rows.div_ceil(TILE) * TILE * depth];
        for row in 0..rows {
            let panel = &mut data[row / TILE * TILE * depth..][..TILE * depth];
            for (k, group) in panel.chunks_exact_mut(TILE).enumerate() {
                group[row % TILE] = at(row, k);
            }
        }
        Panels { data, rows, depth }
    }

    /// Multiplies with one panel of up to [`TILE`] columns, `[depth][TILE]`; `put(row, column, sum)` for each.
    pub(super) fn multiply(&self, columns: &[T], mut put: impl FnMut(usize, usize, T)) {
        if self.depth == 0 {
            for row in 0..self.rows {
                (0..TILE).for_each(|column| put(row, column, T::ZERO));
            }
            return;
        }
        for (panel, rows) in self.data.chunks_exact(TILE * self.depth).enumerate() {
            let mut sums = [[T::ZERO; TILE]; TILE];
            for (a, b) in rows.chunks_exact(TILE).zip(columns.chunks_exact(TILE)) {
                for i in 0..TILE {
                    for j in 0..TILE {
                        sums[i][j] = sums[i][j].add_product(a[i], b[j]);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                let row = panel * TILE + i;
                if row < self.rows {
                    sums.iter().enumerate().for_each(|(column, &sum)| put(row, column, sum));
                }
            }
        }
    }
}

/// The operands of a contraction, converted to its result type and widened.
pub(super) enum Pair {
    Float(Vec<f64>, Vec<f64>),
    Integer(Vec<i64>, Vec<i64>),
}

/// Converts both operands to `output` as a cast does.
pub(super) fn convert(a: &Tensor, b: &Tensor, output: DType) -> Result<Pair, IrError> {
    let to = |x: &Tensor| super::cast::cast(x, output, true, crate::Rounding::default());
    let (a, b) = (to(a)?, to(b)?);
    if output.is_float() {
        return Ok(Pair::Float(a.to_f64(), b.to_f64()));
    }
    let wrap = |x: &Tensor| -> Vec<i64> { x.to_integers().iter().map(|&v| v as i64).collect() };
    Ok(Pair::Integer(wrap(&a), wrap(&b)))
}

/// Sums as they leave the accumulator, rounded once or wrapped. `f32` results are rounded on the way, which
/// keeps large results small.
pub(super) fn store_floats(
    output: DType,
    shape: Vec<usize>,
    sums: Sums,
) -> Result<Tensor, IrError> {
    match sums {
        Sums::Single(data) => Ok(Tensor::from_vec(shape, data)?),
        Sums::Wide(data) => Values::Float(data).store(output, shape),
    }
}

/// Float results under construction.
pub(super) enum Sums {
    Single(Vec<f32>),
    Wide(Vec<f64>),
}

impl Sums {
    pub(super) fn new(output: DType, count: usize) -> Sums {
        if output == DType::F32 {
            Sums::Single(vec![0.0; count])
        } else {
            Sums::Wide(vec![0.0; count])
        }
    }

    pub(super) fn put(&mut self, place: usize, sum: f64) {
        match self {
            Sums::Single(data) => data[place] = f32::narrow(sum),
            Sums::Wide(data) => data[place] = sum,
        }
    }
}

/// Integer results from their low 64 bits.
pub(super) fn store_integers(
    output: DType,
    shape: Vec<usize>,
    sums: &[i64],
) -> Result<Tensor, IrError> {
    let wide: Vec<i128> = sums.iter().map(|&v| i128::from(v)).collect();
    Values::Integer(wide).store(output, shape)
}
