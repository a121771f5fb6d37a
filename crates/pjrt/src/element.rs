//! Which element types devices have, and how ours lie in them.
//!
//! Types narrower than a byte travel as bytes that hold their value, small floats as bytes that hold their code: devices agree
//! on neither, and what they compute of them is written out in the program.

use std::borrow::Cow;

use anychip_tensor::{DType, Tensor, TensorView};

use crate::PjrtError;

/// An element type of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Element {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    F32,
    F64,
    BF16,
}

impl Element {
    /// How elements of `dtype` lie on a device.
    pub(crate) fn of(dtype: DType) -> Element {
        match dtype {
            DType::Bool => Element::Bool,
            DType::I2 | DType::I4 | DType::I8 => Element::I8,
            DType::I16 => Element::I16,
            DType::I32 => Element::I32,
            DType::I64 => Element::I64,
            DType::U16 => Element::U16,
            DType::U32 => Element::U32,
            DType::U64 => Element::U64,
            DType::F16 => Element::F16,
            DType::F32 => Element::F32,
            DType::F64 => Element::F64,
            DType::BF16 => Element::BF16,
            DType::U2
            | DType::U4
            | DType::U8
            | DType::F8E4M3FN
            | DType::F8E4M3FNUZ
            | DType::F8E5M2
            | DType::F8E5M2FNUZ
            | DType::F8E8M0
            | DType::F6E2M3
            | DType::F6E3M2
            | DType::F4E2M1 => Element::U8,
        }
    }

    /// The type of ours that it is.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Element::Bool => DType::Bool,
            Element::I8 => DType::I8,
            Element::I16 => DType::I16,
            Element::I32 => DType::I32,
            Element::I64 => DType::I64,
            Element::U8 => DType::U8,
            Element::U16 => DType::U16,
            Element::U32 => DType::U32,
            Element::U64 => DType::U64,
            Element::F16 => DType::F16,
            Element::F32 => DType::F32,
            Element::F64 => DType::F64,
            Element::BF16 => DType::BF16,
        }
    }

    /// The name in StableHLO.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Element::Bool => "i1",
            Element::I8 => "i8",
            Element::I16 => "i16",
            Element::I32 => "i32",
            Element::I64 => "i64",
            Element::U8 => "ui8",
            Element::U16 => "ui16",
            Element::U32 => "ui32",
            Element::U64 => "ui64",
            Element::F16 => "f16",
            Element::F32 => "f32",
            Element::F64 => "f64",
            Element::BF16 => "bf16",
        }
    }

    /// The number in PJRT's `PJRT_Buffer_Type`.
    pub(crate) fn code(self) -> i32 {
        match self {
            Element::Bool => 1,
            Element::I8 => 2,
            Element::I16 => 3,
            Element::I32 => 4,
            Element::I64 => 5,
            Element::U8 => 6,
            Element::U16 => 7,
            Element::U32 => 8,
            Element::U64 => 9,
            Element::F16 => 10,
            Element::F32 => 11,
            Element::F64 => 12,
            Element::BF16 => 13,
        }
    }

    /// Bytes of one element.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Element::Bool | Element::I8 | Element::U8 => 1,
            Element::I16 | Element::U16 | Element::F16 | Element::BF16 => 2,
            Element::I32 | Element::U32 | Element::F32 => 4,
            Element::I64 | Element::U64 | Element::F64 => 8,
        }
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, Element::F16 | Element::F32 | Element::F64 | Element::BF16)
    }

    pub(crate) fn is_unsigned(self) -> bool {
        matches!(self, Element::U8 | Element::U16 | Element::U32 | Element::U64)
    }

    /// Floats of 16 bits: sums of them gather in `f32`.
    pub(crate) fn is_half(self) -> bool {
        matches!(self, Element::F16 | Element::BF16)
    }

    /// The least and the largest value of an integer type or `bool`.
    pub(crate) fn range(self) -> Option<(i128, i128)> {
        let bits = 8 * self.bytes() as u32;
        match self {
            Element::Bool => Some((0, 1)),
            _ if self.is_float() => None,
            _ if self.is_unsigned() => Some((0, (1 << bits) - 1)),
            _ => Some((-(1 << (bits - 1)), (1 << (bits - 1)) - 1)),
        }
    }
}

/// A tensor's elements as a device takes them, row-major.
pub(crate) fn to_device<'a>(tensor: &TensorView<'a>) -> Cow<'a, [u8]> {
    if tensor.dtype.storage_bits() >= 8 {
        return Cow::Borrowed(tensor.data);
    }
    let codes = tensor.codes();
    Cow::Owned(match tensor.dtype {
        signed @ (DType::I2 | DType::I4) => {
            let unused = 8 - signed.storage_bits();
            codes.into_iter().map(|code| (((code << unused) as i8) >> unused) as u8).collect()
        }
        _ => codes,
    })
}

/// What a device gave as a tensor.
pub(crate) fn from_device(
    dtype: DType,
    shape: &[usize],
    bytes: Vec<u8>,
) -> Result<Tensor, PjrtError> {
    let found = bytes.len();
    let made = if dtype.storage_bits() < 8 {
        Tensor::from_codes(dtype, shape, &bytes)
    } else {
        Tensor::from_bytes(dtype, shape, bytes.into())
    };
    made.map_err(|_| PjrtError::Result {
        found: format!("{found} bytes"),
        expected: format!("{dtype}{shape:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_goes_to_the_device_and_back() {
        for dtype in DType::ALL {
            let values: Vec<f64> = if dtype.is_signed_integer() {
                vec![-2.0, 1.0, 0.0, -1.0, 1.0]
            } else {
                vec![1.0, 0.0, 1.0, 1.0, 0.0]
            };
            let x = Tensor::from_f64(dtype, [5], &values).expect("five elements");
            let bytes = to_device(&x.view()).into_owned();
            assert_eq!(bytes.len(), 5 * Element::of(dtype).bytes(), "{dtype}");
            assert_eq!(from_device(dtype, &[5], bytes).as_ref(), Ok(&x), "{dtype}");
        }
        let x = Tensor::from_integers(DType::I4, [2], &[-8, 7]).expect("two elements");
        assert_eq!(to_device(&x.view()).as_ref(), [0xf8, 0x07]);
    }
}
