//! Reductions over any axes: sum, mean, maximum, minimum, product, sum of squares, sum of magnitudes.
//!
//! Neighboring axes of one kind merge, so a reduction is either rows that shrink to one number or rows that are added up element
//! by element; both are vector loops. Other element types use the same plan with a scalar function ([`Reduce::run_with`]).

use super::SharedMut;
use crate::detect::Simd;
use crate::pool::Pool;
use crate::simd::{Task, Vector, dispatch};

/// What is computed. A NaN among the elements makes the result NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the functions")]
pub enum Reduction {
    Sum,
    Mean,
    Max,
    Min,
    Product,
    SumSquares,
    SumMagnitudes,
}

/// A prepared reduction of a contiguous tensor.
#[derive(Clone, Debug)]
pub struct Reduce {
    simd: Simd,
    /// Kept axes but an innermost one, outermost first: extent and stride in the input.
    kept: Vec<(usize, usize)>,
    /// Reduced axes but an innermost one.
    reduced: Vec<(usize, usize)>,
    /// Extent of the innermost axis.
    inner: usize,
    /// Whether the innermost axis is reduced.
    inner_reduced: bool,
    len: usize,
    out_len: usize,
}

/// Columns of one task when rows are added up.
const COLUMNS: usize = 1024;

impl Reduce {
    /// Prepares the reduction of a row-major tensor of `shape` over `axes`.
    ///
    /// # Panics
    /// When an axis is not one of the tensor's.
    pub fn new(simd: Simd, shape: &[usize], axes: &[usize]) -> Self {
        assert!(axes.iter().all(|&a| a < shape.len()), "axes {axes:?} of rank {}", shape.len());
        // Merged axes, innermost first: (extent, stride, reduced).
        let mut merged: Vec<(usize, usize, bool)> = Vec::new();
        let mut stride = 1;
        for axis in (0..shape.len()).rev() {
            let reduced = axes.contains(&axis);
            if shape[axis] != 1 {
                match merged.last_mut() {
                    Some(last) if last.2 == reduced => last.0 *= shape[axis],
                    _ => merged.push((shape[axis], stride, reduced)),
                }
            }
            stride *= shape[axis];
        }
        let (inner, inner_reduced) = merged.first().map_or((1, true), |a| (a.0, a.2));
        let rest = |kind: bool| -> Vec<(usize, usize)> {
            merged.iter().skip(1).filter(|a| a.2 == kind).map(|a| (a.0, a.1)).rev().collect()
        };
        let out_len = (0..shape.len()).filter(|a| !axes.contains(a)).map(|a| shape[a]).product();
        let len = shape.iter().product();
        Self {
            simd: simd.at_most(),
            kept: rest(false),
            reduced: rest(true),
            inner,
            inner_reduced,
            len,
            out_len,
        }
    }

    /// Elements of the result.
    pub fn out_len(&self) -> usize {
        self.out_len
    }

    /// Elements that fall on one result.
    pub fn count(&self) -> usize {
        self.len.checked_div(self.out_len).unwrap_or(0)
    }

    fn rows(&self) -> usize {
        self.kept.iter().map(|a| a.0).product()
    }

    /// Offset in the input of position `index` of `axes` (row-major).
    #[inline]
    fn offset(axes: &[(usize, usize)], mut index: usize) -> usize {
        let mut offset = 0;
        for &(n, stride) in axes.iter().rev() {
            offset += index % n * stride;
            index /= n;
        }
        offset
    }

    /// Reduces `input` into `out`. Nothing to reduce gives the neutral element (for `Mean`, NaN).
    ///
    /// # Panics
    /// When a slice is shorter than the shape says.
    pub fn run(&self, reduction: Reduction, input: &[f32], out: &mut [f32], pool: &Pool) {
        assert!(input.len() >= self.len && out.len() >= self.out_len, "slices of the reduction");
        if self.out_len == 0 {
            return;
        }
        if self.len == 0 {
            out[..self.out_len].fill(neutral(reduction));
            if reduction == Reduction::Mean {
                out[..self.out_len].fill(f32::NAN);
            }
            return;
        }
        let to = SharedMut::new(out);
        self.for_each_task(pool, |rows, columns| {
            // Tasks write disjoint results, and the lengths were checked, as the loop wants.
            dispatch(self.simd, Run { plan: self, reduction, input, out: to.get(), rows, columns });
        });
    }

    /// Calls `task(rows, columns)` for parts of the result, `columns` being all of them where the inner axis is reduced.
    fn for_each_task(
        &self,
        pool: &Pool,
        task: impl Fn(std::ops::Range<usize>, std::ops::Range<usize>) + Sync,
    ) {
        let rows = self.rows();
        let column_parts = if self.inner_reduced { 1 } else { self.inner.div_ceil(COLUMNS) };
        let work = self.len / (rows * column_parts).max(1);
        let rows_per_task = (32_768 / work.max(1)).clamp(1, rows.max(1));
        let row_parts = rows.div_ceil(rows_per_task);
        pool.parallel_for(row_parts * column_parts, |t, _| {
            let (r, c) = (t / column_parts * rows_per_task, t % column_parts * COLUMNS);
            let end = if self.inner_reduced { self.inner } else { (c + COLUMNS).min(self.inner) };
            task(r..(r + rows_per_task).min(rows), c..end);
        });
    }

    /// Reduces elements of any type: `step` folds an element into an accumulator that starts at `start`, `finish` makes the result.
    ///
    /// # Panics
    /// When a slice is shorter than the shape says.
    pub fn run_with<T, A, R>(
        &self,
        input: &[T],
        out: &mut [R],
        start: A,
        step: impl Fn(A, T) -> A + Sync,
        finish: impl Fn(A) -> R + Sync,
        pool: &Pool,
    ) where
        T: Copy + Sync,
        A: Copy + Sync,
        R: Send,
    {
        assert!(input.len() >= self.len && out.len() >= self.out_len, "slices of the reduction");
        let to = SharedMut::new(out);
        if self.len == 0 {
            for i in 0..self.out_len {
                // SAFETY: within the slice.
                unsafe { to.get().add(i).write(finish(start)) };
            }
            return;
        }
        let depth: usize = self.reduced.iter().map(|a| a.0).product();
        self.for_each_task(pool, |rows, columns| {
            for row in rows {
                let base = Self::offset(&self.kept, row);
                if self.inner_reduced {
                    let mut sum = start;
                    for d in 0..depth {
                        let at = base + Self::offset(&self.reduced, d);
                        for &x in &input[at..at + self.inner] {
                            sum = step(sum, x);
                        }
                    }
                    // SAFETY: one task a row, within the slice.
                    unsafe { to.get().add(row).write(finish(sum)) };
                } else {
                    for c in columns.clone() {
                        let mut sum = start;
                        for d in 0..depth {
                            sum = step(sum, input[base + Self::offset(&self.reduced, d) + c]);
                        }
                        // SAFETY: one task for this row and column, within the slice.
                        unsafe { to.get().add(row * self.inner + c).write(finish(sum)) };
                    }
                }
            }
        });
    }
}

/// The result of reducing nothing.
fn neutral(reduction: Reduction) -> f32 {
    match reduction {
        Reduction::Sum | Reduction::Mean | Reduction::SumSquares | Reduction::SumMagnitudes => 0.0,
        Reduction::Max => f32::NEG_INFINITY,
        Reduction::Min => f32::INFINITY,
        Reduction::Product => 1.0,
    }
}

struct Run<'a> {
    plan: &'a Reduce,
    reduction: Reduction,
    input: &'a [f32],
    out: *mut f32,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

impl Task for Run<'_> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let mean = 1.0 / self.plan.count() as f32;
        match self.reduction {
            Reduction::Sum => all::<V, Sum>(&self, 1.0),
            Reduction::Mean => all::<V, Sum>(&self, mean),
            Reduction::Max => all::<V, Max>(&self, 1.0),
            Reduction::Min => all::<V, Min>(&self, 1.0),
            Reduction::Product => all::<V, Product>(&self, 1.0),
            Reduction::SumSquares => all::<V, SumSquares>(&self, 1.0),
            Reduction::SumMagnitudes => all::<V, SumMagnitudes>(&self, 1.0),
        }
    }
}

/// How elements are folded, and how accumulators are.
trait Fold {
    const KIND: Reduction;
    fn step<V: Vector>(sum: V, x: V) -> V;
    fn combine<V: Vector>(a: V, b: V) -> V;
}

macro_rules! fold {
    ($name:ident, $kind:ident, ($sum:ident, $x:ident) => $step:expr, ($a:ident, $b:ident) => $combine:expr) => {
        struct $name;
        impl Fold for $name {
            const KIND: Reduction = Reduction::$kind;
            #[inline(always)]
            fn step<V: Vector>($sum: V, $x: V) -> V {
                $step
            }
            #[inline(always)]
            fn combine<V: Vector>($a: V, $b: V) -> V {
                $combine
            }
        }
    };
}

fold!(Sum, Sum, (s, x) => s.add(x), (a, b) => a.add(b));
fold!(SumSquares, SumSquares, (s, x) => x.fma(x, s), (a, b) => a.add(b));
fold!(SumMagnitudes, SumMagnitudes, (s, x) => s.add(x.abs()), (a, b) => a.add(b));
fold!(Product, Product, (s, x) => s.mul(x), (a, b) => a.mul(b));
// `x.max(s)` is `s` when either is NaN, so a NaN in `x` is put back; both then spread.
fold!(Max, Max, (s, x) => V::select(x.eq(x), x.max(s), x), (a, b) => V::select(a.eq(a), a.max(b), a));
fold!(Min, Min, (s, x) => V::select(x.eq(x), x.min(s), x), (a, b) => V::select(a.eq(a), a.min(b), a));

#[inline(always)]
fn all<V: Vector, F: Fold>(run: &Run<'_>, scale: f32) {
    let plan = run.plan;
    let depth: usize = plan.reduced.iter().map(|a| a.0).product();
    let (input, start) = (run.input.as_ptr(), V::splat(neutral(F::KIND)));
    for row in run.rows.clone() {
        let base = Reduce::offset(&plan.kept, row);
        if plan.inner_reduced {
            let mut sums = [start; 4];
            for d in 0..depth {
                // SAFETY: a row of the input.
                unsafe {
                    fold_row::<V, F>(
                        input.add(base + Reduce::offset(&plan.reduced, d)),
                        plan.inner,
                        &mut sums,
                    );
                };
            }
            let sum = F::combine(F::combine(sums[0], sums[1]), F::combine(sums[2], sums[3]));
            let mut lanes = [0.0f32; 16];
            // SAFETY: 16 lanes at most; the result is this task's.
            unsafe {
                sum.store(lanes.as_mut_ptr());
                let mut total = Vector1(neutral(F::KIND));
                for &x in &lanes[..V::LANES] {
                    total = total.fold::<F>(x);
                }
                *run.out.add(row) = total.0 * scale;
            }
        } else {
            let mut c = run.columns.start;
            while c < run.columns.end {
                let n = V::LANES.min(run.columns.end - c);
                let mut sum = start;
                for d in 0..depth {
                    // SAFETY: `n` elements of a row of the input.
                    let x = unsafe {
                        V::load_first(input.add(base + Reduce::offset(&plan.reduced, d) + c), n)
                    };
                    sum = F::step(sum, x);
                }
                // SAFETY: these results are this task's.
                unsafe {
                    sum.mul(V::splat(scale)).store_first(run.out.add(row * plan.inner + c), n);
                };
                c += V::LANES;
            }
        }
    }
}

/// Folds `n` consecutive elements.
///
/// # Safety
/// `p` is readable for `n` elements.
#[inline(always)]
unsafe fn fold_row<V: Vector, F: Fold>(p: *const f32, n: usize, sums: &mut [V; 4]) {
    let mut i = 0;
    // SAFETY: the caller's contract: `n` elements are readable.
    unsafe {
        while i + 4 * V::LANES <= n {
            for j in 0..4 {
                sums[j] = F::step(sums[j], V::load(p.add(i + j * V::LANES)));
            }
            i += 4 * V::LANES;
        }
        while i + V::LANES <= n {
            sums[0] = F::step(sums[0], V::load(p.add(i)));
            i += V::LANES;
        }
        if i < n {
            // The missing lanes must be neutral for `step`, not zero.
            let mut lanes = [if F::KIND == Reduction::Product { 1.0 } else { 0.0 }; 16];
            if matches!(F::KIND, Reduction::Max | Reduction::Min) {
                lanes = [*p.add(i); 16];
            }
            for j in 0..n - i {
                lanes[j] = *p.add(i + j);
            }
            sums[1] = F::step(sums[1], V::load(lanes.as_ptr()));
        }
    }
}

/// One number, folded like the lanes of an accumulator.
#[derive(Clone, Copy)]
struct Vector1(f32);

impl Vector1 {
    #[inline(always)]
    fn fold<F: Fold>(self, x: f32) -> Self {
        Self(match F::KIND {
            Reduction::Max | Reduction::Min if x.is_nan() || self.0.is_nan() => f32::NAN,
            Reduction::Max => self.0.max(x),
            Reduction::Min => self.0.min(x),
            Reduction::Product => self.0 * x,
            Reduction::Sum | Reduction::Mean | Reduction::SumSquares | Reduction::SumMagnitudes => {
                self.0 + x
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{Random, assert_close};

    fn reference(reduction: Reduction, shape: &[usize], axes: &[usize], x: &[f32]) -> Vec<f32> {
        let kept: Vec<usize> = (0..shape.len()).filter(|a| !axes.contains(a)).collect();
        let out_len: usize = kept.iter().map(|&a| shape[a]).product();
        let mut out = vec![f64::from(neutral(reduction)); out_len];
        for (i, &x) in x.iter().enumerate() {
            let (mut rest, mut index) = (i, vec![0; shape.len()]);
            for a in (0..shape.len()).rev() {
                index[a] = rest % shape[a];
                rest /= shape[a];
            }
            let at = kept.iter().fold(0, |at, &a| at * shape[a] + index[a]);
            let x = f64::from(x);
            out[at] = match reduction {
                Reduction::Sum | Reduction::Mean => out[at] + x,
                Reduction::Max => out[at].max(x),
                Reduction::Min => out[at].min(x),
                Reduction::Product => out[at] * x,
                Reduction::SumSquares => out[at] + x * x,
                Reduction::SumMagnitudes => out[at] + x.abs(),
            };
        }
        let count = x.len() as f64 / out_len as f64;
        let mean = reduction == Reduction::Mean;
        out.iter().map(|&x| if mean { x / count } else { x } as f32).collect()
    }

    const ALL: [Reduction; 7] = [
        Reduction::Sum,
        Reduction::Mean,
        Reduction::Max,
        Reduction::Min,
        Reduction::Product,
        Reduction::SumSquares,
        Reduction::SumMagnitudes,
    ];

    #[test]
    fn any_axes_match_the_reference() {
        let mut random = Random::new(21);
        let pool = Pool::new(2);
        for simd in Simd::available() {
            for _ in 0..crate::kernel::testing::rounds(60) {
                let rank = random.below(5);
                let shape: Vec<usize> =
                    (0..rank).map(|_| 1 + random.below(if rank < 3 { 130 } else { 9 })).collect();
                let axes: Vec<usize> = (0..rank).filter(|_| random.below(2) == 0).collect();
                let x: Vec<f32> =
                    random.floats(shape.iter().product()).iter().map(|x| 1.0 + 0.1 * x).collect();
                let plan = Reduce::new(simd, &shape, &axes);
                for reduction in ALL {
                    let want = reference(reduction, &shape, &axes, &x);
                    let mut got = vec![f32::NAN; plan.out_len()];
                    plan.run(reduction, &x, &mut got, &pool);
                    assert_close(
                        &got,
                        &want,
                        2e-5,
                        &format!("{simd:?} {reduction:?} {shape:?} over {axes:?}"),
                    );
                }
                let mut got = vec![0.0; plan.out_len()];
                plan.run_with(&x, &mut got, 0.0f64, |s, x| s + f64::from(x), |s| s as f32, &pool);
                assert_close(&got, &reference(Reduction::Sum, &shape, &axes, &x), 1e-6, "typed");
            }
        }
    }

    #[test]
    fn nan_and_nothing() {
        let pool = Pool::new(1);
        for simd in Simd::available() {
            let mut x = vec![-1.0; 100];
            for at in [0, 63, 99] {
                x[at] = f32::NAN;
                for reduction in ALL {
                    let mut out = [0.0];
                    Reduce::new(simd, &[100], &[0]).run(reduction, &x, &mut out, &pool);
                    assert!(out[0].is_nan(), "{simd:?} {reduction:?} at {at}");
                }
                x[at] = -1.0;
            }
            let mut out = [0.0; 2];
            Reduce::new(simd, &[2, 0], &[1]).run(Reduction::Max, &[], &mut out, &pool);
            assert_eq!(out, [f32::NEG_INFINITY; 2]);
        }
    }
}
