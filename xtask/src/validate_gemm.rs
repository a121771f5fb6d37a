//! Matrix products of language-model software, whole devices left out.

use crate::fit_gemm::{GemmRun, fit_products};
use crate::validate::{Case, Line, head, line, show};
use crate::validate_timm::both;

/// Each device left out in turn.
pub(crate) fn devices(runs: &[GemmRun], software: &[String]) -> Vec<Line> {
    head(
        "Matrix products, devices left out",
        "all rows of a device left out; intervals from each of the other devices predicted from the third",
        "13 % H100, 24 % A100",
        "10 %",
    );
    let mut devices: Vec<&str> = runs.iter().map(|r| r.device.as_str()).collect();
    devices.sort_unstable();
    devices.dedup();
    let found = both(&devices, |device| {
        let (outside, inside): (Vec<&GemmRun>, Vec<&GemmRun>) =
            runs.iter().partition(|r| r.device == **device);
        let products = fit_products(&inside, software);
        outside
            .iter()
            .map(|run| {
                let predicted = products.log_seconds(&run.product, &run.engine);
                Case {
                    name: format!("{} {:?}", run.device, run.product),
                    group: format!("{device} {}", run.dtype),
                    truth: run.log_seconds,
                    predicted,
                    interval: Some((
                        predicted + products.quantiles[0],
                        predicted + products.quantiles[1],
                    )),
                }
            })
            .collect::<Vec<Case>>()
    });
    let mut lines = Vec::new();
    for (device, cases) in devices.iter().zip(found) {
        let all = line("products, device left out", format!("{device}, all formats"), &cases);
        show(&all, Some(10.0), None);
        lines.push(all);
        let mut groups: Vec<&str> = cases.iter().map(|c| c.group.as_str()).collect();
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            let of: Vec<Case> = cases.iter().filter(|c| c.group == group).cloned().collect();
            let found = line("products, device left out", format!("  {group}"), &of);
            show(&found, None, None);
            lines.push(found);
        }
    }
    lines
}
