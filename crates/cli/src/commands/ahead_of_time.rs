//! The hidden half of `anychip build`: calls a vendor's compiler and writes what it made and estimates.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::args::AheadOfTime;

/// What the compiler says, as JSON.
pub(crate) const SUMMARY: &str = "tpu-compiler.json";

/// The compiler's program.
const PROGRAM: &str = "tpu-program.bin";

/// The program after the compiler's own passes.
const OPTIMIZED: &str = "tpu-optimized.hlo.pb";

/// What its figures are called wherever they are printed.
const BASIS: &str = "estimated, by the vendor's compiler";

pub(crate) fn execute(args: &AheadOfTime) -> Result<()> {
    let text = std::fs::read_to_string(&args.program)
        .with_context(|| format!("cannot read {}", args.program.display()))?;
    let made = anychip::ahead_of_time(&args.plugin, &args.topology, &text)?;
    let write = |name: &str, bytes: &[u8]| -> Result<()> {
        let path = args.output.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    write(PROGRAM, &made.program)?;
    if let Some((bytes, _)) = &made.optimized {
        write(OPTIMIZED, bytes)?;
    }
    let memory = made.memory.map(|m| {
        json!({
            "code_bytes": m.code, "argument_bytes": m.arguments, "output_bytes": m.outputs,
            "temporary_bytes": m.temporaries, "peak_bytes": (m.peak > 0).then_some(m.peak),
        })
    });
    let instructions: Vec<Value> = made
        .instructions
        .iter()
        .map(|i| {
            let products: Vec<Value> = i
                .products
                .iter()
                .map(|p| {
                    json!({
                        "groups": p.groups, "rows": p.rows, "columns": p.columns, "depth": p.depth, "bits": p.bits,
                    })
                })
                .collect();
            json!({
                "name": i.name, "opcode": i.opcode, "node": i.node, "cycles": i.cycles, "products": products,
                "read_bytes": i.read_bytes, "written_bytes": i.written_bytes,
            })
        })
        .collect();
    let cycles: u64 = made.instructions.iter().map(|i| i.cycles).sum();
    let summary = json!({
        "basis": BASIS,
        "topology": args.topology,
        "program": PROGRAM,
        "optimized": made.optimized.as_ref().map(|_| OPTIMIZED),
        "memory": memory,
        // Copies that run beside the arithmetic are not in it.
        "cycles": (!made.instructions.is_empty()).then_some(cycles),
        "instructions": instructions,
    });
    write(SUMMARY, format!("{summary:#}\n").as_bytes())
}

/// A summary for people.
pub(crate) fn describe(summary: &Value) -> String {
    let topology = summary["topology"].as_str().unwrap_or_default();
    let mut text = format!("the TPU's own compiler for {topology} ({BASIS}):\n");
    let memory = &summary["memory"];
    for (key, name) in [
        ("code_bytes", "code"),
        ("argument_bytes", "inputs and weights"),
        ("output_bytes", "results"),
        ("temporary_bytes", "temporaries"),
        ("peak_bytes", "peak"),
    ] {
        if let Some(bytes) = memory[key].as_i64() {
            text += &format!("  {name:<20} {:>12.3} MB\n", bytes as f64 / 1e6);
        }
    }
    if let Some(cycles) = summary["cycles"].as_u64() {
        let count = summary["instructions"].as_array().map_or(0, Vec::len);
        text += &format!(
            "  {:<20} {cycles:>12} in {count} instructions, copies beside the arithmetic left out\n",
            "cycles"
        );
    }
    text + &format!("  written to {PROGRAM}, {OPTIMIZED} and {SUMMARY}\n")
}
