//! A run that needs more memory than the machine has is refused before anything is allocated, and says what asked for it.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use anychip_cpu::CpuTarget;
use anychip_ir::{Builder, Prim, TensorType};
use anychip_target::{CompileOptions, RunError, Target, legalize};
use anychip_tensor::{DType, Dim, Tensor};

/// `e^x`, `n` times, of an input `n`: the memory that it takes is known at the run.
fn counted() -> anychip_ir::Graph {
    let mut b = Builder::new("counted");
    let n = b.input("n", TensorType::new(DType::I64, [Dim::Fixed(1)]));
    let x = b.input("x", TensorType::new(DType::F32, [Dim::Fixed(1)]));
    b.set_scope("the long one");
    let long = b.prim(Prim::Broadcast, &[x, n]).unwrap();
    let y = b.exp(long).unwrap();
    b.finish(&[y])
}

#[test]
fn a_result_larger_than_the_machine_is_an_error() {
    let target = CpuTarget::new();
    let legal = legalize(&target, &counted()).unwrap();
    let catalog = anychip_chips::Catalog::builtin().unwrap();
    let chip = catalog.chips().next().unwrap();
    let program = target.compile(&legal, chip, &CompileOptions::default()).unwrap();
    let mut session = program.open(&target.places()[0]).unwrap();
    let x = Tensor::from_vec([1], vec![0f32]).unwrap();
    let mut run = |n: i64| {
        let n = Tensor::from_i64s(&[n]);
        session.run(&[n.view(), x.view()])
    };
    // 2^48 floats: 1 PiB.
    match run(1 << 48) {
        Err(RunError::Memory { node, needed, limit }) => {
            assert!(needed >= 1 << 50, "{needed}");
            assert!(limit > 0 && limit < needed, "{limit} of {needed}");
            assert!(!node.is_empty());
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a petabyte was computed"),
    }
    // The session is as good as before.
    assert_eq!(run(3).unwrap().outputs[0].to_f64(), [1.0; 3]);
}
