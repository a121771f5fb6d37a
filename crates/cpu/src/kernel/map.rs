//! Elementwise loops over any element type: the caller gives the scalar function, the compiler vectorizes it.
//!
//! Each loop is compiled once per instruction set through [`crate::simd::dispatch`], so integer, `f64` and half-precision
//! operators get wide registers without a line of their own. `f32` chains have their own kernel, [`super::elementwise`].

use super::SharedMut;
use super::broadcast::{Broadcast, Run};
use crate::detect::Simd;
use crate::pool::Pool;
use crate::simd::{Task, Vector, dispatch};

/// `out[i] = f(a[i])`, the operand read through `walk`.
///
/// # Panics
/// When a slice is shorter than the walk says.
pub fn map1<A, R, F>(simd: Simd, walk: &Broadcast, a: &[A], out: &mut [R], f: F, pool: &Pool)
where
    A: Copy + Sync,
    R: Send,
    F: Fn(A) -> R + Sync,
{
    assert!(a.len() >= walk.operand_len(0) && out.len() >= walk.len());
    let (to, simd) = (SharedMut::new(out), simd.at_most());
    pool.parallel_for(walk.tasks(), |task, _| {
        // Tasks are disjoint and the lengths were checked, as the loop wants.
        dispatch(simd, Map1 { walk, task, a, out: to.get(), f: &f });
    });
}

/// `out[i] = f(a[i], b[i])`, the operands read through `walk`.
///
/// # Panics
/// When a slice is shorter than the walk says.
pub fn map2<A, B, R, F>(
    simd: Simd,
    walk: &Broadcast,
    a: &[A],
    b: &[B],
    out: &mut [R],
    f: F,
    pool: &Pool,
) where
    A: Copy + Sync,
    B: Copy + Sync,
    R: Send,
    F: Fn(A, B) -> R + Sync,
{
    assert!(
        a.len() >= walk.operand_len(0) && b.len() >= walk.operand_len(1) && out.len() >= walk.len()
    );
    let (to, simd) = (SharedMut::new(out), simd.at_most());
    pool.parallel_for(walk.tasks(), |task, _| {
        // As above.
        dispatch(simd, Map2 { walk, task, a, b, out: to.get(), f: &f });
    });
}

/// `out[i] = f(a[i], b[i], c[i])`, the operands read through `walk`.
///
/// # Panics
/// When a slice is shorter than the walk says.
pub fn map3<A, B, C, R, F>(
    simd: Simd,
    walk: &Broadcast,
    (a, b, c): (&[A], &[B], &[C]),
    out: &mut [R],
    f: F,
    pool: &Pool,
) where
    A: Copy + Sync,
    B: Copy + Sync,
    C: Copy + Sync,
    R: Send,
    F: Fn(A, B, C) -> R + Sync,
{
    assert!(
        a.len() >= walk.operand_len(0)
            && b.len() >= walk.operand_len(1)
            && c.len() >= walk.operand_len(2)
    );
    assert!(out.len() >= walk.len());
    let (to, simd) = (SharedMut::new(out), simd.at_most());
    pool.parallel_for(walk.tasks(), |task, _| {
        // As above.
        dispatch(simd, Map3 { walk, task, a, b, c, out: to.get(), f: &f });
    });
}

/// `data[i] = f(data[i])`.
pub fn map_in_place<T, F>(simd: Simd, data: &mut [T], f: F, pool: &Pool)
where
    T: Copy + Send + Sync,
    F: Fn(T) -> T + Sync,
{
    const CHUNK: usize = 32 << 10;
    let (len, simd) = (data.len(), simd.at_most());
    let to = SharedMut::new(data);
    pool.parallel_for(len.div_ceil(CHUNK), |task, _| {
        let start = task * CHUNK;
        // SAFETY: chunks are disjoint and within the slice.
        let chunk =
            unsafe { std::slice::from_raw_parts_mut(to.get().add(start), CHUNK.min(len - start)) };
        dispatch(simd, InPlace { chunk, f: &f });
    });
}

struct InPlace<'a, T, F> {
    chunk: &'a mut [T],
    f: &'a F,
}

impl<T: Copy, F: Fn(T) -> T> Task for InPlace<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        for x in self.chunk {
            *x = (self.f)(*x);
        }
    }
}

struct Map1<'a, A, R, F> {
    walk: &'a Broadcast,
    task: usize,
    a: &'a [A],
    out: *mut R,
    f: &'a F,
}

impl<A: Copy, R, F: Fn(A) -> R> Task for Map1<'_, A, R, F> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (a, stride, f) = (self.a.as_ptr(), self.walk.inner_stride(0), self.f);
        for Run { at, from, len: n } in self.walk.runs(self.task) {
            // SAFETY: the walk stays within the lengths `map1` checked.
            unsafe {
                let (a, out) = (a.add(from[0]), self.out.add(at));
                if stride == 1 {
                    for i in 0..n {
                        out.add(i).write(f(*a.add(i)));
                    }
                } else {
                    for i in 0..n {
                        out.add(i).write(f(*a.add(i * stride)));
                    }
                }
            }
        }
    }
}

struct Map2<'a, A, B, R, F> {
    walk: &'a Broadcast,
    task: usize,
    a: &'a [A],
    b: &'a [B],
    out: *mut R,
    f: &'a F,
}

impl<A: Copy, B: Copy, R, F: Fn(A, B) -> R> Task for Map2<'_, A, B, R, F> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (a, b, f) = (self.a.as_ptr(), self.b.as_ptr(), self.f);
        let strides = (self.walk.inner_stride(0), self.walk.inner_stride(1));
        for Run { at, from, len: n } in self.walk.runs(self.task) {
            // SAFETY: the walk stays within the lengths `map2` checked.
            unsafe {
                let (a, b, out) = (a.add(from[0]), b.add(from[1]), self.out.add(at));
                match strides {
                    (1, 1) => {
                        for i in 0..n {
                            out.add(i).write(f(*a.add(i), *b.add(i)));
                        }
                    }
                    (1, 0) => {
                        let b = *b;
                        {
                            for i in 0..n {
                                out.add(i).write(f(*a.add(i), b));
                            }
                        }
                    }
                    (0, 1) => {
                        let a = *a;
                        {
                            for i in 0..n {
                                out.add(i).write(f(a, *b.add(i)));
                            }
                        }
                    }
                    (s, t) => {
                        for i in 0..n {
                            out.add(i).write(f(*a.add(i * s), *b.add(i * t)));
                        }
                    }
                }
            }
        }
    }
}

struct Map3<'a, A, B, C, R, F> {
    walk: &'a Broadcast,
    task: usize,
    a: &'a [A],
    b: &'a [B],
    c: &'a [C],
    out: *mut R,
    f: &'a F,
}

impl<A: Copy, B: Copy, C: Copy, R, F: Fn(A, B, C) -> R> Task for Map3<'_, A, B, C, R, F> {
    type Output = ();
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (a, b, c, f) = (self.a.as_ptr(), self.b.as_ptr(), self.c.as_ptr(), self.f);
        let (s, t, u) =
            (self.walk.inner_stride(0), self.walk.inner_stride(1), self.walk.inner_stride(2));
        for Run { at, from, len: n } in self.walk.runs(self.task) {
            // SAFETY: the walk stays within the lengths `map3` checked.
            unsafe {
                let (a, b, c, out) =
                    (a.add(from[0]), b.add(from[1]), c.add(from[2]), self.out.add(at));
                if (s, t, u) == (1, 1, 1) {
                    {
                        for i in 0..n {
                            out.add(i).write(f(*a.add(i), *b.add(i), *c.add(i)));
                        }
                    }
                } else {
                    {
                        for i in 0..n {
                            out.add(i).write(f(*a.add(i * s), *b.add(i * t), *c.add(i * u)));
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::broadcast::broadcast_strides;
    use super::*;

    #[test]
    fn typed_maps_broadcast() {
        let pool = Pool::new(2);
        let shape = [3, 5, 70];
        let len = 3 * 5 * 70;
        for simd in Simd::available() {
            let a: Vec<i64> = (0..len as i64).collect();
            for other in [vec![3, 5, 70], vec![70], vec![5, 1], vec![]] {
                let count: usize = other.iter().product();
                let b: Vec<i32> = (0..count as i32).map(|x| x * 7 - 3).collect();
                let strides = [
                    broadcast_strides(&shape, &shape).expect("same"),
                    broadcast_strides(&other, &shape).expect("broadcasts"),
                ];
                let walk = Broadcast::new(&shape, &[&strides[0], &strides[1]]);
                let mut out = vec![0i64; len];
                map2(simd, &walk, &a, &b, &mut out, |a, b| a * i64::from(b), &pool);
                for i in 0..len {
                    let j = i / 350 * strides[1][0]
                        + i / 70 % 5 * strides[1][1]
                        + i % 70 * strides[1][2];
                    assert_eq!(out[i], a[i] * i64::from(b[j]));
                }
            }
            let walk = Broadcast::contiguous(len, 3);
            let mut out = vec![0i64; len];
            let flags: Vec<bool> = (0..len).map(|i| i % 3 == 0).collect();
            map3(simd, &walk, (&flags, &a, &a), &mut out, |f, a, b| if f { a } else { -b }, &pool);
            assert!(
                out.iter()
                    .enumerate()
                    .all(|(i, &x)| x == if i % 3 == 0 { i as i64 } else { -(i as i64) })
            );
            let mut bytes = vec![0u8; len];
            map1(simd, &Broadcast::contiguous(len, 1), &a, &mut bytes, |x| x as u8, &pool);
            map_in_place(simd, &mut bytes, |x| x.wrapping_add(1), &pool);
            assert!(bytes.iter().enumerate().all(|(i, &x)| x == (i as u8).wrapping_add(1)));
        }
    }
}
