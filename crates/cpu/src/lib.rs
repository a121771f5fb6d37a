//! The CPU target: threaded SIMD kernels, planned memory, prepacked weights.
//!
//! [`CpuTarget`] compiles a legal graph; its programs make a plan for each set of input shapes (`plan`), which is a
//! list of kernels (`lower`, one file an operator, over the raw loops of [`kernel`]) on one arena.

mod blocked;
mod buffer;
mod control;
mod costs;
pub mod detect;
mod executable;
mod fusion;
pub mod kernel;
mod lower;
mod machine;
mod memory;
mod plan;
pub mod pool;
mod simd;
mod step;
mod target;
mod tune;
mod weights;

pub use target::CpuTarget;
