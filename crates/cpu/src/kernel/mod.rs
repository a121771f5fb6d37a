//! The kernels: one operator family a file, on plain slices, strides and small parameter structs.
//!
//! Nothing here knows the IR. A kernel is prepared once from concrete shapes (blocking, packed weights), says how much scratch it
//! needs, and runs without allocating. Beside each fast loop stands the plain one it is tested against.
#![allow(clippy::needless_range_loop, reason = "loops over registers are unrolled by their index")]
#![allow(
    clippy::too_many_arguments,
    reason = "operands, result, scratch and pool are what a kernel takes"
)]
#![allow(
    clippy::struct_field_names,
    reason = "a loop over `rows` of a task named `Rows` is what it says"
)]
#![allow(
    unsafe_code,
    reason = "vector loads and stores through raw pointers; every block states its contract"
)]
#![allow(
    clippy::inline_always,
    reason = "vector loops must take on the instruction set of their entrance, see `simd`"
)]

pub mod activation;
pub mod attention;
pub mod block_weights;
pub mod blocked;
pub mod broadcast;
pub mod codes;
pub mod conv;
pub mod copy;
pub mod elementwise;
pub mod gemm;
pub mod integer;
pub mod map;
pub mod norm;
pub mod pooling;
pub mod recurrent;
pub mod reduce;
pub mod resize;
pub mod softmax;
pub mod split;
#[cfg(test)]
pub(crate) mod testing;

/// A slice of `f32` split into one aligned part a thread.
///
/// Kernels hand a pointer into it to each thread of a loop; distinct threads get distinct parts.
#[derive(Clone, Copy)]
pub(crate) struct Scratch {
    base: *mut f32,
    per_thread: usize,
    threads: usize,
}

// SAFETY: a pointer and two lengths; `part` hands out disjoint ranges by thread.
unsafe impl Sync for Scratch {}
// SAFETY: as above.
unsafe impl Send for Scratch {}

impl Scratch {
    /// Elements to ask the caller for, so that each of `threads` gets `per_thread`, aligned to a cache line.
    pub(crate) fn len(per_thread: usize, threads: usize) -> usize {
        if per_thread == 0 { 0 } else { Self::rounded(per_thread) * threads + 16 }
    }

    fn rounded(per_thread: usize) -> usize {
        per_thread.next_multiple_of(32)
    }

    /// Splits `scratch`, which must be as long as [`Scratch::len`] says.
    pub(crate) fn split(scratch: &mut [f32], per_thread: usize, threads: usize) -> Self {
        assert!(
            scratch.len() >= Self::len(per_thread, threads),
            "scratch too short: {} elements",
            scratch.len()
        );
        let offset = scratch.as_ptr().align_offset(64).min(16);
        let base =
            if per_thread == 0 { scratch.as_mut_ptr() } else { scratch[offset..].as_mut_ptr() };
        Self { base, per_thread: Self::rounded(per_thread), threads }
    }

    /// The part of `thread`, `per_thread` elements.
    pub(crate) fn part(self, thread: usize) -> *mut f32 {
        assert!(thread < self.threads);
        // SAFETY: within the slice given to `split`.
        unsafe { self.base.add(thread * self.per_thread) }
    }
}

/// A mutable pointer that threads share because each writes its own elements.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<T>(*mut T);

// SAFETY: the kernels write disjoint elements from different threads; each use says why.
unsafe impl<T> Sync for SharedMut<T> {}
// SAFETY: as above.
unsafe impl<T> Send for SharedMut<T> {}

impl<T> SharedMut<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr())
    }
    pub(crate) fn of(start: *mut T) -> Self {
        Self(start)
    }
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

/// Splits `n` into about `parts` equal ranges whose lengths are multiples of `unit` but for the last; gives the length.
pub(crate) fn split_evenly(n: usize, parts: usize, unit: usize) -> usize {
    n.div_ceil(unit).div_ceil(parts.max(1)).max(1) * unit
}
