//! Whether a shared library is whole, before the loader maps it.
//!
//! The loader believes what a library's header says of its length; reading beyond the end of a file that was cut off would end
//! the process. So the header's own figures are held against the file first.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::PjrtError;

/// Bytes of the header of a 64-bit ELF file, and of an entry of its table of segments.
const HEADER: usize = 64;
const SEGMENT: usize = 56;

/// More entries than any linker writes.
const MOST_SEGMENTS: usize = 4096;

/// An error where the file is no 64-bit little-endian ELF file or ends before it says it does. On systems whose
/// libraries have another format the loader alone decides.
pub(crate) fn check(path: &Path) -> Result<(), PjrtError> {
    let missing = |error: std::io::Error| PjrtError::Missing {
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    let mut file = File::open(path).map_err(missing)?;
    let metadata = file.metadata().map_err(missing)?;
    if !metadata.is_file() {
        let reason = "not a file".to_string();
        return Err(PjrtError::Missing { path: path.to_path_buf(), reason });
    }
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let damaged =
        |reason: &str| PjrtError::Damaged { path: path.to_path_buf(), reason: reason.to_string() };
    let length = metadata.len();
    let mut header = [0u8; HEADER];
    file.read_exact(&mut header).map_err(|_| damaged("shorter than the header of a library"))?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Err(damaged("not a 64-bit library of this kind of machine"));
    }
    let segments_at = word(&header, 32);
    let segment_size = usize::from(half(&header, 54));
    let count = usize::from(half(&header, 56));
    if segment_size != SEGMENT || count == 0 || count > MOST_SEGMENTS {
        return Err(damaged("its table of segments has no sense"));
    }
    let mut table = vec![0u8; count * SEGMENT];
    file.seek(SeekFrom::Start(segments_at)).map_err(missing)?;
    file.read_exact(&mut table).map_err(|_| damaged("ends within its table of segments"))?;
    let sections_end = word(&header, 40)
        .saturating_add(u64::from(half(&header, 58)) * u64::from(half(&header, 60)));
    let end = table
        .chunks_exact(SEGMENT)
        .map(|segment| word(segment, 8).saturating_add(word(segment, 32)))
        .chain([sections_end])
        .max()
        .unwrap_or(0);
    if end > length {
        let reason = format!("{length} bytes long, and its header tells of {end}: it was cut off");
        return Err(damaged(&reason));
    }
    Ok(())
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0u8; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn told(name: &str, bytes: &[u8]) -> String {
        let path = std::env::temp_dir().join(format!("anychip-elf-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).expect("the folder for temporary files takes files");
        let result = check(&path);
        std::fs::remove_file(&path).expect("it was written above");
        result.map_or_else(|error| error.to_string(), |()| "whole".to_string())
    }

    #[test]
    fn what_is_not_whole_is_told() {
        assert!(told("empty", b"").contains("shorter than the header"));
        assert!(told("text", &b"#!/bin/sh\n".repeat(20)).contains("not a 64-bit library"));
        let own = std::fs::read(std::env::current_exe().expect("tests run from a file"))
            .expect("it can be read");
        assert_eq!(told("whole", &own), "whole");
        assert!(told("half", &own[..own.len() / 2]).contains("it was cut off"));
        assert!(told("head", &own[..100]).contains("ends within its table"));
        let missing = check(Path::new("/no/such/plugin.so")).map_err(|e| e.to_string());
        assert!(matches!(missing, Err(text) if text.contains("cannot be read")));
        assert!(check(&std::env::temp_dir()).is_err());
    }
}
