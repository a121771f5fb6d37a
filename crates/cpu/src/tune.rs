//! Which of several kernels for a step is the fastest here: measured when asked, remembered in a file.
//!
//! The formulas that choose between kernels were fitted on one machine. With `CompileOptions::tune` each choice that a plan
//! makes is timed instead, on memory of its own, with what else the step reads pushed out of the second-level cache between runs
//! as the rest of a network would. What was found is kept with the packed weights and used by later starts, tuned or not, so
//! that a program computes the same bits from start to start.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anychip_ir::ValueId;

use crate::buffer::{Buffer, Raw};
use crate::detect::{Caches, Cpu, Simd};
use crate::lower::{Cx, Lowered};
use crate::step::{Io, Location};
use crate::weights::StoreError;

/// One way to do a step.
pub(crate) struct Choice<'a> {
    /// Its name in the file.
    pub(crate) name: &'static str,
    pub(crate) make: Box<dyn Fn() -> Lowered + 'a>,
}

/// What was found to be fastest.
pub(crate) struct Tuning {
    path: PathBuf,
    /// The file's first line: what is written on another processor or by another version does not count.
    head: String,
    measures: bool,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// For each step the name of the choice, and the figures it was made by.
    rows: BTreeMap<String, (String, String)>,
    changed: bool,
}

/// Time to spend on a choice, its first run left out.
const LEAST_TIME: Duration = Duration::from_millis(15);
const LEAST_RUNS: usize = 5;
const MOST_RUNS: usize = 200;

impl Tuning {
    /// The file in a folder, for one instruction set; `measures` says that choices it lacks are made by measuring.
    pub(crate) fn open(folder: &Path, simd: Simd, measures: bool) -> Result<Tuning, StoreError> {
        std::fs::create_dir_all(folder).map_err(|source| StoreError::new(folder, source))?;
        let path = folder.join(format!("{}.tuning", simd.option()));
        let processor = Cpu::detect().name.unwrap_or_else(|| "unknown processor".to_string());
        let head = format!("anychip {}, {}, {processor}", env!("CARGO_PKG_VERSION"), simd.name());
        let rows = match std::fs::read_to_string(&path) {
            Ok(text) => parse(&text, &head).map_err(|line| {
                let reason = format!("line {line} is no row of it; delete the file to tune again");
                StoreError::new(&path, io::Error::new(io::ErrorKind::InvalidData, reason))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(StoreError::new(&path, source)),
        };
        let found = Mutex::new(Found { rows, changed: false });
        Ok(Tuning { path, head, measures, found })
    }

    /// Writes what was found since the file was read.
    pub(crate) fn keep(&self) -> Result<(), StoreError> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.changed {
            return Ok(());
        }
        let mut text = format!("{}\n", self.head);
        for (step, (name, figures)) in &found.rows {
            text.push_str(&format!("{step}\t{name}\t{figures}\n"));
        }
        anychip_target::replace_file(&self.path, |file| file.write_all(text.as_bytes()))
            .map_err(|source| StoreError::new(&self.path, source))?;
        found.changed = false;
        Ok(())
    }

    fn known(&self, step: &str) -> Option<String> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.rows.get(step).map(|(name, _)| name.clone())
    }

    fn note(&self, step: String, name: &str, figures: String) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.rows.insert(step, (name.to_string(), figures));
        found.changed = true;
    }
}

/// The rows of a file, those of another processor left out; else the number of a line that is none.
fn parse(text: &str, head: &str) -> Result<BTreeMap<String, (String, String)>, usize> {
    let mut lines = text.lines().enumerate();
    if lines.next().is_none_or(|(_, first)| first != head) {
        return Ok(BTreeMap::new());
    }
    lines
        .map(|(i, line)| match line.split('\t').collect::<Vec<_>>()[..] {
            [step, name, figures] if !step.is_empty() => {
                Ok((step.to_string(), (name.to_string(), figures.to_string())))
            }
            _ => Err(i + 1),
        })
        .collect()
}

/// Makes the step's kernel: the choice that was found to be fastest, the one found so now, or the first, which is what the
/// formulas say. `step` says all that the time depends on but the processor; `results` are what it writes.
pub(crate) fn choose(
    cx: &Cx<'_>,
    step: String,
    results: &[ValueId],
    choices: &[Choice<'_>],
) -> Option<Lowered> {
    let first = choices.first()?;
    let Some(tuning) = cx.shared.tuning.as_ref().filter(|_| choices.len() > 1) else {
        return Some((first.make)());
    };
    if let Some(name) = tuning.known(&step)
        && let Some(choice) = choices.iter().find(|choice| choice.name == name)
    {
        return Some((choice.make)());
    }
    if !tuning.measures {
        return Some((first.make)());
    }
    let times: Vec<f64> = choices
        .iter()
        .map(|choice| {
            let seconds = seconds(cx, &(choice.make)(), results);
            cx.shared.weights.drop_unused();
            seconds
        })
        .collect();
    let best = times.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
    let figures: Vec<String> = choices
        .iter()
        .zip(&times)
        .map(|(choice, seconds)| format!("{} {:.1} us", choice.name, seconds * 1e6))
        .collect();
    tuning.note(step, choices[best].name, figures.join(", "));
    Some((choices[best].make)())
}

/// The median time of a kernel on memory of its own; infinite when there is none or it fails.
fn seconds(cx: &Cx<'_>, lowered: &Lowered, results: &[ValueId]) -> f64 {
    timed(cx, lowered, results).unwrap_or(f64::INFINITY)
}

fn timed(cx: &Cx<'_>, lowered: &Lowered, results: &[ValueId]) -> Option<f64> {
    let bytes = |v: &ValueId| cx.dtype(*v).bytes_for(cx.len(*v));
    let mut buffers = Vec::new();
    for v in lowered.operands.iter().chain(results) {
        buffers.push(Buffer::new(bytes(v)?)?);
    }
    buffers.push(Buffer::new(lowered.scratch)?);
    let memories: Vec<Raw> = buffers.iter().map(Buffer::raw).collect();
    let all: Vec<Location> = memories
        .iter()
        .enumerate()
        .map(|(memory, raw)| Location { memory, offset: 0, len: raw.len })
        .collect();
    let (operands, rest) = all.split_at(lowered.operands.len());
    let (results, scratch) = rest.split_at(results.len());
    let io = Io {
        operands,
        results,
        scratch: *scratch.first()?,
        memories: &memories,
        pool: &cx.shared.pool,
        simd: cx.shared.simd,
    };
    let (_, l2) = Caches::detect_once().for_blocking();
    let other = Buffer::new(2 * l2 * cx.threads())?;
    lowered.kernel.run(&io).ok()?;
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < LEAST_RUNS || (start.elapsed() < LEAST_TIME && times.len() < MOST_RUNS) {
        push_out(&cx.shared.pool, &other);
        let start = Instant::now();
        lowered.kernel.run(&io).ok()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// Reads other memory, each thread a share of it.
fn push_out(pool: &crate::pool::Pool, other: &Buffer) {
    let bytes = other.as_ref();
    let share = bytes.len() / pool.threads();
    pool.parallel_for(pool.threads(), |task, _| {
        let lines = bytes[task * share..(task + 1) * share].iter().step_by(64);
        std::hint::black_box(lines.map(|&x| u64::from(x)).sum::<u64>());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_they_were_written() {
        let folder = std::env::temp_dir().join(format!("anychip-tuning-{}", std::process::id()));
        let open = || Tuning::open(&folder, Simd::Scalar, false);
        let tuning = open().unwrap();
        assert_eq!(tuning.known("a step"), None);
        tuning.note("a step".to_string(), "winograd", "direct 2.0 us, winograd 1.0 us".to_string());
        tuning.keep().unwrap();
        assert_eq!(open().unwrap().known("a step").as_deref(), Some("winograd"));
        // Another version's are not used; a damaged one is named.
        let path = tuning.path.clone();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("anychip", "anychip 0.0", 1)).unwrap();
        assert_eq!(open().unwrap().known("a step"), None);
        std::fs::write(&path, format!("{text}no row\n")).unwrap();
        let error = open().err().expect("a damaged file").to_string();
        assert!(error.contains("line 3"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
