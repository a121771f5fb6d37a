//! A target that computes nothing: the one to copy when adding a target.
//!
//! It takes every graph and its program is the graph's text, so that it has files to give; there is no
//! place to run it. The comments say what to put in place of each part. `README.md` beside this crate lists the steps.

use anychip_chips::Chip;
use anychip_ir::{Graph, Node, Op, text};
use anychip_target::{
    CompileError, CompileOptions, File, LegalGraph, OpenError, Place, Program, Session, Support,
    Target,
};

/// Names of the target, lower case: in `--target`, in Records, in `target =` of a chip's row.
const ID: &str = "null";

/// Takes everything, computes nothing. Settings of a target (a port, a simulator's size) would be its fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullTarget;

impl Target for NullTarget {
    fn id(&self) -> &'static str {
        ID
    }

    /// What the target makes of a node; it sees the node's types through `graph`.
    ///
    /// - [`Support::Native`]: there is code for it, for these element types.
    /// - [`Support::Expand`]: a composite that is to be replaced by its expansion. This is the answer for every composite
    ///   that the target does not know, so composites made tomorrow work too.
    /// - [`Support::Refuse`]: it cannot, why, and the way out. All refusals of a graph are shown together.
    fn support(&self, node: &Node, _graph: &Graph) -> Support {
        match &node.op {
            Op::Prim(_) => Support::Native,
            Op::Composite(_) => Support::Expand,
        }
    }

    /// Makes the program. It is handed a [`LegalGraph`], whose every node was `Native` above, so nothing is checked twice;
    /// sizes may still be names. The same graph must give the same bytes. What does not fit the chip is
    /// [`CompileError::Capacity`].
    fn compile(
        &self,
        graph: &LegalGraph,
        _chip: &Chip,
        _options: &CompileOptions,
    ) -> Result<Box<dyn Program>, CompileError> {
        Ok(Box::new(NullProgram { text: text::print(graph.graph()) }))
    }

    /// Where programs can run on this machine now: attached devices that were found, or a simulator. None here. A device
    /// makes figures measured, a simulator makes them simulated; no place leaves only estimates and files.
    fn places(&self) -> Vec<Place> {
        Vec::new()
    }
}

struct NullProgram {
    text: String,
}

impl Program for NullProgram {
    /// The program as files: sources, bitstreams, whatever the chip's own tools take.
    fn files(&self) -> Vec<File> {
        vec![File { path: "graph.txt".to_string(), bytes: self.text.clone().into_bytes() }]
    }

    /// What was decided for each node, for `anychip explain`.
    fn explain(&self) -> Vec<String> {
        vec!["null: nothing is computed".to_string()]
    }

    /// Loads the program at one of the target's places: returns something that implements [`Session`], whose `run` takes
    /// inputs in the graph's order and gives outputs and what the place counted (cycles, events).
    fn open(&self, place: &Place) -> Result<Box<dyn Session>, OpenError> {
        Err(OpenError::WrongPlace { target: ID, place: place.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_chips::Catalog;
    use anychip_ir::{Builder, TensorType};
    use anychip_target::legalize;
    use anychip_tensor::{DType, Dim};

    // A target that runs adds here: `anychip_conformance::suite! { target: NullTarget }`.

    #[test]
    fn the_program_is_the_graph() {
        let mut b = Builder::new("sum");
        let x = b.input("x", TensorType::new(DType::F32, [Dim::sym("n")]));
        let y = b.add(x, x).unwrap();
        let legal = legalize(&NullTarget, &b.finish(&[y])).unwrap();
        let catalog = Catalog::builtin().unwrap();
        let chip = catalog.chips().next().unwrap();
        let program = NullTarget.compile(&legal, chip, &CompileOptions::default()).unwrap();
        let file = &program.files()[0];
        let parsed = text::parse(std::str::from_utf8(&file.bytes).unwrap(), &[]);
        assert!(file.bytes.starts_with(b"graph \"sum\""), "{parsed:?}");
        let place = Place::Simulator { chip: chip.id.clone() };
        assert!(matches!(program.open(&place), Err(OpenError::WrongPlace { .. })));
    }
}
