//! Whether a chip that is here gives the results of the target `cpu`: `same_on CHIP MODEL…`.
//!
//! Each model runs on made-up inputs on both. The largest difference, as a share of the largest result, is printed; a model that
//! differs by more than [`MOST`] ends it with an error, as does one that fails on either.

mod each_model;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anychip::{
    CompileOptions, Engine, Error, Model, Tensor, choose_sizes, local_chip, made_up, optimize,
    with_sizes,
};
use each_model::each_model;

/// Of the largest result: what a deep network of single-precision layers that add up in another order comes to.
const MOST: f64 = 1e-4;

/// The largest difference of two results as a share of the largest of the first; infinite where their types differ.
fn difference(wanted: &[Tensor], found: &[Tensor]) -> f64 {
    if wanted.len() != found.len() {
        return f64::INFINITY;
    }
    let one = |(a, b): (&Tensor, &Tensor)| {
        if a.dtype() != b.dtype() || a.shape() != b.shape() {
            return f64::INFINITY;
        }
        let (a, b) = (a.to_f64(), b.to_f64());
        let largest = a.iter().fold(f64::MIN_POSITIVE, |most, x| most.max(x.abs()));
        let differences = a.iter().zip(&b).map(|(x, y)| {
            let both_nan = x.is_nan() && y.is_nan();
            if x == y || both_nan { 0.0 } else { (x - y).abs() }
        });
        // A NaN on one side alone must not vanish in a comparison.
        differences.fold(0.0f64, |most, d| if d.is_nan() { f64::INFINITY } else { most.max(d) })
            / largest
    };
    wanted.iter().zip(found).map(one).fold(0.0, f64::max)
}

#[expect(clippy::print_stdout, reason = "an example says what it finds")]
fn compare(chip: &str, path: &str) -> Result<bool, Error> {
    let model = Model::load(Path::new(path))?;
    let sizes = choose_sizes(model.graph(), &BTreeMap::default(), model.usual_sizes(), 1)?;
    let (graph, _) = optimize(&with_sizes(model.graph(), &sizes)?)?;
    let inputs = made_up(&graph)?;
    let mut results = Vec::new();
    let mut seconds = Vec::new();
    for name in ["cpu", chip] {
        let mut engine = Engine::new(&graph, &local_chip(name)?, &CompileOptions::default())?;
        let start = Instant::now();
        engine.run(&inputs)?;
        seconds.push(start.elapsed().as_secs_f64());
        results.push(engine.run(&inputs)?.0);
    }
    let found = difference(&results[0], &results[1]);
    let verdict = if found <= MOST { "same" } else { "DIFFERENT" };
    println!("{verdict:<9} {found:9.2e}  {path}  (first run {:.1} s)", seconds[1]);
    Ok(found <= MOST)
}

fn main() -> ExitCode {
    each_model("same_on", compare)
}
