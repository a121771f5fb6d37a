//! ONNX in and out: [`load`] reads a model into a graph, [`Diagnostics`] say what is wrong with it.

mod diagnostic;
mod export;
mod files;
mod import;
mod proto;
mod tensor;

pub use diagnostic::{Code, Diagnostic, Diagnostics};
pub use export::{ExportError, ExportOptions, export, save};
pub use files::{ExternalError, Files};
pub use import::{ImportOptions, Model, from_bytes, load};
pub use tensor::{TensorProblem, dtype_from_onnx, dtype_to_onnx, tensor_from_bytes};
