//! Whether what leaves the simulated cells is what the IR defines, bit for bit: `stepped_bits CHIP MODEL…`.
//!
//! Each model (quantize it first: `anychip optimize zoo:resnet18 --quantize int8 …`) runs stepped on the chip's simulator and on the
//! reference evaluator, both in the integer form that quantized models have there. What is compared is every 8-bit value of the
//! network, not its last ones alone; a layer that was left in floats is no part of it. A bit that differs ends it with an error, and so
//! do cycles that are not the closed form's, and a model none of whose products are on the arrays.
#![allow(clippy::print_stdout, reason = "an example says what it finds")]

mod each_model;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anychip::{
    Catalog, CompileOptions, Engine, Error, Graph, Model, choose_sizes, made_up, optimize,
    with_sizes,
};
use anychip_ir::ValueId;
use anychip_passes::INTEGER;
use anychip_tensor::DType;
use each_model::each_model;

/// The graph that returns every 8-bit result of an operator on integers.
fn codes_of(graph: &Graph) -> Result<Graph, Error> {
    let by_operator = |v: &ValueId| {
        graph.producer(*v).is_some_and(|node| matches!(node.op, anychip::Op::Composite(_)))
            && matches!(graph.ty(*v).dtype, DType::I8 | DType::U8)
    };
    let codes: Vec<ValueId> = graph.values().filter(by_operator).collect();
    Ok(anychip_quantize::expose(graph, &[], &codes)?.graph)
}

fn compare(chip: &str, path: &str) -> Result<bool, Error> {
    let catalog = Catalog::builtin()?;
    let chip = catalog.find(chip)?;
    let model = Model::load(Path::new(path))?;
    let sizes = choose_sizes(model.graph(), &BTreeMap::default(), model.usual_sizes(), 1)?;
    let (graph, _) = optimize(&with_sizes(model.graph(), &sizes)?)?;
    let integers = codes_of(&anychip_passes::run(INTEGER, &graph, &mut |_| {})?)?;
    let inputs = made_up(&graph)?;
    let start = Instant::now();
    let wanted = anychip_ir::evaluate(&integers, &inputs)?;
    let reference_seconds = start.elapsed().as_secs_f64();

    let options =
        CompileOptions { isa: Some("stepped".into()), layers: true, ..CompileOptions::default() };
    let mut engine = Engine::new(&integers, chip, &options)?;
    let counted = engine.counted().and_then(|run| run.counters.cycles);
    let start = Instant::now();
    let run = engine.run_with_layers(&inputs)?;
    let seconds = start.elapsed().as_secs_f64();
    let (mut elements, mut different) = (0, 0);
    for (wanted, found) in wanted.iter().zip(&run.outputs) {
        let size = wanted.byte_len() / wanted.len().max(1);
        let pairs = wanted.bytes().chunks(size).zip(found.bytes().chunks(size));
        elements += wanted.len();
        different += pairs.filter(|(a, b)| a != b).count();
        different += wanted.len().abs_diff(found.len());
    }
    let on_arrays = run.layers.iter().filter(|layer| layer.kernel.contains("[array")).count();
    let in_integers =
        run.layers.iter().filter(|layer| layer.kernel.contains("[array int8")).count();
    println!(
        "{path} on {}: {different} of {elements} results differ; {on_arrays} layers on arrays, {in_integers} of them in int8; \
         {} cycles stepped, {} in closed form; {seconds:.1} s stepped, {reference_seconds:.1} s of the reference",
        chip.id,
        run.counters.cycles.unwrap_or(0),
        counted.unwrap_or(0),
    );
    Ok(different == 0 && in_integers > 0 && run.counters.cycles == counted)
}

fn main() -> ExitCode {
    each_model("stepped_bits", compare)
}
