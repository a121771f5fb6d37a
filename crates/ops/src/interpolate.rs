//! Interpolation along one dim: which elements a position draws on, and with what weight.

use anychip_ir::{Builder, IrError, ValueId};

/// Weights of the four neighbors of a position `ratio` past the second one: the cubic convolution kernel
/// with coefficient `a` (Keys 1981, doi:10.1109/TASSP.1981.1163711).
pub(crate) fn cubic_weights(
    b: &mut Builder,
    ratio: ValueId,
    a: f64,
) -> Result<[ValueId; 4], IrError> {
    let after = b.offset(ratio, 1.0)?;
    let one = b.scalar_like(ratio, 1.0)?;
    let rest = b.sub(one, ratio)?;
    let two = b.scalar_like(ratio, 2.0)?;
    let before = b.sub(two, ratio)?;
    Ok([
        cubic_outer(b, after, a)?,
        cubic_inner(b, ratio, a)?,
        cubic_inner(b, rest, a)?,
        cubic_outer(b, before, a)?,
    ])
}

/// `((a + 2) d − (a + 3)) d² + 1`: the kernel at a distance of at most 1.
pub(crate) fn cubic_inner(b: &mut Builder, d: ValueId, a: f64) -> Result<ValueId, IrError> {
    let scaled = b.scale(d, a + 2.0)?;
    let shifted = b.offset(scaled, -(a + 3.0))?;
    let square = b.mul(d, d)?;
    let product = b.mul(shifted, square)?;
    b.offset(product, 1.0)
}

/// `((a d − 5a) d + 8a) d − 4a`: the kernel at a distance between 1 and 2.
pub(crate) fn cubic_outer(b: &mut Builder, d: ValueId, a: f64) -> Result<ValueId, IrError> {
    let scaled = b.scale(d, a)?;
    let shifted = b.offset(scaled, -5.0 * a)?;
    let product = b.mul(shifted, d)?;
    let shifted = b.offset(product, 8.0 * a)?;
    let product = b.mul(shifted, d)?;
    b.offset(product, -4.0 * a)
}

/// `x` limited to `low ..= high`.
pub(crate) fn clamp(
    b: &mut Builder,
    x: ValueId,
    low: ValueId,
    high: ValueId,
) -> Result<ValueId, IrError> {
    let above = b.max(x, low)?;
    b.min(above, high)
}
