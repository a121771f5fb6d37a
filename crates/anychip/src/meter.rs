//! Meters of this machine, read around a run: instructions and joules. A meter that is not there says why.

use std::path::{Path, PathBuf};

/// The largest resident set that this process has had, in bytes, where the system tells.
pub(crate) fn largest_resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// A meter that is read before and after.
pub(crate) trait Meter {
    /// Starts counting.
    fn start(&mut self);
    /// What was counted since the start, or why nothing was.
    fn stop(&mut self) -> Result<f64, String>;
}

/// Energy of the processor package by Intel's and AMD's running-average-power-limit counters.
pub(crate) struct PackageEnergy {
    zones: Vec<Zone>,
    reason: String,
}

struct Zone {
    counter: PathBuf,
    wraps_at: f64,
    start: Option<f64>,
}

impl PackageEnergy {
    /// Finds the counters.
    pub(crate) fn find() -> PackageEnergy {
        PackageEnergy::find_in(Path::new("/sys/class/powercap"))
    }

    fn find_in(folder: &Path) -> PackageEnergy {
        let mut zones = Vec::new();
        let mut reason =
            "no energy counter on this machine (/sys/class/powercap has no package zone)"
                .to_string();
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries {
            let path = entry.path();
            // `intel-rapl:0` is a package and `intel-rapl:0:0` a part of it. `intel-rapl-mmio:0` is the same package
            // seen another way, and a zone called `psys` is the platform around it: either would count it twice.
            let zone = entry.file_name();
            let package = zone.to_string_lossy().starts_with("intel-rapl:")
                && std::fs::read_to_string(path.join("name"))
                    .is_ok_and(|name| name.starts_with("package"));
            let Some(wraps_at) = number(&path.join("max_energy_range_uj")) else { continue };
            if !package {
                continue;
            }
            match std::fs::read_to_string(path.join("energy_uj")) {
                Ok(_) => {
                    zones.push(Zone { counter: path.join("energy_uj"), wraps_at, start: None });
                }
                Err(error) => {
                    reason = format!("the energy counter cannot be read ({error}); it needs root");
                }
            }
        }
        PackageEnergy { zones, reason }
    }
}

fn number(path: &Path) -> Option<f64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

impl Meter for PackageEnergy {
    fn start(&mut self) {
        for zone in &mut self.zones {
            zone.start = number(&zone.counter);
        }
    }

    fn stop(&mut self) -> Result<f64, String> {
        if self.zones.is_empty() {
            return Err(self.reason.clone());
        }
        let mut microjoules = 0.0;
        for zone in &self.zones {
            let (Some(start), Some(end)) = (zone.start, number(&zone.counter)) else {
                return Err("the energy counter stopped answering".to_string());
            };
            microjoules += if end >= start { end - start } else { end + zone.wraps_at - start };
        }
        Ok(microjoules * 1e-6)
    }
}

/// Instructions retired by this process and the threads it starts after this.
pub(crate) struct Instructions {
    #[cfg(target_os = "linux")]
    counter: Result<perf_event::Counter, String>,
}

impl Instructions {
    /// Opens the counter. Threads that exist already are not counted.
    pub(crate) fn find() -> Instructions {
        #[cfg(target_os = "linux")]
        {
            use perf_event::Builder;
            use perf_event::events::Hardware;
            let counter = Builder::new(Hardware::INSTRUCTIONS)
                .inherit(true)
                .build()
                .map_err(|error| format!("no instruction counter on this machine ({error})"));
            Instructions { counter }
        }
        #[cfg(not(target_os = "linux"))]
        Instructions {}
    }
}

impl Meter for Instructions {
    fn start(&mut self) {
        #[cfg(target_os = "linux")]
        if let Ok(counter) = &mut self.counter
            && let Err(error) = counter.reset().and_then(|()| counter.enable())
        {
            self.counter = Err(format!("the instruction counter refused: {error}"));
        }
    }

    fn stop(&mut self) -> Result<f64, String> {
        #[cfg(target_os = "linux")]
        {
            let counter = self.counter.as_mut().map_err(|reason| reason.clone())?;
            counter.disable().map_err(|e| e.to_string())?;
            match counter.read() {
                Ok(0) => Err("the instruction counter counts nothing on this machine".to_string()),
                Ok(count) => Ok(count as f64),
                Err(error) => Err(format!("the instruction counter refused: {error}")),
            }
        }
        #[cfg(not(target_os = "linux"))]
        Err("instructions are counted on Linux only".to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_counted_once() {
        let folder = std::env::temp_dir().join(format!("anychip-powercap-{}", std::process::id()));
        for (zone, name) in [
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:1", "psys"),
            ("intel-rapl-mmio:0", "package-0"),
        ] {
            let zone = folder.join(zone);
            std::fs::create_dir_all(&zone).unwrap();
            std::fs::write(zone.join("name"), format!("{name}\n")).unwrap();
            std::fs::write(zone.join("max_energy_range_uj"), "1000000\n").unwrap();
            std::fs::write(zone.join("energy_uj"), "400000\n").unwrap();
        }
        let mut meter = PackageEnergy::find_in(&folder);
        meter.start();
        for zone in ["intel-rapl:0", "intel-rapl:1", "intel-rapl-mmio:0"] {
            std::fs::write(folder.join(zone).join("energy_uj"), "900000\n").unwrap();
        }
        let joules = meter.stop();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(joules, Ok(0.5), "half a joule by the one package");
    }
}
