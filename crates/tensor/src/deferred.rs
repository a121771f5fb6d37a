//! Storage of tensors that need not exist yet: what a model's shape costs can be told without its weights.
//!
//! A constant that is made when it is first read behaves like any other to whoever reads it, and costs nothing to
//! whoever only counts it. The alternatives were weighed: weights as inputs of the graph would make every pass, kernel and file
//! writer tell parameters from inputs; a kind of constant of its own would need a row wherever constants are matched. Here a pass
//! works as it did, and one that must not read asks [`crate::Tensor::is_deferred`].

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// The bytes of a tensor, or how to make them.
#[derive(Clone)]
pub(crate) enum Storage {
    Ready(Bytes),
    Deferred(Arc<Deferred>),
}

/// Bytes that are made when they are first read, once for all who share them.
pub(crate) struct Deferred {
    length: usize,
    make: Box<dyn Fn() -> Bytes + Send + Sync>,
    made: OnceLock<Bytes>,
}

impl Storage {
    pub(crate) fn deferred(
        length: usize,
        make: impl Fn() -> Bytes + Send + Sync + 'static,
    ) -> Storage {
        Storage::Deferred(Arc::new(Deferred {
            length,
            make: Box::new(make),
            made: OnceLock::new(),
        }))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Storage::Ready(bytes) => bytes.len(),
            Storage::Deferred(deferred) => deferred.length,
        }
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        match self {
            Storage::Ready(bytes) => bytes,
            Storage::Deferred(deferred) => deferred.made.get_or_init(|| {
                let bytes = (deferred.make)();
                assert_eq!(bytes.len(), deferred.length, "deferred bytes are as many as promised");
                bytes
            }),
        }
    }

    pub(crate) fn is_deferred(&self) -> bool {
        match self {
            Storage::Ready(_) => false,
            Storage::Deferred(deferred) => deferred.made.get().is_none(),
        }
    }

    pub(crate) fn id(&self) -> usize {
        match self {
            Storage::Ready(bytes) => bytes.as_ptr() as usize,
            Storage::Deferred(deferred) => Arc::as_ptr(deferred) as usize,
        }
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = if self.is_deferred() { "deferred" } else { "ready" };
        write!(f, "{} bytes, {made}", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;

    use crate::{DType, Tensor, TensorError};

    #[test]
    fn bytes_are_made_once_and_only_when_read() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let tensor = Tensor::deferred(DType::U8, [2, 3], move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Bytes::from_static(&[1, 2, 3, 4, 5, 6])
        })
        .unwrap();
        let flat = tensor.reshaped([6]).unwrap();
        let signed = flat.bit_cast(DType::I8).unwrap();
        assert_eq!((signed.len(), signed.byte_len(), signed.is_deferred()), (6, 6, true));
        assert_eq!(signed.storage_id(), tensor.storage_id());
        assert_eq!(tensor, tensor.clone());
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        assert_eq!(flat.to_integers(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(signed.to_integers(), [1, 2, 3, 4, 5, 6]);
        assert!(!tensor.is_deferred());
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_wrong_reshape_and_an_absurd_shape_are_refused_unread() {
        let tensor =
            Tensor::deferred(DType::F32, [1 << 40], || unreachable!("nobody reads it")).unwrap();
        assert_eq!(tensor.byte_len(), 1 << 42);
        assert!(matches!(tensor.reshaped([3]), Err(TensorError::Length { .. })));
        let absurd = Tensor::deferred(DType::F32, [1 << 62, 8], Bytes::new);
        assert!(matches!(absurd, Err(TensorError::TooLarge(_))));
    }

    #[test]
    fn deferred_and_ready_tensors_are_equal_by_contents() {
        let make = || Tensor::deferred(DType::U8, [2], || Bytes::from_static(&[7, 8])).unwrap();
        assert_eq!(make(), make());
        assert_eq!(make(), Tensor::from_vec([2], vec![7u8, 8]).unwrap());
        assert_ne!(make(), Tensor::from_vec([2], vec![7u8, 9]).unwrap());
    }
}
