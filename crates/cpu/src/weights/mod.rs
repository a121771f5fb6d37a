//! Weights as kernels want them: packed once, shared by all plans of a program, and kept in a file when asked.

mod store;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anychip_tensor::Tensor;

use store::StoreKey;
pub(crate) use store::{Store, StoreError};

use crate::buffer::Buffer;
use crate::kernel::SharedMut;
use crate::pool::Pool;

/// Packed weights: one run of numbers, aligned to a cache line, so that panels do not straddle lines.
#[derive(Debug)]
pub(crate) struct Aligned {
    buffer: Buffer,
}

impl Aligned {
    /// # Panics
    /// When the system does not give that much memory.
    pub(crate) fn zeros(len: usize) -> Self {
        let buffer = len.checked_mul(4).and_then(Buffer::new);
        Self { buffer: buffer.unwrap_or_else(|| panic!("no memory for {len} packed weights")) }
    }
    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.buffer.raw().start.cast()
    }
    /// Of a fresh run of numbers: what a file holds is not written.
    fn as_mut_ptr(&mut self) -> *mut f32 {
        self.buffer.raw().start.cast()
    }
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() / 4
    }
    pub(crate) fn as_slice(&self) -> &[f32] {
        bytemuck::cast_slice(self.buffer.as_ref())
    }
}

/// The numbers of packed weights of a type that is known again.
fn numbers_of<T: Packed>(packed: &(dyn Any + Send + Sync)) -> Option<&Aligned> {
    packed.downcast_ref::<T>().map(T::numbers)
}

/// Where a constructor of packed weights gets its numbers from, and the threads that pack them where they are to be made.
#[derive(Debug, Default)]
pub(crate) struct Slot<'p> {
    kept: Option<Aligned>,
    pool: Option<&'p Pool>,
}

impl Slot<'_> {
    /// `len` numbers: those that were kept, else zeros whose parts, `part` numbers each and the last what is left, `fill` packs
    /// the weights into, on all threads.
    pub(crate) fn filled(
        self,
        len: usize,
        part: usize,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Aligned {
        self.written(len, len.div_ceil(part.max(1)), |i, numbers| {
            let start = i * part;
            // SAFETY: within the `len` numbers, and part `i` is no other's.
            #[allow(unsafe_code, reason = "parts that do not overlap, for several threads")]
            let numbers = unsafe {
                std::slice::from_raw_parts_mut(numbers.get().add(start), part.min(len - start))
            };
            fill(i, numbers);
        })
    }

    /// The same where the parts do not lie side by side: each of `parts` calls of `write` is given all numbers and writes those
    /// that no other one does.
    pub(crate) fn written(
        self,
        len: usize,
        parts: usize,
        write: impl Fn(usize, SharedMut<f32>) + Sync,
    ) -> Aligned {
        match self.kept {
            Some(kept) if kept.len() == len => kept,
            _ => {
                let mut fresh = Aligned::zeros(len);
                let numbers = SharedMut::of(fresh.as_mut_ptr());
                match self.pool {
                    Some(pool) => pool.parallel_for(parts, |i, _| write(i, numbers)),
                    None => (0..parts).for_each(|i| write(i, numbers)),
                }
                fresh
            }
        }
    }
}

/// Packed weights that one run of numbers and the settings they were packed with make up.
pub(crate) trait Packed: Send + Sync + 'static {
    /// The numbers.
    fn numbers(&self) -> &Aligned;
}

/// Weights as kernels want them, made once and shared by all plans of a program.
#[derive(Default)]
pub(crate) struct Weights {
    all: Mutex<BTreeMap<Key, Entry>>,
    store: Option<Store>,
}

/// Which constant (its address and length), packed how.
type Key = (usize, usize, &'static str, Vec<usize>);

type NumbersOf = fn(&(dyn Any + Send + Sync)) -> Option<&Aligned>;

struct Entry {
    /// Keeps the address in the key from being given to another constant.
    _source: Tensor,
    packed: Arc<dyn Any + Send + Sync>,
    /// The numbers and their name in the file, where they can be kept.
    kept: Option<(StoreKey, NumbersOf)>,
}

impl Weights {
    /// Those that a file has, and the others, which [`Weights::keep`] adds to it.
    pub(crate) fn kept_in(store: Option<Store>) -> Weights {
        Weights { all: Mutex::default(), store }
    }

    /// What `pack` makes of a constant, made now or found in memory. `kind` and `settings` tell packings apart.
    pub(crate) fn packed<T: Send + Sync + 'static>(
        &self,
        source: &Tensor,
        kind: &'static str,
        settings: &[usize],
        pack: impl FnOnce() -> T,
    ) -> Arc<T> {
        self.entry(source, kind, settings, || (pack(), None))
    }

    /// The same, made now on the threads of `pool`, found in memory or in the file; `pack` takes its numbers from the slot.
    pub(crate) fn kept<T: Packed>(
        &self,
        pool: &Pool,
        source: &Tensor,
        kind: &'static str,
        settings: &[usize],
        pack: impl FnOnce(Slot<'_>) -> T,
    ) -> Arc<T> {
        let make = || {
            let named = self.store.as_ref().map(|store| (store, store.key(source, kind, settings)));
            let kept = named.as_ref().and_then(|(store, key)| store.find(key));
            let packed =
                pack(Slot { kept: kept.map(|buffer| Aligned { buffer }), pool: Some(pool) });
            (packed, named.map(|(_, key)| (key, numbers_of::<T> as NumbersOf)))
        };
        self.entry(source, kind, settings, make)
    }

    fn entry<T: Send + Sync + 'static>(
        &self,
        source: &Tensor,
        kind: &'static str,
        settings: &[usize],
        make: impl FnOnce() -> (T, Option<(StoreKey, NumbersOf)>),
    ) -> Arc<T> {
        let key = (source.bytes().as_ptr() as usize, source.bytes().len(), kind, settings.to_vec());
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(&key)
            && let Ok(found) = Arc::clone(&found.packed).downcast::<T>()
        {
            return found;
        }
        let (packed, kept) = make();
        let packed = Arc::new(packed);
        // The file's own copy has been read for the last time, most likely.
        anychip_tensor::release_mapped(source.bytes());
        let any = Arc::clone(&packed) as Arc<dyn Any + Send + Sync>;
        all.insert(key, Entry { _source: source.clone(), packed: any, kept });
        packed
    }

    /// Lets go of packings that no kernel holds: those of kernels that were only tried.
    pub(crate) fn drop_unused(&self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, entry| Arc::strong_count(&entry.packed) > 1);
    }

    /// Writes what the file lacks into it.
    pub(crate) fn keep(&self) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = all.values().filter_map(|entry| {
            let (key, numbers) = entry.kept?;
            Some((key, numbers(&*entry.packed)?.buffer.as_ref()))
        });
        store.write(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Doubled(Aligned);
    impl Packed for Doubled {
        fn numbers(&self) -> &Aligned {
            &self.0
        }
    }

    /// Doubles the elements in parts of two; counts the parts that were made.
    fn doubled(weights: &Weights, source: &Tensor, packed: &AtomicUsize) -> Vec<f32> {
        let elements = source.elements::<f32>().unwrap();
        let pool = Pool::new(2);
        let made = weights.kept(&pool, source, "doubled", &[elements.len()], |slot| {
            Doubled(slot.filled(elements.len(), 2, |part, numbers| {
                packed.fetch_add(1, Ordering::Relaxed);
                for (to, x) in numbers.iter_mut().zip(&elements[part * 2..]) {
                    *to = 2.0 * x;
                }
            }))
        });
        made.0.as_slice().to_vec()
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn a_second_start_finds_what_the_first_packed() {
        let folder = std::env::temp_dir().join(format!("anychip-kept-{}", std::process::id()));
        let source = Tensor::from_vec(vec![3], vec![1.0f32, 2.0, 3.0]).unwrap();
        let other = Tensor::from_vec(vec![3], vec![1.0f32, 2.0, 4.0]).unwrap();
        let packed = AtomicUsize::new(0);
        for start in 0..3 {
            let graph = anychip_ir::Builder::new("no nodes").finish(&[]);
            let weights = Weights::kept_in(Some(Store::open(&folder, "test", &graph).unwrap()));
            assert_eq!(doubled(&weights, &source, &packed), [2.0, 4.0, 6.0]);
            assert_eq!(doubled(&weights, &source, &packed), [2.0, 4.0, 6.0]);
            if start > 0 {
                assert_eq!(doubled(&weights, &other, &packed), [2.0, 4.0, 8.0]);
            }
            weights.keep().unwrap();
            // The first start packs one, in two parts, the second the other one, the third none.
            assert_eq!(packed.load(Ordering::Relaxed), [2, 4, 4][start]);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
