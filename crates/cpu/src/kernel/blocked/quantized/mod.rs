//! Convolutions of 8-bit codes on blocks of channels, their 32-bit sums requantized as they are written.
//!
//! What a task reads is first copied into its scratch with the padding around it, in the form that the instructions multiply
//! (see [`form::Form`]): so one tile serves every stride, padding and sign. That is one pass over the input for all filters of
//! the task. Results are exact: they equal the reference evaluator's on every instruction set and any number of threads.

mod dense;
mod depthwise;
mod finish;
mod form;
mod peak;
mod stage;
#[cfg(test)]
mod testing;
mod tile;
mod weights;
mod winograd;

pub use dense::{Layout, QuantizedDense};
pub use depthwise::QuantizedDepthwise;
pub use finish::Requantize;
pub use peak::multiply_codes;
pub use weights::QuantizedWeights;
pub use winograd::QuantizedWinograd;

/// The codes of an image: 8-bit elements of either sign, and the one that stands for 0.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    /// The elements as bytes.
    pub bytes: &'a [u8],
    /// They are `i8`.
    pub signed: bool,
    /// The code of 0.
    pub zero: i32,
}

impl Codes<'_> {
    /// What a byte stands for, in steps.
    #[inline(always)]
    pub(crate) fn centered(&self, byte: u8) -> i32 {
        let code = if self.signed { i32::from(byte as i8) } else { i32::from(byte) };
        code - self.zero
    }
}
