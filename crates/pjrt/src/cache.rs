//! Compiled programs on disk, by what they were compiled from.
//!
//! A file is named by the hash of everything that decides its contents and begins with the hash of the rest, so that one which
//! was damaged is compiled again instead of being handed to the plugin.

use std::io::Write;
use std::path::{Path, PathBuf};

use anychip_target::replace_file;
use sha2::{Digest, Sha256};

/// Bytes of a hash.
const HASH: usize = 32;

/// The name of the program that these parts decide.
pub(crate) fn key(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // With its length, so that no two lists of parts run together alike.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut name = String::new();
    for byte in hash.finalize() {
        name += &format!("{byte:02x}");
    }
    name
}

fn path(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("{key}.pjrt"))
}

/// What was kept under a name; `None` where there is nothing, or nothing whole.
pub(crate) fn read(folder: &Path, key: &str) -> Option<Vec<u8>> {
    let mut bytes = std::fs::read(path(folder, key)).ok()?;
    if bytes.len() < HASH {
        return None;
    }
    let content = bytes.split_off(HASH);
    (Sha256::digest(&content).as_slice() == bytes.as_slice()).then_some(content)
}

/// Keeps a program. A failure costs the next start some time and nothing else, so none is told.
pub(crate) fn write(folder: &Path, key: &str, content: &[u8]) {
    let mut bytes = Sha256::digest(content).to_vec();
    bytes.extend_from_slice(content);
    let _ = std::fs::create_dir_all(folder)
        .and_then(|()| replace_file(&path(folder, key), |file| file.write_all(&bytes)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_not_read() {
        let folder = std::env::temp_dir().join(format!("anychip-cache-{}", std::process::id()));
        let key = key(&[b"a", b"bc"]);
        assert_ne!(key, super::key(&[b"ab", b"c"]));
        assert_eq!(read(&folder, &key), None);
        write(&folder, &key, b"program");
        assert_eq!(read(&folder, &key).as_deref(), Some(&b"program"[..]));
        let file = path(&folder, &key);
        let mut bytes = std::fs::read(&file).expect("written above");
        *bytes.last_mut().expect("not empty") ^= 1;
        std::fs::write(&file, &bytes).expect("temporary");
        assert_eq!(read(&folder, &key), None);
        std::fs::write(&file, b"short").expect("temporary");
        assert_eq!(read(&folder, &key), None);
        std::fs::remove_dir_all(folder).expect("it was made above");
    }
}
