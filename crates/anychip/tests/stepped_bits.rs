//! A quantized ResNet-18 through simulated cells: every bit is the reference evaluator's.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;

use anychip::{
    Model, Op, QuantizeOptions, Samples, Tensor, choose_sizes, optimize, quantize, with_sizes,
    write_npz,
};
use anychip_chips::{Catalog, Dataflow};
use anychip_conformance::Random;
use anychip_passes::INTEGER;
use anychip_systolic::{Machine, SystolicTarget};
use anychip_target::{CompileOptions, Place, Target, legalize};
use anychip_tensor::DType;

/// Pixels along a side: the network is whole, its images are small.
const SIDE: usize = 32;

#[test]
fn a_stepped_network_has_every_bit_of_the_reference() {
    let model = Model::load(format!("zoo:resnet18,image={SIDE}").as_ref()).unwrap();
    let (graph, _) = optimize(model.graph()).unwrap();
    let mut random = Random::new(18);
    let pixels: Vec<f64> =
        (0..2 * 3 * SIDE * SIDE).map(|_| random.below(512) as f64 / 256.0 - 1.0).collect();
    let images = Tensor::from_f64(DType::F32, [2, 3, SIDE, SIDE], &pixels).unwrap();
    let data = std::env::temp_dir().join(format!("anychip-stepped-{}.npz", std::process::id()));
    let input = anychip::input_names(&graph)[0].clone();
    write_npz(&data, &[(input.as_str(), &images)]).unwrap();
    let samples = Samples::open(&data, &graph, "labels").unwrap();
    // Rounding by what a layer's inputs are takes long and changes no sizes.
    let options = QuantizeOptions { adaptive_rounding: false, ..QuantizeOptions::default() };
    let (quantized, report) = quantize(&graph, &samples, &options).unwrap();
    std::fs::remove_file(&data).unwrap();
    assert!(report.layers.iter().filter(|layer| layer.quantized).count() >= 21);

    let sizes = choose_sizes(&quantized, &BTreeMap::default(), &[], 1).unwrap();
    let (quantized, _) = optimize(&with_sizes(&quantized, &sizes).unwrap()).unwrap();
    let integers = anychip_passes::run(INTEGER, &quantized, &mut |_| {}).unwrap();
    // Every 8-bit value: the classifier's own result stays a float, so it is no part of it.
    let codes = integers.values().filter(|&v| {
        let operator = integers.producer(v).is_some_and(|node| matches!(node.op, Op::Composite(_)));
        operator && integers.ty(v).dtype.bytes_for(1) == Some(1)
    });
    let integers =
        anychip_quantize::expose(&integers, &[], &codes.collect::<Vec<_>>()).unwrap().graph;
    let one = Tensor::from_f64(DType::F32, [1, 3, SIDE, SIDE], &pixels[..3 * SIDE * SIDE]).unwrap();
    let wanted = anychip_ir::evaluate(&integers, std::slice::from_ref(&one)).unwrap();

    let target = SystolicTarget::with_machine(Machine::ideal(32, 32, Dataflow::WeightStationary));
    assert!(target.integers());
    let legal = legalize(&target, &integers).unwrap();
    let catalog = Catalog::builtin().unwrap();
    let options =
        CompileOptions { isa: Some("stepped".into()), layers: true, ..CompileOptions::default() };
    let program = target.compile(&legal, catalog.find("google-tpu-v1").unwrap(), &options).unwrap();
    let counted = program.counted().unwrap().counters;
    let chip = target.places().into_iter().next().unwrap();
    assert!(matches!(chip, Place::Simulator { .. }));
    let run = program.open(&chip).unwrap().run(&[one.view()]).unwrap();
    let products = run.layers.iter().filter(|layer| layer.kernel.contains("[array int8"));
    assert_eq!(products.count(), 20, "every convolution");
    assert!(run.layers.iter().all(|layer| !layer.kernel.contains("[array f32")));
    assert_eq!(run.counters.cycles, counted.cycles);
    assert_eq!(run.outputs.len(), wanted.len());
    for (found, wanted) in run.outputs.iter().zip(&wanted) {
        assert_eq!((found.dtype(), found.shape()), (wanted.dtype(), wanted.shape()));
        assert!(found.bytes() == wanted.bytes(), "bits differ");
    }
}
