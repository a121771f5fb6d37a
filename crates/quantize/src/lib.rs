//! A float graph with fewer bits: where integers go, which numbers they stand for, and how weights are rounded. And with fewer
//! weights.
//!
//! Pure arithmetic on graphs, histograms and matrices. What values a model takes on real inputs is for the caller to find
//! out: [`Plan`] says which are wanted, [`Histogram`] keeps them, [`rewrite()`] makes the graph with
//! [`anychip_ir::Prim::Quantize`] and [`anychip_ir::Prim::Dequantize`] around what is to run on integers.

mod blocks;
mod dynamic;
mod equalize;
mod error;
mod grid;
mod half;
mod histogram;
mod plan;
mod probe;
mod prune;
mod range;
mod rewrite;
mod rounding;
mod section;
mod simulate;
mod site;
mod weights;

/// Numbers that loops work on at a time: as many as fit the registers of every instruction set.
const LANES: usize = 32;

/// So many numbers.
type Lanes = [f32; LANES];

pub use blocks::{BlockFormat, Blocks, in_blocks, in_scaled_blocks, rewrite_blocks, rows_of};
pub use dynamic::{DynamicLayer, rewrite_dynamic};
pub use equalize::{ChannelRanges, Movable, choose_factors, equalized, movable};
pub use error::QuantizeError;
pub use grid::{Grid, GridOptions};
pub use half::to_half;
pub use histogram::Histogram;
pub use plan::Plan;
pub use probe::{LocalError, Wanted, channel_ranges, input_sums, local_errors, paired_sums};
pub use prune::{
    Narrowed, PairedSums, Pattern, Removed, pruned, refitted, remove_channels, rewrite_weights,
    with_layer,
};
pub use range::{Method, bounds, choose_grid};
pub use rewrite::{Layer, rewrite};
pub use rounding::{Gram, round_with_gram};
pub use section::{Section, boundary, expose};
pub use simulate::{restore, simulate};
pub use site::{Bias, Kind, Site, sites};
pub use weights::{Matrix, bias_limit, codes_tensor, round_to_nearest, row_scales};
