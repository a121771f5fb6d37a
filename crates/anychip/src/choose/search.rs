//! The candidates: each chip with the batch sizes and number formats that make sense for it.

use std::collections::BTreeMap;

use anychip_chips::{Chip, Precision};
use anychip_ir::Graph;
use anychip_predict::{Counted, model_precision};
use anychip_record::Record;
use anychip_target::CompileOptions;

use super::limit::{Fit, Limit};
use super::metric::Metric;
use crate::compare::{CompareOptions, estimate};
use crate::inputs::made_up;
use crate::machine::{check_memory, with_peaks};
use crate::measure::{MeasureOptions, Subject, measure};
use crate::model::{choose_sizes, optimize, with_sizes};
use crate::{Error, Model};

/// What to search.
#[derive(Debug, Clone, Default)]
pub struct SearchOptions {
    /// Batch sizes; powers of two up to what fits memory and the limit on latency when empty.
    pub batches: Vec<u64>,
    /// Number formats to estimate in; when empty the model's own and, if that is a float of 16 bits or more, the others of
    /// 16 and 32 bits: of smaller ones nobody knows the accuracy.
    pub precisions: Vec<Precision>,
    /// Software to estimate with; each chip's usual when absent.
    pub stack: Option<String>,
    /// Run what is here instead of estimating it, in the model's own format.
    pub measure: bool,
    /// Threads for what is measured.
    pub threads: Option<usize>,
    /// Numbers for named sizes of the model.
    pub sizes: BTreeMap<String, usize>,
}

/// The largest batch that is tried unasked.
const LARGEST_BATCH: u64 = 1024;

/// A chip whose throughput grows by less than this factor when its batch doubles twice is full.
const STILL_GROWING: f64 = 1.02;

/// A chip under search.
struct Contender<'a> {
    chip: std::borrow::Cow<'a, Chip>,
    /// Larger batches may still be worth a try.
    open: bool,
    /// The best throughput of each batch so far.
    throughputs: Vec<f64>,
    /// Why it cannot run the smallest batch.
    refused: Option<Record>,
    records: Vec<Record>,
}

/// Estimates the model on each chip, with each batch and format that makes sense; `progress` hears what comes next. Every
/// chip has at least one record; one that cannot run the model in any format has one that says why.
///
/// `limits` end the search for larger batches where they can only break them.
///
/// # Errors
/// When the model cannot be counted, or not be run where it shall be.
pub fn search(
    model: &Model,
    chips: &[Chip],
    limits: &[Limit],
    options: &SearchOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Record>, Error> {
    let sha256 = model.sha256()?;
    let mut contenders: Vec<Contender<'_>> = chips
        .iter()
        .map(|chip| Contender {
            chip: with_peaks(chip, options.threads),
            open: true,
            throughputs: Vec::new(),
            refused: None,
            records: Vec::new(),
        })
        .collect();
    for batch in batches(model, options)? {
        progress(&format!("batch {batch}"));
        let graph = graph_for(model, options, batch)?;
        let subject = Subject { model: model.name(), model_sha256: &sha256, graph: &graph, batch };
        let counted = Counted::new(&graph)?;
        let asked = Asked {
            subject: &subject,
            counted: &counted,
            formats: formats(&graph, options),
            limits,
            options,
        };
        for contender in contenders.iter_mut().filter(|one| one.open) {
            asked.of(contender)?;
        }
        if contenders.iter().all(|one| !one.open) {
            break;
        }
    }
    Ok(contenders
        .into_iter()
        .flat_map(|one| {
            let refused = if one.records.is_empty() { one.refused } else { None };
            one.records.into_iter().chain(refused)
        })
        .collect())
}

/// The batches to try. A model whose inputs leave no batch open has the one it was exported with.
fn batches(model: &Model, options: &SearchOptions) -> Result<Vec<u64>, Error> {
    let numbers = |batch: usize| {
        choose_sizes(model.graph(), &options.sizes, model.usual_sizes(), batch)
            .map(|sizes| sizes.numbers)
    };
    if numbers(1)? == numbers(2)? {
        return match options.batches.as_slice() {
            [] | [1] => Ok(vec![1]),
            _ => Err(Error::FixedBatch),
        };
    }
    if options.batches.is_empty() {
        let powers = (0..u64::BITS).map(|power| 1 << power);
        return Ok(powers.take_while(|&batch| batch <= LARGEST_BATCH).collect());
    }
    let mut batches = options.batches.clone();
    batches.sort_unstable();
    batches.dedup();
    Ok(batches)
}

fn graph_for(model: &Model, options: &SearchOptions, batch: u64) -> Result<Graph, Error> {
    let batch = usize::try_from(batch).unwrap_or(usize::MAX);
    let sizes = choose_sizes(model.graph(), &options.sizes, model.usual_sizes(), batch)?;
    Ok(optimize(&with_sizes(model.graph(), &sizes)?)?.0)
}

/// The formats to estimate in, the model's own first.
fn formats(graph: &Graph, options: &SearchOptions) -> Vec<Precision> {
    let own = model_precision(graph);
    let wide = matches!(own, Precision::F64 | Precision::F32 | Precision::F16 | Precision::Bf16);
    // A format as wide as the model's changes nothing and runs where the model's own does not.
    let mut formats = options.precisions.clone();
    if formats.is_empty() {
        formats.push(own);
        if wide {
            formats.extend([Precision::F16, Precision::Bf16, Precision::F32]);
        }
    }
    let own_first = |format: &Precision| *format != own;
    formats.sort_by_key(own_first);
    let mut once: Vec<Precision> = Vec::new();
    for format in formats {
        if !once.contains(&format) {
            once.push(format);
        }
    }
    once
}

/// One batch of the model, as every chip is asked about it.
struct Asked<'a> {
    subject: &'a Subject<'a>,
    counted: &'a Counted<'a>,
    formats: Vec<Precision>,
    limits: &'a [Limit],
    options: &'a SearchOptions,
}

impl Asked<'_> {
    /// Adds the records of this batch to a chip's, and closes the chip where larger batches are of no use.
    fn of(&self, contender: &mut Contender<'_>) -> Result<(), Error> {
        let mut found = Vec::new();
        let mut lacks_memory = false;
        for &precision in &self.formats {
            let record = self.record(&contender.chip, precision)?;
            if record.runs {
                found.push(record);
            } else if contender.refused.is_none()
                || (!lacks_memory && contender.chip.computes(precision))
            {
                // That it lacks memory says more than that it lacks a format, and most in the first format it has.
                lacks_memory = contender.chip.computes(precision);
                contender.refused = Some(record);
            }
        }
        if let (true, Some(refused)) = (found.is_empty(), &mut contender.refused) {
            self.suggest_formats(&contender.chip, refused);
        }
        let best = found.iter().map(|r| Metric::Throughput.merit(r)).fold(0.0, f64::max);
        contender.throughputs.push(best);
        contender.open = self.grows(&found, &contender.throughputs);
        contender.records.append(&mut found);
        Ok(())
    }

    /// Says of a chip that computes in none of the formats in which others it could be considered.
    fn suggest_formats(&self, chip: &Chip, refused: &mut Record) {
        if self.formats.iter().any(|&format| chip.computes(format)) {
            return;
        }
        // The one that most such chips have comes first, so that the reasons are few.
        let others = [Precision::Int8, Precision::F32, Precision::F16];
        let all = others.into_iter().chain(Precision::ALL);
        if let Some(other) = all.into_iter().find(|&format| chip.computes(format)) {
            let formats: Vec<&str> = self.formats.iter().map(|format| format.word()).collect();
            refused.why_not = Some(format!(
                "the catalog knows no arithmetic of it in {}; `--dtype {other}` considers the converted model",
                formats.join(", ")
            ));
        }
    }

    /// Whether a larger batch may be better at something and keep the limits.
    fn grows(&self, found: &[Record], throughputs: &[f64]) -> bool {
        if found.is_empty() || !self.options.batches.is_empty() {
            return !found.is_empty();
        }
        let too_slow = |record: &Record| {
            let latency = self.limits.iter().find(|limit| limit.metric == Metric::Latency);
            latency
                .is_some_and(|limit| matches!(limit.fit(record), Fit::Breaks | Fit::ProbablyBreaks))
        };
        // What is too slow may be what comes closest to the throughput that is asked for.
        let rate_asked = self.limits.iter().any(|limit| limit.metric == Metric::Throughput);
        if !rate_asked && found.iter().all(too_slow) {
            return false;
        }
        match throughputs {
            [.., before, _, now] => *now > STILL_GROWING * before,
            _ => true,
        }
    }

    fn record(&self, chip: &Chip, precision: Precision) -> Result<Record, Error> {
        let own = precision == self.counted.precision();
        let stack = self.options.stack.as_deref();
        if self.options.measure
            && own
            && stack.is_none_or(|stack| stack == "anychip")
            && crate::targets::is_attached(chip)
            && check_memory(self.subject.graph).is_ok()
        {
            let measuring = MeasureOptions {
                compile: CompileOptions {
                    threads: self.options.threads,
                    ..CompileOptions::default()
                },
                duration: std::time::Duration::from_millis(500),
                ..MeasureOptions::default()
            };
            let inputs = made_up(self.subject.graph)?;
            return measure(self.subject, chip, &inputs, &measuring, &mut |_| {});
        }
        let options = CompareOptions {
            precision: Some(precision),
            stack: self.options.stack.clone(),
            estimate_only: true,
            threads: self.options.threads,
            batch: self.subject.batch,
            layers: false,
            weights: None,
            devices: None,
        };
        estimate(self.subject, self.counted, chip, &options)
    }
}
