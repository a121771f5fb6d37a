//! Embeds every file of `data/`: a new chip is one new file there, and no list to edit.

use std::{env, fs, io::Error, path::Path};

fn main() -> Result<(), Error> {
    println!("cargo::rerun-if-changed=data");
    let root = env::var("CARGO_MANIFEST_DIR").map_err(Error::other)?;
    let out = env::var("OUT_DIR").map_err(Error::other)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(Path::new(&root).join("data"))? {
        let name =
            entry?.file_name().into_string().map_err(|name| Error::other(format!("{name:?}")))?;
        if name.ends_with(".toml") {
            names.push(name);
        }
    }
    names.sort();
    let rows: String = names
        .iter()
        .map(|name| {
            format!("    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/data/{name}\"))),\n")
        })
        .collect();
    let text = format!("pub(crate) const FILES: &[(&str, &str)] = &[\n{rows}];\n");
    fs::write(Path::new(&out).join("files.rs"), text)
}
