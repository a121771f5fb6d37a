//! The largest or smallest elements of each line, in order.

use std::cmp::Ordering;

use anychip_tensor::Tensor;

use super::strided::copy_blocks;
use super::values::Values;
use crate::IrError;

pub(super) fn top_k(
    axis: usize,
    largest: bool,
    x: &Tensor,
    shape: Vec<usize>,
) -> Result<Vec<Tensor>, IrError> {
    let (size, k) = (x.shape()[axis], shape[axis]);
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let outer: usize = x.shape()[..axis].iter().product();
    let values = Values::of(x);
    let compare = |a: usize, b: usize| -> Ordering {
        let order = match &values {
            Values::Float(v) => float_order(v[a], v[b]),
            Values::Integer(v) => v[a].cmp(&v[b]),
        };
        if largest { order.reverse() } else { order }
    };
    let mut elements = vec![0usize; outer * k * inner];
    let mut indices = vec![0i64; outer * k * inner];
    let mut order: Vec<usize> = Vec::with_capacity(size);
    for line in 0..outer * inner {
        let (o, i) = (line / inner, line % inner);
        let element = |place: usize| (o * size + place) * inner + i;
        order.clear();
        order.extend(0..size);
        // Stable, so that of equal elements the lower index comes first.
        order.sort_by(|&a, &b| compare(element(a), element(b)));
        for (rank, &place) in order.iter().take(k).enumerate() {
            let result = (o * k + rank) * inner + i;
            elements[result] = element(place);
            indices[result] = place as i64;
        }
    }
    Ok(vec![copy_blocks(x, shape.clone(), 1, &elements)?, Tensor::from_vec(shape, indices)?])
}

/// The order of floats with NaN above all and zeros of both signs equal.
fn float_order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}
