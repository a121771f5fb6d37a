//! A new target from outside, in a page: an adder that knows three operators of `f32` and refuses the rest. The conformance
//! suite runs on it at once.
//!
//! `cargo run --example own_target -p anychip`

#![expect(clippy::print_stdout, reason = "an example shows its result")]

use anychip_chips::Chip;
use anychip_conformance::{Family, Settings, run};
use anychip_ir::{Binary, Graph, Node, Op, Prim, ValueId};
use anychip_target::{
    CompileError, CompileOptions, LegalGraph, OpenError, Place, Program, Refused, Run, RunError,
    Session, Support, Target,
};
use anychip_tensor::{DType, Tensor, TensorView};

struct Adder;

impl Target for Adder {
    fn id(&self) -> &'static str {
        "adder"
    }

    fn support(&self, node: &Node, graph: &Graph) -> Support {
        let shape = |v: &ValueId| graph.ty(*v).clone();
        let plain = node
            .inputs
            .iter()
            .all(|v| shape(v).dtype == DType::F32 && shape(v) == shape(&node.inputs[0]));
        match &node.op {
            Op::Prim(Prim::Constant(_) | Prim::Binary(Binary::Add | Binary::Sub | Binary::Mul))
                if plain =>
            {
                Support::Native
            }
            Op::Prim(prim) => Support::Refuse(Refused {
                reason: format!("an adder has no {}", prim.name()),
                help: Some("use a target with more operators".to_string()),
            }),
            Op::Composite(_) => Support::Expand,
        }
    }

    fn compile(
        &self,
        graph: &LegalGraph,
        _: &Chip,
        _: &CompileOptions,
    ) -> Result<Box<dyn Program>, CompileError> {
        Ok(Box::new(Sums(graph.graph().clone())))
    }

    fn places(&self) -> Vec<Place> {
        vec![Place::Simulator { chip: "adder".to_string() }]
    }
}

#[derive(Clone)]
struct Sums(Graph);

impl Program for Sums {
    fn open(&self, _: &Place) -> Result<Box<dyn Session>, OpenError> {
        Ok(Box::new(self.clone()))
    }
}

impl Session for Sums {
    fn run(&mut self, inputs: &[TensorView<'_>]) -> Result<Run, RunError> {
        let mut values: Vec<Option<Tensor>> = vec![None; self.0.value_count()];
        for (v, input) in self.0.inputs().iter().zip(inputs) {
            values[v.index()] = Some(input.to_tensor());
        }
        let mut run = Run::default();
        for node in self.0.nodes() {
            let numbers: Vec<Vec<f64>> = node
                .inputs
                .iter()
                .map(|v| values[v.index()].as_ref().map_or(Vec::new(), Tensor::to_f64))
                .collect();
            let f: fn(f64, f64) -> f64 = match &node.op {
                Op::Prim(Prim::Constant(tensor)) => {
                    values[node.outputs[0].index()] = Some(tensor.clone());
                    continue;
                }
                Op::Prim(Prim::Binary(Binary::Add)) => |a, b| a + b,
                Op::Prim(Prim::Binary(Binary::Sub)) => |a, b| a - b,
                _ => |a, b| a * b,
            };
            let result: Vec<f64> =
                numbers[0].iter().zip(&numbers[1]).map(|(&a, &b)| f(a, b)).collect();
            let shape =
                values[node.inputs[0].index()].as_ref().map_or(Vec::new(), |t| t.shape().to_vec());
            let tensor =
                Tensor::from_f64(DType::F32, shape, &result).map_err(anychip_ir::IrError::from)?;
            values[node.outputs[0].index()] = Some(tensor);
            // One addition a cycle: what makes its figures simulated.
            run.counters.cycles = Some(run.counters.cycles.unwrap_or(0) + result.len() as u64);
        }
        run.outputs = self.0.outputs().iter().filter_map(|v| values[v.index()].clone()).collect();
        Ok(run)
    }
}

fn main() {
    let settings = Settings { refusals_allowed: true, ..Settings::default() };
    let report = run(&Adder, Family::Elementwise, &settings);
    println!("{report}");
    assert!(report.is_success() && report.passed() >= 6, "the adder adds");
}

#[test]
fn the_target_passes_what_it_does_not_refuse() {
    main();
}
