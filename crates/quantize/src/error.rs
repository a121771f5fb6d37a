//! What keeps a graph from being quantized.

use anychip_ir::IrError;
use anychip_tensor::TensorError;

/// Why a graph, or a tensor of it, cannot be quantized.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// A NaN or an infinity where numbers are expected.
    #[error(
        "`{tensor}` holds {what}\n  help: find where it comes from with `anychip diff` or repair the model; a NaN has no place among integers"
    )]
    NotFinite {
        /// The value's or the layer's name.
        tensor: String,
        /// "NaN or infinity", and where it was met.
        what: &'static str,
    },
    /// A graph that cannot be built: a fault of ours.
    #[error(transparent)]
    Graph(#[from] IrError),
    /// A tensor that cannot be made: a fault of ours.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}
