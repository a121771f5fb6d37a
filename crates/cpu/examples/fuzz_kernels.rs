//! Fuzzes the kernels: random operators of odd sizes, at every instruction set this processor has, against the reference.
//!
//! `cargo run -p anychip-cpu --example fuzz_kernels -- --seconds 600 --seed 1 [--operator NAME] [--verbose]`
//!
//! Cases are `anychip_conformance::random_case`'s, one operator after the other, each with a seed of its own. A case whose
//! results differ is printed with its seed and the run goes on (one that a rounding of its operands moves as far is no finding); `--operator NAME --seed S --seconds 0` runs that one again.
//! With `--verbose` each case is printed before it runs, so that one that ends the process is known. Exits with 1 after a
//! finding.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anychip_chips::Catalog;
use anychip_conformance::{
    OPERATORS, Outcome, expected, is_ill_conditioned, random_case, run_expecting,
};
use anychip_cpu::CpuTarget;
use anychip_cpu::kernel::split::Engine;
use anychip_target::CompileOptions;

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|a| a != name).nth(1)
}

fn number(name: &str, default: u64) -> u64 {
    argument(name).and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[expect(clippy::print_stdout, reason = "a fuzzer reports what it did")]
fn main() -> ExitCode {
    let (seconds, first) = (number("--seconds", 10), number("--seed", 1));
    let verbose = std::env::args().any(|a| a == "--verbose");
    let only = argument("--operator");
    let chosen: Vec<&str> = OPERATORS
        .iter()
        .copied()
        .filter(|name| only.as_deref().is_none_or(|o| o == *name))
        .collect();
    if chosen.is_empty() {
        println!("there are {}", OPERATORS.join(", "));
        return ExitCode::FAILURE;
    }
    let catalog = Catalog::builtin().expect("the catalog is checked by its own tests");
    // The target compiles for the processor it runs on, whatever the chip.
    let chip = catalog.chips().next().expect("the catalog has rows");
    let mut targets = CpuTarget::available();
    // Its kernels at sizes that the unit would not be used for.
    targets.retain(|(name, _)| *name != "amx");
    if let Some(engine) = Engine::detect() {
        targets.push(("amx", CpuTarget::new().with_engine(engine, true)));
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut counts = vec![0u64; chosen.len()];
    let (mut runs, mut findings, mut unsound) = (0u64, 0u64, 0u64);
    for index in 0.. {
        let (row, seed) = (index as usize % chosen.len(), first.wrapping_add(index));
        let operator = chosen[row];
        let case = random_case(operator, seed).expect("it is one of the list");
        if verbose {
            println!("{operator} {seed}: {}", case.name);
        }
        let wanted = expected(&case);
        for (i, (name, target)) in targets.iter().enumerate() {
            // Every instruction set meets every number of threads.
            let threads = 1 + (seed as usize + i) % 3;
            let options = CompileOptions { threads: Some(threads), ..CompileOptions::default() };
            let outcome = match &wanted {
                Ok(wanted) => run_expecting(target, chip, &options, &case, wanted),
                Err(why) => Outcome::Failed(why.clone()),
            };
            runs += 1;
            if let Outcome::Refused(why) | Outcome::Failed(why) = outcome {
                if wanted.as_ref().is_ok_and(|wanted| is_ill_conditioned(&case, wanted)) {
                    unsound += 1;
                    println!(
                        "ill-conditioned: --operator {operator} --seed {seed} --seconds 0: {why}"
                    );
                    continue;
                }
                findings += 1;
                println!("--operator {operator} --seed {seed} --seconds 0: {}", case.name);
                println!("    {name}, {threads} threads: {why}");
            }
        }
        counts[row] += 1;
        if Instant::now() >= end {
            break;
        }
    }
    for (operator, count) in chosen.iter().zip(&counts) {
        println!("{operator:<18}{count:>8} cases");
    }
    let sets: Vec<&str> = targets.iter().map(|(name, _)| *name).collect();
    println!(
        "seed {first}: {} cases, {runs} runs at {} with 1 to 3 threads, {findings} findings, {unsound} runs of cases that a rounding \
         of their operands moves as far",
        counts.iter().sum::<u64>(),
        sets.join(", ")
    );
    if findings > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
