//! Unsafe code under the tools that see what it does: AddressSanitizer for all of it, Miri for what it can interpret.
//!
//! AddressSanitizer's runtime comes with the stable toolchain; only the flag that asks for it is unstable, so the tests
//! are built with `RUSTC_BOOTSTRAP` in a target folder of their own. It runs every instruction set this processor has.
//! Miri is a component of a nightly toolchain. It interprets: no vector instructions beyond the baseline, no files
//! mapped, no threads pinned, and everything some hundred times slower; so it runs the tests whose names begin as listed,
//! on scalar kernels; loops that spin for each other and tables of functions take it too long. What cannot be run says why.

use crate::{process, workspace};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// Where the sanitizer's builds go: nothing of them can be shared with ordinary ones.
const FOLDER: &str = "target/sanitize";
/// The only system whose runtime this knows.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Tests that Miri runs: package, and what the paths of its tests contain.
const INTERPRETED: &[(&str, &[&str])] = &[
    ("anychip-tensor", &[""]),
    (
        "anychip-cpu",
        &[
            "buffer::",
            "kernel::activation",
            "kernel::attention",
            "kernel::blocked",
            "kernel::broadcast",
            "kernel::conv",
            "kernel::copy",
            "kernel::gemm::tests::a",
        ],
    ),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// `address` or `miri` (default: both)
    #[arg(value_parser = ["address", "miri"])]
    tool: Option<String>,
    /// Seconds of random operators on the kernels under AddressSanitizer
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs one tool on the packages; why it could not, if so.
type Tool = fn(&[String], &Options) -> Result<Option<String>>;

/// Run what can be run; an error when a tool found something.
pub(crate) fn run(options: &Options) -> Result<()> {
    let crates = with_unsafe_code()?;
    println!("unsafe code is in {}", crates.join(", "));
    let (mut passed, mut skipped) = (0, 0);
    let tools: [(&str, Tool); 2] = [("address", address), ("miri", miri)];
    for (name, tool) in tools {
        if options.tool.as_deref().is_some_and(|t| t != name) {
            continue;
        }
        println!("\n== {name}");
        if let Some(reason) = tool(&crates, options)? {
            println!("skipped: {reason}");
            skipped += 1;
        } else {
            passed += 1;
        }
    }
    println!("{passed} passed, 0 failed, {skipped} skipped");
    Ok(())
}

/// The packages in whose sources the word stands before code.
fn with_unsafe_code() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(workspace::path("crates"))? {
        let folder = entry?.path();
        if has_unsafe(&folder.join("src"))? {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push(if name == "anychip" { name } else { format!("anychip-{name}") });
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn has_unsafe(folder: &Path) -> Result<bool> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let is_source = path.extension().is_some_and(|e| e == "rs");
        if (path.is_dir() && has_unsafe(&path)?)
            || (is_source && uses_unsafe(&std::fs::read_to_string(&path)?))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn uses_unsafe(text: &str) -> bool {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let words = ["unsafe {", "unsafe fn ", "unsafe impl ", "unsafe extern "];
    code.into_iter().any(|line| words.iter().any(|word| line.contains(word)))
}

/// Cargo with the sanitizer asked for.
fn sanitized() -> Command {
    let mut command = process::cargo();
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    command.env("CARGO_TARGET_DIR", workspace::path(FOLDER));
    // Stack traces take their names from these.
    command.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    // What a process keeps to its end (a table of plans, say) is no leak worth a failure, and the leak checker needs
    // ptrace, which containers forbid.
    command.env("ASAN_OPTIONS", "detect_leaks=0:detect_stack_use_after_return=1");
    command
}

fn address(crates: &[String], options: &Options) -> Result<Option<String>> {
    let libraries = process::printed(process::command("rustc").args(["--print", "sysroot"]))?;
    let runtime = Path::new(libraries.trim())
        .join("lib/rustlib")
        .join(TRIPLE)
        .join("lib/librustc-stable_rt.asan.a");
    if !runtime.exists() {
        return Ok(Some(format!("this toolchain has no AddressSanitizer for {TRIPLE}")));
    }
    let mut command = sanitized();
    command.args(["test", "--target", TRIPLE, "--lib", "--tests"]);
    for name in crates {
        command.args(["--package", name]);
    }
    process::run(&mut command)?;
    let mut command = sanitized();
    command.args(["run", "--quiet", "--target", TRIPLE, "--package", "anychip-cpu"]);
    command.args(["--example", "fuzz_kernels", "--", "--seed", "1", "--seconds"]);
    process::run(command.arg(options.seconds.to_string()))?;
    Ok(None)
}

fn miri(_crates: &[String], _options: &Options) -> Result<Option<String>> {
    let nightly = || process::command("cargo");
    if !process::exists(nightly().args(["+nightly", "miri", "--version"])) {
        return Ok(Some(
            "Miri is not installed (`rustup toolchain install nightly --component miri,rust-src`)"
                .into(),
        ));
    }
    for (package, tests) in INTERPRETED {
        let mut command = nightly();
        for (key, _) in std::env::vars_os() {
            // What the stable cargo told this process would mislead the other.
            if key.to_string_lossy().starts_with("CARGO") || key == "RUSTUP_TOOLCHAIN" {
                command.env_remove(key);
            }
        }
        command.args(["+nightly", "miri", "test", "--package", package, "--lib", "--"]);
        command.args(tests.iter().filter(|t| !t.is_empty()));
        // Threads read the clock and files tell the machine's caches.
        command.env("MIRIFLAGS", "-Zmiri-disable-isolation");
        command.env("CARGO_TARGET_DIR", workspace::path(FOLDER));
        process::run(&mut command)?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_code_is_told_from_talk_of_it() {
        assert!(uses_unsafe("    unsafe fn f() {}"));
        assert!(uses_unsafe("let x = unsafe { *p };"));
        assert!(!uses_unsafe("// unsafe { is a word }\n#![deny(unsafe_code)]"));
    }

    #[test]
    fn the_crates_with_unsafe_code_are_found() {
        let found = with_unsafe_code().unwrap();
        assert!(found.contains(&"anychip-cpu".to_string()), "{found:?}");
        assert!(!found.contains(&"anychip-ir".to_string()), "{found:?}");
    }
}
