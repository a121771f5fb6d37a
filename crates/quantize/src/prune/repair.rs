//! What channels that went leave to those that stay: the weights that read them are fitted again, by least squares on what the
//! layer gave before.

use anychip_ir::Graph;
use anychip_passes::{Verdict, rebuild, remove_dead_code};
use anychip_tensor::Tensor;

use super::zeros::weight_tensor;
use crate::rounding::solve;
use crate::site::channel_dim;
use crate::{Matrix, QuantizeError, Site};

/// Sums over calibration data of the outputs of [`crate::paired_sums`].
#[derive(Debug, Clone, Default)]
pub struct PairedSums {
    /// Products of the layer's inputs, `[k, k]`.
    pub gram: Vec<f64>,
    /// Products of what the layer gave in the whole network with its inputs, `[m, k]`.
    pub cross: Vec<f64>,
    /// Sums of its inputs, `[k]`.
    pub inputs: Vec<f64>,
    /// Sums of what the layer gave, `[m]`.
    pub outputs: Vec<f64>,
    /// How many vectors were seen.
    pub count: f64,
}

/// What is added to the diagonal of the inputs' products, as a share of its mean: weights move only where inputs say so.
const DAMPING: f64 = 1e-3;

/// Weights of a layer, each a row an output channel, and what is to be added to each channel, of which its outputs are nearest to
/// what those of `rows` were in the whole network.
pub fn refitted(matrix: &Matrix, seen: &PairedSums, rows: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let (k, count) = (matrix.columns, seen.count.max(1.0));
    let mean: Vec<f64> = seen.inputs.iter().map(|sum| sum / count).collect();
    // Of differences from the mean: what is common goes into the offset.
    let centered: Vec<f64> =
        (0..k * k).map(|i| seen.gram[i] - mean[i / k] * seen.inputs[i % k]).collect();
    let mut left = vec![0f32; matrix.rows * k];
    for (r, &row) in rows.iter().enumerate() {
        let (own, left) = (matrix.row(r), &mut left[r * k..][..k]);
        let wanted = &seen.cross[row * k..][..k];
        let mut now = vec![0f64; k];
        for (&weight, line) in own.iter().zip(centered.chunks_exact(k)) {
            for (now, product) in now.iter_mut().zip(line) {
                *now += f64::from(weight) * product;
            }
        }
        for (c, left) in left.iter_mut().enumerate() {
            let wanted = wanted[c] - seen.outputs[row] / count * seen.inputs[c];
            *left = (wanted - now[c]) as f32;
        }
    }
    let gram: Vec<f32> = centered.iter().map(|&v| v as f32).collect();
    let mut weights = solve(&gram, k, DAMPING, &left);
    for (moved, weight) in weights.iter_mut().zip(&matrix.data) {
        *moved += weight;
    }
    let offset = |(r, &row): (usize, &usize)| {
        let own = weights[r * k..][..k].iter().zip(&mean);
        let now: f64 = own.map(|(&w, mean)| f64::from(w) * mean).sum();
        (seen.outputs[row] / count - now) as f32
    };
    let offsets = rows.iter().enumerate().map(offset).collect();
    (weights, offsets)
}

/// `graph` with other weights of one layer, each a row an output channel, and numbers added to its channels.
pub fn with_layer(
    graph: &Graph,
    site: &Site,
    rows: &[f32],
    offset: &[f32],
) -> Result<Graph, QuantizeError> {
    let Some(old) = graph.constant(site.weight) else { return Ok(graph.clone()) };
    let weight = weight_tensor(site.kind, old.shape(), rows)?;
    let outcome = rebuild(graph, &mut |b, at| {
        if !std::ptr::eq(at.graph, graph) {
            return Ok(Verdict::Keep);
        }
        let mut inputs = at.inputs.to_vec();
        if at.id == site.node {
            inputs[1] = b.constant(weight.clone());
            let result = b.copy(graph, at.node, &inputs)?;
            if site.bias.is_some() {
                return Ok(Verdict::Replace(result));
            }
            let mut shape = vec![1; b.rank(result[0]) - channel_dim(graph, at.node, site.kind)];
            shape[0] = offset.len();
            let offset = b.constant(Tensor::from_vec(shape, offset.to_vec())?);
            return Ok(Verdict::Replace(vec![b.add(result[0], offset)?]));
        }
        let Some(bias) = site.bias.filter(|bias| bias.node == at.id) else {
            return Ok(Verdict::Keep);
        };
        let Some(constant) = graph.constant(bias.value) else { return Ok(Verdict::Keep) };
        let sum: Vec<f32> =
            constant.to_f64().iter().zip(offset).map(|(&v, &more)| v as f32 + more).collect();
        let sum = b.constant(Tensor::from_vec(constant.shape().to_vec(), sum)?);
        for (input, &old) in inputs.iter_mut().zip(&at.node.inputs) {
            if old == bias.value {
                *input = sum;
            }
        }
        Ok(Verdict::Replace(b.copy(graph, at.node, &inputs)?))
    })?;
    Ok(remove_dead_code(&outcome.graph)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_can_say_is_made_up_for() {
        // The second input of three was the sum of the others and 2: nothing of it is lost.
        let samples: Vec<[f64; 3]> = (0..40)
            .map(|i| {
                let (a, c) = (f64::from((i * 7) % 11) - 3.0, f64::from((i * 5) % 13));
                [a, a + c + 2.0, c]
            })
            .collect();
        let whole = [[1.0, 2.0, -1.0], [0.5, -3.0, 0.0], [0.0, 1.0, 4.0]];
        let mut seen = PairedSums {
            gram: vec![0.0; 4],
            cross: vec![0.0; 6],
            inputs: vec![0.0; 2],
            outputs: vec![0.0; 3],
            count: 40.0,
        };
        for x in &samples {
            let left = [x[0], x[2]];
            for (m, row) in whole.iter().enumerate() {
                let y: f64 = row.iter().zip(x).map(|(w, x)| w * x).sum();
                seen.outputs[m] += y;
                (0..2).for_each(|k| seen.cross[m * 2 + k] += y * left[k]);
            }
            (0..4).for_each(|i| seen.gram[i] += left[i / 2] * left[i % 2]);
            (0..2).for_each(|k| seen.inputs[k] += left[k]);
        }
        // The first and the last row stay.
        let matrix = Matrix { rows: 2, columns: 2, data: vec![1.0, -1.0, 0.0, 4.0] };
        let (weights, offsets) = refitted(&matrix, &seen, &[0, 2]);
        for (found, wanted) in weights.iter().zip([3.0, 1.0, 1.0, 5.0]) {
            assert!((found - wanted).abs() < 0.02, "{weights:?}");
        }
        for (found, wanted) in offsets.iter().zip([4.0, 2.0]) {
            assert!((found - wanted).abs() < 0.1, "{offsets:?}");
        }
    }
}
