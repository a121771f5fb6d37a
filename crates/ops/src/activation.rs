//! The activation functions that recurrent cells name in their settings.

use anychip_ir::{Builder, IrError, ValueId};

/// One named activation with its numbers.
pub(crate) struct Activation<'a> {
    pub(crate) name: &'a str,
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
}

/// The `i`-th of a cell's activations.
pub(crate) fn activation<'a>(
    op: &'static str,
    names: &'a [String],
    alpha: &[f32],
    beta: &[f32],
    i: usize,
) -> Result<Activation<'a>, IrError> {
    match (names.get(i), alpha.get(i), beta.get(i)) {
        (Some(name), Some(&alpha), Some(&beta)) => Ok(Activation { name, alpha, beta }),
        _ => Err(IrError::Setting {
            op,
            reason: "every gate of every direction needs an activation",
            found: format!("{names:?}"),
        }),
    }
}

impl Activation<'_> {
    /// The function applied to `x`; names are in lower case without separators.
    pub(crate) fn apply(&self, b: &mut Builder, x: ValueId) -> Result<ValueId, IrError> {
        let (alpha, beta) = (f64::from(self.alpha), f64::from(self.beta));
        let zero = b.scalar_like(x, 0.0)?;
        match self.name {
            "sigmoid" => b.sigmoid(x),
            "tanh" => b.tanh(x),
            "relu" => b.max(x, zero),
            "affine" => {
                let scaled = b.scale(x, alpha)?;
                b.offset(scaled, beta)
            }
            "leakyrelu" => {
                let positive = b.ge(x, zero)?;
                let scaled = b.scale(x, alpha)?;
                b.select(positive, x, scaled)
            }
            "thresholdedrelu" => {
                let threshold = b.scalar_like(x, alpha)?;
                let above = b.gt(x, threshold)?;
                b.select(above, x, zero)
            }
            "scaledtanh" => {
                let scaled = b.scale(x, beta)?;
                let curve = b.tanh(scaled)?;
                b.scale(curve, alpha)
            }
            "hardsigmoid" => {
                let scaled = b.scale(x, alpha)?;
                let line = b.offset(scaled, beta)?;
                let one = b.scalar_like(x, 1.0)?;
                let below = b.min(line, one)?;
                b.max(below, zero)
            }
            "elu" => {
                let positive = b.ge(x, zero)?;
                let power = b.exp(x)?;
                let less = b.offset(power, -1.0)?;
                let curve = b.scale(less, alpha)?;
                b.select(positive, x, curve)
            }
            "softsign" => {
                let magnitude = b.abs(x)?;
                let divisor = b.offset(magnitude, 1.0)?;
                b.div(x, divisor)
            }
            "softplus" => {
                // log(1 + e^x) = max(x, 0) + log(1 + e^−|x|), which does not overflow.
                let magnitude = b.abs(x)?;
                let negative = b.neg(magnitude)?;
                let power = b.exp(negative)?;
                let sum = b.offset(power, 1.0)?;
                let log = b.log(sum)?;
                let positive = b.max(x, zero)?;
                b.add(positive, log)
            }
            other => Err(IrError::Setting {
                op: "activation",
                reason: "is not an activation of recurrent cells",
                found: other.to_string(),
            }),
        }
    }
}

/// `x` limited to `−clip ..= clip`; a clip of 0 leaves it.
pub(crate) fn clip(b: &mut Builder, x: ValueId, clip: f32) -> Result<ValueId, IrError> {
    if clip == 0.0 {
        return Ok(x);
    }
    let (low, high) = (b.scalar_like(x, -f64::from(clip))?, b.scalar_like(x, f64::from(clip))?);
    let below = b.min(x, high)?;
    b.max(below, low)
}
