//! Element types, dimensions and host tensors: what every other crate passes around.
//!
//! A [`Tensor`] is immutable and cheap to clone: its bytes may be owned, shared, or a slice of a
//! memory-mapped file, or made when they are first read. A [`Dim`] is a size known now ([`Dim::Fixed`]), a named size known when the
//! model runs ([`Dim::Sym`]), or a polynomial of such names ([`Dim::Expr`]).

mod deferred;
mod dim;
mod dtype;
mod mapped;
mod small_float;
mod tensor;

pub use dim::{Atom, Dim, Polynomial, Symbol};
pub use dtype::{DType, Element, UnknownDType};
pub use mapped::{FileState, map_file, origin, release_mapped};
pub use small_float::{decode_small_float, encode_small_float, round_to_odd};
pub use tensor::{Tensor, TensorError, TensorView};
