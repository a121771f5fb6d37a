//! Embeds every file of `data/`: a new chip is one new file there, and no list to edit. The files are TOML for people;
//! here they become JSON, which is read twenty times as fast when a command starts.

use std::{env, fs, io::Error, path::Path};

fn main() -> Result<(), Error> {
    println!("cargo::rerun-if-changed=data");
    let root = env::var("CARGO_MANIFEST_DIR").map_err(Error::other)?;
    let out = env::var("OUT_DIR").map_err(Error::other)?;
    let mut rows = Vec::new();
    for entry in fs::read_dir(Path::new(&root).join("data"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
                Error::other(format!("{}: the name of a chip file must be UTF-8", path.display()))
            })?;
            let fault = |error: &dyn std::fmt::Display| {
                Error::other(format!("{}: {error}", path.display()))
            };
            let value: toml::Value =
                toml::from_str(&fs::read_to_string(&path)?).map_err(|error| fault(&error))?;
            let json = serde_json::to_string(&value).map_err(|error| fault(&error))?;
            rows.push(format!("    ({name:?}, {json:?}),\n"));
        }
    }
    rows.sort();
    let text = format!("pub(crate) const FILES: &[(&str, &str)] = &[\n{}];\n", rows.concat());
    fs::write(Path::new(&out).join("files.rs"), text)
}
