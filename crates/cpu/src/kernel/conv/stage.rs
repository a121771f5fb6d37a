//! Planes: a channel of the input with its padding written out and its columns sorted by their remainder modulo the stride.
//!
//! In a plane every tap of the kernel sees a run of output pixels as a run of consecutive elements, whatever the padding, stride
//! or dilation. The address splits in two: `tap offset + pixel offset`, so packing and direct kernels need no test at the edge.
//!
//! v1: one copy of the input, none at all when there is neither padding nor a stride along the width. v2: the copy in masked
//! vectors, stride 2 by deinterleaving: depthwise 3×3 on 7×7 planes was staging-bound.
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is stated at each function")]

use super::ConvShape;
use crate::detect::Simd;
use crate::simd::{Task, Vector, dispatch};

/// The layout of planes.
#[derive(Clone, Debug)]
pub(crate) struct Planes {
    shape: ConvShape,
    /// The input itself has the layout.
    pub(crate) in_place: bool,
    /// Rows of a slice.
    pub(crate) rows: usize,
    /// Slices.
    slices: usize,
    /// Elements of one run of columns with the same remainder.
    pitch: usize,
    /// The remainders modulo the stride that taps use, each one run in a row, with its first and last position within the input.
    remainders: Vec<(usize, usize, usize)>,
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
        let mut remainders: Vec<usize> =
            (0..shape.kernel[2]).map(|k| k * shape.dilation[2] % sw).collect();
        remainders.sort_unstable();
        remainders.dedup();
        let (slices, rows, columns) = if in_place {
            (shape.input[0], shape.input[1], shape.input[2])
        } else {
            (needed(0), needed(1), needed(2))
        };
        let pitch = columns.div_ceil(sw);
        let row = pitch * remainders.len();
        let bounded = |&r: &usize| {
            let (first, last) = Self::inside(shape, pitch, r);
            (r, first, last)
        };
        let runs = remainders.iter().map(bounded).collect();
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
        Self {
            shape: *shape,
            in_place,
            rows,
            slices,
            pitch,
            remainders: runs,
            row,
            len: slices * rows * row,
            taps,
        }
    }

    /// Offset of output row `line = od · height + oh`.
    pub(crate) fn line_offset(&self, line: usize) -> usize {
        let height = self.shape.output()[1];
        let (od, oh) = (line / height, line % height);
        (od * self.shape.stride[0] * self.rows + oh * self.shape.stride[1]) * self.row
    }

    /// Writes the plane of the channel at `from`, padding being `fill`.
    ///
    /// # Safety
    /// `from` is readable for the input's pixels, `to` writable for `len` elements.
    pub(crate) unsafe fn write(&self, simd: Simd, from: *const f32, to: *mut f32, fill: f32) {
        dispatch(simd, Write { planes: self, from, to, fill });
    }

    /// The input row that slice or row `position` of axis `i` holds, if it is not padding.
    #[inline(always)]
    fn source_row(&self, i: usize, position: usize) -> Option<usize> {
        let s = &self.shape;
        let p = position as isize - s.pads_begin[i];
        let step = s.input_step[i] as isize;
        let inside = p >= 0 && (step == 1 || p % step == 0);
        let row = if step == 1 { p as usize } else { (p / step) as usize };
        (inside && row < s.input[i]).then_some(row)
    }

    /// First and last position of the run of columns `remainder` that lie within the input.
    fn inside(shape: &ConvShape, pitch: usize, remainder: usize) -> (usize, usize) {
        let sw = shape.stride[2];
        let start = remainder as isize - shape.pads_begin[2];
        let first = if start >= 0 { 0 } else { (-start as usize).div_ceil(sw) }.min(pitch);
        let limit = shape.input[2] as isize - start;
        let last = if limit <= 0 { 0 } else { (limit as usize).div_ceil(sw) }.clamp(first, pitch);
        (first, last)
    }
}

struct Write<'a> {
    planes: &'a Planes,
    from: *const f32,
    to: *mut f32,
    fill: f32,
}

impl Task for Write<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (planes, s) = (self.planes, &self.planes.shape);
        for d in 0..planes.slices {
            for h in 0..planes.rows {
                // SAFETY: row `h` of slice `d` is within the plane.
                let line = unsafe { self.to.add((d * planes.rows + h) * planes.row) };
                let (Some(id), Some(ih)) = (planes.source_row(0, d), planes.source_row(1, h))
                else {
                    // SAFETY: as above.
                    unsafe { fill::<V>(line, planes.row, self.fill) };
                    continue;
                };
                for run in 0..planes.remainders.len() {
                    // SAFETY: the row is within the input, the run within the row of the plane.
                    unsafe {
                        let source = self.from.add((id * s.input[1] + ih) * s.input[2]);
                        write_run::<V>(
                            planes,
                            source,
                            planes.remainders[run],
                            line.add(run * planes.pitch),
                            self.fill,
                        );
                    }
                }
            }
        }
    }
}

/// Writes `x` to `n` elements.
///
/// # Safety
/// `to` is writable for `n` elements.
#[inline(always)]
unsafe fn fill<V: Vector>(to: *mut f32, n: usize, x: f32) {
    let mut i = 0;
    while i < n {
        V::splat(x).store_first(to.add(i), (n - i).min(V::LANES));
        i += V::LANES;
    }
}

/// `to[j] = padded row[remainder + j · stride]`.
///
/// # Safety
/// `source` is readable for a row of the input, `to` writable for a row of its plane; `first` and `last` lie within both.
#[inline(always)]
unsafe fn write_run<V: Vector>(
    planes: &Planes,
    source: *const f32,
    (remainder, first, last): (usize, usize, usize),
    to: *mut f32,
    padding: f32,
) {
    let s = &planes.shape;
    let (sw, step, width) = (s.stride[2], s.input_step[2], s.input[2]);
    let start = remainder as isize - s.pads_begin[2];
    if step != 1 {
        for j in 0..planes.pitch {
            let p = start + (j * sw) as isize;
            let inside = p >= 0 && p % step as isize == 0 && (p as usize / step) < width;
            *to.add(j) = if inside { *source.add(p as usize / step) } else { padding };
        }
        return;
    }
    fill::<V>(to, first, padding);
    if last > first {
        let offset = (start + (first * sw) as isize) as usize;
        let source = source.add(offset);
        let (to, n) = (to.add(first), last - first);
        let mut j = 0;
        match sw {
            1 => {
                while j + V::LANES <= n {
                    V::load(source.add(j)).store(to.add(j));
                    j += V::LANES;
                }
                if j < n {
                    V::load_first(source.add(j), n - j).store_first(to.add(j), n - j);
                }
            }
            2 => {
                // The row has 2n or 2n − 1 elements left.
                let available = width - offset;
                while j < n {
                    let (at, rest) = (source.add(2 * j), available - 2 * j);
                    let low = V::load_first(at, rest.min(V::LANES));
                    let high = V::load_first(
                        at.add(V::LANES.min(rest)),
                        rest.saturating_sub(V::LANES).min(V::LANES),
                    );
                    low.deinterleave(high).0.store_first(to.add(j), (n - j).min(V::LANES));
                    j += V::LANES;
                }
            }
            _ => {
                while j < n {
                    *to.add(j) = *source.add(sw * j);
                    j += 1;
                }
            }
        }
    }
    fill::<V>(to.add(last), planes.pitch - last, padding);
}
