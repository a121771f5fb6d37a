//! `anychip explain`: what every pass changed, and where every node went.

use anychip::{CompileOptions, Engine};
use anyhow::Result;

use crate::args::Explain;
use crate::commands::print;

pub(crate) fn execute(args: &Explain) -> Result<()> {
    let prepared = crate::commands::prepare(&args.model)?;
    let fixed = anychip::with_sizes(
        prepared.model.graph(),
        &anychip::choose_sizes(
            prepared.model.graph(),
            &args.model.dims.iter().cloned().collect(),
            args.model.batch as usize,
        )?,
    )?;
    let (graph, reports) = anychip::optimize(&fixed)?;
    let chip = anychip::local_chip(&args.on)?;
    let engine = Engine::new(&graph, &chip, &CompileOptions::default())?;
    let placed = engine.explain();
    if args.json {
        let passes: Vec<serde_json::Value> = reports
            .iter()
            .map(|r| {
                serde_json::json!({
                    "pass": r.name, "equation": r.equation, "changed": r.changed,
                    "nodes_before": r.nodes_before, "nodes_after": r.nodes_after,
                })
            })
            .collect();
        let value = serde_json::json!({"passes": passes, "target": engine.target(), "nodes": placed});
        return print(&format!("{value}\n"));
    }
    let mut text = format!("passes on {}\n", prepared.model.name());
    for report in &reports {
        if report.changed == 0 {
            text += &format!("  {:<32} unchanged\n", report.name);
        } else {
            text += &format!(
                "  {:<32} {:>4} changed   {} -> {} nodes\n",
                report.name, report.changed, report.nodes_before, report.nodes_after
            );
        }
        if args.equations {
            text += &format!("      {}\n", report.equation);
        }
    }
    text += &format!("\nnodes on `{}` by the target `{}`\n", args.on, engine.target());
    for line in placed {
        text += &format!("  {line}\n");
    }
    print(&text)
}
