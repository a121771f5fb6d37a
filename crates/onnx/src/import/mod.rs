//! From a file to a graph.

pub(crate) mod call;
mod fold;
mod functions;
pub(crate) mod importer;
mod load;
mod ops_attention;
mod ops_contrib;
mod ops_control;
mod ops_elementwise;
mod ops_generate;
mod ops_image;
mod ops_index;
mod ops_misc;
mod ops_movement;
mod ops_nn;
mod ops_quantize;
mod ops_random;
mod ops_recurrent;
mod ops_reduce;
mod ops_signal;
mod region;
mod sequence;
mod sort;
pub(crate) mod table;

pub use load::{ImportOptions, Model, from_bytes, load};
