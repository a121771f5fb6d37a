//! The largest or smallest elements of each line, in order.

use anychip_ir::Node;

use super::writer::Value;
use super::{Cx, EmitError};
use crate::element::Element;

/// A stable sort of elements with their places, cut off after `k`.
pub(super) fn top_k(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    axis: usize,
    largest: bool,
) -> Result<Vec<Value>, EmitError> {
    let x = cx.operand(node, 0)?;
    let shape = cx.shape(node, 0)?;
    if shape.contains(&0) {
        let values = cx.w.splat_integer(x.element, &shape, 0);
        return Ok(vec![values, cx.w.splat_integer(Element::I64, &shape, 0)]);
    }
    let places = cx.w.iota(Element::I32, &x.shape, axis);
    let scalars = [x.element, x.element, Element::I32, Element::I32].map(|e| (e, Vec::new()));
    let region = cx.w.region(&scalars, |w, args| {
        let (a, b) = if largest { (&args[1], &args[0]) } else { (&args[0], &args[1]) };
        let mut less = w.compare("LT", a, b);
        if a.element.is_float() {
            // NaN counts as larger than all.
            let (nan_a, nan_b) = (w.is_nan(a), w.is_nan(b));
            let number = w.map("stablehlo.not", &[&nan_a]);
            let below_nan = w.and(&number, &nan_b);
            less = w.or(&less, &below_nan);
        }
        Ok::<_, EmitError>(vec![less])
    })?;
    let attributes = format!("dimension = {axis} : i64, is_stable = true");
    let types = [(x.element, x.shape.clone()), (Element::I32, x.shape.clone())];
    let sorted = cx.w.ops("stablehlo.sort", &[&x, &places], &[region], &attributes, &types);
    let (none, one) = (vec![0; x.rank()], vec![1; x.rank()]);
    let values = cx.w.slice(&sorted[0], &none, &shape, &one);
    let places = cx.w.slice(&sorted[1], &none, &shape, &one);
    Ok(vec![values, cx.w.convert(&places, Element::I64)])
}
