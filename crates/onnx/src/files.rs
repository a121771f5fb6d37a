//! The model's file and the weights beside it, mapped into memory and never copied.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use crate::proto::StringStringEntryProto;

/// Why data outside the model's file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExternalError {
    /// The model was read from memory.
    #[error("weights are in `{0}` beside the model, and the model has no folder")]
    NoFolder(String),
    /// No place is given.
    #[error("the place of the data is not given")]
    NoLocation,
    /// The path leads elsewhere.
    #[error("the path `{0}` leaves the model's folder")]
    Outside(String),
    /// A number that is none.
    #[error("`{key}` is `{value}`, not a number of bytes")]
    Number {
        /// Which entry.
        key: String,
        /// What it says.
        value: String,
    },
    /// The data ends early, or its length is not what the dims ask for.
    #[error("`{path}`: {reason}")]
    Length {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The file cannot be opened.
    #[error("`{path}`: {reason}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
}

/// Where external data is looked up, and what is mapped already.
#[derive(Debug, Default)]
pub struct Files {
    folder: Option<PathBuf>,
    mapped: RefCell<BTreeMap<PathBuf, Bytes>>,
}

impl Files {
    /// Data is looked up in this folder.
    pub fn beside(folder: Option<&Path>) -> Files {
        Files { folder: folder.map(Path::to_path_buf), mapped: RefCell::default() }
    }

    /// The bytes that a tensor's entries point to: `expected` of them.
    pub(crate) fn external(
        &self,
        entries: &[StringStringEntryProto],
        expected: usize,
    ) -> Result<Bytes, ExternalError> {
        let entry = |key: &str| {
            entries.iter().find(|e| e.key() == key).map(super::proto::StringStringEntryProto::value)
        };
        let number = |key: &str| -> Result<Option<usize>, ExternalError> {
            entry(key)
                .map(|text| {
                    text.parse()
                        .map_err(|_| ExternalError::Number { key: key.into(), value: text.into() })
                })
                .transpose()
        };
        let location = entry("location").ok_or(ExternalError::NoLocation)?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let data = self.file(location)?;
        let fail =
            |reason: String| Err(ExternalError::Length { path: location.to_string(), reason });
        if let Some(length) = length
            && length != expected
        {
            return fail(format!("{length} bytes are named and the dims take {expected}"));
        }
        match offset.checked_add(expected) {
            Some(end) if end <= data.len() => Ok(data.slice(offset..end)),
            _ => fail(format!(
                "bytes {offset} to {} are named and the file has {}",
                offset.saturating_add(expected),
                data.len()
            )),
        }
    }

    fn file(&self, location: &str) -> Result<Bytes, ExternalError> {
        let folder =
            self.folder.as_ref().ok_or_else(|| ExternalError::NoFolder(location.to_string()))?;
        let outside = || ExternalError::Outside(location.to_string());
        let relative = Path::new(location);
        let inside =
            relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !inside || location.is_empty() || location.contains('\\') {
            return Err(outside());
        }
        let path = folder.join(relative);
        if let Some(data) = self.mapped.borrow().get(&path) {
            return Ok(data.clone());
        }
        let io = |error: std::io::Error| ExternalError::Io {
            path: location.to_string(),
            reason: error.to_string(),
        };
        // A link may lead out where the name does not. The folder itself may be reached by one.
        let real = path.canonicalize().map_err(io)?;
        let root = folder.canonicalize().map_err(io)?;
        if !real.starts_with(&root) {
            return Err(outside());
        }
        let data = map(&real).map_err(io)?;
        self.mapped.borrow_mut().insert(path, data.clone());
        Ok(data)
    }
}

/// A whole file as bytes that the system reads as they are used.
pub(crate) fn map(path: &Path) -> std::io::Result<Bytes> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new());
    }
    anychip_tensor::map_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> Vec<StringStringEntryProto> {
        pairs
            .iter()
            .map(|(k, v)| StringStringEntryProto {
                key: Some((*k).into()),
                value: Some((*v).into()),
            })
            .collect()
    }

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("anychip-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_slice_of_a_file_in_the_folder_is_read() {
        let folder = folder("external");
        std::fs::write(folder.join("w.bin"), [0u8, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        let files = Files::beside(Some(&folder));
        let good = entries(&[("location", "w.bin"), ("offset", "4"), ("length", "4")]);
        assert_eq!(&files.external(&good, 4).unwrap()[..], [4, 5, 6, 7]);
        let beyond = entries(&[("location", "w.bin"), ("offset", "6")]);
        assert!(matches!(files.external(&beyond, 4), Err(ExternalError::Length { .. })));
        let word = entries(&[("location", "w.bin"), ("offset", "-1")]);
        assert!(matches!(files.external(&word, 4), Err(ExternalError::Number { .. })));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        let folder = folder("escape");
        let inner = folder.join("model");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(folder.join("secret"), [1u8; 4]).unwrap();
        #[cfg(unix)]
        let _ = std::os::unix::fs::symlink(folder.join("secret"), inner.join("link"));
        let files = Files::beside(Some(&inner));
        for path in ["../secret", "/etc/hostname", "a/../../secret", "", "..\\secret", "link"] {
            let found = files.external(&entries(&[("location", path)]), 4);
            assert!(matches!(found, Err(ExternalError::Outside(_))), "{path}: {found:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
