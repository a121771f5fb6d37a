//! Boosted regression trees: what the formula of [`crate::Operators`] leaves over, learned.
//!
//! A tree asks `feature[i] < threshold` and adds a small correction in each leaf. Fitting is the usual histogram
//! method: thresholds are quantiles of the training rows, a leaf's correction is the weighted mean of clipped
//! residuals, shrunk; trees grow by the best split first. No randomness: the same rows give the same trees.

use serde::{Deserialize, Serialize};

/// A branch, or a leaf where `feature` is absent. Files hold a leaf as its number and a branch as `[feature, threshold, left]`:
/// there are tens of thousands.
#[derive(Debug, Clone, PartialEq)]
struct Knot {
    feature: Option<u16>,
    /// The threshold of a branch, the correction of a leaf.
    value: f32,
    /// Where smaller values go; the next knot takes the others.
    left: u16,
}

impl Serialize for Knot {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.feature {
            Some(feature) => (feature, self.value, self.left).serialize(out),
            // Finer than any fit.
            None => out.serialize_f64((f64::from(self.value) * 1e5).round() / 1e5),
        }
    }
}

impl<'de> Deserialize<'de> for Knot {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(KnotVisitor)
    }
}

struct KnotVisitor;

impl KnotVisitor {
    #[expect(clippy::unused_self, reason = "the visitor's methods share it")]
    fn leaf(self, value: f64) -> Knot {
        Knot { feature: None, value: value as f32, left: 0 }
    }
}

impl<'de> serde::de::Visitor<'de> for KnotVisitor {
    type Value = Knot;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a number, or a feature, a threshold and a place")
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Knot, E> {
        Ok(self.leaf(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Knot, E> {
        Ok(self.leaf(value as f64))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Knot, E> {
        Ok(self.leaf(value as f64))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Knot, A::Error> {
        let missing = |at| serde::de::Error::invalid_length(at, &self);
        let feature = seq.next_element()?.ok_or_else(|| missing(0))?;
        let value = seq.next_element()?.ok_or_else(|| missing(1))?;
        let left = seq.next_element()?.ok_or_else(|| missing(2))?;
        Ok(Knot { feature: Some(feature), value, left })
    }
}

/// A sum of trees.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Trees {
    trees: Vec<Vec<Knot>>,
}

/// How trees are grown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// How many trees.
    pub trees: usize,
    /// Leaves of one tree.
    pub leaves: usize,
    /// The least weight of rows in a leaf, in units of an average row.
    pub least_rows: f64,
    /// The share of a leaf's mean that is added.
    pub rate: f64,
    /// Weight of rows with residual 0 added to each leaf, in units of an average row.
    pub shrink: f64,
    /// Residuals beyond this count as this.
    pub clip: f64,
}

/// The most thresholds a feature has.
const BINS: usize = 64;

impl Trees {
    /// The correction for one row of features.
    pub fn predict(&self, features: &[f64]) -> f64 {
        self.trees.iter().map(|tree| f64::from(leaf(tree, features))).sum()
    }

    /// How many trees.
    pub fn len(&self) -> usize {
        self.trees.len()
    }

    /// Whether there is none, so that every correction is 0.
    pub fn is_empty(&self) -> bool {
        self.trees.is_empty()
    }

    /// Whether every question is about one of `features` features and every branch leads forward.
    pub fn is_sound(&self, features: usize) -> bool {
        self.trees.iter().all(|tree| {
            !tree.is_empty()
                && tree.iter().enumerate().all(|(i, knot)| {
                    knot.value.is_finite()
                        && knot.feature.is_none_or(|f| {
                            usize::from(f) < features
                                && usize::from(knot.left) > i
                                && usize::from(knot.left) + 1 < tree.len()
                        })
                })
        })
    }

    /// Learns `target` from rows of equal length; `weights` says how much each row counts.
    pub fn fit(rows: &[Vec<f64>], target: &[f64], weights: &[f64], growth: &Growth) -> Self {
        let Some(width) = rows.first().map(Vec::len) else { return Self::default() };
        let edges: Vec<Vec<f32>> = (0..width).map(|f| edges_of(rows, f)).collect();
        // Column by column, so that a histogram is one pass over contiguous bytes.
        let bins: Vec<Vec<u8>> = edges
            .iter()
            .enumerate()
            .map(|(f, edges)| {
                rows.iter()
                    .map(|row| edges.partition_point(|e| *e <= row[f] as f32) as u8)
                    .collect()
            })
            .collect();
        let mean = weights.iter().sum::<f64>() / rows.len() as f64;
        let weights: Vec<f64> = weights.iter().map(|w| w / mean).collect();
        let mut left: Vec<f64> = target.to_vec();
        let mut trees = Vec::with_capacity(growth.trees);
        for _ in 0..growth.trees {
            let clipped: Vec<f64> =
                left.iter().map(|r| r.clamp(-growth.clip, growth.clip)).collect();
            let tree = Grower {
                edges: &edges,
                bins: &bins,
                residual: &clipped,
                weights: &weights,
                growth,
            }
            .grow();
            for (residual, row) in left.iter_mut().zip(rows) {
                *residual -= f64::from(leaf(&tree, row));
            }
            trees.push(tree);
        }
        Self { trees }
    }
}

fn leaf(tree: &[Knot], features: &[f64]) -> f32 {
    let mut at = 0;
    while let Some(feature) = tree[at].feature {
        let smaller = (features[usize::from(feature)] as f32) < tree[at].value;
        at = usize::from(tree[at].left) + usize::from(!smaller);
    }
    tree[at].value
}

/// Thresholds between different values, at most [`BINS`] − 1 of them, at quantiles.
fn edges_of(rows: &[Vec<f64>], feature: usize) -> Vec<f32> {
    let mut values: Vec<f32> = rows.iter().map(|row| row[feature] as f32).collect();
    values.sort_by(f32::total_cmp);
    let mut edges: Vec<f32> =
        (1..BINS).map(|i| values[i * values.len() / BINS]).filter(|v| *v > values[0]).collect();
    edges.dedup();
    edges
}

/// The rows in a leaf while a tree grows.
struct Leaf {
    knot: usize,
    rows: Vec<u32>,
    weight: f64,
    sum: f64,
    best: Option<Split>,
}

#[derive(Clone, Copy)]
struct Split {
    gain: f64,
    feature: usize,
    bin: u8,
}

struct Grower<'a> {
    edges: &'a [Vec<f32>],
    bins: &'a [Vec<u8>],
    residual: &'a [f64],
    weights: &'a [f64],
    growth: &'a Growth,
}

impl Grower<'_> {
    fn grow(&self) -> Vec<Knot> {
        let mut tree = vec![Knot { feature: None, value: 0.0, left: 0 }];
        let all = (0..self.residual.len() as u32).collect();
        let mut leaves = vec![self.leaf(0, all)];
        while leaves.len() < self.growth.leaves {
            let gain = |leaf: &Leaf| leaf.best.map_or(0.0, |split| split.gain);
            let Some(widest) =
                (0..leaves.len()).max_by(|&a, &b| gain(&leaves[a]).total_cmp(&gain(&leaves[b])))
            else {
                break;
            };
            let Some(split) = leaves[widest].best else { break };
            let parent = leaves.swap_remove(widest);
            let column = &self.bins[split.feature];
            let (low, high): (Vec<u32>, Vec<u32>) =
                parent.rows.into_iter().partition(|&row| column[row as usize] <= split.bin);
            let next = tree.len();
            tree[parent.knot] = Knot {
                feature: Some(split.feature as u16),
                value: self.edges[split.feature][usize::from(split.bin)],
                left: next as u16,
            };
            for rows in [low, high] {
                tree.push(Knot { feature: None, value: 0.0, left: 0 });
                leaves.push(self.leaf(tree.len() - 1, rows));
            }
        }
        for leaf in leaves {
            tree[leaf.knot].value =
                (self.growth.rate * leaf.sum / (leaf.weight + self.growth.shrink)) as f32;
        }
        tree
    }

    fn leaf(&self, knot: usize, rows: Vec<u32>) -> Leaf {
        let weight = rows.iter().map(|&r| self.weights[r as usize]).sum();
        let sum = rows.iter().map(|&r| self.weights[r as usize] * self.residual[r as usize]).sum();
        let best = self.best_split(&rows, weight, sum);
        Leaf { knot, rows, weight, sum, best }
    }

    fn best_split(&self, rows: &[u32], weight: f64, sum: f64) -> Option<Split> {
        let shrink = self.growth.shrink;
        let least = self.growth.least_rows;
        if weight < 2.0 * least {
            return None;
        }
        let score = |s: f64, w: f64| s * s / (w + shrink);
        let mut best: Option<Split> = None;
        for (feature, column) in self.bins.iter().enumerate() {
            let bins = self.edges[feature].len() + 1;
            let mut histogram = [(0.0, 0.0); BINS];
            for &row in rows {
                let cell = &mut histogram[usize::from(column[row as usize])];
                let w = self.weights[row as usize];
                cell.0 += w;
                cell.1 += w * self.residual[row as usize];
            }
            let (mut below, mut below_sum) = (0.0, 0.0);
            for (bin, cell) in histogram[..bins - 1].iter().enumerate() {
                below += cell.0;
                below_sum += cell.1;
                if below < least || weight - below < least {
                    continue;
                }
                let gain = score(below_sum, below) + score(sum - below_sum, weight - below)
                    - score(sum, weight);
                if gain > 1e-9 && best.is_none_or(|b| gain > b.gain) {
                    best = Some(Split { gain, feature, bin: bin as u8 });
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROWTH: Growth =
        Growth { trees: 200, leaves: 8, least_rows: 5.0, rate: 0.1, shrink: 1.0, clip: 10.0 };

    fn rows() -> Vec<Vec<f64>> {
        (0..600).map(|i| vec![f64::from(i % 30), f64::from(i / 30)]).collect()
    }

    #[test]
    fn learns_a_step_and_a_product() {
        let rows = rows();
        let target: Vec<f64> =
            rows.iter().map(|r| f64::from(u8::from(r[0] > 12.0)) + 0.01 * r[0] * r[1]).collect();
        let trees = Trees::fit(&rows, &target, &vec![1.0; rows.len()], &GROWTH);
        let error: f64 =
            rows.iter().zip(&target).map(|(r, t)| (trees.predict(r) - t).abs()).sum::<f64>()
                / rows.len() as f64;
        assert!(error < 0.1, "mean error {error}");
        assert!(trees.is_sound(2) && !trees.is_sound(1));
    }

    #[test]
    fn weights_decide_between_rows_that_disagree() {
        let rows = vec![vec![0.0]; 40];
        let target: Vec<f64> = (0..40).map(|i| f64::from(i % 2)).collect();
        let weights: Vec<f64> = (0..40).map(|i| if i % 2 == 1 { 9.0 } else { 1.0 }).collect();
        let trees = Trees::fit(&rows, &target, &weights, &Growth { shrink: 0.0, ..GROWTH });
        assert!((trees.predict(&[0.0]) - 0.9).abs() < 1e-3);
    }

    #[test]
    fn outliers_are_clipped_and_no_rows_give_no_trees() {
        let growth = Growth { clip: 0.1, trees: 1, rate: 1.0, shrink: 0.0, ..GROWTH };
        let trees = Trees::fit(&vec![vec![0.0]; 10], &[1e9; 10], &[1.0; 10], &growth);
        assert!((trees.predict(&[0.0]) - 0.1).abs() < 1e-6);
        assert!(Trees::fit(&[], &[], &[], &growth).is_empty());
    }
}
