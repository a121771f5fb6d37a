//! The element types a tensor can have, and their storage.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};

/// The type of one element.
///
/// Types of 2 and 4 bits are stored packed, the first element in the lowest bits, each tensor
/// starting on a byte, which is ONNX's own layout; all others take whole bytes, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// 2 bits, 0 to 3.
    U2,
    /// 2 bits, −2 to 1.
    I2,
    /// 4 bits, 0 to 15.
    U4,
    /// 4 bits, −8 to 7.
    I4,
    /// 8 bits unsigned.
    U8,
    /// 8 bits signed.
    I8,
    /// 16 bits unsigned.
    U16,
    /// 16 bits signed.
    I16,
    /// 32 bits unsigned.
    U32,
    /// 32 bits signed.
    I32,
    /// 64 bits unsigned.
    U64,
    /// 64 bits signed.
    I64,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of an IEEE 754 binary32.
    BF16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// 1 sign, 4 exponent, 3 mantissa bits; no infinity (OCP 8-bit specification).
    F8E4M3FN,
    /// As E4M3FN with bias 8, no infinity and no negative zero.
    F8E4M3FNUZ,
    /// 1 sign, 5 exponent, 2 mantissa bits; IEEE-like infinities.
    F8E5M2,
    /// As E5M2 with bias 16, no infinity and no negative zero.
    F8E5M2FNUZ,
    /// 8 exponent bits only: powers of two from 2^−127 to 2^127 and one NaN.
    F8E8M0,
    /// 1 sign, 2 exponent, 3 mantissa bits in a byte of its own; finite only.
    F6E2M3,
    /// 1 sign, 3 exponent, 2 mantissa bits in a byte of its own; finite only.
    F6E3M2,
    /// 1 sign, 2 exponent, 1 mantissa bit, packed two to a byte; finite only.
    F4E2M1,
}

impl DType {
    /// Every element type, narrowest family first.
    pub const ALL: [DType; 25] = [
        DType::Bool,
        DType::U2,
        DType::I2,
        DType::U4,
        DType::I4,
        DType::U8,
        DType::I8,
        DType::U16,
        DType::I16,
        DType::U32,
        DType::I32,
        DType::U64,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
        DType::F8E4M3FN,
        DType::F8E4M3FNUZ,
        DType::F8E5M2,
        DType::F8E5M2FNUZ,
        DType::F8E8M0,
        DType::F6E2M3,
        DType::F6E3M2,
        DType::F4E2M1,
    ];

    /// The name used in the text form, in Records and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::U2 => "u2",
            DType::I2 => "i2",
            DType::U4 => "u4",
            DType::I4 => "i4",
            DType::U8 => "u8",
            DType::I8 => "i8",
            DType::U16 => "u16",
            DType::I16 => "i16",
            DType::U32 => "u32",
            DType::I32 => "i32",
            DType::U64 => "u64",
            DType::I64 => "i64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::F8E4M3FN => "f8e4m3fn",
            DType::F8E4M3FNUZ => "f8e4m3fnuz",
            DType::F8E5M2 => "f8e5m2",
            DType::F8E5M2FNUZ => "f8e5m2fnuz",
            DType::F8E8M0 => "f8e8m0",
            DType::F6E2M3 => "f6e2m3",
            DType::F6E3M2 => "f6e3m2",
            DType::F4E2M1 => "f4e2m1",
        }
    }

    /// Bits one element takes in storage (a 6-bit float has a byte of its own).
    pub const fn storage_bits(self) -> usize {
        match self {
            DType::U2 | DType::I2 => 2,
            DType::U4 | DType::I4 | DType::F4E2M1 => 4,
            DType::Bool
            | DType::U8
            | DType::I8
            | DType::F8E4M3FN
            | DType::F8E4M3FNUZ
            | DType::F8E5M2
            | DType::F8E5M2FNUZ
            | DType::F8E8M0
            | DType::F6E2M3
            | DType::F6E3M2 => 8,
            DType::U16 | DType::I16 | DType::F16 | DType::BF16 => 16,
            DType::U32 | DType::I32 | DType::F32 => 32,
            DType::U64 | DType::I64 | DType::F64 => 64,
        }
    }

    /// Bytes that `elements` elements take; `None` when that number does not fit.
    pub fn bytes_for(self, elements: usize) -> Option<usize> {
        Some(elements.checked_mul(self.storage_bits())?.div_ceil(8))
    }

    /// Any floating-point type, small ones included.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64) || self.is_small_float()
    }

    /// A float of 8 bits or fewer: stored and cast, never computed in.
    pub const fn is_small_float(self) -> bool {
        matches!(
            self,
            DType::F8E4M3FN
                | DType::F8E4M3FNUZ
                | DType::F8E5M2
                | DType::F8E5M2FNUZ
                | DType::F8E8M0
                | DType::F6E2M3
                | DType::F6E3M2
                | DType::F4E2M1
        )
    }

    /// A signed or unsigned integer, not `bool`.
    pub const fn is_integer(self) -> bool {
        self.is_signed_integer() || self.is_unsigned_integer()
    }

    /// A two's-complement integer.
    pub const fn is_signed_integer(self) -> bool {
        matches!(self, DType::I2 | DType::I4 | DType::I8 | DType::I16 | DType::I32 | DType::I64)
    }

    /// An unsigned integer, not `bool`.
    pub const fn is_unsigned_integer(self) -> bool {
        matches!(self, DType::U2 | DType::U4 | DType::U8 | DType::U16 | DType::U32 | DType::U64)
    }

    /// Smallest and largest value of an integer type or `bool`.
    pub const fn integer_range(self) -> Option<(i128, i128)> {
        let bits = self.storage_bits() as u32;
        if matches!(self, DType::Bool) {
            Some((0, 1))
        } else if self.is_signed_integer() {
            Some((-(1 << (bits - 1)), (1 << (bits - 1)) - 1))
        } else if self.is_unsigned_integer() {
            Some((0, (1 << bits) - 1))
        } else {
            None
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no element type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no element type (f32, f16, bf16, i8, u8, i64, bool …)")]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(text: &str) -> Result<DType, UnknownDType> {
        DType::ALL
            .into_iter()
            .find(|dtype| dtype.name() == text)
            .ok_or_else(|| UnknownDType(text.to_string()))
    }
}

/// A Rust type whose values are the elements of a tensor, byte for byte.
///
/// `bool` and the packed and small types have none: they are read through
/// [`crate::Tensor::to_f64`], [`crate::Tensor::to_i64`] or as raw `u8`.
pub trait Element: bytemuck::Pod + Send + Sync + PartialOrd + fmt::Debug {
    /// The element type it stands for.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),* $(,)?) => {
        $(impl Element for $rust { const DTYPE: DType = DType::$dtype; })*
    };
}

elements! {
    u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, u64 => U64, i64 => I64,
    f16 => F16, bf16 => BF16, f32 => F32, f64 => F64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for dtype in DType::ALL {
            assert_eq!(dtype.name().parse(), Ok(dtype));
        }
        assert!("float".parse::<DType>().is_err());
    }

    #[test]
    fn packed_types_round_up_to_bytes() {
        assert_eq!(DType::I4.bytes_for(3), Some(2));
        assert_eq!(DType::U2.bytes_for(5), Some(2));
        assert_eq!(DType::F64.bytes_for(usize::MAX), None);
    }

    #[test]
    fn integer_ranges() {
        assert_eq!(DType::I4.integer_range(), Some((-8, 7)));
        assert_eq!(DType::U64.integer_range(), Some((0, u64::MAX as i128)));
        assert_eq!(DType::I64.integer_range(), Some((i64::MIN as i128, i64::MAX as i128)));
        assert_eq!(DType::F32.integer_range(), None);
    }
}
