//! Recurrent language models: two layers of long short-term memory over words (arXiv:1409.2329).

use anychip_ops::Lstm;
use anychip_tensor::{DType, Dim, Tensor};

use crate::net::{BATCH, Made, Net, Outputs};
use crate::row::{Published, Row};
use crate::settings::Settings;

/// Words of the Penn Treebank.
const VOCABULARY: usize = 10_000;

const fn row(name: &'static str, parameters: f64, build: crate::row::Recipe) -> Row {
    Row {
        name,
        aliases: &[],
        parameters: Published::Rounded(parameters),
        macs: Published::Unknown,
        macs_at: "",
        source: "arXiv:1409.2329, sizes; parameters as arXiv:1508.06615, table 3, gives them",
        dtype: DType::F32,
        build,
    }
}

pub(crate) const ROWS: &[Row] = &[
    row("lstm-medium", 19.8e6, |n, s| build(n, s, 650)),
    row("lstm-large", 66e6, |n, s| build(n, s, 1500)),
];

fn build(net: &mut Net, settings: &mut Settings, width: usize) -> Made<Outputs> {
    let sequence = settings.dim("sequence", 35);
    let tokens = net.indices("input_ids", &[sequence]);
    let x = net.embedding("embed", tokens, VOCABULARY, width)?;
    // The recurrence runs over the first dim.
    let mut x = net.b.transpose(x, &[1, 0, 2])?;
    let lstm = Lstm {
        direction: "forward".to_string(),
        activations: ["sigmoid", "tanh", "tanh"].map(String::from).to_vec(),
        alpha: vec![0.0; 3],
        beta: vec![0.0; 3],
        clip: 0.0,
        input_forget: false,
        lengths: false,
        peepholes: false,
    };
    let mut outputs: Outputs = Vec::new();
    for layer in 0..2 {
        x = net.within(format!("layers.{layer}"), |net| {
            let w = net.weights(&[1, 4 * width, width], width)?;
            let r = net.weights(&[1, 4 * width, width], width)?;
            // One bias is trained; the operator has a second for the state.
            let bias = net.shift(&[1, 4 * width])?;
            let none = net.b.constant(Tensor::zeros(net.dtype, [1, 4 * width])?);
            let bias = net.b.concat(&[bias, none], 1)?;
            let dims = [Dim::Fixed(1), Dim::sym(BATCH), Dim::Fixed(width)];
            let state = |net: &mut Net, name: &str| {
                let ty = anychip_ir::TensorType::new(net.dtype, dims.clone());
                net.b.input(&format!("{name}.{layer}"), ty)
            };
            let (h, c) = (state(net, "hidden"), state(net, "cell"));
            let results = net.b.node(lstm.clone(), &[x, w, r, bias, h, c], Vec::new())?;
            outputs.push((format!("next_hidden.{layer}").into(), results[1]));
            outputs.push((format!("next_cell.{layer}").into(), results[2]));
            net.b.squeeze(results[0], &[1])
        })?;
    }
    let x = net.b.transpose(x, &[1, 0, 2])?;
    let logits = net.linear("head", x, VOCABULARY, true)?;
    outputs.insert(0, ("logits".into(), logits));
    Ok(outputs)
}
