//! How decoders are run: what comes in and goes out in each phase, and the cache between them.
//!
//! A prompt is taken in at once (prefill), then each new token costs one run (decode), which reads all weights for one position: two
//! workloads with nothing in common but the model, so they are two graphs. Decode takes the keys and values of
//! the positions before as inputs and gives those of the new position, which the caller appends.

use anychip_ir::{TensorType, ValueId};
use anychip_tensor::Dim;

use crate::net::{BATCH, Made, Net, Outputs};
use crate::settings::{Phase, Settings};

/// A run of a decoder being built.
pub(crate) struct Run {
    phase: Phase,
    /// How many positions come in.
    pub(crate) sequence: Dim,
    /// How many are kept from before.
    pub(crate) context: Dim,
    /// Keys and values kept from before, layer by layer.
    past: Vec<[ValueId; 2]>,
    kept: Outputs,
}

/// How many positions a prompt and a cache usually have here, where nobody says.
const USUAL_SEQUENCE: usize = 512;
const USUAL_CONTEXT: usize = 1024;

impl Run {
    /// What the settings ask for; `longest` positions are what the model was trained for.
    pub(crate) fn new(settings: &mut Settings, longest: usize) -> Run {
        let phase = settings.phase();
        let (sequence, context) = match phase {
            Phase::Forward | Phase::Prefill => {
                (settings.dim("sequence", USUAL_SEQUENCE.min(longest)), Dim::Fixed(0))
            }
            Phase::Decode => (
                Dim::Fixed(1),
                settings.dim("context", USUAL_CONTEXT.min(longest.saturating_sub(1).max(1))),
            ),
        };
        Run { phase, sequence, context, past: Vec::new(), kept: Vec::new() }
    }

    /// The inputs: the tokens, `i64[batch, sequence]`, which it returns; and what is kept in `layers` layers of so many
    /// heads for keys of such a width, `[batch, heads, context, width]`.
    pub(crate) fn inputs(
        &mut self,
        net: &mut Net,
        layers: usize,
        key_heads: usize,
        head_width: usize,
    ) -> ValueId {
        let tokens = net.indices("input_ids", std::slice::from_ref(&self.sequence));
        if self.phase == Phase::Decode {
            let dims = [Dim::sym(BATCH), key_heads.into(), self.context.clone(), head_width.into()];
            let ty = TensorType::new(net.dtype, dims);
            for layer in 0..layers {
                self.past.push(
                    ["key", "value"]
                        .map(|part| net.b.input(&format!("past.{layer}.{part}"), ty.clone())),
                );
            }
        }
        tokens
    }

    /// Attention of layer `layer` to all positions up to each one's own, of at most `window` of them. Keys and values have
    /// their heads split, `[batch, g, sequence, d]`.
    pub(crate) fn attend(
        &mut self,
        net: &mut Net,
        layer: usize,
        [q, k, v]: [ValueId; 3],
        scale: f64,
        window: Option<usize>,
    ) -> Made {
        match self.phase {
            Phase::Forward => {}
            Phase::Prefill | Phase::Decode => {
                self.kept.push((format!("present.{layer}.key").into(), k));
                self.kept.push((format!("present.{layer}.value").into(), v));
            }
        }
        if let Some(&[mut past_k, mut past_v]) = self.past.get(layer) {
            if let Some(window) = window.filter(|&w| self.context.fixed().is_none_or(|c| c >= w)) {
                // With the new position they fill the window.
                let first = Dim::from_i64(1 - window as i64);
                for value in [&mut past_k, &mut past_v] {
                    *value = net.b.slice(*value, 2, &first, &Dim::from_i64(i64::MAX))?;
                }
            }
            return net.attend_kept(q, [past_k, past_v], [k, v], scale);
        }
        let hides = window.filter(|&w| self.sequence.fixed().is_none_or(|s| s > w));
        let mask = hides.map(|window| self.window_mask(net, q, window)).transpose()?;
        net.attend([q, k, v], scale, true, mask)
    }

    /// `[s, s]`: −∞ where key `j` is `window` or more positions before query `i`, else 0.
    fn window_mask(&self, net: &mut Net, like: ValueId, window: usize) -> Made {
        let b = &mut net.b;
        let order = b.iota(&self.sequence)?;
        let rows = b.unsqueeze(order, &[1])?;
        let distance = b.sub(rows, order)?;
        let window = b.scalar_like(distance, window as f64)?;
        let near = b.lt(distance, window)?;
        let (zero, never) = (b.scalar_like(like, 0.0)?, b.scalar_like(like, f64::NEG_INFINITY)?);
        b.select(near, zero, never)
    }

    /// The positions whose scores are asked for: all of them, or the last.
    pub(crate) fn asked(&self, net: &mut Net, x: ValueId) -> Made {
        match self.phase {
            Phase::Forward | Phase::Decode => Ok(x),
            Phase::Prefill => net.b.slice(x, 1, &Dim::from_i64(-1), &Dim::from_i64(i64::MAX)),
        }
    }

    /// The results: scores, then what is to be kept.
    pub(crate) fn outputs(self, logits: ValueId) -> Outputs {
        let mut outputs: Outputs = vec![("logits".into(), logits)];
        outputs.extend(self.kept);
        outputs
    }
}
