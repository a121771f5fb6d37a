//! NumPy archives: how inputs come in and results go out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anychip_tensor::{DType, Tensor, TensorError};
use npyz::{DType as NpyDType, Deserialize, NpyFile, Order, TypeChar};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NpzError {
    /// The file cannot be opened, or is no `.npz` archive.
    #[error("{path}: {source}; expected a NumPy archive as numpy.savez writes it")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// One array of it cannot be read.
    #[error("{path}: array `{array}`: {reason}")]
    Array {
        /// The file.
        path: PathBuf,
        /// The array's key.
        array: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads every array of an archive, by key.
pub fn read_npz(path: &Path) -> Result<BTreeMap<String, Tensor>, NpzError> {
    let file = |source| NpzError::File { path: path.to_path_buf(), source };
    let reader = BufReader::new(File::open(path).map_err(file)?);
    let mut archive = ZipArchive::new(reader).map_err(|e| file(e.into()))?;
    let mut arrays = BTreeMap::new();
    for i in 0..archive.len() {
        let entry = archive.by_index(i).map_err(|e| file(e.into()))?;
        let name = entry.name().map_err(|e| file(e.into()))?.to_string();
        let Some(name) = name.strip_suffix(".npy").map(str::to_string) else { continue };
        let bad = |reason: String| NpzError::Array {
            path: path.to_path_buf(),
            array: name.clone(),
            reason,
        };
        let array = NpyFile::new(entry).map_err(|e| bad(e.to_string()))?;
        let tensor = read_array(array).map_err(bad)?;
        arrays.insert(name, tensor);
    }
    Ok(arrays)
}

/// As [`read_npz`], with arrays that are not compressed left in the file, mapped.
pub(crate) fn read_npz_mapped(path: &Path) -> Result<BTreeMap<String, Tensor>, NpzError> {
    let file = |source| NpzError::File { path: path.to_path_buf(), source };
    let mut archive = ZipArchive::new(BufReader::new(File::open(path).map_err(file)?))
        .map_err(|e| file(e.into()))?;
    let stored = (0..archive.len()).all(|i| {
        archive.by_index_raw(i).is_ok_and(|entry| entry.compression() == CompressionMethod::Stored)
    });
    if !stored {
        return read_npz(path);
    }
    let mapped = anychip_tensor::map_file(path).map_err(file)?;
    let mut arrays = BTreeMap::new();
    for i in 0..archive.len() {
        let entry = archive.by_index(i).map_err(|e| file(e.into()))?;
        let name = entry.name().map_err(|e| file(e.into()))?.to_string();
        let Some(name) = name.strip_suffix(".npy") else { continue };
        let bad = |reason: String| NpzError::Array {
            path: path.to_path_buf(),
            array: name.to_string(),
            reason,
        };
        let short = || bad("its data lie outside the file".to_string());
        let start = usize::try_from(entry.data_start().ok_or_else(short)?).map_err(|_| short())?;
        let end = start.checked_add(usize::try_from(entry.size()).map_err(|_| short())?);
        let end = end.filter(|&end| end <= mapped.len()).ok_or_else(short)?;
        arrays.insert(name.to_string(), read_mapped(&mapped.slice(start..end)).map_err(bad)?);
    }
    Ok(arrays)
}

/// Reads one array from its own file, mapped.
pub(crate) fn read_npy(path: &Path) -> Result<Tensor, NpzError> {
    let mapped = anychip_tensor::map_file(path)
        .map_err(|source| NpzError::File { path: path.to_path_buf(), source })?;
    read_mapped(&mapped).map_err(|reason| NpzError::Array {
        path: path.to_path_buf(),
        array: path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default(),
        reason,
    })
}

/// An array in the bytes of a `.npy` file: a slice of them where its type and order allow it.
fn read_mapped(bytes: &bytes::Bytes) -> Result<Tensor, String> {
    let array = NpyFile::new(&bytes[..]).map_err(|e| e.to_string())?;
    let shape: Vec<usize> =
        array.shape().iter().map(|&n| usize::try_from(n).unwrap_or(usize::MAX)).collect();
    let plain = match array.dtype() {
        NpyDType::Plain(ty) if array.order() == Order::C || shape.len() < 2 => {
            match (ty.type_char(), ty.size_field()) {
                (TypeChar::Float, 4) => Some(DType::F32),
                (TypeChar::Int, 8) => Some(DType::I64),
                (TypeChar::Int, 4) => Some(DType::I32),
                (TypeChar::Uint, 1) => Some(DType::U8),
                _ => None,
            }
        }
        _ => None,
    };
    let foreign = if cfg!(target_endian = "little") { '>' } else { '<' };
    let Some(dtype) = plain.filter(|_| !array.dtype().descr().contains(foreign)) else {
        return read_array(array);
    };
    let length = shape
        .iter()
        .try_fold(dtype.storage_bits() / 8, |n, &d| n.checked_mul(d))
        .ok_or("its shape is too large")?;
    let start = bytes.len().checked_sub(length).ok_or("its data end before its shape says")?;
    // The data are the last bytes; what lies before is the header.
    if array.into_inner().len() != length || start % dtype.storage_bits().div_ceil(8) != 0 {
        let array = NpyFile::new(&bytes[..]).map_err(|e| e.to_string())?;
        return read_array(array);
    }
    Tensor::from_bytes(dtype, shape, bytes.slice(start..)).map_err(|e| e.to_string())
}

fn read_array<R: std::io::Read>(array: NpyFile<R>) -> Result<Tensor, String> {
    if array.order() == Order::Fortran && array.shape().len() > 1 {
        return Err("is in Fortran order; save numpy.ascontiguousarray(x) instead".to_string());
    }
    let shape: Vec<usize> =
        array.shape().iter().map(|&n| usize::try_from(n).unwrap_or(usize::MAX)).collect();
    let NpyDType::Plain(ty) = array.dtype() else {
        return Err("is a structured array; only plain numbers are taken".to_string());
    };
    let unsupported =
        || format!("has the unsupported type {ty}; use a float, integer or bool type");
    match (ty.type_char(), ty.size_field()) {
        (TypeChar::Float, 4) => plain::<f32, _>(array, shape),
        (TypeChar::Float, 8) => plain::<f64, _>(array, shape),
        (TypeChar::Float, 2) => plain::<half::f16, _>(array, shape),
        (TypeChar::Int, 1) => plain::<i8, _>(array, shape),
        (TypeChar::Int, 2) => plain::<i16, _>(array, shape),
        (TypeChar::Int, 4) => plain::<i32, _>(array, shape),
        (TypeChar::Int, 8) => plain::<i64, _>(array, shape),
        (TypeChar::Uint, 1) => plain::<u8, _>(array, shape),
        (TypeChar::Uint, 2) => plain::<u16, _>(array, shape),
        (TypeChar::Uint, 4) => plain::<u32, _>(array, shape),
        (TypeChar::Uint, 8) => plain::<u64, _>(array, shape),
        (TypeChar::Bool, _) => {
            let values = elements::<bool, _>(array)?;
            Tensor::from_bools(shape, values).map_err(|e| e.to_string())
        }
        _ => Err(unsupported()),
    }
}

/// Reads what is there and no more: a header may promise any length.
fn elements<T: Deserialize, R: std::io::Read>(array: NpyFile<R>) -> Result<Vec<T>, String> {
    let mut values = Vec::new();
    for value in array.data::<T>().map_err(|e| e.to_string())? {
        values.push(value.map_err(|e| e.to_string())?);
    }
    Ok(values)
}

fn plain<T: anychip_tensor::Element + Deserialize, R: std::io::Read>(
    array: NpyFile<R>,
    shape: Vec<usize>,
) -> Result<Tensor, String> {
    let foreign = if cfg!(target_endian = "little") { '>' } else { '<' };
    if array.dtype().descr().contains(foreign) {
        let values = elements::<T, R>(array)?;
        return Tensor::from_vec(shape, values).map_err(|e: TensorError| e.to_string());
    }
    // In this machine's order of bytes: as they are.
    let length = array.len().saturating_mul(size_of::<T>() as u64);
    let mut bytes = Vec::new();
    array.into_inner().take(length).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Tensor::from_bytes(T::DTYPE, shape, bytes.into()).map_err(|e| e.to_string())
}

/// Writes arrays under their keys, not compressed, as `numpy.savez` does. Types NumPy lacks are widened: `bf16` and
/// the small floats to `f32`, packed integers to 8 bits.
pub fn write_npz(path: &Path, arrays: &[(&str, &Tensor)]) -> Result<(), NpzError> {
    let file = |source| NpzError::File { path: path.to_path_buf(), source };
    let mut archive = ZipWriter::new(File::create(path).map_err(file)?);
    for (name, tensor) in arrays {
        write_array(&mut archive, name, tensor).map_err(file)?;
    }
    archive.finish().map_err(|e| file(e.into()))?;
    Ok(())
}

fn write_array(archive: &mut ZipWriter<File>, name: &str, tensor: &Tensor) -> std::io::Result<()> {
    let shape = tensor.shape();
    let (dtype, widened): (&str, Option<Vec<u8>>) = match tensor.dtype() {
        DType::F64 => ("f8", None),
        DType::F32 => ("f4", None),
        DType::F16 => ("f2", None),
        DType::I64 => ("i8", None),
        DType::I32 => ("i4", None),
        DType::I16 => ("i2", None),
        DType::I8 => ("i1", None),
        DType::U64 => ("u8", None),
        DType::U32 => ("u4", None),
        DType::U16 => ("u2", None),
        DType::U8 => ("u1", None),
        DType::Bool => ("b1", Some(tensor.bytes().iter().map(|&b| u8::from(b != 0)).collect())),
        DType::I2 | DType::I4 => {
            ("i1", Some(tensor.to_i64().into_iter().map(|v| v as u8).collect()))
        }
        DType::U2 | DType::U4 => {
            ("u1", Some(tensor.to_i64().into_iter().map(|v| v as u8).collect()))
        }
        DType::BF16
        | DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0
        | DType::F6E2M3
        | DType::F6E3M2
        | DType::F4E2M1 => {
            let values = tensor.to_f64().into_iter();
            ("f4", Some(values.flat_map(|v| (v as f32).to_ne_bytes()).collect()))
        }
    };
    let bytes = widened.as_deref().unwrap_or(tensor.bytes());
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(bytes.len() > 1 << 31);
    archive.start_file(format!("{name}.npy"), options)?;
    archive.write_all(&header(dtype, shape))?;
    archive.write_all(bytes)
}

/// Bytes of magic, version and length before the dictionary.
const BEFORE: usize = 10;

/// The head of an array in NumPy's own format, version 1.0: magic, length, a Python dictionary, padded to 64 bytes
/// (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).
fn header(dtype: &str, shape: &[usize]) -> Vec<u8> {
    let order = match dtype.ends_with('1') {
        true => '|',
        false if cfg!(target_endian = "little") => '<',
        false => '>',
    };
    let dims: Vec<String> = shape.iter().map(|n| format!("{n},")).collect();
    let dims = dims.concat();
    let mut text =
        format!("{{'descr': '{order}{dtype}', 'fortran_order': False, 'shape': ({dims}), }}");
    while !(BEFORE + text.len() + 1).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    let mut head = b"\x93NUMPY\x01\x00".to_vec();
    head.extend((text.len() as u16).to_le_bytes());
    head.extend(text.into_bytes());
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_come_back() {
        let folder = std::env::temp_dir().join(format!("anychip-npz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("arrays.npz");
        let floats = Tensor::from_vec([2, 3], vec![1f32, 2.0, 3.0, 4.0, 5.0, f32::NAN]).unwrap();
        let bools = Tensor::from_bools([2], [true, false]).unwrap();
        let scalar = Tensor::scalar(7i64);
        write_npz(&path, &[("x", &floats), ("mask", &bools), ("n", &scalar)]).unwrap();
        let back = read_npz(&path).unwrap();
        assert_eq!(back["x"], floats);
        assert_eq!(back["mask"], bools);
        assert_eq!(back["n"], scalar);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_is_none_says_so() {
        let path = std::env::temp_dir().join(format!("anychip-not-npz-{}", std::process::id()));
        std::fs::write(&path, b"not an archive").unwrap();
        let error = read_npz(&path).unwrap_err().to_string();
        assert!(error.contains("expected a NumPy archive"), "{error}");
        std::fs::remove_file(&path).unwrap();
    }
}
