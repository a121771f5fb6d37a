//! Elements as numbers wide enough for every type: `f64` for floats, `i128` for integers and `bool`.

use anychip_tensor::{DType, Element, Tensor, round_to_odd};
use half::{bf16, f16};

use crate::IrError;

/// The elements of a tensor, widened.
pub(super) enum Values {
    Float(Vec<f64>),
    Integer(Vec<i128>),
}

impl Values {
    pub(super) fn of(tensor: &Tensor) -> Values {
        if tensor.dtype().is_float() {
            Values::Float(tensor.to_f64())
        } else {
            Values::Integer(tensor.to_integers())
        }
    }

    /// Back to a tensor: floats rounded once, integers wrapped.
    pub(super) fn store(self, dtype: DType, shape: Vec<usize>) -> Result<Tensor, IrError> {
        match self {
            Values::Float(values) => Ok(Tensor::from_f64(dtype, shape, &values)?),
            Values::Integer(values) => wrapped(dtype, shape, &values),
        }
    }
}

/// A tensor of an integer type or `bool` from values of which the low bits are kept.
pub(super) fn wrapped(dtype: DType, shape: Vec<usize>, values: &[i128]) -> Result<Tensor, IrError> {
    let tensor = match dtype.storage_bits() {
        _ if dtype == DType::Bool => Tensor::from_bools(shape, values.iter().map(|&v| v != 0)),
        16 => Tensor::from_vec(shape, values.iter().map(|&v| v as u16).collect()),
        32 => Tensor::from_vec(shape, values.iter().map(|&v| v as u32).collect()),
        64 => Tensor::from_vec(shape, values.iter().map(|&v| v as u64).collect()),
        _ => {
            let codes: Vec<u8> = values.iter().map(|&v| v as u8).collect();
            return Ok(Tensor::from_codes(dtype, shape, &codes)?);
        }
    };
    Ok(tensor?.bit_cast(dtype)?)
}

/// A float type that arithmetic is done in: widened to `f64` exactly, rounded from it once.
pub(super) trait Float: Element {
    fn widen(self) -> f64;
    fn narrow(value: f64) -> Self;
}

impl Float for f64 {
    fn widen(self) -> f64 {
        self
    }
    fn narrow(value: f64) -> f64 {
        value
    }
}

impl Float for f32 {
    fn widen(self) -> f64 {
        f64::from(self)
    }
    fn narrow(value: f64) -> f32 {
        value as f32
    }
}

impl Float for f16 {
    fn widen(self) -> f64 {
        self.to_f64()
    }
    fn narrow(value: f64) -> f16 {
        f16::from_f32(round_to_odd(value))
    }
}

impl Float for bf16 {
    fn widen(self) -> f64 {
        self.to_f64()
    }
    fn narrow(value: f64) -> bf16 {
        bf16::from_f32(round_to_odd(value))
    }
}

/// `narrow(widen(value))` of a type known only now: `value` rounded to it.
pub(super) fn round_to(dtype: DType, value: f64) -> f64 {
    match dtype {
        DType::F32 => f32::narrow(value).widen(),
        DType::F16 => f16::narrow(value).widen(),
        DType::BF16 => bf16::narrow(value).widen(),
        _ => value,
    }
}

/// `a ⊔ b` where NaN wins.
pub(super) fn float_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// `a ⊓ b` where NaN wins.
pub(super) fn float_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}
