//! A model as it was loaded: its graph, where it came from, what it takes. The one place that tells kinds of MODEL apart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anychip_ir::{Graph, TensorType, ValueId};
use anychip_onnx::{Diagnostic, ImportOptions};
use anychip_passes::PassReport;
use anychip_tensor::{Dim, Tensor};
use anychip_zoo::Architecture;
use sha2::{Digest, Sha256};

use crate::{Arrays, Error};

/// A model: a trained one from a file, or an architecture with random weights.
#[derive(Debug, Clone)]
pub struct Model {
    path: PathBuf,
    name: String,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Onnx(Box<anychip_onnx::Model>),
    /// With what it is told from others by: its name, or the configuration and the settings.
    Zoo {
        architecture: Box<Architecture>,
        identity: String,
    },
}

/// What names of built-in architectures begin with.
pub const ZOO: &str = "zoo:";

/// The most bytes of a `config.json`; real ones have a few thousand.
const LARGEST_CONFIG: u64 = 1 << 20;

impl Model {
    /// Loads an ONNX file, whose weights stay in it, mapped; or builds `zoo:NAME`, or what a Hugging Face `config.json`
    /// describes. Settings may follow either after a comma: `zoo:llama-2-7b,phase=decode`.
    pub fn load(path: &Path) -> Result<Model, Error> {
        Model::load_with(path, &ImportOptions::default())
    }

    /// [`Model::load`] for the given arrays: inputs whose contents decide the graph's structure (axes, say)
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

    /// [`Model::load`] with settings; of a model without a file only those on sizes mean anything.
    pub fn load_with(path: &Path, options: &ImportOptions) -> Result<Model, Error> {
        if let Some((architecture, identity)) = without_file(path)? {
            return Model::from_architecture(path, architecture, identity, options);
        }
        let imported = anychip_onnx::load(path, options)
            .map_err(|problems| Error::Model { path: path.to_path_buf(), problems })?;
        let name =
            path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Ok(Model { path: path.to_path_buf(), name, source: Source::Onnx(Box::new(imported)) })
    }

    fn from_architecture(
        path: &Path,
        mut architecture: Architecture,
        identity: String,
        options: &ImportOptions,
    ) -> Result<Model, Error> {
        if !options.dims.is_empty() {
            let sizes = Sizes { numbers: options.dims.clone(), assumed: Vec::new() };
            architecture.graph = with_sizes(&architecture.graph, &sizes)?;
        }
        let name = architecture.name.clone();
        let source = Source::Zoo { architecture: Box::new(architecture), identity };
        Ok(Model { path: path.to_path_buf(), name, source })
    }

    /// The file's name without its ending, or the architecture's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file, or what was written in its place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What wrote the model: the producer of a file and the version of the standard, or that nobody trained it.
    pub fn origin(&self) -> String {
        match &self.source {
            Source::Onnx(model) => format!("{}, opset {}", model.producer, model.opset),
            Source::Zoo { .. } => "a built-in architecture; random weights".to_string(),
        }
    }

    /// What is odd about the file and did not keep it from being read.
    pub fn warnings(&self) -> &[Diagnostic] {
        match &self.source {
            Source::Onnx(model) => &model.warnings,
            Source::Zoo { .. } => &[],
        }
    }

    /// Inputs of the file that are constants now, because their contents decide the graph's structure.
    pub fn structural_inputs(&self) -> &[String] {
        match &self.source {
            Source::Onnx(model) => &model.structural_inputs,
            Source::Zoo { .. } => &[],
        }
    }

    /// How many trained numbers there are, where it is known; a file does not tell them from other constants.
    pub fn parameters(&self) -> Option<u64> {
        match &self.source {
            Source::Onnx(_) => None,
            Source::Zoo { architecture, .. } => Some(architecture.parameters),
        }
    }

    /// Sizes that named dims usually have, where the model says so.
    pub fn usual_sizes(&self) -> &[(String, usize)] {
        match &self.source {
            Source::Onnx(_) => &[],
            Source::Zoo { architecture, .. } => &architecture.usual_sizes,
        }
    }

    /// The graph as imported or built.
    pub fn graph(&self) -> &Graph {
        match &self.source {
            Source::Onnx(model) => &model.graph,
            Source::Zoo { architecture, .. } => &architecture.graph,
        }
    }

    /// The SHA-256 of the file, in hexadecimal, external data files not part of it; or of what an architecture is
    /// told from others by.
    pub fn sha256(&self) -> Result<String, Error> {
        let mut hasher = Sha256::new();
        match &self.source {
            Source::Onnx(_) => {
                let file = |source| Error::File { path: self.path.clone(), source };
                let mut reader = std::fs::File::open(&self.path).map_err(file)?;
                std::io::copy(&mut reader, &mut HashWriter(&mut hasher)).map_err(file)?;
            }
            Source::Zoo { identity, .. } => hasher.update(identity.as_bytes()),
        }
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

/// The architecture that `path` names instead of a file, with what it is told from others by.
fn without_file(path: &Path) -> Result<Option<(Architecture, String)>, Error> {
    let Some(text) = path.to_str() else { return Ok(None) };
    if let Some(name) = text.strip_prefix(ZOO) {
        let architecture = anychip_zoo::build(name)?;
        let identity = format!("{ZOO}{}", architecture.name);
        return Ok(Some((architecture, identity)));
    }
    // A comma after the ending begins settings.
    let (file, settings) = match text.find(".json,") {
        Some(at) => (&text[..at + ".json".len()], &text[at + ".json,".len()..]),
        None if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) => (text, ""),
        None => return Ok(None),
    };
    let path = Path::new(file);
    let contents =
        read_limited(path).map_err(|source| Error::File { path: path.to_path_buf(), source })?;
    let name = path.with_extension("");
    let parts: Vec<String> =
        name.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    // Every model's file is called `config`, so its folder says more.
    let name = match parts.as_slice() {
        [.., folder, file] if file == "config" => folder,
        [.., file] => file,
        [] => "config",
    };
    let architecture = anychip_zoo::build_config(name, &contents, settings)
        .map_err(|source| Error::Config { path: path.to_path_buf(), source })?;
    Ok(Some((architecture, format!("{settings}\n{contents}"))))
}

/// A small text file.
fn read_limited(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(LARGEST_CONFIG + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST_CONFIG {
        let reason = "is too large for a configuration";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, reason));
    }
    Ok(text)
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

/// Chooses a number for every named size: as given; the batch for the first dim of inputs; one of `usual`, which is
/// reported as assumed; and where a name says it is a length, the usual one, which is reported too.
pub fn choose_sizes(
    graph: &Graph,
    given: &BTreeMap<String, usize>,
    usual: &[(String, usize)],
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
                } else if let Some(&(_, size)) = usual.iter().find(|(name, _)| *name == symbol) {
                    sizes.assumed.push((symbol.clone(), size));
                    sizes.numbers.insert(symbol, size);
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
