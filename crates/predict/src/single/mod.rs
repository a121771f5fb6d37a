//! Models in 32-bit floats on GPUs, as the sum of kernels that were measured one at a time: on six cards from Pascal to
//! Ampere and on two of AMD's, with whole transformers measured on all of them to judge the sums by.
//!
//! `PyTorch` in eager mode launches one kernel an operator, so a model's list of kernels ([`crate::graph_kernels()`]) is what ran,
//! but for attention: software of that time ran it as two products and a softmax ([`apart`]).

mod kernels;
mod sized;
mod table;
mod time;

pub use kernels::apart;
pub use sized::{SINGLE_FEATURES, platform, single_kernel};
pub use table::SingleTable;
pub use time::{Single, each_kernel, single};
