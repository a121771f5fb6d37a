//! The file that packed weights are kept in from one start to the next: an index, then the numbers, which later starts map.
//!
//! Layout, little-endian: 8 bytes that name the format, the length of the index, the SHA-256 of the index, the index (for
//! each entry the SHA-256 of what it was packed from and how, where its numbers begin, and their bytes), then the numbers of each
//! entry from a multiple of [`ALIGNMENT`] on. A file that is cut off, of another format or with a damaged index is not used and is
//! written anew; the numbers themselves are trusted as those of the model's file are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anychip_ir::{Graph, Prim};
use anychip_tensor::{FileState, Tensor};
use memmap2::Mmap;
use sha2::{Digest, Sha256};

use crate::buffer::{ALIGNMENT, Buffer};

const FORMAT: &[u8; 8] = b"anychip1";
/// Bytes before the index.
const HEAD: usize = 8 + 8 + 32;
/// Bytes of an entry of the index.
const ENTRY: usize = 32 + 8 + 8;

/// What was packed, and how.
pub(crate) type StoreKey = [u8; 32];

/// Why something cannot be kept for the next start.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}", path = .path.display())]
pub(crate) struct StoreError {
    path: PathBuf,
    source: io::Error,
}

impl StoreError {
    pub(crate) fn new(path: &Path, source: io::Error) -> StoreError {
        StoreError { path: path.to_path_buf(), source }
    }
}

impl From<StoreError> for anychip_target::RunError {
    fn from(error: StoreError) -> Self {
        Self::Cache { path: error.path, source: error.source }
    }
}

impl From<StoreError> for anychip_target::OpenError {
    fn from(error: StoreError) -> Self {
        Self::Cache { path: error.path, source: error.source }
    }
}

/// A file of packed weights.
pub(crate) struct Store {
    path: PathBuf,
    /// What tells packings for this processor from those for others.
    form: String,
    kept: Mutex<Kept>,
}

/// What the file holds.
#[derive(Default)]
struct Kept {
    map: Option<Arc<Mmap>>,
    /// Offset and bytes of each entry.
    index: BTreeMap<StoreKey, (usize, usize)>,
}

impl Store {
    /// The file for packings of a graph's weights in one form, in a folder, which is made if it is not there.
    pub(crate) fn open(folder: &Path, form: &str, graph: &Graph) -> Result<Store, StoreError> {
        std::fs::create_dir_all(folder).map_err(|source| StoreError::new(folder, source))?;
        let path = folder.join(format!("{}-{form}.weights", name_of(graph)));
        let kept = match File::open(&path) {
            Ok(file) => Kept::read(&file).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(source) => return Err(StoreError { path, source }),
        };
        // Versions pack differently.
        let form = format!("{form} {}", env!("CARGO_PKG_VERSION"));
        Ok(Store { path, form, kept: Mutex::new(kept) })
    }

    /// The name of a packing: of a mapped file's part by the file's state and the place in it, so that a start need not read it;
    /// of other constants by their contents.
    pub(crate) fn key(&self, source: &Tensor, kind: &str, settings: &[usize]) -> StoreKey {
        let mut hash = Sha256::new();
        for text in [self.form.as_str(), kind] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        for &n in [settings.len()].iter().chain(settings).chain([&source.bytes().len()]) {
            hash.update((n as u64).to_le_bytes());
        }
        if let Some((state, offset)) = anychip_tensor::origin(source.bytes()) {
            hash.update(b"file");
            add_state(&mut hash, &state);
            hash.update((offset as u64).to_le_bytes());
        } else {
            hash.update(b"here");
            hash.update(source.bytes());
        }
        hash.finalize().into()
    }

    /// The numbers of a packing, if the file has them.
    pub(crate) fn find(&self, key: &StoreKey) -> Option<Buffer> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let &(offset, bytes) = kept.index.get(key)?;
        Buffer::of_file(Arc::clone(kept.map.as_ref()?), offset, bytes)
    }

    /// Writes a file with these entries if the one that is there lacks any; those it has stay in it.
    pub(crate) fn write<'a>(
        &self,
        entries: impl Iterator<Item = (StoreKey, &'a [u8])>,
    ) -> Result<(), StoreError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<StoreKey, &[u8]> = entries.collect();
        if all.keys().all(|key| kept.index.contains_key(key)) {
            return Ok(());
        }
        if let Some(map) = &kept.map {
            for (key, &(offset, bytes)) in &kept.index {
                all.entry(*key).or_insert(&map[offset..offset + bytes]);
            }
        }
        let failed = |source| StoreError::new(&self.path, source);
        anychip_target::replace_file(&self.path, |file| write_entries(file, &all))
            .map_err(failed)?;
        *kept = Kept::read(&File::open(&self.path).map_err(failed)?).unwrap_or_default();
        Ok(())
    }
}

/// A name for the file: another one where the graph has other constants, or the model's file another state.
fn name_of(graph: &Graph) -> String {
    let mut hash = Sha256::new();
    hash.update(graph.name());
    for node in graph.nodes() {
        if let Some(Prim::Constant(tensor)) = node.op.prim() {
            hash.update(anychip_ir::TensorType::of(tensor).to_string());
            // The bytes of one that is still to be made belong to no file.
            if !tensor.is_deferred()
                && let Some((state, _)) = anychip_tensor::origin(tensor.bytes())
            {
                add_state(&mut hash, &state);
            }
        }
    }
    let digest = hash.finalize();
    let first = digest.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    format!("{first:016x}")
}

fn add_state(hash: &mut Sha256, state: &FileState) {
    for n in [state.place.0, state.place.1, state.length] {
        hash.update(n.to_le_bytes());
    }
    for n in state.changed.into_iter().flat_map(|(s, ns)| [s, ns]) {
        hash.update(n.to_le_bytes());
    }
}

fn write_entries(
    file: &mut BufWriter<File>,
    entries: &BTreeMap<StoreKey, &[u8]>,
) -> io::Result<()> {
    let mut at = (HEAD + entries.len() * ENTRY).next_multiple_of(ALIGNMENT);
    let mut index = Vec::with_capacity(entries.len() * ENTRY);
    for (key, numbers) in entries {
        index.extend_from_slice(key);
        index.extend_from_slice(&(at as u64).to_le_bytes());
        index.extend_from_slice(&(numbers.len() as u64).to_le_bytes());
        at = (at + numbers.len()).next_multiple_of(ALIGNMENT);
    }
    file.write_all(FORMAT)?;
    file.write_all(&(index.len() as u64).to_le_bytes())?;
    file.write_all(&Sha256::digest(&index))?;
    file.write_all(&index)?;
    let mut written = HEAD + index.len();
    for numbers in entries.values() {
        let start = written.next_multiple_of(ALIGNMENT);
        file.write_all(&[0; ALIGNMENT][..start - written])?;
        file.write_all(numbers)?;
        written = start + numbers.len();
    }
    Ok(())
}

impl Kept {
    /// What a file holds; nothing where it is not whole.
    #[allow(unsafe_code, reason = "mapping a file")]
    fn read(file: &File) -> Option<Kept> {
        // SAFETY: mapped to be read; this program replaces such files and never writes into them. One that somebody else cuts
        // off meanwhile ends the process, as with the model's own file.
        let map = unsafe { Mmap::map(file) }.ok()?;
        let head = map.get(..HEAD)?;
        if &head[..8] != FORMAT {
            return None;
        }
        let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?) as usize);
        let end = HEAD.checked_add(number(&head[8..16])?)?;
        let index = map.get(HEAD..end)?;
        if Sha256::digest(index)[..] != head[16..] || !index.len().is_multiple_of(ENTRY) {
            return None;
        }
        let mut entries = BTreeMap::new();
        for entry in index.chunks_exact(ENTRY) {
            let (offset, bytes) = (number(&entry[32..40])?, number(&entry[40..])?);
            map.get(offset..offset.checked_add(bytes)?)?;
            entries.insert(entry[..32].try_into().ok()?, (offset, bytes));
        }
        Some(Kept { map: Some(Arc::new(map)), index: entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        anychip_ir::Builder::new("no nodes").finish(&[])
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn damaged_files_are_not_used() {
        let folder = std::env::temp_dir().join(format!("anychip-store-{}", std::process::id()));
        let source = Tensor::from_vec(vec![2], vec![1.0f32, 2.0]).unwrap();
        let numbers = [7u8; 100];
        let store = Store::open(&folder, "form", &graph()).unwrap();
        let path = store.path.clone();
        let key = store.key(&source, "kind", &[1]);
        store.write([(key, &numbers[..])].into_iter()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let found = |contents: &[u8]| {
            std::fs::write(&path, contents).unwrap();
            let store = Store::open(&folder, "form", &graph()).unwrap();
            store.find(&key).map(|b| b.as_ref().to_vec())
        };
        assert_eq!(found(&whole), Some(numbers.to_vec()));
        for length in [0, 7, 8, HEAD, HEAD + 10, whole.len() - 1] {
            assert_eq!(found(&whole[..length]), None, "{length}");
        }
        for at in (0..HEAD + ENTRY).step_by(5) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert_eq!(found(&damaged), None, "{at}");
        }
        assert!(store.find(&store.key(&source, "kind", &[2])).is_none());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = std::env::temp_dir().join(format!("anychip-no-folder-{}", std::process::id()));
        std::fs::write(&file, "").unwrap();
        let error =
            Store::open(&file.join("below"), "form", &graph()).err().expect("a file is no folder");
        assert!(error.to_string().contains("anychip-no-folder"), "{error}");
        std::fs::remove_file(&file).unwrap();
    }
}
