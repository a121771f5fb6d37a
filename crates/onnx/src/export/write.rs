//! Writes a model to disk, weights beside it where they are many.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use prost::Message;

use super::ExportError;
use crate::proto::tensor_proto::DataLocation;
use crate::proto::{ModelProto, StringStringEntryProto, TensorProto};

/// What the encoding of one file can hold.
pub(super) const MOST_BYTES: usize = (1 << 31) - 1;

/// Weights smaller than this stay in the model's file.
const LEAST_EXTERNAL: usize = 1024;

/// Weights begin on a page, so that runtimes can map them.
const ALIGNMENT: usize = 4096;

pub(super) fn save(
    mut model: ModelProto,
    path: &Path,
    external_above: usize,
) -> Result<(), ExportError> {
    let weights = model.graph.as_mut().map(|g| g.initializer.as_mut_slice()).unwrap_or_default();
    let total: usize = weights.iter().map(|w| w.raw_data().len()).sum();
    if total > external_above {
        move_out(weights, path)?;
    }
    let length = model.encoded_len();
    if length > MOST_BYTES {
        return Err(ExportError::TooLarge(length));
    }
    std::fs::write(path, model.encode_to_vec())?;
    Ok(())
}

/// Moves the larger weights into `NAME.data` beside the model.
fn move_out(weights: &mut [TensorProto], path: &Path) -> Result<(), ExportError> {
    let name = path
        .file_name()
        .map(|name| format!("{}.data", name.to_string_lossy()))
        .ok_or_else(|| std::io::Error::other("the path names no file"))?;
    let mut file = BufWriter::new(File::create(path.with_file_name(&name))?);
    let mut offset = 0;
    for weight in weights {
        if weight.raw_data().len() < LEAST_EXTERNAL {
            continue;
        }
        let data = weight.raw_data.take().unwrap_or_default();
        let gap = offset_gap(offset);
        file.write_all(&vec![0; gap])?;
        offset += gap;
        file.write_all(&data)?;
        let entry = |key: &str, value: String| StringStringEntryProto {
            key: Some(key.into()),
            value: Some(value),
        };
        weight.external_data = vec![
            entry("location", name.clone()),
            entry("offset", offset.to_string()),
            entry("length", data.len().to_string()),
        ];
        weight.data_location = Some(DataLocation::External as i32);
        offset += data.len();
    }
    file.flush()?;
    Ok(())
}

fn offset_gap(offset: usize) -> usize {
    offset.next_multiple_of(ALIGNMENT) - offset
}
