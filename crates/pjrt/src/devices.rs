//! What the devices of plugins are called here.
//!
//! A device that is a product of the catalog has the product's name. A plugin's CPU device has a name of its own, [`CPU_DEVICE`]:
//! it is this machine's processor under another software, and `cpu` is the target that everything is compared with.

use std::path::PathBuf;

use anychip_chips::{Catalog, Chip};

use crate::plugins::load_for_devices;

/// The name of this machine's processor as a plugin drives it.
pub const CPU_DEVICE: &str = "cpu-pjrt";

/// A device of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFound {
    /// The chip's name in the catalog, [`CPU_DEVICE`], or `pjrt-` and the vendor's name for a device of no row.
    pub chip: String,
    /// Which of those with that name.
    pub ordinal: usize,
    /// What its vendor calls it.
    pub kind: String,
    /// The plugin.
    pub plugin: PathBuf,
    /// Which of the plugin's devices.
    pub(crate) index: usize,
}

/// Names that vendors' software gives devices which are called otherwise in the catalog.
const KINDS: &[(&str, &str)] = &[
    ("TPU v2", "google-tpu-v2"),
    ("TPU v3", "google-tpu-v3"),
    ("TPU v4", "google-tpu-v4"),
    ("TPU v5 lite", "google-tpu-v5e"),
    ("TPU v5e", "google-tpu-v5e"),
    ("TPU v5", "google-tpu-v5p"),
    ("TPU v5p", "google-tpu-v5p"),
    ("TPU v6 lite", "google-tpu-v6e"),
    ("TPU v6e", "google-tpu-v6e"),
    ("TPU7x", "google-tpu7x"),
    ("NVIDIA A100 80GB PCIe", "nvidia-a100-pcie-80gb"),
    ("NVIDIA A100-PCIE-40GB", "nvidia-a100-pcie-40gb"),
    ("NVIDIA H100 80GB HBM3", "nvidia-h100-sxm5-80gb"),
    ("NVIDIA H100 PCIe", "nvidia-h100-pcie-80gb"),
    ("NVIDIA H100 NVL", "nvidia-h100-nvl-94gb"),
    ("NVIDIA H200", "nvidia-h200-sxm-141gb"),
    ("NVIDIA B200", "nvidia-b200-sxm-180gb"),
    ("Tesla T4", "nvidia-t4"),
    ("Tesla P4", "nvidia-p4"),
    ("Tesla V100-SXM2-16GB", "nvidia-v100-sxm2-16gb"),
    ("Tesla V100-PCIE-32GB", "nvidia-v100-pcie-32gb"),
];

/// Whether programs for a chip of the catalog go through this target.
pub fn serves(chip: &Chip) -> bool {
    chip.target.as_deref() == Some("pjrt") || crate::topology(&chip.id).is_some()
}

/// What a device is called.
fn chip_of(platform: &str, kind: &str, catalog: Option<&Catalog>) -> String {
    if platform.eq_ignore_ascii_case("cpu") || kind.eq_ignore_ascii_case("cpu") {
        return CPU_DEVICE.to_string();
    }
    if let Some((_, id)) = KINDS.iter().find(|(name, _)| *name == kind) {
        return (*id).to_string();
    }
    let slug = slug(kind.strip_prefix("NVIDIA GeForce ").unwrap_or(kind));
    let known = |id: &str| catalog.and_then(|c| c.get(id)).map(|chip| chip.id.clone());
    known(&slug)
        .or_else(|| known(&format!("nvidia-{slug}")))
        .unwrap_or_else(|| format!("pjrt-{slug}"))
}

/// `NVIDIA A100-SXM4-80GB` → `nvidia-a100-sxm4-80gb`
fn slug(kind: &str) -> String {
    let letters =
        kind.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { ' ' });
    letters.collect::<String>().split_whitespace().collect::<Vec<_>>().join("-")
}

/// The devices of plugins that can be used, in order; a second plugin's device of a name gets a name of its own, as they are
/// different software.
pub(crate) fn find(plugins: &[PathBuf]) -> Vec<DeviceFound> {
    let mut found: Vec<DeviceFound> = Vec::new();
    if plugins.is_empty() {
        return found;
    }
    let catalog = Catalog::builtin().ok();
    for plugin in plugins {
        let Ok(client) = load_for_devices(plugin).and_then(|loaded| loaded.client()) else {
            continue;
        };
        let platform = client.platform();
        let mut own: Vec<DeviceFound> = Vec::new();
        for (index, device) in client.devices().iter().enumerate() {
            let mut chip = chip_of(&platform, &device.kind, catalog.as_ref());
            let taken = |name: &str| found.iter().any(|other| other.chip == name);
            if taken(&chip) {
                let numbered =
                    (2..=plugins.len()).map(|n| format!("{chip}-{n}")).find(|name| !taken(name));
                chip = numbered.unwrap_or(chip);
            }
            let ordinal = own.iter().filter(|other| other.chip == chip).count();
            let (kind, plugin) = (device.kind.clone(), plugin.clone());
            own.push(DeviceFound { chip, ordinal, kind, plugin, index });
        }
        found.extend(own);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_the_names_of_their_products() {
        let catalog = Catalog::builtin().expect("its own tests check it");
        let name = |platform, kind| chip_of(platform, kind, Some(&catalog));
        assert_eq!(name("cpu", "cpu"), CPU_DEVICE);
        assert_eq!(name("tpu", "TPU v5 lite"), "google-tpu-v5e");
        assert_eq!(name("cuda", "NVIDIA A100-SXM4-80GB"), "nvidia-a100-sxm4-80gb");
        assert_eq!(name("cuda", "NVIDIA GeForce RTX 3090"), "nvidia-rtx-3090");
        assert_eq!(name("cuda", "Made Up 9"), "pjrt-made-up-9");
        for (_, id) in KINDS {
            assert!(catalog.get(id).is_some(), "{id}");
        }
    }
}
