//! Importers of random numbers.

use anychip_ir::{Distribution, Prim, ReduceKind, ValueId};
use anychip_tensor::{DType, Dim};

use super::call::{Call, ImportError};
use super::table::Row;

type Results = Result<Vec<ValueId>, ImportError>;

pub(crate) const ROWS: &[Row] = &[
    Row::onnx("Bernoulli", 15, bernoulli),
    Row::onnx("Multinomial", 7, multinomial),
    Row::onnx("RandomNormal", 1, random_normal),
    Row::onnx("RandomNormalLike", 1, random_normal_like),
    Row::onnx("RandomUniform", 1, random_uniform),
    Row::onnx("RandomUniformLike", 1, random_uniform_like),
];

/// The seed, a float in the file; its bits start the sequence.
fn seed(call: &Call<'_>) -> Option<u64> {
    call.float_opt("seed").map(|seed| u64::from(seed.to_bits()))
}

fn normal(call: &Call<'_>) -> Distribution {
    Distribution::Normal {
        mean: f64::from(call.float("mean", 0.0)),
        deviation: f64::from(call.float("scale", 1.0)),
    }
}

fn uniform(call: &Call<'_>) -> Distribution {
    Distribution::Uniform {
        low: f64::from(call.float("low", 0.0)),
        high: f64::from(call.float("high", 1.0)),
    }
}

fn of_attribute(call: &mut Call<'_>, distribution: Distribution) -> Results {
    let dtype = call.dtype("dtype")?.unwrap_or(DType::F32);
    let shape = call.need_ints("shape")?;
    if shape.iter().any(|&n| n < 0) {
        return Err(call.bad_attribute("shape", "sizes must not be negative"));
    }
    let shape = call.b.integers(&shape);
    let seed = seed(call);
    Ok(vec![call.b.prim(Prim::Random { distribution, dtype, seed }, &[shape])?])
}

fn like(call: &mut Call<'_>, distribution: Distribution) -> Results {
    let x = call.input(0)?;
    let dtype = match call.dtype("dtype")? {
        Some(dtype) => dtype,
        None => call.b.dtype(x),
    };
    let dims = call.b.dims(x);
    let shape = call.b.dims_value(&dims)?;
    let seed = seed(call);
    Ok(vec![call.b.prim(Prim::Random { distribution, dtype, seed }, &[shape])?])
}

fn random_normal(call: &mut Call<'_>) -> Results {
    of_attribute(call, normal(call))
}

fn random_uniform(call: &mut Call<'_>) -> Results {
    of_attribute(call, uniform(call))
}

fn random_normal_like(call: &mut Call<'_>) -> Results {
    like(call, normal(call))
}

fn random_uniform_like(call: &mut Call<'_>) -> Results {
    like(call, uniform(call))
}

/// 1 with the probability that the operand says.
fn bernoulli(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let own = call.b.dtype(x);
    let to = call.dtype("dtype")?.unwrap_or(own);
    let wide = if own == DType::F64 { own } else { DType::F32 };
    let dims = call.b.dims(x);
    let shape = call.b.dims_value(&dims)?;
    let random = Prim::Random {
        distribution: Distribution::Uniform { low: 0.0, high: 1.0 },
        dtype: wide,
        seed: seed(call),
    };
    let drawn = call.b.prim(random, &[shape])?;
    let chance = call.b.cast(x, wide)?;
    let hit = call.b.lt(drawn, chance)?;
    Ok(vec![call.b.cast(hit, to)?])
}

/// Classes drawn with the logarithms of their weights as the operand says.
fn multinomial(call: &mut Call<'_>) -> Results {
    let x = call.input(0)?;
    let to = call.dtype("dtype")?.unwrap_or(DType::I32);
    let dims = call.b.dims(x);
    if dims.len() != 2 {
        return Err(call.invalid("needs [batch, classes]"));
    }
    let samples = Dim::from_i64(call.int("sample_size", 1).max(0));
    let seed = seed(call);
    let b = &mut *call.b;
    // The largest of log weight + Gumbel noise is distributed as the weights are (Gumbel 1954).
    let shape = b.dims_value(&[dims[0].clone(), samples, dims[1].clone()])?;
    let uniform = Distribution::Uniform { low: f64::from(f32::MIN_POSITIVE), high: 1.0 };
    let drawn =
        b.prim(Prim::Random { distribution: uniform, dtype: DType::F32, seed }, &[shape])?;
    let log = b.log(drawn)?;
    let positive = b.neg(log)?;
    let log = b.log(positive)?;
    let noise = b.neg(log)?;
    let weights = b.cast(x, DType::F32)?;
    let weights = b.unsqueeze(weights, &[1])?;
    let scores = b.add(weights, noise)?;
    let place = Prim::ArgReduce { kind: ReduceKind::Max, axis: 2, last: false };
    let class = b.prim(place, &[scores])?;
    Ok(vec![b.cast(class, to)?])
}
