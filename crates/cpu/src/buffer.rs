//! Memory for what runs write and for packed weights: aligned to a cache line, asked for politely, never aborting; in
//! large pages where it is large, which the processor's address tables then cover.
#![allow(
    unsafe_code,
    reason = "aligned allocation through `std::alloc`; every block states its contract"
)]

use memmap2::{Mmap, MmapMut};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;

/// Alignment of every buffer and of everything placed in one: a cache line, and the widest vector.
pub(crate) const ALIGNMENT: usize = 64;

/// Zeroed bytes, aligned to [`ALIGNMENT`].
#[derive(Debug)]
pub(crate) struct Buffer {
    start: NonNull<u8>,
    len: usize,
    source: Source,
}

/// Where a buffer's memory is from.
#[derive(Debug)]
enum Source {
    /// Nowhere: it has none.
    Nothing,
    Heap(Layout),
    /// Pages of the system, held until the buffer goes.
    Pages {
        _held: MmapMut,
    },
    /// Part of a file, which is only read.
    File {
        _held: Arc<Mmap>,
    },
}

/// Bytes from which a buffer gets pages of its own, large ones where the system has them.
const OWN_PAGES: usize = 1 << 20;

// SAFETY: plain memory that is owned alone.
unsafe impl Send for Buffer {}
// SAFETY: shared only to be read.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `None` when the system does not give that much.
    pub(crate) fn new(len: usize) -> Option<Buffer> {
        if len == 0 {
            // An address that is aligned and never read.
            let start = NonNull::<Line>::dangling().cast();
            return Some(Buffer { start, len, source: Source::Nothing });
        }
        if len >= OWN_PAGES {
            let mut pages = MmapMut::map_anon(len).ok()?;
            // A wish: a system without large pages gives small ones.
            #[cfg(all(target_os = "linux", not(miri)))]
            let _ = pages.advise(memmap2::Advice::HugePage);
            let start = NonNull::new(pages.as_mut_ptr())?;
            return Some(Buffer { start, len, source: Source::Pages { _held: pages } });
        }
        let layout = Layout::from_size_align(len, ALIGNMENT).ok()?;
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Buffer { start, len, source: Source::Heap(layout) })
    }

    /// `len` bytes of a mapped file, to be read only; `None` where they are not in it or do not begin at a multiple of
    /// [`ALIGNMENT`].
    pub(crate) fn of_file(map: Arc<Mmap>, offset: usize, len: usize) -> Option<Buffer> {
        let part = map.get(offset..offset.checked_add(len)?)?;
        let start = NonNull::from(part).cast::<u8>();
        let aligned = (start.as_ptr() as usize).is_multiple_of(ALIGNMENT);
        aligned.then_some(Buffer { start, len, source: Source::File { _held: map } })
    }

    pub(crate) fn raw(&self) -> Raw {
        Raw { start: self.start.as_ptr(), len: self.len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[repr(align(64))]
struct Line;

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Source::Heap(layout) = self.source {
            // SAFETY: allocated in `new` with this layout.
            unsafe { dealloc(self.start.as_ptr(), layout) };
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` initialized bytes (zeroed at birth) that nobody writes while this is borrowed: a run's
        // writes end before its results are handed out.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

/// A pointer and a length: one of the memories that a run's steps address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw {
    pub(crate) start: *mut u8,
    pub(crate) len: usize,
}

// SAFETY: an address; who reads or writes through it says why that is sound.
unsafe impl Send for Raw {}
// SAFETY: as above.
unsafe impl Sync for Raw {}

impl Raw {
    pub(crate) const EMPTY: Raw = Raw { start: std::ptr::dangling_mut::<Line>().cast(), len: 0 };

    /// Memory that is only ever read.
    pub(crate) fn of(bytes: &[u8]) -> Raw {
        Raw { start: bytes.as_ptr().cast_mut(), len: bytes.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zeroed() {
        for len in [0, 1, 63, 64, 1000, OWN_PAGES + 5] {
            let buffer = Buffer::new(len).expect("little memory");
            assert_eq!(buffer.raw().start as usize % ALIGNMENT, 0);
            assert_eq!(buffer.as_ref(), vec![0u8; len]);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "asked for that much, Miri stops")]
    fn absurd_sizes_are_refused() {
        assert!(Buffer::new(usize::MAX).is_none());
        assert!(Buffer::new(isize::MAX as usize - 64).is_none());
    }
}
