//! The patches of a convolution as panels of B, packed block by block, so the whole patch matrix never exists.
//!
//! Row `k` of the patch matrix is (channel, tap), column `n` is an output pixel. A run of pixels in one output row is a run of
//! consecutive elements of the plane ([`super::stage`]), so packing is vector loads and overlapping vector stores.
#![allow(unsafe_op_in_unsafe_fn, reason = "the memory contract is `SourceB`'s")]

use super::stage::Planes;
use crate::detect::Simd;
use crate::kernel::gemm::SourceB;
use crate::simd::{Task, Vector, dispatch};
use std::ops::Range;

/// The patches of one group of one image.
pub(crate) struct Patches<'a> {
    pub(crate) planes: &'a Planes,
    /// First plane of the group.
    pub(crate) data: *const f32,
    /// Output pixels of a row.
    pub(crate) width: usize,
    /// All output pixels are one run of a plane (pointwise kernels).
    pub(crate) linear: bool,
}

// SAFETY: only reads through the pointer, which covers the group's planes for as long as this lives.
unsafe impl Sync for Patches<'_> {}

impl SourceB for Patches<'_> {
    unsafe fn pack(
        &self,
        ks: Range<usize>,
        columns: Range<usize>,
        width: usize,
        simd: Simd,
        to: *mut f32,
    ) {
        dispatch(simd, Pack { patches: self, ks, columns, width, to });
    }
}

struct Pack<'a> {
    patches: &'a Patches<'a>,
    ks: Range<usize>,
    columns: Range<usize>,
    width: usize,
    to: *mut f32,
}

/// A run of pixels of one output row within a panel.
#[derive(Clone, Copy, Default)]
struct Segment {
    /// In the plane, without the tap.
    offset: usize,
    /// In the row of the panel.
    to: usize,
    len: usize,
}

impl Task for Pack<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let p = self.patches;
        let taps = &p.planes.taps[..];
        let k = self.ks.len();
        let mut to = self.to;
        let mut column = self.columns.start;
        while column < self.columns.end {
            let n = self.width.min(self.columns.end - column);
            let padded = n.next_multiple_of(V::LANES);
            let mut segments = [Segment::default(); 48];
            let count = segments_of(p, column, n, &mut segments);
            let segments = &segments[..count];
            let (mut channel, mut tap) = (self.ks.start / taps.len(), self.ks.start % taps.len());
            for row in 0..k {
                // SAFETY: the channel and tap are within the group's planes, and so are a segment's elements.
                let from = unsafe { p.data.add(channel * p.planes.len + taps[tap]) };
                // SAFETY: `to` has room for the panel and one vector beyond.
                let line = unsafe { to.add(row * padded) };
                for segment in segments {
                    let mut done = 0;
                    while done < segment.len {
                        let rest = (segment.len - done).min(V::LANES);
                        // SAFETY: reads `rest` elements of the segment. The store may run past it by less than a vector, into
                        // elements of this panel or the next that are written later, or the slack at the end.
                        unsafe {
                            let at = from.add(segment.offset + done);
                            let x = if rest == V::LANES {
                                V::load(at)
                            } else {
                                V::load_first(at, rest)
                            };
                            x.store(line.add(segment.to + done));
                        }
                        done += V::LANES;
                    }
                }
                tap += 1;
                if tap == taps.len() {
                    tap = 0;
                    channel += 1;
                }
            }
            // SAFETY: the next panel follows.
            to = unsafe { to.add(padded * k) };
            column += n;
        }
    }
}

/// The segments of pixels `start .. start + n`; at most one a pixel, and a panel has at most 48 pixels.
fn segments_of(p: &Patches<'_>, start: usize, n: usize, segments: &mut [Segment; 48]) -> usize {
    if p.linear {
        segments[0] = Segment { offset: start, to: 0, len: n };
        return 1;
    }
    let (mut done, mut count) = (0, 0);
    while done < n {
        let pixel = start + done;
        let (line, column) = (pixel / p.width, pixel % p.width);
        let len = (p.width - column).min(n - done);
        segments[count] = Segment { offset: p.planes.line_offset(line) + column, to: done, len };
        count += 1;
        done += len;
    }
    count
}
