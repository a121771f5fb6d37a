//! Running a plan allocates nothing but its results: the number of allocations does not depend on how much is computed.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(unsafe_code, reason = "a global allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use anychip_cpu::CpuTarget;
use anychip_ir::{Builder, Graph, TensorType};
use anychip_ops::{LayerNorm, Softmax};
use anychip_target::{CompileOptions, Target, legalize};
use anychip_tensor::{DType, Dim, Tensor};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's; only a counter is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Blocks of a product, a norm, a transpose and back, a residual and an activation.
fn network(blocks: usize) -> Graph {
    let mut b = Builder::new("deep");
    let mut x = b.input("x", TensorType::new(DType::F32, [Dim::sym("n"), Dim::Fixed(24)]));
    let weights =
        Tensor::from_vec([24, 24], (0..576).map(|i| (i % 7) as f32 / 24.0 - 0.1).collect())
            .unwrap();
    let ones = Tensor::from_vec([24], vec![1f32; 24]).unwrap();
    for _ in 0..blocks {
        let w = b.constant(weights.clone());
        let scale = b.constant(ones.clone());
        let y = b.matmul(x, w, DType::F32).unwrap();
        let y = b.composite(LayerNorm { axis: 1, epsilon: 1e-5 }, &[y, scale]).unwrap();
        let y = b.transpose(y, &[1, 0]).unwrap();
        let y = b.composite(Softmax { axis: 0 }, &[y]).unwrap();
        let y = b.transpose(y, &[1, 0]).unwrap();
        let y = b.exp(y).unwrap();
        x = b.add(x, y).unwrap();
    }
    b.finish(&[x])
}

fn allocations_of_a_run(blocks: usize) -> usize {
    let target = CpuTarget::new();
    let legal = legalize(&target, &network(blocks)).unwrap();
    let catalog = anychip_chips::Catalog::builtin().unwrap();
    let chip = catalog.chips().next().unwrap();
    let options = CompileOptions { threads: Some(2), ..CompileOptions::default() };
    let program = target.compile(&legal, chip, &options).unwrap();
    let mut session = program.open(&target.places()[0]).unwrap();
    let input = Tensor::from_vec([5, 24], (0..120).map(|i| i as f32 / 60.0).collect()).unwrap();
    // The first run plans, the second may still grow what is kept.
    session.run(&[input.view()]).unwrap();
    session.run(&[input.view()]).unwrap();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    session.run(&[input.view()]).unwrap();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn a_deep_network_allocates_as_little_as_a_shallow_one() {
    let (shallow, deep) = (allocations_of_a_run(1), allocations_of_a_run(20));
    assert_eq!(shallow, deep);
    assert!(deep <= 10, "{deep} allocations for one result");
}
