//! Importers of what belongs to no larger family: gated activations, classical learning, training steps, text.

mod learning;
mod optimizer;
mod text;

use anychip_ir::ValueId;

use super::call::{Call, ImportError};
use super::table::Row;

pub(crate) const ROWS: &[Row] = &[
    Row::onnx("SwiGLU", 28, swiglu),
    Row::onnx("TfIdfVectorizer", 9, text::tf_idf_vectorizer),
    Row::ml("ArrayFeatureExtractor", 1, learning::array_feature_extractor),
    Row::ml("Binarizer", 1, learning::binarizer),
    Row::ml("TreeEnsemble", 5, learning::tree_ensemble),
    Row::training("Adagrad", optimizer::adagrad),
    Row::training("Adam", optimizer::adam),
    Row::training("Momentum", optimizer::momentum),
];

/// `a · sigmoid(alpha · a) · b`
fn swiglu(call: &mut Call<'_>) -> Result<Vec<ValueId>, ImportError> {
    let (gate, value) = (call.input(0)?, call.input(1)?);
    let alpha = call.float("alpha", 1.0);
    let b = &mut *call.b;
    let scaled = if alpha == 1.0 { gate } else { b.scale(gate, f64::from(alpha))? };
    let open = b.sigmoid(scaled)?;
    let swish = b.mul(gate, open)?;
    Ok(vec![b.mul(swish, value)?])
}
