//! A model's program for a chip, as files.

use std::path::{Path, PathBuf};

use anychip_chips::Chip;
use anychip_ir::Graph;
use anychip_target::{CompileOptions, Target, legalize};
use anychip_tensor::Tensor;

use crate::targets::targets;
use crate::{Error, write_npz};

/// Constants that a program takes as arguments, by the names of these.
const WEIGHTS: &str = "weights.npz";

/// What was written.
#[derive(Debug, Clone)]
pub struct Built {
    /// The target that made the program.
    pub target: &'static str,
    /// Every file.
    pub files: Vec<PathBuf>,
}

/// Writes the program of an optimized graph, whose sizes are numbers, for a chip into a folder.
pub fn build(
    graph: &Graph,
    chip: &Chip,
    folder: &Path,
    options: &CompileOptions,
) -> Result<Built, Error> {
    let target = target_for(chip)?;
    let legal = legalize(target.as_ref(), graph)
        .map_err(|refusals| Error::Refused { target: target.id(), refusals })?;
    let program = target.compile(&legal, chip, options)?;
    let files = program.files();
    if files.is_empty() {
        return Err(Error::NoFiles { target: target.id() });
    }
    let mut written = Vec::new();
    for file in files {
        let path = folder.join(&file.path);
        let failed = |source| Error::File { path: path.clone(), source };
        std::fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        std::fs::write(&path, &file.bytes).map_err(failed)?;
        written.push(path);
    }
    let weights = program.weights();
    if !weights.is_empty() {
        let named: Vec<(&str, &Tensor)> = weights.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let path = folder.join(WEIGHTS);
        write_npz(&path, &named)?;
        written.push(path);
    }
    Ok(Built { target: target.id(), files: written })
}

/// The target that writes programs for a chip.
fn target_for(chip: &Chip) -> Result<Box<dyn Target>, Error> {
    #[cfg(feature = "pjrt")]
    if anychip_pjrt::serves(chip) {
        return Ok(Box::new(crate::plugins::pjrt().clone()));
    }
    targets()
        .into_iter()
        .find(|target| chip.target.as_deref() == Some(target.id()))
        .ok_or_else(|| Error::NotBuilt { chip: chip.id.clone(), target: chip.target.clone() })
}
