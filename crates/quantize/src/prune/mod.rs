//! Fewer weights: zeros where little is lost, or channels taken out of the graph.

mod axes;
mod channels;
mod repair;
mod zeros;

pub use channels::{Narrowed, Removed, remove_channels};
pub use repair::{PairedSums, refitted, with_layer};
pub use zeros::{Pattern, pruned, rewrite_weights};
