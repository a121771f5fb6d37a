//! Numbers on a grid that reaches as far as they do.

use anychip_ir::{Builder, IrError, Prim, ReduceKind, ValueId};
use anychip_tensor::{DType, Tensor};

/// A value of any shape as `u8` with the range that it has, 0 included, and the scale and the zero point of that: the standard's
/// `DynamicQuantizeLinear`. Of zeros alone the scale is 1.
pub fn dynamic_range(b: &mut Builder, x: ValueId) -> Result<[ValueId; 3], IrError> {
    let axes: Vec<usize> = (0..b.rank(x)).collect();
    let zero = b.scalar_like(x, 0.0)?;
    let most = b.reduce(ReduceKind::Max, x, &axes, false)?;
    let most = b.max(most, zero)?;
    let least = b.reduce(ReduceKind::Min, x, &axes, false)?;
    let least = b.min(least, zero)?;
    let range = b.sub(most, least)?;
    let steps = b.scalar_like(x, 255.0)?;
    let scale = b.div(range, steps)?;
    // Zeros alone have no range; any scale will do.
    let flat = b.eq(scale, zero)?;
    let one = b.scalar_like(x, 1.0)?;
    let scale = b.select(flat, one, scale)?;
    let below = b.neg(least)?;
    let none = b.constant(Tensor::zeros(DType::U8, [])?);
    let quantize = Prim::Quantize { to: DType::U8, saturate: true };
    let point = b.prim(quantize.clone(), &[below, scale, none])?;
    Ok([b.prim(quantize, &[x, scale, point])?, scale, point])
}
