//! Products summed over contracted dims.

use anychip_tensor::{DType, Tensor};

use super::movement::transpose;
use super::product::{
    Accumulator, Pair, Panels, Sums, TILE, convert, store_floats, store_integers,
};
use crate::{DotDims, IrError};

pub(super) fn dot(
    dims: &DotDims,
    output: DType,
    lhs: &Tensor,
    rhs: &Tensor,
    shape: Vec<usize>,
) -> Result<Tensor, IrError> {
    let m = free_elements(lhs, &dims.lhs_batch, &dims.lhs_contract);
    let n = free_elements(rhs, &dims.rhs_batch, &dims.rhs_contract);
    let batch: usize = dims.lhs_batch.iter().map(|&d| lhs.shape()[d]).product();
    let depth: usize = dims.lhs_contract.iter().map(|&d| lhs.shape()[d]).product();
    let lhs = ordered(lhs, &dims.lhs_batch, &dims.lhs_contract, false)?;
    // The right operand may stay as [batch, contracted, free] when it lies so already.
    let by_depth = order(rhs, &dims.rhs_batch, &dims.rhs_contract, true).is_sorted();
    let rhs = ordered(rhs, &dims.rhs_batch, &dims.rhs_contract, by_depth)?;
    let sizes = Sizes { batch, m, n, depth, by_depth };
    let count = batch * m * n;
    match convert(&lhs, &rhs, output)? {
        Pair::Float(a, b) => {
            let mut sums = Sums::new(output, count);
            contract(&a, &b, sizes, |place, sum| sums.put(place, sum));
            store_floats(output, shape, sums)
        }
        Pair::Integer(a, b) => {
            let mut sums = vec![0i64; count];
            contract(&a, &b, sizes, |place, sum| sums[place] = sum);
            store_integers(output, shape, &sums)
        }
    }
}

fn free_dims(x: &Tensor, batch: &[usize], contracted: &[usize]) -> Vec<usize> {
    (0..x.rank()).filter(|d| !batch.contains(d) && !contracted.contains(d)).collect()
}

fn free_elements(x: &Tensor, batch: &[usize], contracted: &[usize]) -> usize {
    free_dims(x, batch, contracted).iter().map(|&d| x.shape()[d]).product()
}

/// The dims of an operand as batch, contracted, free, or as batch, free, contracted.
fn order(x: &Tensor, batch: &[usize], contracted: &[usize], by_depth: bool) -> Vec<usize> {
    let free = free_dims(x, batch, contracted);
    if by_depth { [batch, contracted, &free].concat() } else { [batch, &free, contracted].concat() }
}

/// An operand with its dims in that order.
fn ordered(
    x: &Tensor,
    batch: &[usize],
    contracted: &[usize],
    by_depth: bool,
) -> Result<Tensor, IrError> {
    let order = order(x, batch, contracted, by_depth);
    if order.is_sorted() {
        return Ok(x.clone());
    }
    transpose(&order, x, &order.iter().map(|&d| x.shape()[d]).collect::<Vec<_>>())
}

/// Of `[batch, m, depth] · [batch, n, depth]`, the right one `[batch, depth, n]` when `by_depth`.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    m: usize,
    n: usize,
    depth: usize,
    by_depth: bool,
}

/// `out[b, i, j] = Σ_k lhs[b, i, k] · rhs[b, j, k]`
fn contract<T: Accumulator>(lhs: &[T], rhs: &[T], sizes: Sizes, mut put: impl FnMut(usize, T)) {
    let Sizes { batch, m, n, depth, by_depth } = sizes;
    let mut columns = vec![T::ZERO; depth * TILE];
    for b in 0..batch {
        let (lhs, rhs) = (&lhs[b * m * depth..], &rhs[b * n * depth..]);
        if m < TILE {
            // Too few rows for a tile: one row after the other.
            for i in 0..m {
                let row = &lhs[i * depth..][..depth];
                let place = (b * m + i) * n;
                row_product(row, rhs, sizes, |j, sum| put(place + j, sum));
            }
            continue;
        }
        let panels = Panels::new(m, depth, |i, k| lhs[i * depth + k]);
        for first in (0..n).step_by(TILE) {
            let here = TILE.min(n - first);
            for j in 0..here {
                for k in 0..depth {
                    let at = if by_depth { k * n + first + j } else { (first + j) * depth + k };
                    columns[k * TILE + j] = rhs[at];
                }
            }
            panels.multiply(&columns, |i, j, sum| {
                if j < here {
                    put((b * m + i) * n + first + j, sum);
                }
            });
        }
    }
}

fn row_product<T: Accumulator>(row: &[T], rhs: &[T], sizes: Sizes, mut put: impl FnMut(usize, T)) {
    let Sizes { n, depth, by_depth, .. } = sizes;
    let mut sums = vec![T::ZERO; n];
    if by_depth && n > 0 {
        for (&a, line) in row.iter().zip(rhs.chunks_exact(n)) {
            for (sum, &b) in sums.iter_mut().zip(line) {
                *sum = sum.add_product(a, b);
            }
        }
    } else {
        for (j, sum) in sums.iter_mut().enumerate() {
            let line = &rhs[j * depth..][..depth];
            *sum = row.iter().zip(line).fold(T::ZERO, |s, (&a, &b)| s.add_product(a, b));
        }
    }
    sums.into_iter().enumerate().for_each(|(j, sum)| put(j, sum));
}

#[cfg(test)]
mod tests {
    use crate::{DotDims, Prim, evaluate_prim};
    use anychip_tensor::{DType, Tensor};

    fn range(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_vec(shape, (0..n).map(|i| i as f32 - 3.0).collect()).unwrap()
    }

    fn run(dims: DotDims, a: &Tensor, b: &Tensor, output: DType) -> Tensor {
        evaluate_prim(&Prim::DotGeneral(dims, output), &[], &[a.clone(), b.clone()])
            .unwrap()
            .remove(0)
    }

    fn plain(l: usize, r: usize) -> DotDims {
        DotDims { lhs_contract: vec![l], rhs_contract: vec![r], ..DotDims::default() }
    }

    #[test]
    fn every_layout_gives_the_plain_sum() {
        // Against the triple loop, for each way either operand can lie, below and above the tile's size.
        for (m, k, n) in [(2, 3, 2), (5, 7, 6), (4, 0, 3), (9, 1, 1)] {
            for (l, r) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let a = range(&if l == 1 { [m, k] } else { [k, m] });
                let b = range(&if r == 1 { [n, k] } else { [k, n] });
                let (av, bv) = (a.to_f64(), b.to_f64());
                let c = run(plain(l, r), &a, &b, DType::F32);
                assert_eq!(c.shape(), [m, n]);
                let c = c.to_f64();
                for i in 0..m {
                    for j in 0..n {
                        let sum: f64 = (0..k)
                            .map(|q| {
                                av[if l == 1 { i * k + q } else { q * m + i }]
                                    * bv[if r == 1 { j * k + q } else { q * n + j }]
                            })
                            .sum();
                        assert_eq!(c[i * n + j], sum, "{m}x{k}x{n} {l}{r} [{i}, {j}]");
                    }
                }
            }
        }
    }

    #[test]
    fn batches_that_do_not_come_first() {
        // numpy: einsum("mbk,knb->bmn", arrange(12).reshape(3,2,2) - 3, arrange(8).reshape(2,2,2) - 3)
        let dims = DotDims {
            lhs_batch: vec![1],
            rhs_batch: vec![2],
            lhs_contract: vec![2],
            rhs_contract: vec![0],
        };
        let c = run(dims, &range(&[3, 2, 2]), &range(&[2, 2, 2]), DType::F32);
        assert_eq!(c.shape(), [2, 3, 2]);
        let expected = [7., -3., -1., 5., -9., 13., 2., 0., 2., 16., 2., 32.];
        assert_eq!(c.to_f64(), expected);
    }

    #[test]
    fn integers_wrap_and_widen_to_the_output() {
        let a = Tensor::from_vec([1, 2], vec![-128i8, 127]).unwrap();
        let b = Tensor::from_vec([2, 1], vec![255u8, 255]).unwrap();
        assert_eq!(run(plain(1, 0), &a, &b, DType::I32).to_i64(), [-255]);
        // In i8, 255 is −1: 128 − 127.
        assert_eq!(run(plain(1, 0), &a, &b, DType::I8).to_i64(), [1]);
    }

    #[test]
    fn sums_are_rounded_once() {
        let a = Tensor::from_vec([1, 3], vec![1e8f32, 1.0, -1e8]).unwrap();
        let b = Tensor::from_vec([3, 1], vec![1f32, 1.0, 1.0]).unwrap();
        assert_eq!(run(plain(1, 0), &a, &b, DType::F32).to_f64(), [1.0]);
    }
}
