//! A few of the random operators that `fuzz_kernels` runs by the thousand, at each instruction set this processor has.

use anychip_conformance::{OPERATORS, Outcome, expected, random_case, run_expecting};
use anychip_cpu::CpuTarget;
use anychip_cpu::kernel::split::Engine;
use anychip_target::CompileOptions;

/// Each instruction set, and the matrix unit's kernels at sizes it would not be used for.
fn targets() -> Vec<(&'static str, CpuTarget)> {
    let mut all = CpuTarget::available();
    all.retain(|(name, _)| *name != "amx");
    let engine = Engine::detect().unwrap_or(Engine::Portable);
    all.push(("matrix unit", CpuTarget::new().with_engine(engine, true)));
    all
}

/// Cases of each operator.
const CASES: u64 = 12;

/// Seeds of cases that once gave wrong results, beside the first few.
const FOUND: &[(&str, u64)] =
    &[("attention", 196), ("attention", 1335), ("recurrent", 4741), ("recurrent", 5030)];

#[test]
fn odd_sizes_give_what_the_reference_gives() {
    let catalog =
        anychip_chips::Catalog::builtin().expect("the catalog is checked by its own tests");
    let chip = catalog.chips().next().expect("the catalog has rows");
    let first = OPERATORS.iter().flat_map(|&o| (0..CASES).map(move |seed| (o, seed)));
    let mut findings = Vec::new();
    for (operator, seed) in first.chain(FOUND.iter().copied()) {
        let case = random_case(operator, seed).expect("it is one of the list");
        let wanted = expected(&case).expect("the reference evaluates what the builder builds");
        for (i, (name, target)) in targets().into_iter().enumerate() {
            let threads = 1 + (seed as usize + i) % 3;
            let options = CompileOptions { threads: Some(threads), ..CompileOptions::default() };
            let outcome = run_expecting(&target, chip, &options, &case, &wanted);
            if let Outcome::Refused(why) | Outcome::Failed(why) = outcome {
                findings.push(format!(
                    "{} (seed {seed}) at {name}, {threads} threads: {why}",
                    case.name
                ));
            }
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
