//! Runs one model for long, from several sessions at once, and watches results and memory:
//! `endurance MODEL [--on CHIP] [--runs N] [--sessions N] [--threads N] [--json FILE]`.
//!
//! The sessions are of one program, so they share weights, plans and threads, as in a server. Each goes through a few
//! different inputs; every result must have the bits of the first one for its input, which a session alone computed.
//! Resident memory is read after a warm-up and at the end; it may grow by [`MOST_GROWTH`] of what it was.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anychip::{
    CompileOptions, Model, Tensor, choose_sizes, find_place, local_chip, made_up, with_sizes,
};
use anychip_target::{Session, legalize};
use serde_json::json;

/// Different inputs that each session takes in turn.
const INPUTS: u64 = 8;
/// What may come on top of the memory after the warm-up: a hundredth, and 2 MiB for what the allocator keeps by threads.
const MOST_GROWTH: f64 = 0.01;
const MOST_GROWTH_BYTES: u64 = 2 << 20;
/// This share of the runs is warm-up.
const WARM_UP: u64 = 50;
const REPORT: Duration = Duration::from_secs(10);

struct Options {
    model: PathBuf,
    on: String,
    runs: u64,
    sessions: u64,
    threads: usize,
    json: Option<PathBuf>,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        model: PathBuf::new(),
        on: "cpu".to_string(),
        runs: 100_000,
        sessions: 4,
        threads: 1,
        json: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} takes a value"));
        let number = |text: String| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
        match argument.as_str() {
            "--on" => options.on = value()?,
            "--runs" => options.runs = number(value()?)?,
            "--sessions" => options.sessions = number(value()?)?.max(1),
            "--threads" => options.threads = number(value()?)?.max(1) as usize,
            "--json" => options.json = Some(value()?.into()),
            model => options.model = model.into(),
        }
    }
    Ok(options)
}

/// Bytes of this process in main memory now, and at the most so far: `VmRSS` and `VmHWM` of `proc_pid_status(5)`.
fn resident() -> Result<(u64, u64), String> {
    let text = std::fs::read_to_string("/proc/self/status")
        .map_err(|e| format!("resident memory is read from /proc/self/status: {e}"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok());
        number.map(|kib: u64| kib * 1024).ok_or(format!("/proc/self/status has no {name}"))
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// What sessions tell the one that watches.
#[derive(Default)]
struct Counts {
    taken: AtomicU64,
    done: AtomicU64,
    different: AtomicU64,
    stop: AtomicBool,
}

fn outputs(session: &mut dyn Session, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    Ok(session.run(&views).map_err(|e| e.to_string())?.outputs)
}

fn same(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            a.dtype() == b.dtype() && a.shape() == b.shape() && a.bytes() == b.bytes()
        })
}

/// Takes runs until none is left. Its input follows from the run, so that sessions meet at different ones.
fn serve(
    mut session: Box<dyn Session>,
    first: &[(Vec<Tensor>, Vec<Tensor>)],
    runs: u64,
    counts: &Counts,
) -> Result<(), String> {
    loop {
        let run = counts.taken.fetch_add(1, Ordering::Relaxed);
        if run >= runs || counts.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (inputs, wanted) = &first[(run % INPUTS) as usize];
        let found = outputs(session.as_mut(), inputs);
        let found = found.inspect_err(|_| counts.stop.store(true, Ordering::Relaxed))?;
        if !same(&found, wanted) {
            counts.different.fetch_add(1, Ordering::Relaxed);
        }
        counts.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// A tensor of floats with its elements moved round by `i` parts of [`INPUTS`]; others as they are.
fn turned(tensor: &Tensor, i: u64) -> Tensor {
    if !tensor.dtype().is_float() {
        return tensor.clone();
    }
    let mut values = tensor.to_f64();
    let by = values.len() * i as usize / INPUTS as usize;
    values.rotate_left(by);
    Tensor::from_f64(tensor.dtype(), tensor.shape(), &values).unwrap_or_else(|_| tensor.clone())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[expect(clippy::print_stdout, reason = "an example says what it finds")]
fn endure(options: &Options) -> Result<bool, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let (before, _) = resident()?;
    let chip = local_chip(&options.on).map_err(|e| text(&e))?;
    let (target, place) = find_place(&chip).ok_or("the chip is no place to run")?;
    let model = Model::load(&options.model).map_err(|e| text(&e))?;
    let (graph, _) = model.optimized().map_err(|e| text(&e))?;
    let sizes = choose_sizes(&graph, &BTreeMap::default(), &[], 1).map_err(|e| text(&e))?;
    let graph = with_sizes(&graph, &sizes).map_err(|e| text(&e))?;
    let legal = legalize(target.as_ref(), &graph)
        .map_err(|refusals| format!("{} operators are refused", refusals.len()))?;
    let settings = CompileOptions { threads: Some(options.threads), ..CompileOptions::default() };
    let program = target.compile(&legal, &chip, &settings).map_err(|e| text(&e))?;
    let open = || program.open(&place).map_err(|e| text(&e));

    // One session alone says what is right.
    let mut alone = open()?;
    let mut first = Vec::new();
    let inputs = made_up(&graph).map_err(|e| text(&e))?;
    for i in 0..INPUTS {
        let inputs: Vec<Tensor> = inputs.iter().map(|t| turned(t, i)).collect();
        let wanted = outputs(alone.as_mut(), &inputs)?;
        first.push((inputs, wanted));
    }
    drop(alone);
    if (1..first.len()).any(|i| same(&first[i].1, &first[0].1)) {
        return Err("different inputs give the same results: there is nothing to tell apart".into());
    }
    let (start, _) = resident()?;

    let counts = Counts::default();
    let warm_runs = options.runs / WARM_UP;
    let (mut warm, mut highest) = (None, 0);
    let clock = Instant::now();
    let outcome = std::thread::scope(|scope| -> Result<(), String> {
        let mut sessions = Vec::new();
        for _ in 0..options.sessions {
            let session = open()?;
            let (first, counts) = (&first, &counts);
            sessions.push(scope.spawn(move || serve(session, first, options.runs, counts)));
        }
        let mut said = Instant::now();
        while !sessions.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(20));
            let done = counts.done.load(Ordering::Relaxed);
            let (now, _) = resident()?;
            if warm.is_none() && done >= warm_runs {
                warm = Some(now);
            }
            if warm.is_some() {
                highest = highest.max(now);
            }
            if said.elapsed() >= REPORT {
                said = Instant::now();
                let rate = done as f64 / clock.elapsed().as_secs_f64();
                println!(
                    "{done} of {} runs, {rate:.0} a second, {:.0} s left, {:.1} MiB resident, {} differ",
                    options.runs,
                    (options.runs - done) as f64 / rate.max(1e-9),
                    mib(now),
                    counts.different.load(Ordering::Relaxed)
                );
            }
        }
        for session in sessions {
            session.join().map_err(|_| "a session panicked".to_string())??;
        }
        Ok(())
    });
    outcome?;
    let seconds = clock.elapsed().as_secs_f64();
    let (end, peak) = resident()?;
    let warm = warm.unwrap_or(end);
    let bound = warm + MOST_GROWTH_BYTES.max((warm as f64 * MOST_GROWTH) as u64);
    let different = counts.different.load(Ordering::Relaxed);
    let done = counts.done.load(Ordering::Relaxed);
    let flat = end <= bound && highest <= bound;
    println!(
        "{done} runs of {} over {} sessions of {} threads in {seconds:.0} s ({:.0} a second): {different} differ; resident \
         {:.1} MiB at the start, {:.1} warm, {:.1} at the end, {:.1} at the most (bound {:.1}){}",
        model.name(),
        options.sessions,
        options.threads,
        done as f64 / seconds,
        mib(start),
        mib(warm),
        mib(end),
        mib(highest),
        mib(bound),
        if flat { "" } else { ": MEMORY GROWS" }
    );
    if let Some(path) = &options.json {
        let folder = options.model.canonicalize().ok();
        let folder = folder.as_deref().and_then(|p| p.parent()).and_then(|p| p.file_name());
        let record = json!({
            "what": "one model run for long by concurrent sessions of one program; resident memory of the process in bytes",
            "model": folder.map_or(model.name().to_string(), |f| f.to_string_lossy().into_owned()),
            "model_sha256": model.sha256().map_err(|e| text(&e))?,
            "runs": done,
            "sessions": options.sessions,
            "threads_per_session": options.threads,
            "distinct_inputs": INPUTS,
            "results_that_differ": different,
            "resident_before_loading": before,
            "resident_at_start": start,
            "resident_after_warm_up": warm,
            "warm_up_runs": warm_runs,
            "resident_at_end": end,
            "resident_highest_after_warm_up": highest,
            "resident_highest_of_process": peak,
            "resident_bound": bound,
            "seconds": seconds,
            "runs_per_second": done as f64 / seconds,
            "processor": chip.name,
            "cores": std::thread::available_parallelism().map_or(1, usize::from),
        });
        let mut written = serde_json::to_string_pretty(&record).map_err(|e| text(&e))?;
        written.push('\n');
        std::fs::write(path, written).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(different == 0 && flat && done == options.runs)
}

#[expect(clippy::print_stderr, reason = "an example says what went wrong")]
fn main() -> ExitCode {
    match options().and_then(|options| endure(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
