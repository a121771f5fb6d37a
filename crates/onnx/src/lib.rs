//! ONNX in and out.

mod diagnostic;
mod files;
mod import;
mod proto;
mod tensor;

pub use diagnostic::{Code, Diagnostic, Diagnostics};
pub use files::ExternalError;
pub use tensor::{TensorProblem, dtype_from_onnx, dtype_to_onnx};
