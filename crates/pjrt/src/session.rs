//! Programs on a device: one for each set of shapes, weights uploaded once for all of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anychip_ir::{Bindings, Graph, IrError, Node, Op, Prim, inline, rewrite};
use anychip_passes::specialize::{Binding, inputs_that_hold_sizes, specialize};
use anychip_target::{Counters, Refusal, Refused, Run, RunError, Session};
use anychip_tensor::{DType, Tensor, TensorView, release_mapped};

use crate::element::{Element, from_device, to_device};
use crate::emit::{EmitError, Module, Parameter, Style, draw, module};
use crate::ffi::{Buffer, Client, Device, Executable};
use crate::options::compile_options;
use crate::sizes::deciding;
use crate::{PjrtError, cache};

/// Programs kept for one graph; the least recently used goes first.
const PROGRAMS_KEPT: usize = 16;

/// Inputs that hold sizes have no more elements than this.
const LONGEST: usize = 128;

/// A graph on a device, with the programs made of it so far.
pub(crate) struct Prepared {
    graph: Graph,
    holds_sizes: Vec<bool>,
    style: Style,
    client: Arc<Client>,
    device: Device,
    /// How people call the device.
    place: String,
    /// Where compiled programs are kept, and what tells this plugin's from others'.
    cache: Option<(PathBuf, String)>,
    programs: Mutex<Vec<(Key, Arc<OnDevice>)>>,
    weights: Mutex<BTreeMap<WeightKey, (Tensor, Arc<Buffer>)>>,
}

/// What tells weights apart: storage, type and shape.
type WeightKey = (usize, usize, DType, Vec<usize>);

/// What a program was compiled for.
#[derive(PartialEq, Eq)]
struct Key {
    shapes: Vec<Vec<usize>>,
    /// The contents of inputs that hold sizes.
    values: Vec<Option<Vec<u8>>>,
}

/// A program, and what to call it with.
struct OnDevice {
    executable: Executable,
    arguments: Vec<Argument>,
    outputs: Vec<(DType, Vec<usize>)>,
}

enum Argument {
    Input(usize),
    Weight(Arc<Buffer>),
    Drawn(Prim, Vec<usize>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done in what these protect, so a panic elsewhere does not matter.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A graph for the shapes (and some values) of its inputs, as a program.
pub(crate) fn written(
    graph: &Graph,
    bindings: &[Binding],
    style: Style,
) -> Result<Module, EmitError> {
    let mut graph = specialize(graph, bindings)?;
    // A branch whose condition is known now may give results of another size than the other would have.
    while let Some(taken) = with_taken_branches(&graph)? {
        let shapes = bindings.iter().map(|b| Binding { shape: b.shape.clone(), value: None });
        graph = specialize(&taken, &shapes.collect::<Vec<_>>())?;
    }
    module(&graph, style)
}

/// The graph with the branch in place of each `If` whose condition is a constant; `None` where there is none.
fn with_taken_branches(graph: &Graph) -> Result<Option<Graph>, IrError> {
    let condition = |graph: &Graph, node: &Node| {
        let is_branch = matches!(node.op, Op::Prim(Prim::If));
        let known = is_branch.then(|| graph.constant_integers(node.inputs[0])).flatten();
        known.map(|condition| condition != [0])
    };
    if graph.nodes().iter().all(|node| condition(graph, node).is_none()) {
        return Ok(None);
    }
    let taken = rewrite(graph, &mut |b, node, inputs| match condition(graph, node) {
        Some(holds) => inline(b, &node.regions[usize::from(!holds)], &inputs[1..]).map(Some),
        None => Ok(None),
    })?;
    Ok(Some(taken))
}

impl Prepared {
    pub(crate) fn new(
        graph: Graph,
        style: Style,
        client: Arc<Client>,
        index: usize,
        place: String,
        cache: Option<(PathBuf, String)>,
    ) -> Result<Prepared, PjrtError> {
        let device = client.device(index)?.clone();
        let keeps_nan = client.platform().eq_ignore_ascii_case("cpu");
        let style = Style { keeps_nan, ..style };
        let holds_sizes = inputs_that_hold_sizes(&graph, &deciding);
        Ok(Prepared {
            graph,
            holds_sizes,
            style,
            client,
            device,
            place,
            cache,
            programs: Mutex::default(),
            weights: Mutex::default(),
        })
    }

    fn failed(&self, error: &PjrtError) -> RunError {
        RunError::Device { place: self.place.clone(), reason: error.to_string() }
    }

    fn run(&self, inputs: &[TensorView<'_>]) -> Result<Run, RunError> {
        let program = self.program(inputs)?;
        let outputs = self.execute(&program, inputs)?;
        Ok(Run { outputs, counters: Counters::default(), layers: Vec::new() })
    }

    /// The program for these inputs, made now if there is none.
    fn program(&self, inputs: &[TensorView<'_>]) -> Result<Arc<OnDevice>, RunError> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|input| input.shape).collect();
        for (&v, input) in self.graph.inputs().iter().zip(inputs) {
            let ty = self.graph.ty(v);
            if ty.dtype != input.dtype {
                return Err(RunError::Graph(IrError::Input {
                    name: self.graph.value_name(v).unwrap_or_default().to_string(),
                    found: format!("{}{:?}", input.dtype, input.shape),
                    expected: ty.to_string(),
                }));
            }
        }
        let values: Vec<Option<Vec<u8>>> = inputs
            .iter()
            .zip(&self.holds_sizes)
            .map(|(input, &holds)| (holds && input.len() <= LONGEST).then(|| input.data.to_vec()))
            .collect();
        let key = Key { shapes: shapes.iter().map(|shape| shape.to_vec()).collect(), values };
        {
            let mut programs = lock(&self.programs);
            if let Some(position) = programs.iter().position(|(known, _)| *known == key) {
                programs[position..].rotate_left(1);
                return programs
                    .last()
                    .map(|(_, program)| Arc::clone(program))
                    .ok_or_else(|| self.failed(&PjrtError::Element("no program".to_string())));
            }
        }
        Bindings::of_shapes(&self.graph, &shapes)?;
        let bindings: Vec<Binding> = inputs
            .iter()
            .zip(&key.values)
            .map(|(input, value)| Binding {
                shape: input.shape.to_vec(),
                value: value.as_ref().map(|_| input.to_tensor()),
            })
            .collect();
        let program = Arc::new(self.compile(&bindings)?);
        let mut programs = lock(&self.programs);
        if programs.len() >= PROGRAMS_KEPT {
            programs.remove(0);
        }
        programs.push((key, Arc::clone(&program)));
        Ok(program)
    }

    fn compile(&self, bindings: &[Binding]) -> Result<OnDevice, RunError> {
        let Module { text, parameters, outputs } =
            written(&self.graph, bindings, self.style).map_err(refusal)?;
        let executable = self.executable(&text).map_err(|error| self.failed(&error))?;
        let arguments = parameters
            .into_iter()
            .map(|parameter| {
                Ok(match parameter {
                    Parameter::Input(i) => Argument::Input(i),
                    Parameter::Weight(tensor) => Argument::Weight(self.weight(&tensor)?),
                    Parameter::Drawn { prim, shape, .. } => Argument::Drawn(prim, shape),
                })
            })
            .collect::<Result<_, PjrtError>>()
            .map_err(|error| self.failed(&error))?;
        Ok(OnDevice { executable, arguments, outputs })
    }

    /// Compiles, or takes what an earlier process compiled of the same.
    fn executable(&self, text: &str) -> Result<Executable, PjrtError> {
        let options = compile_options(Some(self.device.id));
        let Some((folder, plugin)) = &self.cache else {
            return Executable::compile(&self.client, text, &options);
        };
        let key = cache::key(&[
            text.as_bytes(),
            &options,
            plugin.as_bytes(),
            self.device.kind.as_bytes(),
        ]);
        if let Some(bytes) = cache::read(folder, &key)
            && let Ok(executable) = Executable::load(&self.client, &bytes)
        {
            return Ok(executable);
        }
        let executable = Executable::compile(&self.client, text, &options)?;
        // Not every plugin can write its programs down.
        if let Ok(bytes) = executable.serialize() {
            cache::write(folder, &key, &bytes);
        }
        Ok(executable)
    }

    /// A constant on the device, uploaded now if it was not yet.
    fn weight(&self, tensor: &Tensor) -> Result<Arc<Buffer>, PjrtError> {
        let shape = tensor.shape().to_vec();
        let key = (tensor.storage_id(), tensor.byte_len(), tensor.dtype(), shape);
        if let Some((_, buffer)) = lock(&self.weights).get(&key) {
            return Ok(Arc::clone(buffer));
        }
        let buffer = Arc::new(self.upload(&tensor.view())?);
        // The file's own copy has been read for the last time, most likely.
        release_mapped(tensor.bytes());
        // The tensor stays, so that its storage's number is not given to another.
        lock(&self.weights).insert(key, (tensor.clone(), Arc::clone(&buffer)));
        Ok(buffer)
    }

    fn upload(&self, tensor: &TensorView<'_>) -> Result<Buffer, PjrtError> {
        let element = Element::of(tensor.dtype);
        Buffer::upload(&self.client, &self.device, element, tensor.shape, &to_device(tensor))
    }

    fn execute(
        &self,
        program: &OnDevice,
        inputs: &[TensorView<'_>],
    ) -> Result<Vec<Tensor>, RunError> {
        let failed = |error: PjrtError| self.failed(&error);
        // What this run alone passes; weights are there already.
        let own: Vec<Option<Buffer>> = program
            .arguments
            .iter()
            .map(|argument| {
                Ok(match argument {
                    Argument::Weight(_) => None,
                    Argument::Input(i) => Some(self.upload(&inputs[*i]).map_err(failed)?),
                    Argument::Drawn(prim, shape) => {
                        Some(self.upload(&draw(prim, shape)?.view()).map_err(failed)?)
                    }
                })
            })
            .collect::<Result<_, RunError>>()?;
        let arguments: Vec<&Buffer> = program
            .arguments
            .iter()
            .zip(&own)
            .filter_map(|(argument, own)| match argument {
                Argument::Weight(buffer) => Some(buffer.as_ref()),
                Argument::Input(_) | Argument::Drawn(..) => own.as_ref(),
            })
            .collect();
        let mut pending = program.executable.execute(&arguments).map_err(failed)?;
        let found = download(program, &pending.outputs);
        // The run's own error tells more than that of a result that it did not make.
        pending.wait().map_err(failed)?;
        found.map_err(failed)
    }
}

/// Copies all results at once, and waits for them.
fn download(program: &OnDevice, buffers: &[Buffer]) -> Result<Vec<Tensor>, PjrtError> {
    if buffers.len() != program.outputs.len() {
        return Err(PjrtError::Result {
            found: format!("{} results", buffers.len()),
            expected: program.outputs.len().to_string(),
        });
    }
    let mut contents = Vec::new();
    for (buffer, (dtype, shape)) in buffers.iter().zip(&program.outputs) {
        let element = Element::of(*dtype);
        let (code, found) = buffer.describe()?;
        if code != element.code() || found != *shape {
            return Err(PjrtError::Result {
                found: format!("type {code} of {found:?}"),
                expected: format!("type {} of {shape:?}", element.code()),
            });
        }
        contents.push(vec![0u8; shape.iter().product::<usize>() * element.bytes()]);
    }
    let copies = buffers
        .iter()
        .zip(&mut contents)
        .map(|(buffer, bytes)| buffer.download(bytes))
        .collect::<Result<Vec<_>, _>>()?;
    copies.into_iter().try_for_each(crate::ffi::Download::wait)?;
    program
        .outputs
        .iter()
        .zip(contents)
        .map(|((dtype, shape), bytes)| from_device(*dtype, shape, bytes))
        .collect()
}

/// What cannot be written, as the reason that a run is refused for.
pub(crate) fn refusal(error: EmitError) -> RunError {
    match error {
        EmitError::Graph(error) => RunError::Graph(error),
        EmitError::Refused { node, op, reason, help } => {
            RunError::Refused(Refusal { node, op, refused: Refused { reason, help: Some(help) } })
        }
    }
}

/// A session of a program on one device.
pub(crate) struct PjrtSession(pub(crate) Arc<Prepared>);

impl Session for PjrtSession {
    fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<Run, RunError> {
        self.0.run(inputs)
    }
}
