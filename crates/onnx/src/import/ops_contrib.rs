//! Importers of ONNX Runtime's own operators (`com.microsoft`), as its `docs/ContribOperators.md` defines them.

mod attention;
mod fused;
mod grouped;
mod norm;
mod quantize;
mod weights;

use super::table::Row;

pub(crate) const ROWS: &[Row] = &[
    Row::microsoft("Attention", attention::attention),
    Row::microsoft("BiasAdd", fused::bias_add),
    Row::microsoft("BiasGelu", fused::bias_gelu),
    Row::microsoft("BiasSplitGelu", fused::bias_split_gelu),
    // The same as the standard's, for more types than older versions of it have.
    Row::microsoft("DequantizeLinear", super::ops_quantize::dequantize_linear),
    Row::microsoft("DynamicQuantizeMatMul", quantize::dynamic_quantize_matmul),
    Row::microsoft("EmbedLayerNormalization", norm::embed),
    Row::microsoft("FastGelu", fused::fast_gelu),
    Row::microsoft("FusedConv", fused::conv),
    Row::microsoft("FusedGemm", fused::gemm),
    Row::microsoft("FusedMatMul", fused::matmul),
    Row::microsoft("GatherBlockQuantized", weights::gather_blocks),
    Row::microsoft("Gelu", fused::gelu),
    Row::microsoft("GroupQueryAttention", grouped::attention),
    Row::microsoft("MatMulIntegerToFloat", quantize::matmul_integer_to_float),
    Row::microsoft("MatMulNBits", weights::matmul_bits),
    Row::microsoft("MultiHeadAttention", attention::multi_head),
    Row::microsoft("QAttention", attention::quantized),
    Row::microsoft("QGemm", quantize::gemm),
    Row::microsoft("QLinearAdd", quantize::add),
    Row::microsoft("QLinearAveragePool", quantize::average_pool),
    Row::microsoft("QLinearConcat", quantize::concat),
    Row::microsoft("QLinearGlobalAveragePool", quantize::global_average_pool),
    Row::microsoft("QLinearLeakyRelu", quantize::leaky_relu),
    Row::microsoft("QLinearMul", quantize::mul),
    Row::microsoft("QLinearSigmoid", quantize::sigmoid),
    Row::microsoft("QLinearSoftmax", quantize::softmax),
    Row::microsoft("QuantizeLinear", super::ops_quantize::quantize_linear),
    Row::microsoft("QuickGelu", fused::quick_gelu),
    Row::microsoft("RotaryEmbedding", grouped::rotary_embedding),
    Row::microsoft("SimplifiedLayerNormalization", norm::simplified),
    Row::microsoft("SkipLayerNormalization", norm::skip),
    Row::microsoft("SkipSimplifiedLayerNormalization", norm::skip_simplified),
    // ONNX Runtime puts this one in the default domain.
    Row::onnx("SimplifiedLayerNormalization", 1, norm::simplified),
];
