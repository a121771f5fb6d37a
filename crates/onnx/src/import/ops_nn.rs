//! Importers of neural-network operators: convolutions, pools, normalizations, products of matrices, losses.

mod conv;
mod dropout;
mod einsum;
mod image;
mod loss;
mod matrix;
mod norm;
mod pool;
pub(super) mod spatial;

pub(super) use conv::convolve;
pub(super) use matrix::gemm;
pub(super) use pool::average_pool_of;

use super::table::Row;

pub(crate) const ROWS: &[Row] = &[
    Row::onnx("AffineGrid", 20, image::affine_grid),
    Row::onnx("AveragePool", 1, pool::average_pool),
    Row::onnx("BatchNormalization", 1, norm::batch_normalization),
    Row::onnx("CausalConvWithState", 27, conv::causal_conv_with_state),
    Row::onnx("CenterCropPad", 18, image::center_crop_pad),
    Row::onnx("Col2Im", 18, image::col2im),
    Row::onnx("Conv", 1, conv::conv),
    Row::onnx("ConvTranspose", 1, conv::conv_transpose),
    Row::onnx("DeformConv", 19, conv::deform_conv),
    Row::onnx("Det", 11, matrix::det),
    Row::onnx("Dropout", 1, dropout::before_12),
    Row::onnx("Dropout", 12, dropout::since_12),
    Row::onnx("Einsum", 12, einsum::einsum),
    Row::onnx("Gemm", 1, matrix::gemm),
    Row::onnx("GlobalAveragePool", 1, pool::global_average_pool),
    Row::onnx("GlobalLpPool", 1, pool::global_lp_pool),
    Row::onnx("GlobalMaxPool", 1, pool::global_max_pool),
    Row::onnx("GridSample", 16, image::grid_sample),
    Row::onnx("GroupNormalization", 18, norm::group_normalization),
    Row::onnx("InstanceNormalization", 1, norm::instance_normalization),
    Row::onnx("LRN", 1, norm::lrn),
    Row::onnx("LayerNormalization", 17, norm::layer_normalization),
    Row::onnx("LpNormalization", 1, norm::lp_normalization),
    Row::onnx("LpPool", 1, pool::lp_pool),
    Row::onnx("MatMul", 1, matrix::matmul),
    Row::onnx("MaxPool", 1, pool::max_pool),
    Row::onnx("MaxRoiPool", 1, pool::max_roi_pool),
    Row::onnx("MaxUnpool", 9, pool::max_unpool),
    Row::onnx("MeanVarianceNormalization", 9, norm::mean_variance_normalization),
    Row::onnx("NegativeLogLikelihoodLoss", 12, loss::negative_log_likelihood),
    Row::onnx("NonMaxSuppression", 10, image::non_max_suppression),
    Row::onnx("RMSNormalization", 23, norm::rms_normalization),
    Row::onnx("RoiAlign", 10, image::roi_align),
    Row::onnx("SoftmaxCrossEntropyLoss", 12, loss::softmax_cross_entropy),
];
