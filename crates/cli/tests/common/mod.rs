//! What the tests of the commands share: the binary, run from the repository's root, and folders that go away.
#![allow(dead_code, reason = "each file of tests is a crate of its own and uses what it needs")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs the binary on a terminal of so many columns.
pub(crate) fn anychip(arguments: &[&str], columns: usize) -> Output {
    Command::new(env!("CARGO_BIN_EXE_anychip"))
        .args(arguments)
        .current_dir(root())
        .env("COLUMNS", columns.to_string())
        .output()
        .expect("the binary starts")
}

/// What was printed, as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder of its own, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// An empty one.
    pub(crate) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("anychip-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    /// The path of a file that may be in it.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    /// Writes a file into it; gives its path.
    pub(crate) fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), contents).expect("a temporary file");
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
