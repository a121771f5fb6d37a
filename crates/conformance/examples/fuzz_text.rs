//! Fuzzes the text form: mutates printed graphs and feeds them to the parser.
//!
//! `cargo run --release -p anychip-conformance --example fuzz_text -- --seconds 600 --seed 1`
//!
//! It starts from random graphs of primitives and from the suite's cases, which have every composite. What parses must
//! print, parse again to the same text, and verify. Any panic ends the run, after the text that caused it.

#[path = "../../ir/tests/support/mod.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared by tests and examples, which each use a part")]
mod support;

use std::time::{Duration, Instant};

use anychip_conformance::Family;
use anychip_ir::text::{parse, print};
use anychip_ir::{CompositeRow, verify};
use support::Rng;

/// Words that mean something, for mutations that get past the lexer.
const WORDS: &[&str] = &[
    "%0",
    "%1",
    "%99999999999999999999",
    "f32",
    "i64",
    "bool",
    "[]",
    "[0]",
    "[-1]",
    "?0",
    "?18446744073709551615",
    "9223372036854775807",
    "18446744073709551616",
    "max(n, 2)",
    "floordiv(n, 0)",
    "floordiv(n, -3)",
    "-",
    "*",
    "1e999",
    "nan",
    "hex \"\"",
    "hex \"00\"",
    "reshape",
    "concat",
    "dot-general",
    "convolution",
    "loop",
    "if",
    "regions (",
    ")",
    "{",
    "}",
    "@\"x\"",
    "gated",
    "return",
    "graph",
    "constant",
    "top-k",
    "slice",
    "pad",
    "\\u{110000}",
    "4294967296",
    "2147483648",
    "attention",
    "softmax",
    "lstm",
    "resize",
    "max-pool-indices",
    "axis",
    "axes",
    "= []",
];

fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|a| a != name);
    arguments.nth(1).and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn mutate(rng: &mut Rng, text: &str, other: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=rng.below(6) {
        let at = rng.below(bytes.len() + 1);
        match rng.below(7) {
            0 if at < bytes.len() => bytes[at] = rng.next() as u8,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => {
                let word = rng.pick(WORDS);
                bytes.splice(at..at, word.bytes());
            }
            3 => {
                let end = (at + rng.below(40)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
            4 => {
                let end = (at + rng.below(60)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = rng.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            5 => {
                let from = rng.below(other.len());
                let end = (from + rng.below(80)).min(other.len());
                bytes.splice(at..at, other.as_bytes()[from..end].iter().copied());
            }
            _ => {
                // A number becomes another.
                if let Some(digit) = bytes[at..].iter().position(u8::is_ascii_digit) {
                    bytes[at + digit] = b'0' + rng.below(10) as u8;
                }
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Longer texts than this have little but constants in them.
const LONGEST: usize = 20_000;

/// Printed graphs: random ones, and as many of each family of cases as the composites are, spread over it.
fn corpus(seed: u64) -> Vec<String> {
    let random = (0..64).map(|i| print(&support::graph(&mut Rng(seed ^ i), 3 + i as usize % 24)));
    let cases = Family::ALL.into_iter().flat_map(|family| {
        let cases = family.cases();
        let every = if family == Family::Composites { 1 } else { cases.len().div_ceil(40).max(1) };
        cases.into_iter().step_by(every).map(|case| print(&case.graph))
    });
    random.chain(cases.filter(|text| text.len() < LONGEST)).collect()
}

/// Prints the text being tried when a panic passes through.
struct OnPanic<'a>(&'a str);

impl Drop for OnPanic<'_> {
    #[expect(clippy::print_stderr, reason = "a fuzzer shows what it found")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("\nfor the text:\n{}", self.0);
        }
    }
}

#[expect(clippy::print_stdout, reason = "a fuzzer reports what it did")]
fn main() {
    let (seconds, seed) = (argument("--seconds", 10), argument("--seed", 1));
    let mut rng = Rng(seed);
    let rows: Vec<CompositeRow> = [support::ROWS, anychip_ops::ROWS].concat();
    let corpus = corpus(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut executions, mut accepted, mut slowest) = (0u64, 0u64, Duration::ZERO);
    while Instant::now() < end {
        let (text, other) = (rng.below(corpus.len()), rng.below(corpus.len()));
        let mutated = mutate(&mut rng, &corpus[text], &corpus[other]);
        let start = Instant::now();
        let _shown = OnPanic(&mutated);
        if let Ok(graph) = parse(&mutated, &rows) {
            accepted += 1;
            let printed = print(&graph);
            let again = parse(&printed, &rows)
                .unwrap_or_else(|error| panic!("does not parse back: {error}\n{printed}"));
            assert_eq!(print(&again), printed, "changes when parsed again");
            verify(&graph)
                .unwrap_or_else(|errors| panic!("does not verify: {errors:?}\n{printed}"));
        }
        slowest = slowest.max(start.elapsed());
        executions += 1;
    }
    println!(
        "seed {seed}: {} texts to start from, {executions} executions, {accepted} accepted, slowest {} ms, no fault",
        corpus.len(),
        slowest.as_millis()
    );
}
