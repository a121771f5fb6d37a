//! The CPU target: threaded SIMD kernels, planned memory, prepacked weights.

pub mod detect;
pub mod kernel;
pub mod pool;
mod simd;
