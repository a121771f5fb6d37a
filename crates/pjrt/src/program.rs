//! A compiled graph: StableHLO for whoever asks for files, sessions for devices that are here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anychip_ir::{Graph, IrError};
use anychip_passes::specialize::Binding;
use anychip_target::{File, OpenError, Place, Program, Session};
use anychip_tensor::Tensor;

use crate::PjrtTarget;
use crate::devices::DeviceFound;
use crate::element::Element;
use crate::emit::{EmitError, Module, Parameter, Style};
use crate::plugins::load_for_devices;
use crate::session::{PjrtSession, Prepared, written};
use crate::target::ID;

/// The file of the program's text.
const TEXT: &str = "model.stablehlo.mlir";

/// The file that says what the text's arguments and results are.
const MANIFEST: &str = "model.stablehlo.json";

/// The graph, and what sessions have made of it.
pub(crate) struct PjrtProgram {
    graph: Graph,
    style: Style,
    target: PjrtTarget,
    /// Where compiled programs are kept for later processes.
    cache: Option<PathBuf>,
    /// By device: its weights and programs, shared by all sessions there.
    prepared: Mutex<BTreeMap<(String, usize), Arc<Prepared>>>,
}

impl PjrtProgram {
    pub(crate) fn new(
        graph: Graph,
        style: Style,
        target: PjrtTarget,
        cache: Option<PathBuf>,
    ) -> PjrtProgram {
        PjrtProgram { graph, style, target, cache, prepared: Mutex::default() }
    }

    /// The program for the graph's own sizes, where all of them are numbers.
    fn module(&self) -> Result<Module, EmitError> {
        let bindings = self
            .graph
            .inputs()
            .iter()
            .map(|&v| {
                let shape = self.graph.ty(v).fixed_shape();
                let name = || self.graph.value_name(v).unwrap_or_default().to_string();
                Ok(Binding {
                    shape: shape.ok_or_else(|| IrError::UnboundSymbol(name()))?,
                    value: None,
                })
            })
            .collect::<Result<Vec<_>, IrError>>()?;
        written(&self.graph, &bindings, self.style)
    }

    fn prepare(&self, device: &DeviceFound) -> Result<Arc<Prepared>, crate::PjrtError> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (device.chip.clone(), device.ordinal);
        if let Some(known) = prepared.get(&key) {
            return Ok(Arc::clone(known));
        }
        let loaded = load_for_devices(&device.plugin)?;
        let client = loaded.client()?;
        let cache = self.cache.as_ref().map(|folder| (folder.clone(), loaded.identity(&client)));
        let place = format!("{}:{}", device.chip, device.ordinal);
        let (graph, style) = (self.graph.clone(), self.style);
        let made = Arc::new(Prepared::new(graph, style, client, device.index, place, cache)?);
        prepared.insert(key, Arc::clone(&made));
        Ok(made)
    }

    /// What the text takes and gives, as JSON.
    fn manifest(&self, module: &Module) -> String {
        let arguments: Vec<String> = module
            .parameters
            .iter()
            .enumerate()
            .map(|(i, parameter)| {
                let (kind, name, dtype, shape) = match parameter {
                    Parameter::Input(n) => {
                        let v = self.graph.inputs()[*n];
                        let name = self.graph.value_name(v).unwrap_or_default().to_string();
                        let shape = self.graph.ty(v).fixed_shape().unwrap_or_default();
                        ("input", name, self.graph.ty(v).dtype, shape)
                    }
                    Parameter::Weight(tensor) => {
                        ("weight", weight_name(i), tensor.dtype(), tensor.shape().to_vec())
                    }
                    Parameter::Drawn { prim, dtype, shape } => {
                        ("random", prim.name().to_string(), *dtype, shape.clone())
                    }
                };
                line(
                    &format!("\"kind\": {}, \"name\": {}", quoted(kind), quoted(&name)),
                    dtype,
                    &shape,
                )
            })
            .collect();
        let results: Vec<String> = self
            .graph
            .output_names()
            .iter()
            .zip(&module.outputs)
            .map(|(name, (dtype, shape))| {
                line(&format!("\"name\": {}", quoted(name)), *dtype, shape)
            })
            .collect();
        format!(
            "{{\n  \"program\": {},\n  \"entry\": \"main\",\n  \"arguments\": [\n{}\n  ],\n  \"results\": [\n{}\n  ]\n}}\n",
            quoted(TEXT),
            arguments.join(",\n"),
            results.join(",\n")
        )
    }
}

fn line(head: &str, dtype: anychip_tensor::DType, shape: &[usize]) -> String {
    let element = Element::of(dtype).name();
    format!(
        "    {{{head}, \"dtype\": \"{dtype}\", \"element\": \"{element}\", \"shape\": {shape:?}}}"
    )
}

/// A text as JSON writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// The name of the argument of that number.
fn weight_name(i: usize) -> String {
    format!("arg{i}")
}

impl Program for PjrtProgram {
    fn files(&self) -> Vec<File> {
        let Ok(module) = self.module() else { return Vec::new() };
        let manifest = self.manifest(&module).into_bytes();
        vec![
            File { path: TEXT.to_string(), bytes: module.text.into_bytes() },
            File { path: MANIFEST.to_string(), bytes: manifest },
        ]
    }

    fn weights(&self) -> Vec<(String, Tensor)> {
        let Ok(module) = self.module() else { return Vec::new() };
        module
            .parameters
            .into_iter()
            .enumerate()
            .filter_map(|(i, parameter)| match parameter {
                Parameter::Weight(tensor) => Some((weight_name(i), tensor)),
                Parameter::Input(_) | Parameter::Drawn { .. } => None,
            })
            .collect()
    }

    fn explain(&self) -> Vec<String> {
        match self.module() {
            Ok(module) => module.text.lines().map(str::to_string).collect(),
            Err(error) => vec![format!("written for each set of shapes when it runs ({error})")],
        }
    }

    fn open(&self, place: &Place) -> Result<Box<dyn Session>, OpenError> {
        let wrong = || OpenError::WrongPlace { target: ID, place: place.to_string() };
        let Place::Device { chip, ordinal } = place else { return Err(wrong()) };
        let devices = self.target.devices();
        let device = devices.iter().find(|d| d.chip == *chip && d.ordinal == *ordinal);
        let device = device.ok_or_else(wrong)?;
        let prepared = self.prepare(device).map_err(|error| OpenError::Device {
            place: place.to_string(),
            reason: error.to_string(),
        })?;
        Ok(Box::new(PjrtSession(prepared)))
    }
}
