//! Fewer weights: zeros where little is lost, or channels taken out of the graph.

mod axes;
mod channels;
mod zeros;

pub use channels::{Removed, remove_channels};
pub use zeros::{Pattern, pruned, rewrite_weights};
