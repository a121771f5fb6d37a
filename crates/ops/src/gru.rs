//! Gated recurrent unit.

use anychip_ir::{Builder, Expand, IrError, ValueId, composite};
use anychip_tensor::Dim;

use crate::activation::{activation, clip};
use crate::repeat::{Direction, directions, join_directions, part, times_transposed};

composite! {
    /// `(x [s, b, in], w [d, 3h, in], r [d, 3h, h], bias [d, 6h], h₀ [d, b, h][, lengths i64[b]]) →
    /// (y [s, d, b, h], h [d, b, h])` (arXiv:1406.1078). Gates lie in the order update, reset, hidden; `d` counts
    /// directions; `bias` is the input's, then the state's.
    pub struct Gru = "gru" {
        /// `forward`, `reverse` or `bidirectional`.
        pub direction: String,
        /// Two a direction, for the gates and the hidden state: `sigmoid`, `tanh`, `relu` …
        pub activations: Vec<String>,
        /// First number of each activation.
        pub alpha: Vec<f32>,
        /// Second number of each activation.
        pub beta: Vec<f32>,
        /// Limit of what goes into an activation; 0 is none.
        pub clip: f32,
        /// The reset gate multiplies after the state's matrix instead of before.
        pub reset_after: bool,
        /// There is an operand with the length of each batch entry.
        pub lengths: bool,
    }
    example: Gru {
        direction: "forward".to_string(),
        activations: ["sigmoid", "tanh"].map(String::from).to_vec(),
        alpha: vec![0.0; 2],
        beta: vec![0.0; 2],
        clip: 0.0,
        reset_after: false,
        lengths: false,
    }
}

impl Expand for Gru {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let expected = 5 + usize::from(self.lengths);
        if x.len() != expected {
            return Err(IrError::OperandCount { op: "gru", expected, found: x.len() });
        }
        let lengths = self.lengths.then(|| x[5]);
        let hidden = b.dims(x[2]).last().cloned().unwrap_or(Dim::Fixed(0));
        let (two, three) = (Dim::Fixed(2) * hidden.clone(), Dim::Fixed(3) * hidden.clone());
        let mut results = Vec::new();
        for (d, reverse) in directions("gru", &self.direction)?.into_iter().enumerate() {
            let function = |i| activation("gru", &self.activations, &self.alpha, &self.beta, 2 * d + i);
            let (gate, state) = (function(0)?, function(1)?);
            let pick = |b: &mut Builder, v: ValueId| b.index(v, 0, d as i64);
            let (w, r, bias) = (pick(b, x[1])?, pick(b, x[2])?, pick(b, x[3])?);
            let (bias_w, bias_r) = (part(b, bias, 0, 0, &three)?, part(b, bias, 0, 1, &three)?);
            let gates = times_transposed(b, x[0], w)?;
            let gates = b.add(gates, bias_w)?;
            // The state's matrix and bias: update and reset together, hidden apart.
            let r_gates = b.slice(r, 0, &Dim::Fixed(0), &two)?;
            let r_hidden = b.slice(r, 0, &two, &three)?;
            let bias_gates = b.slice(bias_r, 0, &Dim::Fixed(0), &two)?;
            let bias_hidden = b.slice(bias_r, 0, &two, &three)?;
            let states = [pick(b, x[4])?];
            let captures = [r_gates, r_hidden, bias_gates, bias_hidden];
            let direction = Direction { gates, lengths, states: &states, captures: &captures, reverse };
            let run = direction.run(b, |b, gates, states, captures| {
                let h = states[0];
                let own = times_transposed(b, h, captures[0])?;
                let own = b.add(own, captures[2])?;
                let sum = |b: &mut Builder, i: usize| {
                    let (from_input, from_state) = (part(b, gates, 1, i, &hidden)?, part(b, own, 1, i, &hidden)?);
                    let sum = b.add(from_input, from_state)?;
                    let sum = clip(b, sum, self.clip)?;
                    gate.apply(b, sum)
                };
                let (update, reset) = (sum(b, 0)?, sum(b, 1)?);
                let from_state = if self.reset_after {
                    let product = times_transposed(b, h, captures[1])?;
                    let product = b.add(product, captures[3])?;
                    b.mul(reset, product)?
                } else {
                    let kept = b.mul(reset, h)?;
                    let product = times_transposed(b, kept, captures[1])?;
                    b.add(product, captures[3])?
                };
                let from_input = part(b, gates, 1, 2, &hidden)?;
                let fresh = b.add(from_input, from_state)?;
                let fresh = clip(b, fresh, self.clip)?;
                let fresh = state.apply(b, fresh)?;
                // (1 − z) · fresh + z · h
                let one = b.scalar_like(update, 1.0)?;
                let rest = b.sub(one, update)?;
                let added = b.mul(rest, fresh)?;
                let kept = b.mul(update, h)?;
                Ok(vec![b.add(added, kept)?])
            })?;
            results.push(run);
        }
        join_directions(b, &results)
    }
}
