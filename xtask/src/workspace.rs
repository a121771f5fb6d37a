//! The workspace: its root, its packages and examples, its release binary.

use crate::process;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The folder of the workspace's manifest.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// A path below the root, as absolute path.
pub(crate) fn path(relative: &str) -> PathBuf {
    root().join(relative)
}

/// Below the root without its machine-dependent part, for printing.
pub(crate) fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// What this project needs of `cargo metadata`.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) target_directory: PathBuf,
}

/// One workspace member.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

/// One edge of the dependency graph.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None`: a normal dependency; else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

/// A library, binary or example.
#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
}

/// The members of the workspace, as cargo sees them.
pub(crate) fn metadata() -> Result<Metadata> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1"];
    let text = process::printed(process::cargo().args(arguments))?;
    serde_json::from_str(&text).context("reading `cargo metadata`")
}

impl Metadata {
    /// All examples, as (package, example).
    pub(crate) fn examples(&self) -> Vec<(&str, &str)> {
        let mut all = Vec::new();
        for package in &self.packages {
            let examples = package.targets.iter().filter(|t| t.kind.iter().any(|k| k == "example"));
            all.extend(examples.map(|t| (package.name.as_str(), t.name.as_str())));
        }
        all
    }

    pub(crate) fn has_example(&self, package: &str, example: &str) -> bool {
        self.examples().contains(&(package, example))
    }
}

/// The binary under test: the one given, or built now as users get it.
#[derive(clap::Args, Default)]
pub(crate) struct Binary {
    /// Test this `anychip` binary instead of building one
    #[arg(long)]
    binary: Option<PathBuf>,
}

impl Binary {
    pub(crate) fn path(&self) -> Result<PathBuf> {
        match &self.binary {
            Some(given) => given.canonicalize().with_context(|| given.display().to_string()),
            None => release_binary(),
        }
    }
}

/// Build the `anychip` binary as users get it, and give its path.
pub(crate) fn release_binary() -> Result<PathBuf> {
    process::run(process::cargo().args(["build", "--release", "--package", "anychip-cli"]))?;
    let name = format!("anychip{}", std::env::consts::EXE_SUFFIX);
    Ok(metadata()?.target_directory.join("release").join(name))
}
