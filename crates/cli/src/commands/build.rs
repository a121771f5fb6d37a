//! `anychip build`: a model's program for a chip, as files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anychip::{Catalog, CompileOptions};
use anyhow::{Context, Result, bail};

use crate::args::Build;
use crate::commands::ahead_of_time::{SUMMARY, describe};
use crate::commands::{note, prepare, print};

pub(crate) fn execute(args: &Build) -> Result<()> {
    let catalog = Catalog::builtin()?;
    let chip = if args.chip == anychip::THIS_CPU {
        anychip::this_cpu(false, None)
    } else {
        catalog.find(&args.chip)?.clone()
    };
    let prepared = prepare(&args.model)?;
    let options = CompileOptions { relaxed: args.relaxed, ..CompileOptions::default() };
    let built = anychip::build(&prepared.graph, &chip, &args.output, &options)?;
    let program = built.files.iter().find(|path| path.extension().is_some_and(|e| e == "mlir"));
    let vendor = match (anychip::vendor_compiler(&chip), program) {
        (Some(compiler), Some(program)) => Some(compile(&compiler, program, &args.output)?),
        (None, Some(_)) if chip.id.starts_with("google-tpu") => {
            note(
                "libtpu is not in the active Python environment; with it (`pip install libtpu`) the program of the \
                  TPU's own compiler would come too",
            );
            None
        }
        (None | Some(_), _) => None,
    };
    if args.json {
        let files: Vec<String> = built.files.iter().map(|p| p.display().to_string()).collect();
        let value = serde_json::json!({
            "model": prepared.model.name(), "chip": chip.id, "target": built.target, "files": files, "vendor": vendor,
        });
        return print(&format!("{value}\n"));
    }
    let mut text =
        format!("{} for {} by the target `{}`\n", prepared.model.name(), chip.id, built.target);
    for path in &built.files {
        let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        text += &format!("  wrote {} ({bytes} bytes)\n", path.display());
    }
    if let Some(vendor) = &vendor {
        text += &describe(vendor);
    }
    print(&text)
}

/// Runs the vendor's compiler in a process of its own: it reads the environment as it is loaded, and a fault of it must not
/// take what was written with it.
fn compile(
    compiler: &anychip::VendorCompiler,
    program: &Path,
    output: &Path,
) -> Result<serde_json::Value> {
    let own: PathBuf = std::env::current_exe().context("cannot find this program's own file")?;
    let child = Command::new(own)
        .arg("ahead-of-time")
        .arg("--plugin")
        .arg(&compiler.plugin)
        .args(["--topology", compiler.topology])
        .arg("--program")
        .arg(program)
        .arg("--output")
        .arg(output)
        .envs(compiler.environment.iter().copied())
        .output()
        .context("cannot start the vendor's compiler")?;
    if !child.status.success() {
        let said = String::from_utf8_lossy(&child.stderr);
        // Compilers log much before they fail; the last lines say why.
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n  ");
        bail!(
            "the vendor's compiler failed ({}); the StableHLO is written\n  {last}",
            child.status
        );
    }
    let summary = output.join(SUMMARY);
    let text = std::fs::read_to_string(&summary)
        .with_context(|| format!("cannot read {}", summary.display()))?;
    Ok(serde_json::from_str(&text)?)
}
