//! What the integer operators share: centered operands, and the one requantization of their sums.

use anychip_ir::{Builder, IrError, Prim, ValueId};
use anychip_tensor::DType;

/// How 32-bit sums become 8-bit codes.
pub(crate) struct Output {
    pub(crate) op: &'static str,
    pub(crate) to: DType,
    pub(crate) zero: i64,
    pub(crate) low: i64,
    pub(crate) high: i64,
}

/// Zero points of 8-bit types lie here.
const ZEROS: std::ops::RangeInclusive<i64> = -128..=255;

/// `x − zero` in 32 bits, for an 8-bit `x`.
pub(crate) fn centered(
    b: &mut Builder,
    op: &'static str,
    x: ValueId,
    zero: i64,
) -> Result<ValueId, IrError> {
    if !matches!(b.dtype(x), DType::I8 | DType::U8) {
        return Err(IrError::Shapes {
            op,
            reason: "operands are i8 or u8",
            types: vec![b.ty(x).clone()],
        });
    }
    if !ZEROS.contains(&zero) {
        return Err(IrError::Setting {
            op,
            reason: "a zero point is one of the codes",
            found: zero.to_string(),
        });
    }
    let wide = b.cast(x, DType::I32)?;
    if zero == 0 { Ok(wide) } else { b.offset(wide, -(zero as f64)) }
}

impl Output {
    /// `clamp(requantize(sum; multiplier, shift) + zero, low, high)`; the clamp is left out where the type clamps alike.
    pub(crate) fn of(
        &self,
        b: &mut Builder,
        sum: ValueId,
        multiplier: ValueId,
        shift: ValueId,
    ) -> Result<ValueId, IrError> {
        let (least, most) = match self.to {
            DType::I8 => (-128, 127),
            DType::U8 => (0, 255),
            _ => {
                return Err(IrError::Setting {
                    op: self.op,
                    reason: "the result is i8 or u8",
                    found: self.to.to_string(),
                });
            }
        };
        let codes = least..=most;
        if ![self.zero, self.low, self.high].iter().all(|n| codes.contains(n))
            || self.low > self.high
        {
            return Err(IrError::Setting {
                op: self.op,
                reason: "zero point and limits are codes of the result",
                found: format!("{} in {}..={}", self.zero, self.low, self.high),
            });
        }
        let zero = b.scalar(DType::I32, self.zero as f64)?;
        let mut y = b.prim(Prim::Requantize { to: self.to }, &[sum, multiplier, shift, zero])?;
        if self.low > least {
            let low = b.scalar_like(y, self.low as f64)?;
            y = b.max(y, low)?;
        }
        if self.high < most {
            let high = b.scalar_like(y, self.high as f64)?;
            y = b.min(y, high)?;
        }
        Ok(y)
    }
}
