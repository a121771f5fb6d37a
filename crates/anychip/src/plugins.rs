//! Where plugins of PJRT are looked for, and which rows of the table their devices get.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anychip_chips::{Body, Catalog, Chip, Compute, Family};
use anychip_pjrt::{CPU_DEVICE, PjrtTarget};

use crate::machine::this_cpu;

/// Files of plugins, separated as in `PATH`; when set, nothing else is looked at.
pub const PLUGINS_VARIABLE: &str = "ANYCHIP_PJRT_PLUGINS";

/// The target, with the plugins that were found when it was first asked for.
pub fn pjrt() -> &'static PjrtTarget {
    static TARGET: OnceLock<PjrtTarget> = OnceLock::new();
    TARGET.get_or_init(|| PjrtTarget::new(plugin_files()))
}

/// The plugins of this process's environment, in order.
pub fn plugin_files() -> Vec<PathBuf> {
    match std::env::var_os(PLUGINS_VARIABLE) {
        Some(paths) => {
            std::env::split_paths(&paths).filter(|p| !p.as_os_str().is_empty()).collect()
        }
        None => anychip_pjrt::in_folders(&python_folders()),
    }
}

/// A vendor's compiler that is here and compiles for a chip that need not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorCompiler {
    /// The plugin.
    pub plugin: PathBuf,
    /// What it calls the chip.
    pub topology: &'static str,
    /// Variables of the environment, and their values, without which it looks for its vendor's machines, or for one of its kind
    /// that runs already.
    pub environment: &'static [(&'static str, &'static str)],
}

/// Without the first libtpu asks a service that only its vendor's machines have; without the second it refuses to load while another
/// process has it, as a TPU is for one process alone, and a compiler needs none.
const LIBTPU_ENVIRONMENT: &[(&str, &str)] =
    &[("TPU_SKIP_MDS_QUERY", "1"), ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")];

/// The compiler of a chip's vendor, if there is one that needs no such chip, and it is installed.
pub fn vendor_compiler(chip: &Chip) -> Option<VendorCompiler> {
    let topology = anychip_pjrt::topology(&chip.id)?;
    let is_libtpu = |path: &PathBuf| path.file_name().is_some_and(|name| name == "libtpu.so");
    let plugin = plugin_files().into_iter().find(is_libtpu)?;
    Some(VendorCompiler { plugin, topology, environment: LIBTPU_ENVIRONMENT })
}

/// The folders of Python packages of the active environment: what `VIRTUAL_ENV` or `CONDA_PREFIX` names, else those beside the
/// `python3` that would be started.
fn python_folders() -> Vec<PathBuf> {
    for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        if let Some(prefix) = std::env::var_os(variable).filter(|prefix| !prefix.is_empty()) {
            return package_folders(Path::new(&prefix));
        }
    }
    let mut prefixes: Vec<PathBuf> = Vec::new();
    if let Some(home) = std::env::var_os("HOME") {
        prefixes.push(Path::new(&home).join(".local"));
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let python = std::env::split_paths(&paths).map(|p| p.join("python3")).find(|p| p.is_file());
    if let Some(prefix) = python.as_deref().and_then(Path::parent).and_then(Path::parent) {
        prefixes.push(prefix.to_path_buf());
    }
    prefixes.iter().flat_map(|prefix| package_folders(prefix)).collect()
}

/// `lib/python3.*/site-packages` and Debian's `dist-packages` under a prefix, sorted.
fn package_folders(prefix: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(prefix.join("lib")) else { return Vec::new() };
    let mut versions: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"))
        .map(|entry| entry.path())
        .collect();
    versions.sort();
    let names = ["site-packages", "dist-packages"];
    let folders = versions.iter().flat_map(|v| names.map(|name| v.join(name)));
    folders.filter(|folder| folder.is_dir()).collect()
}

/// The rows of devices that the catalog has none for: this machine's processor under a plugin, and products nobody entered.
pub(crate) fn rows(catalog: &Catalog) -> Vec<Chip> {
    let mut rows: Vec<Chip> = Vec::new();
    for device in pjrt().devices() {
        let known = catalog.get(&device.chip).is_some();
        if !known && rows.iter().all(|row| row.id != device.chip) {
            rows.push(row(&device.chip, &device.kind));
        }
    }
    rows
}

/// Whether a row is this machine's processor, driven by a plugin.
pub(crate) fn is_this_cpu(id: &str) -> bool {
    id.starts_with(CPU_DEVICE)
}

fn row(id: &str, kind: &str) -> Chip {
    let stacks = vec!["xla".to_string()];
    let target = Some("pjrt".to_string());
    let id = id.to_string();
    if is_this_cpu(&id) {
        let cpu = this_cpu(false, None);
        let name = format!("{} through a PJRT plugin", cpu.name);
        return Chip { id, name, target, stacks, ..cpu };
    }
    let body = Body::Compute(Compute::default());
    Chip { target, ..Chip::new(&id, kind, "", Family::Gpu, "xla", body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_packages_are_found() {
        let prefix = std::env::temp_dir().join(format!("anychip-prefix-{}", std::process::id()));
        for folder in
            ["lib/python3.11/site-packages", "lib/python3/dist-packages", "lib/other/site-packages"]
        {
            std::fs::create_dir_all(prefix.join(folder)).expect("temporary");
        }
        let found = package_folders(&prefix);
        let expected = ["lib/python3/dist-packages", "lib/python3.11/site-packages"];
        assert_eq!(found, expected.map(|folder| prefix.join(folder)));
        std::fs::remove_dir_all(&prefix).expect("it was made above");
        assert!(package_folders(&prefix).is_empty());
    }
}
