//! Type rules of what works on one element at a time, quantization included.

use anychip_tensor::DType;

use super::{Rule, Types, computable, one};
use crate::{Binary, IrError, Unary};

impl Rule<'_, '_> {
    pub(super) fn unary(&mut self, unary: Unary) -> Types {
        self.count(1)?;
        let ty = self.ty(0).clone();
        let dtype = self.unary_dtype(unary, ty.dtype)?;
        one(dtype, ty.shape)
    }

    pub(super) fn binary(&mut self, binary: Binary) -> Types {
        self.count(2)?;
        let dtype = self.ty(0).dtype;
        match binary {
            Binary::Pow => {
                self.expect(0, computable(dtype), "a number")?;
                self.expect(1, computable(self.ty(1).dtype), "a number")?;
            }
            Binary::And | Binary::Or | Binary::Xor => {
                self.expect(0, dtype == DType::Bool || dtype.is_integer(), "bool or an integer")?;
                self.same_dtype(0, 1)?;
            }
            Binary::ShiftLeft | Binary::ShiftRight => {
                self.expect(0, dtype.is_integer(), "an integer")?;
                self.same_dtype(0, 1)?;
            }
            Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Rem => {
                self.expect(0, computable(dtype), "a number")?;
                self.same_dtype(0, 1)?;
            }
            Binary::Max | Binary::Min => {
                self.expect(0, computable(dtype) || dtype == DType::Bool, "a number")?;
                self.same_dtype(0, 1)?;
            }
        }
        one(dtype, self.broadcast(0..2)?)
    }

    pub(super) fn compare(&mut self) -> Types {
        self.count(2)?;
        self.same_dtype(0, 1)?;
        one(DType::Bool, self.broadcast(0..2)?)
    }

    pub(super) fn select(&mut self) -> Types {
        self.count(3)?;
        self.expect(0, self.ty(0).dtype == DType::Bool, "bool")?;
        self.same_dtype(1, 2)?;
        one(self.ty(1).dtype, self.broadcast(0..3)?)
    }

    pub(super) fn cast(&mut self, to: DType) -> Types {
        self.count(1)?;
        one(to, self.ty(0).shape.clone())
    }

    pub(super) fn bit_cast(&mut self, to: DType) -> Types {
        self.count(1)?;
        let same = self.ty(0).dtype.storage_bits() == to.storage_bits();
        self.expect(0, same, "a type of the same width")?;
        one(to, self.ty(0).shape.clone())
    }

    pub(super) fn quantize(&mut self, to: DType) -> Types {
        self.count(3)?;
        self.expect(
            0,
            self.ty(0).dtype.is_float() || self.ty(0).dtype == DType::I32,
            "a float or i32",
        )?;
        self.expect(
            1,
            self.ty(1).dtype.is_float() || self.ty(1).dtype == DType::I32,
            "a float or i32",
        )?;
        self.expect(2, self.ty(2).dtype == to, "the type of the result")?;
        one(to, self.broadcast(0..3)?)
    }

    pub(super) fn dequantize(&mut self, to: DType) -> Types {
        self.count(3)?;
        self.expect(1, self.ty(1).dtype.is_float(), "a float")?;
        self.same_dtype(0, 2)?;
        one(to, self.broadcast(0..3)?)
    }

    pub(super) fn requantize(&mut self, to: DType) -> Types {
        self.count(4)?;
        for i in 0..4 {
            self.expect(i, self.ty(i).dtype == DType::I32, "i32")?;
        }
        if !matches!(to, DType::I8 | DType::U8) {
            return Err(self.setting("the result is i8 or u8", to));
        }
        one(to, self.broadcast(0..4)?)
    }

    fn unary_dtype(&self, unary: Unary, dtype: DType) -> Result<DType, IrError> {
        match unary {
            Unary::Neg | Unary::Abs | Unary::Sign => {
                self.expect(0, computable(dtype), "a number")?;
                Ok(dtype)
            }
            Unary::Not => {
                self.expect(0, dtype == DType::Bool || dtype.is_integer(), "bool or an integer")?;
                Ok(dtype)
            }
            Unary::IsNan | Unary::IsInf => {
                self.expect(0, dtype.is_float(), "a float")?;
                Ok(DType::Bool)
            }
            Unary::Floor
            | Unary::Ceil
            | Unary::Round
            | Unary::Sqrt
            | Unary::Exp
            | Unary::Log
            | Unary::Sin
            | Unary::Cos
            | Unary::Tan
            | Unary::Asin
            | Unary::Acos
            | Unary::Atan
            | Unary::Sinh
            | Unary::Cosh
            | Unary::Asinh
            | Unary::Acosh
            | Unary::Atanh
            | Unary::Tanh
            | Unary::Erf
            | Unary::Sigmoid => {
                self.expect(
                    0,
                    dtype.is_float() && !dtype.is_small_float(),
                    "a float of 16 bits or more",
                )?;
                Ok(dtype)
            }
        }
    }
}
