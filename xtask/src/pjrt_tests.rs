//! The `pjrt` target on two real plugins: the oldest and the newest that are known to be installable.
//!
//! On each: the conformance suite by groups, models beside the target `cpu`, 10,000 runs with flat memory; files that are no plugins,
//! a plugin of an unknown version and one that fails while a model runs. What passed is kept in `target/pjrt-tests/`, by what it
//! passed with, and is not run again before something of it changes; delete the folder to run all again. A step that fails does not
//! keep the others from running.

use crate::{process, python, workspace};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A plugin: what it is called, the name of its environment under `.venv/`, what is installed there, and its file among the
/// packages.
struct Plugin {
    name: &'static str,
    environment: &'static str,
    requirements: &'static str,
    file: &'static str,
}

const PLUGINS: [Plugin; 2] = [
    Plugin {
        name: "xla-cpu-pjrt 0.0.1",
        environment: "pjrt-oldest",
        requirements: "tools/requirements-pjrt-oldest.txt",
        file: "xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so",
    },
    Plugin {
        name: "lammps-jax-pjrt-cpu 0.11.2",
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

/// Models that devices of this interface refuse, and with which words. One that runs after all fails the step, so that the list only
/// shrinks.
const REFUSED: &[(&str, &str)] =
    &[("target/zoo/ssdlite/model.onnx", "of the model's nodes cannot run on")];

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

/// Seconds that a group or model may take: many times what it takes on a machine that does nothing else.
const LONGEST: u64 = 7200;

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
    /// Where to write what came of it: a line a step
    #[arg(long, value_name = "FILE.tsv", default_value = "target/pjrt-tests/found.tsv")]
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
    /// By name and by what it ran with.
    known: BTreeMap<String, Outcome>,
    /// What this run came to, in order.
    found: Vec<(String, Outcome)>,
    hashes: BTreeMap<PathBuf, String>,
}

/// What a step must come to.
#[derive(Clone, Copy)]
enum Expected {
    Success,
    /// An error with these words.
    Refusal(&'static str),
}

impl Kept {
    fn open(plugin: &Plugin) -> Result<Kept> {
        let folder = workspace::path("target/pjrt-tests");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{}.json", plugin.environment));
        let known = std::fs::read_to_string(&file).ok();
        let known = known.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Ok(Kept { file, known, found: Vec::new(), hashes: BTreeMap::new() })
    }

    /// Runs a step, unless it passed with the same files before; says how it went.
    fn step(
        &mut self,
        name: &str,
        with: &[&Path],
        command: &mut std::process::Command,
        expected: Expected,
    ) -> Result<()> {
        let mut key = name.to_string();
        for file in with {
            if !self.hashes.contains_key(*file) {
                let hash = python::hash_of(&[file.to_path_buf()])?;
                self.hashes.insert(file.to_path_buf(), hash);
            }
            key = format!("{key} {}", self.hashes[*file]);
        }
        let before = self.known.get(&key).filter(|outcome| outcome.passed).cloned();
        let outcome = if let Some(before) = before {
            before
        } else {
            let outcome = outcome_of(command, expected)?;
            self.known.retain(|known, _| !known.starts_with(&format!("{name} ")));
            self.known.insert(key, outcome.clone());
            std::fs::write(&self.file, serde_json::to_string_pretty(&self.known)?)?;
            outcome
        };
        self.say(name, outcome);
        Ok(())
    }

    fn say(&mut self, name: &str, outcome: Outcome) {
        let verdict = if outcome.passed { "passed" } else { "FAILED" };
        println!("{verdict} {:>7.1} s  {name}: {}", outcome.seconds, outcome.said.trim_end());
        self.found.push((name.to_string(), outcome));
    }
}

/// Runs a command of a step to its end, or for [`LONGEST`] seconds.
fn outcome_of(command: &std::process::Command, expected: Expected) -> Result<Outcome> {
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
    let passed = match expected {
        Expected::Success => output.status.success(),
        Expected::Refusal(words) => output.status.code() == Some(1) && text.contains(words),
    };
    let said = match expected {
        Expected::Refusal(words) if passed => {
            let reason = text.lines().skip_while(|line| !line.contains(words)).nth(1);
            format!("refused: {}", reason.unwrap_or_default().trim())
        }
        _ if passed => last_line(&text),
        _ => text,
    };
    Ok(Outcome { passed, said, seconds: start.elapsed().as_secs_f64() })
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
    let mut failed = Vec::new();
    let mut written = "plugin\tstep\tresult\n".to_string();
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
                    Expected::Success,
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
                let refused = REFUSED.iter().find(|(name, _)| *name == model);
                let expected =
                    refused.map_or(Expected::Success, |(_, words)| Expected::Refusal(words));
                kept.step(&format!("model {model}"), with, &mut command, expected)?;
            }
        }
        if wanted("leaks") {
            let mut command = process::command(&programs.endurance);
            command.args(["models/digits-cnn.onnx", "--on", "cpu-pjrt", "--sessions", "2"]);
            command.args(["--runs", &options.runs.to_string()]);
            command.env("ANYCHIP_PJRT_PLUGINS", &file);
            let with: [&Path; 2] = [&programs.endurance, &file];
            kept.step("leaks", &with, &mut command, Expected::Success)?;
        }
        if wanted("damaged") {
            damaged(&mut kept, &programs, &file)?;
        }
        for (step, outcome) in kept.found {
            let said =
                if outcome.passed { outcome.said } else { format!("FAILED: {}", outcome.said) };
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            written.push_str(&format!("{}\t{step}\t{said}\n", plugin.name));
            if !outcome.passed {
                failed.push(format!("{}: {step}", plugin.name));
            }
        }
    }
    let written = written.replace(&*workspace::root().to_string_lossy(), ".");
    std::fs::write(&options.out, written)?;
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
    let mut executables = printed.lines().rev().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_suite = message["target"]["name"].as_str()? == "conformance";
        is_suite.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    executables.next().context("cargo built no test called `conformance`")
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

/// Files that are no plugins, a plugin of a version that nobody knows, and one that fails while a model runs.
fn damaged(kept: &mut Kept, programs: &Programs, plugin: &Path) -> Result<()> {
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
    let unknown = faulty(plugin, "version");
    let cases: [(&str, &Path, &str); 5] = [
        ("missing", &missing, "cannot be read"),
        ("a text", &text, "not a 64-bit library"),
        ("cut off", &cut, "it was cut off"),
        ("another library", &other, "no `GetPjrtApi`"),
        ("of an unknown version", &programs.faulty, "speaks PJRT 9."),
    ];
    for (name, file, expected) in cases {
        let environment = if file == programs.faulty { &unknown[..] } else { &[] };
        let start = std::time::Instant::now();
        let found = unusable(programs, file, expected, environment);
        kept.say(&format!("plugin {name}"), verdict(found, start));
    }
    std::fs::remove_file(&cut)?;
    let start = std::time::Instant::now();
    let found = failing(programs, plugin);
    kept.say("plugin failing after 20 runs", verdict(found, start));
    Ok(())
}

/// What a check came to.
fn verdict(found: Result<&'static str>, start: std::time::Instant) -> Outcome {
    let (passed, said) = match found {
        Ok(said) => (true, said.to_string()),
        Err(error) => (false, format!("{error:#}")),
    };
    Outcome { passed, said, seconds: start.elapsed().as_secs_f64() }
}

/// A plugin that is none: `doctor` tells it, who asks for its device gets status 1, everything else runs on.
fn unusable(
    programs: &Programs,
    file: &Path,
    expected: &str,
    environment: &[(&str, &Path)],
) -> Result<&'static str> {
    let doctor = anychip(programs, file, &["doctor"], environment)?;
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    if !doctor.status.success() || !said.contains(expected) {
        bail!("`doctor` ended with {} and said\n{said}", doctor.status);
    }
    let bench = ["bench", "models/digits-cnn.onnx", "--on", "cpu-pjrt"];
    let run = anychip(programs, file, &bench, environment)?;
    if run.status.code() != Some(1) || run.stderr.is_empty() {
        bail!("`bench --on cpu-pjrt` ended with {} instead of status 1", run.status);
    }
    let compare = ["compare", "models/digits-cnn.onnx", "--chips", "cpu"];
    let run = anychip(programs, file, &compare, environment)?;
    if !run.status.success() {
        bail!("`compare --chips cpu` ended with {}", run.status);
    }
    Ok("told, status 1 where asked for, everything else runs on")
}

/// What makes the faulty plugin of the crate's examples stand before `plugin`, and fail how.
fn faulty<'a>(plugin: &'a Path, how: &'a str) -> [(&'static str, &'a Path); 2] {
    [("ANYCHIP_FAULTY_OF", plugin), ("ANYCHIP_FAULTY_HOW", Path::new(how))]
}

/// A plugin that fails while a model runs: who asked for it is told with status 1, and `compare` estimates what it could not measure.
fn failing(programs: &Programs, plugin: &Path) -> Result<&'static str> {
    let bench = ["bench", "models/digits-cnn.onnx", "--on", "cpu-pjrt"];
    let run = anychip(programs, &programs.faulty, &bench, &faulty(plugin, "20"))?;
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    if run.status.code() != Some(1) || !said.contains("cpu-pjrt") {
        bail!("`bench` ended with {} and said\n{said}", run.status);
    }
    let compare = ["compare", "models/digits-cnn.onnx", "--chips", "cpu,cpu-pjrt", "--json"];
    let run = anychip(programs, &programs.faulty, &compare, &faulty(plugin, "20"))?;
    let records = String::from_utf8_lossy(&run.stdout).into_owned();
    if !run.status.success() || !records.contains("could not be measured here") {
        bail!("`compare` ended with {} and said\n{records}", run.status);
    }
    let well = anychip(programs, &programs.faulty, &bench, &faulty(plugin, "1000000000"))?;
    if !well.status.success() {
        bail!("not failing: `bench` ended with {}", well.status);
    }
    Ok("told, status 1 where asked for, estimated in its place")
}

/// A shared library that every Linux system has.
fn no_plugin() -> Result<PathBuf> {
    let places = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libm.so.6", "/usr/lib/libm.so.6"];
    let found = places.iter().map(PathBuf::from).find(|path| path.is_file());
    found.context("there is no libm.so.6 where it usually lies")
}
