//! Runs the standard's own backend test cases: `onnx_cases DIR [--target reference|cpu] [--only TEXT] [--json FILE]
//! [--timeout S] [--round-trip OPSET [--keep DIR]]`.
//!
//! DIR holds `index.json` and the cases, as `tools/onnx_cases.py` writes them. Each case is imported; run as it is by
//! the reference evaluator, or after every pass by a target; and compared as the standard's runner compares. A case
//! whose graph depends on the contents of inputs is imported again with those bound. With `--json`, a line is written
//! as each case ends: `{"case": "node/test_abs", "outcome": "pass", "message": ""}`, the outcome one of `pass`, `fail`
//! (ran, wrong answer), `refused` (a diagnostic), `panic`, `timeout`.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use anychip::{Arrays, CompileOptions, Engine, Model, local_chip, optimize};
use anychip_ir::{Graph, evaluate};
use anychip_onnx::{
    ExportError, ExportOptions, ImportOptions, export, from_bytes, tensor_from_bytes,
};
use anychip_tensor::{DType, Tensor};
use serde_json::Value;

struct Options {
    folder: PathBuf,
    filters: Vec<String>,
    json: Option<PathBuf>,
    timeout: Duration,
    verbose: bool,
    /// Runs on this target; by the reference evaluator when absent.
    target: Option<String>,
    /// Writes each graph as a model, reads that, and runs what was read.
    round_trip: Option<i64>,
    /// Where the models that were written are kept.
    keep: Option<PathBuf>,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        folder: PathBuf::new(),
        filters: Vec::new(),
        json: None,
        timeout: Duration::from_mins(1),
        verbose: false,
        target: None,
        round_trip: None,
        keep: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} takes a value"));
        match argument.as_str() {
            "--only" => options.filters.push(value()?),
            "--json" => options.json = Some(value()?.into()),
            "--timeout" => {
                let seconds = value()?.parse().map_err(|_| "--timeout takes seconds")?;
                options.timeout = Duration::from_secs(seconds);
            }
            "--round-trip" => {
                let opset = value()?.parse().map_err(|_| "--round-trip takes an opset")?;
                options.round_trip = Some(opset);
            }
            "--keep" => options.keep = Some(value()?.into()),
            "--verbose" => options.verbose = true,
            "--target" => {
                options.target = match value()?.as_str() {
                    "reference" => None,
                    "cpu" => Some("cpu".into()),
                    other => {
                        return Err(format!(
                            "unknown target `{other}`; there are reference and cpu"
                        ));
                    }
                }
            }
            folder => options.folder = folder.into(),
        }
    }
    if options.folder.as_os_str().is_empty() {
        return Err(
            "usage: onnx_cases DIR [--target reference|cpu] [--only TEXT] [--json FILE] [--timeout S] [--round-trip OPSET [--keep DIR]]"
                .into(),
        );
    }
    Ok(options)
}

/// What became of a case.
#[derive(Clone)]
enum Outcome {
    Pass,
    Fail(String),
    Refused(String),
    Panic(String),
    Timeout(String),
}

impl Outcome {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Outcome::Pass => ("pass", ""),
            Outcome::Fail(message) => ("fail", message),
            Outcome::Refused(message) => ("refused", message),
            Outcome::Panic(message) => ("panic", message),
            Outcome::Timeout(message) => ("timeout", message),
        }
    }
}

fn main() -> Result<(), String> {
    let options = Arc::new(options()?);
    let index = std::fs::read(options.folder.join("index.json")).map_err(|e| e.to_string())?;
    let index: Value = serde_json::from_slice(&index).map_err(|e| e.to_string())?;
    let cases: Vec<Value> = index["cases"].as_array().cloned().unwrap_or_default();
    let chosen: Vec<Value> = cases
        .into_iter()
        .filter(|case| {
            let name = text(case, "path");
            options.filters.is_empty() || options.filters.iter().any(|f| name.contains(f.as_str()))
        })
        .collect();
    let (numeric, other): (Vec<Value>, Vec<Value>) =
        chosen.into_iter().partition(|case| case["numeric"].as_bool() == Some(true));
    if std::env::var_os("SHOW").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let start = Instant::now();
    let cases = Arc::new(numeric);
    let next = Arc::new(AtomicUsize::new(0));
    let outcomes = Arc::new(Mutex::new(BTreeMap::new()));
    let log = match &options.json {
        Some(path) => {
            Some(std::fs::File::create(path).map_err(|e| format!("{}: {e}", path.display()))?)
        }
        None => None,
    };
    let log = Arc::new(Mutex::new(log));
    let workers: Vec<_> = (0..std::thread::available_parallelism().map_or(2, usize::from))
        .map(|_| {
            let (cases, next) = (Arc::clone(&cases), Arc::clone(&next));
            let (outcomes, options) = (Arc::clone(&outcomes), Arc::clone(&options));
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(i) else { break };
                    let outcome = within(case, &options);
                    if let Ok(mut log) = log.lock()
                        && let Some(file) = log.as_mut()
                    {
                        let (kind, message) = outcome.parts();
                        let line = serde_json::json!({
                            "case": text(case, "path"), "outcome": kind, "message": one_line(message),
                        });
                        let _ = writeln!(file, "{line}");
                    }
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.insert(text(case, "name"), outcome);
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        let _ = worker.join();
    }
    let outcomes = outcomes.lock().map_err(|e| e.to_string())?.clone();
    summary(&cases, &outcomes, &options, other.len(), start.elapsed());
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a command's output")]
fn summary(
    cases: &[Value],
    outcomes: &BTreeMap<String, Outcome>,
    options: &Options,
    other: usize,
    elapsed: Duration,
) {
    let mut passed = 0;
    let mut groups: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for case in cases {
        let name = text(case, "name");
        let group = groups.entry(text(case, "group")).or_default();
        group.1 += 1;
        match outcomes.get(&name) {
            Some(Outcome::Pass) => {
                passed += 1;
                group.0 += 1;
                if options.verbose {
                    println!("ok   {name}");
                }
            }
            Some(other) => {
                let (kind, message) = other.parts();
                println!("FAIL {name}: {kind}: {}", one_line(message));
            }
            None => println!("FAIL {name}: not run"),
        }
    }
    for (group, (passed, all)) in groups {
        println!("{group}: {passed} of {all}");
    }
    println!(
        "{passed} of {} numeric cases passed ({:.2} %) in {:.1} s; {other} others hold strings, sequences or optionals",
        cases.len(),
        100.0 * passed as f64 / cases.len().max(1) as f64,
        elapsed.as_secs_f64(),
    );
}

fn one_line(text: &str) -> String {
    let line = text.replace('\n', " | ");
    if line.chars().count() > 300 {
        line.chars().take(300).collect::<String>() + "…"
    } else {
        line
    }
}

fn text(case: &Value, key: &str) -> String {
    case[key].as_str().unwrap_or_default().to_string()
}

/// Runs a case on a thread of its own; one that takes too long is left behind.
fn within(case: &Value, options: &Arc<Options>) -> Outcome {
    let (sender, receiver) = mpsc::channel();
    let (case, options) = (case.clone(), Arc::clone(options));
    let timeout = options.timeout;
    let worker = std::thread::Builder::new().stack_size(64 << 20).spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(|| run(&case, &options)));
        let outcome = match result {
            Ok(Ok(())) => Outcome::Pass,
            Ok(Err(outcome)) => outcome,
            Err(panic) => {
                let message = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("no message");
                Outcome::Panic(message.to_string())
            }
        };
        let _ = sender.send(outcome);
    });
    if worker.is_err() {
        return Outcome::Panic("no thread".into());
    }
    receiver
        .recv_timeout(timeout)
        .unwrap_or_else(|_| Outcome::Timeout(format!("after {} s", timeout.as_secs())))
}

fn run(case: &Value, options: &Options) -> Result<(), Outcome> {
    let folder = options.folder.join(text(case, "path"));
    let path = folder.join("model.onnx");
    let names: Vec<String> = case["inputs"]
        .as_array()
        .map(|inputs| inputs.iter().map(|i| text(i, "name")).collect())
        .unwrap_or_default();
    for set in case["data_sets"].as_array().cloned().unwrap_or_default() {
        let files = folder.join(text(&set, "folder"));
        let read = |key: &str| -> Result<Vec<Tensor>, Outcome> {
            let list = set[key].as_array().cloned().unwrap_or_default();
            list.iter()
                .map(|file| {
                    let file = files.join(file.as_str().unwrap_or_default());
                    let data = std::fs::read(&file).map_err(|e| Outcome::Fail(e.to_string()))?;
                    tensor_from_bytes(data.into())
                        .map_err(|e| Outcome::Refused(format!("{}: {e}", file.display())))
                })
                .collect()
        };
        let (inputs, expected) = (read("inputs")?, read("outputs")?);
        let given: Arrays = names.iter().cloned().zip(inputs).collect();
        let model = Model::load_for(&path, &given).map_err(|e| Outcome::Refused(e.to_string()))?;
        let graph = match options.round_trip {
            Some(opset) => round_trip(model.graph(), opset, options, &text(case, "name"))
                .map_err(Outcome::Fail)?,
            None => model.graph().clone(),
        };
        let operands: Vec<Tensor> = graph
            .inputs()
            .iter()
            .map(|&v| {
                let name = graph.value_name(v).unwrap_or_default();
                given.get(name).cloned().ok_or(Outcome::Fail(format!("no data for input {name}")))
            })
            .collect::<Result<_, _>>()?;
        let outputs = match &options.target {
            None => evaluate(&graph, &operands).map_err(|e| Outcome::Refused(e.to_string()))?,
            Some(chip) => on_target(&graph, chip, &operands)?,
        };
        if outputs.len() != expected.len() {
            return Err(Outcome::Fail(format!(
                "{} outputs, expected {}",
                outputs.len(),
                expected.len()
            )));
        }
        for (i, (output, expected)) in outputs.iter().zip(&expected).enumerate() {
            compare(case, output, expected)
                .map_err(|e| Outcome::Fail(format!("output {i}: {e}")))?;
        }
    }
    Ok(())
}

/// As `anychip run` does it: every pass, then the target that runs the chip here.
fn on_target(graph: &Graph, chip: &str, operands: &[Tensor]) -> Result<Vec<Tensor>, Outcome> {
    let refused = |e: anychip::Error| Outcome::Refused(e.to_string());
    let (graph, _) = optimize(graph).map_err(refused)?;
    // One thread a case: the cases themselves run side by side.
    let options = CompileOptions { threads: Some(1), ..CompileOptions::default() };
    let chip = local_chip(chip).map_err(refused)?;
    let mut engine = Engine::new(&graph, &chip, &options).map_err(refused)?;
    Ok(engine.run(operands).map_err(refused)?.0)
}

/// Writes a graph as a model and reads it. Types that are newer than the opset ask for the newest.
fn round_trip(graph: &Graph, opset: i64, options: &Options, name: &str) -> Result<Graph, String> {
    let write = |opset| export(graph, &ExportOptions { opset, ..ExportOptions::default() });
    let data = match write(opset) {
        Err(ExportError::Unsupported(_)) => write(28),
        other => other,
    }
    .map_err(|e| format!("export: {e}"))?;
    if let Some(folder) = &options.keep {
        std::fs::create_dir_all(folder).map_err(|e| e.to_string())?;
        let path = folder.join(format!("{name}.onnx"));
        std::fs::write(path, &data).map_err(|e| e.to_string())?;
    }
    let model = from_bytes(data.into(), None, &ImportOptions::default())
        .map_err(|e| format!("import of what was exported: {e}"))?;
    Ok(model.graph)
}

/// As the standard's runner: element type and shape exactly, then `|out − ref| ≤ atol + rtol · |ref|`.
fn compare(case: &Value, output: &Tensor, expected: &Tensor) -> Result<(), String> {
    if output.dtype() != expected.dtype() || output.shape() != expected.shape() {
        return Err(format!(
            "{}{:?}, expected {}{:?}",
            output.dtype(),
            output.shape(),
            expected.dtype(),
            expected.shape()
        ));
    }
    let number = |key: &str, default: f64| case[key].as_f64().unwrap_or(default);
    let mut relative = number("rtol", 1e-3);
    if output.dtype() == DType::BF16 {
        relative = relative.max(number("bfloat16_rtol", 1.0 / 64.0));
    }
    let absolute = number("atol", 1e-7);
    let (found, wanted) = (output.to_f64(), expected.to_f64());
    let mut wrong = 0;
    let mut first = None;
    for (i, (&a, &b)) in found.iter().zip(&wanted).enumerate() {
        let equal = a == b
            || (a.is_nan() && b.is_nan())
            || (a.is_finite() && b.is_finite() && (a - b).abs() <= absolute + relative * b.abs());
        if !equal {
            wrong += 1;
            first.get_or_insert((i, a, b));
        }
    }
    match first {
        None => Ok(()),
        Some((i, a, b)) => {
            Err(format!("{wrong} of {} differ, element {i} is {a}, expected {b}", found.len()))
        }
    }
}
