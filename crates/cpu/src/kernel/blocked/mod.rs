//! Convolution and pooling on images whose channels stand in blocks: `[image][block of channels][row][column][channel]`.
//!
//! [`BLOCK`] channels of a pixel are one or a few whole vectors, so a tap of a convolution reads consecutive pixels at
//! one distance whatever the stride, writes whole vectors whatever the width, and depthwise and pooling kernels
//! never shuffle. The last block may have fewer channels; its other lanes hold anything and are not read as channels.

mod dense;
mod depthwise;
mod expanded;
mod layout;
mod pool;
#[cfg(test)]
mod testing;
mod tile;
mod winograd;

pub use dense::{Dense, DenseWeights};
pub use depthwise::{Depthwise, depthwise_weights};
pub use expanded::Expanded;
pub use layout::{blocks, from_blocked, to_blocked};
pub use pool::Pooled;
pub use winograd::{Size, Winograd, WinogradWeights};

/// Channels of a block.
pub const BLOCK: usize = 16;
