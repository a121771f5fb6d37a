//! How the predictor's tables are made from measured times. `cargo xtask fit` reads the measurements; the mathematics
//! is here, so that a user's own measurements can be fitted the same way.

mod kernels;
mod least_squares;
mod ridge;
mod splits;
mod whole;

pub use kernels::{MeasuredKernel, errors_by, fit_kernel_table, fit_kernels, unknown_band};
pub use least_squares::{Sample, fit_operators};
pub use ridge::ridge;
pub use splits::{folds, spearman};
pub use whole::{fit_whole, quantile};
