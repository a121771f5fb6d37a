//! The plain recurrent layer.

use anychip_ir::{Builder, Expand, IrError, ValueId, composite};
use anychip_tensor::Dim;

use crate::activation::{activation, clip};
use crate::repeat::{Direction, directions, join_directions, part, times_transposed};

composite! {
    /// `(x [s, b, in], w [d, h, in], r [d, h, h], bias [d, 2h], h₀ [d, b, h][, lengths i64[b]]) →
    /// (y [s, d, b, h], h [d, b, h])`: `h ← f(x wᵀ + h rᵀ + bias)` (Elman 1990). `d` counts directions; `bias` is
    /// the input's, then the state's.
    pub struct Rnn = "rnn" {
        /// `forward`, `reverse` or `bidirectional`.
        pub direction: String,
        /// One a direction: `tanh`, `relu` …
        pub activations: Vec<String>,
        /// First number of each activation.
        pub alpha: Vec<f32>,
        /// Second number of each activation.
        pub beta: Vec<f32>,
        /// Limit of what goes into an activation; 0 is none.
        pub clip: f32,
        /// There is an operand with the length of each batch entry.
        pub lengths: bool,
    }
    example: Rnn {
        direction: "forward".to_string(),
        activations: vec!["tanh".to_string()],
        alpha: vec![0.0],
        beta: vec![0.0],
        clip: 0.0,
        lengths: false,
    }
}

impl Expand for Rnn {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let expected = 5 + usize::from(self.lengths);
        if x.len() != expected {
            return Err(IrError::OperandCount { op: "rnn", expected, found: x.len() });
        }
        let lengths = self.lengths.then(|| x[5]);
        let hidden = b.dims(x[2]).last().cloned().unwrap_or(Dim::Fixed(0));
        let mut results = Vec::new();
        for (d, reverse) in directions("rnn", &self.direction)?.into_iter().enumerate() {
            let function = activation("rnn", &self.activations, &self.alpha, &self.beta, d)?;
            let pick = |b: &mut Builder, v: ValueId| b.index(v, 0, d as i64);
            let (w, r, bias) = (pick(b, x[1])?, pick(b, x[2])?, pick(b, x[3])?);
            let (bias_w, bias_r) = (part(b, bias, 0, 0, &hidden)?, part(b, bias, 0, 1, &hidden)?);
            let bias = b.add(bias_w, bias_r)?;
            let gates = times_transposed(b, x[0], w)?;
            let gates = b.add(gates, bias)?;
            let states = [pick(b, x[4])?];
            let direction = Direction { gates, lengths, states: &states, captures: &[r], reverse };
            let run = direction.run(b, |b, gates, states, captures| {
                let own = times_transposed(b, states[0], captures[0])?;
                let sum = b.add(gates, own)?;
                let sum = clip(b, sum, self.clip)?;
                Ok(vec![function.apply(b, sum)?])
            })?;
            results.push(run);
        }
        join_directions(b, &results)
    }
}
