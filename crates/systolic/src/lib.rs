//! Systolic arrays, simulated: TPUs and their like, of which a user owns few and wants to know many.
//!
//! A [`Machine`] is made of a chip's row ([`Machine::of`]). A graph is planned on it ([`plan`]): products go to the arrays, all
//! else to the vector unit. Products are cut into folds ([`tiling`]), which run in closed form ([`schedule`]) or cycle by cycle
//! with their values ([`stepped`]); the [`mapper`] chooses tiles and the order of loops. [`SystolicTarget`] is the target
//! that all of it makes.

mod energy;
mod explain;
mod lower;
pub mod machine;
pub mod mapper;
pub mod plan;
mod program;
pub mod scale_sim;
pub mod schedule;
pub mod stepped;
mod stored;
mod target;
pub mod tiling;
mod trace;
mod values;

pub use machine::{Bandwidth, Machine, MachineError, Rate};
pub use program::Mode;
pub use target::{ID, SystolicTarget};
