//! Random cases of one operator each: odd sizes, strides, paddings and layouts, where the tails of kernels are.
//!
//! What a fuzzer draws from, and what a target's tests take a few of. A case follows from the operator's name and a seed,
//! so both are all that is needed to see it again.

mod convolution;
mod draft;
mod image;
mod lines;
mod movement;
mod product;
mod quantized;
mod recurrent;

use anychip_ir::IrError;

use crate::{Case, Random};
use draft::Draft;

/// Draws an operator; an error is a combination of settings that does not exist, and another is drawn.
type Draw = fn(&mut Draft) -> Result<(), IrError>;

/// Every operator there are random cases of.
pub const OPERATORS: &[&str] = &{
    let mut names = [""; ROWS.len()];
    let mut i = 0;
    while i < ROWS.len() {
        names[i] = ROWS[i].0;
        i += 1;
    }
    names
};

const ROWS: &[(&str, Draw)] = &[
    ("convolution", convolution::one),
    ("image-network", convolution::network),
    ("conv-transpose", convolution::transposed),
    ("pool", image::pool),
    ("resize", image::resize),
    ("matmul", product::matmul),
    ("dot-general", product::dot_general),
    ("integer-product", product::integers),
    ("quantized-network", quantized::network),
    ("quantized-product", quantized::product),
    ("attention", product::attention),
    ("softmax", lines::softmax),
    ("norm", lines::norm),
    ("reduce", lines::reduce),
    ("running", lines::running),
    ("elementwise", lines::elementwise),
    ("recurrent", recurrent::layer),
    ("movement", movement::movement),
    ("indexing", movement::indexing),
];

/// Draws this many times before it gives up: few combinations of settings do not exist.
const DRAWS: usize = 1000;

/// The random case of `operator` that `seed` stands for; `None` when there is no such operator.
pub fn random_case(operator: &str, seed: u64) -> Option<Case> {
    let (name, draw) = ROWS.iter().find(|(name, _)| *name == operator)?;
    let mut random = Random::new(seed);
    for _ in 0..DRAWS {
        let mut draft = Draft::new(random.clone());
        let drawn = draw(&mut draft);
        random = draft.random.clone();
        if drawn.is_ok() && draft.is_modest() {
            return Some(draft.finish(name, seed));
        }
    }
    panic!("{DRAWS} draws of {operator} with seed {seed} gave no graph")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_stands_for_a_case() {
        for operator in OPERATORS {
            for seed in 0..20 {
                let [a, b] = [(), ()].map(|()| random_case(operator, seed).expect("it is listed"));
                assert_eq!(a.name, b.name);
                assert_eq!(
                    anychip_ir::text::print(&a.graph),
                    anychip_ir::text::print(&b.graph),
                    "{operator}, seed {seed}"
                );
                anychip_ir::verify(&a.graph).unwrap_or_else(|e| panic!("{}: {e:?}", a.name));
                assert!(!a.inputs.is_empty() && !a.graph.outputs().is_empty());
            }
        }
        assert!(random_case("no such operator", 1).is_none());
    }
}
