//! Plugins: where they lie, and each loaded once a process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::PjrtError;
use crate::ffi::{Client, Plugin};

/// A plugin that was loaded, with its devices once somebody asked for them.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) plugin: Arc<Plugin>,
    client: OnceLock<Result<Arc<Client>, PjrtError>>,
}

impl Loaded {
    /// The plugin's devices.
    pub(crate) fn client(&self) -> Result<Arc<Client>, PjrtError> {
        self.client.get_or_init(|| Client::open(&self.plugin)).clone()
    }

    /// What tells programs of this plugin from those of another, or of another build of it.
    pub(crate) fn identity(&self, client: &Client) -> String {
        let path = self.plugin.path();
        let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let attributes = self.plugin.attributes();
        let (version, platform) = (self.plugin.version(), client.platform_version());
        format!("{length} {version} {platform} {attributes:?}")
    }
}

type Registry = BTreeMap<PathBuf, Result<Arc<Loaded>, PjrtError>>;

/// The plugin in a file, loaded now if it was not yet. A plugin can be loaded once and never unloaded, so the process keeps them.
pub(crate) fn load(path: &Path) -> Result<Arc<Loaded>, PjrtError> {
    static LOADED: Mutex<Registry> = Mutex::new(BTreeMap::new());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    loaded
        .entry(path.to_path_buf())
        .or_insert_with(|| {
            let plugin = Plugin::load(path)?;
            Ok(Arc::new(Loaded { plugin, client: OnceLock::new() }))
        })
        .clone()
}

/// Whether a plugin is the one for TPUs.
fn is_tpu(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "libtpu.so")
}

/// The plugin in a file, loaded to use its devices. The one for TPUs is not touched where there is none: being loaded is enough for
/// it to ask the cloud's metadata service for minutes.
pub(crate) fn load_for_devices(path: &Path) -> Result<Arc<Loaded>, PjrtError> {
    if is_tpu(path) && !has_tpu(Path::new("/")) {
        return Err(PjrtError::NoDevice { ordinal: 0, count: 0 });
    }
    load(path)
}

/// Whether the machine whose files lie under `root` has a TPU: a device file such as its driver makes (others make `vfio` too), and a
/// device of Google's on the bus.
fn has_tpu(root: &Path) -> bool {
    let driven = ["dev/accel0", "dev/vfio/0"].iter().any(|path| root.join(path).exists());
    let google = |device: PathBuf| {
        std::fs::read_to_string(device.join("vendor")).is_ok_and(|id| id.trim() == "0x1ae0")
    };
    driven && entries(&root.join("sys/bus/pci/devices")).into_iter().any(google)
}

/// What a plugin says of itself, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginReport {
    /// The file.
    pub path: PathBuf,
    /// Version of the interface and of StableHLO, platform and devices; or why it cannot be used.
    pub found: Result<String, PjrtError>,
}

/// Loads a plugin and asks it for all there is to say.
pub(crate) fn report(path: &Path) -> PluginReport {
    let found = load_for_devices(path).map(|loaded| {
        let mut parts = vec![format!("PJRT {}", loaded.plugin.version())];
        let attributes = loaded.plugin.attributes();
        let stablehlo = attributes.iter().find(|(name, _)| name == "stablehlo_current_version");
        if let Some((_, version)) = stablehlo {
            parts.push(format!("StableHLO {version}"));
        }
        match loaded.client() {
            Ok(client) => {
                parts.push(format!("platform {}", client.platform()));
                let kinds: Vec<String> = client.devices().iter().map(|d| d.kind.clone()).collect();
                parts.push(format!("devices: {}", counted(&kinds)));
            }
            Err(error) => parts.push(format!("no devices: {error}")),
        }
        parts.join(", ")
    });
    let found = match found {
        Err(PjrtError::NoDevice { .. }) => {
            Ok("no TPU on this machine; it compiles ahead of time (`anychip build`)".to_string())
        }
        other => other,
    };
    PluginReport { path: path.to_path_buf(), found }
}

/// `4 × TPU v4`
fn counted(names: &[String]) -> String {
    let mut counts: Vec<(&String, usize)> = Vec::new();
    for name in names {
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    if counts.is_empty() {
        return "none".to_string();
    }
    let one = |(name, count): (&String, usize)| {
        if count == 1 { name.clone() } else { format!("{count} × {name}") }
    };
    counts.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Files of plugins whose packages keep them elsewhere than in the folders for plugins.
const KNOWN: [&str; 3] = [
    "libtpu/libtpu.so",
    "lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so",
    "fastatomstruct_xla_cpu/libpjrt_cpu.so",
];

/// Folders of Python packages in which each folder is a plugin's: the one JAX looks into, and one of plugins without JAX.
const NAMESPACES: [&str; 2] = ["jax_plugins", "xla_plugins"];

/// The plugins in folders of Python packages (`site-packages`), in order.
pub fn in_folders(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders {
        found.extend(KNOWN.iter().map(|file| folder.join(file)).filter(|path| path.is_file()));
        for namespace in NAMESPACES {
            for package in entries(&folder.join(namespace)) {
                let libraries = entries(&package).into_iter().filter(|path| is_plugin(path));
                found.extend(libraries);
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|path| seen.insert(path.clone()));
    found
}

/// What a folder holds, sorted; nothing where it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Whether a file of a plugin's package is the plugin: packages hold extension modules of Python too.
fn is_plugin(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let is_library = path.extension().is_some_and(|extension| extension == "so");
    name.is_some_and(|name| {
        is_library
            && !name.contains(".cpython-")
            && !name.contains(".abi3")
            && ["plugin", "pjrt"].iter().any(|word| name.contains(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_of_an_environment_are_found() {
        let folder = std::env::temp_dir().join(format!("anychip-plugins-{}", std::process::id()));
        let files = [
            "jax_plugins/xla_cuda13/xla_cuda_plugin.so",
            "jax_plugins/xla_cuda13/_versions.cpython-311-x86_64-linux-gnu.so",
            "jax_plugins/xla_cuda13/__init__.py",
            "xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so",
            "libtpu/libtpu.so",
            "numpy/core.so",
        ];
        for file in files {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("temporary");
            std::fs::write(path, b"").expect("temporary");
        }
        let found = in_folders(&[folder.clone(), folder.clone(), folder.join("missing")]);
        let expected = [files[4], files[0], files[3]].map(|file| folder.join(file));
        assert_eq!(found, expected);
        std::fs::remove_dir_all(folder).expect("it was made above");
    }

    #[test]
    fn a_tpu_is_a_device_file_and_its_vendor() {
        let root = std::env::temp_dir().join(format!("anychip-machine-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("temporary");
            std::fs::write(path, text).expect("temporary");
        };
        assert!(!has_tpu(&root));
        write("dev/vfio/0", "");
        write("sys/bus/pci/devices/0000:00:04.0/vendor", "0x10de\n");
        assert!(!has_tpu(&root), "a graphics card lent to a guest");
        write("sys/bus/pci/devices/0000:00:05.0/vendor", "0x1ae0\n");
        assert!(has_tpu(&root));
        std::fs::remove_dir_all(root).expect("it was made above");
    }

    /// Loading this file would fail, and loading libtpu would ask a service that is not there.
    #[test]
    fn the_plugin_for_tpus_is_not_loaded_without_one() {
        if has_tpu(Path::new("/")) {
            return;
        }
        let path = Path::new("missing/libtpu.so");
        assert!(matches!(load_for_devices(path), Err(PjrtError::NoDevice { .. })));
        assert!(report(path).found.is_ok_and(|text| text.contains("no TPU")));
    }

    #[test]
    fn devices_are_counted() {
        let names = ["a", "b", "a"].map(String::from);
        assert_eq!(counted(&names), "2 × a, b");
        assert_eq!(counted(&[]), "none");
    }
}
