//! One step of a plan, and what its kernel sees when it runs.
#![allow(
    unsafe_code,
    reason = "operands and results are addresses in planned memory; every block states its contract"
)]

use anychip_ir::IrError;
use anychip_target::RunError;
use anychip_tensor::{Element, Tensor, TensorView};

use crate::buffer::Raw;
use crate::detect::Simd;
use crate::pool::Pool;

/// Which memory, and where in it: decided when the plan is made, resolved when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// Position in the run's table of memories.
    pub(crate) memory: usize,
    /// Bytes from its start.
    pub(crate) offset: usize,
    /// Bytes.
    pub(crate) len: usize,
}

/// Computes results from operands whose shapes were known when it was prepared. Allocates nothing.
pub(crate) trait Kernel: Send + Sync {
    /// Runs once.
    fn run(&self, io: &Io<'_>) -> Result<(), IrError>;
}

/// A step whose results only a run can size: it returns tensors of its own.
pub(crate) trait Barrier: Send + Sync {
    /// Runs once.
    fn run(&self, operands: &[TensorView<'_>]) -> Result<Vec<Tensor>, RunError>;
}

/// What a kernel may touch: its operands, its results, its scratch memory and the threads.
///
/// The plan guarantees that a result overlaps no operand unless the kernel asked to work in place, that
/// results and scratch do not overlap each other, and that every memory outlives the step. Kernels keep
/// their part of the bargain: each result, and the scratch memory, is asked for once a run.
pub(crate) struct Io<'a> {
    pub(crate) operands: &'a [Location],
    pub(crate) results: &'a [Location],
    pub(crate) scratch: Location,
    pub(crate) memories: &'a [Raw],
    pub(crate) pool: &'a Pool,
    pub(crate) simd: Simd,
}

impl<'a> Io<'a> {
    fn raw(&self, location: Location) -> Raw {
        let memory = self.memories[location.memory];
        assert!(
            location.offset + location.len <= memory.len,
            "a plan addresses what its memories hold"
        );
        Raw { start: memory.start.wrapping_add(location.offset), len: location.len }
    }

    /// The bytes of operand `i`.
    pub(crate) fn bytes(&self, i: usize) -> &'a [u8] {
        let raw = self.raw(self.operands[i]);
        // SAFETY: within a live memory (checked in `raw`), written before this step, not overlapped by a
        // result unless the kernel asked for that and then uses `operand_raw`.
        unsafe { std::slice::from_raw_parts(raw.start, raw.len) }
    }

    /// The elements of operand `i`.
    pub(crate) fn operand<T: Element>(&self, i: usize) -> &'a [T] {
        bytemuck::cast_slice(self.bytes(i))
    }

    /// Where operand `i` is, for kernels that work in place.
    pub(crate) fn operand_raw(&self, i: usize) -> Raw {
        self.raw(self.operands[i])
    }

    /// Where result `i` is, for kernels that work in place.
    pub(crate) fn result_raw(&self, i: usize) -> Raw {
        self.raw(self.results[i])
    }

    /// The bytes of result `i`.
    #[allow(
        clippy::mut_from_ref,
        reason = "the memory is the plan's, not this struct's; see the type's contract"
    )]
    pub(crate) fn result_bytes(&self, i: usize) -> &'a mut [u8] {
        let raw = self.raw(self.results[i]);
        // SAFETY: within a live memory (checked in `raw`); overlaps nothing else that is borrowed during this
        // step, by the contract of the plan and of the kernels above.
        unsafe { std::slice::from_raw_parts_mut(raw.start, raw.len) }
    }

    /// The elements of result `i`.
    #[allow(clippy::mut_from_ref, reason = "as `result_bytes`")]
    pub(crate) fn result<T: Element>(&self, i: usize) -> &'a mut [T] {
        bytemuck::cast_slice_mut(self.result_bytes(i))
    }

    /// The scratch memory the kernel asked for; its contents are left over from other steps.
    #[allow(clippy::mut_from_ref, reason = "as `result_bytes`")]
    pub(crate) fn scratch<T: Element>(&self) -> &'a mut [T] {
        let raw = self.raw(self.scratch);
        // SAFETY: as `result_bytes`.
        bytemuck::cast_slice_mut(unsafe { std::slice::from_raw_parts_mut(raw.start, raw.len) })
    }
}
