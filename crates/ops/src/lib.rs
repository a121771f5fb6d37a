//! Composite operators, one file each, written as their maths. [`ROWS`] lists them all.

use anychip_ir::CompositeRow;

mod activation;
mod interpolate;
mod repeat;
mod sample;

macro_rules! composites {
    ($($module:ident :: $type:ident),* $(,)?) => {
        $(mod $module; pub use $module::$type;)*

        /// Every composite, with an example instance: what suites, documents and the text form's parser read.
        pub const ROWS: &[CompositeRow] = &[$($type::ROW),*];
    };
}

composites! {
    attention::Attention,
    average_pool::AveragePool,
    batch_norm::BatchNorm,
    conv_transpose::ConvTranspose,
    deformable_conv::DeformableConv,
    determinant::Determinant,
    dft::Dft,
    gelu::Gelu,
    grid_sample::GridSample,
    group_norm::GroupNorm,
    gru::Gru,
    layer_norm::LayerNorm,
    linear_attention::LinearAttention,
    local_response_norm::LocalResponseNorm,
    log_softmax::LogSoftmax,
    lstm::Lstm,
    max_pool_indices::MaxPoolIndices,
    non_max_suppression::NonMaxSuppression,
    resize::Resize,
    rms_norm::RmsNorm,
    rnn::Rnn,
    roi_align::RoiAlign,
    rotary_embedding::RotaryEmbedding,
    silu::Silu,
    softmax::Softmax,
}

#[cfg(test)]
mod tests {
    use super::ROWS;
    use anychip_ir::{Builder, TensorType};
    use anychip_tensor::{DType, Dim};

    /// The text form can give any composite any number of operands.
    #[test]
    fn no_composite_panics_on_operands_that_do_not_fit() {
        for row in ROWS {
            for rank in 0..6 {
                for count in 0..10 {
                    let mut b = Builder::new("operands");
                    let ty = TensorType::new(DType::F32, vec![Dim::Fixed(2); rank]);
                    let x = b.input("x", ty);
                    let result = b.expansion(&*(row.example)(), &vec![x; count]);
                    assert!(count > 0 || result.is_err(), "{} takes no operands", row.name);
                }
            }
        }
    }
}
