//! From a file to a graph.

pub(crate) mod call;
pub(crate) mod importer;
mod ops_attention;
mod ops_contrib;
mod ops_control;
mod ops_elementwise;
mod ops_image;
mod ops_misc;
mod ops_movement;
mod ops_nn;
mod ops_quantize;
mod ops_random;
mod ops_recurrent;
mod ops_reduce;
mod ops_signal;
pub(crate) mod table;
