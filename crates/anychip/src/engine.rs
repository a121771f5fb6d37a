//! From a graph to results on a chip that is here.

use std::borrow::Cow;

use anychip_chips::Chip;
use anychip_ir::Graph;
use anychip_target::{
    CompileOptions, Counters, File, Place, Program, Run, Session, Target, legalize,
};
use anychip_tensor::{Tensor, TensorView};

use crate::Error;
use crate::machine::check_memory;
use crate::targets::find_place;

/// A graph compiled for a chip of this machine, ready to run.
pub struct Engine {
    target: &'static str,
    place: Place,
    program: Box<dyn Program>,
    session: Box<dyn Session>,
    names: Vec<String>,
}

/// A graph with what its quantized operators compute in integers, where a target wants that.
pub(crate) fn as_wanted<'g>(
    target: &dyn Target,
    graph: &'g Graph,
) -> Result<Cow<'g, Graph>, Error> {
    if !target.integers() {
        return Ok(Cow::Borrowed(graph));
    }
    Ok(Cow::Owned(anychip_passes::run(anychip_passes::INTEGER, graph, &mut |_| {})?))
}

impl Engine {
    /// Compiles an optimized graph for `chip` and opens it where the chip is.
    pub fn new(graph: &Graph, chip: &Chip, options: &CompileOptions) -> Result<Engine, Error> {
        check_memory(graph)?;
        let (target, place) =
            find_place(chip).ok_or_else(|| Error::NotHere { chip: chip.id.clone() })?;
        let wanted = as_wanted(target.as_ref(), graph)?;
        let legal = legalize(target.as_ref(), &wanted)
            .map_err(|refusals| Error::Refused { target: target.id(), refusals })?;
        let program = target.compile(&legal, chip, options)?;
        let session = program.open(&place)?;
        let names = graph.output_names().iter().map(ToString::to_string).collect();
        Ok(Engine { target: target.id(), place, program, session, names })
    }

    /// The target that runs it.
    pub fn target(&self) -> &'static str {
        self.target
    }

    /// Where it runs.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The names of the results, in order.
    pub fn output_names(&self) -> &[String] {
        &self.names
    }

    /// What the target decided for each node.
    pub fn explain(&self) -> Vec<String> {
        self.program.explain()
    }

    /// What a run counts, where the target can tell without one: see [`Program::counted`].
    pub fn counted(&self) -> Option<Run> {
        self.program.counted()
    }

    /// The program as files: see [`Program::files`].
    pub fn files(&self) -> Vec<File> {
        self.program.files()
    }

    /// Runs once on inputs in the graph's order; the results in order.
    pub fn run(&mut self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Counters), Error> {
        let run = self.run_with_layers(inputs)?;
        Ok((run.outputs, run.counters))
    }

    /// As [`Engine::run`], with what each layer took when the options asked for it.
    pub fn run_with_layers(&mut self, inputs: &[Tensor]) -> Result<Run, Error> {
        let views: Vec<TensorView<'_>> = inputs.iter().map(Tensor::view).collect();
        Ok(self.session.run(&views)?)
    }
}
