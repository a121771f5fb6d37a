//! Single kernels of language-model software, whole devices left out.

use crate::validate::{Case, Line, head, line, show};
use crate::validate_timm::both;
use anychip_predict::fit::{MeasuredKernel, errors_by, fit_kernels, unknown_band};

/// A sort of kernel with its baseline and target.
pub(crate) struct Sort<'a> {
    pub(crate) table: &'static str,
    pub(crate) title: &'static str,
    pub(crate) baseline: &'static str,
    pub(crate) target: Option<f64>,
    pub(crate) kernels: &'a [MeasuredKernel],
}

/// Each device left out in turn; then sizes left out.
pub(crate) fn tables(sort: &Sort<'_>) -> Vec<Line> {
    let target = sort.target.map_or_else(|| "none stated".to_string(), |t| format!("{t} %"));
    head(
        sort.title,
        "all rows of a device left out; intervals from each of the other devices predicted from the third",
        sort.baseline,
        &target,
    );
    let all: Vec<&MeasuredKernel> = sort.kernels.iter().collect();
    let mut devices: Vec<&str> = all.iter().map(|k| k.device.as_str()).collect();
    devices.sort_unstable();
    devices.dedup();
    let found = both(&devices, |device| {
        let (outside, inside): (Vec<&MeasuredKernel>, Vec<&MeasuredKernel>) =
            all.iter().partition(|k| k.device == **device);
        let table = fit_kernels(&inside);
        let [low, high] = unknown_band(&inside);
        let case = |kernel: &&MeasuredKernel| {
            let predicted = table.log_seconds(&kernel.software, &kernel.format, &kernel.sized);
            let elsewhere = table
                .kinds
                .iter()
                .any(|k| k.software == kernel.software && k.format == kernel.format);
            let seen = if elsewhere { SEEN } else { UNSEEN };
            Case {
                name: format!("{} {} {}", kernel.device, kernel.software, kernel.format),
                group: format!("{}, {seen}", kernel.format),
                truth: kernel.log_seconds,
                predicted,
                interval: Some((predicted + low, predicted + high)),
            }
        };
        outside.iter().map(case).collect::<Vec<Case>>()
    });
    let mut lines = Vec::new();
    for (device, cases) in devices.iter().zip(found) {
        let every = line(sort.table, format!("{device}, all"), &cases);
        show(&every, None, None);
        lines.push(every);
        let known: Vec<Case> = cases.iter().filter(|c| c.group.ends_with(SEEN)).cloned().collect();
        let found = line(sort.table, format!("{device}, {SEEN}"), &known);
        show(&found, sort.target, None);
        lines.push(found);
        let mut groups: Vec<&str> = cases.iter().map(|c| c.group.as_str()).collect();
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            let of: Vec<Case> = cases.iter().filter(|c| c.group == group).cloned().collect();
            let found = line(sort.table, format!("  {group}"), &of);
            show(&found, None, None);
            lines.push(found);
        }
    }
    // Every second row left out: what a chip that was measured is asked later.
    let errors = errors_by(&all, |i, _| i % 2);
    let cases: Vec<Case> = all
        .iter()
        .zip(errors)
        .map(|(kernel, error)| Case {
            name: String::new(),
            group: String::new(),
            truth: kernel.log_seconds,
            predicted: kernel.log_seconds - error,
            interval: None,
        })
        .collect();
    let found = line(sort.table, "all devices, sizes left out".to_string(), &cases);
    show(&found, None, None);
    lines.push(found);
    lines
}

/// The same version of the same software in the same format was measured on another device, so that only the device is new.
const SEEN: &str = "software seen";
/// The software's version or its format is new too.
const UNSEEN: &str = "software unseen";
