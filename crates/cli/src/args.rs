//! The command line: every flag with its help, and examples a newcomer can paste.

mod choose;
mod diff;
mod optimize;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use anychip::{CompileOptions, Family, Order, Precision};
use anychip_units::{Bytes, PerSecond, Seconds, Watts};
use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

pub(crate) use choose::Choose;
pub(crate) use diff::Diff;
pub(crate) use optimize::{Algorithm, Equalizing, Optimize, Precision as QuantizeTo, RangeMethod};

/// One trained model in, any accelerator out: run it here, estimate it everywhere else, with the basis of each number.
#[derive(Debug, Parser)]
#[command(
    name = "anychip",
    version,
    about,
    after_help = "Examples:
  anychip compare models/digits-cnn.onnx
  anychip choose models/digits-cnn.onnx --max-power 15W --for latency
  anychip run models/digits-cnn.onnx --input models/digits-cnn.npz
  anychip bench model.onnx --batch 8 --threads 2
  anychip chips nvidia-a100-sxm4-80gb

Exit status: 0 done, 1 the model or data cannot be processed, 2 wrong usage."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compare chips for a model: what is here is measured, the rest is estimated
    Compare(Compare),
    /// Choose a chip for a model under limits: what is best, and why each other chip is not
    Choose(Box<Choose>),
    /// Run a model on real inputs
    Run(Run),
    /// Time a model on a chip that is here
    Bench(Bench),
    /// Write the program of a model for a chip: StableHLO, and what the vendor's own compiler makes of it
    Build(Build),
    /// What a vendor's compiler makes of StableHLO for a chip that is not here; `build` runs it in a process of its own
    #[command(hide = true)]
    AheadOfTime(AheadOfTime),
    /// Write the optimized model as a standard ONNX file: fused, folded, in fewer bits
    Optimize(Box<Optimize>),
    /// Compare two models value by value on one input: where they begin to differ
    Diff(Diff),
    /// What is in a model: operators, parameters, work, memory, and which targets run it
    Inspect(Inspect),
    /// What every pass changed, and where every node went and why
    Explain(Explain),
    /// The catalogue of chips, each figure with its source
    Chips(Chips),
    /// Which accelerators and meters are here, and what each missing one would give
    Doctor(Doctor),
    /// Print shell completions
    Completions(Completions),
}

/// A model and the sizes it leaves open.
#[derive(Debug, Args)]
pub(crate) struct ModelArguments {
    /// An ONNX file; zoo:NAME, a built-in architecture with random weights (`anychip inspect zoo:` lists
    /// them); or a Hugging Face config.json. Settings may follow the last two, as in
    /// zoo:llama-2-7b,phase=decode,context=2048
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: PathBuf,
    /// Size of the first dim of every input that leaves it open
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) batch: u64,
    /// Size of another named dim, as NAME=SIZE; may be repeated
    #[arg(long = "dim", value_name = "NAME=SIZE", value_parser = parse_dim)]
    pub(crate) dims: Vec<(String, usize)>,
}

fn parse_dim(text: &str) -> Result<(String, usize), String> {
    let (name, size) = text.split_once('=').ok_or("expected NAME=SIZE, as in sequence=128")?;
    let size = size.parse().map_err(|_| format!("`{size}` is not a size"))?;
    Ok((name.to_string(), size))
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  anychip compare models/digits-cnn.onnx
  anychip compare bert.onnx --chips cpu,nvidia-a100-sxm4-80gb,google-tpu-v4 --dim sequence=128
  anychip compare resnet50.onnx --batch 8 --estimate --json > records.jsonl
  anychip compare zoo:mixtral-8x7b,phase=decode,context=2048 --estimate
  anychip compare llama/config.json,phase=prefill,sequence=512 --estimate
  anychip compare resnet50.onnx --html report.html   then open report.html in a browser
  anychip compare records.jsonl --html report.html   an old run drawn again
  anychip compare old.jsonl new.jsonl                what changed between two runs
  anychip compare zoo:llama-2-70b,phase=decode,context=4096 --batch 16 --weights int4 --estimate")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Compare {
    #[command(flatten)]
    pub(crate) model: ModelArguments,
    /// With two files that `compare --json` wrote, an old and a new run: what changed between them
    #[arg(value_name = "NEW.jsonl", value_hint = ValueHint::FilePath, conflicts_with_all = ["chips", "dtype", "stack",
        "estimate", "threads", "catalogs", "batch", "dims", "verbose", "layers"])]
    pub(crate) new: Option<PathBuf>,
    /// Chips to compare, by catalogue name; all of them when absent
    #[arg(long, value_delimiter = ',', value_name = "A,B,…")]
    pub(crate) chips: Vec<String>,
    /// Number format to estimate in instead of the model's own (f32, f16, bf16, fp8, int8)
    #[arg(long, value_name = "FORMAT")]
    pub(crate) dtype: Option<String>,
    /// Keep the weights of linear layers in fewer bits than arithmetic has; estimates only
    #[arg(long, value_name = "FORMAT")]
    pub(crate) weights: Option<WeightFormat>,
    /// Chips of a kind that estimates split the model over; as many as its memory needs when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) devices: Option<u32>,
    /// Software to estimate instead of each chip's usual one
    #[arg(long, value_name = "NAME")]
    pub(crate) stack: Option<String>,
    /// Run nothing, estimate everything
    #[arg(long)]
    pub(crate) estimate: bool,
    /// Threads for what is measured; all when absent
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: Option<u32>,
    /// More catalogue files, TOML
    #[arg(long = "catalog", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) catalogs: Vec<PathBuf>,
    /// Also print where every figure comes from and why figures are absent
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Print Records, one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write a report: one HTML file with the table, charts and the Records, which needs no network
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) html: Option<PathBuf>,
    /// With --json: also the time of each layer
    #[arg(long, requires = "json")]
    pub(crate) layers: bool,
}

/// What weights can be kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WeightFormat {
    /// 8-bit integers
    Int8,
    /// 4-bit integers
    Int4,
}

/// How a model is run on a chip that is here.
#[derive(Debug, Args)]
pub(crate) struct Execution {
    /// Threads; all when absent
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: Option<u32>,
    /// Bind each thread but the first to a core of its own: steadier on a machine without other load, slower beside any
    #[arg(long)]
    pub(crate) pin: bool,
    /// The instruction set; the widest vectors when absent. On a CPU: scalar, neon, avx2, avx512, or amx for its matrix unit.
    /// On a simulated array: stepped, to compute products cycle by cycle
    #[arg(long, value_name = "NAME")]
    pub(crate) isa: Option<String>,
    /// Let each layer round by up to 1e-5 of its largest result where that is faster
    #[arg(long)]
    pub(crate) relaxed: bool,
    /// Keep packed weights in this folder: the next start maps them. What is in it may be deleted at any time
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) cache: Option<PathBuf>,
    /// Time each choice between kernels once, instead of using formulas, and keep what is fastest here in --cache
    #[arg(long, requires = "cache")]
    pub(crate) tune: bool,
}

impl Execution {
    pub(crate) fn compile_options(&self) -> CompileOptions {
        CompileOptions {
            threads: self.threads.map(|n| n as usize),
            pin: self.pin,
            relaxed: self.relaxed,
            isa: self.isa.clone(),
            cache: self.cache.clone(),
            tune: self.tune,
            ..CompileOptions::default()
        }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "The archive's keys are the model's input names; `anychip inspect MODEL` lists them. An array called
`labels` is compared with the largest output of each row, and the accuracy printed.

Examples:
  anychip run models/digits-cnn.onnx --input models/digits-cnn.npz
  anychip run model.onnx --input x.npz --output y.npz --threads 1"
)]
pub(crate) struct Run {
    /// An ONNX file; zoo:NAME, a built-in architecture with random weights (`anychip inspect zoo:` lists
    /// them); or a Hugging Face config.json. Settings may follow the last two, as in
    /// zoo:llama-2-7b,phase=decode,context=2048
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: PathBuf,
    /// Inputs: a NumPy archive
    #[arg(long, short, value_name = "IN.npz", value_hint = ValueHint::FilePath)]
    pub(crate) input: PathBuf,
    /// Where to write the outputs
    #[arg(long, short, value_name = "OUT.npz", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// The chip to run on
    #[arg(long, default_value = "cpu", value_name = "CHIP")]
    pub(crate) on: String,
    /// The key of the labels in the archive
    #[arg(long, default_value = "labels", value_name = "KEY")]
    pub(crate) labels: String,
    #[command(flatten)]
    pub(crate) execution: Execution,
    /// Run the graph as imported, without any pass
    #[arg(long)]
    pub(crate) no_optimize: bool,
    /// Print the outputs as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  anychip bench models/digits-cnn.onnx
  anychip bench resnet50.onnx --batch 8 --threads 1 --min-duration 10s --json
  anychip bench resnet50.onnx --scenario server --latency-bound 50ms --min-duration 10s
  anychip bench zoo:resnet50 --on google-tpu-v4 --dtype bf16 --layers --trace timeline.json")]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) model: ModelArguments,
    /// The chip to run on
    #[arg(long, default_value = "cpu", value_name = "CHIP")]
    pub(crate) on: String,
    #[command(flatten)]
    pub(crate) execution: Execution,
    /// Inputs to use instead of made-up ones: a NumPy archive
    #[arg(long, short, value_name = "IN.npz", value_hint = ValueHint::FilePath)]
    pub(crate) input: Option<PathBuf>,
    /// Least time in which queries are issued: 10s, or 600s as MLPerf asks
    #[arg(long, alias = "seconds", value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    pub(crate) min_duration: f64,
    /// Least number of queries; when absent 10, and with --scenario what its percentile takes: 36 for a p90, 368 for a p99
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) min_queries: Option<u32>,
    /// How queries arrive, by MLPerf's rules; one run after another when absent
    #[arg(long, value_enum)]
    pub(crate) scenario: Option<ScenarioName>,
    /// Of --scenario server: the time in which 99 of 100 queries have to be answered, as 15ms
    #[arg(long, value_name = "TIME", required_if_eq("scenario", "server"), value_parser = anychip_units::parse::<Seconds>)]
    pub(crate) latency_bound: Option<f64>,
    /// Of --scenario server: queries a second, as 200/s; the highest valid rate is looked for when absent
    #[arg(long, value_name = "RATE", requires = "latency_bound", value_parser = parse_rate)]
    pub(crate) target_qps: Option<f64>,
    /// Of --scenario server: decides the arrival times
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Time each layer too: where the time goes, and how near each comes to the machine's peaks
    #[arg(long)]
    pub(crate) layers: bool,
    /// Of a simulated chip: also write the timeline of a run, which ui.perfetto.dev opens
    #[arg(long, value_name = "FILE.json", value_hint = ValueHint::FilePath)]
    pub(crate) trace: Option<PathBuf>,
    /// Of a simulated chip: the number format that floats are taken to be computed in (int8, bf16 …)
    #[arg(long, value_name = "FORMAT", value_parser = parse_precision)]
    pub(crate) dtype: Option<Precision>,
    /// Print the Record as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How queries arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ScenarioName {
    /// One sample a query, the next when the last is done: p90 of latency
    SingleStream,
    /// Eight samples a query (in one run with --batch 8), the next when the last is done: p99 of latency
    MultiStream,
    /// Single samples at random times: the rate at which 99 of 100 are answered within --latency-bound
    Server,
    /// All at once: throughput
    Offline,
}

/// A time with its unit, or a bare number of seconds.
fn parse_duration(text: &str) -> Result<f64, String> {
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => anychip_units::parse::<Seconds>(text).map_err(|error| error.to_string())?,
    };
    if seconds.is_finite() && (0.0..=86_400.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("expected a time between 0 and 86400 seconds, as 10s".to_string())
    }
}

/// Queries a second, with or without the unit.
fn parse_rate(text: &str) -> Result<f64, String> {
    let with_unit =
        if text.parse::<f64>().is_ok() { format!("{text}/s") } else { text.to_string() };
    anychip_units::parse::<PerSecond>(&with_unit).map_err(|error| error.to_string())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  anychip build models/digits-cnn.onnx --for google-tpu-v5e -o digits-tpu
  anychip build zoo:resnet50 --batch 8 --for nvidia-a100-sxm4-80gb -o resnet-gpu

Where libtpu is in the active Python environment, programs for TPUs come with what the TPU's own compiler makes of them
and estimates: its memory and cycles are estimated, by the vendor's compiler, never measured.")]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) model: ModelArguments,
    /// The chip to compile for; it need not be here
    #[arg(long = "for", value_name = "CHIP")]
    pub(crate) chip: String,
    /// The folder to write into; made where it is missing
    #[arg(long, short, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) output: PathBuf,
    /// Let matrix units round what they multiply to fewer bits
    #[arg(long)]
    pub(crate) relaxed: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AheadOfTime {
    /// The plugin's file
    #[arg(long)]
    pub(crate) plugin: PathBuf,
    /// What the plugin calls the chip
    #[arg(long)]
    pub(crate) topology: String,
    /// The program
    #[arg(long)]
    pub(crate) program: PathBuf,
    /// The folder to write into
    #[arg(long, short)]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  anychip inspect models/digits-cnn.onnx
  anychip inspect bert.onnx --dim sequence=128 --layers
  anychip inspect zoo:
  anychip inspect zoo:llama-3-8b,phase=decode --dim context=4096")]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) model: ModelArguments,
    /// Also list every layer with its work and memory
    #[arg(long)]
    pub(crate) layers: bool,
    /// Print the graph in its text form, weights elided
    #[arg(long)]
    pub(crate) graph: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  anychip explain models/digits-cnn.onnx
  anychip explain model.onnx --on cpu --equations
  anychip explain zoo:resnet50 --on google-tpu-v1 --dtype int8")]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) model: ModelArguments,
    /// The chip to compile for
    #[arg(long, default_value = "cpu", value_name = "CHIP")]
    pub(crate) on: String,
    /// Of a simulated chip: the number format that floats are taken to be computed in (int8, bf16 …)
    #[arg(long, value_name = "FORMAT", value_parser = parse_precision)]
    pub(crate) dtype: Option<Precision>,
    /// Also print each pass's equation
    #[arg(long)]
    pub(crate) equations: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  anychip chips --family gpu,asic --vendor nvidia,amd --min-memory 40GB --sort memory
  anychip chips --max-power 15W --dtype int8 --sort peak
  anychip chips --year 2020..2022 --sort price --reverse
  anychip chips nvidia-t4                  every figure of one chip with its source
  anychip chips --check my-chip.toml       is my own chip file sound?
  anychip chips --catalog my-chip.toml     list it with the others

A chip whose figure for a limit is not known is left out, and counted.")]
pub(crate) struct Chips {
    /// One chip, by catalogue name: every figure with its source
    #[arg(conflicts_with_all = ["family", "vendor", "min_memory", "max_power", "dtype", "year", "sort", "reverse"])]
    pub(crate) chip: Option<String>,
    #[command(flatten)]
    pub(crate) which: ChipFilter,
    /// Only chips of at most so much power, as 75W
    #[arg(long, value_name = "POWER", value_parser = anychip_units::parse::<Watts>)]
    pub(crate) max_power: Option<f64>,
    /// Only chips with a rate for this number format, whose peaks are then shown and sorted by:
    /// f64, f32, tf32, f16, bf16, fp8, fp4, int16, int8, int4
    #[arg(long, value_name = "FORMAT", value_parser = parse_precision)]
    pub(crate) dtype: Option<Precision>,
    /// Sort by year (newest first), power (least), memory, bandwidth, peak (most), price (cheapest) or name
    #[arg(long, value_name = "BY", value_parser = parse_order)]
    pub(crate) sort: Option<Order>,
    /// Sort the other way round; what is not known stays last
    #[arg(long, requires = "sort")]
    pub(crate) reverse: bool,
    /// Check chip files of your own, TOML, and list all that is wrong with them
    #[arg(long, value_name = "FILE", num_args = 1.., value_hint = ValueHint::FilePath, exclusive = true)]
    pub(crate) check: Vec<PathBuf>,
    /// More catalogue files, TOML
    #[arg(long = "catalog", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) catalogs: Vec<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which chips of the catalogue are asked about.
#[derive(Debug, Args)]
pub(crate) struct ChipFilter {
    /// Only these families: cpu, gpu, tpu, asic, soc, wafer-scale, fpga, neuromorphic, quantum
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', value_parser = parse_family)]
    pub(crate) family: Vec<Family>,
    /// Only vendors whose name contains one of these
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    pub(crate) vendor: Vec<String>,
    /// Only chips with at least so much main memory, as 40GB
    #[arg(long, value_name = "SIZE", value_parser = anychip_units::parse::<Bytes>)]
    pub(crate) min_memory: Option<f64>,
    /// Only chips that came out in these years: 2022, 2020.., ..2018, 2018..2020
    #[arg(long, value_name = "YEARS", value_parser = parse_years)]
    pub(crate) year: Option<RangeInclusive<u16>>,
}

fn parse_family(text: &str) -> Result<Family, String> {
    Family::from_word(text).ok_or_else(|| {
        let known = Family::ALL.map(Family::word).join(", ");
        format!("no such family; known are {known}")
    })
}

fn parse_precision(text: &str) -> Result<Precision, String> {
    Precision::from_word(text).ok_or_else(|| {
        let known = Precision::ALL.map(Precision::word).join(", ");
        format!("no such number format; known are {known}")
    })
}

fn parse_order(text: &str) -> Result<Order, String> {
    Ok(match text {
        "year" => Order::Year,
        "power" => Order::Power,
        "memory" => Order::Memory,
        "bandwidth" => Order::Bandwidth,
        "peak" => Order::Peak,
        "price" => Order::Price,
        "name" => Order::Name,
        _ => return Err("expected year, power, memory, bandwidth, peak, price or name".to_owned()),
    })
}

/// `2022`, `2020..`, `..2018`, `2018..2020` (both ends count), `2018..=2020`.
fn parse_years(text: &str) -> Result<RangeInclusive<u16>, String> {
    let year = |text: &str, open: u16| {
        if text.is_empty() {
            return Ok(open);
        }
        let year = text.parse().ok().filter(|year| (1970..2100).contains(year));
        year.ok_or_else(|| {
            format!("`{text}` is not a year; write 2022, 2020.., ..2018 or 2018..2020")
        })
    };
    let (first, last) = match text.split_once("..") {
        Some((first, last)) => {
            (year(first, 1970)?, year(last.strip_prefix('=').unwrap_or(last), 2099)?)
        }
        None => (year(text, 0)?, year(text, 0)?),
    };
    if first == 0 {
        return Err("a year is needed, as in 2022 or 2020..".to_owned());
    }
    if first > last {
        return Err(format!("{first} is after {last}; write {last}..{first}"));
    }
    Ok(first..=last)
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  anychip doctor
  anychip doctor --json")]
pub(crate) struct Doctor {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  anychip completions bash > ~/.local/share/bash-completion/completions/anychip
  anychip completions zsh > ~/.zfunc/_anychip")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}
