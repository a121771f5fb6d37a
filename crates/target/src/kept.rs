//! Files that targets keep in [`CompileOptions::cache`](crate::CompileOptions::cache) for the next start.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes a file whole or not at all: who opens it meanwhile, here or in another process, finds what was there before or all of
/// what `write` writes. Of two writers at once the later one stays.
///
/// # Errors
/// Those of the system and of `write`; then nothing is left behind.
pub fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    static WRITERS: AtomicU64 = AtomicU64::new(0);
    let writer = WRITERS.fetch_add(1, Ordering::Relaxed);
    let partial = path.with_extension(format!("{}-{writer}.partial", std::process::id()));
    let written = File::create(&partial).and_then(|file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()?;
        std::fs::rename(&partial, path)
    });
    if written.is_err() {
        // The error to report is the first one.
        drop(std::fs::remove_file(&partial));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let folder = std::env::temp_dir().join(format!("anychip-replace-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("file.txt");
        replace_file(&path, |file| file.write_all(b"one")).unwrap();
        let failed = replace_file(&path, |file| {
            file.write_all(b"half of tw")?;
            Err(io::Error::other("no more"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        replace_file(&path, |file| file.write_all(b"three")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
