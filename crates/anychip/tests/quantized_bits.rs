//! Quantized networks, ours and those of other tools: every part of one that is in integers gives what the reference evaluator
//! gives, bit for bit, at every instruction set and with any number of threads; and digits are still told apart.
//!
//! `tests/data/quantized` holds what ONNX Runtime's tools make of `models/digits-*.onnx`, written by `tools/quantized_files.py`.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};

use anychip::{
    Arrays, CompileOptions, Engine, Graph, Model, QuantizeOptions, Samples, Tensor, accuracy,
    arrange, local_chip, quantize, quantize_dynamic, read_npz,
};
use anychip_cpu::CpuTarget;
use anychip_ir::{Definition, Node, Op, Prim, ValueId, evaluate};
use anychip_passes::INTEGER;
use anychip_quantize::{Section, expose};
use anychip_target::{Target, legalize};

/// Samples that the reference evaluator, which is slow, looks at.
const LOOKED_AT: usize = 5;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn other_tools(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/quantized/{name}.onnx"))
}

/// The optimized graph of a file.
fn load(path: &Path) -> Graph {
    Model::load(path).unwrap().optimized().unwrap().0
}

fn digits(of: &str) -> (PathBuf, Arrays) {
    let path = root().join(format!("models/digits-{of}.npz"));
    let arrays = read_npz(&path).unwrap();
    (path, arrays)
}

/// The first samples of each array.
fn first(arrays: &Arrays, count: usize) -> Arrays {
    let cut = |tensor: &Tensor| {
        let bytes = tensor.byte_len() / tensor.shape()[0] * count;
        let shape = [&[count][..], &tensor.shape()[1..]].concat();
        Tensor::from_bytes(tensor.dtype(), shape, tensor.bytes().slice(..bytes)).unwrap()
    };
    arrays.iter().map(|(name, tensor)| (name.clone(), cut(tensor))).collect()
}

/// Whether a node computes in integers alone, or goes between them and floats by a scale.
fn in_integers(graph: &Graph, node: &Node) -> bool {
    match &node.op {
        Op::Prim(Prim::Constant(_)) => false,
        Op::Prim(Prim::Quantize { .. } | Prim::Dequantize { .. }) => {
            graph.constant(node.inputs[0]).is_none()
        }
        _ => {
            let floats = |values: &[ValueId]| values.iter().any(|&v| graph.ty(v).dtype.is_float());
            let moves = matches!(node.op, Op::Prim(Prim::ShapeOf | Prim::Reshape));
            !floats(&node.inputs[..1]) && !floats(&node.outputs) && !moves
        }
    }
}

/// The nodes in integers of a graph as one of their own, which begins with what floats give and ends with what floats read.
fn integer_part(graph: &Graph) -> (Section, usize) {
    let own: Vec<bool> = graph.nodes().iter().map(|node| in_integers(graph, node)).collect();
    let by_integers = |v: ValueId| match graph.definition(v) {
        Definition::Input(_) => false,
        Definition::Output(id, _) => own[id.index()],
    };
    let mut known = Vec::new();
    let mut wanted: Vec<ValueId> =
        graph.outputs().iter().copied().filter(|&v| by_integers(v)).collect();
    for (node, &own) in graph.nodes().iter().zip(&own) {
        for &v in &node.inputs {
            match (own, by_integers(v)) {
                (true, false) if graph.constant(v).is_none() => known.push(v),
                (false, true) => wanted.push(v),
                _ => {}
            }
        }
    }
    known.sort_unstable();
    known.dedup();
    wanted.sort_unstable();
    wanted.dedup();
    let count = own.iter().filter(|own| **own).count();
    (expose(graph, &known, &wanted).unwrap(), count)
}

/// Holds the integers of a quantized graph to the reference evaluator; how many nodes those are.
fn hold_to_the_reference(name: &str, graph: &Graph, arrays: &Arrays) -> usize {
    let graph = anychip_passes::run(INTEGER, graph, &mut |_| {}).unwrap();
    let (part, count) = integer_part(&graph);
    if count == 0 {
        return 0;
    }
    let given = arrange(&graph, &first(arrays, LOOKED_AT)).unwrap();
    let before = expose(&graph, &[], &part.inputs).unwrap();
    let of_inputs: Vec<Tensor> = before
        .inputs
        .iter()
        .map(|v| given[graph.inputs().iter().position(|i| i == v).unwrap()].clone())
        .collect();
    let inputs = evaluate(&before.graph, &of_inputs).unwrap();
    let want = evaluate(&part.graph, &inputs).unwrap();
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    let levels = CpuTarget::available();
    assert!(!levels.is_empty());
    for (level, target) in levels {
        for threads in 1..=3 {
            let legal = legalize(&target, &part.graph).unwrap();
            let options = CompileOptions { threads: Some(threads), ..CompileOptions::default() };
            let program = target.compile(&legal, &local_chip("cpu").unwrap(), &options).unwrap();
            let mut session = program.open(&target.places()[0]).unwrap();
            let got = session.run(&views).unwrap().outputs;
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                let at = || format!("{name}, {level}, {threads} threads, result {i}");
                assert_eq!((got.dtype(), got.shape()), (want.dtype(), want.shape()), "{}", at());
                assert!(got.bytes() == want.bytes(), "{}", at());
            }
        }
    }
    count
}

/// Right answers of a graph on `cpu`.
fn right(graph: &Graph, arrays: &Arrays) -> usize {
    let inputs = arrange(graph, arrays).unwrap();
    let chip = local_chip("cpu").unwrap();
    let mut engine = Engine::new(graph, &chip, &CompileOptions::default()).unwrap();
    let (outputs, _) = engine.run(&inputs).unwrap();
    accuracy(&outputs[0], &arrays["labels"]).unwrap().0
}

#[test]
fn every_trained_network_has_the_integers_of_the_reference() {
    for (of, layers) in [("cnn", 4), ("transformer", 10), ("rnn", 1)] {
        let (path, arrays) = digits(of);
        let graph = load(&root().join(format!("models/digits-{of}.onnx")));
        let samples = Samples::open(&path, &graph, "labels").unwrap();
        let (quantized, report) = quantize(&graph, &samples, &QuantizeOptions::default()).unwrap();
        assert_eq!(report.layers.len(), layers, "{of}");
        let count = hold_to_the_reference(of, &quantized, &arrays);
        assert!(count >= layers, "{of}: {count} nodes");
        if of != "cnn" {
            let (dynamic, report) = quantize_dynamic(&graph, None).unwrap();
            let count = hold_to_the_reference(&format!("{of}, dynamic"), &dynamic, &arrays);
            assert!(count >= report.layers.len(), "{of}: {count} nodes");
        }
    }
}

#[test]
fn files_of_other_tools_are_read_and_run() {
    // What each holds that is in integers: layers, and for dynamic grids the sums of products.
    for (of, how, nodes) in [
        ("cnn", "qdq", 5),
        ("cnn", "operators", 5),
        ("transformer", "dynamic", 10),
        ("transformer", "blocks", 0),
    ] {
        let name = format!("digits-{of}-{how}");
        let (_, arrays) = digits(of);
        let graph = load(&other_tools(&name));
        let count = hold_to_the_reference(&name, &graph, &arrays);
        assert!(count >= nodes, "{name}: {count} nodes");
        let float = load(&root().join(format!("models/digits-{of}.onnx")));
        let (before, after) = (right(&float, &arrays), right(&graph, &arrays));
        assert!(after + 4 >= before, "{name}: {before} became {after}");
        // Floats as well, where everything is one or the other.
        let some = arrange(&graph, &first(&arrays, LOOKED_AT)).unwrap();
        let want = evaluate(&graph, &some).unwrap()[0].to_f64();
        let chip = local_chip("cpu").unwrap();
        let mut engine = Engine::new(&graph, &chip, &CompileOptions::default()).unwrap();
        let got = engine.run(&some).unwrap().0[0].to_f64();
        let power = |of: &mut dyn Iterator<Item = f64>| of.map(|v| v * v).sum::<f64>();
        let noise = power(&mut want.iter().zip(&got).map(|(w, g)| w - g));
        // A code at the border between two may go either way.
        let least = if nodes == 0 { 1e-10 } else { 1e-3 };
        assert!(noise <= least * power(&mut want.iter().copied()), "{name}: {want:?} {got:?}");
    }
}
