//! Greedy selection of boxes: the best-scored first, each compared with those kept so far of its class.
#![allow(
    clippy::inline_always,
    reason = "must take on the instruction set of the loop it is used in"
)]

use std::cmp::Ordering;

use anychip_ir::{Graph, IrError, Node};
use anychip_ops::NonMaxSuppression;
use anychip_target::RunError;
use anychip_tensor::{DType, Tensor, TensorView};

use crate::detect::Simd;
use crate::simd::{Task, Vector, dispatch};
use crate::step::Barrier;

/// Boxes, scores and both thresholds in `f32`, as ONNX has them.
pub(super) fn claims(node: &Node, graph: &Graph) -> bool {
    let dtypes = [DType::F32, DType::F32, DType::I64, DType::F32, DType::F32];
    node.inputs.iter().map(|&v| graph.ty(v).dtype).eq(dtypes)
}

pub(super) fn lower(node: &Node, simd: Simd) -> Option<Box<dyn Barrier>> {
    let suppression = node.op.composite::<NonMaxSuppression>()?;
    Some(Box::new(Suppress { centered: suppression.centered, simd }))
}

struct Suppress {
    centered: bool,
    simd: Simd,
}

/// Boxes as low and high corners and the area between them, computed as the composite's expansion does: one list a
/// number, so that comparing with many is a loop over vectors.
#[derive(Default)]
struct Boxes {
    /// Low y, low x, high y, high x, area.
    parts: [Vec<f32>; 5],
}

impl Boxes {
    fn push(&mut self, one: [f32; 5]) {
        self.parts.iter_mut().zip(one).for_each(|(part, x)| part.push(x));
    }

    fn clear(&mut self) {
        self.parts.iter_mut().for_each(Vec::clear);
    }
}

fn corners(&[p, q, r, s]: &[f32; 4], centered: bool) -> [f32; 5] {
    let [low_y, low_x, high_y, high_x] = if centered {
        let (half_width, half_height) = (r * 0.5, s * 0.5);
        [q - half_height, p - half_width, q + half_height, p + half_width]
    } else {
        [min(p, r), min(q, s), max(p, r), max(q, s)]
    };
    let area = max(high_y - low_y, 0.0) * max(high_x - low_x, 0.0);
    [low_y, low_x, high_y, high_x, area]
}

/// Whether one of `kept` overlaps `own` by more than `limit`: the area of the intersection over that of the union, 0 where
/// the union has none.
struct Covered<'a> {
    kept: &'a Boxes,
    own: [f32; 5],
    limit: f32,
}

impl Task for Covered<'_> {
    type Output = bool;
    #[inline(always)]
    fn run<V: Vector>(self) -> bool {
        let parts = self.kept.parts.each_ref().map(Vec::as_slice);
        let n = parts[0].len();
        let own = self.own;
        let mut from = 0;
        while from < n {
            // Enough at a time for vectors, few enough to stop early.
            let until = (from + 64).min(n);
            let mut covered = false;
            let [low_y, low_x, high_y, high_x, area] = parts.map(|part| &part[from..until]);
            for i in 0..until - from {
                let height = min(high_y[i], own[2]) - max(low_y[i], own[0]);
                let width = min(high_x[i], own[3]) - max(low_x[i], own[1]);
                let shared = max(height, 0.0) * max(width, 0.0);
                let union = area[i] + own[4] - shared;
                let ratio = if union > 0.0 { shared / union } else { 0.0 };
                covered |= ratio > self.limit;
            }
            if covered {
                return true;
            }
            from = until;
        }
        false
    }
}

/// The boxes kept so far in strips of their low `y`, each as wide as the tallest box: those that overlap another are in
/// its strip or a neighboring one. Detectors that shift each class's boxes to a place of its own gain most.
struct Kept {
    strips: Vec<Boxes>,
    first: f32,
    height: f32,
    limit: f32,
    count: usize,
}

/// Most strips; more would mostly be empty.
const MOST_STRIPS: f32 = 1024.0;

impl Kept {
    /// For boxes out of `boxes`.
    fn new(boxes: &[[f32; 5]], limit: f32) -> Kept {
        let mut kept =
            Kept { strips: Vec::new(), first: 0.0, height: f32::INFINITY, limit, count: 0 };
        let first = boxes.iter().map(|b| b[0]).fold(f32::INFINITY, f32::min);
        let last = boxes.iter().map(|b| b[0]).fold(f32::NEG_INFINITY, f32::max);
        let tallest = boxes.iter().map(|b| b[2] - b[0]).fold(0.0, f32::max);
        // Rounding must not move a box by a strip, and below 0 even boxes apart count as covered.
        let finite = boxes.iter().all(|b| b.iter().all(|x| x.is_finite() && x.abs() < 1e30));
        let mut strips = 1.0;
        if finite && limit >= 0.0 && last > first {
            kept.first = first;
            kept.height = (tallest * 1.001).max((last - first) / MOST_STRIPS);
            strips = ((last - first) / kept.height).floor() + 1.0;
        }
        kept.strips.resize_with(strips as usize, Boxes::default);
        kept
    }

    fn strip(&self, own: [f32; 5]) -> usize {
        (((own[0] - self.first) / self.height) as usize).min(self.strips.len() - 1)
    }

    fn covers(&self, own: [f32; 5], simd: Simd) -> bool {
        let strip = self.strip(own);
        self.strips[strip.saturating_sub(1)..(strip + 2).min(self.strips.len())]
            .iter()
            .any(|kept| dispatch(simd, Covered { kept, own, limit: self.limit }))
    }

    fn push(&mut self, own: [f32; 5]) {
        let strip = self.strip(own);
        self.strips[strip].push(own);
        self.count += 1;
    }

    fn clear(&mut self) {
        self.strips.iter_mut().for_each(Boxes::clear);
        self.count = 0;
    }
}

/// The larger; not a number where either is none, as the primitive says.
#[inline(always)]
fn max(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller; not a number where either is none.
#[inline(always)]
fn min(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { a } else { b }
}

impl Barrier for Suppress {
    fn run(&self, operands: &[TensorView<'_>]) -> Result<Vec<Tensor>, RunError> {
        let wrong =
            |reason| IrError::Shapes { op: "non-max-suppression", reason, types: Vec::new() };
        let [boxes, scores, most, overlap, least] = operands else {
            return Err(wrong("needs five operands").into());
        };
        let (&[images, places, 4], &[same_images, classes, same_places]) =
            (boxes.shape, scores.shape)
        else {
            return Err(wrong("needs boxes [n, m, 4] and scores [n, k, m]").into());
        };
        if images != same_images || places != same_places {
            return Err(wrong("boxes and scores must be of the same images and boxes").into());
        }
        let limits = (most.elements::<i64>(), overlap.elements::<f32>(), least.elements::<f32>());
        let (Some(boxes), Some(scores), (Some(most), Some(overlap), Some(least))) =
            (boxes.elements::<f32>(), scores.elements::<f32>(), limits)
        else {
            return Err(wrong("needs f32 boxes and scores").into());
        };
        let most = usize::try_from(most[0]).unwrap_or(0).min(places);
        let mut rows: Vec<i64> = Vec::new();
        let mut order: Vec<u32> = Vec::new();
        for image in 0..images {
            let (boxes, _) = boxes[image * places * 4..][..places * 4].as_chunks::<4>();
            let boxes: Vec<[f32; 5]> = boxes.iter().map(|b| corners(b, self.centered)).collect();
            let mut kept = Kept::new(&boxes, overlap[0]);
            for class in 0..classes {
                let scores = &scores[(image * classes + class) * places..][..places];
                order.clear();
                order.extend((0..places as u32).filter(|&i| {
                    let score = scores[i as usize];
                    score > least[0] && score > f32::NEG_INFINITY
                }));
                // The first of equals comes first: the sort is stable, and none of these is not a number.
                order.sort_by(|&a, &b| {
                    scores[b as usize].partial_cmp(&scores[a as usize]).unwrap_or(Ordering::Equal)
                });
                kept.clear();
                for &place in &order {
                    if kept.count == most {
                        break;
                    }
                    let own = boxes[place as usize];
                    if !kept.covers(own, self.simd) {
                        kept.push(own);
                        rows.extend([image as i64, class as i64, i64::from(place)]);
                    }
                }
            }
        }
        let selected = Tensor::from_vec(vec![rows.len() / 3, 3], rows);
        Ok(vec![selected.map_err(IrError::from)?])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use crate::kernel::testing::Random;
    use anychip_ir::{Op, evaluate_node};
    use std::sync::Arc;

    /// As the composite's expansion on the reference evaluator: boxes in several places, ties, limits and empty ones.
    #[test]
    fn selects_what_the_definition_selects() {
        let mut random = Random::new(0x105);
        for case in 0..40 {
            let (places, classes) = (1 + random.below(60), 1 + random.below(3));
            let centered = case % 2 == 1;
            let mut boxes = Vec::new();
            for _ in 0..places {
                let shift = random.below(3) as f32 * 10.0;
                boxes.extend((0..4).map(|i| {
                    let x = random.float() + 1.0;
                    if centered && i >= 2 { x } else { x + shift }
                }));
            }
            if case % 7 == 3 {
                boxes[2] = f32::NAN;
            }
            // Few different scores, so that there are ties.
            let scores: Vec<f32> =
                (0..classes * places).map(|_| random.below(9) as f32 / 8.0).collect();
            let limit = [0.0f32, 0.3, 0.5, -0.5][case % 4];
            let tensors = vec![
                Tensor::from_vec(vec![1, places, 4], boxes).unwrap(),
                Tensor::from_vec(vec![1, classes, places], scores).unwrap(),
                Tensor::scalar(1 + random.below(places) as i64),
                Tensor::scalar(limit),
                Tensor::scalar(0.2f32),
            ];
            let op = Op::Composite(Arc::new(NonMaxSuppression { centered }));
            let want = evaluate_node(&op, &[], &tensors).unwrap();
            let views: Vec<TensorView<'_>> = tensors.iter().map(Tensor::view).collect();
            for simd in Simd::available() {
                let got = Suppress { centered, simd }.run(&views).unwrap();
                assert_eq!(got[0].shape(), want[0].shape(), "{simd:?} case {case}");
                assert_eq!(got[0].bytes(), want[0].bytes(), "{simd:?} case {case}");
            }
        }
    }
}
