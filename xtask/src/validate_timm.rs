//! Whole vision models: families left out, devices left out.

use crate::fit_truth::TimmRun;
use crate::validate::{Case, Line, Worst, head, line, show, worst};
use anychip_chips::Family;
use anychip_predict::fit::{Sample, fit_whole, folds, quantile};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Folds of families.
const FOLDS: usize = 5;

/// A run as the fit takes it.
pub(crate) fn sample(run: &TimmRun) -> Sample<'_> {
    Sample { kernels: &run.kernels, rates: run.rates, log_seconds: run.log_seconds, weight: 1.0 }
}

/// Does `work` on each item on two threads; results in the items' order.
pub(crate) fn both<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(i) else { break };
                    let result = work(item);
                    done.lock().expect("no worker panics").push((i, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no worker panics");
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The runs of each device and stack.
pub(crate) fn by_stack<'a>(runs: &[&'a TimmRun]) -> BTreeMap<(String, String), Vec<&'a TimmRun>> {
    let mut groups: BTreeMap<(String, String), Vec<&'a TimmRun>> = BTreeMap::new();
    for run in runs {
        groups.entry((run.row.device.clone(), run.stack())).or_default().push(run);
    }
    groups
}

fn case(run: &TimmRun, span: anychip_predict::Span) -> Case {
    Case {
        name: format!(
            "{} at {} on {} {}",
            run.row.model,
            run.row.infer_img_size,
            run.row.device,
            run.stack()
        ),
        group: run.row.family.clone(),
        truth: run.log_seconds,
        predicted: span.seconds.ln(),
        interval: Some((span.low.ln(), span.high.ln())),
    }
}

/// Whole families left out, stack by stack.
pub(crate) fn families(runs: &[&TimmRun]) -> (Vec<Line>, Vec<Worst>) {
    head(
        "Whole vision models, families left out",
        "five folds of families (column `family`); each predicted by a fit, intervals included, on the other four",
        "per-operator with 7 fitted coefficients 14-20 %, Spearman .987",
        "8 % and Spearman 0.99 on each GPU stack",
    );
    let stacks: Vec<_> = by_stack(runs).into_iter().collect();
    let jobs: Vec<(usize, usize)> =
        (0..stacks.len()).flat_map(|stack| (0..FOLDS).map(move |fold| (stack, fold))).collect();
    let cases = both(&jobs, |&(stack, fold)| {
        let runs = &stacks[stack].1;
        let names: Vec<&str> = runs.iter().map(|r| r.row.family.as_str()).collect();
        let folds = folds(&names, FOLDS);
        let (outside, inside): (Vec<usize>, Vec<usize>) =
            (0..runs.len()).partition(|&i| folds[i] == fold);
        let samples: Vec<Sample<'_>> = inside.iter().map(|&i| sample(runs[i])).collect();
        let names: Vec<&str> = inside.iter().map(|&i| names[i]).collect();
        let whole = fit_whole(&samples, &names);
        outside
            .iter()
            .map(|&i| case(runs[i], whole.predict(&runs[i].kernels, &runs[i].rates)))
            .collect::<Vec<Case>>()
    });
    let mut lines = Vec::new();
    let mut all = Vec::new();
    for (stack, ((device, name), _)) in stacks.iter().enumerate() {
        let of_stack: Vec<Case> = jobs
            .iter()
            .zip(&cases)
            .filter(|((s, _), _)| *s == stack)
            .flat_map(|(_, cases)| cases.iter().cloned())
            .collect();
        let found = line("families left out", format!("{device} {name}"), &of_stack);
        let gpu = device.starts_with("rtx");
        show(&found, gpu.then_some(8.0), gpu.then_some(0.99));
        lines.push(found);
        all.extend(of_stack);
    }
    let worst = worst("families left out", &mut all);
    (lines, worst)
}

/// One device predicted from another.
pub(crate) struct Transferred {
    /// What is predicted, and from which.
    pub(crate) left_out: String,
    pub(crate) what: String,
    pub(crate) family: Family,
    /// From specifications; and with the other's measurement of the same model as an anchor.
    pub(crate) specified: Vec<Case>,
    pub(crate) anchored: Vec<Case>,
    /// Of each specified case: the difficulty of the model.
    pub(crate) difficulty: Vec<f64>,
}

impl Transferred {
    /// Whether the anchor made predictions better on average.
    pub(crate) fn anchor_helps(&self) -> bool {
        let error = |cases: &[Case]| {
            cases.iter().map(|c| c.error().abs()).sum::<f64>() / cases.len().max(1) as f64
        };
        error(&self.anchored) < error(&self.specified)
    }
}

/// The quantile 0.8 of errors over difficulty: four of five truths lie that far off at most.
pub(crate) fn reach(pairs: &[&Transferred]) -> f64 {
    let mut scaled: Vec<f64> = pairs
        .iter()
        .flat_map(|pair| {
            pair.specified
                .iter()
                .zip(&pair.difficulty)
                .map(|(case, width)| (case.truth - case.predicted).abs() / width)
        })
        .collect();
    quantile(&mut scaled, 0.8)
}

/// Each device predicted from each other one of its kind with the same stack.
pub(crate) fn transfers(runs: &[&TimmRun]) -> Vec<Transferred> {
    let stacks = by_stack(runs);
    let mut jobs = Vec::new();
    for (left_out, name) in stacks.keys() {
        for (owned, other) in stacks.keys() {
            let alike = left_out.starts_with("rtx") == owned.starts_with("rtx");
            if name == other && left_out != owned && alike {
                jobs.push((left_out.clone(), owned.clone(), name.clone()));
            }
        }
    }
    both(&jobs, |(left_out, owned, name)| {
        let seen = &stacks[&(owned.clone(), name.clone())];
        let asked = &stacks[&(left_out.clone(), name.clone())];
        let names: Vec<&str> = seen.iter().map(|r| r.row.family.as_str()).collect();
        let samples: Vec<Sample<'_>> = seen.iter().map(|r| sample(r)).collect();
        let whole = fit_whole(&samples, &names);
        let measured: BTreeMap<(&str, u32), &&TimmRun> =
            seen.iter().map(|r| ((r.row.model.as_str(), r.row.infer_img_size), r)).collect();
        let mut specified = Vec::new();
        let mut anchored = Vec::new();
        let mut difficulty = Vec::new();
        for run in asked {
            difficulty.push(whole.difficulty(&run.kernels, &run.rates));
            let found = case(run, whole.predict(&run.kernels, &run.rates));
            if let Some(here) = measured.get(&(run.row.model.as_str(), run.row.infer_img_size)) {
                let ratio =
                    found.predicted - whole.predict(&here.kernels, &here.rates).seconds.ln();
                anchored.push(Case {
                    predicted: here.log_seconds + ratio,
                    interval: None,
                    ..found.clone()
                });
            }
            specified.push(found);
        }
        Transferred {
            left_out: left_out.clone(),
            what: format!("{left_out} {name}, from {owned}"),
            family: if left_out.starts_with("rtx") { Family::Gpu } else { Family::Cpu },
            specified,
            anchored,
            difficulty,
        }
    })
}

/// Whole devices left out: from specifications alone, and with the other device as an anchor.
pub(crate) fn devices(runs: &[&TimmRun]) -> Vec<Line> {
    head(
        "Whole vision models, devices left out",
        "fitted on the other device of the same kind with the same stack; nothing of the device itself is seen",
        "17-22 % from specifications, 8-17 % with an anchor",
        "12 % from specifications, 6 % with an anchor",
    );
    let mut lines = Vec::new();
    let mut pairs = transfers(runs);
    // Intervals reach as far as errors did when other devices of the kind were left out.
    let reaches: Vec<f64> = pairs
        .iter()
        .map(|pair| {
            let others: Vec<&Transferred> = pairs
                .iter()
                .filter(|o| o.family == pair.family && o.left_out != pair.left_out)
                .collect();
            reach(&others)
        })
        .collect();
    for (pair, reach) in pairs.iter_mut().zip(reaches) {
        for (case, width) in pair.specified.iter_mut().zip(&pair.difficulty) {
            case.interval = Some((case.predicted - reach * width, case.predicted + reach * width));
        }
    }
    let pooled: Vec<Case> = pairs.iter().flat_map(|pair| pair.specified.iter().cloned()).collect();
    for pair in pairs {
        let by_specification = line("device left out", pair.what.clone(), &pair.specified);
        show(&by_specification, Some(12.0), None);
        let by_anchor =
            line("device left out, anchored", format!("  {}, anchored", pair.what), &pair.anchored);
        show(&by_anchor, Some(6.0), None);
        lines.extend([by_specification, by_anchor]);
    }
    // One device's errors mostly have one sign, so that only all devices together can say whether intervals are honest.
    let all = line("device left out", "all devices".to_string(), &pooled);
    show(&all, Some(12.0), None);
    lines.push(all);
    lines
}
