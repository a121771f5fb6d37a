//! Host tensors: immutable, cheap to clone, owned, memory-mapped or made when they are first read.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};

use crate::deferred::Storage;
use crate::small_float::{decode_small_float, encode_small_float, round_to_odd};
use crate::{DType, Element};

/// What is wrong with the parts a tensor was to be made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The product of the dims does not fit, or is absurd.
    #[error("shape {0:?} has too many elements")]
    TooLarge(Vec<usize>),
    /// The bytes do not match the shape.
    #[error("{dtype} tensor of shape {shape:?} needs {expected} bytes and got {found}")]
    Length {
        /// Element type asked for.
        dtype: DType,
        /// Shape asked for.
        shape: Vec<usize>,
        /// Bytes that such a tensor takes.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
}

/// An immutable tensor in host memory, row-major, cheap to clone.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Storage,
}

/// A borrowed tensor: what a session takes as input. Row-major.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first.
    pub shape: &'a [usize],
    /// Storage as [`DType`] describes it.
    pub data: &'a [u8],
}

/// Number of elements of a shape; `None` when it does not fit in memory's address space.
fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

/// Bytes of storage of such a tensor.
fn storage_length(dtype: DType, shape: &[usize]) -> Result<usize, TensorError> {
    element_count(shape)
        .and_then(|n| dtype.bytes_for(n))
        .filter(|&n| isize::try_from(n).is_ok())
        .ok_or_else(|| TensorError::TooLarge(shape.to_vec()))
}

impl Tensor {
    /// A tensor over existing bytes, which are not copied.
    pub fn from_bytes(
        dtype: DType,
        shape: impl Into<Vec<usize>>,
        data: Bytes,
    ) -> Result<Tensor, TensorError> {
        Tensor::over(dtype, shape.into(), Storage::Ready(data))
    }

    /// A tensor whose bytes `make` makes when they are first read, so that one which is only counted takes no memory.
    /// Every call of `make` must give the same bytes, as many as the type and shape take: it runs at most once for this tensor and all
    /// clones, reshapes and bit casts of it, in the thread that reads first.
    pub fn deferred(
        dtype: DType,
        shape: impl Into<Vec<usize>>,
        make: impl Fn() -> Bytes + Send + Sync + 'static,
    ) -> Result<Tensor, TensorError> {
        let shape = shape.into();
        let length = storage_length(dtype, &shape)?;
        Ok(Tensor { dtype, shape, data: Storage::deferred(length, make) })
    }

    fn over(dtype: DType, shape: Vec<usize>, data: Storage) -> Result<Tensor, TensorError> {
        let expected = storage_length(dtype, &shape)?;
        if data.len() == expected {
            Ok(Tensor { dtype, shape, data })
        } else {
            Err(TensorError::Length { dtype, shape, expected, found: data.len() })
        }
    }

    /// A tensor of the given elements.
    pub fn from_vec<T: Element>(
        shape: impl Into<Vec<usize>>,
        data: Vec<T>,
    ) -> Result<Tensor, TensorError> {
        struct Owner<T>(Vec<T>);
        impl<T: Element> AsRef<[u8]> for Owner<T> {
            fn as_ref(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0)
            }
        }
        Tensor::from_bytes(T::DTYPE, shape, Bytes::from_owner(Owner(data)))
    }

    /// A `bool` tensor.
    pub fn from_bools(
        shape: impl Into<Vec<usize>>,
        data: impl IntoIterator<Item = bool>,
    ) -> Result<Tensor, TensorError> {
        let bytes: Vec<u8> = data.into_iter().map(u8::from).collect();
        Tensor::from_bytes(DType::Bool, shape, Bytes::from(bytes))
    }

    /// A tensor without dims.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        Tensor::from_vec(Vec::new(), vec![value]).expect("one element fits a scalar")
    }

    /// A vector of `i64`: how shapes, axes and other small integers travel.
    pub fn from_i64s(values: &[i64]) -> Tensor {
        Tensor::from_vec(vec![values.len()], values.to_vec()).expect("length equals the one dim")
    }

    /// A tensor of any type from `f64` values, each rounded to nearest even (integers truncate, then
    /// saturate; small floats saturate as asked by [`encode_small_float`]'s `saturate = true`).
    pub fn from_f64(
        dtype: DType,
        shape: impl Into<Vec<usize>>,
        values: &[f64],
    ) -> Result<Tensor, TensorError> {
        let shape = shape.into();
        match dtype {
            DType::F64 => Tensor::from_vec(shape, values.to_vec()),
            DType::F32 => Tensor::from_vec(shape, values.iter().map(|&v| v as f32).collect()),
            DType::F16 => Tensor::from_vec(
                shape,
                values.iter().map(|&v| f16::from_f32(round_to_odd(v))).collect(),
            ),
            DType::BF16 => Tensor::from_vec(
                shape,
                values.iter().map(|&v| bf16::from_f32(round_to_odd(v))).collect(),
            ),
            DType::Bool => Tensor::from_bools(shape, values.iter().map(|&v| v != 0.0)),
            small if small.is_small_float() => {
                let codes: Vec<u8> = values
                    .iter()
                    .map(|&v| encode_small_float(small, round_to_odd(v), true))
                    .collect();
                Tensor::from_codes(small, shape, &codes)
            }
            integer => {
                let integers: Vec<i128> = values.iter().map(|&v| v as i128).collect();
                Tensor::from_integers(integer, shape, &integers)
            }
        }
    }

    /// A tensor of an integer type (or `bool`) from values, saturated to its range.
    pub fn from_integers(
        dtype: DType,
        shape: impl Into<Vec<usize>>,
        values: &[i128],
    ) -> Result<Tensor, TensorError> {
        let shape = shape.into();
        let Some((low, high)) = dtype.integer_range() else {
            let floats: Vec<f64> = values.iter().map(|&v| v as f64).collect();
            return Tensor::from_f64(dtype, shape, &floats);
        };
        let clamped = values.iter().map(|&v| v.clamp(low, high));
        match dtype.storage_bits() {
            2 | 4 => {
                let codes: Vec<u8> = clamped.map(|v| v as u8).collect();
                Tensor::from_codes(dtype, shape, &codes)
            }
            8 => Tensor::from_bytes(
                dtype,
                shape,
                clamped.map(|v| v as u8).collect::<Vec<_>>().into(),
            ),
            16 => {
                let data: Vec<u16> = clamped.map(|v| v as u16).collect();
                Tensor::from_vec(shape, data).map(|t| Tensor { dtype, ..t })
            }
            32 => {
                let data: Vec<u32> = clamped.map(|v| v as u32).collect();
                Tensor::from_vec(shape, data).map(|t| Tensor { dtype, ..t })
            }
            _ => {
                let data: Vec<u64> = clamped.map(|v| v as u64).collect();
                Tensor::from_vec(shape, data).map(|t| Tensor { dtype, ..t })
            }
        }
    }

    /// A tensor of a type of 8 bits or fewer from one code a byte; packed types are packed here.
    pub fn from_codes(
        dtype: DType,
        shape: impl Into<Vec<usize>>,
        codes: &[u8],
    ) -> Result<Tensor, TensorError> {
        let bits = dtype.storage_bits().min(8);
        let per_byte = 8 / bits;
        let mask = ((1u16 << bits) - 1) as u8;
        let bytes: Vec<u8> = codes
            .chunks(per_byte)
            .map(|chunk| {
                chunk
                    .iter()
                    .enumerate()
                    .fold(0, |byte, (i, code)| byte | ((code & mask) << (i * bits)))
            })
            .collect();
        Tensor::from_bytes(dtype, shape, bytes.into())
    }

    /// All elements zero (false).
    pub fn zeros(dtype: DType, shape: impl Into<Vec<usize>>) -> Result<Tensor, TensorError> {
        let shape = shape.into();
        let length = storage_length(dtype, &shape)?;
        if dtype.storage_bits() == 64 {
            return Tensor::from_vec(shape, vec![0u64; length / 8]).map(|t| Tensor { dtype, ..t });
        }
        if dtype.storage_bits() == 32 {
            return Tensor::from_vec(shape, vec![0u32; length / 4]).map(|t| Tensor { dtype, ..t });
        }
        Tensor::from_bytes(dtype, shape, vec![0u8; length].into())
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Sizes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of dims.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        element_count(&self.shape).unwrap_or(0)
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Storage as [`DType`] describes it; made now if it was deferred and nobody has read it yet.
    pub fn bytes(&self) -> &Bytes {
        self.data.bytes()
    }

    /// How many bytes the storage takes, or will take once it is made.
    pub fn byte_len(&self) -> usize {
        self.data.len()
    }

    /// Whether the storage is still to be made. What only counts or compares asks this, or [`Tensor::storage_id`], before
    /// it reads.
    pub fn is_deferred(&self) -> bool {
        self.data.is_deferred()
    }

    /// A number that tensors of equal length share only when they have the same storage, for as long as both live.
    pub fn storage_id(&self) -> usize {
        self.data.id()
    }

    /// A borrowed view.
    pub fn view(&self) -> TensorView<'_> {
        TensorView { dtype: self.dtype, shape: &self.shape, data: self.bytes() }
    }

    /// The same elements under another shape; nothing is copied.
    pub fn reshaped(&self, shape: impl Into<Vec<usize>>) -> Result<Tensor, TensorError> {
        Tensor::over(self.dtype, shape.into(), self.data.clone())
    }

    /// The same storage read as another type of the same width; nothing is copied.
    pub fn bit_cast(&self, dtype: DType) -> Result<Tensor, TensorError> {
        Tensor::over(dtype, self.shape.clone(), self.data.clone())
    }

    /// The elements as `T`, borrowed where memory is aligned for it and copied otherwise; `None` when
    /// the tensor's elements are not of type `T` (a `bool` may be read as `u8`).
    pub fn elements<T: Element>(&self) -> Option<Cow<'_, [T]>> {
        self.view().elements()
    }

    /// Every element as `f64`: exact but for 64-bit integers beyond 2^53.
    pub fn to_f64(&self) -> Vec<f64> {
        self.view().to_f64()
    }

    /// Every element of an integer or `bool` tensor as `i128`; floats truncate.
    pub fn to_integers(&self) -> Vec<i128> {
        self.view().to_integers()
    }

    /// Every element of an integer or `bool` tensor as `i64`, saturating; floats truncate.
    pub fn to_i64(&self) -> Vec<i64> {
        self.to_integers()
            .into_iter()
            .map(|v| v.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
            .collect()
    }

    /// The raw code of each element of a type of 8 bits or fewer, one a byte, unpacked, not sign-extended.
    pub fn codes(&self) -> Vec<u8> {
        self.view().codes()
    }
}

impl<'a> TensorView<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        element_count(self.shape).unwrap_or(0)
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A tensor of its own, the bytes copied and aligned to 8.
    pub fn to_tensor(&self) -> Tensor {
        struct Owner(Vec<u64>, usize);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                &bytemuck::cast_slice(&self.0)[..self.1]
            }
        }
        let mut words = vec![0u64; self.data.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..self.data.len()].copy_from_slice(self.data);
        let data = Bytes::from_owner(Owner(words, self.data.len()));
        Tensor { dtype: self.dtype, shape: self.shape.to_vec(), data: Storage::Ready(data) }
    }

    /// See [`Tensor::elements`].
    pub fn elements<T: Element>(&self) -> Option<Cow<'a, [T]>> {
        let as_bytes = self.dtype == DType::Bool && T::DTYPE == DType::U8;
        if self.dtype != T::DTYPE && !as_bytes {
            return None;
        }
        Some(match bytemuck::try_cast_slice(self.data) {
            Ok(slice) => Cow::Borrowed(slice),
            Err(_) => Cow::Owned(bytemuck::allocation::pod_collect_to_vec(self.data)),
        })
    }

    /// See [`Tensor::codes`].
    pub fn codes(&self) -> Vec<u8> {
        let bits = self.dtype.storage_bits();
        if bits >= 8 {
            return self.data.to_vec();
        }
        let per_byte = 8 / bits;
        let mask = (1u8 << bits) - 1;
        (0..self.len())
            .map(|i| (self.data[i / per_byte] >> ((i % per_byte) * bits)) & mask)
            .collect()
    }

    /// See [`Tensor::to_f64`].
    pub fn to_f64(&self) -> Vec<f64> {
        macro_rules! read {
            ($t:ty, $convert:expr) => {
                self.elements::<$t>()
                    .map(|slice| slice.iter().map(|&v| $convert(v)).collect())
                    .unwrap_or_default()
            };
        }
        match self.dtype {
            DType::F64 => read!(f64, |v| v),
            DType::F32 => read!(f32, f64::from),
            DType::F16 => read!(f16, f16::to_f64),
            DType::BF16 => read!(bf16, bf16::to_f64),
            small if small.is_small_float() => self
                .codes()
                .into_iter()
                .map(|code| f64::from(decode_small_float(small, code)))
                .collect(),
            _ => self.to_integers().into_iter().map(|v| v as f64).collect(),
        }
    }

    /// See [`Tensor::to_integers`].
    pub fn to_integers(&self) -> Vec<i128> {
        macro_rules! read {
            ($t:ty) => {
                self.elements::<$t>()
                    .map(|slice| slice.iter().map(|&v| i128::from(v)).collect())
                    .unwrap_or_default()
            };
        }
        match self.dtype {
            DType::Bool => self.data.iter().map(|&v| i128::from(v != 0)).collect(),
            DType::U8 => read!(u8),
            DType::I8 => read!(i8),
            DType::U16 => read!(u16),
            DType::I16 => read!(i16),
            DType::U32 => read!(u32),
            DType::I32 => read!(i32),
            DType::U64 => read!(u64),
            DType::I64 => read!(i64),
            DType::U2 | DType::U4 => self.codes().into_iter().map(i128::from).collect(),
            DType::I2 => {
                self.codes().into_iter().map(|c| i128::from(((c << 6) as i8) >> 6)).collect()
            }
            DType::I4 => {
                self.codes().into_iter().map(|c| i128::from(((c << 4) as i8) >> 4)).collect()
            }
            _ => self.to_f64().into_iter().map(|v| v as i128).collect(),
        }
    }
}

impl PartialEq for Tensor {
    /// Same type, shape and bits (so NaN equals the same NaN).
    fn eq(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && (self.storage_id() == other.storage_id() || self.bytes() == other.bytes())
    }
}

impl Eq for Tensor {}

impl fmt::Debug for Tensor {
    /// Type and shape, and the elements when there are few.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)?;
        if self.len() <= 16 { write!(f, " {:?}", self.to_f64()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_integers_round_trip() {
        let values = [-8, 7, -1, 0, 3];
        let tensor = Tensor::from_integers(DType::I4, [5], &values).unwrap();
        assert_eq!(tensor.bytes().len(), 3);
        assert_eq!(tensor.to_integers(), values);
        let tensor = Tensor::from_integers(DType::I2, [3], &[-2, 1, -1]).unwrap();
        assert_eq!(tensor.to_integers(), [-2, 1, -1]);
    }

    #[test]
    fn unaligned_bytes_are_read() {
        let mut bytes = vec![0u8];
        bytes.extend_from_slice(&1.5f32.to_le_bytes());
        let data = Bytes::from(bytes).slice(1..);
        let tensor = Tensor::from_bytes(DType::F32, [1], data).unwrap();
        assert_eq!(tensor.elements::<f32>().unwrap()[0], 1.5);
    }

    #[test]
    fn absurd_shapes_are_refused() {
        let huge = [1usize << 62, 8];
        assert!(matches!(Tensor::zeros(DType::F32, huge), Err(TensorError::TooLarge(_))));
        assert!(Tensor::zeros(DType::F32, [0, 1 << 62, 8]).is_ok());
    }

    #[test]
    fn wrong_length_says_both_numbers() {
        let error = Tensor::from_vec([3], vec![1f32, 2.0]).unwrap_err();
        assert!(error.to_string().contains("needs 12 bytes and got 8"));
    }
}
