//! How long a build from nothing takes, and how large the binary is.

use crate::{process, workspace};
use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant};

const LONGEST: Duration = Duration::from_mins(4);
const LARGEST: u64 = 25_000_000;

/// Build in a scratch folder; write `measurements/build-time.json`; an error above the promised limits.
pub(crate) fn run() -> Result<()> {
    let scratch = workspace::path("target/build-time");
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch)?;
    }
    // What has to be downloaded is not part of building.
    process::run(process::cargo().args(["fetch", "--quiet"]))?;
    let start = Instant::now();
    let arguments = ["build", "--release", "--package", "anychip-cli", "--target-dir"];
    process::run(process::cargo().args(arguments).arg(&scratch))?;
    let took = start.elapsed();
    let binary = scratch.join("release").join(format!("anychip{}", std::env::consts::EXE_SUFFIX));
    let size = binary.metadata().with_context(|| workspace::relative(&binary))?.len();
    let cores = std::thread::available_parallelism()?.get();
    std::fs::remove_dir_all(&scratch)?;
    println!(
        "built from nothing in {:.0} s on {cores} cores; the binary has {:.1} MB",
        took.as_secs_f64(),
        size as f64 / 1e6
    );
    let record = serde_json::json!({
        "what": "cargo build --release --package anychip-cli in an empty target folder",
        "seconds": took.as_secs_f64(),
        "cores": cores,
        "binary_bytes": size,
    });
    let out = workspace::path("measurements/build-time.json");
    std::fs::create_dir_all(workspace::path("measurements"))?;
    std::fs::write(out, serde_json::to_string_pretty(&record)? + "\n")?;
    if took > LONGEST || size > LARGEST {
        bail!("promised: {} s on 2 cores and {} MB", LONGEST.as_secs(), LARGEST / 1_000_000);
    }
    Ok(())
}
