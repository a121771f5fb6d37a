//! What is on this machine, and what each missing thing would give.

use std::process::Command;

use anychip_cpu::detect::Cpu;

use crate::machine::THIS_CPU;
use crate::meter::{Instructions, Meter, PackageEnergy};

/// One thing that is here or not.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What was looked for.
    pub what: String,
    /// Whether it is here.
    pub here: bool,
    /// What was found, or how the search ended.
    pub detail: String,
    /// What it would give.
    pub gives: String,
}

/// Looks at everything anychip can use.
pub fn doctor() -> Vec<Finding> {
    let mut findings = Vec::new();
    let cpu = Cpu::detect();
    let cache = |bytes: Option<u64>| bytes.map_or("?".to_string(), |b| format!("{} KiB", b / 1024));
    findings.push(Finding {
        what: format!("chip `{THIS_CPU}`"),
        here: true,
        detail: format!(
            "{}, {} threads, {}, L1 {}, L2 {}, L3 {}",
            cpu.name.as_deref().unwrap_or("unnamed"),
            cpu.threads,
            cpu.simd.name(),
            cache(cpu.caches.l1),
            cache(cpu.caches.l2),
            cache(cpu.caches.l3)
        ),
        gives: "measured figures of this machine's CPU".to_string(),
    });
    for target in crate::targets::targets() {
        let places: Vec<String> = target.places().iter().map(ToString::to_string).collect();
        findings.push(Finding {
            what: format!("target `{}`", target.id()),
            here: !places.is_empty(),
            detail: if places.is_empty() {
                "no place to run".to_string()
            } else {
                format!("runs at {}", places.join(", "))
            },
            gives: "programs for its chips".to_string(),
        });
    }
    #[cfg(feature = "pjrt")]
    findings.extend(plugins());
    findings.push(meter(
        "instruction counter",
        &mut Instructions::find(),
        "instructions per second in `bench`",
    ));
    findings.push(meter(
        "energy counter",
        &mut PackageEnergy::find(),
        "watts and joules in `bench` and `compare`",
    ));
    findings.push(tool(
        "NVIDIA GPU",
        "nvidia-smi",
        &["--query-gpu=name", "--format=csv,noheader"],
        "a GPU, which a PJRT plugin for it measures",
    ));
    findings
}

/// Each plugin of PJRT with what it says of itself, or where they were looked for.
#[cfg(feature = "pjrt")]
fn plugins() -> Vec<Finding> {
    use crate::plugins::{PLUGINS_VARIABLE, pjrt};
    let reports = pjrt().reports();
    let gives = "measured figures of its devices (`--on` and `compare`)".to_string();
    if reports.is_empty() {
        return vec![Finding {
            what: "PJRT plugins".to_string(),
            here: false,
            detail: format!("none in the active Python environment nor in `{PLUGINS_VARIABLE}`"),
            gives: "measured figures of TPUs, of GPUs with a JAX plugin, and of CPUs through XLA; with libtpu, \
                    programs of the TPU's own compiler (`anychip build`)"
                .to_string(),
        }];
    }
    reports
        .into_iter()
        .map(|report| {
            let name = report.path.file_name().map(|name| name.to_string_lossy().into_owned());
            let (here, detail) = match report.found {
                Ok(detail) => (true, format!("{detail} ({})", report.path.display())),
                Err(error) => (false, error.to_string().replace('\n', ";")),
            };
            let what = format!("plugin `{}`", name.unwrap_or_default());
            Finding { what, here, detail, gives: gives.clone() }
        })
        .collect()
}

fn meter(what: &str, meter: &mut dyn Meter, gives: &str) -> Finding {
    meter.start();
    // Something to count.
    let mut sum = 0u64;
    for i in 0..2_000_000u64 {
        sum = std::hint::black_box(sum.wrapping_add(i));
    }
    let (here, detail) = match meter.stop() {
        Ok(value) => (true, format!("answers ({value:.3e} over a short loop)")),
        Err(reason) => (false, reason),
    };
    Finding { what: what.to_string(), here, detail, gives: gives.to_string() }
}

fn tool(what: &str, program: &str, arguments: &[&str], gives: &str) -> Finding {
    let output = Command::new(program).args(arguments).output().ok().filter(|o| o.status.success());
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().replace('\n', ", "));
    let (here, detail) = match text.filter(|text| !text.is_empty()) {
        Some(text) => (true, text),
        None => (false, format!("`{program}` is not here or finds none")),
    };
    Finding { what: what.to_string(), here, detail, gives: gives.to_string() }
}
