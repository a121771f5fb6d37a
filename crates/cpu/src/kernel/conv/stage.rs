//! Planes: a channel of the input with its padding written out and its columns sorted by their remainder modulo the stride.
//!
//! In a plane every tap of the kernel sees a run of output pixels as a run of consecutive elements, whatever the padding, stride
//! or dilation. The address splits in two: `tap offset + pixel offset`, so packing and direct kernels need no test at the edge.
//!
//! v1: one copy of the input, none at all when there is neither padding nor a stride along the width.
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at each function")]

use super::ConvShape;

/// The layout of planes.
#[derive(Clone, Debug)]
pub(crate) struct Planes {
    shape: ConvShape,
    /// The input itself has the layout.
    pub(crate) in_place: bool,
    /// Rows of a slice.
    rows: usize,
    /// Slices.
    slices: usize,
    /// Elements of one run of columns with the same remainder.
    pitch: usize,
    /// The remainders modulo the stride that taps use; each is one run in a row.
    remainders: Vec<usize>,
    /// Elements of a row.
    pub(crate) row: usize,
    /// Elements of a plane.
    pub(crate) len: usize,
    /// Offset of each tap.
    pub(crate) taps: Vec<usize>,
}

impl Planes {
    pub(crate) fn new(shape: &ConvShape) -> Self {
        let out = shape.output();
        let sw = shape.stride[2];
        let needed = |i: usize| (out[i] - 1) * shape.stride[i] + shape.window(i);
        let in_place = !shape.is_padded() && sw == 1 && shape.input_step == [1; 3];
        let mut remainders: Vec<usize> = (0..shape.kernel[2]).map(|k| k * shape.dilation[2] % sw).collect();
        remainders.sort_unstable();
        remainders.dedup();
        let (slices, rows, columns) = if in_place {
            (shape.input[0], shape.input[1], shape.input[2])
        } else {
            (needed(0), needed(1), needed(2))
        };
        let pitch = columns.div_ceil(sw);
        let row = pitch * remainders.len();
        let mut taps = Vec::with_capacity(shape.taps());
        for kd in 0..shape.kernel[0] {
            for kh in 0..shape.kernel[1] {
                for kw in 0..shape.kernel[2] {
                    let column = kw * shape.dilation[2];
                    let run = remainders.iter().position(|&r| r == column % sw).unwrap_or(0);
                    let line = kd * shape.dilation[0] * rows + kh * shape.dilation[1];
                    taps.push(line * row + run * pitch + column / sw);
                }
            }
        }
        Self { shape: *shape, in_place, rows, slices, pitch, remainders, row, len: slices * rows * row, taps }
    }

    /// Offset of output row `line = od · height + oh`.
    pub(crate) fn line_offset(&self, line: usize) -> usize {
        let height = self.shape.output()[1];
        let (od, oh) = (line / height, line % height);
        (od * self.shape.stride[0] * self.rows + oh * self.shape.stride[1]) * self.row
    }

    /// Writes the plane of the channel at `from`.
    ///
    /// # Safety
    /// `from` is readable for the input's pixels, `to` writable for `len` elements.
    pub(crate) unsafe fn write(&self, from: *const f32, to: *mut f32) {
        let s = &self.shape;
        let row_of = |i: usize, position: usize| -> Option<usize> {
            let p = position as isize - s.pads_begin[i];
            let step = s.input_step[i] as isize;
            (p >= 0 && p % step == 0 && ((p / step) as usize) < s.input[i]).then_some((p / step) as usize)
        };
        for d in 0..self.slices {
            for h in 0..self.rows {
                let line = to.add((d * self.rows + h) * self.row);
                let (Some(id), Some(ih)) = (row_of(0, d), row_of(1, h)) else {
                    std::ptr::write_bytes(line, 0, self.row);
                    continue;
                };
                let source = from.add((id * s.input[1] + ih) * s.input[2]);
                for (run, &remainder) in self.remainders.iter().enumerate() {
                    self.write_run(source, remainder, line.add(run * self.pitch));
                }
            }
        }
    }

    /// `to[j] = padded row[remainder + j · stride]`.
    unsafe fn write_run(&self, source: *const f32, remainder: usize, to: *mut f32) {
        let s = &self.shape;
        let (sw, step, width) = (s.stride[2], s.input_step[2], s.input[2]);
        let start = remainder as isize - s.pads_begin[2];
        if step != 1 {
            for j in 0..self.pitch {
                let p = start + (j * sw) as isize;
                let inside = p >= 0 && p % step as isize == 0 && (p as usize / step) < width;
                *to.add(j) = if inside { *source.add(p as usize / step) } else { 0.0 };
            }
            return;
        }
        // First and last position of the run that lie within the input.
        let first = if start >= 0 { 0 } else { (-start as usize).div_ceil(sw) }.min(self.pitch);
        let limit = width as isize - start;
        let last = if limit <= 0 { 0 } else { (limit as usize).div_ceil(sw) }.clamp(first, self.pitch);
        std::ptr::write_bytes(to, 0, first);
        if last > first {
            let source = source.offset(start + (first * sw) as isize);
            match sw {
                1 => std::ptr::copy_nonoverlapping(source, to.add(first), last - first),
                2 => (0..last - first).for_each(|j| *to.add(first + j) = *source.add(2 * j)),
                _ => (0..last - first).for_each(|j| *to.add(first + j) = *source.add(sw * j)),
            }
        }
        std::ptr::write_bytes(to.add(last), 0, self.pitch - last);
    }
}
