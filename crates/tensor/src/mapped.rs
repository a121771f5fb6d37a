//! Files mapped into memory: the bytes of weights without a copy, and giving their pages back once packed.
#![allow(unsafe_code, reason = "mapping a file and advising on its pages are calls to the system")]

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use memmap2::Mmap;

/// The mappings alive, so that [`release_mapped`] and [`origin`] can tell mapped bytes from owned ones.
static MAPPINGS: Mutex<Vec<Mapping>> = Mutex::new(Vec::new());

struct Mapping {
    map: Weak<Mmap>,
    /// Where the system can tell one state of a file from another.
    state: Option<FileState>,
}

/// What tells a file, as it was when it was mapped, from other files and from what is written into it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    /// Device and number of the file on it.
    pub place: (u64, u64),
    /// Bytes.
    pub length: u64,
    /// When its contents, and when anything of it, last changed: seconds and nanoseconds.
    pub changed: [(i64, i64); 2],
}

impl FileState {
    #[cfg(unix)]
    fn of(file: &File) -> Option<FileState> {
        use std::os::unix::fs::MetadataExt;
        let found = file.metadata().ok()?;
        Some(FileState {
            place: (found.dev(), found.ino()),
            length: found.len(),
            changed: [(found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())],
        })
    }

    #[cfg(not(unix))]
    fn of(_: &File) -> Option<FileState> {
        None
    }
}

/// The mapping that holds `bytes`, and how far into it they begin.
fn find(bytes: &[u8]) -> Option<(Arc<Mmap>, Option<FileState>, usize)> {
    let start = bytes.as_ptr() as usize;
    let mappings = MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner);
    mappings.iter().find_map(|mapping| {
        let map = mapping.map.upgrade()?;
        let base = map.as_ptr() as usize;
        let inside = base <= start && start + bytes.len() <= base + map.len();
        inside.then_some((map, mapping.state, start - base))
    })
}

/// The file that mapped bytes are of, and their place in it; none for bytes that are not of a file, and where the system cannot
/// tell one state of a file from another.
pub fn origin(bytes: &[u8]) -> Option<(FileState, usize)> {
    let (_, state, offset) = find(bytes)?;
    Some((state?, offset))
}

struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The bytes of a file, mapped. A file that is truncated while it is mapped ends the process when its lost part is
/// read, as with every program that maps files; one that is rewritten changes the bytes.
pub fn map_file(path: &Path) -> std::io::Result<Bytes> {
    let file = File::open(path)?;
    // SAFETY: the mapping is read-only and private to this process; see above for files changed from outside.
    let map = Arc::new(unsafe { Mmap::map(&file)? });
    let mut mappings = MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner);
    mappings.retain(|mapping| mapping.map.strong_count() > 0);
    mappings.push(Mapping { map: Arc::downgrade(&map), state: FileState::of(&file) });
    Ok(Bytes::from_owner(Owner(map)))
}

/// Gives the memory of mapped bytes back to the system; they are read from the file again when they are used again.
/// Bytes that are not of a mapped file are left alone, so this is always allowed and never needed.
pub fn release_mapped(bytes: &[u8]) {
    let Some((map, _, offset)) = find(bytes) else { return };
    #[cfg(unix)]
    {
        // Every page that the bytes touch: neighbors on it that are still wanted are read again.
        let page = page_size();
        let end = (offset + bytes.len()).next_multiple_of(page).min(map.len());
        let offset = offset - offset % page;
        if end > offset {
            // SAFETY: dropping clean pages of a read-only file mapping does not change what reading them gives.
            let advised = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, end - offset)
            };
            // Advice that is not taken costs memory and nothing else.
            drop(advised);
        }
    }
    #[cfg(not(unix))]
    drop((map, offset));
}

/// The page size, or the largest in common use where it varies: a range aligned to that is aligned to any smaller one.
#[cfg(unix)]
const fn page_size() -> usize {
    if cfg!(target_arch = "x86_64") { 4 << 10 } else { 64 << 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn released_bytes_read_the_same() {
        let path = std::env::temp_dir().join(format!("anychip-mapped-{}", std::process::id()));
        let contents: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &contents).unwrap();
        let bytes = map_file(&path).unwrap();
        assert_eq!(bytes, contents);
        release_mapped(&bytes[1000..900_000]);
        assert_eq!(bytes, contents);
        let owned = contents.clone();
        release_mapped(&owned);
        assert_eq!(owned, contents);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    #[cfg(unix)]
    fn mapped_bytes_know_their_file() {
        let path = std::env::temp_dir().join(format!("anychip-origin-{}", std::process::id()));
        std::fs::write(&path, [1u8; 100]).unwrap();
        let bytes = map_file(&path).unwrap();
        let (state, offset) = origin(&bytes[40..60]).unwrap();
        assert_eq!((state.length, offset), (100, 40));
        assert_eq!(origin(&bytes[..1]), Some((state, 0)));
        assert_eq!(origin(&[1u8; 20]), None);
        let other = path.with_extension("other");
        std::fs::write(&other, [1u8; 100]).unwrap();
        let others = map_file(&other).unwrap();
        assert_ne!(origin(&others).unwrap().0, state);
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&other).unwrap();
    }
}
