//! The CPU target: threaded SIMD kernels, planned memory, prepacked weights.
