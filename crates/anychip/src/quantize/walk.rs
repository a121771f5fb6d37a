//! A model run part by part over the same data: what one part ends with is kept for the next, where it fits.

use anychip_ir::{Definition, Graph, NodeId, ValueId};
use anychip_quantize::{Section, boundary, expose};
use anychip_target::CompileOptions;
use anychip_tensor::{Tensor, release_mapped};

use super::{Batch, room, samples_in};
use crate::{Engine, Error, local_chip};

/// A model, its data, and values known of each batch that parts can begin with.
pub(super) struct Walk<'a> {
    graph: &'a Graph,
    batches: &'a [Batch],
    known: Vec<ValueId>,
    /// The known values of each batch.
    held: Vec<Vec<Tensor>>,
}

impl<'a> Walk<'a> {
    /// At the beginning, where nothing but the inputs is known.
    pub(super) fn new(graph: &'a Graph, batches: &'a [Batch]) -> Walk<'a> {
        Walk { graph, batches, known: Vec::new(), held: vec![Vec::new(); batches.len()] }
    }

    /// The model.
    pub(super) fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// What is known.
    pub(super) fn known(&self) -> &[ValueId] {
        &self.known
    }

    /// Goes on to before a node, where what it and later ones need takes no more than [`room`]; else stays.
    pub(super) fn advance(&mut self, node: NodeId) -> Result<(), Error> {
        let Some(values) = boundary(self.graph, node) else { return Ok(()) };
        let samples = self.batches.first().map_or(1, samples_in);
        let bytes = values.iter().map(|&v| bytes(self.graph, v, samples));
        let all = bytes.fold(0usize, usize::saturating_add).saturating_mul(self.batches.len());
        if values == self.known || values.is_empty() || all > room(self.graph) {
            return Ok(());
        }
        let section = expose(self.graph, &self.known, &values)?;
        let mut held = Vec::with_capacity(self.batches.len());
        let mut engine =
            Engine::new(&section.graph, &local_chip("cpu")?, &CompileOptions::default())?;
        for i in 0..self.batches.len() {
            let inputs = self.inputs(&section, i);
            held.push(engine.run(&inputs)?.0);
            self.held[i] = Vec::new();
        }
        (self.known, self.held) = (values, held);
        Ok(())
    }

    /// Runs a part on the first batches and shows each result.
    pub(super) fn run(
        &self,
        section: &Section,
        batches: usize,
        mut show: impl FnMut(&[Tensor]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut engine =
            Engine::new(&section.graph, &local_chip("cpu")?, &CompileOptions::default())?;
        for i in 0..self.batches.len().min(batches) {
            let inputs = self.inputs(section, i);
            show(&engine.run(&inputs)?.0)?;
            // Data that lie in a file are read again with the next run.
            for input in &inputs {
                release_mapped(input.bytes());
            }
        }
        Ok(())
    }

    fn inputs(&self, section: &Section, batch: usize) -> Vec<Tensor> {
        let place = |v: &ValueId| self.known.iter().position(|k| k == v);
        section
            .inputs
            .iter()
            .filter_map(|v| match (place(v), self.graph.definition(*v)) {
                (Some(i), _) => self.held[batch].get(i).cloned(),
                (None, Definition::Input(i)) => self.batches[batch].inputs.get(i).cloned(),
                (None, Definition::Output(..)) => None,
            })
            .collect()
    }
}

/// What a float value takes, of so many samples where its size is open.
pub(super) fn bytes(graph: &Graph, value: ValueId, samples: usize) -> usize {
    let sizes = graph.ty(value).shape.iter().map(|d| d.fixed().unwrap_or(samples));
    sizes.fold(4usize, usize::saturating_mul)
}
