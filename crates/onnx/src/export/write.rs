//! Writes a model to disk, weights beside it where they are many.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anychip_tensor::release_mapped;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

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
    let mut file = BufWriter::new(File::create(path)?);
    write_model(model, &mut file)?;
    file.flush()?;
    Ok(())
}

/// Writes what `model.encode()` would give, one weight after the other and without a copy of them all: of a message fields may come
/// in any order, so that weights come last.
fn write_model(mut model: ModelProto, to: &mut impl Write) -> std::io::Result<()> {
    let graph = model.graph.take();
    to.write_all(&model.encode_to_vec())?;
    let Some(mut graph) = graph else { return Ok(()) };
    let mut weights = Vec::with_capacity(graph.initializer.len());
    for mut weight in std::mem::take(&mut graph.initializer) {
        let length = weight.encoded_len();
        let data = weight.raw_data.take();
        weights.push((length, weight.encode_to_vec(), data));
    }
    let rest = graph.encode_to_vec();
    let field = |length: usize| 1 + encoded_len_varint(length as u64) + length;
    let all = rest.len() + weights.iter().map(|(length, ..)| field(*length)).sum::<usize>();
    begin(GRAPH, all, to)?;
    to.write_all(&rest)?;
    for (length, own, data) in weights {
        begin(INITIALIZER, length, to)?;
        to.write_all(&own)?;
        if let Some(data) = data {
            begin(RAW_DATA, data.len(), to)?;
            to.write_all(&data)?;
            release_mapped(&data);
        }
    }
    Ok(())
}

/// Fields by their number in `onnx.proto`: of a model, of a graph and of a tensor.
const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
const RAW_DATA: u32 = 9;

/// The beginning of a field of so many bytes.
fn begin(field: u32, length: usize, to: &mut impl Write) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(16);
    encode_key(field, WireType::LengthDelimited, &mut bytes);
    encode_varint(length as u64, &mut bytes);
    to.write_all(&bytes)
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
        release_mapped(&data);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::GraphProto;

    #[test]
    fn what_is_written_bit_by_bit_is_the_message() {
        let weight = |size: usize| TensorProto {
            name: Some(format!("weight {size}")),
            dims: vec![size as i64],
            data_type: Some(2),
            raw_data: (size > 0).then(|| vec![size as u8; size].into()),
            ..TensorProto::default()
        };
        let graph = GraphProto {
            name: Some("graph".into()),
            initializer: [0, 1, 127, 128, 70_000].map(weight).to_vec(),
            ..GraphProto::default()
        };
        for graph in [None, Some(GraphProto::default()), Some(graph)] {
            let model = ModelProto { ir_version: Some(9), graph, ..ModelProto::default() };
            let mut bytes = Vec::new();
            write_model(model.clone(), &mut bytes).unwrap();
            assert_eq!(bytes.len(), model.encoded_len());
            assert_eq!(ModelProto::decode(bytes.as_slice()).unwrap(), model);
        }
    }
}
