//! Composite operators, one file each, written as their maths. [`ROWS`] lists them all. And what several parts of the project
//! write with primitives alone.

use anychip_ir::CompositeRow;

pub use dynamic_range::dynamic_range;

mod activation;
mod dynamic_range;
mod interpolate;
mod quantized;
mod repeat;
mod sample;
mod spatial;

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
    block_weights_dot::BlockWeightsDot,
    cached_attention::CachedAttention,
    conv_transpose::ConvTranspose,
    deformable_conv::DeformableConv,
    determinant::Determinant,
    dft::Dft,
    expert_product::ExpertProduct,
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
    quantized_add::QuantizedAdd,
    quantized_convolution::QuantizedConvolution,
    quantized_dot::QuantizedDot,
    quantized_mean::QuantizedMean,
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

    /// The text form can give any composite any number of operands of any rank.
    #[test]
    fn no_composite_panics_on_operands_that_do_not_fit() {
        for row in ROWS {
            let composite = (row.example)();
            for (rank, other) in (0..6).flat_map(|i| (0..6).map(move |j| (i, j))) {
                for dim in [Dim::Fixed(2), Dim::Fixed(0), Dim::sym("n")] {
                    let mut b = Builder::new("operands");
                    let [x, y] = [rank, other].map(|rank| {
                        b.input("x", TensorType::new(DType::F32, vec![dim.clone(); rank]))
                    });
                    for count in 0..8 {
                        // All of one rank, all but one, or the first few of another.
                        for place in 0..=count {
                            let mut operands = vec![x; count];
                            operands[..place].fill(y);
                            let result = b.expansion(&*composite, &operands);
                            assert!(count > 0 || result.is_err(), "{} of nothing", row.name);
                            let mut operands = vec![x; count];
                            if let Some(operand) = operands.get_mut(place) {
                                *operand = y;
                                let _ = b.expansion(&*composite, &operands);
                            }
                        }
                    }
                }
            }
        }
    }
}
