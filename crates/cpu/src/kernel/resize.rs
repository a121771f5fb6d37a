//! Resizing of planes: nearest and (bi)linear, from one table an axis, so every coordinate convention is the caller's choice.

use super::SharedMut;
use crate::detect::Simd;
use crate::pool::Pool;
use crate::simd::{Task, Vector, dispatch};

/// Nearest: the source position of each output position along an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearestAxis(pub Vec<usize>);

/// Linear: two source positions and the weight of the second, for each output position along an axis.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LinearAxis {
    /// Left neighbor.
    pub low: Vec<usize>,
    /// Right neighbor.
    pub high: Vec<usize>,
    /// Weight of the right neighbor, 0 to 1.
    pub weight: Vec<f32>,
}

impl LinearAxis {
    /// From source coordinates, clamped to the axis of `extent` elements.
    pub fn from_coordinates(coordinates: impl IntoIterator<Item = f32>, extent: usize) -> Self {
        let mut axis = Self::default();
        let last = extent.saturating_sub(1);
        for x in coordinates {
            let x = x.clamp(0.0, last as f32);
            let low = (x.floor() as usize).min(last);
            axis.low.push(low);
            axis.high.push((low + 1).min(last));
            axis.weight.push(x - low as f32);
        }
        axis
    }
}

/// `out[plane, y, x] = input[plane, rows[y], columns[x]]` for any element type.
///
/// # Panics
/// When a table points outside its axis or a slice is shorter than the shape says.
pub fn nearest<T: Copy + Send + Sync>(
    planes: usize,
    (height, width): (usize, usize),
    (rows, columns): (&NearestAxis, &NearestAxis),
    input: &[T],
    out: &mut [T],
    pool: &Pool,
) {
    let (out_height, out_width) = (rows.0.len(), columns.0.len());
    assert!(
        rows.0.iter().all(|&y| y < height) && columns.0.iter().all(|&x| x < width),
        "table outside its axis"
    );
    assert!(input.len() >= planes * height * width && out.len() >= planes * out_height * out_width);
    let to = SharedMut::new(out);
    let lines_per_task = (16_384 / out_width.max(1)).max(1);
    let lines = planes * out_height;
    pool.parallel_for(lines.div_ceil(lines_per_task), |task, _| {
        for line in task * lines_per_task..((task + 1) * lines_per_task).min(lines) {
            let source = (line / out_height * height + rows.0[line % out_height]) * width;
            let source = &input[source..source + width];
            for (x, &column) in columns.0.iter().enumerate() {
                // SAFETY: the line is this task's and within the slice.
                unsafe { *to.get().add(line * out_width + x) = source[column] };
            }
        }
    });
}

/// Bilinear resize of `f32` planes: rows are blended first, in vectors, into the thread's scratch, then columns.
#[derive(Clone, Debug)]
pub struct Bilinear {
    simd: Simd,
    threads: usize,
    height: usize,
    width: usize,
    rows: LinearAxis,
    columns: LinearAxis,
}

impl Bilinear {
    /// Prepares the resize of planes of `height × width`.
    ///
    /// # Panics
    /// When a table points outside its axis.
    pub fn new(
        simd: Simd,
        threads: usize,
        (height, width): (usize, usize),
        rows: LinearAxis,
        columns: LinearAxis,
    ) -> Self {
        for (axis, extent) in [(&rows, height), (&columns, width)] {
            let inside = axis.low.iter().chain(&axis.high).all(|&x| x < extent);
            assert!(
                inside && axis.low.len() == axis.high.len() && axis.low.len() == axis.weight.len(),
                "table of an axis"
            );
        }
        Self { simd: simd.at_most(), threads: threads.max(1), height, width, rows, columns }
    }

    /// Scratch elements a run needs.
    pub fn scratch_len(&self) -> usize {
        super::Scratch::len(self.width, self.threads)
    }

    /// Resizes `planes` planes.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says, or the pool has more threads than prepared for.
    pub fn run(
        &self,
        planes: usize,
        input: &[f32],
        out: &mut [f32],
        scratch: &mut [f32],
        pool: &Pool,
    ) {
        let (out_height, out_width) = (self.rows.low.len(), self.columns.low.len());
        assert!(
            input.len() >= planes * self.height * self.width
                && out.len() >= planes * out_height * out_width
        );
        assert!(pool.threads() <= self.threads, "prepared for {} threads", self.threads);
        let scratch = super::Scratch::split(scratch, self.width, self.threads);
        let to = SharedMut::new(out);
        let lines = planes * out_height;
        let lines_per_task = (16_384 / (self.width + out_width).max(1)).max(1);
        pool.parallel_for(lines.div_ceil(lines_per_task), |task, thread| {
            for line in task * lines_per_task..((task + 1) * lines_per_task).min(lines) {
                let (plane, y) = (line / out_height, line % out_height);
                let at = |row: usize| input[(plane * self.height + row) * self.width..].as_ptr();
                let (low, high) = (at(self.rows.low[y]), at(self.rows.high[y]));
                let blended = scratch.part(thread);
                let blend =
                    Blend { low, high, weight: self.rows.weight[y], to: blended, n: self.width };
                dispatch(self.simd, blend);
                for x in 0..out_width {
                    // SAFETY: the tables are within the width (checked), the line is this task's.
                    unsafe {
                        let (a, b) =
                            (*blended.add(self.columns.low[x]), *blended.add(self.columns.high[x]));
                        let w = self.columns.weight[x];
                        *to.get().add(line * out_width + x) = a * (1.0 - w) + b * w;
                    }
                }
            }
        });
    }
}

/// `to = low·(1 − weight) + high·weight`.
struct Blend {
    low: *const f32,
    high: *const f32,
    weight: f32,
    to: *mut f32,
    n: usize,
}

impl Task for Blend {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (a, b) = (V::splat(1.0 - self.weight), V::splat(self.weight));
        let mut i = 0;
        while i < self.n {
            let k = V::LANES.min(self.n - i);
            // SAFETY: both rows and the result hold `n` elements.
            unsafe {
                let x = V::load_first(self.low.add(i), k).mul(a);
                V::load_first(self.high.add(i), k).fma(b, x).store_first(self.to.add(i), k);
            }
            i += V::LANES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::Random;

    #[test]
    fn nearest_and_bilinear_match_their_formulas() {
        let mut random = Random::new(91);
        let pool = Pool::new(2);
        for simd in Simd::available() {
            for _ in 0..20 {
                let (planes, h, w) =
                    (1 + random.below(3), 1 + random.below(20), 1 + random.below(40));
                let (oh, ow) = (1 + random.below(50), 1 + random.below(50));
                let x = random.floats(planes * h * w);
                // Half-pixel centers.
                let coordinates = |n: usize, m: usize| -> Vec<f32> {
                    (0..m).map(|i| (i as f32 + 0.5) * n as f32 / m as f32 - 0.5).collect()
                };
                let (ys, xs) = (coordinates(h, oh), coordinates(w, ow));
                let bilinear = Bilinear::new(
                    simd,
                    2,
                    (h, w),
                    LinearAxis::from_coordinates(ys.iter().copied(), h),
                    LinearAxis::from_coordinates(xs.iter().copied(), w),
                );
                let (mut out, mut scratch) =
                    (vec![f32::NAN; planes * oh * ow], vec![0.0; bilinear.scratch_len()]);
                bilinear.run(planes, &x, &mut out, &mut scratch, &pool);
                let near = |c: &[f32], n: usize| {
                    NearestAxis(
                        c.iter().map(|&c| (c.round().max(0.0) as usize).min(n - 1)).collect(),
                    )
                };
                let (rows, columns) = (near(&ys, h), near(&xs, w));
                let mut nearest_out = vec![f32::NAN; out.len()];
                nearest(planes, (h, w), (&rows, &columns), &x, &mut nearest_out, &pool);
                for (i, &got) in out.iter().enumerate() {
                    let (p, y, column) = (i / ow / oh, i / ow % oh, i % ow);
                    let get = |y: usize, x_: usize| {
                        f64::from(x[(p * h + y.min(h - 1)) * w + x_.min(w - 1)])
                    };
                    let (cy, cx) =
                        (ys[y].clamp(0.0, (h - 1) as f32), xs[column].clamp(0.0, (w - 1) as f32));
                    let (y0, x0) = (cy as usize, cx as usize);
                    let (fy, fx) = (f64::from(cy - y0 as f32), f64::from(cx - x0 as f32));
                    let top = get(y0, x0) * (1.0 - fx) + get(y0, x0 + 1) * fx;
                    let bottom = get(y0 + 1, x0) * (1.0 - fx) + get(y0 + 1, x0 + 1) * fx;
                    assert!(
                        (f64::from(got) - (top * (1.0 - fy) + bottom * fy)).abs() < 1e-5,
                        "{simd:?} {i}"
                    );
                    assert_eq!(f64::from(nearest_out[i]), get(rows.0[y], columns.0[column]));
                }
            }
        }
    }
}
