//! Long short-term memory.

use anychip_ir::{Builder, Expand, IrError, ValueId, composite};
use anychip_tensor::Dim;

use crate::activation::{activation, clip};
use crate::repeat::{Direction, directions, join_directions, part, times_transposed};

composite! {
    /// `(x [s, b, in], w [d, 4h, in], r [d, 4h, h], bias [d, 8h], h₀ [d, b, h], c₀ [d, b, h][, lengths i64[b]][,
    /// peepholes [d, 3h]]) → (y [s, d, b, h], h [d, b, h], c [d, b, h])` (Hochreiter and Schmidhuber 1997; peepholes
    /// Gers and Schmidhuber 2000). Gates lie in the order input, output, forget, cell; `d` counts directions;
    /// `bias` is the input's, then the state's.
    pub struct Lstm = "lstm" {
        /// `forward`, `reverse` or `bidirectional`.
        pub direction: String,
        /// Three a direction, for the gates, the cell and the output: `sigmoid`, `tanh`, `relu` …
        pub activations: Vec<String>,
        /// First number of each activation.
        pub alpha: Vec<f32>,
        /// Second number of each activation.
        pub beta: Vec<f32>,
        /// Limit of what goes into an activation of gates and cell input; 0 is none.
        pub clip: f32,
        /// The forget gate is 1 − the input gate.
        pub input_forget: bool,
        /// There is an operand with the length of each batch entry.
        pub lengths: bool,
        /// There is an operand with peephole weights, in the order input, output, forget.
        pub peepholes: bool,
    }
    example: Lstm {
        direction: "forward".to_string(),
        activations: ["sigmoid", "tanh", "tanh"].map(String::from).to_vec(),
        alpha: vec![0.0; 3],
        beta: vec![0.0; 3],
        clip: 0.0,
        input_forget: false,
        lengths: false,
        peepholes: false,
    }
}

impl Expand for Lstm {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let expected = 6 + usize::from(self.lengths) + usize::from(self.peepholes);
        if x.len() != expected {
            return Err(IrError::OperandCount { op: "lstm", expected, found: x.len() });
        }
        let lengths = self.lengths.then(|| x[6]);
        let peepholes = self.peepholes.then(|| x[expected - 1]);
        let hidden = b.dims(x[2]).last().cloned().unwrap_or(Dim::Fixed(0));
        let four = Dim::Fixed(4) * hidden.clone();
        let mut results = Vec::new();
        for (d, reverse) in directions("lstm", &self.direction)?.into_iter().enumerate() {
            let function = |i| activation("lstm", &self.activations, &self.alpha, &self.beta, 3 * d + i);
            let (gate, cell_input, cell_output) = (function(0)?, function(1)?, function(2)?);
            let pick = |b: &mut Builder, v: ValueId| b.index(v, 0, d as i64);
            let (w, r, bias) = (pick(b, x[1])?, pick(b, x[2])?, pick(b, x[3])?);
            let (bias_w, bias_r) = (part(b, bias, 0, 0, &four)?, part(b, bias, 0, 1, &four)?);
            let bias = b.add(bias_w, bias_r)?;
            let gates = times_transposed(b, x[0], w)?;
            let gates = b.add(gates, bias)?;
            let states = [pick(b, x[4])?, pick(b, x[5])?];
            let mut captures = vec![r];
            if let Some(p) = peepholes {
                captures.push(pick(b, p)?);
            }
            let direction = Direction { gates, lengths, states: &states, captures: &captures, reverse };
            let run = direction.run(b, |b, gates, states, captures| {
                let (h, c) = (states[0], states[1]);
                let own = times_transposed(b, h, captures[0])?;
                let all = b.add(gates, own)?;
                let peep = |b: &mut Builder, i: usize, c: ValueId, x: ValueId| match captures.get(1) {
                    Some(&p) => {
                        let weight = part(b, p, 0, i, &hidden)?;
                        let term = b.mul(weight, c)?;
                        b.add(x, term)
                    }
                    None => Ok(x),
                };
                let raw = |b: &mut Builder, i: usize| part(b, all, 1, i, &hidden);
                let input = raw(b, 0)?;
                let input = peep(b, 0, c, input)?;
                let input = clip(b, input, self.clip)?;
                let input = gate.apply(b, input)?;
                let forget = if self.input_forget {
                    let one = b.scalar_like(input, 1.0)?;
                    b.sub(one, input)?
                } else {
                    let forget = raw(b, 2)?;
                    let forget = peep(b, 2, c, forget)?;
                    let forget = clip(b, forget, self.clip)?;
                    gate.apply(b, forget)?
                };
                let fresh = raw(b, 3)?;
                let fresh = clip(b, fresh, self.clip)?;
                let fresh = cell_input.apply(b, fresh)?;
                let kept = b.mul(forget, c)?;
                let added = b.mul(input, fresh)?;
                let c = b.add(kept, added)?;
                let output = raw(b, 1)?;
                let output = peep(b, 1, c, output)?;
                let output = clip(b, output, self.clip)?;
                let output = gate.apply(b, output)?;
                // Not clipped: ONNX Runtime 1.31 gives the state as it is to this activation, whatever `clip` says.
                let shown = cell_output.apply(b, c)?;
                Ok(vec![b.mul(output, shown)?, c])
            })?;
            results.push(run);
        }
        join_directions(b, &results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anychip_ir::TensorType;
    use anychip_tensor::{DType, Tensor};

    /// All weights are 0 and the state is 3: the gates are a half, so the new state is 1.5, three times the limit.
    #[test]
    fn the_state_is_not_clipped() {
        let tensor = |dims: &[usize], x: f32| Tensor::from_vec(dims, vec![x; dims.iter().product()]).unwrap();
        let operands = [
            tensor(&[1, 1, 1], 0.0),
            tensor(&[1, 4, 1], 0.0),
            tensor(&[1, 4, 1], 0.0),
            tensor(&[1, 8], 0.0),
            tensor(&[1, 1, 1], 0.0),
            tensor(&[1, 1, 1], 3.0),
        ];
        let mut b = Builder::new("lstm");
        let x = operands.each_ref().map(|t| b.input("", TensorType::of(t)));
        let activations = ["sigmoid", "tanh", "tanh"].map(String::from).to_vec();
        let lstm = Lstm {
            direction: "forward".to_string(),
            activations,
            alpha: vec![0.0; 3],
            beta: vec![0.0; 3],
            clip: 0.5,
            input_forget: false,
            lengths: false,
            peepholes: false,
        };
        let out = b.node(lstm, &x, Vec::new()).unwrap();
        let results = anychip_ir::evaluate(&b.finish(&out), &operands).unwrap();
        assert_eq!(results[2].to_f64(), [1.5]);
        assert!((results[1].to_f64()[0] - 1.5f64.tanh() / 2.0).abs() < 1e-6);
    }

    #[test]
    fn named_sequence_and_batch_reach_the_results() {
        let mut b = Builder::new("lstm");
        let mut input = |dims: [Dim; 3]| b.input("", TensorType::new(DType::F32, dims));
        let (s, n) = (Dim::sym("s"), Dim::sym("n"));
        let x = input([s, n.clone(), 5.into()]);
        let w = input([2.into(), 16.into(), 5.into()]);
        let r = input([2.into(), 16.into(), 4.into()]);
        let h = input([2.into(), n, 4.into()]);
        let bias = b.input("", TensorType::new(DType::F32, [Dim::Fixed(2), 32.into()]));
        let lstm = Lstm {
            direction: "bidirectional".to_string(),
            activations: ["sigmoid", "tanh", "tanh", "sigmoid", "tanh", "relu"].map(String::from).to_vec(),
            alpha: vec![0.0; 6],
            beta: vec![0.0; 6],
            clip: 1.0,
            input_forget: true,
            lengths: false,
            peepholes: false,
        };
        let out = b.node(lstm, &[x, w, r, bias, h, h], Vec::new()).unwrap();
        assert_eq!(b.ty(out[0]).to_string(), "f32[s, 2, n, 4]");
        assert_eq!(b.ty(out[2]).to_string(), "f32[2, n, 4]");
    }
}
