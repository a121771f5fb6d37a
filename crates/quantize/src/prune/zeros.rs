//! Weights that become zeros where they are: two of four for matrix units that skip them, or the smallest of a layer.

use std::collections::BTreeMap;

use anychip_ir::{Graph, ValueId};
use anychip_passes::{Verdict, rebuild, remove_dead_code};
use anychip_tensor::{Tensor, TensorError};

use crate::rounding::nearest_plane;
use crate::weights::transposed;
use crate::{Gram, Kind, Matrix, QuantizeError, Site};

/// Which weights become zeros.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pattern {
    /// Two of each four neighbors along the inputs, as the matrix units of some GPUs skip them.
    TwoOfFour,
    /// This share of each layer.
    Smallest(f64),
}

/// A layer's weights with zeros; `None` where the pattern does not fit (inputs that four does not divide).
///
/// Without `gram` the smallest go. With it those of least effect on the output go, and what stays makes up for them, each weight for
/// those before it, as in rounding (`SparseGPT`, arXiv:2301.00774). `taps` is how many elements of a row belong to one input.
pub fn pruned(
    matrix: &Matrix,
    pattern: Pattern,
    taps: usize,
    gram: Option<&Gram>,
) -> Option<Vec<f32>> {
    let importance = gram.map(Gram::diagonal);
    let groups = importance.as_ref().map_or(1, |i| (i.len() / matrix.columns.max(1)).max(1));
    let rows_of_group = (matrix.rows / groups).max(1);
    let weight = |i: usize| {
        let (row, column) = (i / matrix.columns, i % matrix.columns);
        let of = importance.as_ref().map(|d| d[row / rows_of_group * matrix.columns + column]);
        matrix.data[i] * matrix.data[i] * of.unwrap_or(1.0)
    };
    let mut stays = vec![true; matrix.data.len()];
    match pattern {
        Pattern::TwoOfFour => {
            let taps = taps.max(1);
            let inputs = matrix.columns / taps;
            if !inputs.is_multiple_of(4) {
                return None;
            }
            for row in 0..matrix.rows {
                for first in (0..inputs).step_by(4) {
                    for tap in 0..taps {
                        let at = |i: usize| row * matrix.columns + (first + i) * taps + tap;
                        let mut order = [0, 1, 2, 3];
                        order.sort_by(|&a, &b| weight(at(a)).total_cmp(&weight(at(b))));
                        stays[at(order[0])] = false;
                        stays[at(order[1])] = false;
                    }
                }
            }
        }
        Pattern::Smallest(share) => {
            let count = (share * matrix.data.len() as f64) as usize;
            let mut order: Vec<usize> = (0..matrix.data.len()).collect();
            if count > 0 && count < order.len() {
                order.select_nth_unstable_by(count, |&a, &b| {
                    weight(a).total_cmp(&weight(b)).then(a.cmp(&b))
                });
            }
            order.iter().take(count).for_each(|&i| stays[i] = false);
        }
    }
    Some(match gram {
        Some(gram) => nearest_plane(matrix, gram, &mut |row, column, wanted| {
            if stays[row * matrix.columns + column] { wanted } else { 0.0 }
        }),
        None => matrix.data.iter().zip(stays).map(|(&w, s)| if s { w } else { 0.0 }).collect(),
    })
}

/// `graph` with other weights for some layers, each a row an output channel.
pub fn rewrite_weights(
    graph: &Graph,
    layers: &[(&Site, Vec<f32>)],
) -> Result<Graph, QuantizeError> {
    let mut weights: BTreeMap<ValueId, Tensor> = BTreeMap::new();
    for (site, rows) in layers {
        let Some(old) = graph.constant(site.weight) else { continue };
        weights.insert(site.weight, weight_tensor(site.kind, old.shape(), rows)?);
    }
    let outcome = rebuild(graph, &mut |b, site| {
        let own = site.node.outputs.first().filter(|_| std::ptr::eq(site.graph, graph));
        Ok(match own.and_then(|v| weights.get(v)) {
            Some(tensor) => Verdict::Replace(vec![b.constant(tensor.clone())]),
            None => Verdict::Keep,
        })
    })?;
    Ok(remove_dead_code(&outcome.graph)?)
}

/// Weights, each a row an output channel, in the shape that a layer has them in.
pub(super) fn weight_tensor(
    kind: Kind,
    shape: &[usize],
    rows: &[f32],
) -> Result<Tensor, TensorError> {
    let data = match kind {
        Kind::Dot { transposed: false } => transposed(rows, shape[1], shape[0]),
        Kind::Convolution | Kind::Dot { transposed: true } => rows.to_vec(),
    };
    Tensor::from_vec(shape.to_vec(), data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> Matrix {
        let data = (0..4 * 16).map(|i| ((i * 37 + 11) % 64) as f32 / 32.0 - 1.0).collect();
        Matrix { rows: 4, columns: 16, data }
    }

    #[test]
    fn two_of_each_four_inputs_go() {
        for taps in [1, 2] {
            let zeros = pruned(&matrix(), Pattern::TwoOfFour, taps, None).unwrap();
            for row in zeros.chunks(16) {
                for first in (0..16 / taps).step_by(4) {
                    for tap in 0..taps {
                        let four: Vec<f32> =
                            (0..4).map(|i| row[(first + i) * taps + tap]).collect();
                        assert_eq!(four.iter().filter(|&&w| w == 0.0).count(), 2, "{four:?}");
                    }
                }
            }
        }
        assert!(pruned(&matrix(), Pattern::TwoOfFour, 8, None).is_none());
    }

    #[test]
    fn the_smallest_go() {
        let (matrix, zeros) =
            (matrix(), pruned(&matrix(), Pattern::Smallest(0.25), 1, None).unwrap());
        let gone: Vec<usize> = (0..64).filter(|&i| zeros[i] == 0.0).collect();
        assert_eq!(gone.len(), 16);
        let most = gone.iter().map(|&i| matrix.data[i].abs()).fold(0.0, f32::max);
        assert!((0..64).all(|i| gone.contains(&i) || matrix.data[i].abs() >= most));
        assert_eq!(pruned(&matrix, Pattern::Smallest(0.0), 1, None).unwrap(), matrix.data);
        let all = pruned(&matrix, Pattern::Smallest(1.0), 1, None).unwrap();
        assert!(all.iter().all(|&w| w == 0.0));
    }

    #[test]
    fn what_stays_makes_up_for_what_goes() {
        // Inputs that go together: another can do what one did. Weights of one sign, so that what goes does not cancel.
        let Matrix { rows, columns, data } = matrix();
        let matrix = Matrix { rows, columns, data: data.iter().map(|w| w + 1.1).collect() };
        let gram: Vec<f32> = (0..256).map(|i| if i / 16 == i % 16 { 2.0 } else { 1.8 }).collect();
        let gram = Gram { size: 16, data: gram };
        let plain = pruned(&matrix, Pattern::TwoOfFour, 1, None).unwrap();
        let made_up = pruned(&matrix, Pattern::TwoOfFour, 1, Some(&gram)).unwrap();
        assert_eq!(made_up.iter().filter(|&&w| w == 0.0).count(), 32);
        let (before, after) = (gram.error(&matrix, &plain), gram.error(&matrix, &made_up));
        assert!(after < 0.5 * before, "{before} {after}");
    }
}
