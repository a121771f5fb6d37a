//! How long a language model's kernels take together on a chip.

use anychip_chips::{Chip, Family, Precision};

use super::calls::{Call, Work};
use super::engine::Engine;
use super::product::Product;
use super::table::{KernelTable, Kind};
use super::tables::ServingTables;
use crate::whole::Span;

/// The number formats of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Of arithmetic and activations.
    pub arithmetic: Precision,
    /// Of the weights of linear layers, where another: `int8` or `int4`.
    pub weights: Option<Precision>,
}

/// A run of all kernels.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// The time.
    pub span: Span,
    /// Where it comes from.
    pub source: String,
}

/// A number format as the tables name it, with the bytes of an activation and of a weight.
struct Format {
    word: &'static str,
    /// What the products' arithmetic is in.
    precision: Precision,
    activation_bytes: f64,
    weight_bytes: f64,
}

const PLAIN: Format = Format {
    word: "bfloat16",
    precision: Precision::Bf16,
    activation_bytes: 2.0,
    weight_bytes: 2.0,
};

impl Format {
    /// `None` where no kernels in such formats were measured.
    fn of(numbers: Numbers) -> Option<Self> {
        Some(match (numbers.arithmetic, numbers.weights) {
            (Precision::F16 | Precision::Bf16, None) => PLAIN,
            (Precision::F16 | Precision::Bf16, Some(Precision::Int8)) => {
                Self { word: "int8_wo", weight_bytes: 1.0, ..PLAIN }
            }
            (Precision::F16 | Precision::Bf16, Some(Precision::Int4)) => {
                Self { word: "int4_wo", weight_bytes: 0.5, ..PLAIN }
            }
            (Precision::Fp8, None) => Self {
                word: "fp8",
                precision: Precision::Fp8,
                activation_bytes: 1.0,
                weight_bytes: 1.0,
            },
            (Precision::Int8, None) => Self {
                word: "sq",
                precision: Precision::Int8,
                activation_bytes: 1.0,
                weight_bytes: 1.0,
            },
            _ => return None,
        })
    }
}

/// The software whose kernels are asked for first, and what stands in for formats that were not measured with it.
const SOFTWARE: [&str; 2] = ["vllm", "trtllm"];

/// The newest measured kernels of [`SOFTWARE`] in a format.
fn newest<'a>(table: &'a KernelTable, format: &str, chip: &str) -> Option<&'a Kind> {
    SOFTWARE.iter().find_map(|name| table.newest(name, format, chip))
}

/// The time of all `calls` on a chip, in serving software; `None` where the chip is no GPU of the vendor that was
/// measured, the catalog does not describe it well enough, or no such number formats were measured.
///
/// Errors of kernels are taken to be all of the same sign: the interval is the sum of theirs.
pub fn serve(
    tables: &ServingTables,
    calls: &[Call],
    chip: &Chip,
    numbers: Numbers,
) -> Option<Served> {
    if chip.family != Family::Gpu || chip.vendor != "NVIDIA" {
        return None;
    }
    let format = Format::of(numbers)?;
    let engine = Engine::of(chip, format.precision)?;
    let plain = Engine::of(chip, PLAIN.precision).or_else(|| Engine::of(chip, Precision::F16))?;
    let products = newest(&tables.products, format.word, &chip.id)?;
    let head = newest(&tables.products, PLAIN.word, &chip.id)?;
    let prefill = newest(&tables.prefill, ATTENTION_FORMAT, &chip.id)?;
    let decode = newest(&tables.decode, ATTENTION_FORMAT, &chip.id)?;
    let seen = tables.products.has_seen(&chip.id);
    let mut span = Span { seconds: 0.0, low: 0.0, high: 0.0 };
    let mut attention = None;
    for Call { work, count } in calls {
        let (log_seconds, band) = match work {
            Work::Product { m, n, k, quantized } => {
                let (format, engine, kind) =
                    if *quantized { (&format, &engine, products) } else { (&PLAIN, &plain, head) };
                let product = Product {
                    m: *m,
                    n: *n,
                    k: *k,
                    activation_bytes: format.activation_bytes,
                    weight_bytes: format.weight_bytes,
                };
                let table = &tables.products;
                let sized = product.features(engine);
                (table.log_seconds(&kind.software, format.word, &sized), band(table, seen))
            }
            Work::Attention(call) => {
                let (table, kind) = if call.is_prefill() {
                    (&tables.prefill, prefill)
                } else {
                    (&tables.decode, decode)
                };
                attention = Some(kind);
                let sized = call.features(&plain);
                (table.log_seconds(&kind.software, ATTENTION_FORMAT, &sized), band(table, seen))
            }
            Work::Moving { bytes } => (plain.moving(*bytes).ln(), MOVING_BAND),
        };
        span.seconds += count * log_seconds.exp();
        span.low += count * (log_seconds + band[0].min(0.0)).exp();
        span.high += count * (log_seconds + band[1].max(0.0)).exp();
    }
    let mut source = format!(
        "predict/serving v{}, products of {}, attention of {}; intervals from {} left out; sums of kernels, whole models not validated",
        tables.version,
        products.software,
        attention?.software,
        if seen { "sizes" } else { "devices" },
    );
    if !seen {
        source += "; not measured on this chip";
    }
    Some(Served { span, source })
}

/// Attention in 16 bits with a cache in 16 bits, as serving software keeps it unless told otherwise.
const ATTENTION_FORMAT: &str = "bfloat16/bfloat16";

/// What small kernels may be off by; no measurement of them went in, and they are a small part of any run.
const MOVING_BAND: [f64; 2] = [-0.7, 0.7];

/// The interval of one kernel's logarithm.
fn band(table: &KernelTable, seen: bool) -> [f64; 2] {
    if seen { table.known } else { table.unknown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::attention::AttentionCall;

    fn decode(batch: f64, keys: f64) -> Vec<Call> {
        let attention = AttentionCall {
            batch,
            queries: 1.0,
            keys,
            heads: 32.0,
            key_heads: 8.0,
            depth: 128.0,
            window: f64::INFINITY,
            cache_bytes: 2.0,
        };
        vec![
            Call {
                work: Work::Product { m: batch, n: 28_672.0, k: 4096.0, quantized: true },
                count: 32.0,
            },
            Call { work: Work::Attention(attention), count: 32.0 },
            Call { work: Work::Moving { bytes: batch * 8192.0 }, count: 64.0 },
        ]
    }

    fn seconds(chip: &str, calls: &[Call], weights: Option<Precision>) -> Span {
        let catalog = anychip_chips::Catalog::builtin().expect("built in");
        let tables = ServingTables::builtin().expect("built in");
        let numbers = Numbers { arithmetic: Precision::Bf16, weights };
        let chip = catalog.find(chip).expect("in the catalog");
        serve(tables, calls, chip, numbers).expect("served").span
    }

    #[test]
    fn more_context_and_larger_batches_take_longer_and_smaller_weights_less() {
        let h100 = "nvidia-h100-sxm5-80gb";
        let base = seconds(h100, &decode(1.0, 1024.0), None);
        assert!(base.low < base.seconds && base.seconds < base.high);
        assert!(seconds(h100, &decode(64.0, 8192.0), None).seconds > 1.2 * base.seconds);
        let int4 = seconds(h100, &decode(1.0, 1024.0), Some(Precision::Int4)).seconds;
        assert!(int4 < 0.8 * base.seconds, "{int4} of {}", base.seconds);
        // The weights alone are read in 32 · 2 · 28,672 · 4096 bytes / 3.35 TB/s = 2.24 ms.
        assert!((2.24e-3..4.5e-3).contains(&base.seconds), "{}", base.seconds);
        assert!(
            seconds("nvidia-a100-sxm4-80gb", &decode(1.0, 1024.0), None).seconds > base.seconds
        );
    }

    #[test]
    fn chips_unlike_those_measured_are_not_served() {
        let catalog = anychip_chips::Catalog::builtin().expect("built in");
        let tables = ServingTables::builtin().expect("built in");
        let numbers = Numbers { arithmetic: Precision::Bf16, weights: None };
        let chip = catalog.find("amd-mi300x").expect("in the catalog");
        assert_eq!(serve(tables, &decode(1.0, 64.0), chip, numbers), None);
        let chip = catalog.find("nvidia-h100-sxm5-80gb").expect("in the catalog");
        let numbers = Numbers { arithmetic: Precision::F64, weights: None };
        assert_eq!(serve(tables, &decode(1.0, 64.0), chip, numbers), None);
    }
}
