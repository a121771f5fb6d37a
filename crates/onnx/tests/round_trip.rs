//! What is written reads back as the same computation, and what is no model is refused with words.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use anychip_ir::{Builder, Graph, Prim, TensorType, Window, evaluate};
use anychip_ir::{ConvolutionDims, ReduceKind};
use anychip_onnx::{Code, ExportOptions, ImportOptions, export, from_bytes, load, save};
use anychip_ops::{Gelu, LayerNorm, Softmax};
use anychip_tensor::{DType, Dim, Tensor};

fn weights(shape: &[usize], seed: u64) -> Tensor {
    let count = shape.iter().product::<usize>();
    let values = (0..count)
        .map(|i| {
            let mixed = (i as u64 + 1).wrapping_mul(seed | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        })
        .collect();
    Tensor::from_vec(shape, values).expect("the count is the shape's")
}

/// A small picture net: convolution, pooling, normalization, a named batch.
fn net() -> Graph {
    let mut b = Builder::new("net");
    let shape = [Dim::sym("batch"), Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)];
    let x = b.input("picture", TensorType::new(DType::F32, shape));
    let kernel = b.constant(weights(&[4, 3, 3, 3], 7));
    b.name_value(kernel, "kernel");
    let dims = ConvolutionDims {
        strides: vec![1, 1],
        padding: vec![(1, 1), (1, 1)],
        dilation: vec![1, 1],
        input_dilation: vec![1, 1],
        groups: 1,
    };
    let y = b.prim(Prim::Convolution(dims, DType::F32), &[x, kernel]).unwrap();
    let y = b.composite(Gelu { tanh: false }, &[y]).unwrap();
    let window = Window {
        size: vec![2, 2],
        strides: vec![2, 2],
        dilation: vec![1, 1],
        padding: vec![(0, 0), (0, 0)],
    };
    let y = b.prim(Prim::ReduceWindow { kind: ReduceKind::Max, window }, &[y]).unwrap();
    let y = b.reshape(y, &[Dim::sym("batch"), Dim::Fixed(64)]).unwrap();
    let (scale, bias) = (b.constant(weights(&[64], 3)), b.constant(weights(&[64], 5)));
    let y = b.composite(LayerNorm { axis: 1, epsilon: 1e-5 }, &[y, scale, bias]).unwrap();
    let matrix = b.constant(weights(&[64, 10], 11));
    let y = b.matmul(y, matrix, DType::F32).unwrap();
    let y = b.composite(Softmax { axis: 1 }, &[y]).unwrap();
    b.finish_named(&[("scores".into(), y)])
}

fn assert_same(a: &Graph, b: &Graph) {
    let input = weights(&[2, 3, 8, 8], 13);
    let (x, y) = (
        evaluate(a, std::slice::from_ref(&input)).unwrap(),
        evaluate(b, std::slice::from_ref(&input)).unwrap(),
    );
    assert_eq!(x.len(), y.len());
    for (x, y) in x.iter().zip(&y) {
        assert_eq!(x.shape(), y.shape());
        for (p, q) in x.to_f64().into_iter().zip(y.to_f64()) {
            assert!((p - q).abs() <= 1e-5, "{p} and {q}");
        }
    }
}

#[test]
fn a_graph_survives_the_file_at_every_opset() {
    let graph = net();
    for opset in [13, 17, 18, 20, 21, 24, 28] {
        let options = ExportOptions { opset, ..ExportOptions::default() };
        let data = export(&graph, &options).unwrap();
        let model = from_bytes(data.into(), None, &ImportOptions::default()).unwrap();
        assert_eq!(model.opset, opset);
        let input = model.graph.inputs()[0];
        assert_eq!(model.graph.value_name(input), Some("picture"));
        assert_eq!(model.graph.ty(input).to_string(), "f32[batch, 3, 8, 8]");
        assert_eq!(&*model.graph.output_names()[0], "scores");
        assert_same(&graph, &model.graph);
    }
}

#[test]
fn weights_beside_the_model_are_found() {
    let folder = std::env::temp_dir().join(format!("anychip-beside-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("net.onnx");
    let graph = net();
    save(&graph, &path, &ExportOptions { external_above: 0, ..ExportOptions::default() }).unwrap();
    assert!(folder.join("net.onnx.data").metadata().unwrap().len() > 2000);
    assert_same(&graph, &load(&path, &ImportOptions::default()).unwrap().graph);
    std::fs::write(folder.join("net.onnx.data"), [0u8; 16]).unwrap();
    let problems = load(&path, &ImportOptions::default()).unwrap_err();
    assert!(problems.iter().all(|p| p.code == Code::ExternalData), "{problems}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn other_files_are_named_for_what_they_are() {
    let cases: [(&[u8], &str); 5] = [
        (b"", "an empty file"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\xff\xd8\xff\xe0", "a JPEG picture"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"\x80\x02}q", "a Python pickle"),
    ];
    for (data, words) in cases {
        let problems =
            from_bytes(data.to_vec().into(), None, &ImportOptions::default()).unwrap_err();
        assert!(problems.to_string().contains(words), "{problems}");
    }
}

#[test]
fn a_model_that_is_cut_short_is_refused() {
    let data = export(&net(), &ExportOptions::default()).unwrap();
    for length in (1..data.len()).step_by(97) {
        let cut = data[..length].to_vec();
        assert!(from_bytes(cut.into(), None, &ImportOptions::default()).is_err(), "{length}");
    }
}

#[test]
fn dims_are_given_by_name() {
    let data = export(&net(), &ExportOptions::default()).unwrap();
    let options = ImportOptions { dims: [("batch".into(), 5)].into(), ..ImportOptions::default() };
    let model = from_bytes(data.into(), None, &options).unwrap();
    assert_eq!(model.graph.ty(model.graph.outputs()[0]).to_string(), "f32[5, 10]");
}
