//! Recurrent layers: LSTM, GRU and plain RNN over a sequence, one direction a call.
//!
//! The input's part of all gates is one matrix product for the whole sequence; each step adds the hidden state's product (packed
//! weights) and applies the gates element by element. Gate order and equations are ONNX's (operators LSTM, GRU, RNN, opset 22).

use super::activation::Activation;
use super::gemm::{A, B, Epilogue, Gemm, GemmShape, Matrix, PackedB};
use crate::detect::Simd;
use crate::pool::Pool;

/// Which cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Gates i, o, f, c. `activations` are those of the gates, the cell input and the cell output.
    Lstm {
        /// Gate, cell input, cell output.
        activations: [Activation; 3],
        /// Peepholes of i, o and f, `3 × hidden`, or empty.
        peephole: Vec<f32>,
        /// `f = 1 − i`.
        couple_forget: bool,
    },
    /// Gates z, r, h. `activations` are those of the gates and of h.
    Gru {
        /// Gates, candidate.
        activations: [Activation; 2],
        /// The candidate is `g(x·W + r ⊙ (h·R + b_R) + b_W)` instead of `g(x·W + (r ⊙ h)·R + b_R + b_W)`.
        linear_before_reset: bool,
    },
    /// One gate.
    Rnn {
        /// Of the result.
        activation: Activation,
    },
}

impl Cell {
    /// Gates, each `hidden` wide.
    pub fn gates(&self) -> usize {
        match self {
            Self::Lstm { .. } => 4,
            Self::Gru { .. } => 3,
            Self::Rnn { .. } => 1,
        }
    }
}

/// Sizes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecurrentShape {
    /// Steps of the sequence.
    pub steps: usize,
    /// Sequences.
    pub batch: usize,
    /// Elements of an input.
    pub input: usize,
    /// Elements of the state.
    pub hidden: usize,
}

/// A prepared layer of one direction; owns its packed weights.
#[derive(Debug)]
pub struct Recurrent {
    simd: Simd,
    shape: RecurrentShape,
    cell: Cell,
    clip: Option<f32>,
    input_weights: PackedB,
    /// All gates; for a GRU that resets first, only z and r.
    state_weights: PackedB,
    /// The candidate's state weights of a GRU that resets first.
    candidate_weights: Option<PackedB>,
    /// `gates · hidden` of the input's side, then of the state's.
    bias: Vec<f32>,
    input_product: Gemm,
    state_product: Gemm,
    candidate_product: Option<Gemm>,
}

/// Operands of [`Recurrent::advance`].
#[derive(Debug)]
pub struct RecurrentOperands<'a> {
    /// Steps of each sequence, or `None` for all of them.
    pub lengths: Option<&'a [i32]>,
    /// `batch × hidden`: initial state, overwritten with the last one.
    pub state: &'a mut [f32],
    /// `batch × hidden`: initial cell of an LSTM, overwritten with the last one; empty otherwise.
    pub cell: &'a mut [f32],
    /// Receives every state, step `t` of sequence `b` at `t·output_step + b·hidden`; may be empty.
    pub output: &'a mut [f32],
    /// Distance of two steps in `output`.
    pub output_step: usize,
    /// From the last step to the first.
    pub reverse: bool,
}

impl Recurrent {
    /// Prepares a layer: `w` is `gates·hidden × input`, `r` is `gates·hidden × hidden`, `bias` is `2·gates·hidden` or empty.
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn new(
        simd: Simd,
        threads: usize,
        shape: RecurrentShape,
        cell: Cell,
        (w, r, bias): (&[f32], &[f32], &[f32]),
        clip: Option<f32>,
    ) -> Self {
        let simd = simd.at_most();
        let RecurrentShape { steps, batch, input, hidden } = shape;
        let width = cell.gates() * hidden;
        assert!(
            w.len() == width * input && r.len() == width * hidden,
            "weights of the recurrent layer"
        );
        assert!(bias.is_empty() || bias.len() == 2 * width, "bias of the recurrent layer");
        if let Cell::Lstm { peephole, .. } = &cell {
            assert!(peephole.is_empty() || peephole.len() == 3 * hidden, "peepholes of the LSTM");
        }
        let resets_first = matches!(cell, Cell::Gru { linear_before_reset: false, .. });
        let at_once = if resets_first { 2 * hidden } else { width };
        let product = |m: usize, n: usize, k: usize| {
            Gemm::new(simd, threads, GemmShape { m, n, k, a_packed: false, b_packed: true })
        };
        let pack = |data: &[f32], n: usize, k: usize| {
            PackedB::new(simd, k, n, &Matrix::column_major(data, k))
        };
        let bias = if bias.is_empty() { vec![0.0; 2 * width] } else { bias.to_vec() };
        Self {
            simd,
            shape,
            clip,
            input_weights: pack(w, width, input),
            state_weights: pack(&r[..at_once * hidden], at_once, hidden),
            candidate_weights: resets_first.then(|| pack(&r[at_once * hidden..], hidden, hidden)),
            bias,
            input_product: product(steps * batch, width, input),
            state_product: product(batch, at_once, hidden),
            candidate_product: resets_first.then(|| product(1, hidden, hidden)),
            cell,
        }
    }

    fn product_scratch(&self) -> usize {
        let candidate = self.candidate_product.as_ref().map_or(0, Gemm::scratch_len);
        self.input_product.scratch_len().max(self.state_product.scratch_len()).max(candidate)
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        let s = &self.shape;
        let width = self.cell.gates() * s.hidden;
        s.steps * s.batch * width + 2 * s.batch * width + 2 * s.hidden + self.product_scratch()
    }

    /// Multiplies the inputs of all steps, `steps × batch × input`, with their weights, into the scratch.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says.
    pub fn project(&self, x: &[f32], scratch: &mut [f32], pool: &Pool) {
        let RecurrentShape { steps, batch, input, hidden } = self.shape;
        let width = self.cell.gates() * hidden;
        assert!(x.len() >= steps * batch * input, "input of the recurrent layer");
        assert!(scratch.len() >= self.scratch_len(), "scratch too short");
        let (inputs, rest) = scratch.split_at_mut(steps * batch * width);
        let products = &mut rest[2 * (batch * width + hidden)..];
        let column_bias =
            Epilogue { column_bias: Some(&self.bias[..width]), ..Epilogue::default() };
        let a = A::Matrix(Matrix::row_major(x, input));
        let b = B::Packed(&self.input_weights);
        self.input_product.run(a, b, inputs, width, &column_bias, products, pool);
    }

    /// Goes through the steps, whose inputs [`Recurrent::project`] left in the same scratch.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says.
    pub fn advance(&self, operands: RecurrentOperands<'_>, scratch: &mut [f32], pool: &Pool) {
        let RecurrentShape { steps, batch, hidden, .. } = self.shape;
        let width = self.cell.gates() * hidden;
        let RecurrentOperands { lengths, state, cell, output, output_step, reverse } = operands;
        assert!(state.len() >= batch * hidden, "state of the recurrent layer");
        let is_lstm = matches!(self.cell, Cell::Lstm { .. });
        assert!(!is_lstm || cell.len() >= batch * hidden, "cell of the LSTM");
        assert!(lengths.is_none_or(|l| l.len() >= batch), "lengths of the sequences");
        let fits = output.is_empty()
            || steps == 0
            || output.len() >= (steps - 1) * output_step + batch * hidden;
        assert!(fits, "output of the recurrent layer");
        assert!(scratch.len() >= self.scratch_len(), "scratch too short");
        let (inputs, rest) = scratch.split_at_mut(steps * batch * width);
        let (states, rest) = rest.split_at_mut(batch * width);
        let (gates, rest) = rest.split_at_mut(batch * width);
        let (reset, rest) = rest.split_at_mut(hidden);
        let (candidate, products) = rest.split_at_mut(hidden);
        let state_bias = &self.bias[width..];
        for step in 0..steps {
            let a = A::Matrix(Matrix::row_major(state, hidden));
            let n = self.state_weights.n;
            let epilogue = Epilogue { column_bias: Some(&state_bias[..n]), ..Epilogue::default() };
            self.state_product.run(
                a,
                B::Packed(&self.state_weights),
                states,
                n,
                &epilogue,
                products,
                pool,
            );
            for b in 0..batch {
                let length = lengths.map_or(steps, |l| (l[b].max(0) as usize).min(steps));
                if step >= length {
                    continue;
                }
                // A reversed sequence starts at its own last step.
                let t = if reverse { length - 1 - step } else { step };
                let row = (t * batch + b) * width;
                let gate = &mut gates[b * width..(b + 1) * width];
                gate.copy_from_slice(&inputs[row..row + width]);
                let from_state = &states[b * n..(b + 1) * n];
                let h = &mut state[b * hidden..(b + 1) * hidden];
                match &self.cell {
                    Cell::Lstm { activations, peephole, couple_forget } => {
                        add(gate, from_state);
                        let c = &mut cell[b * hidden..(b + 1) * hidden];
                        self.lstm(gate, c, h, activations, peephole, *couple_forget);
                    }
                    Cell::Rnn { activation } => {
                        add(gate, from_state);
                        self.activate(*activation, gate);
                        h.copy_from_slice(gate);
                    }
                    Cell::Gru { activations, linear_before_reset } => {
                        add(&mut gate[..2 * hidden], &from_state[..2 * hidden]);
                        self.activate(activations[0], &mut gate[..2 * hidden]);
                        let (zr, g) = gate.split_at_mut(2 * hidden);
                        let (z, r) = zr.split_at(hidden);
                        if *linear_before_reset {
                            for (g, (r, s)) in
                                g.iter_mut().zip(r.iter().zip(&from_state[2 * hidden..]))
                            {
                                *g += r * s;
                            }
                        } else if let (Some(weights), Some(product)) =
                            (&self.candidate_weights, &self.candidate_product)
                        {
                            let reset = &mut reset[..hidden];
                            for (x, (r, h)) in reset.iter_mut().zip(r.iter().zip(&*h)) {
                                *x = r * h;
                            }
                            let epilogue = Epilogue {
                                column_bias: Some(&state_bias[2 * hidden..]),
                                ..Epilogue::default()
                            };
                            let a = A::Matrix(Matrix::row_major(reset, hidden));
                            product.run(
                                a,
                                B::Packed(weights),
                                candidate,
                                hidden,
                                &epilogue,
                                products,
                                pool,
                            );
                            add(g, &candidate[..hidden]);
                        }
                        self.activate(activations[1], g);
                        for ((h, g), z) in h.iter_mut().zip(&*g).zip(z) {
                            *h = (1.0 - z) * g + z * *h;
                        }
                    }
                }
                if !output.is_empty() {
                    let at = t * output_step + b * hidden;
                    output[at..at + hidden].copy_from_slice(h);
                }
            }
        }
        // Steps beyond a sequence's length are zero.
        if let (Some(lengths), false) = (lengths, output.is_empty()) {
            for (b, &length) in lengths.iter().enumerate().take(batch) {
                for t in (length.max(0) as usize).min(steps)..steps {
                    let at = t * output_step + b * hidden;
                    output[at..at + hidden].fill(0.0);
                }
            }
        }
    }

    /// Clip, then the activation, in place.
    fn activate(&self, activation: Activation, x: &mut [f32]) {
        if let Some(limit) = self.clip {
            for x in x.iter_mut() {
                *x = x.clamp(-limit, limit);
            }
        }
        // SAFETY: one row of the slice's length, borrowed mutably.
        unsafe {
            super::activation::activate_rows(self.simd, activation, x.as_mut_ptr(), 1, x.len(), 0);
        };
    }

    fn lstm(
        &self,
        gate: &mut [f32],
        c: &mut [f32],
        h: &mut [f32],
        activations: &[Activation; 3],
        peephole: &[f32],
        couple_forget: bool,
    ) {
        let n = self.shape.hidden;
        let (i, rest) = gate.split_at_mut(n);
        let (o, rest) = rest.split_at_mut(n);
        let (f, g) = rest.split_at_mut(n);
        if !peephole.is_empty() {
            add_product(i, &peephole[..n], c);
            add_product(f, &peephole[2 * n..], c);
        }
        self.activate(activations[0], i);
        if couple_forget {
            f.iter_mut().zip(&*i).for_each(|(f, i)| *f = 1.0 - i);
        } else {
            self.activate(activations[0], f);
        }
        self.activate(activations[1], g);
        for (((c, f), i), g) in c.iter_mut().zip(&*f).zip(&*i).zip(&*g) {
            *c = f * *c + i * g;
        }
        if !peephole.is_empty() {
            add_product(o, &peephole[n..2 * n], c);
        }
        self.activate(activations[0], o);
        h.copy_from_slice(c);
        // SAFETY: one row of the slice's length, borrowed mutably. The cell's output is not clipped.
        unsafe {
            super::activation::activate_rows(self.simd, activations[2], h.as_mut_ptr(), 1, n, 0);
        };
        h.iter_mut().zip(&*o).for_each(|(h, o)| *h *= o);
    }
}

fn add(to: &mut [f32], x: &[f32]) {
    to.iter_mut().zip(x).for_each(|(t, x)| *t += x);
}

fn add_product(to: &mut [f32], x: &[f32], y: &[f32]) {
    to.iter_mut().zip(x.iter().zip(y)).for_each(|(t, (x, y))| *t += x * y);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{Random, assert_close};

    fn dot(w: &[f32], row: usize, x: &[f64]) -> f64 {
        w[row * x.len()..(row + 1) * x.len()].iter().zip(x).map(|(&w, &x)| f64::from(w) * x).sum()
    }

    /// ONNX's equations, one sequence, in `f64`; gives every state.
    fn reference(
        cell: &Cell,
        n: usize,
        w: &[f32],
        r: &[f32],
        bias: &[f32],
        xs: &[Vec<f64>],
    ) -> Vec<Vec<f64>> {
        let width = cell.gates() * n;
        let (mut h, mut c) = (vec![0.0; n], vec![0.0; n]);
        let wide = |b: usize| f64::from(bias[b]);
        let mut states = Vec::new();
        for x in xs {
            let input = |g: usize, j: usize| dot(w, g * n + j, x) + wide(g * n + j);
            let state =
                |g: usize, j: usize, h: &[f64]| dot(r, g * n + j, h) + wide(width + g * n + j);
            let old = h.clone();
            match cell {
                Cell::Lstm { activations: [f, g, o], peephole, couple_forget } => {
                    let p = |k: usize, j: usize| {
                        if peephole.is_empty() { 0.0 } else { f64::from(peephole[k * n + j]) }
                    };
                    for j in 0..n {
                        let i = f.reference(input(0, j) + state(0, j, &old) + p(0, j) * c[j]);
                        let forget = f.reference(input(2, j) + state(2, j, &old) + p(2, j) * c[j]);
                        let forget = if *couple_forget { 1.0 - i } else { forget };
                        c[j] = forget * c[j] + i * g.reference(input(3, j) + state(3, j, &old));
                        let out = f.reference(input(1, j) + state(1, j, &old) + p(1, j) * c[j]);
                        h[j] = out * o.reference(c[j]);
                    }
                }
                Cell::Gru { activations: [f, g], linear_before_reset } => {
                    let gate = |k: usize, j: usize| f.reference(input(k, j) + state(k, j, &old));
                    let reset: Vec<f64> = (0..n).map(|j| gate(1, j) * old[j]).collect();
                    for j in 0..n {
                        let from_state = if *linear_before_reset {
                            gate(1, j) * state(2, j, &old)
                        } else {
                            state(2, j, &reset)
                        };
                        let candidate = g.reference(input(2, j) + from_state);
                        h[j] = (1.0 - gate(0, j)) * candidate + gate(0, j) * old[j];
                    }
                }
                Cell::Rnn { activation } => {
                    for j in 0..n {
                        h[j] = activation.reference(input(0, j) + state(0, j, &old));
                    }
                }
            }
            states.push(h.clone());
        }
        states
    }

    #[test]
    fn every_cell_follows_onnx() {
        let mut random = Random::new(95);
        let (s, t, l) = (Activation::Sigmoid, Activation::Tanh, [5, 3]);
        let (steps, batch, input, hidden) = (5, 2, 7, 19);
        let cells = [
            Cell::Lstm { activations: [s, t, t], peephole: vec![], couple_forget: false },
            Cell::Lstm {
                activations: [s, t, t],
                peephole: random.floats(3 * hidden),
                couple_forget: false,
            },
            Cell::Lstm { activations: [s, t, t], peephole: vec![], couple_forget: true },
            Cell::Gru { activations: [s, t], linear_before_reset: false },
            Cell::Gru { activations: [s, t], linear_before_reset: true },
            Cell::Rnn { activation: t },
        ];
        for cell in cells {
            for reverse in [false, true] {
                let width = cell.gates() * hidden;
                let (w, r) = (random.floats(width * input), random.floats(width * hidden));
                let (bias, x) = (random.floats(2 * width), random.floats(steps * batch * input));
                let shape = RecurrentShape { steps, batch, input, hidden };
                let layer =
                    Recurrent::new(Simd::detect(), 2, shape, cell.clone(), (&w, &r, &bias), None);
                let (mut state, mut c) = (vec![0.0; batch * hidden], vec![0.0; batch * hidden]);
                let mut output = vec![f32::NAN; steps * batch * hidden];
                let mut scratch = vec![f32::NAN; layer.scratch_len()];
                let operands = RecurrentOperands {
                    lengths: Some(&l),
                    state: &mut state,
                    cell: &mut c,
                    output: &mut output,
                    output_step: batch * hidden,
                    reverse,
                };
                let pool = Pool::new(2);
                layer.project(&x, &mut scratch, &pool);
                layer.advance(operands, &mut scratch, &pool);
                for b in 0..batch {
                    let length = l[b] as usize;
                    let order: Vec<usize> =
                        if reverse { (0..length).rev().collect() } else { (0..length).collect() };
                    let at = |t: usize| (t * batch + b) * input;
                    let xs: Vec<Vec<f64>> = order
                        .iter()
                        .map(|&t| x[at(t)..at(t) + input].iter().map(|&x| f64::from(x)).collect())
                        .collect();
                    let states = reference(&cell, hidden, &w, &r, &bias, &xs);
                    for (state, &t) in states.iter().zip(&order) {
                        let want: Vec<f32> = state.iter().map(|&x| x as f32).collect();
                        let got = &output[(t * batch + b) * hidden..][..hidden];
                        assert_close(
                            got,
                            &want,
                            1e-4,
                            &format!("{cell:?} reverse {reverse} step {t}"),
                        );
                    }
                    for t in length..steps {
                        assert!(
                            output[(t * batch + b) * hidden..][..hidden].iter().all(|&x| x == 0.0)
                        );
                    }
                    let last: Vec<f32> = states[length - 1].iter().map(|&x| x as f32).collect();
                    assert_close(&state[b * hidden..(b + 1) * hidden], &last, 1e-4, "last state");
                }
            }
        }
    }
}
