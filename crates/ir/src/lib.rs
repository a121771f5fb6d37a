//! The intermediate representation: a closed core of primitives with an open edge of composites.
//!
//! A [`Graph`] is made with a [`Builder`], which types every node as it is added ([`infer`]) and tracks
//! the small integer tensors that shapes are computed from ([`known`]). [`evaluate`] defines what each
//! primitive means; [`verify`] checks a graph from outside; [`text`] prints and parses it; [`work`] counts
//! what it costs. The crate knows no file format and no chip.

mod attribute;
mod bindings;
mod builder;
mod composite;
mod error;
mod evaluate;
mod graph;
mod infer;
mod known;
mod math;
mod prim;
mod rewrite;
pub mod text;
mod verify;
pub mod work;

pub use attribute::{Attribute, AttributeValue, Attributes};
pub use bindings::Bindings;
pub use builder::{Builder, OpSpec};
pub use composite::{Composite, CompositeRow, Expand, FromAttributes, operands};
pub use error::IrError;
pub use evaluate::{
    Limits, evaluate, evaluate_node, evaluate_node_within, evaluate_prim, evaluate_prim_within,
    evaluate_within,
};
pub use graph::{Definition, Graph, Node, NodeId, Op, TensorType, ValueId};
pub use infer::broadcast_shapes;
pub use prim::{
    Binary, Combine, Compare, ConvolutionDims, Distribution, DotDims, Prim, ReduceKind, Rounding,
    Unary, Window,
};
pub use rewrite::{Replacement, first_free_symbol, inline, inline_with, rewrite, specialize};
pub use verify::{VerifyError, verify};
pub use work::{Work, each_node_work, graph_work, node_work, node_works};
