//! Importers of recurrent layers.

use anychip_ir::ValueId;
use anychip_ops::{Gru, Lstm, Rnn};
use anychip_tensor::{DType, Dim};

use super::call::{Call, ImportError};
use super::table::Row;

type Results = Result<Vec<ValueId>, ImportError>;

pub(crate) const ROWS: &[Row] =
    &[Row::onnx("GRU", 1, gru), Row::onnx("LSTM", 1, lstm), Row::onnx("RNN", 1, rnn)];

/// What the three layers have in common.
struct Layer {
    direction: String,
    directions: usize,
    hidden: Dim,
    batch: Dim,
    /// Dims are (batch, sequence, …) instead of (sequence, batch, …).
    batch_first: bool,
    names: Vec<String>,
    alpha: Vec<f32>,
    beta: Vec<f32>,
    clip: f32,
    x: ValueId,
}

impl Layer {
    /// Reads the common attributes; `defaults` are the activations of one direction.
    fn new(call: &mut Call<'_>, defaults: &[&str]) -> Result<Layer, ImportError> {
        let (x, r) = (call.input(0)?, call.input(2)?);
        if call.b.rank(x) != 3 || call.b.rank(r) != 3 {
            return Err(call.invalid("the sequence and the weights need three dims"));
        }
        let batch_first = call.int("layout", 0) == 1;
        let x = if batch_first { call.b.transpose(x, &[1, 0, 2])? } else { x };
        let direction = call.string("direction", "forward");
        let directions = if direction == "bidirectional" { 2 } else { 1 };
        let given = call.strings("activations").filter(|names| !names.is_empty());
        let names: Vec<String> = match given {
            Some(names) => names.iter().map(|n| n.to_lowercase()).collect(),
            None => {
                (0..directions).flat_map(|_| defaults.iter().map(|n| (*n).to_string())).collect()
            }
        };
        if names.len() != directions * defaults.len() {
            return Err(call.bad_attribute("activations", "needs one for each gate and direction"));
        }
        // The lists have numbers only for functions that take one, in order.
        let mut alphas = call.floats("activation_alpha").unwrap_or_default().into_iter();
        let mut betas = call.floats("activation_beta").unwrap_or_default().into_iter();
        let (mut alpha, mut beta) = (Vec::new(), Vec::new());
        for name in &names {
            let (a, b) = default_numbers(name);
            alpha.push(a.map_or(0.0, |a| alphas.next().unwrap_or(a)));
            beta.push(b.map_or(0.0, |b| betas.next().unwrap_or(b)));
        }
        Ok(Layer {
            direction,
            directions,
            hidden: call.b.dims(r)[2].clone(),
            batch: call.b.dims(x)[1].clone(),
            batch_first,
            names,
            alpha,
            beta,
            clip: call.float("clip", 0.0),
            x,
        })
    }

    /// The operand `input`, or zeros of the shape.
    fn or_zeros(
        &self,
        call: &mut Call<'_>,
        input: usize,
        shape: &[Dim],
    ) -> Result<ValueId, ImportError> {
        if let Some(value) = call.optional(input) {
            return Ok(value);
        }
        let zero = call.b.scalar_like(self.x, 0.0)?;
        Ok(call.b.broadcast(zero, shape)?)
    }

    /// The bias of `2 · gates` parts.
    fn bias(&self, call: &mut Call<'_>, gates: usize) -> Result<ValueId, ImportError> {
        let size = Dim::Fixed(2 * gates) * self.hidden.clone();
        self.or_zeros(call, 3, &[Dim::Fixed(self.directions), size])
    }

    /// A first state, `[directions, batch, hidden]`.
    fn state(&self, call: &mut Call<'_>, input: usize) -> Result<ValueId, ImportError> {
        let shape = [Dim::Fixed(self.directions), self.batch.clone(), self.hidden.clone()];
        let given = call.optional(input).is_some();
        let state = self.or_zeros(call, input, &shape)?;
        if given && self.batch_first {
            return Ok(call.b.transpose(state, &[1, 0, 2])?);
        }
        Ok(state)
    }

    /// The operand with the length of each batch entry.
    fn lengths(call: &mut Call<'_>) -> Result<Option<ValueId>, ImportError> {
        match call.optional(4) {
            Some(lengths) => Ok(Some(call.b.cast(lengths, DType::I64)?)),
            None => Ok(None),
        }
    }

    /// The results in the node's layout.
    fn results(&self, call: &mut Call<'_>, values: Vec<ValueId>) -> Results {
        if !self.batch_first {
            return Ok(values);
        }
        // [s, d, b, h] → [b, s, d, h] and [d, b, h] → [b, d, h]
        values
            .into_iter()
            .enumerate()
            .map(|(i, v)| {
                let order: &[usize] = if i == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] };
                Ok(call.b.transpose(v, order)?)
            })
            .collect()
    }
}

/// The numbers that an activation takes, with the defaults of the operator of its name.
fn default_numbers(name: &str) -> (Option<f32>, Option<f32>) {
    match name {
        "leakyrelu" => (Some(0.01), None),
        "thresholdedrelu" | "elu" => (Some(1.0), None),
        "affine" => (Some(1.0), Some(0.0)),
        "scaledtanh" => (Some(1.0), Some(1.0)),
        "hardsigmoid" => (Some(0.2), Some(0.5)),
        _ => (None, None),
    }
}

fn lstm(call: &mut Call<'_>) -> Results {
    let layer = Layer::new(call, &["sigmoid", "tanh", "tanh"])?;
    let bias = layer.bias(call, 4)?;
    let (h, c) = (layer.state(call, 5)?, layer.state(call, 6)?);
    let (lengths, peepholes) = (Layer::lengths(call)?, call.optional(7));
    let mut operands = vec![layer.x, call.input(1)?, call.input(2)?, bias, h, c];
    operands.extend(lengths);
    operands.extend(peepholes);
    let lstm = Lstm {
        direction: layer.direction.clone(),
        activations: layer.names.clone(),
        alpha: layer.alpha.clone(),
        beta: layer.beta.clone(),
        clip: layer.clip,
        input_forget: call.flag("input_forget", false),
        lengths: lengths.is_some(),
        peepholes: peepholes.is_some(),
    };
    let values = call.b.node(lstm, &operands, Vec::new())?;
    layer.results(call, values)
}

fn gru(call: &mut Call<'_>) -> Results {
    let layer = Layer::new(call, &["sigmoid", "tanh"])?;
    let bias = layer.bias(call, 3)?;
    let h = layer.state(call, 5)?;
    let lengths = Layer::lengths(call)?;
    let mut operands = vec![layer.x, call.input(1)?, call.input(2)?, bias, h];
    operands.extend(lengths);
    let gru = Gru {
        direction: layer.direction.clone(),
        activations: layer.names.clone(),
        alpha: layer.alpha.clone(),
        beta: layer.beta.clone(),
        clip: layer.clip,
        reset_after: call.flag("linear_before_reset", false),
        lengths: lengths.is_some(),
    };
    let values = call.b.node(gru, &operands, Vec::new())?;
    layer.results(call, values)
}

fn rnn(call: &mut Call<'_>) -> Results {
    let layer = Layer::new(call, &["tanh"])?;
    let bias = layer.bias(call, 1)?;
    let h = layer.state(call, 5)?;
    let lengths = Layer::lengths(call)?;
    let mut operands = vec![layer.x, call.input(1)?, call.input(2)?, bias, h];
    operands.extend(lengths);
    let rnn = Rnn {
        direction: layer.direction.clone(),
        activations: layer.names.clone(),
        alpha: layer.alpha.clone(),
        beta: layer.beta.clone(),
        clip: layer.clip,
        lengths: lengths.is_some(),
    };
    let values = call.b.node(rnn, &operands, Vec::new())?;
    layer.results(call, values)
}
