//! Files mapped into memory: the bytes of weights without a copy, and giving their pages back once packed.
#![allow(unsafe_code, reason = "mapping a file and advising on its pages are calls to the system")]

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use memmap2::Mmap;

/// The mappings alive, so that [`release_mapped`] can tell mapped bytes from owned ones.
static MAPPINGS: Mutex<Vec<Weak<Mmap>>> = Mutex::new(Vec::new());

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
    mappings.retain(|weak| weak.strong_count() > 0);
    mappings.push(Arc::downgrade(&map));
    Ok(Bytes::from_owner(Owner(map)))
}

/// Gives the memory of mapped bytes back to the system; they are read from the file again when they are used again.
/// Bytes that are not of a mapped file are left alone, so this is always allowed and never needed.
pub fn release_mapped(bytes: &[u8]) {
    let start = bytes.as_ptr() as usize;
    let mappings = MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner);
    let found = mappings.iter().filter_map(Weak::upgrade).find(|map| {
        let base = map.as_ptr() as usize;
        base <= start && start + bytes.len() <= base + map.len()
    });
    let Some(map) = found else { return };
    #[cfg(unix)]
    {
        // Every page that the bytes touch: neighbors on it that are still wanted are read again.
        let page = page_size();
        let offset = start - map.as_ptr() as usize;
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
    drop(map);
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
}
