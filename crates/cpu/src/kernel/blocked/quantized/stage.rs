//! Lines of a plane of a block of channels as 16-bit numbers, with the padding around them.

use super::Codes;
use super::form::widen;
use crate::detect::Simd;
use crate::kernel::blocked::BLOCK;
use crate::kernel::conv::ConvShape;

/// Copies `lines` rows of `x`, a plane of one block of channels, from row `first` of the padded input on, `columns` pixels of
/// each from the first of the padded input on. What lies outside the input becomes 0.
///
/// # Panics
/// When the stage is shorter than that.
pub(super) fn fill(
    simd: Simd,
    x: Codes<'_>,
    shape: &ConvShape,
    (first, lines): (usize, usize),
    columns: usize,
    stage: &mut [i16],
) {
    let line_len = columns * BLOCK;
    let left = shape.pads_begin[2].clamp(0, columns as isize) as usize;
    let skipped = (-shape.pads_begin[2]).max(0) as usize;
    let own = shape.input[2].saturating_sub(skipped).min(columns - left);
    for r in 0..lines {
        let to = &mut stage[r * line_len..(r + 1) * line_len];
        let row = (first + r) as isize - shape.pads_begin[1];
        if !(0..shape.input[1] as isize).contains(&row) {
            to.fill(0);
            continue;
        }
        let (before, rest) = to.split_at_mut(left * BLOCK);
        let (inner, behind) = rest.split_at_mut(own * BLOCK);
        before.fill(0);
        behind.fill(0);
        widen(simd, x, (row as usize * shape.input[2] + skipped) * BLOCK, inner);
    }
}
