//! `anychip optimize` on models and data that are wrong: each is refused by name, or is none the worse for it.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use anychip::{Graph, Model, Op, Prim, Tensor, read_npz, write_npz};
use common::{Folder, anychip, root, text};

const CNN: &str = "models/digits-cnn.onnx";
const DIGITS: &str = "models/digits-cnn.npz";

/// Everything that `optimize` does to weights, with data and without.
const WAYS: [&[&str]; 8] = [
    &["--quantize", "int8", "--calibrate", "DATA"],
    &["--quantize", "int8", "--dynamic"],
    &["--quantize", "int8-weights"],
    &["--quantize", "int4-weights", "--calibrate", "DATA"],
    &["--prune", "2:4", "--calibrate", "DATA"],
    &["--prune", "magnitude:0.5"],
    &["--prune", "channels:0.5"],
    &["--prune", "channels:0.5", "--calibrate", "DATA"],
];

fn optimize(model: &str, out: &str, way: &[&str], data: &str) -> std::process::Output {
    let mut arguments = vec!["optimize", model, "-o", out];
    arguments.extend(way.iter().map(|&word| if word == "DATA" { data } else { word }));
    anychip(&arguments, 120)
}

/// What is said of a model that is refused with status 1, all ways that take it.
fn refusals(model: &str, out: &str, data: &str) -> Vec<String> {
    let mut said = Vec::new();
    for way in WAYS {
        let output = optimize(model, out, way, data);
        let own = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{way:?}: {}{own}", text(&output.stdout));
        said.push(format!("{way:?}: {own}"));
    }
    said
}

/// A copy of a model file with the numbers of one of its weights changed.
fn with_weight(
    folder: &Folder,
    model: &str,
    name: &str,
    change: impl Fn(usize, f32) -> f32,
) -> String {
    let graph = Model::load(root().join(model).as_ref()).unwrap();
    let graph: &Graph = graph.graph();
    let weight = graph
        .values()
        .find(|&v| graph.value_name(v) == Some(name))
        .and_then(|v| graph.constant(v))
        .unwrap_or_else(|| panic!("{model} has no {name}"));
    let mut file = std::fs::read(root().join(model)).unwrap();
    let bytes: &[u8] = weight.bytes();
    let at = file.windows(bytes.len()).position(|w| w == bytes).expect("its bytes in the file");
    for (i, place) in file[at..at + bytes.len()].chunks_exact_mut(4).enumerate() {
        let old = f32::from_le_bytes([place[0], place[1], place[2], place[3]]);
        place.copy_from_slice(&change(i, old).to_le_bytes());
    }
    let path = folder.path("changed.onnx");
    std::fs::write(&path, file).unwrap();
    path
}

#[test]
fn a_nan_among_weights_is_named() {
    let folder = Folder::new("nan-weights");
    let data = root().join("models/digits-transformer.npz").display().to_string();
    let nan = |i: usize, v: f32| if i == 5 { f32::NAN } else { v };
    let transformer = "models/digits-transformer.onnx";
    let model = with_weight(&folder, transformer, "head.weight", nan);
    for said in refusals(&model, &folder.path("out.onnx"), &data) {
        assert!(said.contains("`node_linear_9` holds a weight that is NaN"), "{said}");
    }
    let fp16 = optimize(&model, &folder.path("out.onnx"), &["--quantize", "fp16"], "");
    let said = text(&fp16.stderr);
    assert!(fp16.status.code() == Some(1) && said.contains("holds NaN"), "{said}");
}

#[test]
fn an_activation_that_is_no_number_is_named() {
    let folder = Folder::new("nan-activations");
    let data = root().join(DIGITS).display().to_string();
    // Finite weights whose sums are not.
    let model = with_weight(&folder, CNN, "features.3.weight", |_, v| v * 1e38);
    for way in [WAYS[0], WAYS[4], WAYS[7]] {
        let output = optimize(&model, &folder.path("out.onnx"), way, &data);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{way:?}: {said}");
        // The layer's result, or what it goes into.
        let named = ["relu_1", "node__native_batch_norm_legit_no_training_1__0", "getitem_3"];
        let named = named.iter().any(|n| said.contains(&format!("`{n}` holds NaN or infinity")));
        assert!(named, "{way:?}: {said}");
    }
}

#[test]
fn constant_channels_have_finite_scales() {
    let folder = Folder::new("constant-channels");
    let (data, out) = (root().join(DIGITS).display().to_string(), folder.path("out.onnx"));
    // The first filter of 9 taps is 0, the second the same everywhere.
    let model = with_weight(&folder, CNN, "features.0.weight", |i, v| match i {
        0..9 => 0.0,
        9..18 => 0.25,
        _ => v,
    });
    for more in [&[][..], &["--symmetric"], &["--power-of-two"], &["--equalize", "always"]] {
        let way = [&["--quantize", "int8", "--json", "--calibrate", "DATA"][..], more].concat();
        let output = optimize(&model, &out, &way, &data);
        assert!(output.status.success(), "{more:?}: {}", text(&output.stderr));
        let report: serde_json::Value = serde_json::from_str(&text(&output.stdout)).unwrap();
        assert!(report["snr_db"].as_f64().unwrap() > 20.0, "{more:?}: {report}");
        let (graph, _) = Model::load(out.as_ref()).unwrap().optimized().unwrap();
        let mut scales = 0;
        for node in graph.nodes() {
            if let Op::Prim(Prim::Quantize { .. } | Prim::Dequantize { .. }) = node.op {
                for scale in graph.constant(node.inputs[1]).unwrap().to_f64() {
                    assert!(scale.is_finite() && scale > 0.0, "{more:?}: {scale}");
                    scales += 1;
                }
            }
        }
        assert!(scales > 80, "{scales}");
    }
}

#[test]
fn a_quantized_model_is_refused_all_ways() {
    let folder = Folder::new("quantized-already");
    let data = root().join(DIGITS).display().to_string();
    let once = folder.path("once.onnx");
    assert!(optimize(CNN, &once, WAYS[0], &data).status.success());
    for said in refusals(&once, &folder.path("twice.onnx"), &data) {
        assert!(said.contains("quantized already") && said.contains("help:"), "{said}");
    }
}

#[test]
fn empty_and_wrong_data_are_refused_all_ways() {
    let folder = Folder::new("wrong-data");
    let data = folder.path("data.npz");
    let sound = &read_npz(root().join(DIGITS).as_ref()).unwrap()["pixels"];
    let none = Tensor::from_vec([0, 1, 8, 8], Vec::<f32>::new()).unwrap();
    for (name, tensor, wanted) in
        [("pixels", &none, "no samples"), ("other", sound, "`pixels`"), ("", sound, "`pixels`")]
    {
        let arrays = [(name, tensor)];
        write_npz(data.as_ref(), if name.is_empty() { &[] } else { &arrays }).unwrap();
        for way in WAYS.iter().filter(|way| way.contains(&"DATA") && !way.contains(&"int4-weights"))
        {
            let output = optimize(CNN, &folder.path("out.onnx"), way, &data);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{way:?}: {said}");
            assert!(said.contains(wanted), "{way:?}: {said}");
        }
    }
}
