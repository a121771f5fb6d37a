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

    fn len(&self) -> usize {
        self.parts[0].len()
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
            #[allow(clippy::needless_range_loop, reason = "five lists in step")]
            for i in from..until {
                let height = min(parts[2][i], own[2]) - max(parts[0][i], own[0]);
                let width = min(parts[3][i], own[3]) - max(parts[1][i], own[1]);
                let shared = max(height, 0.0) * max(width, 0.0);
                let union = parts[4][i] + own[4] - shared;
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
        let mut kept = Boxes::default();
        for image in 0..images {
            let (boxes, _) = boxes[image * places * 4..][..places * 4].as_chunks::<4>();
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
                    if kept.len() == most {
                        break;
                    }
                    let own = corners(&boxes[place as usize], self.centered);
                    let covered = Covered { kept: &kept, own, limit: overlap[0] };
                    if !dispatch(self.simd, covered) {
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
