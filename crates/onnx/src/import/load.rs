//! Opens a file, reads the model in it, and imports its graph.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use anychip_ir::{Builder, Graph, TensorType};
use anychip_tensor::{Dim, Tensor};
use bytes::Bytes;
use prost::Message;

use super::functions::FunctionKey;
use super::importer::{Bound, Importer, NEWEST_OPSET, Scope};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::files::{self, Files};
use crate::proto::tensor_shape_proto::dimension::Value as DimValue;
use crate::proto::type_proto::Value as TypeValue;
use crate::proto::{ModelProto, TypeProto, ValueInfoProto};
use crate::tensor::{dtype_from_onnx, dtype_words};

/// Newest file format that is known.
const NEWEST_IR_VERSION: i64 = 14;

/// How a model is to be read.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Inputs that become constants, by name: those whose contents decide the form of the graph, as
    /// [`Diagnostics::needs_values`] tells.
    pub bind: BTreeMap<String, Tensor>,
    /// Numbers for named dims.
    pub dims: BTreeMap<String, usize>,
    /// Types of inputs by name, where the file says less or nothing. An input with a default value stays an
    /// input when it is named here and becomes a constant otherwise.
    pub input_types: BTreeMap<String, TensorType>,
}

/// A model as it was read.
#[derive(Debug, Clone)]
pub struct Model {
    /// The computation.
    pub graph: Graph,
    /// Version of the standard's operators that the file asks for.
    pub opset: i64,
    /// Version of each domain, the default one as `""`.
    pub opsets: BTreeMap<String, i64>,
    /// Version of the file format.
    pub ir_version: i64,
    /// What wrote the file, with its version.
    pub producer: String,
    /// The author's notes.
    pub metadata: BTreeMap<String, String>,
    /// Inputs of the file that are constants now, because [`ImportOptions::bind`] gave their contents.
    pub structural_inputs: Vec<String>,
    /// What is odd about the file and did not keep it from being read.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a model. Weights stay in the file, which is mapped, and in the files beside it.
pub fn load(path: &Path, options: &ImportOptions) -> Result<Model, Diagnostics> {
    let data = files::map(path).map_err(|error| {
        Diagnostic::new(Code::Io, format!("cannot read the model: {error}"))
            .at(path.display().to_string())
    })?;
    let folder = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(Path::new(".")),
        other => other,
    };
    from_bytes(data, folder, options)
}

/// Reads a model from memory; `folder` is where weights outside of it are looked up.
pub fn from_bytes(
    data: Bytes,
    folder: Option<&Path>,
    options: &ImportOptions,
) -> Result<Model, Diagnostics> {
    let proto = decode(data)?;
    import(proto, Files::beside(folder), options)
}

/// What other files begin with, and what to say of them.
const MAGIC: &[(&[u8], &str, &str)] = &[
    (
        b"PK\x03\x04",
        "a zip archive",
        "a PyTorch `.pt` file is one: export it with torch.onnx.export; an archive of an ONNX model has to be unpacked",
    ),
    (
        b"\x80\x02",
        "a Python pickle",
        "an old PyTorch file is one: export the model with torch.onnx.export",
    ),
    (b"\xff\xd8\xff", "a JPEG picture", "give the model, not its input"),
    (b"\x89PNG", "a PNG picture", "give the model, not its input"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it first"),
    (b"\x89HDF", "an HDF5 file", "a Keras `.h5` file is one: convert it with tf2onnx"),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS, not the model itself",
        "fetch it with `git lfs pull`",
    ),
    (b"\x93NUMPY", "a NumPy array", "give the model, not its input"),
    (b"<!DOCTYPE", "a web page", "the download went wrong: fetch the file itself"),
    (b"<html", "a web page", "the download went wrong: fetch the file itself"),
    (b"ORTM", "ONNX Runtime's own format", "give the `.onnx` file that it was made from"),
];

fn decode(data: Bytes) -> Result<ModelProto, Diagnostics> {
    let not_onnx =
        |what: &str| Diagnostic::new(Code::NotOnnx, format!("this is {what}, not an ONNX model"));
    if data.is_empty() {
        return Err(not_onnx("an empty file")
            .help("the download or export may have failed")
            .into());
    }
    if let Some((_, what, help)) = MAGIC.iter().find(|(magic, _, _)| data.starts_with(magic)) {
        return Err(not_onnx(what).help(*help).into());
    }
    if data.get(4..8) == Some(b"TFL3") {
        return Err(not_onnx("a TensorFlow Lite model").help("convert it with tf2onnx").into());
    }
    if data.get(8..10) == Some(b"{\"") {
        return Err(not_onnx("a safetensors file")
            .help("it has weights without a graph: export the model with torch.onnx.export")
            .into());
    }
    let length = data.len();
    let proto = ModelProto::decode(data).map_err(|error| {
        Diagnostic::new(
            Code::Corrupt,
            format!("the {length} bytes are not a whole ONNX model: {error}"),
        )
        .help("the file may be cut short or of another kind")
    })?;
    if proto.graph.is_none() {
        return Err(not_onnx("a file without a graph")
            .help("the file may be cut short or of another kind")
            .into());
    }
    Ok(proto)
}

fn import(
    mut proto: ModelProto,
    files: Files,
    options: &ImportOptions,
) -> Result<Model, Diagnostics> {
    let mut importer = Importer::new(files);
    let mut warnings = Vec::new();
    let opsets = Importer::versions(&proto.opset_import);
    // File formats before 3 had no list of versions, and only the first of each operator.
    if opsets.is_empty() && !(1..3).contains(&proto.ir_version()) {
        importer.report(
            Diagnostic::new(
                Code::UnknownVersion,
                "the file names no opset, so what its operators mean is not known",
            )
            .help("the file may be incomplete; export the model again"),
        );
    }
    let opset = opsets.get("").copied().unwrap_or({
        // Functions and other domains need no version of the default one.
        if opsets.is_empty() { 1 } else { NEWEST_OPSET }
    });
    check_opset(&mut importer, opset, "the model");
    if proto.ir_version() > NEWEST_IR_VERSION {
        warnings.push(
            Diagnostic::new(
                Code::UnknownVersion,
                format!(
                    "file format {}; known are those up to {NEWEST_IR_VERSION}",
                    proto.ir_version()
                ),
            )
            .help("parts of the file that are newer are not read"),
        );
    }
    for function in std::mem::take(&mut proto.functions) {
        if let Some(&opset) = Importer::versions(&function.opset_import).get("") {
            check_opset(&mut importer, opset, &format!("function `{}`", function.name()));
        }
        let key = FunctionKey::defined_by(&function);
        if importer.functions.insert(key, Rc::new(function)).is_some() {
            importer.report(Diagnostic::new(
                Code::DuplicateValue,
                "two functions have the same domain, name and overload",
            ));
        }
    }
    importer.opsets.clone_from(&opsets);
    importer.opsets.entry(String::new()).or_insert(opset);
    let graph = proto.graph.take().unwrap_or_default();
    let mut b = Builder::new(graph.name());
    let mut scope = Scope::default();
    let structural_inputs = inputs(&mut importer, &mut b, &graph, &mut scope, options);
    let bounds = importer.graph(&mut b, &graph, &mut scope);
    let mut outputs: Vec<(Arc<str>, _)> = Vec::new();
    for (info, bound) in graph.output.iter().zip(bounds) {
        match bound {
            Bound::Tensor(value) => outputs.push((info.name().into(), value)),
            Bound::Missing => {}
            Bound::Sequence(_) | Bound::Absent => importer.report(
                Diagnostic::new(Code::BadType, "the output is a sequence or an absent optional, and only tensors are given out")
                    .at(info.name()),
            ),
        }
    }
    if graph.output.is_empty() {
        importer.report(Diagnostic::new(Code::BadType, "the graph has no outputs"));
    }
    for info in &graph.output {
        let Some(Bound::Tensor(value)) = scope.find(info.name()) else { continue };
        let found = b.ty(*value);
        if let Some(problem) = wrong_elements(info, found) {
            importer.report(Diagnostic::new(Code::BadType, problem).at(info.name()));
        } else if let Some(problem) = wrong_shape(info, found) {
            // Whoever changes the batch of a file's inputs often leaves the outputs as they were.
            warnings.push(Diagnostic::new(Code::BadType, problem).at(info.name()));
        }
    }
    let problems = importer.finish();
    if !problems.is_empty() {
        return Err(Diagnostics(problems));
    }
    Ok(Model {
        graph: b.finish_named(&outputs),
        opset,
        opsets,
        ir_version: proto.ir_version(),
        producer: format!("{} {}", proto.producer_name(), proto.producer_version()).trim().into(),
        metadata: proto
            .metadata_props
            .iter()
            .map(|entry| (entry.key().to_string(), entry.value().to_string()))
            .collect(),
        structural_inputs,
        warnings,
    })
}

/// Reports a version of the default domain whose operators may mean something else than the rows say.
fn check_opset(importer: &mut Importer, opset: i64, user: &str) {
    if opset > NEWEST_OPSET {
        importer.report(
            Diagnostic::new(
                Code::UnknownVersion,
                format!("{user} uses opset {opset}; the newest that is known is {NEWEST_OPSET}"),
            )
            .help(format!("export the model again with opset {NEWEST_OPSET} or older")),
        );
    }
}

/// How the declared element type differs from the one found by inference.
fn wrong_elements(info: &ValueInfoProto, found: &TensorType) -> Option<String> {
    let code = i64::from(info.r#type.as_ref().and_then(tensor_type)?.elem_type());
    (code != 0 && dtype_from_onnx(code) != Some(found.dtype)).then(|| {
        let declared = dtype_words(code);
        format!("declared with elements of type {declared}, and its nodes give {found}")
    })
}

/// How the declared shape contradicts the one found by inference. Names of dims are the author's business and are
/// not held against each other.
fn wrong_shape(info: &ValueInfoProto, found: &TensorType) -> Option<String> {
    let tensor = info.r#type.as_ref().and_then(tensor_type)?;
    let dims = &tensor.shape.as_ref()?.dim;
    let fits = |(declared, found): (&crate::proto::tensor_shape_proto::Dimension, &Dim)| {
        match (&declared.value, found.fixed()) {
            // Exporters write −1 for what they do not know.
            (Some(DimValue::DimValue(n)), Some(found)) if *n != -1 => {
                usize::try_from(*n).is_ok_and(|n| n == found)
            }
            _ => true,
        }
    };
    if dims.len() == found.rank() && dims.iter().zip(&found.shape).all(fits) {
        return None;
    }
    let words: Vec<String> = dims
        .iter()
        .map(|d| match &d.value {
            Some(DimValue::DimValue(n)) => n.to_string(),
            Some(DimValue::DimParam(name)) => name.clone(),
            None => "?".into(),
        })
        .collect();
    Some(format!("declared as [{}], and its nodes give {found}", words.join(", ")))
}

/// Adds the graph's inputs, or constants in place of them.
fn inputs(
    importer: &mut Importer,
    b: &mut Builder,
    graph: &crate::proto::GraphProto,
    scope: &mut Scope<'_>,
    options: &ImportOptions,
) -> Vec<String> {
    let defaults: BTreeSet<&str> = graph
        .initializer
        .iter()
        .map(super::super::proto::TensorProto::name)
        .chain(graph.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.name())))
        .collect();
    let names: BTreeSet<&str> = graph.input.iter().map(ValueInfoProto::name).collect();
    for name in options.bind.keys().chain(options.input_types.keys()) {
        if !names.contains(name.as_str()) {
            let known: Vec<&str> = names.iter().copied().collect();
            importer.report(
                Diagnostic::new(Code::BadOption, format!("the model has no input `{name}`"))
                    .help(format!("its inputs are {}", known.join(", "))),
            );
        }
    }
    let mut bound = Vec::new();
    for info in &graph.input {
        let name = info.name();
        if scope.values.contains_key(name) {
            importer.report(
                Diagnostic::new(Code::DuplicateValue, "two inputs have this name").at(name),
            );
            continue;
        }
        if let Some(tensor) = options.bind.get(name) {
            let value = match input_type(b, info, Some(&TensorType::of(tensor)), options) {
                Ok(_) => {
                    let value = b.constant(tensor.clone());
                    b.name_value(value, name);
                    bound.push(name.to_string());
                    Bound::Tensor(value)
                }
                Err(diagnostic) => {
                    importer.report(diagnostic);
                    Bound::Missing
                }
            };
            scope.values.insert(name.into(), value);
            continue;
        }
        if defaults.contains(name) && !options.input_types.contains_key(name) {
            continue;
        }
        let value = match input_type(b, info, options.input_types.get(name), options) {
            Ok(ty) => Bound::Tensor(b.input(name, ty)),
            Err(diagnostic) => {
                importer.report(diagnostic);
                Bound::Missing
            }
        };
        scope.values.insert(name.into(), value);
    }
    bound
}

/// The type of an input: what the file says, refined by what the caller says.
fn input_type(
    b: &mut Builder,
    info: &ValueInfoProto,
    given: Option<&TensorType>,
    options: &ImportOptions,
) -> Result<TensorType, Diagnostic> {
    let bad = |message: String| Diagnostic::new(Code::BadType, message).at(info.name());
    let Some(tensor) = info.r#type.as_ref().and_then(tensor_type) else {
        return Err(bad(format!(
            "the input is {}, and only tensors are taken",
            kind(info.r#type.as_ref())
        )));
    };
    let code = i64::from(tensor.elem_type());
    let dtype = match (dtype_from_onnx(code), given) {
        (Some(dtype), _) => dtype,
        (None, Some(given)) if code == 0 => given.dtype,
        (None, _) => {
            return Err(bad(format!(
                "elements of type {} cannot be computed with",
                dtype_words(code)
            )));
        }
    };
    let declared: Option<Vec<Option<Dim>>> = tensor
        .shape
        .as_ref()
        .map(|shape| {
            shape.dim.iter().map(|d| dim(d.value.as_ref(), options)).collect::<Result<_, _>>()
        })
        .transpose()
        .map_err(bad)?;
    if let Some(given) = given {
        let fits = given.dtype == dtype
            && declared.as_ref().is_none_or(|dims| {
                dims.len() == given.rank()
                    && dims.iter().zip(&given.shape).all(|(a, b)| {
                        match (a.as_ref().and_then(Dim::fixed), b.fixed()) {
                            (Some(a), Some(b)) => a == b,
                            _ => true,
                        }
                    })
            });
        if !fits {
            let shape = declared.map(|dims| {
                dims.iter()
                    .map(|d| d.as_ref().map_or("?".into(), Dim::to_string))
                    .collect::<Vec<_>>()
                    .join(", ")
            });
            return Err(Diagnostic::new(
                Code::BadOption,
                format!(
                    "the input is {dtype}[{}] and was given as {given}",
                    shape.unwrap_or("…".into())
                ),
            )
            .at(info.name()));
        }
        return check_size(given.clone()).map_err(bad);
    }
    let Some(declared) = declared else {
        return Err(bad("the number of dims is not in the file".into())
            .help("give the shape of this input"));
    };
    if declared.len() > 64 {
        return Err(bad(format!("{} dims are more than any tensor has", declared.len())));
    }
    let shape = declared.into_iter().map(|d| d.unwrap_or_else(|| b.fresh_dim())).collect();
    check_size(TensorType { dtype, shape }).map_err(bad)
}

fn check_size(ty: TensorType) -> Result<TensorType, String> {
    let known = ty
        .shape
        .iter()
        .filter_map(Dim::fixed)
        .filter(|&n| n != 0)
        .try_fold(1usize, usize::checked_mul);
    match known {
        _ if ty.rank() > 64 => Err(format!("{} dims are more than any tensor has", ty.rank())),
        Some(n) if n <= 1 << 48 => Ok(ty),
        _ => Err(format!("{ty} is too large for any memory")),
    }
}

/// A dim of the file; `None` for one that it does not name.
fn dim(value: Option<&DimValue>, options: &ImportOptions) -> Result<Option<Dim>, String> {
    match value {
        // Exporters write −1 for what they do not know.
        None | Some(DimValue::DimValue(-1)) => Ok(None),
        Some(DimValue::DimValue(n)) => usize::try_from(*n)
            .map(|n| Some(Dim::Fixed(n)))
            .map_err(|_| format!("a dim of {n} is negative")),
        Some(DimValue::DimParam(name)) => {
            if let Some(&n) = options.dims.get(name) {
                return Ok(Some(Dim::Fixed(n)));
            }
            // Names with a `?` are those of sizes that are nobody's, and operators make formulas.
            let plain: String = name
                .chars()
                .map(|c| if c.is_alphanumeric() || c == '_' || c == '.' { c } else { '_' })
                .collect();
            if let Ok(n) = plain.parse::<usize>() {
                return Ok(Some(Dim::sym(&format!("d{n}"))));
            }
            let unnamed = plain.chars().all(|c| c == '_') || name.starts_with("unk__");
            Ok(if unnamed { None } else { Some(Dim::sym(&plain)) })
        }
    }
}

/// The tensor in a type: itself, or what an optional may hold.
fn tensor_type(ty: &TypeProto) -> Option<&crate::proto::type_proto::Tensor> {
    match ty.value.as_ref()? {
        TypeValue::TensorType(tensor) => Some(tensor),
        TypeValue::OptionalType(optional) => match optional.elem_type.as_deref()?.value.as_ref()? {
            TypeValue::TensorType(tensor) => Some(tensor),
            _ => None,
        },
        _ => None,
    }
}

fn kind(ty: Option<&TypeProto>) -> &'static str {
    match ty.and_then(|ty| ty.value.as_ref()) {
        None => "of no known type",
        Some(TypeValue::TensorType(_)) => "a tensor",
        Some(TypeValue::SequenceType(_)) => "a sequence",
        Some(TypeValue::MapType(_)) => "a map",
        Some(TypeValue::OptionalType(_)) => "an optional that holds no tensor",
        Some(TypeValue::SparseTensorType(_)) => "a sparse tensor",
        Some(TypeValue::OpaqueType(_)) => "opaque",
    }
}
