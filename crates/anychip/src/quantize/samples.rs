//! Calibration data: arrays keyed by input name whose first axis is samples, read a batch at a time.
//!
//! Arrays that are not compressed stay in their file, mapped, so that a batch is a slice and nothing is copied.

use std::path::{Path, PathBuf};

use anychip_ir::Graph;
use anychip_tensor::Tensor;

use crate::inputs::{Arrays, arrange};
use crate::model::input_types;
use crate::npz::{read_npy, read_npz_mapped};
use crate::{Error, input_names};

/// Samples in one or more files, in the order of their names.
#[derive(Debug, Clone)]
pub struct Samples {
    path: PathBuf,
    /// Arrays that belong together: those of one archive, or of a folder of arrays.
    parts: Vec<Arrays>,
    labels: String,
}

/// Inputs in the graph's order, and the labels where the data have some.
#[derive(Debug, Clone)]
pub struct Batch {
    /// One tensor an input.
    pub inputs: Vec<Tensor>,
    /// One integer a sample.
    pub labels: Option<Tensor>,
}

impl Samples {
    /// Opens an `.npz` archive; or a folder of archives, which are read one after the other; or a folder of `.npy` files,
    /// each called as the input it is for. Of a model with one input each `.npy` file may be some of its samples.
    pub fn open(path: &Path, graph: &Graph, labels: &str) -> Result<Samples, Error> {
        let samples = |parts| Samples { path: path.to_path_buf(), parts, labels: labels.into() };
        if !path.is_dir() {
            return Ok(samples(vec![read_npz_mapped(path)?]));
        }
        let folder = |source| Error::File { path: path.to_path_buf(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(folder)? {
            files.push(entry.map_err(folder)?.path());
        }
        files.sort();
        let ending = |file: &Path, wanted: &str| file.extension().is_some_and(|e| e == wanted);
        let mut parts = Vec::new();
        for file in files.iter().filter(|f| ending(f, "npz")) {
            parts.push(read_npz_mapped(file)?);
        }
        let names = input_names(graph);
        let mut together = Arrays::new();
        for file in files.iter().filter(|f| ending(f, "npy")) {
            let stem =
                file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            let array = read_npy(file)?;
            if names.contains(&stem) || stem == labels || names.len() != 1 {
                together.insert(stem, array);
            } else {
                parts.push(Arrays::from([(names[0].clone(), array)]));
            }
        }
        if !together.is_empty() {
            parts.push(together);
        }
        if parts.is_empty() {
            const IMAGES: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "webp", "gif"];
            let image = |f: &&PathBuf| {
                IMAGES.iter().any(|e| f.extension().is_some_and(|own| own.eq_ignore_ascii_case(e)))
            };
            let problem = match files.iter().find(image) {
                Some(image) => format!(
                    "the folder holds images (`{}`), which say nothing of the size, order of colors and scale that the model was trained with\n  help: save what the model is given instead, as numpy.save(\"0001.npy\", x) of each prepared batch",
                    image.file_name().unwrap_or_default().to_string_lossy()
                ),
                None => "the folder holds no .npz and no .npy file".into(),
            };
            return Err(Error::Calibration { path: path.to_path_buf(), problem });
        }
        Ok(samples(parts))
    }

    /// All batches, each checked against what the graph takes; of the size the graph asks for. Samples that do not fill a
    /// batch of a fixed size are left out.
    pub fn batches(&self, graph: &Graph) -> Result<Vec<Batch>, Error> {
        let problem = |problem: String| Error::Calibration { path: self.path.clone(), problem };
        let types = input_types(graph);
        let fixed = types.iter().find_map(|(_, _, ty)| ty.shape.first()?.fixed());
        let size = fixed.unwrap_or_else(|| super::samples_at_once(graph));
        if size == 0 {
            return Err(problem("the model's inputs have no elements".into()));
        }
        let mut batches = Vec::new();
        let mut seen = 0;
        for part in &self.parts {
            let counts: Vec<(&str, usize)> = types
                .iter()
                .filter_map(|(name, _, ty)| {
                    let array = part.get(*name)?;
                    (ty.rank() > 0).then(|| (*name, array.shape().first().copied().unwrap_or(0)))
                })
                .collect();
            let Some(&(first, count)) = counts.first() else {
                // Nothing for any input: `arrange` says what is missing.
                arrange(graph, part)?;
                return Err(problem("holds no array for an input of the model".into()));
            };
            if let Some((other, found)) = counts.iter().find(|(_, n)| *n != count) {
                return Err(problem(format!(
                    "array `{first}` has {count} samples and `{other}` has {found}; the first axis of all is samples"
                )));
            }
            let labels = part.get(&self.labels);
            if let Some(labels) = labels.filter(|l| l.len() != count) {
                return Err(problem(format!(
                    "`{}` has {} entries for {count} samples",
                    self.labels,
                    labels.len()
                )));
            }
            seen += count;
            let mut from = 0;
            while from < count {
                let to = (from + size).min(count);
                if fixed.is_some() && to - from < size {
                    break;
                }
                let mut arrays = Arrays::new();
                for (name, _, ty) in &types {
                    if let Some(array) = part.get(*name) {
                        let cut =
                            if ty.rank() == 0 { array.clone() } else { rows(array, from, to)? };
                        arrays.insert((*name).to_string(), cut);
                    }
                }
                let labels = labels.map(|l| rows(l, from, to)).transpose()?;
                batches.push(Batch { inputs: arrange(graph, &arrays)?, labels });
                from = to;
            }
        }
        if batches.is_empty() {
            return Err(problem(match fixed {
                Some(size) if seen > 0 => format!(
                    "{seen} samples do not fill one batch of the model, whose inputs are fixed at {size}\n  help: give at least {size} samples, or export the model with a named first dim"
                ),
                _ => "there are no samples: the first axis of the arrays has size 0".into(),
            }));
        }
        Ok(batches)
    }

    /// Where the data came from.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Rows `from..to` of an array, not copied.
fn rows(array: &Tensor, from: usize, to: usize) -> Result<Tensor, Error> {
    let mut shape = array.shape().to_vec();
    let count = shape.first().copied().unwrap_or(1).max(1);
    let row = array.byte_len() / count;
    if let Some(first) = shape.first_mut() {
        *first = to - from;
    }
    let bytes = array.bytes().slice(from * row..to * row);
    Ok(Tensor::from_bytes(array.dtype(), shape, bytes).map_err(anychip_ir::IrError::from)?)
}
