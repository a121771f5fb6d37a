//! Files that are no plugins: each is told by name with the way out, has no devices, and harms nothing.

use std::path::{Path, PathBuf};

use anychip_pjrt::PjrtTarget;
use anychip_target::Target;

fn told(path: &Path) -> String {
    let target = PjrtTarget::new(vec![path.to_path_buf()]);
    assert!(target.places().is_empty() && target.devices().is_empty());
    let reports = target.reports();
    assert_eq!(reports.len(), 1);
    reports[0].found.as_ref().map_or_else(ToString::to_string, Clone::clone)
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("anychip-damaged-{}-{name}", std::process::id()));
    std::fs::write(&path, bytes).expect("the folder for temporary files takes files");
    path
}

#[test]
fn what_is_no_plugin_is_told() {
    assert!(
        told(Path::new("/no/such/plugin.so"))
            .contains("/no/such/plugin.so: the plugin cannot be read")
    );
    if cfg!(target_os = "linux") {
        let text = file("text.so", &b"not a library\n".repeat(100));
        assert!(told(&text).contains("not a 64-bit library"));
        std::fs::remove_file(text).expect("it was written above");
        // The test itself is a whole file of the right kind, and half of it is not.
        let own = std::fs::read(std::env::current_exe().expect("tests run from a file"))
            .expect("it can be read");
        let cut = file("cut.so", &own[..own.len() / 2]);
        assert!(told(&cut).contains("it was cut off"));
        std::fs::remove_file(cut).expect("it was written above");
    }
    let other = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libm.so.6", "/usr/lib/libm.so.6"];
    if let Some(other) = other.iter().map(Path::new).find(|path| path.is_file()) {
        assert!(told(other).contains("no PJRT plugin: it has no `GetPjrtApi`"));
    }
}
