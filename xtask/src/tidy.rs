//! The house rules that no compiler checks: edges between crates, module docs, exhaustive matches, sizes, paths.

use crate::{layers, wildcards, workspace};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// All files of `models/` together, in bytes.
const MODELS: u64 = 1_000_000;
/// Lines of a file from which on it is asked whether it is one thing. No fault: some tables are long.
const LONG: usize = 500;
/// Folders that hold no sources.
const NOT_OURS: &[&str] = &["target", ".git", ".venv", ".cache", "node_modules"];
/// Folders that only exist on somebody's machine, where a path begins.
const HOMES: &[&str] = &["home/", "root/", "Users/", "work/"];

/// Check every rule and print every fault; an error when there is one.
pub(crate) fn run() -> Result<()> {
    let mut files = Vec::new();
    collect(workspace::root(), &mut files)?;
    files.sort();
    let mut faults = edges()?;
    for file in &files {
        let name = workspace::relative(file);
        // What is not text has no rules here.
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        faults.extend(
            machine_paths(&text).into_iter().map(|l| format!("{name}:{l}: a path of one machine")),
        );
        if file.extension().is_some_and(|e| e == "rs") {
            if !has_module_doc(&text) {
                faults.push(format!("{name}: no `//!` that says what the file is for"));
            }
            let length = text.lines().count();
            if length > LONG {
                println!("note: {name} has {length} lines: which two things is it?");
            }
            let lines = wildcards::over_prim(&text);
            faults.extend(
                lines
                    .into_iter()
                    .map(|l| format!("{name}:{l}: a wildcard arm over `Prim`; list every member")),
            );
        }
    }
    faults.extend(models_size()?);
    for fault in &faults {
        println!("{fault}");
    }
    if !faults.is_empty() {
        bail!("{} faults", faults.len());
    }
    println!("tidy: {} files, {} layers, no fault", files.len(), layers::LAYERS.len());
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_symlink() || NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn edges() -> Result<Vec<String>> {
    let metadata = workspace::metadata()?;
    let members: Vec<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let mut faults = Vec::new();
    for package in metadata.packages.iter().filter(|p| p.name != "xtask") {
        if layers::layer(&package.name).is_none() {
            faults.push(format!("`{}` has no row in xtask/src/layers.rs", package.name));
        }
        for dependency in package.dependencies.iter().filter(|d| members.contains(&d.name.as_str()))
        {
            let in_tests = dependency.kind.as_deref() == Some("dev");
            faults.extend(layers::fault(&package.name, &dependency.name, in_tests));
        }
    }
    Ok(faults)
}

fn models_size() -> Result<Option<String>> {
    let mut files = Vec::new();
    let folder = workspace::path("models");
    if !folder.exists() {
        return Ok(None);
    }
    collect(&folder, &mut files)?;
    let mut bytes = 0;
    for file in files {
        bytes += file.metadata()?.len();
    }
    Ok((bytes > MODELS).then(|| format!("models: {bytes} bytes together, at most {MODELS}")))
}

/// Whether the first thing in a file, blank lines aside, is its documentation.
fn has_module_doc(text: &str) -> bool {
    text.lines().find(|l| !l.trim().is_empty()).is_some_and(|l| l.starts_with("//!") && l.len() > 4)
}

/// Lines with an absolute path that only exists on somebody's machine.
fn machine_paths(text: &str) -> Vec<usize> {
    let starts_path =
        |before: Option<char>| before.is_none_or(|c| c.is_whitespace() || "\"'`=([,:".contains(c));
    let bad = |line: &str| {
        line.match_indices('/').any(|(at, _)| {
            starts_path(line[..at].chars().next_back())
                && HOMES.iter().any(|home| line[at + 1..].starts_with(home))
        })
    };
    text.lines().enumerate().filter(|(_, l)| bad(l)).map(|(number, _)| number + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_docs() {
        assert!(has_module_doc("\n//! What it is for.\nuse x;"));
        assert!(!has_module_doc("use x;\n//! Late."));
        assert!(!has_module_doc("//!\n"));
        assert!(!has_module_doc(""));
    }

    #[test]
    fn paths_of_one_machine() {
        let path = format!("open(\"/{}/me/x\")", "home");
        assert_eq!(machine_paths(&format!("fine\n{path}\n")), [2]);
        assert!(
            machine_paths("crates/ir/src/work/count.rs and https://x.org/home/page").is_empty()
        );
    }
}
