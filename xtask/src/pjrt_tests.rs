//! The `pjrt` target on two real plugins: the oldest and the newest that are known to be installable.
//!
//! On each: the conformance suite by groups, models beside the target `cpu`, 10,000 runs with flat memory; files that are no plugins,
//! a plugin of an unknown version and one that fails while a model runs. What passed is kept in `target/pjrt-tests/`, by what it
//! passed with, and is not run again before something of it changes; delete the folder to run all again.

use crate::{process, python, workspace};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A plugin: the name of its environment under `.venv/`, what is installed there, and its file among the packages.
struct Plugin {
    environment: &'static str,
    requirements: &'static str,
    file: &'static str,
}

const PLUGINS: [Plugin; 2] = [
    Plugin {
        environment: "pjrt-oldest",
        requirements: "tools/requirements-pjrt-oldest.txt",
        file: "xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so",
    },
    Plugin {
        environment: "pjrt-newest",
        requirements: "tools/requirements-pjrt-newest.txt",
        file: "lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so",
    },
];

/// Architectures of every family that a few gigabytes of memory and a minute of compilation hold.
const MODELS: &[&str] = &[
    "models/digits-cnn.onnx",
    "zoo:resnet50",
    "zoo:mobilenet-v2",
    "zoo:efficientnet-b0",
    "zoo:convnext-tiny",
    "zoo:vit-b-16",
    "zoo:densenet-121",
    "zoo:swin-t",
    "zoo:bert-base,sequence=64",
    "zoo:gpt2,phase=prefill,sequence=32",
];

/// Groups of cases of the conformance suite, as its tests are called.
const GROUPS: &[&str] = &[
    "elementwise",
    "casts",
    "contractions",
    "reductions",
    "movement",
    "indexing",
    "quantization",
    "control_flow",
    "composites",
    "networks",
];

/// Seconds that a group or model may take.
const LONGEST: u64 = 1200;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Models instead of the usual ones: files, or zoo:NAME
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Also every model of the exported zoo (`cargo xtask zoo` writes it to `target/zoo`)
    #[arg(long)]
    zoo: bool,
    /// Runs of the leak check
    #[arg(long, default_value_t = 10_000)]
    runs: u64,
    /// Only the steps named: conformance, models, leaks, damaged
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Take the programs that are in target/release as they are
    #[arg(long)]
    built: bool,
    /// The plugins named by their environments instead of both: pjrt-oldest, pjrt-newest
    #[arg(long, value_delimiter = ',')]
    plugins: Vec<String>,
    /// Where to write what came of it
    #[arg(long, value_name = "FILE.json", default_value = "measurements/pjrt-tests.json")]
    out: PathBuf,
}

/// What came of one step on one plugin.
#[derive(Serialize, Deserialize, Clone)]
struct Outcome {
    passed: bool,
    said: String,
    seconds: f64,
}

/// What came of all steps, and where it is kept.
struct Kept {
    file: PathBuf,
    steps: BTreeMap<String, Outcome>,
    failed: Vec<String>,
}

impl Kept {
    fn open(plugin: &Plugin) -> Result<Kept> {
        let folder = workspace::path("target/pjrt-tests");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{}.json", plugin.environment));
        let known = std::fs::read_to_string(&file).ok();
        let steps = known.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Ok(Kept { file, steps, failed: Vec::new() })
    }

    /// Runs a step whose last lines are kept, unless it passed with the same files before; says which and how it went.
    fn step(
        &mut self,
        name: &str,
        with: &[&Path],
        command: &mut std::process::Command,
    ) -> Result<()> {
        let files: Vec<PathBuf> = with.iter().map(|path| path.to_path_buf()).collect();
        let key = format!("{name} {}", python::hash_of(&files)?);
        let before = self.steps.get(&key).filter(|outcome| outcome.passed).cloned();
        let outcome = if let Some(before) = before {
            before
        } else {
            let start = std::time::Instant::now();
            let mut limited = process::command("timeout");
            limited.arg(LONGEST.to_string()).arg(command.get_program()).args(command.get_args());
            for (key, value) in command.get_envs() {
                match value {
                    Some(value) => limited.env(key, value),
                    None => limited.env_remove(key),
                };
            }
            let output = process::output(&mut limited)?;
            let text = [&output.stdout[..], &output.stderr[..]].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            let passed = output.status.success();
            let said = if passed { last_line(&text) } else { text };
            let outcome = Outcome { passed, said, seconds: start.elapsed().as_secs_f64() };
            self.steps.retain(|known, _| !known.starts_with(&format!("{name} ")));
            self.steps.insert(key, outcome.clone());
            std::fs::write(&self.file, serde_json::to_string_pretty(&self.steps)?)?;
            outcome
        };
        let verdict = if outcome.passed { "passed" } else { "FAILED" };
        println!("{verdict} {:>7.1} s  {name}: {}", outcome.seconds, outcome.said.trim_end());
        if !outcome.passed {
            self.failed.push(name.to_string());
        }
        Ok(())
    }
}

/// The line that says what was found: of a test its report, of a program its last.
fn last_line(text: &str) -> String {
    let report = text.lines().find(|line| line.contains(" passed, ") && line.contains(" refused"));
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    report.or(last).unwrap_or_default().to_string()
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = |step: &str| options.only.is_empty() || options.only.iter().any(|s| s == step);
    let programs = Programs::build(options.built, &wanted)?;
    let (mut failed, mut found) = (Vec::new(), BTreeMap::new());
    for plugin in &PLUGINS {
        if !options.plugins.is_empty() && !options.plugins.iter().any(|p| p == plugin.environment) {
            continue;
        }
        let folder = python::pjrt(plugin.environment, plugin.requirements)?;
        let file = folder.join(plugin.file);
        if !file.is_file() {
            bail!("{} has no {}", plugin.requirements, plugin.file);
        }
        println!("== {} ==", plugin.environment);
        let mut kept = Kept::open(plugin)?;
        if wanted("conformance") {
            for group in GROUPS {
                let mut command = process::command(&programs.suite);
                command.args([group, "--exact", "--nocapture"]);
                command.env("ANYCHIP_PJRT_TEST_PLUGIN", &file);
                kept.step(
                    &format!("conformance {group}"),
                    &[&programs.suite, &file],
                    &mut command,
                )?;
            }
        }
        if wanted("models") {
            for model in models(options)? {
                let mut command = process::command(&programs.same_on);
                command.arg("cpu-pjrt").arg(&model).env("ANYCHIP_PJRT_PLUGINS", &file);
                let own = Path::new(&model);
                let with: &[&Path] = if own.is_file() {
                    &[&programs.same_on, &file, own]
                } else {
                    &[&programs.same_on, &file]
                };
                kept.step(&format!("model {model}"), with, &mut command)?;
            }
        }
        if wanted("leaks") {
            let mut command = process::command(&programs.endurance);
            command.args(["models/digits-cnn.onnx", "--on", "cpu-pjrt", "--sessions", "2"]);
            command.args(["--runs", &options.runs.to_string()]);
            command.env("ANYCHIP_PJRT_PLUGINS", &file);
            kept.step("leaks", &[&programs.endurance, &file], &mut command)?;
        }
        if wanted("damaged") {
            damaged(&programs, &file)?;
            faulty(&programs, &file)?;
        }
        failed.extend(kept.failed.iter().map(|step| format!("{}: {step}", plugin.environment)));
        let steps: BTreeMap<String, Outcome> = kept
            .steps
            .into_iter()
            .map(|(key, outcome)| {
                (key.rsplit_once(' ').map_or(key.clone(), |(k, _)| k.to_string()), outcome)
            })
            .collect();
        found.insert(plugin.environment, steps);
    }
    let mut written = serde_json::to_string_pretty(&found)?;
    written = written.replace(&workspace::root().to_string_lossy().into_owned(), ".");
    std::fs::write(&options.out, written + "\n")?;
    if !failed.is_empty() {
        bail!("{} steps failed:\n  {}", failed.len(), failed.join("\n  "));
    }
    Ok(())
}

fn models(options: &Options) -> Result<Vec<String>> {
    if !options.models.is_empty() {
        return Ok(options.models.clone());
    }
    let mut models: Vec<String> = MODELS.iter().map(ToString::to_string).collect();
    if options.zoo {
        let folder = workspace::path("target/zoo");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&folder).with_context(|| "cargo xtask zoo exports it")? {
            let model = entry?.path().join("model.onnx");
            if model.is_file() {
                found.push(workspace::relative(&model));
            }
        }
        found.sort();
        models.extend(found);
    }
    Ok(models)
}

/// What the steps run, built once.
struct Programs {
    suite: PathBuf,
    same_on: PathBuf,
    endurance: PathBuf,
    anychip: PathBuf,
    faulty: PathBuf,
}

impl Programs {
    fn build(built: bool, wanted: &impl Fn(&str) -> bool) -> Result<Programs> {
        let release = workspace::path("target/release");
        if !built && (wanted("models") || wanted("leaks")) {
            let mut command = process::cargo();
            command.args(["build", "--quiet", "--release", "--package", "anychip"]);
            process::run(command.args(["--example", "same_on", "--example", "endurance"]))?;
        }
        if !built && wanted("damaged") {
            let mut command = process::cargo();
            process::run(command.args([
                "build",
                "--quiet",
                "--release",
                "--package",
                "anychip-cli",
            ]))?;
            let mut command = process::cargo();
            command.args(["build", "--quiet", "--release", "--package", "anychip-pjrt"]);
            process::run(command.args(["--example", "faulty_plugin"]))?;
        }
        let suite = if wanted("conformance") { suite()? } else { PathBuf::new() };
        let program = |name: &str| release.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        let library = format!(
            "{}faulty_plugin{}",
            std::env::consts::DLL_PREFIX,
            std::env::consts::DLL_SUFFIX
        );
        Ok(Programs {
            suite,
            same_on: program("examples/same_on"),
            endurance: program("examples/endurance"),
            anychip: program("anychip"),
            faulty: release.join("examples").join(library),
        })
    }
}

/// The test binary of the suite.
fn suite() -> Result<PathBuf> {
    let mut command = process::cargo();
    command.args(["test", "--no-run", "--package", "anychip-pjrt", "--test", "conformance"]);
    let printed = process::printed(command.args(["--message-format", "json"]))?;
    let executables = printed.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_suite = message["target"]["name"].as_str()? == "conformance";
        is_suite.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    executables.last().context("cargo built no test called `conformance`")
}

/// The binary with one plugin, and more of the environment.
fn anychip(
    programs: &Programs,
    plugin: &Path,
    arguments: &[&str],
    environment: &[(&str, &Path)],
) -> Result<std::process::Output> {
    let mut command = process::command(&programs.anychip);
    command.args(arguments).env("ANYCHIP_PJRT_PLUGINS", plugin);
    command.envs(environment.iter().copied());
    process::output(&mut command)
}

/// Files that are no plugins: the binary must say what each is and run on, or end with status 1 where the plugin was asked for.
fn damaged(programs: &Programs, plugin: &Path) -> Result<()> {
    let folder = workspace::path("target/pjrt-damaged");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let text = folder.join("text.so");
    std::fs::write(&text, "not a library\n".repeat(100))?;
    let cut = folder.join("cut.so");
    let whole = std::fs::read(plugin)?;
    std::fs::write(&cut, &whole[..whole.len() / 3])?;
    drop(whole);
    let other = no_plugin()?;
    let missing = folder.join("missing.so");
    let cases: [(&str, &Path, &str); 4] = [
        ("missing", &missing, "cannot be read"),
        ("a text", &text, "not a 64-bit library"),
        ("cut off", &cut, "it was cut off"),
        ("another library", &other, "no `GetPjrtApi`"),
    ];
    for (name, file, expected) in cases {
        unusable(programs, name, file, expected, &[])?;
    }
    std::fs::remove_file(&cut)?;
    Ok(())
}

/// A plugin that is none: `doctor` tells it, who asks for its device gets status 1, everything else runs on.
fn unusable(
    programs: &Programs,
    name: &str,
    file: &Path,
    expected: &str,
    environment: &[(&str, &Path)],
) -> Result<()> {
    let doctor = anychip(programs, file, &["doctor"], environment)?;
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    if !doctor.status.success() || !said.contains(expected) {
        bail!("{name}: `doctor` ended with {} and said\n{said}", doctor.status);
    }
    let bench = ["bench", "models/digits-cnn.onnx", "--on", "cpu-pjrt"];
    let run = anychip(programs, file, &bench, environment)?;
    if run.status.code() != Some(1) || run.stderr.is_empty() {
        bail!("{name}: `bench --on cpu-pjrt` ended with {} instead of status 1", run.status);
    }
    let compare = ["compare", "models/digits-cnn.onnx", "--chips", "cpu"];
    let run = anychip(programs, file, &compare, environment)?;
    if !run.status.success() {
        bail!("{name}: `compare --chips cpu` ended with {}", run.status);
    }
    println!("{name}: told, and everything else runs on");
    Ok(())
}

/// A plugin of a version that nobody knows, and one that fails while a model runs: who asked for it is told with status 1, and
/// `compare` estimates what it could not measure.
fn faulty(programs: &Programs, plugin: &Path) -> Result<()> {
    let how =
        |how: &'static str| [("ANYCHIP_FAULTY_OF", plugin), ("ANYCHIP_FAULTY_HOW", Path::new(how))];
    unusable(programs, "unknown version", &programs.faulty, "speaks PJRT 9.", &how("version"))?;
    let bench = ["bench", "models/digits-cnn.onnx", "--on", "cpu-pjrt"];
    let run = anychip(programs, &programs.faulty, &bench, &how("20"))?;
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    if run.status.code() != Some(1) || !said.contains("cpu-pjrt") {
        bail!("failing in mid-run: `bench` ended with {} and said\n{said}", run.status);
    }
    let compare = ["compare", "models/digits-cnn.onnx", "--chips", "cpu,cpu-pjrt", "--json"];
    let run = anychip(programs, &programs.faulty, &compare, &how("20"))?;
    let records = String::from_utf8_lossy(&run.stdout).into_owned();
    if !run.status.success() || !records.contains("could not be measured here") {
        bail!("failing in mid-run: `compare` ended with {} and said\n{records}", run.status);
    }
    let well = anychip(programs, &programs.faulty, &bench, &how("1000000000"))?;
    if !well.status.success() {
        bail!("not failing: `bench` ended with {}", well.status);
    }
    println!("failing in mid-run: told, and estimated in its place");
    Ok(())
}

/// A shared library that every Linux system has.
fn no_plugin() -> Result<PathBuf> {
    let places = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libm.so.6", "/usr/lib/libm.so.6"];
    let found = places.iter().map(PathBuf::from).find(|path| path.is_file());
    found.context("there is no libm.so.6 where it usually lies")
}
