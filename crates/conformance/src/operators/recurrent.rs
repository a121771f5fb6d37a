//! Recurrent layers: LSTM, GRU and the plain one, either direction and both, with lengths, peepholes and clipping.

use anychip_ir::IrError;
use anychip_ops::{Gru, Lstm, Rnn};
use anychip_tensor::DType;

use super::draft::{Draft, Fill, fixed};

pub(super) fn layer(d: &mut Draft) -> Result<(), IrError> {
    // Each step's rounding goes into the next.
    d.slack = 20.0;
    let random = &mut d.random;
    let (s, b) = (random.range(1, 12), random.range(1, 5));
    let (input, h) = (random.range(1, 67), random.range(1, 67));
    let direction = random.pick(&["forward", "reverse", "bidirectional"]);
    let both = if direction == "bidirectional" { 2 } else { 1 };
    let (lengths, usual) = (random.chance(30), random.chance(70));
    let clip = if random.chance(15) { 0.7 } else { 0.0 };
    let kind = random.below(3);
    let gates = [4, 3, 1][kind];
    let name = ["lstm", "gru", "rnn"][kind];
    d.say(&format!(
        "{name} {direction}, {s} steps, {b} at once, {input} to {h}, lengths {lengths}, clip {clip}"
    ));
    // As layers are initialized: with larger weights a state's rounding grows from step to step.
    let bound = 1.0 / (h.max(4) as f64).sqrt();
    let weights = Fill::Between(-bound, bound);
    d.spend(both * s * b * gates * h * (input + h));
    let mut operands = vec![
        d.floats(&fixed(&[s, b, input])),
        d.weights(DType::F32, &[both, gates * h, input], weights, 80),
        d.weights(DType::F32, &[both, gates * h, h], weights, 80),
        d.weights(DType::F32, &[both, 2 * gates * h], weights, 80),
        d.floats(&fixed(&[both, b, h])),
    ];
    if kind == 0 {
        operands.push(d.floats(&fixed(&[both, b, h])));
    }
    if lengths {
        let upto = Fill::Between(0.0, s as f64 + 0.99);
        operands.push(d.input(DType::I64, &fixed(&[b]), upto));
    }
    let mut functions = |usual_ones: &[&str]| -> Vec<String> {
        // What has no bound makes states that grow, and roundings with them.
        let all = ["sigmoid", "tanh", "softsign", "hardsigmoid", "relu"];
        let all = &all[..if s > 2 { 4 } else { 5 }];
        let one = |f: &&str| if usual { (*f).to_string() } else { d.random.pick(all).to_string() };
        let names: Vec<String> = (0..both).flat_map(|_| usual_ones.iter()).map(one).collect();
        names
    };
    let direction = direction.to_string();
    let results = match kind {
        0 => {
            let activations = functions(&["sigmoid", "tanh", "tanh"]);
            let peepholes = d.random.chance(30);
            if peepholes {
                operands.push(d.weights(DType::F32, &[both, 3 * h], weights, 80));
            }
            let numbers = activations.len();
            let lstm = Lstm {
                direction,
                activations,
                alpha: vec![0.2; numbers],
                beta: vec![0.5; numbers],
                clip,
                input_forget: d.random.chance(20),
                lengths,
                peepholes,
            };
            d.say(&format!("{:?}", lstm.activations));
            d.b.node(lstm, &operands, Vec::new())?
        }
        1 => {
            let activations = functions(&["sigmoid", "tanh"]);
            let numbers = activations.len();
            let gru = Gru {
                direction,
                activations,
                alpha: vec![0.2; numbers],
                beta: vec![0.5; numbers],
                clip,
                reset_after: d.random.chance(50),
                lengths,
            };
            d.say(&format!("{:?}, reset after {}", gru.activations, gru.reset_after));
            d.b.node(gru, &operands, Vec::new())?
        }
        _ => {
            let activations = functions(&["tanh"]);
            let numbers = activations.len();
            let rnn = Rnn {
                direction,
                activations,
                alpha: vec![0.2; numbers],
                beta: vec![0.5; numbers],
                clip,
                lengths,
            };
            d.say(&format!("{:?}", rnn.activations));
            d.b.node(rnn, &operands, Vec::new())?
        }
    };
    for y in results {
        d.output(y);
    }
    Ok(())
}
