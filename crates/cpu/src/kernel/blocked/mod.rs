//! Convolution and pooling on images whose channels stand in blocks: `[image][block of channels][row][column][channel]`.
//!
//! [`BLOCK`] channels of a pixel are one or a few whole vectors, so a tap of a convolution reads consecutive pixels at
//! one distance whatever the stride, writes whole vectors whatever the width, and depthwise and pooling kernels
//! never shuffle. The last block may have fewer channels; its other lanes hold anything and are not read as channels.

mod cut;
mod dense;
mod depthwise;
mod expanded;
mod layout;
mod pool;
mod quantized;
#[cfg(test)]
mod testing;
mod tile;
mod winograd;

pub use dense::{Dense, DenseWeights};
pub use depthwise::{Depthwise, depthwise_weights};
pub use expanded::Expanded;
pub use layout::{blocks, from_blocked, to_blocked};
pub use pool::Pooled;
pub use quantized::{
    Codes, Layout, QuantizedDense, QuantizedDepthwise, QuantizedWeights, QuantizedWinograd,
    Requantize, multiply_codes,
};
pub use winograd::{Size, Winograd, WinogradWeights};

use super::gemm::Epilogue;

/// The operands of a convolution on blocks: elements of an image and of its result, and channels of the result.
#[derive(Clone, Copy)]
struct Sizes {
    images: usize,
    image: usize,
    result: usize,
    channels: usize,
}

impl Sizes {
    /// # Panics
    /// When a slice is shorter than these say.
    fn check(self, input: &[f32], output: &[f32], epilogue: &Epilogue<'_>) {
        let (ins, outs) = (self.images * self.image, self.images * self.result);
        assert!(input.len() >= ins, "input shorter than its shape");
        assert!(output.len() >= outs, "output shorter than its shape");
        let bias = blocks(self.channels) * BLOCK;
        assert!(
            epilogue.column_bias.is_none_or(|b| b.len() >= bias),
            "bias shorter than the blocks of channels"
        );
        assert!(
            epilogue.residual.is_none_or(|r| r.len() >= outs),
            "residual shorter than the output"
        );
    }
}

/// Channels of a block.
pub const BLOCK: usize = 16;
