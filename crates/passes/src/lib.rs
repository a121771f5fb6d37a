//! Rewrites that make a graph cheaper and keep its meaning, one file each; what kernels may fuse; where values live.
//!
//! [`optimize`] runs [`PIPELINE`] to a fixed point. Each pass takes a graph and gives another, built anew, so
//! every type is derived again; its doc comment is its equation, and `docs/passes.md` is those comments.
//! [`fuse::groups`] says which nodes one kernel can do together, [`plan::memory`] where values live;
//! [`specialize`] makes a graph for concrete shapes.

#[macro_use]
mod pipeline;

mod elementwise;
mod form_block_weights;
mod form_integer_operators;
pub mod fuse;
pub mod matching;
pub mod plan;
mod random;
mod rebuild;
mod recognize;
pub mod specialize;
mod uses;

pub use elementwise::Elementwise;
pub use pipeline::{Outcome, Pass, PassReport, node_count, optimize, run};
pub use rebuild::{Rule, Site, ValueRule, Verdict, rebuild, replace};
pub use remove_dead_code::remove_dead_code;
pub use uses::Uses;

macro_rules! passes {
    ($($module:ident :: $pass:ident),* $(,)?) => {
        $(mod $module;)*

        /// All passes in the order they run. A new pass is one file and one row here.
        pub const PIPELINE: &[Pass] = &[$($module::$pass),*];
    };
}

/// Passes on the way to targets that compute in integers, after [`PIPELINE`]: results may differ by a step of what they are
/// quantized to. Each operator they form is defined by its expansion, to which every target is held bit for bit.
pub const INTEGER: &[Pass] = &[
    form_integer_operators::FORM_INTEGER_OPERATORS,
    form_block_weights::FORM_BLOCK_WEIGHTS,
    remove_dead_code::REMOVE_DEAD_CODE,
];

passes! {
    // Identities first: they uncover constants and make patterns alike.
    remove_dead_code::REMOVE_DEAD_CODE,
    inline_branches::INLINE_BRANCHES,
    fold_shapes::FOLD_SHAPES,
    fold_constants::FOLD_CONSTANTS,
    simplify_arithmetic::SIMPLIFY_ARITHMETIC,
    simplify_movement::SIMPLIFY_MOVEMENT,
    drop_broadcasts::DROP_BROADCASTS,
    merge_transposes::MERGE_TRANSPOSES,
    merge_reshapes::MERGE_RESHAPES,
    // Before composites are recognized, so that a value computed twice is one name of a pattern.
    merge_common_subexpressions::MERGE_COMMON_SUBEXPRESSIONS,
    recognize_softmax::RECOGNIZE_SOFTMAX,
    recognize_gelu::RECOGNIZE_GELU,
    recognize_silu::RECOGNIZE_SILU,
    recognize_layer_norm::RECOGNIZE_LAYER_NORM,
    recognize_rms_norm::RECOGNIZE_RMS_NORM,
    // After softmax, by which it is found.
    recognize_attention::RECOGNIZE_ATTENTION,
    fold_batch_norm::FOLD_BATCH_NORM,
    fold_scale_and_bias::FOLD_SCALE_AND_BIAS,
    sink_transposes::SINK_TRANSPOSES,
    // After attention, which wants its heads in one order.
    absorb_transposes::ABSORB_TRANSPOSES,
    absorb_padding::ABSORB_PADDING,
    drop_unseen_taps::DROP_UNSEEN_TAPS,
}
