//! The flags of `anychip choose`.

use std::path::PathBuf;

use anychip::{Metric, Precision};
use anychip_units::{
    Joules, PerSecond, PerUsDollar, Seconds, SquareMillimeters, UsDollars, UsDollarsPerHour, Watts,
};
use clap::{Args, ValueHint};

use super::{ChipFilter, parse_dim, parse_precision};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  anychip choose models/digits-cnn.onnx --max-power 15W
  anychip choose zoo:resnet50 --max-latency 10ms --for throughput-per-dollar
  anychip choose zoo:resnet50 --max-power 15W --max-price 500usd --dtype int8
  anychip choose zoo:llama-2-7b,phase=decode --max-price-per-hour 2usd/h --for latency

The front is what no other chip is better than: better in one figure by more than the intervals and worse in
none. Figures are of the chip as the catalogue has it, a card or module as a rule, without the host around it.")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Choose {
    /// An ONNX file; zoo:NAME, a built-in architecture with random weights (`anychip inspect zoo:` lists
    /// them); or a Hugging Face config.json. Settings may follow the last two, as in
    /// zoo:llama-2-7b,phase=decode,context=2048
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: PathBuf,
    /// The most time one run of a batch may take, as 10ms
    #[arg(long, value_name = "TIME", value_parser = anychip_units::parse::<Seconds>, allow_hyphen_values = true)]
    pub(crate) max_latency: Option<f64>,
    /// The least inferences a second, as 200/s
    #[arg(long, value_name = "RATE", value_parser = anychip_units::parse::<PerSecond>, allow_hyphen_values = true)]
    pub(crate) min_throughput: Option<f64>,
    /// The least inferences a dollar buys, as 100k/usd
    #[arg(long, value_name = "RATE", value_parser = anychip_units::parse::<PerUsDollar>, allow_hyphen_values = true)]
    pub(crate) min_throughput_per_dollar: Option<f64>,
    /// The most energy of one inference, as 3mJ
    #[arg(long, value_name = "ENERGY", value_parser = anychip_units::parse::<Joules>, allow_hyphen_values = true)]
    pub(crate) max_energy: Option<f64>,
    /// The most power, as 15W
    #[arg(long, value_name = "POWER", value_parser = anychip_units::parse::<Watts>, allow_hyphen_values = true)]
    pub(crate) max_power: Option<f64>,
    /// The most to buy the chip for, as 500usd
    #[arg(long, value_name = "PRICE", value_parser = anychip_units::parse::<UsDollars>, allow_hyphen_values = true)]
    pub(crate) max_price: Option<f64>,
    /// The most to rent the chip for, as 2usd/h
    #[arg(long, value_name = "RENT", value_parser = parse_rent, allow_hyphen_values = true)]
    pub(crate) max_price_per_hour: Option<f64>,
    /// The largest board (or silicon, where no board is known), as 100mm2
    #[arg(long, value_name = "AREA", value_parser = anychip_units::parse::<SquareMillimeters>, allow_hyphen_values = true)]
    pub(crate) max_area: Option<f64>,
    /// What to be best at: latency, throughput, throughput-per-dollar, power, energy, price, price-per-hour, size
    #[arg(long = "for", value_name = "GOAL", value_parser = parse_goal)]
    pub(crate) goal: Option<Metric>,
    /// Batch sizes to consider; powers of two when absent
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(crate) batch: Vec<u64>,
    /// Number formats to consider (f32, f16, bf16, fp8, int8, int4); when absent the model's own, f16 and bf16: of
    /// smaller ones the accuracy is not known
    #[arg(long, value_name = "FORMAT,…", value_delimiter = ',', value_parser = parse_precision)]
    pub(crate) dtype: Vec<Precision>,
    /// Size of a named dim other than the batch, as NAME=SIZE; may be repeated
    #[arg(long = "dim", value_name = "NAME=SIZE", value_parser = parse_dim)]
    pub(crate) dims: Vec<(String, usize)>,
    /// Chips to choose from, by catalogue name; all of them when absent
    #[arg(long, value_delimiter = ',', value_name = "A,B,…")]
    pub(crate) chips: Vec<String>,
    #[command(flatten)]
    pub(crate) which: ChipFilter,
    /// Software to estimate instead of each chip's usual one
    #[arg(long, value_name = "NAME")]
    pub(crate) stack: Option<String>,
    /// Run the model on this machine's CPU instead of estimating it there
    #[arg(long)]
    pub(crate) measure: bool,
    /// Threads for this machine's CPU; all when absent
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: Option<u32>,
    /// More catalogue files, TOML
    #[arg(long = "catalog", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) catalogs: Vec<PathBuf>,
    /// List every chip that lost, with its figures
    #[arg(long)]
    pub(crate) all: bool,
    /// Also print where every figure comes from and why figures are absent
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Print Records with their verdicts, one JSON object a line: the front first
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_goal(text: &str) -> Result<Metric, String> {
    Metric::from_word(text).ok_or_else(|| {
        let known = Metric::ALL.map(Metric::word).join(", ");
        format!("no such goal; known are {known}")
    })
}

/// A rent; the flag's name says that it is by the hour, so an amount alone will do.
fn parse_rent(text: &str) -> Result<f64, anychip_units::ParseError> {
    anychip_units::parse::<UsDollarsPerHour>(text)
        .or_else(|error| anychip_units::parse::<UsDollars>(text).map_err(|_| error))
}
