//! Graph × chip × software stack → estimated `Record`.
//!
//! The model of a chip is a roofline per fused group of operators: a group takes the longer of its arithmetic
//! at the chip's peak and its traffic at the memory's bandwidth, plus a launch. Nothing is fitted yet, so the
//! interval is wide and says so: from the time no program can beat to several times the central estimate.
//! A chip that cannot run the model as it is gets a reason instead of a number.

mod cost;
mod estimate;
mod features;
pub mod fit;
mod kernel;
mod operators;
mod precision;
mod product;
mod refusal;
mod trees;
mod whole;

pub use cost::{GroupCost, ModelCost, cost};
pub use estimate::{PredictError, Request, predict};
pub use features::{FEATURES, features};
pub use kernel::{Class, Kernel, PRODUCTS};
pub use operators::{COEFFICIENTS, Operators, Rates};
pub use precision::model_precision;
pub use product::{Engine, PRODUCT_FEATURES, Product, Products};
pub use trees::{Growth, Trees};
pub use whole::{Span, Whole};
