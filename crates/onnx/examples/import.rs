//! Reads models and says what they hold, or all that is wrong with them: `import MODEL…`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anychip_onnx::{ImportOptions, load};

#[expect(clippy::print_stdout, reason = "a command's output")]
fn main() {
    for path in std::env::args().skip(1) {
        let start = Instant::now();
        match load(Path::new(&path), &ImportOptions::default()) {
            Ok(model) => {
                let graph = &model.graph;
                println!(
                    "{path}: opset {}, {}, {} nodes, {:.0} ms",
                    model.opset,
                    model.producer,
                    graph.nodes().len(),
                    start.elapsed().as_secs_f64() * 1e3
                );
                let value =
                    |v| format!("{} {}", graph.value_name(v).unwrap_or_default(), graph.ty(v));
                let inputs: Vec<String> = graph.inputs().iter().map(|&v| value(v)).collect();
                let outputs: Vec<String> = graph
                    .output_names()
                    .iter()
                    .zip(graph.outputs())
                    .map(|(name, &v)| format!("{name} {}", graph.ty(v)))
                    .collect();
                println!("  in  {}\n  out {}", inputs.join(", "), outputs.join(", "));
                let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
                for node in graph.nodes() {
                    *counts.entry(node.op.name()).or_default() += 1;
                }
                let counts: Vec<String> =
                    counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
                println!("  {}", counts.join(", "));
                for warning in &model.warnings {
                    println!("  warning: {warning}");
                }
            }
            Err(problems) => {
                println!(
                    "{path}: {problems}\n  binding these would help: {:?}",
                    problems.needs_values()
                );
            }
        }
    }
}
