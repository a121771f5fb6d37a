//! Judges the outcomes of the ONNX standard's cases: pass rates a group, and what is not as it should be.
//!
//! `crates/conformance/onnx-skips.toml` lists what is known not to pass, each with its reason; `*` in a case stands
//! for any text. A listed case that passes, and a line that matches no case, fail the run.

use crate::workspace;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;

const SKIPS: &str = "crates/conformance/onnx-skips.toml";
/// The share of node cases on numeric tensors, opset 7 to 28, that must pass.
const WANTED: f64 = 0.98;

#[derive(Deserialize)]
pub(crate) struct Index {
    pub(crate) cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) path: String,
    group: String,
    /// Of the default domain, where the case uses it.
    opset: Option<u32>,
    numeric: bool,
}

impl Case {
    /// Whether it counts for the figure the project promises.
    fn promised(&self) -> bool {
        self.group == "node" && self.numeric && self.opset.is_some_and(|o| (7..=28).contains(&o))
    }
}

#[derive(Deserialize)]
pub(crate) struct Line {
    case: String,
    outcome: Outcome,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Pass,
    Fail,
    Refused,
    Panic,
    Timeout,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Skips {
    #[serde(default)]
    skip: Vec<Skip>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    case: String,
    reason: String,
    /// Where it does not pass; default: everywhere.
    targets: Option<Vec<String>>,
}

impl Skip {
    fn holds(&self, target: &str, case: &str) -> bool {
        self.targets.as_ref().is_none_or(|t| t.iter().any(|t| t == target))
            && matches(&self.case, case)
    }
}

impl Skips {
    pub(crate) fn read() -> Result<Self> {
        let path = workspace::path(SKIPS);
        if !path.exists() {
            return Ok(Skips::default());
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {SKIPS}"))?;
        let skips: Skips = toml::from_str(&text).with_context(|| format!("reading {SKIPS}"))?;
        if let Some(skip) = skips.skip.iter().find(|s| s.reason.trim().is_empty()) {
            bail!("{SKIPS}: `{}` has no reason", skip.case);
        }
        Ok(skips)
    }
}

/// Counts of one group.
#[derive(Default)]
struct Tally {
    total: usize,
    passed: usize,
    skipped: usize,
}

impl Index {
    /// Leaves out the cases that hold strings, sequences or optionals, which the runner does not run; how many.
    pub(crate) fn keep_numeric(&mut self) -> usize {
        let all = self.cases.len();
        self.cases.retain(|case| case.numeric);
        all - self.cases.len()
    }
}

/// Print the pass rates of one target and give what is wrong.
pub(crate) fn judge(
    target: &str,
    index: &Index,
    skips: &Skips,
    lines: &[Line],
    whole: bool,
) -> Vec<String> {
    let outcomes: BTreeMap<&str, &Line> = lines.iter().map(|l| (l.case.as_str(), l)).collect();
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut faults = Vec::new();
    let mut used = vec![false; skips.skip.len()];
    let promised = "node, numeric tensors, opset 7–28";
    for case in &index.cases {
        let line = outcomes.get(case.path.as_str());
        let skip = skips.skip.iter().position(|s| s.holds(target, &case.path));
        if let Some(position) = skip {
            used[position] = true;
        }
        let passed = line.is_some_and(|l| l.outcome == Outcome::Pass);
        for group in
            [Some(case.group.as_str()), case.promised().then_some(promised)].into_iter().flatten()
        {
            let tally = tallies.entry(group).or_default();
            tally.total += 1;
            tally.passed += usize::from(passed);
            tally.skipped += usize::from(skip.is_some() && !passed);
        }
        let name = &case.path;
        match (line, skip) {
            (None, _) => faults
                .push(format!("{target} {name}: the runner gave no outcome; did it die here?")),
            (Some(l), _) if matches!(l.outcome, Outcome::Panic | Outcome::Timeout) => {
                faults.push(format!("{target} {name}: {:?}: {}", l.outcome, l.message));
            }
            (Some(_), Some(position)) if passed => faults.push(format!(
                "{target} {name} passes, but {SKIPS} lists `{}`: take it out",
                skips.skip[position].case
            )),
            (Some(l), None) if !passed => {
                faults.push(format!("{target} {name}: {:?}: {}", l.outcome, l.message));
            }
            _ => {}
        }
    }
    println!("\n{target}");
    for (group, tally) in &tallies {
        let share = tally.passed as f64 / tally.total as f64;
        println!(
            "  {group:<34} {:>5} of {:>5} pass ({:.1} %), {} skipped with a reason",
            tally.passed,
            tally.total,
            100.0 * share,
            tally.skipped
        );
        if whole && *group == promised && share < WANTED {
            faults.push(format!(
                "{target}: {:.1} % of {group} pass, wanted {:.0} %",
                100.0 * share,
                100.0 * WANTED
            ));
        }
    }
    for (skip, used) in skips.skip.iter().zip(used) {
        let meant = skip.targets.as_ref().is_none_or(|t| t.iter().any(|t| t == target));
        if whole && meant && !used {
            faults.push(format!("{SKIPS}: `{}` matches no case", skip.case));
        }
    }
    faults
}

/// Whether `pattern`, where `*` stands for any text, is the whole of `text`.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(paths: &[(&str, bool)]) -> Index {
        let case = |&(path, numeric): &(&str, bool)| Case {
            path: path.into(),
            group: path.split('/').next().unwrap_or_default().into(),
            opset: Some(13),
            numeric,
        };
        Index { cases: paths.iter().map(case).collect() }
    }

    fn line(case: &str, outcome: Outcome) -> Line {
        Line { case: case.into(), outcome, message: String::new() }
    }

    fn skip(case: &str) -> Skips {
        Skips { skip: vec![Skip { case: case.into(), reason: "because".into(), targets: None }] }
    }

    #[test]
    fn patterns() {
        assert!(matches("node/test_abs", "node/test_abs"));
        assert!(!matches("node/test_abs", "node/test_abs_2"));
        assert!(matches("node/*_string*", "node/test_x_string_y"));
        assert!(matches("*", "anything"));
        assert!(!matches("x*y*z", "xyw"));
        assert!(!matches("xy*yx", "xyx"));
    }

    #[test]
    fn a_skip_that_passes_fails() {
        let index = index(&[("light/a", true)]);
        let faults =
            judge("cpu", &index, &skip("light/a"), &[line("light/a", Outcome::Pass)], true);
        assert_eq!(faults.len(), 1, "{faults:?}");
        let faults =
            judge("cpu", &index, &skip("light/a"), &[line("light/a", Outcome::Refused)], true);
        assert!(faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn a_failure_a_panic_and_silence_fail() {
        let index = index(&[("light/a", true)]);
        let none = Skips::default();
        assert_eq!(judge("cpu", &index, &none, &[line("light/a", Outcome::Fail)], true).len(), 1);
        assert_eq!(judge("cpu", &index, &none, &[], true).len(), 1);
        let panic = [line("light/a", Outcome::Panic)];
        assert_eq!(judge("cpu", &index, &skip("light/*"), &panic, true).len(), 1);
    }

    #[test]
    fn the_promised_share_counts_skips_as_not_passing() {
        let index = index(&[("node/a", true), ("node/b", true)]);
        let lines = [line("node/a", Outcome::Pass), line("node/b", Outcome::Refused)];
        let faults = judge("cpu", &index, &skip("node/b"), &lines, true);
        assert!(faults.len() == 1 && faults[0].contains("50.0 %"), "{faults:?}");
    }

    #[test]
    fn a_skip_without_a_case_fails() {
        let index = index(&[("light/a", true)]);
        let faults =
            judge("cpu", &index, &skip("light/z"), &[line("light/a", Outcome::Pass)], true);
        assert!(faults.len() == 1 && faults[0].contains("matches no case"), "{faults:?}");
    }
}
