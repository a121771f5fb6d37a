//! Recurrent layers with constant weights: LSTM, GRU and the plain cell, in either direction or both.

use std::sync::{Arc, Mutex, PoisonError};

use anychip_ir::{Graph, IrError, Node, ValueId};
use anychip_ops::{Gru, Lstm, Rnn};

use super::{Cx, Lowered};
use crate::kernel::activation::Activation;
use crate::kernel::recurrent::{Cell, Recurrent, RecurrentOperands, RecurrentShape};
use crate::step::{Io, Kernel};

/// What the three composites have in common.
struct Layer<'a> {
    direction: &'a str,
    activations: &'a [String],
    alpha: &'a [f32],
    beta: &'a [f32],
    clip: f32,
    gates: usize,
    per_direction: usize,
    has_lengths: bool,
}

/// Whether the kernel does these element types and settings.
pub(super) fn claims(node: &Node, graph: &Graph) -> bool {
    super::floats(node, graph)
        && layer(node).is_some_and(|layer| {
            !layer.has_lengths
                && (0..layer.activations.len()).all(|i| layer.activation(i).is_some())
        })
}

fn layer(node: &Node) -> Option<Layer<'_>> {
    if let Some(l) = node.op.composite::<Lstm>() {
        return Some(Layer {
            direction: &l.direction,
            activations: &l.activations,
            alpha: &l.alpha,
            beta: &l.beta,
            clip: l.clip,
            gates: 4,
            per_direction: 3,
            has_lengths: l.lengths,
        });
    }
    if let Some(g) = node.op.composite::<Gru>() {
        return Some(Layer {
            direction: &g.direction,
            activations: &g.activations,
            alpha: &g.alpha,
            beta: &g.beta,
            clip: g.clip,
            gates: 3,
            per_direction: 2,
            has_lengths: g.lengths,
        });
    }
    let r = node.op.composite::<Rnn>()?;
    Some(Layer {
        direction: &r.direction,
        activations: &r.activations,
        alpha: &r.alpha,
        beta: &r.beta,
        clip: r.clip,
        gates: 1,
        per_direction: 1,
        has_lengths: r.lengths,
    })
}

impl Layer<'_> {
    fn activation(&self, i: usize) -> Option<Activation> {
        Some(match self.activations.get(i)?.as_str() {
            "sigmoid" => Activation::Sigmoid,
            "tanh" => Activation::Tanh,
            "relu" => Activation::Relu,
            "leakyrelu" => Activation::LeakyRelu { slope: *self.alpha.get(i)? },
            "hardsigmoid" => {
                Activation::HardSigmoid { alpha: *self.alpha.get(i)?, beta: *self.beta.get(i)? }
            }
            _ => return None,
        })
    }
}

pub(crate) fn lower(cx: &Cx<'_>, node: &Node) -> Option<Lowered> {
    let layer = layer(node).filter(|_| claims(node, cx.graph))?;
    let &[x, w, r, bias, initial, ..] = node.inputs.as_slice() else { return None };
    let (x_shape, r_shape) = (cx.shape(x), cx.shape(r));
    let shape = RecurrentShape {
        steps: x_shape[0],
        batch: x_shape[1],
        input: x_shape[2],
        hidden: r_shape[2],
    };
    let directions = r_shape[0];
    let width = layer.gates * shape.hidden;
    let constants = [w, r, bias].map(|v| cx.constant(v));
    let [Some(w_tensor), Some(r_tensor), Some(bias_tensor)] = constants else { return None };
    let (all_w, all_r, all_bias) =
        (w_tensor.elements::<f32>()?, r_tensor.elements::<f32>()?, bias_tensor.elements::<f32>()?);
    let lstm = node.op.composite::<Lstm>();
    let peepholes = match lstm {
        Some(l) if l.peepholes => Some(cx.constant(*node.inputs.last()?)?.elements::<f32>()?),
        _ => None,
    };
    let mut cells = Vec::new();
    for d in 0..directions {
        let activation = |i: usize| layer.activation(d * layer.per_direction + i);
        let cell = if let Some(l) = lstm {
            Cell::Lstm {
                activations: [activation(0)?, activation(1)?, activation(2)?],
                peephole: peepholes
                    .as_ref()
                    .map_or(Vec::new(), |p| p[d * 3 * shape.hidden..][..3 * shape.hidden].to_vec()),
                couple_forget: l.input_forget,
            }
        } else if let Some(g) = node.op.composite::<Gru>() {
            Cell::Gru {
                activations: [activation(0)?, activation(1)?],
                linear_before_reset: g.reset_after,
            }
        } else {
            Cell::Rnn { activation: activation(0)? }
        };
        let weights = (
            &all_w[d * width * shape.input..][..width * shape.input],
            &all_r[d * width * shape.hidden..][..width * shape.hidden],
            &all_bias[d * 2 * width..][..2 * width],
        );
        let settings = [shape.steps, shape.batch, d, cx.threads()];
        let clip = (layer.clip != 0.0).then_some(layer.clip);
        // Keyed by the state's weights: an operand of one layer only, whatever else is shared.
        let prepared = cx.shared.weights.packed(r_tensor, "recurrent", &settings, || {
            Recurrent::new(cx.shared.simd, cx.threads(), shape, cell, weights, clip)
        });
        let reverse = layer.direction == "reverse" || d == 1;
        cells.push((prepared, reverse));
    }
    let product_scratch = cells.iter().map(|(c, _)| c.scratch_len()).max()?.next_multiple_of(16);
    let output = shape.steps * shape.batch * shape.hidden;
    let scratch = cells.len() * (product_scratch + output) * 4;
    let mut operands: Vec<ValueId> = vec![x, initial];
    if lstm.is_some() {
        operands.push(*node.inputs.get(5)?);
    }
    let kernel = RecurrentKernel { cells, shape, is_lstm: lstm.is_some(), product_scratch };
    Some(Lowered {
        scratch,
        detail: format!("{} steps, weights packed", shape.steps),
        ..Lowered::new(node.op.name(), kernel, &operands)
    })
}

struct RecurrentKernel {
    /// One a direction, and whether it runs from the end.
    cells: Vec<(Arc<Recurrent>, bool)>,
    shape: RecurrentShape,
    is_lstm: bool,
    /// Elements of scratch of one direction's products.
    product_scratch: usize,
}

impl Kernel for RecurrentKernel {
    fn run(&self, io: &Io<'_>) -> Result<(), IrError> {
        let size = self.shape.batch * self.shape.hidden;
        let (output, states) = (io.result::<f32>(0), io.result::<f32>(1));
        states.copy_from_slice(io.operand(1));
        let cells: &mut [f32] = if self.is_lstm { io.result(2) } else { &mut [] };
        if self.is_lstm {
            cells.copy_from_slice(io.operand(2));
        }
        let directions = self.cells.len();
        let all_steps = self.shape.steps * size;
        let (products, outputs) = io.scratch().split_at_mut(directions * self.product_scratch);
        let mut jobs = Vec::with_capacity(directions);
        let mut parts = products
            .chunks_exact_mut(self.product_scratch)
            .zip(outputs.chunks_mut(all_steps.max(1)))
            .zip(states.chunks_mut(size.max(1)));
        let mut cells = cells.chunks_mut(size.max(1));
        for (layer, reverse) in &self.cells {
            let Some(((scratch, output), state)) = parts.next() else { break };
            layer.project(io.operand(0), scratch, io.pool);
            let operands = RecurrentOperands {
                lengths: None,
                state,
                cell: cells.next().unwrap_or_default(),
                output,
                output_step: size,
                reverse: *reverse,
            };
            jobs.push(Mutex::new(Some((layer, operands, scratch))));
        }
        let advance = |d: usize| {
            // There is none where there is no state or no step.
            let job =
                jobs.get(d).map(|job| job.lock().unwrap_or_else(PoisonError::into_inner).take());
            if let Some((layer, operands, scratch)) = job.flatten() {
                layer.advance(operands, scratch, io.pool);
            }
        };
        // A step is too short to be shared by threads as well as two directions can be.
        if directions > 1 && (io.pool.threads() == directions || self.has_short_steps()) {
            io.pool.parallel_for(directions, |d, _| advance(d));
        } else {
            (0..directions).for_each(advance);
        }
        drop(jobs);
        for (d, steps) in outputs.chunks(all_steps.max(1)).take(directions).enumerate() {
            let rows = output
                .chunks_exact_mut((directions * size).max(1))
                .zip(steps.chunks_exact(size.max(1)));
            rows.for_each(|(all, one)| all[d * size..(d + 1) * size].copy_from_slice(one));
        }
        Ok(())
    }
}

impl RecurrentKernel {
    /// Whether the product of a step takes one thread no more than some tens of microseconds.
    fn has_short_steps(&self) -> bool {
        self.shape.batch * self.shape.hidden * self.shape.hidden < 1 << 20
    }
}
