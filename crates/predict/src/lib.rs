//! Graph × chip × software stack → estimated `Record`.
//!
//! Where measured truth exists, a stack of software has a fitted table ([`Tables`]): a formula over kernels
//! ([`Operators`]), trees for what it leaves over ([`Trees`]) and intervals from model families left out ([`Whole`]).
//! Language models on the GPUs whose kernels were measured are sums of those kernels ([`serving`]).
//! `cargo xtask fit` makes the tables, `cargo xtask validate` says how far off they are. Everything else gets a
//! roofline per fused group of operators with a wide interval, and its source says that nothing was fitted.
//! A chip that cannot run the model as it is gets a reason instead of a number.

mod cost;
mod counted;
mod estimate;
mod features;
pub mod fit;
mod graph_kernels;
mod kernel;
mod layers;
mod operators;
mod precision;
mod refusal;
pub mod serving;
pub mod single;
mod split;
mod tables;
mod trees;
mod whole;

pub use cost::{GroupCost, ModelCost, cost};
pub use counted::Counted;
pub use estimate::{Anchor, PredictError, Request, predict};
pub use features::{FEATURES, features};
pub use graph_kernels::{Launching, graph_kernels};
pub use kernel::{Class, Kernel, PRODUCTS};
pub use layers::{add_layers, roof};
pub use operators::{COEFFICIENTS, Operators, Rates};
pub use precision::model_precision;
pub use tables::{Choice, Entry, TableError, Tables, Transfer};
pub use trees::{Growth, Trees};
pub use whole::{Span, Whole};
