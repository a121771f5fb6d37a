//! Runs cases on a target and tells what came of each.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anychip_chips::{Catalog, Chip};
use anychip_ir::evaluate;
use anychip_target::{CompileOptions, Target, legalize};
use anychip_tensor::{Tensor, TensorView};

use crate::{Case, Family, Random, compare};

/// How a target is held to the suite.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// Cases (or beginnings of their names) that the target is excused from, and why.
    pub skip: &'a [(&'a str, &'a str)],
    /// Thread counts to run each case with; the machine's when empty.
    pub threads: &'a [Option<usize>],
    /// A case whose operators the target refuses is no failure.
    pub refusals_allowed: bool,
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The results are the reference's.
    Passed,
    /// The target refuses an operator of it.
    Refused(String),
    /// They are not, or it failed on the way.
    Failed(String),
}

/// What came of a family.
#[derive(Clone, Debug, Default)]
pub struct Report {
    passed: usize,
    refused: Vec<String>,
    skipped: usize,
    failures: Vec<String>,
}

impl Report {
    /// Whether nothing failed.
    pub fn is_success(&self) -> bool {
        self.failures.is_empty()
    }

    /// How many cases passed.
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// How many cases the target refused.
    pub fn refused(&self) -> usize {
        self.refused.len()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} passed, {} refused, {} skipped, {} failed",
            self.passed,
            self.refused.len(),
            self.skipped,
            self.failures.len()
        )?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "  {failure}"))
    }
}

/// Runs every case of a family on a target.
pub fn run(target: &dyn Target, family: Family, settings: &Settings<'_>) -> Report {
    let mut report = Report::default();
    let chip = some_chip();
    let default_threads = [None];
    let threads = if settings.threads.is_empty() { &default_threads[..] } else { settings.threads };
    let mut passing_skips: Vec<(usize, bool, bool)> =
        (0..settings.skip.len()).map(|i| (i, false, true)).collect();
    for case in family.cases() {
        let skip = settings.skip.iter().position(|(name, _)| case.name.starts_with(name));
        let mut worst = Outcome::Passed;
        for &threads in threads {
            let options = CompileOptions { threads, ..CompileOptions::default() };
            worst = run_case(target, &chip, &options, &case);
            if worst != Outcome::Passed {
                break;
            }
        }
        match (worst, skip) {
            (outcome, Some(skip)) => {
                report.skipped += 1;
                passing_skips[skip].1 = true;
                passing_skips[skip].2 &= outcome == Outcome::Passed;
            }
            (Outcome::Passed, None) => report.passed += 1,
            (Outcome::Refused(why), None) if settings.refusals_allowed => report.refused.push(why),
            (Outcome::Refused(why) | Outcome::Failed(why), None) => {
                report.failures.push(format!("{} (seed {:#x}): {why}", case.name, case.seed));
            }
        }
    }
    for (i, met, passes) in passing_skips {
        let (name, reason) = settings.skip[i];
        if met && passes {
            report
                .failures
                .push(format!("{name} passes; it need not be skipped any more ({reason})"));
        } else if !met
            && !Family::ALL.iter().any(|f| f.cases().iter().any(|c| c.name.starts_with(name)))
        {
            report.failures.push(format!("{name} is skipped ({reason}) and no case begins so"));
        }
    }
    report
}

/// Whether the reference itself is as far from `expected` as a target may be when its operands move by a rounding: then no order
/// of sums can be held to it. Of deep random networks such a case is found in some ten thousand.
pub fn is_ill_conditioned(case: &Case, expected: &[Vec<Tensor>]) -> bool {
    (0..NUDGES).any(|nudge| {
        let mut random = Random::new(case.seed ^ nudge);
        let inputs = case.inputs.iter().map(|set| {
            set.iter().map(|tensor| nudged(tensor, &mut random).unwrap_or(tensor.clone())).collect()
        });
        let moved = self::expected(&Case { inputs: inputs.collect(), ..case.clone() });
        let differs = |(moved, expected): (&Vec<Tensor>, &Vec<Tensor>)| {
            moved.iter().zip(expected).any(|(m, e)| compare(m, e, case.slack).is_err())
        };
        moved.is_ok_and(|moved| moved.iter().zip(expected).any(differs))
    })
}

/// How often operands are moved before a case counts as well-conditioned.
const NUDGES: u64 = 8;

/// Single-precision numbers, each moved by up to four steps: what the sums of a layer or two round by.
fn nudged(tensor: &Tensor, random: &mut Random) -> Option<Tensor> {
    let values = tensor.elements::<f32>()?;
    let moved = values.iter().map(|v| v * (1.0 + (random.below(9) as f32 - 4.0) * f32::EPSILON));
    Tensor::from_vec(tensor.shape().to_vec(), moved.collect::<Vec<f32>>()).ok()
}

/// What the reference evaluator gives for each of a case's operand sets.
pub fn expected(case: &Case) -> Result<Vec<Vec<Tensor>>, String> {
    let evaluate = |inputs: &Vec<Tensor>| {
        evaluate(&case.graph, inputs).map_err(|e| format!("the reference itself: {e}"))
    };
    case.inputs.iter().map(evaluate).collect()
}

/// Runs one case: all its operand sets, each twice, through one session.
pub fn run_case(
    target: &dyn Target,
    chip: &Chip,
    options: &CompileOptions,
    case: &Case,
) -> Outcome {
    match caught(|| expected(case)) {
        Ok(expected) => run_expecting(target, chip, options, case, &expected),
        Err(why) => Outcome::Failed(why),
    }
}

/// As [`run_case`], for a case that runs more than once: the reference's results are given.
pub fn run_expecting(
    target: &dyn Target,
    chip: &Chip,
    options: &CompileOptions,
    case: &Case,
    expected: &[Vec<Tensor>],
) -> Outcome {
    let legal = match legalize(target, &case.graph) {
        Ok(legal) => legal,
        Err(refusals) => {
            let why: Vec<String> =
                refusals.iter().map(|r| format!("{}: {}", r.op, r.refused.reason)).collect();
            return Outcome::Refused(why.join("; "));
        }
    };
    let run = || -> Result<(), String> {
        let program = target.compile(&legal, chip, options).map_err(|e| format!("compile: {e}"))?;
        let place =
            target.places().into_iter().next().ok_or("the target has no place to run at")?;
        let mut session = program.open(&place).map_err(|e| format!("open: {e}"))?;
        for (inputs, expected) in case.inputs.iter().zip(expected) {
            let views: Vec<TensorView<'_>> = inputs.iter().map(Tensor::view).collect();
            // Twice, because a session may keep what the first run left.
            for _ in 0..2 {
                let found = session.run(&views).map_err(|e| format!("run: {e}"))?.outputs;
                if found.len() != expected.len() {
                    return Err(format!("{} outputs, expected {}", found.len(), expected.len()));
                }
                for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                    compare(found, expected, case.slack).map_err(|m| format!("output {i} {m}"))?;
                }
            }
        }
        Ok(())
    };
    match caught(run) {
        Ok(()) => Outcome::Passed,
        Err(why) => Outcome::Failed(why),
    }
}

/// A panic is a failure of one case, not of the suite.
fn caught<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", text.unwrap_or("no message")))
    })
}

/// A chip to compile for where the target takes any.
fn some_chip() -> Chip {
    let catalog = Catalog::builtin().expect("the catalog is checked by its own tests");
    catalog.chips().next().cloned().expect("the catalog has rows")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::{Builder, TensorType};
    use anychip_tensor::DType;

    #[test]
    fn a_difference_of_near_equals_is_ill_conditioned() {
        let case = |subtract: bool| {
            let mut b = Builder::new("two");
            let ty = TensorType::new(DType::F32, [2usize]);
            let (x, y) = (b.input("x", ty.clone()), b.input("y", ty));
            let result = if subtract { b.sub(x, y) } else { b.add(x, y) }.expect("of one type");
            let graph = b.finish(&[result]);
            let tensor = |v: [f32; 2]| Tensor::from_vec([2], v.to_vec()).expect("two numbers");
            let inputs = vec![vec![tensor([1.0, 2.0]), tensor([1.000_1, 1.999_8])]];
            Case { name: "two".into(), graph, inputs, slack: 1.0, seed: 7 }
        };
        for subtract in [false, true] {
            let case = case(subtract);
            let wanted = expected(&case).expect("the reference runs it");
            assert_eq!(is_ill_conditioned(&case, &wanted), subtract);
        }
    }
}
