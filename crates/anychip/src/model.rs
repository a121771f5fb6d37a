//! A model as it was loaded: its graph, where it came from, what it takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anychip_ir::{Graph, TensorType, ValueId};
use anychip_onnx::ImportOptions;
use anychip_passes::PassReport;
use anychip_tensor::{Dim, Tensor};
use sha2::{Digest, Sha256};

use crate::{Arrays, Error};

/// A trained model.
#[derive(Debug, Clone)]
pub struct Model {
    path: PathBuf,
    name: String,
    imported: anychip_onnx::Model,
}

impl Model {
    /// Loads an ONNX file. Weights stay in the file, mapped.
    pub fn load(path: &Path) -> Result<Model, Error> {
        Model::load_with(path, &ImportOptions::default())
    }

    /// Loads an ONNX file for the given arrays: inputs whose contents decide the graph's structure (axes, say)
    /// become constants of it, and inputs whose types the file leaves open get those of the arrays.
    pub fn load_for(path: &Path, arrays: &Arrays) -> Result<Model, Error> {
        let mut options = ImportOptions::default();
        // Each round gives what the one before asked for, and that can reveal the next.
        loop {
            let problems = match Model::load_with(path, &options) {
                Err(Error::Model { problems, .. }) => problems,
                done => return done,
            };
            let before = (options.bind.len(), options.input_types.len());
            for name in problems.needs_values() {
                if let Some(array) = arrays.get(&name) {
                    options.input_types.remove(&name);
                    options.bind.insert(name, array.clone());
                }
            }
            if options.bind.len() == before.0 {
                for (name, array) in arrays {
                    if !options.bind.contains_key(name) {
                        options.input_types.insert(name.clone(), TensorType::of(array));
                    }
                }
            }
            if before == (options.bind.len(), options.input_types.len()) {
                return Err(Error::Model { path: path.to_path_buf(), problems });
            }
        }
    }

    /// Loads an ONNX file with settings.
    pub fn load_with(path: &Path, options: &ImportOptions) -> Result<Model, Error> {
        let imported = anychip_onnx::load(path, options)
            .map_err(|problems| Error::Model { path: path.to_path_buf(), problems })?;
        let name =
            path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Ok(Model { path: path.to_path_buf(), name, imported })
    }

    /// The file's name without its ending.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the importer found out besides the graph.
    pub fn imported(&self) -> &anychip_onnx::Model {
        &self.imported
    }

    /// The graph as imported.
    pub fn graph(&self) -> &Graph {
        &self.imported.graph
    }

    /// The SHA-256 of the file, in hexadecimal. External data files are not part of it.
    pub fn sha256(&self) -> Result<String, Error> {
        let mut hasher = Sha256::new();
        let file = |source| Error::File { path: self.path.clone(), source };
        let mut reader = std::fs::File::open(&self.path).map_err(file)?;
        std::io::copy(&mut reader, &mut HashWriter(&mut hasher)).map_err(file)?;
        Ok(hasher.finalize().iter().fold(String::new(), |mut text, byte| {
            text += &format!("{byte:02x}");
            text
        }))
    }

    /// The graph after every pass, and what each did.
    pub fn optimized(&self) -> Result<(Graph, Vec<PassReport>), Error> {
        optimize(self.graph())
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The graph after every pass, and what each did.
pub fn optimize(graph: &Graph) -> Result<(Graph, Vec<PassReport>), Error> {
    let mut reports = Vec::new();
    let graph = anychip_passes::optimize(graph, &mut |report| reports.push(report.clone()))?;
    Ok((graph, reports))
}

/// The graph's inputs by name.
pub(crate) fn input_types(graph: &Graph) -> Vec<(&str, ValueId, &TensorType)> {
    graph
        .inputs()
        .iter()
        .map(|&v| (graph.value_name(v).unwrap_or("input"), v, graph.ty(v)))
        .collect()
}

/// The names of the sizes of a graph's inputs, each once.
pub fn size_names(graph: &Graph) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (_, _, ty) in input_types(graph) {
        for symbol in ty.shape.iter().flat_map(Dim::symbols) {
            if !names.iter().any(|n| **n == *symbol) {
                names.push(symbol.to_string());
            }
        }
    }
    names
}

/// Numbers for the named sizes of a graph's inputs.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    /// What was given or chosen, by name.
    pub numbers: BTreeMap<String, usize>,
    /// Those that nobody gave, with the number assumed.
    pub assumed: Vec<(String, usize)>,
}

/// What a name most likely stands for gets the size it usually has in benchmarks.
const USUAL_LENGTH: usize = 128;

/// Chooses a number for every named size: as given; the batch for the first dim of inputs; and where a name
/// says it is a length, the usual one, which is reported as assumed.
pub fn choose_sizes(
    graph: &Graph,
    given: &BTreeMap<String, usize>,
    batch: usize,
) -> Result<Sizes, Error> {
    let mut sizes = Sizes { numbers: given.clone(), assumed: Vec::new() };
    for (name, _, ty) in input_types(graph) {
        for (axis, dim) in ty.shape.iter().enumerate() {
            for symbol in dim.symbols() {
                let symbol = symbol.to_string();
                if sizes.numbers.contains_key(&symbol) {
                    continue;
                }
                let lower = symbol.to_lowercase();
                if axis == 0 || lower.contains("batch") {
                    sizes.numbers.insert(symbol, batch);
                } else if lower.contains("past") || lower.contains("cache") {
                    sizes.assumed.push((symbol.clone(), 0));
                    sizes.numbers.insert(symbol, 0);
                } else if ["seq", "length", "token", "time", "frames"]
                    .iter()
                    .any(|w| lower.contains(w))
                {
                    sizes.assumed.push((symbol.clone(), USUAL_LENGTH));
                    sizes.numbers.insert(symbol, USUAL_LENGTH);
                } else {
                    return Err(Error::UnknownDim { name: symbol, input: name.to_string() });
                }
            }
        }
    }
    Ok(sizes)
}

/// The graph with numbers in place of the names of its inputs' sizes.
pub fn with_sizes(graph: &Graph, sizes: &Sizes) -> Result<Graph, Error> {
    let types: Vec<TensorType> = input_types(graph)
        .into_iter()
        .map(|(_, _, ty)| TensorType {
            dtype: ty.dtype,
            shape: ty
                .shape
                .iter()
                .map(|dim| dim.substitute(&|name| sizes.numbers.get(name).map(|&n| Dim::Fixed(n))))
                .collect(),
        })
        .collect();
    Ok(anychip_ir::specialize(graph, &types)?)
}

/// A tensor as people read it: type, shape, and the first few elements.
pub fn describe(tensor: &Tensor) -> String {
    let head: Vec<String> = tensor.to_f64().iter().take(6).map(|v| format!("{v:.4}")).collect();
    let more = if tensor.len() > 6 { ", …" } else { "" };
    format!("{}{:?} [{}{more}]", tensor.dtype(), tensor.shape(), head.join(", "))
}
