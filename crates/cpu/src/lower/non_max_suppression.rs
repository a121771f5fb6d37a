//! Greedy selection of boxes: the best-scored first, each compared with those kept so far of its class.

use std::cmp::Ordering;

use anychip_ir::{Graph, IrError, Node};
use anychip_ops::NonMaxSuppression;
use anychip_target::RunError;
use anychip_tensor::{DType, Tensor, TensorView};

use crate::step::Barrier;

/// Boxes, scores and both thresholds in `f32`, as ONNX has them.
pub(super) fn claims(node: &Node, graph: &Graph) -> bool {
    let dtypes = [DType::F32, DType::F32, DType::I64, DType::F32, DType::F32];
    node.inputs.iter().map(|&v| graph.ty(v).dtype).eq(dtypes)
}

pub(super) fn lower(node: &Node) -> Option<Box<dyn Barrier>> {
    let suppression = node.op.composite::<NonMaxSuppression>()?;
    Some(Box::new(Suppress { centered: suppression.centered }))
}

struct Suppress {
    centered: bool,
}

/// Opposite corners and the area between them, computed as the composite's expansion does.
#[derive(Clone, Copy)]
struct Box2 {
    low: [f32; 2],
    high: [f32; 2],
    area: f32,
}

impl Box2 {
    fn new(&[p, q, r, s]: &[f32; 4], centered: bool) -> Box2 {
        let (low, high) = if centered {
            let (half_width, half_height) = (r * 0.5, s * 0.5);
            ([q - half_height, p - half_width], [q + half_height, p + half_width])
        } else {
            ([min(p, r), min(q, s)], [max(p, r), max(q, s)])
        };
        Box2 { low, high, area: area(low, high) }
    }

    /// Area of the intersection over that of the union; 0 where the union has none.
    fn overlap(&self, other: &Box2) -> f32 {
        let low = [max(self.low[0], other.low[0]), max(self.low[1], other.low[1])];
        let high = [min(self.high[0], other.high[0]), min(self.high[1], other.high[1])];
        let shared = area(low, high);
        let union = self.area + other.area - shared;
        if union > 0.0 { shared / union } else { 0.0 }
    }
}

fn area(low: [f32; 2], high: [f32; 2]) -> f32 {
    max(high[0] - low[0], 0.0) * max(high[1] - low[1], 0.0)
}

/// The larger; not a number where either is none, as the primitive says.
fn max(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller; not a number where either is none.
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
        let mut kept: Vec<Box2> = Vec::new();
        for image in 0..images {
            let boxes: Vec<Box2> = boxes[image * places * 4..][..places * 4]
                .as_chunks::<4>()
                .0
                .iter()
                .map(|corners| Box2::new(corners, self.centered))
                .collect();
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
                    let own = boxes[place as usize];
                    if !kept.iter().any(|better| better.overlap(&own) > overlap[0]) {
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
