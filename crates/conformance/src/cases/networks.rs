//! Whole graphs with a named batch, run at two sizes through one session.

use anychip_ir::{
    Builder, ConvolutionDims, Graph, IrError, Prim, ReduceKind, TensorType, ValueId, Window,
};
use anychip_ops::{Attention, Gelu, LayerNorm, Softmax};
use anychip_tensor::{DType, Dim};

use super::Case;
use crate::Random;

pub(super) fn cases(all: &mut Vec<Case>) {
    type Make = fn(&mut Random) -> Result<Graph, IrError>;
    let networks: [(&str, Make, &[usize]); 3] = [
        ("perceptron", perceptron, &[20]),
        ("convolutional", convolutional, &[3, 17, 17]),
        ("transformer", transformer, &[7, 16]),
    ];
    for (name, make, shape) in networks {
        let seed = Random::seed_of(name);
        let mut random = Random::new(seed);
        let graph =
            make(&mut random).unwrap_or_else(|error| panic!("case {name} does not build: {error}"));
        let inputs = [1, 3, 1]
            .map(|n| {
                let mut full = vec![n];
                full.extend_from_slice(shape);
                vec![random.suitable(DType::F32, &full)]
            })
            .to_vec();
        all.push(Case { name: format!("network/{name}"), graph, inputs, slack: 20.0, seed });
    }
}

fn input(b: &mut Builder, rest: &[usize]) -> ValueId {
    let mut dims = vec![Dim::sym("batch")];
    dims.extend(rest.iter().map(|&n| Dim::Fixed(n)));
    b.input("x", TensorType { dtype: DType::F32, shape: dims })
}

fn weight(b: &mut Builder, random: &mut Random, shape: &[usize]) -> ValueId {
    let spread = 1.0 / (shape.iter().skip(1).product::<usize>() as f64).sqrt();
    b.constant(random.tensor(DType::F32, shape, -spread, spread))
}

fn linear(
    b: &mut Builder,
    random: &mut Random,
    x: ValueId,
    from: usize,
    to: usize,
) -> Result<ValueId, IrError> {
    let w = weight(b, random, &[from, to]);
    let bias = weight(b, random, &[to]);
    let product = b.matmul(x, w, DType::F32)?;
    b.add(product, bias)
}

fn relu(b: &mut Builder, x: ValueId) -> Result<ValueId, IrError> {
    let zero = b.scalar_like(x, 0.0)?;
    b.max(x, zero)
}

fn perceptron(random: &mut Random) -> Result<Graph, IrError> {
    let mut b = Builder::new("perceptron");
    let mut x = input(&mut b, &[20]);
    for (from, to) in [(20, 33), (33, 17)] {
        x = linear(&mut b, random, x, from, to)?;
        x = relu(&mut b, x)?;
    }
    let x = linear(&mut b, random, x, 17, 5)?;
    let probabilities = b.composite(Softmax { axis: 1 }, &[x])?;
    let best = b.prim(Prim::ArgReduce { kind: ReduceKind::Max, axis: 1, last: false }, &[x])?;
    Ok(b.finish(&[probabilities, best]))
}

/// Stem, an inverted residual block with depthwise and pointwise layers and a gate, pooling, classifier.
fn convolutional(random: &mut Random) -> Result<Graph, IrError> {
    let mut b = Builder::new("convolutional");
    let x = input(&mut b, &[3, 17, 17]);
    let mut layer = |b: &mut Builder,
                     x: ValueId,
                     (c, m, k): (usize, usize, usize),
                     stride: usize,
                     groups: usize| {
        let w = weight(b, random, &[m, c / groups, k, k]);
        let bias = weight(b, random, &[m, 1, 1]);
        let pad = (k / 2) as i64;
        let dims = ConvolutionDims {
            strides: vec![stride; 2],
            padding: vec![(pad, pad); 2],
            dilation: vec![1; 2],
            input_dilation: vec![1; 2],
            groups,
        };
        let y = b.prim(Prim::Convolution(dims, DType::F32), &[x, w])?;
        b.add(y, bias)
    };
    let y = layer(&mut b, x, (3, 8, 3), 2, 1)?;
    let stem = relu(&mut b, y)?;
    let y = layer(&mut b, stem, (8, 16, 1), 1, 1)?;
    let gate = b.sigmoid(y)?;
    let y = b.mul(y, gate)?;
    let y = layer(&mut b, y, (16, 16, 3), 1, 16)?;
    let low = b.scalar(DType::F32, 0.0)?;
    let high = b.scalar(DType::F32, 6.0)?;
    let y = b.max(y, low)?;
    let y = b.min(y, high)?;
    let squeezed = b.mean(y, &[2, 3], true)?;
    let excited = layer(&mut b, squeezed, (16, 16, 1), 1, 1)?;
    let excited = b.sigmoid(excited)?;
    let y = b.mul(y, excited)?;
    let y = layer(&mut b, y, (16, 8, 1), 1, 1)?;
    let y = b.add(y, stem)?;
    let window = Window {
        size: vec![3; 2],
        strides: vec![2; 2],
        dilation: vec![1; 2],
        padding: vec![(1, 1); 2],
    };
    let y = b.prim(Prim::ReduceWindow { kind: ReduceKind::Max, window }, &[y])?;
    let y = b.mean(y, &[2, 3], false)?;
    let y = linear(&mut b, random, y, 8, 10)?;
    Ok(b.finish(&[y]))
}

/// One encoder block with four heads over sixteen channels.
fn transformer(random: &mut Random) -> Result<Graph, IrError> {
    let mut b = Builder::new("transformer");
    let x = input(&mut b, &[7, 16]);
    let norm = |b: &mut Builder, random: &mut Random, x: ValueId| {
        let scale = b.constant(random.tensor(DType::F32, &[16], 0.5, 1.5));
        let bias = weight(b, random, &[16]);
        b.composite(LayerNorm { axis: 2, epsilon: 1e-5 }, &[x, scale, bias])
    };
    let y = norm(&mut b, random, x)?;
    let mut heads = Vec::new();
    for _ in 0..3 {
        let z = linear(&mut b, random, y, 16, 16)?;
        let batch = b.dims(z)[0].clone();
        let split = b.reshape(z, &[batch, 7.into(), 4.into(), 4.into()])?;
        heads.push(b.transpose(split, &[0, 2, 1, 3])?);
    }
    let attention =
        Attention { scale: 0.5, causal: true, softcap: 0.0, softmax_type: None, scores: None };
    let y = b.composite(attention, &heads)?;
    let y = b.transpose(y, &[0, 2, 1, 3])?;
    let batch = b.dims(y)[0].clone();
    let y = b.reshape(y, &[batch, 7.into(), 16.into()])?;
    let y = linear(&mut b, random, y, 16, 16)?;
    let x = b.add(x, y)?;
    let y = norm(&mut b, random, x)?;
    let y = linear(&mut b, random, y, 16, 64)?;
    let y = b.composite(Gelu { tanh: false }, &[y])?;
    let y = linear(&mut b, random, y, 64, 16)?;
    let y = b.add(x, y)?;
    let first = b.index(y, 1, 0)?;
    Ok(b.finish(&[y, first]))
}
