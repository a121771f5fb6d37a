//! Dot products and convolutions. Operands of the types that matrix units take stay as they are; the sum is the result's type.

use anychip_ir::{ConvolutionDims, DotDims, Node};
use anychip_tensor::DType;

use super::writer::{Value, array, list};
use super::{Cx, EmitError};
use crate::element::Element;

pub(super) fn dot(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    dims: &DotDims,
    output: DType,
) -> Result<Value, EmitError> {
    let (a, b) = operands(cx, node, output)?;
    let sum = sum_type(output);
    let attributes = format!(
        "dot_dimension_numbers = #stablehlo.dot<{}>, {}",
        [
            ("lhs_batching_dimensions", &dims.lhs_batch),
            ("rhs_batching_dimensions", &dims.rhs_batch),
            ("lhs_contracting_dimensions", &dims.lhs_contract),
            ("rhs_contracting_dimensions", &dims.rhs_contract),
        ]
        .map(|(name, dims)| format!("{name} = [{}]", list(dims)))
        .join(", "),
        precision(cx)
    );
    let shape = cx.shape(node, 0)?;
    let result = cx.w.op("stablehlo.dot_general", &[&a, &b], &attributes, sum, &shape);
    Ok(cx.w.convert(&result, Element::of(output)))
}

pub(super) fn convolution(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    dims: &ConvolutionDims,
    output: DType,
) -> Result<Value, EmitError> {
    let (x, w) = operands(cx, node, output)?;
    let sum = sum_type(output);
    let spatial: Vec<usize> = (0..dims.strides.len()).collect();
    let labels = |first: &str, second: &str| {
        let places = spatial.iter().map(ToString::to_string);
        list([first.to_string(), second.to_string()].into_iter().chain(places))
    };
    let image = labels("b", "f");
    let attributes = format!(
        "batch_group_count = 1 : i64, dimension_numbers = #stablehlo.conv<[{image}]x[{}]->[{image}]>, \
         feature_group_count = {} : i64, lhs_dilation = {}, padding = {}, {}, rhs_dilation = {}, \
         window_strides = {}",
        labels("o", "i"),
        dims.groups,
        array(&dims.input_dilation),
        pairs(&dims.padding),
        precision(cx),
        array(&dims.dilation),
        array(&dims.strides),
    );
    let shape = cx.shape(node, 0)?;
    let result = cx.w.op("stablehlo.convolution", &[&x, &w], &attributes, sum, &shape);
    Ok(cx.w.convert(&result, Element::of(output)))
}

/// Amounts before and after along each dim, as an attribute.
pub(super) fn pairs(amounts: &[(i64, i64)]) -> String {
    let rows = list(amounts.iter().map(|(low, high)| format!("[{low}, {high}]")));
    let rows = if amounts.is_empty() { String::new() } else { format!("[{rows}]") };
    format!("dense<{rows}> : tensor<{}x2xi64>", amounts.len())
}

/// The type that products are summed in: 16-bit floats gather in `f32`.
fn sum_type(output: DType) -> Element {
    match Element::of(output) {
        half if half.is_half() => Element::F32,
        other => other,
    }
}

/// Both operands, in the result's type unless their products are exact in it as they are: then a device's own unit for them
/// can be used.
fn operands(cx: &mut Cx<'_, '_>, node: &Node, output: DType) -> Result<(Value, Value), EmitError> {
    let (a, b) = (cx.operand(node, 0)?, cx.operand(node, 1)?);
    let to = Element::of(output);
    let exact = match (a.element, to) {
        (Element::I8 | Element::U8, Element::I32)
        | (Element::F16 | Element::BF16, Element::F32 | Element::F16 | Element::BF16) => true,
        (from, to) => from == to,
    };
    // A 16-bit float that comes out as the other one is rounded to it first.
    let rounds = to.is_half() && a.element != to;
    if exact && !rounds && a.element == b.element {
        return Ok((a, b));
    }
    Ok((cx.w.convert(&a, to), cx.w.convert(&b, to)))
}

/// Matrix units of several vendors round operands of 32 bits to fewer unless they are told not to.
fn precision(cx: &Cx<'_, '_>) -> String {
    let name = if cx.style.relaxed { "DEFAULT" } else { "HIGHEST" };
    let one = format!("#stablehlo<precision {name}>");
    format!("precision_config = [{one}, {one}]")
}
