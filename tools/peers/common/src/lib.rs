//! What the worker programs of the Rust peers share: arguments, NumPy archives, the clock, and the line they print.
//!
//! `tools/peer_worker.py` is the same for the peers with a Python interface: same arguments, same answer.

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// `WORKER MODEL.onnx INPUTS.npz OUTPUTS.npz THREADS SECONDS`
pub struct Arguments {
    /// The ONNX file.
    pub model: PathBuf,
    /// Arrays keyed by input name.
    pub inputs: BTreeMap<String, Array>,
    /// What the model must answer, keyed by output name.
    pub expected: BTreeMap<String, Array>,
    /// Threads of one inference.
    pub threads: usize,
    /// Least time of the timed runs.
    pub timed: Duration,
}

/// An array of an archive, row-major.
pub struct Array {
    /// Extent of each axis.
    pub shape: Vec<usize>,
    /// The elements.
    pub data: Data,
}

/// The element types that models of the zoo take and give.
pub enum Data {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit integers.
    I64(Vec<i64>),
}

/// A model ready to run: gives its outputs as (shape, values), in the order of the names it was loaded with.
pub trait Session {
    /// One inference; the outputs are dropped outside the clock's care, as every peer does.
    fn run(&mut self) -> Result<()>;
    /// The outputs of the last run: name, shape, and the values as doubles.
    fn outputs(&self) -> Result<Vec<(String, Vec<usize>, Vec<f64>)>>;
}

/// Load with `load`, run once, check the answer, warm up, time, and print the figures as one line of JSON.
pub fn main<S: Session>(load: impl FnOnce(&Arguments) -> Result<S>) -> Result<()> {
    let arguments = arguments()?;
    let before = status("VmRSS")?;
    let start = Instant::now();
    let mut session = load(&arguments)?;
    let loaded = start.elapsed();
    session.run()?;
    let first = start.elapsed() - loaded;
    let peak = status("VmHWM")?;
    let error = worst_error(&session.outputs()?, &arguments.expected)?;
    let warm = Instant::now() + arguments.timed.min(Duration::from_secs(1));
    while Instant::now() < warm {
        session.run()?;
    }
    let (mut taken, start) = (Vec::new(), Instant::now());
    while start.elapsed() < arguments.timed || taken.len() < 3 {
        let begin = Instant::now();
        session.run()?;
        taken.push(begin.elapsed().as_secs_f64());
    }
    taken.sort_by(f64::total_cmp);
    let middle = taken.len() / 2;
    let median = if taken.len() % 2 == 1 {
        taken[middle]
    } else {
        f64::midpoint(taken[middle - 1], taken[middle])
    };
    let line = json!({
        "load_s": loaded.as_secs_f64(),
        "first_s": first.as_secs_f64(),
        "before_bytes": before,
        "peak_bytes": peak,
        "error": error,
        "median_s": median,
        "best_s": taken[0],
        "runs": taken.len(),
    });
    println!("{line}");
    Ok(())
}

fn arguments() -> Result<Arguments> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [model, inputs, outputs, threads, seconds] = given.as_slice() else {
        bail!("usage: MODEL.onnx INPUTS.npz OUTPUTS.npz THREADS SECONDS");
    };
    Ok(Arguments {
        model: model.into(),
        inputs: archive(inputs)?,
        expected: archive(outputs)?,
        threads: threads.parse().context("THREADS")?,
        timed: Duration::from_secs_f64(seconds.parse().context("SECONDS")?),
    })
}

/// Every array of a NumPy archive.
fn archive(path: &str) -> Result<BTreeMap<String, Array>> {
    let mut archive = zip::ZipArchive::new(File::open(path).with_context(|| path.to_owned())?)?;
    let mut arrays = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        let name = entry.name()?.trim_end_matches(".npy").to_owned();
        let array = array(entry).with_context(|| format!("{path}: {name}"))?;
        arrays.insert(name, array);
    }
    Ok(arrays)
}

fn array(entry: impl std::io::Read) -> Result<Array> {
    let file = npyz::NpyFile::new(entry)?;
    ensure!(file.order() == npyz::Order::C || file.shape().len() < 2, "not row-major");
    let shape = file.shape().iter().map(|&extent| extent as usize).collect();
    let data = match file.try_data::<f32>() {
        Ok(values) => Data::F32(values.collect::<Result<_, _>>()?),
        Err(file) => Data::I64(file.data::<i64>()?.collect::<Result<_, _>>()?),
    };
    Ok(Array { shape, data })
}

/// The largest difference over the largest value expected, of the worst output.
fn worst_error(
    found: &[(String, Vec<usize>, Vec<f64>)],
    expected: &BTreeMap<String, Array>,
) -> Result<f64> {
    ensure!(found.len() == expected.len(), "{} outputs of {}", found.len(), expected.len());
    let mut worst = 0.0_f64;
    for (name, shape, values) in found {
        let wanted = expected
            .get(name)
            .with_context(|| format!("an output `{name}` that nobody expects"))?;
        ensure!(
            *shape == wanted.shape,
            "output `{name}` has shape {shape:?}, not {:?}",
            wanted.shape
        );
        let wanted: Vec<f64> = match &wanted.data {
            Data::F32(values) => values.iter().map(|&v| f64::from(v)).collect(),
            Data::I64(values) => values.iter().map(|&v| v as f64).collect(),
        };
        let largest = wanted.iter().fold(f64::MIN_POSITIVE, |most, v| most.max(v.abs()));
        for (value, wanted) in values.iter().zip(&wanted) {
            let error = (value - wanted).abs() / largest;
            // `max` would drop a NaN.
            worst = if error.is_nan() { f64::INFINITY } else { worst.max(error) };
        }
    }
    ensure!(worst.is_finite(), "an answer is not a number");
    Ok(worst)
}

/// A size of this process that Linux keeps, in bytes.
fn status(key: &str) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|l| l.starts_with(key)).with_context(|| key.to_owned())?;
    let kibibytes: u64 = line.split_whitespace().nth(1).context("a size")?.parse()?;
    Ok(kibibytes * 1024)
}
