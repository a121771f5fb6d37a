//! The standard's tensors to ours: every encoding of every element type, in the file and beside it.

use anychip_tensor::{DType, Tensor, TensorError};
use bytes::Bytes;
use prost::Message;

use crate::files::{ExternalError, Files};
use crate::proto::tensor_proto::DataLocation;
use crate::proto::{SparseTensorProto, TensorProto};

/// Why a tensor of a file cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TensorProblem {
    /// Strings, complex numbers, or a number that the standard does not define.
    #[error("elements of type {0} cannot be computed with")]
    ElementType(String),
    /// A negative dim.
    #[error("dims {0:?} must not be negative")]
    Dims(Vec<i64>),
    /// More dims than any tensor has.
    #[error("{0} dims are more than any tensor has")]
    Rank(usize),
    /// The number of values does not fit the dims.
    #[error("dims {dims:?} take {expected} values and {found} are there")]
    Count {
        /// The dims.
        dims: Vec<usize>,
        /// Their product.
        expected: usize,
        /// What is there.
        found: usize,
    },
    /// Values outside the range of the element type, or bits beyond its width.
    #[error("value {value} does not fit {dtype}")]
    Range {
        /// The value.
        value: i128,
        /// The type.
        dtype: DType,
    },
    /// The bytes do not fit the dims, or there are too many elements.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Data beside the file.
    #[error(transparent)]
    External(#[from] ExternalError),
    /// Bytes that are no tensor.
    #[error("not a tensor: {0}")]
    Encoding(String),
    /// A sparse tensor whose parts disagree.
    #[error("sparse tensor: {0}")]
    Sparse(&'static str),
}

/// Sparse tensors are made dense on import, up to this many elements.
const MOST_SPARSE: usize = 1 << 24;

/// The element type of one of the standard's numbers; `None` for strings, complex and unknown ones.
pub fn dtype_from_onnx(code: i64) -> Option<DType> {
    Some(match code {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        17 => DType::F8E4M3FN,
        18 => DType::F8E4M3FNUZ,
        19 => DType::F8E5M2,
        20 => DType::F8E5M2FNUZ,
        21 => DType::U4,
        22 => DType::I4,
        23 => DType::F4E2M1,
        24 => DType::F8E8M0,
        25 => DType::U2,
        26 => DType::I2,
        27 => DType::F6E2M3,
        28 => DType::F6E3M2,
        _ => return None,
    })
}

/// The standard's number of an element type.
pub fn dtype_to_onnx(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::BF16 => 16,
        DType::F8E4M3FN => 17,
        DType::F8E4M3FNUZ => 18,
        DType::F8E5M2 => 19,
        DType::F8E5M2FNUZ => 20,
        DType::U4 => 21,
        DType::I4 => 22,
        DType::F4E2M1 => 23,
        DType::F8E8M0 => 24,
        DType::U2 => 25,
        DType::I2 => 26,
        DType::F6E2M3 => 27,
        DType::F6E3M2 => 28,
    }
}

/// One of the standard's numbers in words.
pub(crate) fn dtype_words(code: i64) -> String {
    match code {
        0 => "undefined".into(),
        8 => "string".into(),
        14 => "complex64".into(),
        15 => "complex128".into(),
        _ => dtype_from_onnx(code).map_or_else(|| format!("number {code}"), |d| d.name().into()),
    }
}

/// A tensor in a file of its own, as the standard's test cases keep their inputs and outputs.
pub fn tensor_from_bytes(data: Bytes) -> Result<Tensor, TensorProblem> {
    let proto =
        TensorProto::decode(data).map_err(|error| TensorProblem::Encoding(error.to_string()))?;
    dense(&proto, &Files::default())
}

fn dims(dims: &[i64]) -> Result<Vec<usize>, TensorProblem> {
    if dims.len() > 64 {
        return Err(TensorProblem::Rank(dims.len()));
    }
    dims.iter()
        .map(|&d| usize::try_from(d).map_err(|_| TensorProblem::Dims(dims.to_vec())))
        .collect()
}

fn elements(dims: &[usize]) -> Result<usize, TensorProblem> {
    if dims.contains(&0) {
        return Ok(0);
    }
    dims.iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .ok_or_else(|| TensorError::TooLarge(dims.to_vec()).into())
}

/// A dense tensor; its bytes stay where they are if they are stored as bytes.
pub(crate) fn dense(proto: &TensorProto, files: &Files) -> Result<Tensor, TensorProblem> {
    let code = i64::from(proto.data_type());
    let dtype =
        dtype_from_onnx(code).ok_or_else(|| TensorProblem::ElementType(dtype_words(code)))?;
    let shape = dims(&proto.dims)?;
    let count = elements(&shape)?;
    if proto.data_location() == DataLocation::External {
        let expected =
            dtype.bytes_for(count).ok_or_else(|| TensorError::TooLarge(shape.clone()))?;
        let data = files.external(&proto.external_data, expected)?;
        return Ok(Tensor::from_bytes(dtype, shape, data)?);
    }
    if let Some(raw) = &proto.raw_data {
        return Ok(Tensor::from_bytes(dtype, shape, raw.clone())?);
    }
    typed(proto, dtype, shape, count)
}

/// A tensor whose values are in the field of their type.
fn typed(
    proto: &TensorProto,
    dtype: DType,
    shape: Vec<usize>,
    count: usize,
) -> Result<Tensor, TensorProblem> {
    let expect = |found: usize, expected: usize| {
        if found == expected {
            Ok(())
        } else {
            Err(TensorProblem::Count { dims: shape.clone(), expected, found })
        }
    };
    match dtype {
        DType::F32 => {
            expect(proto.float_data.len(), count)?;
            Ok(Tensor::from_vec(shape, proto.float_data.clone())?)
        }
        DType::F64 => {
            expect(proto.double_data.len(), count)?;
            Ok(Tensor::from_vec(shape, proto.double_data.clone())?)
        }
        DType::I64 => {
            expect(proto.int64_data.len(), count)?;
            Ok(Tensor::from_vec(shape, proto.int64_data.clone())?)
        }
        DType::U64 => {
            expect(proto.uint64_data.len(), count)?;
            Ok(Tensor::from_vec(shape, proto.uint64_data.clone())?)
        }
        DType::U32 => {
            expect(proto.uint64_data.len(), count)?;
            narrow(dtype, proto.uint64_data.iter().map(|&v| i128::from(v)))?;
            let values = proto.uint64_data.iter().map(|&v| v as u32).collect();
            Ok(Tensor::from_vec(shape, values)?)
        }
        DType::I32 => {
            expect(proto.int32_data.len(), count)?;
            Ok(Tensor::from_vec(shape, proto.int32_data.clone())?)
        }
        DType::Bool => {
            expect(proto.int32_data.len(), count)?;
            Ok(Tensor::from_bools(shape, proto.int32_data.iter().map(|&v| v != 0))?)
        }
        DType::I8 | DType::U8 | DType::I16 | DType::U16 => {
            expect(proto.int32_data.len(), count)?;
            let values: Vec<i128> = proto.int32_data.iter().map(|&v| i128::from(v)).collect();
            narrow(dtype, values.iter().copied())?;
            Ok(Tensor::from_integers(dtype, shape, &values)?)
        }
        // The bits of the float in the low bits of an integer.
        DType::F16 | DType::BF16 => {
            expect(proto.int32_data.len(), count)?;
            let mut bytes = Vec::with_capacity(count * 2);
            for &value in &proto.int32_data {
                let bits = u16::try_from(value)
                    .map_err(|_| TensorProblem::Range { value: i128::from(value), dtype })?;
                bytes.extend_from_slice(&bits.to_le_bytes());
            }
            Ok(Tensor::from_bytes(dtype, shape, Bytes::from(bytes))?)
        }
        // A byte each; types of 4 and 2 bits are packed into it, the first in the lowest bits.
        DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0
        | DType::F6E2M3
        | DType::F6E3M2
        | DType::F4E2M1
        | DType::I4
        | DType::U4
        | DType::I2
        | DType::U2 => {
            let bytes =
                dtype.bytes_for(count).ok_or_else(|| TensorError::TooLarge(shape.clone()))?;
            expect(proto.int32_data.len(), bytes)?;
            let data: Vec<u8> = proto
                .int32_data
                .iter()
                .map(|&value| {
                    u8::try_from(value)
                        .or_else(|_| i8::try_from(value).map(|v| v as u8))
                        .map_err(|_| TensorProblem::Range { value: i128::from(value), dtype })
                })
                .collect::<Result<_, _>>()?;
            Ok(Tensor::from_bytes(dtype, shape, Bytes::from(data))?)
        }
    }
}

fn narrow(dtype: DType, values: impl IntoIterator<Item = i128>) -> Result<(), TensorProblem> {
    let Some((low, high)) = dtype.integer_range() else { return Ok(()) };
    match values.into_iter().find(|v| !(low..=high).contains(v)) {
        Some(value) => Err(TensorProblem::Range { value, dtype }),
        None => Ok(()),
    }
}

/// A sparse tensor as a dense one: values at their places among zeros.
pub(crate) fn sparse(proto: &SparseTensorProto, files: &Files) -> Result<Tensor, TensorProblem> {
    let (Some(values), Some(indices)) = (&proto.values, &proto.indices) else {
        return Err(TensorProblem::Sparse("values and indices are both needed"));
    };
    let (values, indices) = (dense(values, files)?, dense(indices, files)?);
    let shape = dims(&proto.dims)?;
    let count = elements(&shape)?;
    if count > MOST_SPARSE {
        return Err(TensorProblem::Sparse("too many elements to be made dense"));
    }
    if values.rank() != 1 || indices.dtype() != DType::I64 {
        return Err(TensorProblem::Sparse("values are a vector and indices are i64"));
    }
    let stored = values.len();
    let numbers = indices.to_i64();
    let places: Vec<usize> = match *indices.shape() {
        // Places in row-major order.
        [n] if n == stored => numbers
            .iter()
            .map(|&i| usize::try_from(i).ok().filter(|&i| i < count))
            .collect::<Option<_>>(),
        // One row of coordinates each.
        [n, rank] if n == stored && rank == shape.len() => numbers
            .chunks(rank.max(1))
            .map(|row| {
                row.iter().zip(&shape).try_fold(0usize, |place, (&i, &dim)| {
                    let i = usize::try_from(i).ok().filter(|&i| i < dim)?;
                    Some(place * dim + i)
                })
            })
            .collect::<Option<_>>(),
        _ => return Err(TensorProblem::Sparse("indices do not match the values and dims")),
    }
    .ok_or(TensorProblem::Sparse("an index is outside the dims"))?;
    let dtype = values.dtype();
    let bits = dtype.storage_bits();
    if bits < 8 {
        let stored = values.codes();
        let mut codes = vec![0u8; count];
        for (&place, code) in places.iter().zip(stored) {
            codes[place] = code;
        }
        return Ok(Tensor::from_codes(dtype, shape, &codes)?);
    }
    let width = bits / 8;
    let mut bytes = vec![0u8; count * width];
    for (&place, value) in places.iter().zip(values.bytes().chunks(width)) {
        bytes[place * width..(place + 1) * width].copy_from_slice(value);
    }
    Ok(Tensor::from_bytes(dtype, shape, Bytes::from(bytes))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::StringStringEntryProto;

    fn proto(dtype: i32, dims: &[i64]) -> TensorProto {
        TensorProto { data_type: Some(dtype), dims: dims.to_vec(), ..TensorProto::default() }
    }

    #[test]
    fn numbers_of_types_go_both_ways() {
        for dtype in DType::ALL {
            assert_eq!(dtype_from_onnx(i64::from(dtype_to_onnx(dtype))), Some(dtype));
        }
    }

    #[test]
    fn packed_integers_are_read_from_the_integer_field() {
        let mut p = proto(22, &[3]);
        p.int32_data = vec![0xF1, 0x07];
        let tensor = dense(&p, &Files::default()).unwrap();
        assert_eq!(tensor.to_i64(), [1, -1, 7]);
    }

    #[test]
    fn half_floats_are_bits_in_integers() {
        let mut p = proto(10, &[2]);
        p.int32_data = vec![0x3C00, 0xC000];
        assert_eq!(dense(&p, &Files::default()).unwrap().to_f64(), [1.0, -2.0]);
        p.int32_data = vec![0x1_0000, 0];
        assert!(matches!(dense(&p, &Files::default()), Err(TensorProblem::Range { .. })));
    }

    #[test]
    fn dims_that_do_not_fit_are_refused_without_memory() {
        let mut p = proto(1, &[1 << 62, 8]);
        assert!(dense(&p, &Files::default()).is_err());
        p.dims = vec![1 << 40];
        assert!(dense(&p, &Files::default()).is_err());
        p.dims = vec![-1];
        assert!(matches!(dense(&p, &Files::default()), Err(TensorProblem::Dims(_))));
    }

    #[test]
    fn sparse_tensors_fill_with_zeros() {
        let mut values = proto(1, &[2]);
        values.float_data = vec![5.0, 7.0];
        let mut indices = proto(7, &[2, 2]);
        indices.int64_data = vec![0, 1, 1, 0];
        let p =
            SparseTensorProto { values: Some(values), indices: Some(indices), dims: vec![2, 2] };
        let tensor = sparse(&p, &Files::default()).unwrap();
        assert_eq!(tensor.to_f64(), [0.0, 5.0, 7.0, 0.0]);
    }

    #[test]
    fn data_beside_a_model_without_a_folder_is_refused() {
        let mut p = proto(1, &[1]);
        p.data_location = Some(DataLocation::External as i32);
        p.external_data = vec![StringStringEntryProto {
            key: Some("location".into()),
            value: Some("weights.bin".into()),
        }];
        assert!(matches!(dense(&p, &Files::default()), Err(TensorProblem::External(_))));
    }
}
