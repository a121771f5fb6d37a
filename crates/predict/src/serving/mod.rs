//! Language models as serving software runs them: the graph's kernels ([`serving_calls`]), each timed by a table fitted on
//! single kernels ([`ServingTables`]), and their sum with an interval.

mod attention;
mod calls;
pub(crate) mod engine;
mod product;
pub(crate) mod table;
mod tables;
mod time;

pub use attention::{ATTENTION_FEATURES, AttentionCall};
pub use calls::{Call, Work, serving_calls};
pub use engine::Engine;
pub use product::{PRODUCT_FEATURES, Product, Regime};
pub use table::{KernelTable, Kind, Sized};
pub use tables::ServingTables;
pub use time::{Numbers, Served, serve};
