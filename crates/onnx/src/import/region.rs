//! Sub-graphs as closed regions: what they use from outside becomes their inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anychip_ir::{Builder, Graph, TensorType, ValueId};
use anychip_tensor::Dim;

use super::call::{Call, ImportError};
use super::importer::{Bound, Scope, sources};
use super::sort::free_names;
use crate::proto::GraphProto;

/// What sub-graphs use from around them.
pub(super) struct Captures {
    /// Names and the values outside that they stand for, constants excepted.
    values: Vec<(String, ValueId)>,
    /// Names of constants, which are copied into each region.
    constants: Vec<(String, ValueId)>,
    /// Names of sequences and of what is absent.
    others: Vec<(String, Bound)>,
}

impl Captures {
    /// The operands that a control flow node takes after its own.
    pub(super) fn operands(&self) -> Vec<ValueId> {
        self.values.iter().map(|(_, value)| *value).collect()
    }
}

/// A region under construction: its builder and what names mean in it.
pub(super) struct Region {
    pub(super) b: Builder,
    pub(super) scope: Scope<'static>,
}

impl Region {
    /// Finishes with the given outputs.
    pub(super) fn finish(self, outputs: &[(Arc<str>, ValueId)]) -> Graph {
        self.b.finish_named(outputs)
    }
}

impl Call<'_> {
    /// What the given sub-graphs use from outside.
    pub(super) fn captures(&self, graphs: &[&GraphProto]) -> Result<Captures, ImportError> {
        let mut names = BTreeSet::new();
        for graph in graphs {
            let own: BTreeSet<&str> =
                graph.input.iter().map(super::super::proto::ValueInfoProto::name).collect();
            names.extend(free_names(graph).into_iter().filter(|n| !own.contains(n.as_str())));
        }
        let mut captures =
            Captures { values: Vec::new(), constants: Vec::new(), others: Vec::new() };
        for name in names {
            match self.scope.find(&name) {
                // The region's own import reports it.
                None => {}
                Some(Bound::Missing) => return Err(ImportError::Reported),
                Some(Bound::Tensor(value)) if self.b.graph().constant(*value).is_some() => {
                    captures.constants.push((name, *value));
                }
                Some(Bound::Tensor(value)) => captures.values.push((name, *value)),
                Some(other) => captures.others.push((name, other.clone())),
            }
        }
        Ok(captures)
    }

    /// A region that begins with inputs of the given names and types, then the captures.
    pub(super) fn region(
        &self,
        name: &str,
        inputs: &[(String, TensorType)],
        captures: &Captures,
    ) -> (Region, Vec<ValueId>) {
        let mut b = self.b.region(name);
        let mut scope = Scope::default();
        let own: Vec<ValueId> = inputs.iter().map(|(name, ty)| b.input(name, ty.clone())).collect();
        for (name, value) in &captures.values {
            let inner = b.input(name, self.b.ty(*value).clone());
            scope.values.insert(name.clone(), Bound::Tensor(inner));
        }
        // Sizes that are known outside are known inside, as far as the names in them can be read there.
        let mut readable = BTreeSet::new();
        for &input in b.graph().inputs() {
            for dim in &b.graph().ty(input).shape {
                if let Dim::Sym(symbol) = dim {
                    readable.insert(symbol.clone());
                }
            }
        }
        for (name, value) in &captures.values {
            let Some(Bound::Tensor(inner)) = scope.values.get(name) else { continue };
            if let Some(known) = self.b.known(*value)
                && known.iter().all(|dim| dim.symbols().iter().all(|s| readable.contains(s)))
            {
                b.assume_known(*inner, known.to_vec());
            }
        }
        let before = b.set_scope("");
        for (name, value) in &captures.constants {
            if let Some(tensor) = self.b.graph().constant(*value) {
                let inner = b.constant(tensor.clone());
                scope.values.insert(name.clone(), Bound::Tensor(inner));
            }
        }
        b.set_scope(before);
        for (name, bound) in &captures.others {
            if matches!(bound, Bound::Absent) {
                scope.values.insert(name.clone(), Bound::Absent);
            }
        }
        (Region { b, scope }, own)
    }

    /// Imports a sub-graph into a region whose scope binds its inputs; its outputs.
    pub(super) fn fill(
        &mut self,
        region: &mut Region,
        graph: &GraphProto,
        captures: &Captures,
    ) -> Result<Vec<ValueId>, ImportError> {
        let first = self.importer.diagnostics.len();
        self.importer.enter()?;
        let bounds = self.importer.graph(&mut region.b, graph, &mut region.scope);
        self.importer.leave();
        // What the region asks for by the name of a capture is asked for outside.
        let outside: BTreeMap<&str, ValueId> =
            captures.values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        for diagnostic in &mut self.importer.diagnostics[first..] {
            let asked: Vec<ValueId> =
                diagnostic.needs.iter().filter_map(|n| outside.get(n.as_str()).copied()).collect();
            diagnostic.needs = sources(self.b, &asked);
        }
        bounds
            .into_iter()
            .map(|bound| match bound {
                Bound::Tensor(value) => Ok(value),
                Bound::Missing => Err(ImportError::Reported),
                Bound::Sequence(_) | Bound::Absent => Err(ImportError::Unsupported(
                    "sequences and optionals cannot leave a sub-graph that runs conditionally or repeatedly".into(),
                )),
            })
            .collect()
    }

    /// Imports a sub-graph in place, its inputs standing for `inputs`; what its outputs stand for.
    pub(super) fn inline_bounds(
        &mut self,
        graph: &GraphProto,
        inputs: &[Bound],
    ) -> Result<Vec<Bound>, ImportError> {
        if graph.input.len() != inputs.len() {
            return Err(self.invalid(format!(
                "the sub-graph takes {} inputs and gets {}",
                graph.input.len(),
                inputs.len()
            )));
        }
        let mut scope = Scope { parent: Some(self.scope), ..Scope::default() };
        for (info, bound) in graph.input.iter().zip(inputs) {
            scope.values.insert(info.name().to_string(), bound.clone());
        }
        self.importer.enter()?;
        let results = self.importer.graph(self.b, graph, &mut scope);
        self.importer.leave();
        if results.iter().any(|bound| matches!(bound, Bound::Missing)) {
            return Err(ImportError::Reported);
        }
        Ok(results)
    }

    /// Imports a sub-graph in place on tensors; its outputs, which are tensors too.
    pub(crate) fn inline_graph(
        &mut self,
        graph: &GraphProto,
        inputs: &[ValueId],
    ) -> Result<Vec<ValueId>, ImportError> {
        let inputs: Vec<Bound> = inputs.iter().map(|&v| Bound::Tensor(v)).collect();
        self.inline_bounds(graph, &inputs)?
            .into_iter()
            .map(|bound| match bound {
                Bound::Tensor(value) => Ok(value),
                _ => Err(self.unsupported("a sub-graph gives a sequence where a tensor is used")),
            })
            .collect()
    }
}
