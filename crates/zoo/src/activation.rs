//! The activation functions that architectures name.

use anychip_ir::ValueId;
use anychip_ops::{Gelu, Silu};

use crate::net::{Made, Net};

/// What follows a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    None,
    Relu,
    /// `min(max(x, 0), 6)`
    Relu6,
    Silu,
    Gelu,
    /// The approximation by tanh.
    GeluTanh,
    /// `x · σ(1.702 x)`
    QuickGelu,
    /// `x · clamp(x/6 + ½, 0, 1)` (arXiv:1905.02244)
    HardSwish,
    /// `clamp(x/6 + ½, 0, 1)`
    HardSigmoid,
    Sigmoid,
    Tanh,
}

impl Activation {
    /// By the name that Hugging Face's `hidden_act` and its likes have.
    pub(crate) fn named(name: &str) -> Option<Activation> {
        Some(match name {
            "relu" => Activation::Relu,
            "relu6" => Activation::Relu6,
            "silu" | "swish" => Activation::Silu,
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "quick_gelu" => Activation::QuickGelu,
            "tanh" => Activation::Tanh,
            "sigmoid" => Activation::Sigmoid,
            _ => return None,
        })
    }
}

impl Net {
    /// `activation(x)`
    pub(crate) fn activate(&mut self, x: ValueId, activation: Activation) -> Made {
        let b = &mut self.b;
        match activation {
            Activation::None => Ok(x),
            Activation::Relu => {
                let zero = b.scalar_like(x, 0.0)?;
                b.max(x, zero)
            }
            Activation::Relu6 => {
                let (zero, six) = (b.scalar_like(x, 0.0)?, b.scalar_like(x, 6.0)?);
                let above = b.max(x, zero)?;
                b.min(above, six)
            }
            Activation::Silu => b.composite(Silu {}, &[x]),
            Activation::Gelu => b.composite(Gelu { tanh: false }, &[x]),
            Activation::GeluTanh => b.composite(Gelu { tanh: true }, &[x]),
            Activation::QuickGelu => {
                let scaled = b.scale(x, 1.702)?;
                let gate = b.sigmoid(scaled)?;
                b.mul(x, gate)
            }
            Activation::HardSwish => {
                let gate = self.activate(x, Activation::HardSigmoid)?;
                self.b.mul(x, gate)
            }
            Activation::HardSigmoid => {
                let scaled = b.scale(x, 1.0 / 6.0)?;
                let moved = b.offset(scaled, 0.5)?;
                let (zero, one) = (b.scalar_like(x, 0.0)?, b.scalar_like(x, 1.0)?);
                let below = b.min(moved, one)?;
                b.max(below, zero)
            }
            Activation::Sigmoid => b.sigmoid(x),
            Activation::Tanh => b.tanh(x),
        }
    }
}
