//! Pixels in parts, line after line with zeros between, as the tiles read them.

use super::parts::{Pair, split};
use super::tile::{ROW_BYTES, SIDE};
use super::{Split, Staged};

/// Writes a slab's planes of one pair of blocks of channels; gives whether all numbers are finite.
///
/// # Safety
/// The input is as [`Split::run`] checks it, and `to` holds the slab; nobody else touches the pair's planes.
pub(super) unsafe fn pair(
    split_: &Split,
    input: *const f32,
    staged: &Staged<'_>,
    pair: usize,
    to: *mut u8,
) -> bool {
    let (s, p) = (&split_.shape, &split_.plan);
    let (lines, images) = (staged.lines.len(), staged.images.len());
    let plane = p.plane(lines, images);
    let block = 2 * (staged.pairs.start + pair);
    let lanes = [0, 1].map(|i| s.channels.saturating_sub((block + i) * SIDE).min(SIDE));
    let mut finite = true;
    for (phase, &(down, across)) in p.phases.iter().enumerate() {
        let to = to.add((phase * staged.pairs.len() + pair) * plane * ROW_BYTES);
        let zeros = |row: usize, count: usize| {
            for part in 0..split_.parts.count() {
                // SAFETY: rows of the plane.
                unsafe {
                    let at = to.add(part * staged.part + row * ROW_BYTES);
                    at.write_bytes(0, count * ROW_BYTES);
                }
            }
        };
        let columns = s.input[2].saturating_sub(across).div_ceil(s.stride[2]);
        let columns = columns.min(p.pitch - p.gap);
        let mut row = 0;
        for image in staged.images.clone() {
            for line in 0..lines + p.extra {
                let above = (staged.lines.start + line) as isize + p.above;
                let from = above * s.stride[1] as isize + down as isize;
                if !(0..s.input[1] as isize).contains(&from) {
                    zeros(row, p.pitch);
                    row += p.pitch;
                    continue;
                }
                zeros(row, p.gap);
                let pixel = from as usize * s.input[2] + across;
                let strides = &split_.input;
                let at = |i: usize| {
                    let block = if lanes[i] == 0 { 0 } else { (block + i) * strides.block };
                    input.wrapping_add(image * strides.image + pixel * strides.pixel + block)
                };
                let pair = Pair { from: [at(0), at(1)], lanes };
                let first = to.add((row + p.gap) * ROW_BYTES);
                let step = s.stride[2] * strides.pixel;
                finite &=
                    split((split_.engine, split_.parts), pair, columns, step, first, staged.part);
                zeros(row + p.gap + columns, p.pitch - p.gap - columns);
                row += p.pitch;
            }
        }
        // What the last line's pixels and the last tile reach beyond.
        zeros(row, plane - row);
    }
    finite
}
