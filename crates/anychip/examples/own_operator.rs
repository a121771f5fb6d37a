//! A new operator from outside: declared, written as its maths, run on the reference and on the CPU.
//!
//! `cargo run --example own_operator -p anychip`

#![expect(clippy::print_stdout, reason = "an example shows its result")]

use anychip_cpu::CpuTarget;
use anychip_ir::{Builder, Expand, IrError, TensorType, ValueId, composite, evaluate, operands};
use anychip_target::{CompileOptions, Target, legalize};
use anychip_tensor::{DType, Dim, Tensor};

composite! {
    /// `x · tanh(softplus(beta · x))`, Mish with a steepness (arXiv:1908.08681).
    pub struct SteepMish = "steep-mish" {
        /// Steepness.
        pub beta: f32,
    }
    example: SteepMish { beta: 1.5 }
}

impl Expand for SteepMish {
    fn expand(&self, b: &mut Builder, x: &[ValueId]) -> Result<Vec<ValueId>, IrError> {
        let [x] = operands("steep-mish", x)?;
        let scaled = b.scale(x, f64::from(self.beta))?;
        let power = b.exp(scaled)?;
        let sum = b.offset(power, 1.0)?;
        let softplus = b.log(sum)?;
        let gate = b.tanh(softplus)?;
        Ok(vec![b.mul(x, gate)?])
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Its type follows from the expansion, named sizes included.
    let mut b = Builder::new("own operator");
    let x = b.input("x", TensorType::new(DType::F32, [Dim::sym("n"), Dim::Fixed(5)]));
    let y = b.composite(SteepMish { beta: 2.0 }, &[x])?;
    let graph = b.finish(&[y]);

    // So does its reference result …
    let input = Tensor::from_vec([2, 5], (0..10).map(|i| i as f32 - 4.5).collect())?;
    let expected = evaluate(&graph, std::slice::from_ref(&input))?;

    // … and every target runs it: one that has no kernel of its own for it expands it.
    let target = CpuTarget::new();
    let legal = legalize(&target, &graph).map_err(|refusals| format!("{refusals:?}"))?;
    let program =
        target.compile(&legal, &anychip::local_chip("cpu")?, &CompileOptions::default())?;
    let mut session = program.open(&target.places()[0])?;
    let found = session.run(&[input.view()])?.outputs;
    for line in program.explain() {
        println!("{line}");
    }
    println!("reference {:?}\ncpu       {:?}", expected[0], found[0]);
    anychip_conformance::compare(&found[0], &expected[0], 1.0)
        .map_err(|mismatch| mismatch.to_string().into())
}

#[test]
fn the_operator_runs_everywhere() {
    main().expect("the example runs");
}
